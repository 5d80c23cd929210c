package scalers

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// sloRatio is llm-d's slo-aware law: how many replicas by how near the SLO latencies are, where replicas that are on
// their way are taken to halve, or third, what is seen. An HPA follows it.
func sloRatio() Law {
	return Law{
		Name: "slo ratio", What: "llm-d slo-aware: p90 of TTFT and TPOT over their SLO, between 0.40 and 0.55, with credit for what starts",
		Target: "ratio from which it grows", Shipped: 0.55, Targets: []float64{0.3, 0.42, 0.48, 0.65, 0.8}, Tunes: true,
		make: func(target float64, tuned bool, w World) simulation.Scaler {
			up, down := behavior(tuned,
				&Rules{Window: 30 * time.Second, Policies: []RatePolicy{{Percent: 100, Period: time.Minute}, {Pods: 4, Period: time.Minute}}},
				&Rules{Window: 3 * time.Minute, Policies: []RatePolicy{{Pods: 1, Period: 2 * time.Minute}}})
			s := &ratio{world: w, grow: target, shrink: target * 0.40 / 0.55}
			s.driven = drive(w, up, down, s.metrics)
			return s
		},
	}
}

type ratio struct {
	*driven
	world        World
	grow, shrink float64
	seen         []float64 // of the last 45 s
}

// Sample implements simulation.Sampler.
func (s *ratio) Sample(o *simulation.Observation) {
	const window = time.Minute // of the quantiles
	over := max(
		known(o.TTFT(window, 0.9))/s.world.SLO.TTFT.Seconds(),
		known(o.TPOT(window, 0.9))/s.world.SLO.TPOT.Seconds(),
	)
	s.seen = append(s.seen, min(over, 2))
	if len(s.seen) > 45 {
		s.seen = s.seen[1:]
	}
}

func (s *ratio) metrics(o *simulation.Observation) []Metric {
	sum := 0.
	for _, v := range s.seen {
		sum += v
	}
	over := sum / float64(max(len(s.seen), 1))
	n, ready := float64(o.Target), float64(o.Ready)
	credit := 1.
	if 0 < ready && ready < n {
		credit = ready / n
	}
	want := n
	switch {
	case over > s.grow:
		want = n + max(0, math.Ceil(n*(over*credit/s.grow-1)))
	case over < s.shrink:
		want = max(1, n-math.Floor(n*(1-over/s.shrink)))
	}
	return []Metric{{Target: 1, Value: want}}
}

// variants is the law of the Workload Variant Autoscaler for one variant: one more where what is free is little, one
// fewer where the others would still have enough, and none while some start. It looks each minute at the most of the
// last; tuned, each 15 s.
func variants() Law {
	return Law{
		Name: "wva", What: "Workload Variant Autoscaler: one replica more or fewer by the free KV cache and queue of those that are not saturated",
		Target: "part of the KV cache at which a replica is saturated", Shipped: 0.8, Targets: []float64{0.35, 0.45, 0.55, 0.65}, Tunes: true,
		make: func(target float64, tuned bool, w World) simulation.Scaler {
			every := time.Minute
			if tuned {
				every = 15 * time.Second
			}
			return &wva{world: w, kv: target, every: every, seen: map[string][]load{}, keda: KEDA{ToZero: w.ToZero}}
		},
	}
}

type wva struct {
	world World
	kv    float64 // threshold
	every time.Duration
	last  time.Duration
	seen  map[string][]load // of each server, within the last minute
	keda  KEDA              // for zero
}

// load is what a server reports; its part of what waits at gateways is in its queue.
type load struct {
	at        time.Duration
	kv, queue float64
}

// The thresholds that it is shipped with, but for that of the KV cache, which is its target.
const (
	wvaQueue      = 5
	wvaSpareKV    = 0.1
	wvaSpareQueue = 3
)

// Sample implements simulation.Sampler.
func (s *wva) Sample(o *simulation.Observation) {
	share := float64(o.Queued) / float64(max(o.Ready, 1))
	for _, one := range o.Servers {
		if math.IsNaN(one.KVUsage) {
			continue
		}
		list := append(s.seen[one.Name], load{o.At, one.KVUsage, known(one.Waiting) + share})
		for list[0].at < o.At-time.Minute {
			list = list[1:]
		}
		s.seen[one.Name] = list
	}
}

// Scale implements simulation.Scaler.
func (s *wva) Scale(o *simulation.Observation) int {
	want := o.Target
	if o.Target > 0 && o.At-s.last >= s.every {
		s.last = o.At
		want = min(max(o.Target+s.change(o), max(s.world.Min, 1)), s.world.Max)
	}
	// KEDA alone decides about zero: it sees an HPA that wants what this does.
	s.keda.HPA = HPA{Min: max(want, 1), Max: max(want, 1)}
	if o.Target == 0 {
		s.keda.HPA = HPA{}
	}
	return s.keda.Replicas(o.Now, o.Target, o.Ready, []Metric{{Value: float64(want), Target: 1}}, func() bool { return o.Queued+o.InFlight > 0 })
}

// change is by how many replicas there should be more.
func (s *wva) change(o *simulation.Observation) int {
	if o.Starting > 0 || o.Ready == 0 {
		return 0
	}
	var free, used load
	ok, n := 0., 0.
	for _, server := range o.Servers {
		var most load
		for _, l := range s.seen[server.Name] {
			most.kv, most.queue = max(most.kv, l.kv), max(most.queue, l.queue)
		}
		n++
		if most.kv >= s.kv || most.queue >= wvaQueue {
			continue
		}
		ok++
		free.kv, free.queue = free.kv+s.kv-most.kv, free.queue+wvaQueue-most.queue
		used.kv, used.queue = used.kv+most.kv, used.queue+most.queue
	}
	if ok == 0 || free.kv/ok < wvaSpareKV || free.queue/ok < wvaSpareQueue {
		return 1
	}
	if n < 2 || ok < 2 {
		return 0
	}
	// Would those that are left have enough, with what is there spread over one fewer?
	if s.kv-used.kv/(ok-1) >= wvaSpareKV && wvaQueue-used.queue/(ok-1) >= wvaSpareQueue {
		return -1
	}
	return 0
}
