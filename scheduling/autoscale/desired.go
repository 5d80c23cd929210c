package autoscale

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// Desired returns how many replicas a pool needs. It is a pure function of its arguments: the time is s.At. h is
// changed; call it about once a second, and no more often than there are new signals. What is not known it leaves out,
// and if that is too much, or not all gateways answered, it recommends no fewer replicas than before.
func Desired(s Signals, p Policy, h *History) Recommendation {
	p, err := p.withDefaults()
	l := law{Signals: s, p: p, h: h}
	r := Recommendation{At: s.At, Partial: s.Missing > 0}
	l.look()
	r.StartUp = l.startUp
	if err != nil {
		r.Replicas, r.Term, r.Reason = h.Last, RuleHold, "the policy is wrong: "+err.Error()
		return r
	}
	r.Terms = l.terms()
	l.decide(&r)
	l.split(&r)
	return r
}

// law is one decision.
type law struct {
	Signals
	p Policy
	h *History

	elapsed time.Duration // since the last one
	startUp time.Duration
	current int     // replicas there, those that start included
	usable  float64 // part of a replica's time that is left for work, by the target for the time per token

	up, down float64 // what is needed: to have enough soon, and to have enough now
	ruled    int     // which term said so
	soon     float64 // what demand asked for; 0: it is not known
	extra    float64 // what is needed until what waits is worked off
	owed     float64 // seconds of a full replica that wait
}

// look brings what is remembered up to date.
func (l *law) look() {
	s, h := &l.Signals, l.h
	starting := s.Starting
	if starting < 0 {
		starting = h.asked(s.Ready)
	}
	l.current = s.Ready + starting
	l.elapsed = h.begin(s.At, l.current)
	l.startUp = l.p.startUp(h)
	h.served(s.Ready, l.startUp)
	l.startUp = l.p.startUp(h)
	if s.Starting < 0 {
		l.current = s.Ready + h.asked(s.Ready)
	}
	if s.Speed.Known() {
		h.Speed = s.Speed
	}
	l.usable = 1
	if h.Speed.Known() {
		l.usable = max(1-h.Speed.Step/s.TPOT.Target.Or(l.p.TPOT.Seconds()), leastUsable)
	}
	switch {
	case l.active():
		h.Quiet = time.Time{}
	case s.Missing > 0 && !h.Quiet.IsZero(): // what others have meanwhile is not known
		h.Quiet = h.Quiet.Add(l.elapsed)
	case s.Missing > 0:
		h.Quiet = s.At
	case h.Quiet.IsZero():
		h.Quiet = s.At.Add(-max(s.Idle, 0))
	}
	if s.Ready >= h.Last && s.Ready > 0 {
		if h.Enough.IsZero() {
			h.Enough = s.At
		}
	} else {
		h.Enough = time.Time{}
	}
}

const (
	// leastUsable bounds law.usable, for targets that no server meets.
	leastUsable = .2
	// least requests of which a latency is said something.
	leastLatencies = 20
)

func (p *Policy) startUp(h *History) time.Duration {
	switch {
	case p.StartUp > 0:
		return p.StartUp
	case h.StartUp > 0:
		return time.Duration(h.StartUp * float64(time.Second))
	}
	return DefaultStartUp
}

// active reports whether there is something to do, or was of late.
func (l *law) active() bool {
	return l.Queued > 0 || l.Running > 0 || l.Idle >= 0 && l.Idle < l.p.IdleAfter
}

// ask takes what a term asks for: up to have enough soon, down to have enough now.
func (l *law) ask(t *Term, at int, up, down float64) {
	t.Replicas = Figure(up)
	if up > l.up {
		l.up, l.ruled = up, at
	}
	l.down = max(l.down, down)
}

// terms asks all terms.
func (l *law) terms() []Term {
	terms := []Term{{Name: TermDemand}, {Name: TermBacklog}, {Name: TermKV}, {Name: TermConcurrency}, {Name: TermSLO}}
	for i, term := range [...]func(*Term, int){l.demand, termBacklog: l.backlog, l.kv, l.concurrency, l.slo} {
		terms[i].Replicas = Unknown()
		term(&terms[i], i)
	}
	return terms
}

// termBacklog is the index of that term.
const termBacklog = 1

// demand asks for what comes: work per second over what a replica does in one, as far as that is asked of it.
func (l *law) demand(t *Term, at int) {
	if !l.h.Speed.Known() || !l.ArrivalWork.Known() {
		t.Why = "how fast servers are, or what comes, is not known yet"
		return
	}
	now, soon, why := l.arrivals()
	up, down := l.need(soon), l.need(now)
	l.soon = up
	t.Why = fmt.Sprintf("%.2f s of work come in a second%s; a replica is to do %.2f", now, why, l.p.Utilization*l.usable)
	l.ask(t, at, up, down)
}

// need is how many replicas work asks for that comes, so much in a second, if so much is asked of them as is to be.
func (l *law) need(work float64) float64 {
	return l.replicas(work, l.p.Utilization, l.p.SlotsTarget, l.p.KVTarget) + l.spare(work)
}

// spare is how many replicas more it takes because what is at servers at a time varies by chance: of requests that come
// independently and are there for a time T, as many as in T come are there. The standard error of an average over W is
// that of a sum over 2·W (see flow), and that over T is √(2·W/T) times it, as a part.
func (l *law) spare(work float64) float64 {
	took, base := l.Duration.Or(0), l.ArrivalWork.Or(0)
	if took <= 0 || base <= 0 {
		return 0
	}
	varies := l.WorkNoise.Or(0) / base * math.Sqrt(2*RateWindow.Seconds()/max(took, leastTook))
	return l.p.Spare * l.full(work) * min(varies, 1)
}

// leastTook is the least time, in seconds, that requests are taken to be at a server: what comes and goes faster is
// evened out by queues.
const leastTook = 2.

// full is how many replicas do work that comes, so much in a second, with nothing to spare.
func (l *law) full(work float64) float64 { return l.replicas(work, 1, 1, 1) }

// replicas is how many do work that comes, so much in a second, within a part of their time, of their places and of
// their KV caches: as many as it takes to do it, or as many as hold the requests at once. Of a step of n requests the
// fixed part is shared by n: for D tokens of output in a second it takes Step·D/n.
func (l *law) replicas(work, time, slots, kv float64) float64 {
	n := work / (time * l.usable)
	out, base := l.ArrivalOutput.Or(0), l.ArrivalWork.Or(0)
	if out > 0 && base > 0 {
		n = max(n, work+l.h.Speed.Step*out*(work/base)/l.batch(slots, kv))
	}
	return n
}

// batch is how many requests a replica has at once with so much of its places and its KV cache in use.
func (l *law) batch(slots, kv float64) float64 {
	most := slots * l.Slots.Or(float64(l.p.Slots))
	if tokens := l.KVTokens.Or(0); tokens > 0 && l.Running > 0 && l.ContextTokens > 0 {
		most = min(most, kv*tokens*float64(l.Running)/float64(l.ContextTokens))
	}
	return max(most, 1)
}

// arrivals returns the work that comes in a second, and that is expected to when replicas asked for now serve.
func (l *law) arrivals() (now, soon float64, why string) {
	h := l.h
	now = max(float64(l.ArrivalWork), 0)
	recent, noise := max(l.RecentWork.Or(now), 0), max(l.WorkNoise.Or(0), 0)
	chance := math.Hypot(noise, l.RecentNoise.Or(0))
	if recent-now > l.p.Surprise*chance && recent > now*(1+leastSurprise) {
		soon = recent
		h.Slow = recent // where it stays is not known: this is no trend
		return now, soon, fmt.Sprintf(", %.2f of late", recent)
	}
	follow(&h.Slow, now, l.elapsed, l.p.Trend)
	slope := (now - h.Slow) / l.p.Trend.Seconds()
	// What is averaged over a window lags behind by it.
	growth := slope*(l.startUp+RateWindow).Seconds() - noise
	soon = now + min(max(growth, 0), l.p.TrendMost*now)
	if soon > now {
		why = fmt.Sprintf(", %.2f expected in %v", soon, l.startUp.Round(time.Second))
	}
	return now, soon, why
}

// leastSurprise is the part by which arrivals must have grown to be a surprise.
const leastSurprise = .1

// backlog asks for what will be left to do when replicas asked for now serve, beside what comes. It is counted in
// seconds of a replica by what binds there: of requests that wait for a place, their share of a full replica for as
// long as they run.
func (l *law) backlog(t *Term, at int) {
	if !l.h.Speed.Known() || !l.Backlog.Known() {
		t.Why = "what waits is not known in seconds yet"
		return
	}
	if rate := l.Arrivals.Or(0); rate > 0 {
		follow(&l.h.Each, l.full(l.ArrivalWork.Or(0))/rate, l.elapsed, RateWindow)
	}
	comes := l.full(max(l.ArrivalWork.Or(0), l.RecentWork.Or(0)))
	owed := max(float64(l.Backlog)/l.usable, (float64(l.Queued)+l.Waiting.Or(0)*float64(l.Ready))*l.h.Each)
	l.owed = owed
	lacks := comes - float64(l.Ready)
	left := max(owed+lacks*l.startUp.Seconds(), 0)
	// Who has waited for as long as may be goes. Where that is not known, what waits is believed when it does.
	wait := cmp.Or(l.MaxWait, defaultMaxWait).Seconds()
	left = min(left, max(owed, wait*lacks))
	drain := l.p.Drain.Seconds()
	n := min(comes+left/drain, max(mostBacklog*comes, owed/l.startUp.Seconds()))
	t.Replicas = Figure(n)
	t.Why = fmt.Sprintf("%.1f s of a replica wait, %.1f will in %v, to be done in %.0f s beside what comes",
		owed, left, l.startUp.Round(time.Second), drain)
	if left > 0 {
		l.extra = n
	}
}

// mostBacklog bounds, by what comes, what is asked for so that what waits is done soon: it is late for its targets, and
// each replica that helps costs its start. But what waits should not take longer than a start does.
const mostBacklog = 2.

// defaultMaxWait is how long requests are taken to wait at most where that is not known.
const defaultMaxWait = 30 * time.Second

// kv asks for room in KV caches.
func (l *law) kv(t *Term, at int) {
	if !l.KVUsed.Known() || l.Ready == 0 {
		t.Why = "servers do not say how full their KV caches are"
		return
	}
	follow(&l.h.KV, max(float64(l.KVUsed), 1e-9), l.elapsed, moment)
	n := l.within(float64(l.Ready) * min(l.h.KV, 1) / l.p.KVTarget)
	t.Why = fmt.Sprintf("%.0f %% of the KV caches are in use, %.0f %% may be", 100*l.h.KV, 100*l.p.KVTarget)
	l.ask(t, at, n, n)
}

// concurrency asks for places for the requests that run. Where nothing is known in seconds, those that wait ask for as
// many more.
func (l *law) concurrency(t *Term, at int) {
	if l.Ready == 0 {
		t.Why = "no replica serves"
		if l.soon == 0 && l.Queued > 0 {
			// What waits is all that there is to go by; but what came long ago says how long a start takes, and no more.
			n := float64(l.Queued + l.Running)
			if rate := l.Arrivals.Or(0); rate > 0 {
				n = min(n, max(rate*RateWindow.Seconds(), 1))
			}
			n /= l.places()
			t.Why = fmt.Sprintf("%d requests wait", l.Queued)
			l.ask(t, at, n, n)
		}
		return
	}
	follow(&l.h.Batch, max(l.Batch.Or(float64(l.Running)/float64(l.Ready)), 1e-9), l.elapsed, moment)
	most := l.places()
	n := l.within(float64(l.Ready) * min(l.h.Batch/most, 2))
	t.Why = fmt.Sprintf("%.1f requests are at a server, %.0f should be at most", l.h.Batch, most)
	if waiting := float64(l.Queued) + l.Waiting.Or(0)*float64(l.Ready); l.soon == 0 && waiting > 0 && l.Running > 0 {
		n = max(n, float64(l.Ready)*(1+min(waiting/float64(l.Running), 1)))
		t.Why += fmt.Sprintf(", and %.0f wait", waiting)
	}
	l.ask(t, at, n, n)
}

// places is how many requests should be at a server, by the places that it has.
func (l *law) places() float64 { return l.p.SlotsTarget * max(l.Slots.Or(float64(l.p.Slots)), 1) }

// within bounds what a term asks for by how full servers are: what waited and was let in at once fills them for a
// while, and says less of what comes than what comes.
func (l *law) within(n float64) float64 {
	if l.soon > 0 {
		return min(n, mostBeyond*l.soon)
	}
	return n
}

// mostBeyond is by which factor.
const mostBeyond = 1.1

// slo asks for more than demand says if targets are missed although as many replicas serve as were recommended.
func (l *law) slo(t *Term, at int) {
	met, n := worse(&l.TTFT, &l.TPOT)
	if n < leastLatencies || l.p.SLOStep == 0 {
		t.Why = "too few requests of late"
	} else {
		t.Why = fmt.Sprintf("%.0f %% of the requests meet their targets, %.0f %% should", 100*met, 100*l.p.SLOMet)
		l.learnBias(met)
	}
	if l.h.Bias > 0 && l.soon > 0 {
		t.Why += fmt.Sprintf("; %.0f %% more are needed than demand says, as was learned", 100*l.h.Bias)
		l.ask(t, at, l.soon*(1+l.h.Bias), l.need(max(float64(l.ArrivalWork), 0))*(1+l.h.Bias))
	}
}

// worse returns the lesser part that met its target, and of how many requests that is.
func worse(a, b *Latency) (met float64, n int64) {
	met = 1
	for _, l := range []*Latency{a, b} {
		if l.Met.Known() && l.N > 0 && (n < leastLatencies || float64(l.Met) < met && l.N >= leastLatencies) {
			met, n = float64(l.Met), l.N
		}
	}
	return met, n
}

const (
	// biasEvery is how long as many replicas must have served as were recommended, and how long after Bias grew, for
	// targets missed to say something: longer than latencies are remembered.
	biasEvery = 90 * time.Second
	// mostBias bounds it.
	mostBias = 1.
	// biasMemory is how long it takes until it is forgotten while targets are met, as a time constant.
	biasMemory = time.Hour
)

func (l *law) learnBias(met float64) {
	h := l.h
	if met >= l.p.SLOMet {
		h.Bias *= math.Exp(-l.elapsed.Seconds() / biasMemory.Seconds())
		if h.Bias < .01 {
			h.Bias = 0
		}
		return
	}
	if h.Enough.IsZero() || l.At.Sub(h.Enough) < biasEvery {
		return
	}
	if !h.Biased.IsZero() && l.At.Sub(h.Biased) < biasEvery+l.startUp {
		return
	}
	h.Bias = min(h.Bias+l.p.SLOStep*min(2*(1-met/l.p.SLOMet), 1), mostBias)
	h.Biased = l.At
}

// decide makes a recommendation of what the terms ask for.
func (l *law) decide(r *Recommendation) {
	h := l.h
	last := h.Last
	steady, term := l.whole(l.up), r.Terms[l.ruled]
	up := steady
	if n := l.whole(l.extra); n > up {
		up, term = n, r.Terms[termBacklog]
	}
	down := l.whole(l.down + max(l.p.Margin*l.down, leastMargin))
	r.Term, r.Reason = term.Name, term.Why
	switch {
	case up <= 1 && l.current == 0 && l.active():
		steady, up, down = 1, 1, 1
		r.Term, r.Reason = RuleWake, fmt.Sprintf("there is no replica, and %d requests wait", l.Queued)
	case up == 0 && !l.active():
		r.Term, r.Reason = RuleIdle, "nothing comes"
	}
	if most := l.most(); up > most {
		up = most
		r.Term, r.Reason = RuleStep, fmt.Sprintf("no more than %d at once; %s", most, term.Why)
	}
	r.Replicas = up
	// What waits is gone soon, and so are trends and surprises: only what came counts for as long as the window.
	largest := max(
		h.largest(&h.Recent, min(down, max(up, last)), l.p.Window),
		h.largest(&h.Brief, min(steady, up), l.p.Brief),
	)
	if up < last {
		r.Replicas = max(up, min(last, largest))
		if r.Replicas > up {
			r.Term = RuleWindow
			r.Reason = fmt.Sprintf("%d would do now, %d were needed in the last %v",
				max(up, down), largest, l.p.Window)
		}
	}
	if l.owed > busyWait*float64(l.Ready) && r.Replicas < last { // those that start would be given up, and asked for again
		r.Replicas, r.Term, r.Reason = last, TermBacklog, r.Terms[termBacklog].Why
	}
	if why := l.unknown(); why != "" && r.Replicas < last {
		r.Replicas, r.Term, r.Reason = last, RuleHold, why
	}
	if n := l.reserve(); r.Replicas < n {
		r.Replicas, r.Term = n, RuleReserve
		r.Reason = fmt.Sprintf("%d are kept for surges that are over before a replica has started", n)
	}
	l.bound(r)
	l.remember(r)
}

// leastMargin is how much of a replica must be to spare, beside what is asked for, before one is taken away: in a small
// pool chance alone moves what is needed by as much, and one too few costs as long as another takes to start.
const leastMargin = .8

// busyWait is how many seconds of work wait for each replica while none is given up.
const busyWait = 1.

// whole is how many whole replicas do for n.
func (l *law) whole(n float64) int {
	if !(n > 0) {
		return 0
	}
	return int(math.Ceil(min(n, 1e6) - l.p.Slack))
}

// most is how many replicas may be recommended at once.
func (l *law) most() int {
	from := l.h.base(l.current)
	return max(int(math.Ceil(float64(from)*l.p.StepUp)), from+leastStep, l.h.Last)
}

// leastStep is how many replicas may always be added.
const leastStep = 4

// unknown returns why no fewer replicas may be recommended, "" if they may.
func (l *law) unknown() string {
	switch {
	case l.Missing > 0:
		return fmt.Sprintf("%d of %d gateways did not answer: no fewer than before", l.Missing, l.Missing+l.Gateways)
	case !l.h.Speed.Known() && l.active():
		return "how fast servers are is not known: no fewer than before"
	case !l.ArrivalWork.Known() && l.active():
		return "what comes is not known: no fewer than before"
	}
	return ""
}

// bound keeps a recommendation within the policy.
func (l *law) bound(r *Recommendation) {
	if quiet := l.h.Quiet; l.p.ToZero && !quiet.IsZero() {
		switch {
		case l.current == 0 && l.h.Last == 0:
			r.Replicas, r.Term, r.Reason = 0, RuleIdle, "nothing comes, and there is no replica"
			return
		case l.Missing == 0 && l.At.Sub(quiet) >= l.p.IdleAfter:
			r.Replicas, r.Term = 0, RuleIdle
			r.Reason = fmt.Sprintf("nothing has come, waited or run for %v", l.At.Sub(quiet).Round(time.Second))
			return
		}
	}
	if r.Replicas < l.p.Min {
		r.Term, r.Reason = RuleMin, fmt.Sprintf("at least %d; %s", l.p.Min, r.Reason)
		r.Replicas = l.p.Min
	}
	if r.Replicas > l.p.Max {
		r.Term, r.Reason = RuleMax, fmt.Sprintf("at most %d; %s", l.p.Max, r.Reason)
		r.Replicas = l.p.Max
	}
}

// remember keeps what was recommended.
func (l *law) remember(r *Recommendation) {
	l.h.Last = r.Replicas
	if r.Replicas > l.Ready {
		l.h.ask(r.Replicas)
	}
	l.h.withdraw(r.Replicas)
}
