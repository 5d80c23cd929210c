package scheduling

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Overview is what is true of all endpoints of a list, whatever the request is.
type Overview struct {
	Ready       bool // all are types.Ready
	Awake       bool // no reading says that the engine sleeps
	ModelsKnown bool // of some it is known which models they serve
	// OldestReading is when the oldest reading was taken, of endpoints that have one. Zero:
	// none has.
	OldestReading time.Time
}

var asleep = types.Known(0)

// OverviewOf returns that of eps.
func OverviewOf(eps []*types.Endpoint) Overview {
	o := Overview{Ready: true, Awake: true}
	for _, ep := range eps {
		o.Ready = o.Ready && ep.State == types.Ready
		o.Awake = o.Awake && ep.Metrics.Awake != asleep
		o.ModelsKnown = o.ModelsKnown || ep.Models != nil
		if at := ep.Metrics.UpdatedAt; (o.OldestReading.IsZero() || at.Before(o.OldestReading)) && !at.IsZero() {
			o.OldestReading = at
		}
	}
	return o
}
