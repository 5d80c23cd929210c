package simulation

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// maxSamples bounds Report.Timeline: when it is full, every second sample goes
// and the step doubles.
const maxSamples = 1024

// stats gathers what a Report needs, in memory that does not grow with the run.
type stats struct {
	cfg   *Config
	every time.Duration

	ttft, tpot, ntpot, e2e, decision histogram
	latency                          histogram              // of jobs without first tokens
	classes                          map[int]*classStats    // by priority
	tenants                          map[string]*classStats // at most maxTenants

	good                                         int // counted jobs that met their SLO or Config.Goodput
	arrivals, completed, failed, shed, cancelled int // counted ones
	lastArrival, lastEnd                         time.Duration
	outputTokens, inputTokens, hitTokens         int
	throughput                                   int // output tokens
	items                                        int // of completed jobs that have any
	mediaTokens                                  int // of all jobs

	apart            apartStats
	sharing          sharingStats
	timeline         []Sample
	inSystem         []int // jobs under way at each sample
	imbalance        float64
	imbalanceSamples int
	explanation      *scheduling.Explanation
}

func (st *stats) init(c *Config) { st.cfg, st.every, st.lastArrival = c, c.SampleEvery, -1 }

func (st *stats) arrived(s *sim, l *live) {
	st.lastArrival = s.now
	st.mediaTokens += l.job.mediaTokens()
	if l.counted {
		st.arrivals++
		for _, c := range st.classesOf(l) {
			c.Arrived++
		}
	}
}

// classStats is what a ClassReport is made of.
type classStats struct {
	ClassReport
	wait, ttft, latency histogram
}

func (st *stats) class(l *live) *classStats {
	c := st.classes[l.job.Priority]
	if c == nil {
		if st.classes == nil {
			st.classes = map[int]*classStats{}
		}
		c = &classStats{ClassReport: ClassReport{Priority: l.job.Priority}}
		st.classes[l.job.Priority] = c
	}
	return c
}

// maxTenants bounds Report.Tenants.
const maxTenants = 64

// classesOf returns what a job counts for: its priority, and its tenant.
func (st *stats) classesOf(l *live) []*classStats {
	kinds := append(make([]*classStats, 0, 2), st.class(l))
	name := l.job.Tenant
	if name == "" {
		return kinds
	}
	t := st.tenants[name]
	if t == nil && len(st.tenants) < maxTenants {
		if st.tenants == nil {
			st.tenants = map[string]*classStats{}
		}
		t = &classStats{ClassReport: ClassReport{Priority: l.job.Priority}}
		st.tenants[name] = t
	}
	if t != nil {
		kinds = append(kinds, t)
	}
	return kinds
}

func (c *classStats) report() ClassReport {
	c.Wait, c.TTFT, c.Latency = c.wait.distribution(), c.ttft.distribution(), c.latency.distribution()
	return c.ClassReport
}

// ended counts a job that was not served.
func (c *classStats) ended(how ending) {
	switch how {
	case failed:
		c.Failed++
	case shed:
		c.Shed++
	case cancelled:
		c.Cancelled++
	}
}

// served counts a job of the class that was served.
func (c *classStats) served(l *live, first, end time.Duration) {
	c.Completed++
	c.Tokens += l.prompt + l.job.Output
	c.wait.add(l.scheduledAt - l.job.Arrival)
	if l.job.whole() {
		c.latency.add(end)
	} else {
		c.ttft.add(first)
	}
	if meets(l, l.job.SLO, first, end) {
		c.Met++
	}
}

// meets reports whether a job that was served met slo.
func meets(l *live, slo types.SLO, first, end time.Duration) bool {
	if slo.TTFT > 0 && first > slo.TTFT {
		return false
	}
	n := time.Duration(l.job.Output - 1)
	return n <= 0 || slo.TPOT == 0 || (end-first)/n <= slo.TPOT
}

// good reports whether a job that is served now met its SLO, and Config.Goodput where it has none.
func (s *sim) good(l *live) bool {
	target := types.SLO{TTFT: cmp.Or(l.job.SLO.TTFT, s.cfg.Goodput.TTFT), TPOT: cmp.Or(l.job.SLO.TPOT, s.cfg.Goodput.TPOT)}
	return meets(l, target, l.first+s.cfg.APIOut-l.job.Arrival, s.now+s.cfg.APIOut-l.job.Arrival)
}

func (st *stats) ended(s *sim, l *live, how ending) {
	if how == served && s.now >= s.cfg.Warmup && s.now <= s.last {
		st.throughput += l.job.Output
	}
	good := how == served && s.good(l)
	if how == served {
		s.scale.jobAnswered(s.now, l, good)
	}
	if !l.counted {
		return
	}
	switch how {
	case failed:
		st.failed++
	case shed:
		st.shed++
	case cancelled:
		st.cancelled++
	}
	kinds := st.classesOf(l)
	for _, k := range kinds {
		k.ended(how)
	}
	if how != served {
		return
	}
	st.completed++
	if l.handoff != nil {
		st.apart.served(l)
	}
	st.lastEnd = s.now + s.cfg.APIOut
	st.inputTokens += l.prompt
	st.outputTokens += l.job.Output
	st.hitTokens += l.cached
	end := s.now + s.cfg.APIOut - l.job.Arrival
	first := l.first + s.cfg.APIOut - l.job.Arrival
	for _, k := range kinds {
		k.served(l, first, end)
	}
	if good {
		st.good++
	}
	st.e2e.add(end)
	if l.job.whole() {
		st.latency.add(end)
		st.items += max(1, l.job.Work.Items)
		return
	}
	st.ttft.add(first)
	st.ntpot.add(end / time.Duration(l.job.Output))
	if n := l.job.Output - 1; n > 0 {
		st.tpot.add((end - first) / time.Duration(n))
	}
}

// sample notes the state of the fleet.
func (st *stats) sample(s *sim) {
	one := Sample{At: s.now.Seconds()}
	sum, most := 0, 0
	for _, r := range s.replicas {
		m := r.server.Metrics(s.now)
		one.Running = append(one.Running, m.Running)
		one.Waiting = append(one.Waiting, m.Waiting)
		one.KV = append(one.KV, m.KVUsage())
		sum += m.Running + m.Waiting
		most = max(most, m.Running+m.Waiting)
	}
	if sum > 0 && s.now >= s.cfg.Warmup && s.now <= s.last {
		mean := float64(sum) / float64(len(s.replicas))
		st.imbalance += (float64(most) - mean) / mean
		st.imbalanceSamples++
	}
	st.timeline = append(st.timeline, one)
	if s.now <= s.last {
		st.inSystem = append(st.inSystem, s.running)
	}
	if len(st.timeline) == maxSamples {
		st.timeline, st.inSystem = downsample(st.timeline), downsample(st.inSystem)
		st.every *= 2
	}
}

func downsample[T any](s []T) []T {
	n := 0
	for i := 0; i < len(s); i += 2 {
		s[n] = s[i]
		n++
	}
	return s[:n]
}

// steady judges whether the fleet kept up. No more than one in a hundred jobs may
// have been shed; and in the second half of the time in which jobs arrived, those
// under way must not have grown by more than one in thirty of the jobs that arrived
// then, unless that is no more than chance and bursts make them go up and down.
func (st *stats) steady() (ok bool, why string) {
	if st.shed*100 > st.arrivals {
		return false, fmt.Sprintf("%d of %d jobs were shed: the fleet did not keep up with what arrived", st.shed, st.arrivals)
	}
	half := st.inSystem[len(st.inSystem)/2:]
	if len(half) < 8 {
		return true, ""
	}
	from, to, spread := fitLine(half)
	arrived := float64(st.arrivals) / 2
	if growth := to - from; growth > arrived/30 && growth > 0.1*from && growth > 5+3*math.Sqrt(from) && growth > 2*spread {
		return false, fmt.Sprintf("jobs under way grew from %.0f to %.0f while %.0f arrived: the fleet never reached a steady state", from, to, arrived)
	}
	return true, ""
}

// fitLine fits a straight line by least squares: its ends, and the standard deviation
// of the values from it.
func fitLine(values []int) (from, to, spread float64) {
	n := float64(len(values))
	var sx, sy, sxx, sxy float64
	for i, v := range values {
		x, y := float64(i), float64(v)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx)
	from = (sy - slope*sx) / n
	to = from + slope*(n-1)
	for i, v := range values {
		d := float64(v) - from - slope*float64(i)
		spread += d * d
	}
	return from, to, math.Sqrt(spread / n)
}

// report makes the Report.
func (s *sim) report() *Report {
	st := &s.stats
	r := &Report{
		Policy: s.cfg.Policy.Name, Seed: s.cfg.Seed,
		Simulated: s.now.Seconds(),
		Arrived:   st.arrivals, Completed: st.completed, Failed: st.failed, Shed: st.shed, Cancelled: st.cancelled,
		Unfinished: s.running,
		TTFT:       st.ttft.distribution(), TPOT: st.tpot.distribution(), NTPOT: st.ntpot.distribution(), E2E: st.e2e.distribution(),
		Latency:     st.latency.distribution(),
		Timeline:    st.timeline,
		Explanation: st.explanation,
	}
	if d := (st.lastArrival - s.cfg.Warmup).Seconds(); d > 0 {
		r.OfferedRate = float64(st.arrivals) / d
		r.Throughput = float64(st.throughput) / d
	}
	if d := (st.lastEnd - s.cfg.Warmup).Seconds(); d > 0 {
		r.OutputRate = float64(st.outputTokens) / d
		r.InputRate = float64(st.inputTokens) / d
		r.RequestRate = float64(st.completed) / d
		r.ItemRate = float64(st.items) / d
	}
	if st.inputTokens > 0 {
		r.PrefixHits = float64(st.hitTokens) / float64(st.inputTokens)
	}
	if st.arrivals > 0 {
		r.Goodput = float64(st.good) / float64(st.arrivals)
	}
	if st.imbalanceSamples > 0 {
		r.Imbalance = st.imbalance / float64(st.imbalanceSamples)
	}
	for _, priority := range slices.Backward(slices.Sorted(maps.Keys(st.classes))) {
		c := st.classes[priority]
		r.Classes = append(r.Classes, c.report())
	}
	for _, name := range slices.Sorted(maps.Keys(st.tenants)) {
		r.Tenants = append(r.Tenants, TenantReport{name, st.tenants[name].report()})
	}
	if s.split {
		r.Apart = st.apart.report(st.completed)
	}
	r.Scaling = s.reported()
	if s.cfg.Policy.Sharer != nil {
		r.Sharing = &st.sharing.SharingReport
	}
	encoded := uint64(0)
	for _, rep := range s.replicas {
		out := rep.out
		if s.now > 0 {
			out.Busy = min(rep.work.Seconds()/s.now.Seconds(), 1)
		}
		r.Preemptions += out.Preemptions
		if s.split {
			r.Apart.LeasesEnded += rep.leasesEnded()
		}
		r.Replicas = append(r.Replicas, out)
		encoded += rep.encodedTokens()
	}
	if st.mediaTokens > 0 {
		r.Encoded = float64(encoded) / float64(st.mediaTokens)
	}
	r.Steady, r.Why = st.steady()
	if s.running > 0 {
		r.Steady, r.Why = false, fmt.Sprintf("%d jobs had not ended when the time to drain was over", s.running)
	}
	if s.cfg.CPU {
		d := st.decision.distribution()
		for _, v := range []*float64{&d.Mean, &d.P50, &d.P90, &d.P99, &d.Max} {
			*v *= 1e6
		}
		r.Decision = &d
	}
	return r
}
