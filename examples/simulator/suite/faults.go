package suite

import (
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Fault is what happens to some replicas at the same time.
type Fault struct {
	At       Duration `json:"at"`       // after the beginning
	Kind     string   `json:"kind"`     // die, restart, hang, remove or add
	Replicas []int    `json:"replicas"` // from 0; add: the numbers after those there are
	For      Duration `json:"for"`      // hang
}

var faultKinds = map[string]simulation.FaultKind{
	"die": simulation.Die, "restart": simulation.Restart, "hang": simulation.Hang, "remove": simulation.Remove, "add": simulation.Add,
}

// check reports the first thing that is wrong with f, after which there are more replicas
// if it adds some.
func (f *Fault) check(replicas *int) error {
	if _, ok := faultKinds[f.Kind]; !ok {
		return fmt.Errorf("kind is %q, want die, restart, hang, remove or add", f.Kind)
	}
	if (f.Kind == "hang") != (f.For > 0) {
		return fmt.Errorf("for is %v for the kind %s, want it above 0 for hang alone", time.Duration(f.For), f.Kind)
	}
	for _, i := range f.Replicas {
		if f.Kind == "add" {
			if i != *replicas {
				return fmt.Errorf("replicas has %d, want %d, the next one that there is not", i, *replicas)
			}
			*replicas++
		} else if i < 0 || i >= *replicas {
			return fmt.Errorf("replicas has %d, want 0 to %d", i, *replicas-1)
		}
	}
	return nil
}

// faults are those of the scenario, each replica's by itself.
func (c *Scenario) faults() []simulation.Fault {
	var all []simulation.Fault
	for _, f := range c.Faults {
		for _, i := range f.Replicas {
			one := simulation.Fault{At: time.Duration(f.At), Kind: faultKinds[f.Kind], Index: i, For: time.Duration(f.For)}
			if one.Kind == simulation.Add {
				one.Replica = c.Fleet.replica(i)
			}
			all = append(all, one)
		}
	}
	return all
}
