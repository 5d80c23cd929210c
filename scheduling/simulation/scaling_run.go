package simulation

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// scale is Config.Scaling of a run.
type scale struct {
	Scaling
	scaler Scaler
	tokens int // that a new replica has room for

	target   int
	orders   int // so far, those of the fleet at the start among them
	starting []order
	serving  []*replica // in the order in which they began to
	draining int

	ttft, tpot     recent
	answered       int
	tokensArrived  int
	timeline       []ScalingSample
	arrived, met   []int // jobs by the time of their arrival, one for each Every
	lastDirection  int
	report         ScalingReport
	observation    Observation
	secondsCounted float64
}

// order is a replica that does not serve yet.
type order struct {
	number int
	at     time.Duration
}

// newScale begins to scale. It is called before there are gateways.
func (s *sim) newScale() error {
	if s.cfg.Scaling == nil {
		return nil
	}
	x := &scale{Scaling: *s.cfg.Scaling, target: len(s.cfg.Fleet.Replicas)}
	x.report.Peak = x.target
	var err error
	if x.scaler, err = x.Scaler(); err != nil {
		return fmt.Errorf("simulation: Scaling.Scaler: %w", err)
	}
	e, err := engine.New(x.Template.Engine)
	if err != nil {
		return fmt.Errorf("simulation: Scaling.Template: %w", err)
	}
	x.tokens = e.Config().Blocks * blockTokens
	s.scale = x
	if _, ok := x.scaler.(Sampler); ok { // before scaleNow: at one moment it looks, and is asked then
		s.queue.push(event{at: x.Sample, kind: scaleSample})
	}
	s.queue.push(event{at: x.Every, kind: scaleNow})
	return nil
}

// watch lets the Scaler put hooks into what a gateway is made of.
func (x *scale) watch(gateway string, p *scheduling.Profile, o *admission.Options) {
	if x == nil {
		return
	}
	if w, ok := x.scaler.(Watcher); ok {
		w.Watch(gateway, p, o)
	}
}

// scaleNow asks the Scaler, and plans the next time.
func (s *sim) scaleNow() {
	x := s.scale
	if s.goesOn() {
		s.queue.push(event{at: s.now + x.Every, kind: scaleNow})
	}
	x.timeline = append(x.timeline, ScalingSample{
		At: s.now.Seconds(), Target: x.target, Ready: len(x.serving), Starting: len(x.starting), Draining: x.draining, Queued: s.queued,
	})
	s.scaleTo(x.scaler.Scale(s.observe()))
}

// idles goes on with scaling where no more jobs come before they would have stopped to: replicas cost what they cost.
// Not where gateways share, which have to settle then: the number of replicas stays.
func (s *sim) idles() {
	if s.scale == nil || s.running > 0 || s.cfg.Policy.Sharer != nil {
		return
	}
	end := s.now
	defer func() { s.now = end }()
	s.idle = true
	for len(s.queue.heap) > 0 && s.err == nil {
		e := s.queue.pop()
		if e.at > s.cfg.Duration {
			break
		}
		switch e.kind {
		case scaleNow, scaleSample, serves, graceOver, scrapeNow, scrapeDone:
			s.now = e.at
			s.handle(e)
		}
	}
}

// goesOn tells whether there is something to read, and to scale for.
func (s *sim) goesOn() bool { return s.idle || s.running > 0 || !s.drained() }

// scaleSample lets a Sampler look, and plans the next time.
func (s *sim) scaleSample() {
	x := s.scale
	if s.goesOn() {
		s.queue.push(event{at: s.now + x.Sample, kind: scaleSample})
	}
	x.scaler.(Sampler).Sample(s.observe())
}

// wakes tells a Waker that a job waits where there are to be no replicas.
func (s *sim) wakes() {
	if x := s.scale; x != nil && x.target == 0 && s.queued > 0 {
		if w, ok := x.scaler.(Waker); ok {
			s.scaleTo(w.Wake(s.observe()))
		}
	}
}

// scaleTo orders and removes replicas until there are to be so many.
func (s *sim) scaleTo(want int) {
	x := s.scale
	want = min(max(want, x.Min), x.Max)
	if d := cmp.Compare(want, x.target); d != 0 {
		if s.measured() && d == -x.lastDirection {
			x.report.Reversals++
		}
		x.lastDirection = d
	}
	for x.target < want {
		x.target++
		s.order()
	}
	for x.target > want {
		x.target--
		s.removeOne()
	}
	if s.measured() {
		x.report.Peak = max(x.report.Peak, want)
	}
}

// measured tells whether what happens now is in the report.
func (s *sim) measured() bool { return s.now >= s.cfg.Warmup && s.now <= s.last }

// order orders a replica.
func (s *sim) order() {
	x := s.scale
	x.orders++
	if s.measured() {
		x.report.Ordered++
	}
	x.starting = append(x.starting, order{x.orders, s.now})
	rand := types.NewRand(derive(derive(s.cfg.Seed, streamScaling), uint64(x.orders)))
	takes := x.Startup.From + time.Duration(rand.Float64()*float64(x.Startup.To-x.Startup.From))
	s.queue.push(event{at: s.now + takes, kind: serves, a: int32(x.orders)})
}

// serves lets a replica serve that was ordered, unless it was removed before.
func (s *sim) serves(number int) {
	x := s.scale
	i := slices.IndexFunc(x.starting, func(o order) bool { return o.number == number })
	if i < 0 {
		return
	}
	ordered := x.starting[i].at
	x.starting = slices.Delete(x.starting, i, i+1)
	if len(x.serving) == 0 && s.measured() {
		x.report.ColdStarts++
	}
	if s.err = s.addReplica(x.Template); s.err == nil {
		s.replicas[len(s.replicas)-1].ordered = ordered
	}
}

// removeOne removes a replica: the last ordered that does not serve yet, or one that serves.
func (s *sim) removeOne() {
	x := s.scale
	if s.measured() {
		x.report.Removed++
	}
	if last := len(x.starting) - 1; last >= 0 {
		s.paid(x.starting[last].at, s.now)
		x.starting = x.starting[:last]
		return
	}
	if len(x.serving) == 0 {
		return // all have died, by a fault
	}
	victim := len(x.serving) - 1
	if x.Victim == LeastLoaded {
		for i := victim - 1; i >= 0; i-- {
			if x.serving[i].live < x.serving[victim].live {
				victim = i
			}
		}
	}
	r := x.serving[victim]
	x.draining++ // until it is gone, which may be at once
	s.inject(Fault{Kind: Remove, Index: r.index})
	if x.Grace > 0 && !r.gone {
		s.queue.push(event{at: s.now + x.Grace, kind: graceOver, a: int32(r.index)})
	}
}

// graceOver kills a replica that has jobs still.
func (s *sim) graceOver(r *replica) {
	if r.gone {
		return
	}
	if s.measured() {
		s.scale.report.Killed++
	}
	s.die(r)
}

// joined notes that a replica serves.
func (x *scale) joined(r *replica) {
	if x != nil {
		x.serving = append(x.serving, r)
	}
}

// left notes that a replica was removed, by the Scaler or by a fault.
func (s *sim) left(r *replica) {
	x := s.scale
	if x == nil {
		return
	}
	x.serving = slices.DeleteFunc(x.serving, func(other *replica) bool { return other == r })
	s.emptied(r)
}

// emptied notes that a replica has no jobs: one that was removed is gone then.
func (s *sim) emptied(r *replica) {
	if s.scale == nil || !r.removed || r.gone || r.live > 0 {
		return
	}
	r.gone = true
	s.scale.draining--
	s.paid(r.ordered, s.now)
}

// paid counts what a replica costs from its order until it is gone, within what is measured.
func (s *sim) paid(ordered, gone time.Duration) {
	from, to := max(ordered, s.cfg.Warmup), min(gone, s.last)
	s.scale.secondsCounted += max(0, (to - from).Seconds())
}

// jobArrived, jobStarted and jobAnswered note what gateways see.
func (x *scale) jobArrived(l *live) {
	if x == nil {
		return
	}
	x.tokensArrived += l.prompt
	i := int(l.job.Arrival / x.Every)
	for len(x.arrived) <= i {
		x.arrived, x.met = append(x.arrived, 0), append(x.met, 0)
	}
	x.arrived[i]++
}

func (x *scale) jobStarted(now time.Duration, l *live) {
	if x != nil {
		x.ttft.add(now, now-l.job.Arrival)
	}
}

func (x *scale) jobAnswered(now time.Duration, l *live, met bool) {
	if x == nil {
		return
	}
	x.answered++
	if met {
		x.met[int(l.job.Arrival/x.Every)]++
	}
	if n := l.job.Output - 1; n > 0 {
		x.tpot.add(now, (now-l.first)/time.Duration(n))
	}
}

// observe is what may be known now.
func (s *sim) observe() *Observation {
	x := s.scale
	o := &x.observation
	*o = Observation{
		Now: s.time(), At: s.now, Target: x.target, Ready: len(x.serving), Starting: len(x.starting), Draining: x.draining,
		Min: x.Min, Max: x.Max, Servers: o.Servers[:0], Queued: s.queued, QueuedTokens: s.queuedTokens, InFlight: s.running - s.queued,
		Saturation: math.NaN(), Arrived: s.arrived, Answered: x.answered, Tokens: x.tokensArrived, Gateways: o.Gateways[:0],
		ttft: &x.ttft, tpot: &x.tpot,
	}
	var saturation, controls float64
	for _, g := range s.gateways {
		if g.dead {
			continue
		}
		o.Gateways = append(o.Gateways, Observed{g.name(), g.admission, g.eps})
		for _, ep := range g.eps {
			o.PrefillTokens += ep.Load.PrefillTokens()
			o.ContextTokens += ep.Load.ContextTokens()
		}
		if g.admission == nil {
			continue
		}
		st := g.admission.Stats()
		o.Oldest = max(o.Oldest, st.Oldest)
		if !math.IsNaN(st.Saturation) {
			saturation, controls = saturation+st.Saturation, controls+1
		}
	}
	if controls > 0 {
		o.Saturation = saturation / controls
	}
	if len(o.Gateways) > 0 {
		s.observeServers(o)
	}
	return o
}

// observeServers fills Servers from what the first gateway has read.
func (s *sim) observeServers(o *Observation) {
	for _, r := range s.scale.serving {
		one := Server{Name: r.Name, Serves: s.now - r.started, Waiting: math.NaN(), Running: math.NaN(), KVUsage: math.NaN()}
		for _, ep := range o.Gateways[0].Endpoints {
			if ep.Slot != uint32(r.index) || ep.Metrics.UpdatedAt.IsZero() {
				continue
			}
			one.Age = o.Now.Sub(ep.Metrics.UpdatedAt)
			one.Waiting, one.Running, one.KVUsage = ep.Metrics.Waiting.Or(math.NaN()), ep.Metrics.Running.Or(math.NaN()), ep.Metrics.KVUsage.Or(math.NaN())
		}
		o.Servers = append(o.Servers, one)
	}
}

// reported makes the report.
func (s *sim) reported() *ScalingReport {
	x := s.scale
	if x == nil {
		return nil
	}
	r := x.report
	r.Every = x.Every.Seconds()
	end := max(s.now, s.cfg.Duration)
	for _, rep := range s.replicas {
		if !rep.gone {
			s.paid(rep.ordered, end)
		}
	}
	for _, o := range x.starting {
		s.paid(o.at, end)
	}
	r.Hours = x.secondsCounted / 3600
	r.Timeline = x.timeline
	for i := range r.Timeline {
		if i < len(x.arrived) {
			r.Timeline[i].Arrived, r.Timeline[i].Met = x.arrived[i], x.met[i]
		}
	}
	return &r
}
