package admission

import (
	"math"
	"sync"

	"github.com/inferpick/inferpick/types"
)

// LearnedConcurrency takes an endpoint as full when so many of this process's requests are
// in flight there as it serves well, and learns how many that are from how they are served:
// it is for endpoints that do not report how many run and wait, and has no opinion on
// others. Capacity.MaxConcurrency, where it is given, goes before what is learned.
//
// What an endpoint can do at a time is as many requests as are in flight there, divided by
// how much longer they take than where there was room: what comes beyond that only waits.
// Twice that may be in flight, for slowing down by less than half is a batch at work rather
// than a queue. This is the window of TCP Vegas (Brakmo and Peterson, 1995), which
// concurrency-limits (Netflix, 2018) has brought to servers, with the gain, and the rule
// that who is not busy shows nothing, of BBR (Cardwell et al., 2016). Times are of a unit of
// work, and their means are geometric: outputs are of very different lengths, and some
// answers much slower than others for reasons of their own. First tokens that come as soon
// as ever raise the bound too, so that long streams need not end first. A server that says
// that it is busy is not given as much again; then the bound goes up by one at a time.
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
	size    float64 // requests in flight at a full one
	careful bool    // it has been busy: one more at a time

	ends, firsts pacing
	with         float64 // requests in flight with those that ended, in the mean of late
	round        int     // ends since size was looked at
}

// pacing is how long a unit of work takes, as logarithms of seconds.
type pacing struct {
	n    int
	mean float64 // of late
	best float64 // the least that mean was, slowly forgotten
}

const (
	enoughPaced = 16   // measurements that make a mean
	meanOver    = 32.0 // measurements that it is over
	bestOver    = 1000.0
	windowGain  = 2.0
	oneRound    = 8 // ends after which the bound may change again
	mostShrink  = 0.7

	// What counts as one token of output: reading the prompt and beginning take time too.
	promptPerToken = 128.0
	tokensToBegin  = 8.0
	// Prompt tokens that a first token takes as long as, beside those that were owed.
	promptToBegin = 256.0
)

// slower takes a measurement, and returns how many times longer it took than where there
// was room, and how many times of late in the mean; 0 while that is not known.
func (p *pacing) slower(seconds float64) (this, mean float64) {
	v := math.Log(max(seconds, 1e-9))
	p.n++
	p.mean += (v - p.mean) / min(float64(p.n), meanOver)
	switch {
	case p.n < enoughPaced:
		return 0, 0
	case p.n == enoughPaced:
		p.best = p.mean
	}
	p.best = min(p.best+(p.mean-p.best)/bestOver, p.mean)
	return math.Exp(v - p.best), math.Exp(p.mean - p.best)
}

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
		w.size, w.careful = min(w.size, max(s.With-1, 1)), true
	case s.Ended:
		w.ended(s)
	default:
		w.began(s)
	}
	w.size = min(max(w.size, least), most)
}

// ended learns from an end.
func (w *window) ended(s Served) {
	work := s.Output + s.Prompt/promptPerToken + tokensToBegin
	_, slower := w.ends.slower(s.Took.Seconds() / work)
	w.with += (s.With - w.with) / min(float64(w.ends.n), meanOver)
	if w.round++; slower == 0 || w.round < oneRound {
		return
	}
	w.round = 0
	switch size := windowGain * w.with / slower; {
	case size > w.size:
		w.grow(size, oneRound)
	case slower > windowGain:
		w.size = max(size, mostShrink*w.size)
	}
}

// began learns from a first token. One that comes late may have waited behind a long
// output, which says little; one that does not shows that nobody had to wait.
func (w *window) began(s Served) {
	slower, _ := w.firsts.slower(s.Took.Seconds() / (promptToBegin + float64(s.Ahead)))
	if slower > 0 && slower <= windowGain && windowGain*s.With > w.size {
		w.grow(windowGain*s.With, 1)
	}
}

// grow raises the bound after n requests have shown that it may be; where the server has
// been busy, by one for as many as it has in flight, as TCP does.
func (w *window) grow(size, n float64) {
	if w.careful {
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
