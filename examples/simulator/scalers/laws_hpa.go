package scalers

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// driven is a pool that KEDA and its HPA scale by some metrics.
type driven struct {
	keda    KEDA
	metrics func(*simulation.Observation) []Metric
}

// Scale implements simulation.Scaler.
func (d *driven) Scale(o *simulation.Observation) int {
	return d.keda.Replicas(o.Now, o.Target, o.Ready, d.metrics(o), func() bool { return o.Queued+o.InFlight > 0 })
}

// drive makes one with a behavior: nil is none.
func drive(w World, up, down *Rules, metrics func(*simulation.Observation) []Metric) *driven {
	return &driven{KEDA{HPA: HPA{Min: max(w.Min, 1), Max: w.Max, Up: up, Down: down}, ToZero: w.ToZero}, metrics}
}

// tunedDown is what all of these are tuned to: up at once, and down when nothing has asked for more for two minutes.
// Shorter windows let them swing, longer ones are what most of them are shipped with.
func tunedDown() *Rules { return &Rules{Window: 2 * time.Minute} }

// behavior returns the behavior shipped, or the tuned one.
func behavior(tuned bool, up, down *Rules) (*Rules, *Rules) {
	if tuned {
		return &Rules{}, tunedDown()
	}
	return up, down
}

// waiting is the requests that wait, at gateways and in servers.
func waiting(o *simulation.Observation) float64 {
	sum := float64(o.Queued)
	for _, s := range o.Servers {
		sum += known(s.Waiting)
	}
	return sum
}

// usage is the sum of the parts of their KV caches that servers use.
func usage(o *simulation.Observation) float64 {
	sum := 0.
	for _, s := range o.Servers {
		sum += known(s.KVUsage)
	}
	return sum
}

// known is v, or nothing of a series that is not there.
func known(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// queue is an HPA on the length of queues.
func queue() Law {
	return Law{
		Name: "hpa queue", What: "HPA on waiting requests, those at gateways and in servers, as an average for each replica",
		Target: "requests that wait", Shipped: 5, Targets: []float64{0.25, 1, 2.5, 10}, Tunes: true,
		make: func(target float64, tuned bool, w World) simulation.Scaler {
			up, down := behavior(tuned, nil, nil)
			return drive(w, up, down, func(o *simulation.Observation) []Metric { return []Metric{{Target: target, Value: waiting(o)}} })
		},
	}
}

// kvUsage is an HPA on KV caches.
func kvUsage() Law {
	return Law{
		Name: "hpa kv", What: "HPA on the part of their KV cache that servers use, as an average",
		Target: "part of the KV cache", Shipped: 0.8, Targets: []float64{0.2, 0.3, 0.4, 0.5, 0.6}, Tunes: true,
		make: func(target float64, tuned bool, w World) simulation.Scaler {
			up, down := behavior(tuned, nil, nil)
			return drive(w, up, down, func(o *simulation.Observation) []Metric { return []Metric{{Target: target, Value: usage(o)}} })
		},
	}
}

// queueAndRunning is what llm-d recommends with KEDA: what waits at the gateway, and what runs.
func queueAndRunning() Law {
	return Law{
		Name: "queue+running", What: "llm-d keda-epp: HPA on requests that wait at gateways, 1 for each replica, and that run",
		Target: "requests that run", Shipped: 16, Targets: []float64{8, 10, 12, 13, 14}, Tunes: true,
		make: func(target float64, tuned bool, w World) simulation.Scaler {
			up, down := behavior(tuned, &Rules{Window: 5 * time.Minute}, &Rules{Window: 5 * time.Minute})
			return drive(w, up, down, func(o *simulation.Observation) []Metric {
				return []Metric{{Target: 1, Value: float64(o.Queued)}, {Target: target, Value: float64(o.InFlight)}}
			})
		},
	}
}

// saturation is an HPA on how full the pool is. It is shipped as an average, which says two replicas at any size; tuned,
// it is a value.
func saturation() Law {
	return Law{
		Name: "saturation", What: "HPA on the saturation of the pool; as shipped an average, tuned a value",
		Target: "saturation", Shipped: 0.7, Targets: []float64{0.2, 0.3, 0.4, 0.5, 0.6}, Tunes: true,
		make: func(target float64, tuned bool, w World) simulation.Scaler {
			up, down := behavior(tuned, nil, nil)
			kind := AverageValue
			if tuned {
				kind = Value
			}
			return drive(w, up, down, func(o *simulation.Observation) []Metric {
				m := Metric{Type: kind, Target: target, Value: o.Saturation}
				if o.Queued > 0 && o.Ready == 0 {
					m.Value = 1
				}
				return []Metric{m}
			})
		},
	}
}

// tokenBacklog is llm-d's token-aware law: prompt tokens under way by what a replica computes within the SLO, and KV
// caches for the output. Its target scales both; as shipped a replica's part of the SLO is 0.65 of it, for a p90.
func tokenBacklog() Law {
	return Law{
		Name: "token backlog", What: "llm-d token-aware: prompt tokens that are to be computed within the SLO, and KV caches to 0.8",
		Target: "part of what is shipped", Shipped: 1, Targets: []float64{0.4, 0.5, 0.6, 0.7, 0.8}, Tunes: true,
		make: func(target float64, tuned bool, w World) simulation.Scaler {
			up, down := behavior(tuned,
				&Rules{Policies: []RatePolicy{{Pods: 1, Period: 3 * time.Minute}}},
				&Rules{Window: 5 * time.Minute, Policies: []RatePolicy{{Pods: 1, Period: 5 * time.Minute}}})
			return drive(w, up, down, func(o *simulation.Observation) []Metric {
				mean := 0.
				if o.Arrived > 0 {
					mean = float64(o.Tokens) / float64(o.Arrived)
				}
				theta := max(0.65*(w.SLO.TTFT.Seconds()-mean/w.PrefillRate), 0.1)
				owed := float64(o.PrefillTokens) + float64(o.QueuedTokens)
				return []Metric{
					{Target: target, Value: owed / w.PrefillRate / theta},
					{Target: 0.8 * target, Value: usage(o)},
				}
			})
		},
	}
}
