package admission

import (
	"math"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// LearnedConcurrency takes an endpoint as full when so many of this process's requests are
// in flight there as it serves well, and learns how many that are from how they are served:
// it is for endpoints that do not report how many run and wait, and has no opinion on
// others. Capacity.MaxConcurrency, where it is given, goes before what is learned.
//
// What an endpoint can do at a time is as many requests as are in flight there, divided by
// how much longer they take than where there was room: what comes beyond that only waits.
// Three times that may be in flight, for slowing down by less is a batch at work as often as
// a queue; and where it turns out that less is done with fewer, more may be. This is the
// window of TCP Vegas (Brakmo and Peterson, 1995), which concurrency-limits (Netflix, 2018)
// has brought to servers, with a gain as in BBR (Cardwell et al., 2016). Times are of a unit
// of work, and their means are geometric: outputs are of very different lengths, and some
// answers much slower than others for reasons of their own. First tokens that come as soon
// as ever raise the bound too, so that long streams need not end first. A server that says
// that it is busy is not given as much again; then the bound goes up by one at a time, and
// ever less often where it is busy again.
//
// The zero value is good. It is for one Controller.
type LearnedConcurrency struct {
	// First is how many a full endpoint has of which nothing is known yet. Default 64.
	First int
	// Least and Most bound what is learned. Defaults 2 and 100,000.
	Least, Most int

	mu    sync.RWMutex
	known map[*types.Load]*window // guarded by mu, as is what is in it
}

// window is what is known of an endpoint.
type window struct {
	size float64 // requests in flight at a full one
	// Of one that has been busy: after how many ends without that one more is tried, ever
	// more where it is busy again; and how many there have been.
	patience, calm int

	ends, firsts pacing
	with         mean // requests in flight with those that ended
	round        int  // ends since size was looked at

	done work // of late

	// After it has shrunk: the size before, and what was done a second then, and how many
	// ends there are to be until it is seen what that has cost.
	from, before float64
	trial        int
}

// work is what was done in some time.
type work struct {
	units float64
	ends  int
	since time.Time
	rate  float64 // units a second, over the last rateOver ends; 0: not known
}

func (d *work) add(units float64, at time.Time) {
	if d.ends == 0 {
		d.since = at
	} else {
		d.units += units
	}
	if d.ends++; d.ends > rateOver {
		d.rate = d.units / max(at.Sub(d.since).Seconds(), 1e-9)
		d.units, d.ends = 0, 0
	}
}

// pacing is how long a unit of work takes, as logarithms of seconds.
type pacing struct {
	mean  mean    // of late
	quiet mean    // of those beside which few others were in flight
	best  float64 // the mean of quiet ones; while there are too few, the least that mean was
}

// mean is one of late.
type mean struct {
	n     int
	value float64
}

func (r *mean) add(v float64) {
	r.n++
	r.value += (v - r.value) / min(float64(r.n), meanOver)
}

const (
	enoughPaced = 16   // measurements that make a mean
	enoughQuiet = 8    // those beside which few were in flight
	meanOver    = 32.0 // measurements that it is over
	bestOver    = 10_000.0
	windowGain  = 3.0
	asSoon      = 2.0 // times as long as ever
	oneRound    = 8   // ends after which the bound may change again
	mostShrink  = 4.0
	rateOver    = 64

	leastPatience = 16
	mostPatience  = 1024

	mostCost = 0.15

	// What counts as one token of output: reading the prompt and beginning take time too.
	promptPerToken = 128.0
	tokensToBegin  = 8.0
	// Prompt tokens that take as long as what else there is to do for a first token.
	promptToBegin = 256.0
)

// slower takes a measurement, and returns how many times longer it took than where there
// was room, and how many times of late in the mean; 0 while that is not known.
func (p *pacing) slower(seconds float64, quiet bool) (this, mean float64) {
	v := math.Log(max(seconds, 1e-9))
	p.mean.add(v)
	if quiet {
		p.quiet.add(v)
	}
	switch {
	case p.quiet.n >= enoughQuiet:
		p.best = p.quiet.value
	case p.mean.n < enoughPaced:
		return 0, 0
	case p.mean.n == enoughPaced:
		p.best = p.mean.value
	default:
		p.best = min(p.best+(p.mean.value-p.best)/bestOver, p.mean.value)
	}
	return math.Exp(v - p.best), math.Exp(p.mean.value - p.best)
}

// believe makes what it takes where there is room at least something else.
func (p *pacing) believe(best float64) {
	p.best = max(p.best, best)
	p.quiet.value = max(p.quiet.value, best)
}

// quiet reports whether few others are in flight: so few that, were they many for the
// server, the bound would be too.
func (w *window) quiet(with float64) bool { return with <= max(w.size/8, 1) }

// Fill implements Detector.
func (l *LearnedConcurrency) Fill(q Query, ep *types.Endpoint) float64 {
	if ep.Load == nil || reportsRequests(q, ep) {
		return math.NaN()
	}
	size := float64(ep.Capacity.MaxConcurrency)
	if size <= 0 {
		size = l.sizeAt(ep)
	}
	return float64(ep.Load.Requests()) / size
}

// Slots implements SlotDetector.
func (l *LearnedConcurrency) Slots(q Query, ep *types.Endpoint) float64 { return l.Fill(q, ep) }

// reportsRequests reports whether it is known how many requests run and wait.
func reportsRequests(q Query, ep *types.Endpoint) bool {
	_, ok := ep.Metrics.Waiting.Value()
	_, ok2 := ep.Metrics.Running.Value()
	return ok && ok2 && q.fresh(ep)
}

func (l *LearnedConcurrency) sizeAt(ep *types.Endpoint) float64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if w := l.known[ep.Load]; w != nil {
		return w.size
	}
	first, _, _ := l.bounds()
	return first
}

func (l *LearnedConcurrency) bounds() (first, least, most float64) {
	f, lo, hi := l.First, l.Least, l.Most
	def(&f, 64)
	def(&lo, 2)
	def(&hi, 100_000)
	return float64(f), float64(lo), float64(hi)
}

// Served implements ServiceLearner.
func (l *LearnedConcurrency) Served(ep *types.Endpoint, s Served) {
	first, least, most := l.bounds()
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.known[ep.Load]
	if w == nil {
		if l.known == nil {
			l.known = map[*types.Load]*window{}
		}
		w = &window{size: first}
		l.known[ep.Load] = w
	}
	switch {
	case s.Busy:
		w.busy(s)
	case s.Ended:
		w.ended(s)
	default:
		w.began(s)
	}
	w.size = min(max(w.size, least), most)
}

// ended learns from an end.
func (w *window) ended(s Served) {
	units := s.Output + s.Prompt/promptPerToken + tokensToBegin
	_, slower := w.ends.slower(s.Took.Seconds()/units, w.quiet(s.With))
	w.with.add(s.With)
	w.done.add(units, s.At)
	w.calm++
	if w.trial > 0 {
		w.try()
		return
	}
	if w.round++; slower == 0 || w.round < oneRound {
		return
	}
	w.round = 0
	switch size := windowGain * w.with.value / slower; {
	case size > w.size:
		w.grow(size, oneRound)
	case slower > windowGain:
		w.shrink(max(size, w.size/mostShrink))
	}
}

// shrink lowers the bound. Once those have ended that were sent before, it is looked at
// what that has cost.
func (w *window) shrink(size float64) {
	w.from, w.before = w.size, w.done.rate
	w.size = size
	w.trial = int(w.with.value) + rateOver + 1
}

// try goes on with a trial. If much less is done at its end, those that were more did not
// only wait: the engine slows down with its batch, or is slow for a reason of its own.
func (w *window) try() {
	switch w.trial--; w.trial {
	case rateOver + 1:
		w.done = work{}
	case 0:
		if part := w.done.rate / w.before; part < 1-mostCost {
			w.size = w.from
			w.ends.believe(w.ends.mean.value + math.Log(part))
		}
		w.round = 0
	}
}

// busy learns from a refusal. Of those that come together the first counts.
func (w *window) busy(s Served) {
	w.size = min(w.size, s.With-1)
	if w.calm >= w.patience {
		w.patience = min(max(2*w.patience, leastPatience), mostPatience)
	}
	w.calm = 0
}

// began learns from a first token. One that comes late may have waited behind a long
// output, which says little; one that does not shows that nobody had to wait.
func (w *window) began(s Served) {
	slower, _ := w.firsts.slower(s.Took.Seconds()/(promptToBegin+s.Prompt), w.quiet(s.With))
	if slower > 0 && slower <= asSoon && asSoon*s.With > w.size {
		w.grow(asSoon*s.With, 1)
	}
}

// grow raises the bound after n requests have shown that it may be; where the server has
// been busy, by one for as many as it has in flight, as TCP does, and not at once.
func (w *window) grow(size, n float64) {
	if w.patience > 0 {
		if w.calm < w.patience {
			return
		}
		size = min(size, w.size+n/w.size)
	}
	w.size = size
}

// Forget implements Forgetter.
func (l *LearnedConcurrency) Forget(ep *types.Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, ep.Load)
}
