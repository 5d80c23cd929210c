package policies

import (
	"errors"
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

// Sharer makes a gateway share what it knows by package sharing, with the defaults of its options.
func Sharer(g simulation.Gateway) (simulation.Sharer, error) { return SharerWith(sharing.Options{})(g) }

// SharerWith is Sharer with other options.
func SharerWith(o sharing.Options) func(simulation.Gateway) (simulation.Sharer, error) {
	return func(g simulation.Gateway) (simulation.Sharer, error) {
		o := o
		o.Name, o.Every = g.Name, g.Every
		group, err := sharing.New(o)
		if err != nil {
			return nil, err
		}
		parts := sharing.PartsOf(g.Profile)
		if g.Admission != nil {
			parts = append(parts, g.Admission)
		}
		return keeper{group}, group.Add(sharing.Scope{Name: "fleet", Endpoints: g.Endpoints, Parts: parts})
	}
}

// keeper is a sharing.Group as a simulation.Keeper.
type keeper struct{ *sharing.Group }

// Snapshot implements simulation.Keeper.
func (k keeper) Snapshot(now time.Time) []byte { return k.AppendSnapshot(nil, now) }

// Restore implements simulation.Keeper.
func (k keeper) Restore(snapshot []byte, _ time.Duration, now time.Time) error {
	done, err := k.Group.Restore(snapshot, now)
	for _, part := range done.Parts {
		err = errors.Join(err, part.Err)
	}
	return err
}
