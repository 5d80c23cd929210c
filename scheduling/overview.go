package scheduling

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Overview summarizes a list of endpoints, whatever the request is. A Screener must not change it:
// later decisions about the same list are shown the same one.
type Overview struct {
	Ready       bool        // every endpoint is types.Ready
	Awake       bool        // no reading says that the engine sleeps, however old it is
	ModelsKnown bool        // the models of at least one endpoint are known
	Roles       types.Roles // all roles that endpoints have; 0: none says
	// OldestReading is the time of the oldest reading, or zero if no endpoint has one.
	OldestReading time.Time
}

var asleep = types.Known(0)

// OverviewOf summarizes eps. Of an empty list, Ready and Awake are true.
func OverviewOf(eps []*types.Endpoint) Overview {
	o := Overview{Ready: true, Awake: true}
	for _, ep := range eps {
		o.Ready = o.Ready && ep.State == types.Ready
		o.Awake = o.Awake && ep.Metrics.Awake != asleep
		o.Roles |= ep.Roles
		o.ModelsKnown = o.ModelsKnown || ep.Models != nil
		if at := ep.Metrics.UpdatedAt; (o.OldestReading.IsZero() || at.Before(o.OldestReading)) && !at.IsZero() {
			o.OldestReading = at
		}
	}
	return o
}
