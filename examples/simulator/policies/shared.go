package policies

import (
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/simulation"
)

// This file is gateways that tell each other what they know. It matters where there are several.

// Shared returns the product's default whose gateways share what they know, also with KV events.
func Shared() []simulation.Policy {
	return []simulation.Policy{
		{Name: "default+sharing", Profile: Default, Sharer: Sharer},
		{Name: "default+events+sharing", Profile: Default, Sink: events, Sharer: Sharer},
	}
}

// Sharer makes a gateway share what it knows by package sharing, with the defaults of its options. What it returns is
// a simulation.Keeper.
func Sharer(g simulation.Gateway) (simulation.Sharer, error) {
	group, err := sharing.New(sharing.Options{Name: g.Name, Every: g.Every})
	if err != nil {
		return nil, err
	}
	parts := sharing.PartsOf(g.Profile)
	if g.Admission != nil {
		parts = append(parts, g.Admission)
	}
	return keeper{group}, group.Add(sharing.Scope{Name: "fleet", Endpoints: g.Endpoints, Parts: parts})
}

// keeper is a Group as simulations restart it.
type keeper struct{ *sharing.Group }

// Restore implements simulation.Keeper.
func (k keeper) Restore(snapshot []byte, now time.Time) error {
	done, err := k.Group.Restore(snapshot, now)
	for _, p := range done.Parts {
		if p.Err != nil {
			return fmt.Errorf("%s of %s: %w", p.Name, p.Scope, p.Err)
		}
	}
	return err
}
