package suite

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Fault is what happens to some replicas or gateways at the same time.
type Fault struct {
	At       Duration `json:"at"`       // after the beginning
	Kind     string   `json:"kind"`     // die, restart, hang, remove or add; die-gateway or restart-gateway
	Replicas []int    `json:"replicas"` // from 0; add: the numbers after those there are
	Gateways []int    `json:"gateways"` // from 0; in place of replicas
	For      Duration `json:"for"`      // hang
}

var faultKinds = map[string]simulation.FaultKind{
	"die": simulation.Die, "restart": simulation.Restart, "hang": simulation.Hang, "remove": simulation.Remove, "add": simulation.Add,
	"die-gateway": simulation.DieGateway, "restart-gateway": simulation.RestartGateway,
}

// check reports the first thing that is wrong with f, after which there are more replicas
// if it adds some.
func (f *Fault) check(replicas *int, gateways int) error {
	kind, ok := faultKinds[f.Kind]
	if !ok {
		return fmt.Errorf("kind is %q, want die, restart, hang, remove, add, die-gateway or restart-gateway", f.Kind)
	}
	if ofGateways := kind >= simulation.DieGateway; ofGateways != (f.Gateways != nil) || ofGateways && f.Replicas != nil {
		return fmt.Errorf("gateways is %v and replicas %v for the kind %s, want gateways for die-gateway and restart-gateway alone", f.Gateways, f.Replicas, f.Kind)
	}
	for _, i := range f.Gateways {
		if i < 0 || i >= gateways {
			return fmt.Errorf("gateways has %d, want 0 to %d", i, gateways-1)
		}
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

// faultsKey spells faults out, for the keys of records: those of replicas as before there were others.
func faultsKey(all []Fault) string {
	var b strings.Builder
	for i, f := range all {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "{At:%d Kind:%s Replicas:%v", f.At, f.Kind, f.Replicas)
		if f.Gateways != nil {
			fmt.Fprintf(&b, " Gateways:%v", f.Gateways)
		}
		fmt.Fprintf(&b, " For:%d}", f.For)
	}
	return "[" + b.String() + "]"
}

// faults are those of the scenario, each replica's and each gateway's by itself.
func (c *Scenario) faults() []simulation.Fault {
	var all []simulation.Fault
	for _, f := range c.Faults {
		for _, i := range slices.Concat(f.Replicas, f.Gateways) {
			one := simulation.Fault{At: time.Duration(f.At), Kind: faultKinds[f.Kind], Index: i, For: time.Duration(f.For)}
			if one.Kind == simulation.Add {
				one.Replica = c.Fleet.replica(i)
			}
			all = append(all, one)
		}
	}
	return all
}
