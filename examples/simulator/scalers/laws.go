package scalers

import (
	"fmt"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

// Law is a way to choose the number of replicas. It has one number to turn, from which comes what it costs.
type Law struct {
	Name string
	// What it does, and where it is from, in words.
	What string
	// Target is what the number is, Shipped what it is by default, and Targets are others, from those that cost the most
	// to those that cost the least.
	Target  string
	Shipped float64
	Targets []float64

	// Tunes says that there is a behavior to tune.
	Tunes bool

	make func(target float64, tuned bool, w World) simulation.Scaler
}

// World is what whoever sets a law up knows of the pool.
type World struct {
	Min, Max int
	// ToZero allows no replicas at all; Min is 1 then or more, which those have that there are.
	ToZero bool
	// StartUp is how long a replica takes until it serves, in the mean.
	StartUp time.Duration
	// SLO is what requests are to meet.
	SLO types.SLO
	// Slots is how many requests a replica runs at once, and PrefillRate how many prompt tokens per second it computes
	// when it does nothing else.
	Slots       int
	PrefillRate float64
}

// Scaler makes one with a target. Tuned has it with the behavior that suits it best where replicas take minutes to
// start, in place of the one that it is shipped with.
func (l Law) Scaler(target float64, tuned bool, w World) func() (simulation.Scaler, error) {
	return func() (simulation.Scaler, error) { return l.make(target, tuned, w), nil }
}

// Rivals are the laws of others.
func Rivals() []Law {
	return []Law{queue(), kvUsage(), queueAndRunning(), saturation(), tokenBacklog(), sloRatio(), variants()}
}

// Laws are all of them, ours first.
func Laws() []Law { return append(Ours(), Rivals()...) }

// ByName returns the law of that name.
func ByName(name string) (Law, error) {
	all := append(Laws(), Fixed())
	var names []string
	for _, l := range all {
		if l.Name == name {
			return l, nil
		}
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return Law{}, fmt.Errorf("scalers: unknown law %q, want one of %v", name, names)
}

// Fixed is a pool of Target replicas: what scaling is compared with, and what it takes to find out how many would do.
func Fixed() Law {
	return Law{
		Name: "fixed", What: "always as many", Target: "replicas", Shipped: 4, Targets: []float64{16, 12, 8, 6, 4, 2},
		make: func(target float64, _ bool, _ World) simulation.Scaler { return fixed(target) },
	}
}

type fixed int

func (f fixed) Scale(*simulation.Observation) int { return int(f) }
