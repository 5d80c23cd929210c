package suite

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Grid is each of some workloads, on each of some fleets of one size, with each of some links between the
// replicas, at each of some loads.
type Grid struct {
	// Workloads are named in the cases.
	Workloads []GridWorkload `json:"workloads"`
	// Fleets have roles. Their Link is not to be set.
	Fleets []Fleet `json:"fleets"`
	// Links are those of Fleet.
	Links []float64 `json:"links"`
	// Loads are those of Scenario: of what a fleet without roles can do, so that all fleets of a size have the same
	// to do.
	Loads []float64 `json:"loads"`
	// Goodput is that of Scenario.
	Goodput Goodput `json:"goodput"`
}

// GridWorkload is a workload of a Grid.
type GridWorkload struct {
	Name     string          `json:"name"`
	Workload json.RawMessage `json:"workload"` // as in Scenario
	Duration Duration        `json:"duration"` // as in Scenario
}

// maxCells bounds the scenarios of a Grid.
const maxCells = 10_000

// scenarios are the cells.
func (g *Grid) scenarios() (all []Scenario, err error) {
	n := len(g.Workloads) * len(g.Fleets) * len(g.Links)
	if n == 0 || len(g.Loads) == 0 || n > maxCells {
		return nil, fmt.Errorf("grid has %d workloads, %d fleets, %d links and %d loads, want at least 1 of each and at most %d cells",
			len(g.Workloads), len(g.Fleets), len(g.Links), len(g.Loads), maxCells)
	}
	for _, w := range g.Workloads {
		for _, f := range g.Fleets {
			if f.Link != 0 || !f.roles() {
				return nil, errors.New("grid.fleets: want roles, and no link")
			}
			for _, link := range g.Links {
				f.Link = link
				all = append(all, Scenario{
					Name: fmt.Sprintf("%s, %s, %v Gb/s", w.Name, f.deployment(), link), Family: f.deployment(),
					Workload: w.Workload, Duration: w.Duration, Loads: g.Loads, Fleet: f, Goodput: g.Goodput,
					traffic: fmt.Sprintf("%s, %v Gb/s", w.Name, link),
				})
			}
		}
	}
	return all, nil
}

// deployment says in words what roles the replicas have.
func (f *Fleet) deployment() string {
	if !f.roles() {
		return "no roles"
	}
	both := f.Replicas - f.Prefill - f.Decode
	switch {
	case f.Prefill+f.Decode == 0:
		return "all both"
	case both == 0:
		return fmt.Sprintf("%d+%d", f.Prefill, f.Decode)
	}
	return fmt.Sprintf("%d+%d, %d both", f.Prefill, f.Decode, both)
}
