package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"

	"gonum.org/v1/plot/plotter"

	"github.com/inferpick/inferpick/examples/simulator/scaling"
)

//go:embed page_scaling.html
var pageScalingHTML string

// scalingPage is what the template shows.
type scalingPage struct {
	Style   template.CSS
	About   string
	Command string
	Seeds   []uint64
	Laws    []legendEntry
	Cases   []scalingCase
}

// scalingCase is one case with its plots.
type scalingCase struct {
	Title, What      string
	Frontier, Scaled template.HTML
}

// writeScalingPage writes the frontiers of all laws, and how many replicas they had over time.
func writeScalingPage(w io.Writer, r *scaling.Result, command string) error {
	p := scalingPage{Style: template.CSS(pageCSS), About: r.Suite.About, Command: command, Seeds: r.Seeds}
	for i := range r.Cases {
		c := &r.Cases[i]
		if i == 0 {
			for k, l := range c.Laws {
				p.Laws = append(p.Laws, legendEntry{l.Law.Name, hex(colorOf(k))})
			}
		}
		one := scalingCase{Title: fmt.Sprintf("%s, start-up %v", c.Case, c.StartUp), What: c.What}
		var err error
		if one.Frontier, err = frontierPlot(c); err != nil {
			return err
		}
		if one.Scaled, err = replicasPlot(c); err != nil {
			return err
		}
		p.Cases = append(p.Cases, one)
	}
	t, err := template.New("page").Parse(pageScalingHTML)
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// frontierPlot draws what part of the jobs each law serves in time for how many hours; what it is shipped with is a point.
func frontierPlot(c *scaling.CaseResult) (template.HTML, error) {
	p := newFigure()
	p.X.Label.Text, p.Y.Label.Text = "replica-hours", "served in time, %"
	for k := range c.Laws {
		l := &c.Laws[k]
		line := series{color: colorOf(k)}
		for _, point := range l.Frontier() {
			line.points = append(line.points, plotter.XY{X: point.Hours, Y: 100 * point.Attainment})
		}
		if err := draws(p, []series{line}, 1.6); err != nil {
			return "", err
		}
		at := l.AsShipped()
		if err := draws(p, []series{{line.color, plotter.XYs{{X: at.Hours, Y: 100 * at.Attainment}}, []bool{false}}}, 0); err != nil {
			return "", err
		}
	}
	return svg(p, "Part of the requests served in time over replica-hours, "+c.Case, figureHeight)
}

// replicasPlot draws how many replicas there were to be over time, of each law as it is shipped.
func replicasPlot(c *scaling.CaseResult) (template.HTML, error) {
	p := newFigure()
	p.X.Label.Text, p.Y.Label.Text = "minutes", "replicas"
	for k := range slices.Backward(c.Laws) { // the first on top
		l := &c.Laws[k]
		line := series{color: colorOf(k)}
		for _, s := range l.AsShipped().Timeline {
			line.points = append(line.points, plotter.XY{X: s.At / 60, Y: float64(s.Target)})
		}
		if err := draws(p, []series{line}, 1.6); err != nil {
			return "", err
		}
	}
	p.Y.Min = 0
	return svg(p, "Replicas over time, "+c.Case, figureHeight)
}
