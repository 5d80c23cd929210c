package scalers

import (
	"math"
	"time"
)

// HPA computes as the controller of HorizontalPodAutoscalers does: the type Horizontal controller of
// pkg/controller/podautoscaler in Kubernetes 1.36. Ask it once each sync period, 15 s.
type HPA struct {
	// Min and Max bound the number of replicas. Defaults 1 and 100. Min -1 is 0: it scales to zero by itself, which
	// needs the feature HPAScaleToZero.
	Min, Max int
	// Tolerance is by how much the ratio of a metric to its target may differ from 1 without any change. Default 0.1;
	// negative: none.
	Tolerance float64
	// Up and Down are its behavior. Nil: none is given; one that is fills in the other.
	Up, Down *Rules

	said []said // recommendations before rules, within the longer window
	ups  []step // changes that were made, within the longest period
	down []step
}

// Rules are HPAScalingRules. The zero value is what Kubernetes fills in where only the other direction has rules, and for
// down what holds without a behavior. For up there is then one policy alone: to at most twice as many, or to 4.
type Rules struct {
	// Window is the stabilization window: up takes the least of what was recommended within it, down the greatest.
	// Negative: none. Defaults none for up, and 300 s for down.
	Window time.Duration
	// Policies bound changes; nil: 100 % and, for up, 4 pods, each per 15 s.
	Policies []RatePolicy
	// Least has the policy that allows the least rule; else it is that which allows the most.
	Least bool
}

// RatePolicy is an HPAScalingPolicy: so many pods, or so many per cent of those at the start of the period.
type RatePolicy struct {
	Pods, Percent int
	Period        time.Duration
}

type said struct {
	at       time.Time
	replicas int
}

type step struct {
	at time.Time
	by int
}

// MetricType is how a target is to be understood.
type MetricType uint8

const (
	// AverageValue: External metric, the sum of all series divided by the number of replicas is to be Target.
	AverageValue MetricType = iota
	// Value: External metric, the sum of all series is to be Target.
	Value
	// Pods: a metric of each pod, whose mean is to be Target.
	Pods
)

// Metric is what one metric is at one moment.
type Metric struct {
	Type   MetricType
	Target float64
	// Value is the sum of all series; NaN: there is no answer. Not for Pods.
	Value float64
	// Pod is the value of each pod that serves; NaN: that of this one is missing. Only for Pods.
	Pod []float64
	// Unready is how many pods are pending, and Missing how many run and have no figures. Only for Pods.
	Unready, Missing int
}

// withDefaults returns the fields of h with defaults.
func (h *HPA) withDefaults() (least, most int, tolerance float64, up, down Rules) {
	least, most, tolerance = h.Min, h.Max, h.Tolerance
	if h.Up != nil {
		up = *h.Up
	}
	if h.Down != nil {
		down = *h.Down
	}
	if least == 0 {
		least = 1
	}
	least = max(least, 0)
	if most == 0 {
		most = 100
	}
	if tolerance == 0 {
		tolerance = 0.1
	}
	tolerance = max(tolerance, 0)
	if down.Window == 0 {
		down.Window = 5 * time.Minute
	}
	if up.Policies == nil {
		up.Policies = []RatePolicy{{Pods: 4, Period: 15 * time.Second}, {Percent: 100, Period: 15 * time.Second}}
	}
	if down.Policies == nil {
		down.Policies = []RatePolicy{{Percent: 100, Period: 15 * time.Second}}
	}
	return least, most, tolerance, up, down
}

// Replicas returns how many replicas there are to be: current is what was asked for, and ready how many of these serve.
// The caller makes it so.
func (h *HPA) Replicas(now time.Time, current, ready int, metrics []Metric) int {
	least, most, tolerance, up, down := h.withDefaults()
	switch {
	case current == 0 && least != 0:
		return 0 // scaling is disabled
	case current > most:
		return h.changed(now, current, most)
	case current < least:
		return h.changed(now, current, least)
	}
	if h.said == nil {
		h.said = []said{{now, current}}
	}
	want, ok := propose(metrics, current, ready, tolerance)
	if !ok {
		return current
	}
	want = h.stabilized(now, current, want, up, down)
	want = min(max(want, least), most)
	switch {
	case want > current:
		want = min(want, max(current, h.upLimit(now, current, up)))
	case want < current:
		want = max(want, min(current, h.downLimit(now, current, down)))
	}
	return h.changed(now, current, want)
}

// propose is the largest of what the metrics propose. One that has no answer forbids to go down.
func propose(metrics []Metric, current, ready int, tolerance float64) (want int, ok bool) {
	bad := 0
	for _, m := range metrics {
		n, known := m.replicas(current, ready, tolerance)
		if !known {
			bad++
			continue
		}
		want = max(want, n)
	}
	if bad == len(metrics) || bad > 0 && want < current {
		return current, false
	}
	return want, true
}

// replicas is what one metric proposes.
func (m *Metric) replicas(current, ready int, tolerance float64) (n int, known bool) {
	if m.Type == Pods {
		return m.ofPods(current, tolerance)
	}
	if math.IsNaN(m.Value) {
		return 0, false
	}
	value, target := milli(m.Value), milli(m.Target)
	if m.Type == AverageValue {
		if ratio := value / (target * float64(current)); within(ratio, tolerance) {
			return current, true
		}
		return int(math.Ceil(value / target)), true
	}
	ratio := value / target
	switch {
	case current == 0:
		return int(math.Ceil(ratio)), true
	case within(ratio, tolerance):
		return current, true
	}
	return int(math.Ceil(ratio * float64(ready))), true
}

// ofPods is what a metric of pods proposes.
func (m *Metric) ofPods(current int, tolerance float64) (n int, known bool) {
	sum, count, missing := 0., 0, m.Missing
	for _, v := range m.Pod {
		if math.IsNaN(v) {
			missing++
			continue
		}
		sum += milli(v)
		count++
	}
	if count == 0 {
		return 0, false
	}
	target := milli(m.Target)
	ratio := math.Floor(sum/float64(count)) / target
	if missing == 0 && (m.Unready == 0 || ratio <= 1) {
		if within(ratio, tolerance) {
			return current, true
		}
		return int(math.Ceil(ratio * float64(count))), true
	}
	// Those that are missing are taken to be at their target for going down, and to do nothing for going up, as are those
	// that are not ready.
	counted := count + missing
	if ratio < 1 {
		sum += target * float64(missing)
	} else if ratio > 1 {
		counted += m.Unready
	}
	again := math.Floor(sum/float64(counted)) / target
	if within(again, tolerance) || ratio < 1 && again > 1 || ratio > 1 && again < 1 {
		return current, true
	}
	n = int(math.Ceil(again * float64(counted)))
	if again < 1 && n > current || again > 1 && n < current {
		return current, true
	}
	return n, true
}

// milli is a quantity in thousandths, which is what the controller computes with: providers cut the rest off.
func milli(v float64) float64 { return math.Floor(v*1000 + 1e-6) }

func within(ratio, tolerance float64) bool { return 1-tolerance <= ratio && ratio <= 1+tolerance }

// stabilized brings the present number between the least of what was recommended within the window of going up and the
// greatest of that of going down.
func (h *HPA) stabilized(now time.Time, current, want int, up, down Rules) int {
	lower, upper := want, want
	kept := h.said[:0]
	for _, s := range h.said {
		age := now.Sub(s.at)
		if age < up.Window {
			lower = min(lower, s.replicas)
		}
		if age < down.Window {
			upper = max(upper, s.replicas)
		}
		if age < max(up.Window, down.Window) {
			kept = append(kept, s)
		}
	}
	h.said = append(kept, said{now, want})
	return min(max(current, lower), upper)
}

// upLimit is how many replicas there may be by the policies of going up.
func (h *HPA) upLimit(now time.Time, current int, r Rules) int {
	if h.Up == nil && h.Down == nil {
		return max(2*current, 4)
	}
	limit, first := 0, true
	for _, p := range r.Policies {
		began := current - changedWithin(h.ups, now, p.Period) + changedWithin(h.down, now, p.Period)
		proposed := began + p.Pods
		if p.Percent > 0 {
			proposed = int(math.Ceil(float64(began) * (1 + float64(p.Percent)/100)))
		}
		if first || r.Least == (proposed < limit) {
			limit, first = proposed, false
		}
	}
	return limit
}

// downLimit is how few there may be.
func (h *HPA) downLimit(now time.Time, current int, r Rules) int {
	limit, first := 0, true
	for _, p := range r.Policies {
		began := current - changedWithin(h.ups, now, p.Period) + changedWithin(h.down, now, p.Period)
		proposed := began - p.Pods
		if p.Percent > 0 {
			proposed = int(float64(began) * (1 - float64(p.Percent)/100))
		}
		if first || r.Least == (proposed > limit) {
			limit, first = proposed, false
		}
	}
	return limit
}

func changedWithin(steps []step, now time.Time, period time.Duration) int {
	n := 0
	for _, s := range steps {
		if now.Sub(s.at) < period {
			n += s.by
		}
	}
	return n
}

// changed remembers a change for the policies.
func (h *HPA) changed(now time.Time, current, want int) int {
	switch {
	case want > current:
		h.ups = append(h.ups, step{now, want - current})
	case want < current:
		h.down = append(h.down, step{now, current - want})
	}
	const longest = 30 * time.Minute // the API allows no longer period
	for _, list := range []*[]step{&h.ups, &h.down} {
		for len(*list) > 0 && now.Sub((*list)[0].at) > longest {
			*list = (*list)[1:]
		}
	}
	return want
}
