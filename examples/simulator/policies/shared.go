package policies

import (
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
func Sharer(g simulation.Gateway) (simulation.Sharer, error) {
	group, err := sharing.New(sharing.Options{Name: g.Name, Every: g.Every})
	if err != nil {
		return nil, err
	}
	parts := sharing.PartsOf(g.Profile)
	if g.Admission != nil {
		parts = append(parts, g.Admission)
	}
	return group, group.Add(sharing.Scope{Name: "fleet", Endpoints: g.Endpoints, Parts: parts})
}
