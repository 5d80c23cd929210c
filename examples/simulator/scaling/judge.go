package scaling

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Verdict is how one of ours does in a case against another law's frontier.
type Verdict struct {
	Ours, Rival string
	// Point is ours, with what it is shipped with.
	Point Point
	// Met is the part of jobs that the rival serves in time for the same hours; NaN: it has no target that costs as
	// little. Hours is what it takes to serve as many in time; infinite: it never does.
	Met, Hours float64
	// Ahead says that ours serves more in time for the same hours, or as many for fewer. Behind says the opposite; neither
	// is true within what does not matter.
	Ahead, Behind bool
}

// Margins within which two laws are even: 0.2 % of the jobs, or 1 % of the hours.
const (
	evenMet   = 0.002
	evenHours = 0.01
)

// frontier is the points of a law that no other of its points is better than in both, by hours.
func frontier(points []Point) []Point {
	sorted := slices.Clone(points)
	slices.SortFunc(sorted, func(a, b Point) int {
		return cmp.Or(cmp.Compare(a.Hours, b.Hours), cmp.Compare(b.Attainment, a.Attainment))
	})
	var best []Point
	for _, p := range sorted {
		if len(best) == 0 || p.Attainment > best[len(best)-1].Attainment {
			best = append(best, p)
		}
	}
	return best
}

// metFor is the part of jobs that a frontier serves in time for so many hours, between its points in a straight line.
func metFor(f []Point, hours float64) float64 {
	i, exact := slices.BinarySearchFunc(f, hours, func(p Point, h float64) int { return cmp.Compare(p.Hours, h) })
	switch {
	case exact:
		return f[i].Attainment
	case i == 0:
		return math.NaN()
	case i == len(f):
		return f[i-1].Attainment
	}
	a, b := f[i-1], f[i]
	return a.Attainment + (b.Attainment-a.Attainment)*(hours-a.Hours)/(b.Hours-a.Hours)
}

// hoursFor is the hours that a frontier takes to serve that part in time.
func hoursFor(f []Point, met float64) float64 {
	i, _ := slices.BinarySearchFunc(f, met, func(p Point, m float64) int { return cmp.Compare(p.Attainment, m) })
	switch i {
	case len(f):
		return math.Inf(1)
	case 0:
		return f[0].Hours
	}
	a, b := f[i-1], f[i]
	return a.Hours + (b.Hours-a.Hours)*(met-a.Attainment)/(b.Attainment-a.Attainment)
}

// judge compares a point with a frontier.
func judge(p Point, f []Point) (met, hours float64, ahead, behind bool) {
	met, hours = metFor(f, p.Hours), hoursFor(f, p.Attainment)
	saved := 1 - p.Hours/hours
	switch {
	case math.IsNaN(met): // it cannot be had as cheaply: then only hours tell, unless it is cheap because it serves less
		return met, hours, saved > evenHours && p.Attainment > f[0].Attainment-evenMet, false
	case p.Attainment-met > evenMet:
		return met, hours, true, false
	case met-p.Attainment > evenMet:
		return met, hours, false, saved < -evenHours
	}
	return met, hours, saved > evenHours, false
}

// isOurs tells whether a law is.
func isOurs(name string) bool { return strings.HasPrefix(name, "inferpick") }

// shipped is the point of a law with the target that it is shipped with; with its tuned behavior, if it has one and that
// is asked for.
func (l *LawResult) shipped(tuned bool) Point {
	i := slices.IndexFunc(l.Points, func(p Point) bool { return p.Target == l.Law.Shipped && p.Tuned == tuned })
	if i < 0 {
		return l.Points[slices.IndexFunc(l.Points, func(p Point) bool { return p.Target == l.Law.Shipped })]
	}
	return l.Points[i]
}

// AsShipped is the law with the target that it is shipped with, and the behavior that is tuned if it has one.
func (l *LawResult) AsShipped() Point { return l.shipped(true) }

// Frontier is its points of which none is better in both hours and attainment, by hours.
func (l *LawResult) Frontier() []Point { return frontier(l.Points) }

// Verdicts compares each of ours, as it is shipped, with each of the others' frontiers: those of all targets, with the
// behavior shipped and the tuned one.
func (c *CaseResult) Verdicts() []Verdict {
	var all []Verdict
	for i := range c.Laws {
		ours := &c.Laws[i]
		if !isOurs(ours.Law.Name) {
			continue
		}
		for _, rival := range c.Laws {
			if isOurs(rival.Law.Name) {
				continue
			}
			v := Verdict{Ours: ours.Law.Name, Rival: rival.Law.Name, Point: ours.AsShipped()}
			v.Met, v.Hours, v.Ahead, v.Behind = judge(v.Point, rival.Frontier())
			all = append(all, v)
		}
	}
	return all
}
