package scrape

import (
	"hash/maphash"
	"math"
	"slices"
	"strconv"

	"github.com/inferpick/inferpick/internal/promtext"
	"github.com/inferpick/inferpick/types"
)

// reader reads pages. It keeps the memory that reading takes, and nothing of a
// page: one reader serves any number of endpoints, one after the other.
type reader struct {
	scan promtext.Scanner
	seed maphash.Seed

	ranks    []int           // what is told apart, in order; nil: nothing, all of a page is one set
	engines  int             // those that are looked for
	engine   int             // the one among them that was found
	figures  []figure        // set x engine x signal; after the sets of ranks comes what the page says of all
	adapters []adapterFigure // set x engine
}

// figure gathers the samples of one signal of one engine.
type figure struct {
	rank   int // of the candidate that is gathered
	n      int // series, or groups of them
	sum    float64
	min    float64
	max    float64
	groups []group // with overlapping series only
	bad    uint64  // candidates with series that make no sense, by rank
}

// maxGroups bounds the groups of a figure, which are looked through for each series.
const maxGroups = 1024

// group is a set of series that differ only in labels that overlap.
type group struct {
	key uint64
	max float64
}

// adapterFigure is the newest list of adapters of one engine.
type adapterFigure struct {
	known            bool
	rank             int
	at, max          float64
	running, waiting []byte // as on the page, with commas
}

func newReader() *reader { return &reader{seed: maphash.MakeSeed()} }

// read reads the figures of an engine from the page. If engine is negative, it
// takes the first engine of the table that the page has a load figure of, and
// returns which. It does so also, without being asked, if redetect is set and
// the page has nothing of the given engine.
//
// If ranks, which are in order, are not nil, what the page says is told apart by them. metrics returns
// what was read.
func (r *reader) read(t *table, page []byte, openMetrics bool, engine int, redetect bool, ranks []int) (found int, err error) {
	r.scan.OpenMetrics, r.ranks = openMetrics, ranks
	if engine >= 0 {
		if err := r.gather(t.plans[engine], page); err != nil {
			return engine, err
		}
		if r.find() {
			return engine, nil
		}
		if !redetect {
			return engine, noMetrics(page, t.engines[engine:engine+1])
		}
	}
	if err := r.gather(t.all, page); err != nil {
		return -1, err
	}
	if r.find() {
		return r.engine, nil
	}
	return -1, noMetrics(page, t.engines)
}

// find finds the first engine of which the page says how much it has to do, and reports whether there is one.
func (r *reader) find() bool {
	for r.engine = range r.engines {
		for set := range len(r.ranks) + 1 {
			if r.hasLoad(set) {
				return true
			}
		}
	}
	return false
}

// gather collects all samples of the page that the plan wants.
func (r *reader) gather(p *plan, page []byte) error {
	r.reset(len(p.overlaps))
	r.scan.Reset(p.set, page)
	for r.scan.Next() {
		rules := p.rules[r.scan.Index()]
		for i := range rules {
			rule := &rules[i]
			set := 0
			if r.ranks != nil {
				set = r.setOf(p.rankLabels[rule.engine])
			}
			switch {
			case set < 0: // another rank's
			case rule.adapter != nil:
				r.addAdapters(rule, set)
			case r.matches(rule):
				r.add(rule, set, p.overlaps[rule.engine])
			}
		}
	}
	if err := r.scan.Err(); err != nil {
		return &PageError{err}
	}
	return nil
}

// setOf returns the set of the current sample: that of its rank, -1 if that is not looked for, and the one
// after all ranks if it has none.
func (r *reader) setOf(rankLabel string) int {
	if rankLabel == "" {
		return len(r.ranks)
	}
	text, ok := r.scan.Label(rankLabel)
	if !ok {
		return len(r.ranks)
	}
	rank, err := strconv.Atoi(string(text))
	if err != nil {
		return -1
	}
	if set, ok := slices.BinarySearch(r.ranks, rank); ok {
		return set
	}
	return -1
}

func (r *reader) reset(engines int) {
	r.engines = engines
	sets := len(r.ranks) + 1
	if n := sets * engines; len(r.adapters) < n {
		r.adapters = append(r.adapters, make([]adapterFigure, n-len(r.adapters))...)
	}
	if n := sets * engines * int(numSignals); len(r.figures) < n {
		r.figures = append(r.figures, make([]figure, n-len(r.figures))...)
	}
	for i := range r.figures[:sets*engines*int(numSignals)] {
		r.figures[i] = figure{groups: r.figures[i].groups[:0]}
	}
	for i := range r.adapters[:sets*engines] {
		r.adapters[i].known = false
	}
}

// figuresOf returns the figures of a set and an engine, by signal.
func (r *reader) figuresOf(set, engine int) []figure {
	return r.figures[(set*r.engines+engine)*int(numSignals):][:numSignals]
}

// matches reports whether the sample has the labels that the rule asks for.
func (r *reader) matches(rule *rule) bool {
	for _, m := range rule.match {
		if v, ok := r.scan.Label(m.label); !ok || string(v) != m.value {
			return false
		}
	}
	return true
}

// add adds the current sample to its figure. What cannot be a figure of any of
// the signals, all of which are finite and not negative, makes that of its candidate
// unknown; a candidate that has nothing else is as good as missing.
func (r *reader) add(rule *rule, set int, overlap overlap) {
	v := r.scan.Value()
	if rule.label != "" {
		text, _ := r.scan.Label(rule.label)
		var err error
		if v, err = strconv.ParseFloat(string(text), 64); err != nil {
			v = math.NaN()
		}
	}
	v *= rule.scale
	f := &r.figuresOf(set, rule.engine)[rule.signal]
	if !(v >= 0 && v <= math.MaxFloat64) {
		f.bad |= 1 << rule.rank
		return
	}
	if f.n > 0 && rule.rank > f.rank {
		return
	}
	if f.n == 0 || rule.rank < f.rank {
		*f = figure{rank: rule.rank, min: v, groups: f.groups[:0], bad: f.bad}
	}
	f.min = min(f.min, v)
	f.max = max(f.max, v)
	if len(overlap) == 0 {
		f.n++
		f.sum += v
		return
	}
	key := r.series(overlap)
	for i := range f.groups {
		if g := &f.groups[i]; g.key == key {
			if v > g.max {
				f.sum += v - g.max
				g.max = v
			}
			return
		}
	}
	if len(f.groups) == maxGroups {
		f.bad |= 1 << f.rank
		return
	}
	f.n++
	f.sum += v
	f.groups = append(f.groups, group{key, v})
}

// series hashes the labels of the current sample, but for those that overlap.
// The order of labels does not matter.
func (r *reader) series(overlap overlap) (key uint64) {
	for l := r.scan.Labels(); l.Next(); {
		if name := l.Name(); !overlap[string(name)] {
			key += maphash.Bytes(r.seed, name) ^ (maphash.Bytes(r.seed, l.Value())*0x9e3779b97f4a7c15 + 1)
		}
	}
	return key
}

// addAdapters keeps the current sample if it is the newest list of adapters.
func (r *reader) addAdapters(rule *rule, set int) {
	text, _ := r.scan.Label(rule.adapter.Max)
	fit, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(fit >= 0 && fit <= math.MaxFloat64) {
		return
	}
	a := &r.adapters[set*r.engines+rule.engine]
	at := r.scan.Value()
	if a.known && (rule.rank > a.rank || rule.rank == a.rank && !(at >= a.at)) {
		return
	}
	a.known, a.rank, a.at, a.max = true, rule.rank, at, fit
	text, _ = r.scan.Label(rule.adapter.Running)
	a.running = append(a.running[:0], text...)
	text, _ = r.scan.Label(rule.adapter.Waiting)
	a.waiting = append(a.waiting[:0], text...)
}

// hasLoad reports whether the page says anything of the load of the engine in a set. Static
// figures alone do not make a reading.
func (r *reader) hasLoad(set int) bool {
	f := r.figuresOf(set, r.engine)
	m := types.Metrics{Waiting: f[waiting].total(), Running: f[running].total(), KVUsage: f[kvUsage].fraction()}.Sensible()
	return m.Waiting.IsKnown() || m.Running.IsKnown() || m.KVUsage.IsKnown()
}

// metrics turns what was gathered of the engine that was found into a reading: of a rank by its place, or
// if nothing is told apart of all, 0. What the page says without a rank holds for each, but for load.
func (r *reader) metrics(set int, cache *adapterCache) types.Metrics {
	f, all := r.figuresOf(set, r.engine), r.figuresOf(len(r.ranks), r.engine)
	either := func(s signal) *figure {
		if f[s].n == 0 && f[s].bad == 0 {
			return &all[s]
		}
		return &f[s]
	}
	m := types.Metrics{
		Waiting:   f[waiting].total(),
		Running:   f[running].total(),
		KVUsage:   f[kvUsage].fraction(),
		BlockSize: either(blockSize).largest(),
		NumBlocks: either(numBlocks).total(),
		Awake:     either(awake).every(),
		StartedAt: either(startedAt).largest(),
	}
	a := &r.adapters[set*r.engines+r.engine]
	if !a.known {
		a = &r.adapters[len(r.ranks)*r.engines+r.engine]
	}
	if a.known {
		m.MaxAdapters = types.Known(a.max)
		m.RunningAdapters = cache.running.get(a.running)
		m.WaitingAdapters = cache.waiting.get(a.waiting)
	}
	return m.Sensible()
}

// complete reports whether the figure is of all series that there are.
func (f *figure) complete() bool { return f.n > 0 && f.bad&(1<<f.rank) == 0 }

func (f *figure) total() types.Gauge {
	if !f.complete() || math.IsInf(f.sum, 0) {
		return types.Gauge{}
	}
	return types.Known(f.sum)
}

func (f *figure) largest() types.Gauge {
	if !f.complete() {
		return types.Gauge{}
	}
	return types.Known(f.max)
}

// every returns 1 if all series say so, and 0 if any does.
func (f *figure) every() types.Gauge {
	switch {
	case f.n > 0 && f.min == 0:
		return types.Known(0)
	case f.complete() && f.min == 1 && f.max == 1:
		return types.Known(1)
	}
	return types.Gauge{}
}

// fraction returns the mean. A little above 1 is taken for rounding and is 1;
// more is not a fraction, and what it is instead is unknown.
func (f *figure) fraction() types.Gauge {
	if !f.complete() || f.max > 1.01 {
		return types.Gauge{}
	}
	return types.Known(min(f.sum/float64(f.n), 1))
}
