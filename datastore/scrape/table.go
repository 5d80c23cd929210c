package scrape

import (
	"fmt"

	"github.com/inferpick/inferpick/internal/promtext"
)

// signal numbers the figures of a page.
type signal uint8

const (
	waiting signal = iota
	running
	kvUsage
	blockSize
	numBlocks
	awake
	startedAt
	numSignals
)

// table is the engines, compiled: immutable, shared by all readers.
type table struct {
	engines []Engine
	all     *plan   // looks for every engine at once, to find out which it is
	plans   []*plan // by engine: looks for that one only
}

// plan is what to look for on a page.
type plan struct {
	set      *promtext.Set
	rules    [][]rule // by index in set
	overlaps []overlap
	// by engine, as overlaps: the label that tells ranks apart
	rankLabels []string
}

// rule is what a sample of one name means to one engine.
type rule struct {
	engine  int // index in overlaps, and of the figures
	signal  signal
	rank    int // position among the candidates
	match   []pair
	label   string
	scale   float64
	adapter *AdapterMetric // the sample lists adapters; signal is of no meaning
}

type pair struct{ label, value string }

// overlap holds an engine's OverlapLabels.
type overlap map[string]bool

func newTable(engines []Engine) (*table, error) {
	t := &table{engines: engines}
	for i := range engines {
		if err := engines[i].validate(); err != nil {
			return nil, fmt.Errorf("scrape: engine %d %q: %w", i, engines[i].Name, err)
		}
		for j := range i {
			if engines[j].is(engines[i].Name) {
				return nil, fmt.Errorf("scrape: engine %d has the name %q, as engine %d has: change that one instead of adding another", i, engines[i].Name, j)
			}
		}
		t.plans = append(t.plans, newPlan(engines[i:i+1]))
	}
	t.all = newPlan(engines)
	return t, nil
}

func newPlan(engines []Engine) *plan {
	p := &plan{}
	var names []string
	index := map[string]int{}
	add := func(name string, r rule) {
		i, ok := index[name]
		if !ok {
			i = len(names)
			index[name] = i
			names = append(names, name)
			p.rules = append(p.rules, nil)
		}
		p.rules[i] = append(p.rules[i], r)
	}
	for e := range engines {
		engine := &engines[e]
		started := engine.StartedAt
		if started == nil {
			started = named("process_start_time_seconds")
		}
		for s, candidates := range [numSignals][]Metric{
			waiting: engine.Waiting, running: engine.Running, kvUsage: engine.KVUsage,
			blockSize: engine.BlockSize, numBlocks: engine.NumBlocks, awake: engine.Awake, startedAt: started,
		} {
			for rank, m := range candidates {
				r := rule{engine: e, signal: signal(s), rank: rank, label: m.Label, scale: m.Scale}
				if r.scale == 0 {
					r.scale = 1
				}
				for label, value := range m.Match {
					r.match = append(r.match, pair{label, value})
				}
				add(m.Name, r)
			}
		}
		for i := range engine.Adapters {
			add(engine.Adapters[i].Name, rule{engine: e, rank: i, adapter: &engine.Adapters[i]})
		}
		o := overlap{}
		for _, label := range engine.OverlapLabels {
			o[label] = true
		}
		p.overlaps = append(p.overlaps, o)
		p.rankLabels = append(p.rankLabels, engine.RankLabel)
	}
	p.set = promtext.NewSet(names...)
	return p
}

// find returns the index of the engine with that name, -1 if there is none.
func (t *table) find(name string) int {
	for i := range t.engines {
		if t.engines[i].is(name) {
			return i
		}
	}
	return -1
}
