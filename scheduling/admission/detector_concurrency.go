package admission

import (
	"math"
	"sync"

	"github.com/inferpick/inferpick/scheduling/admission/internal/window"
	"github.com/inferpick/inferpick/types"
)

// LearnedConcurrency takes an endpoint as full when so many requests of this process, and of
// those that share with it, are in flight there as it serves well, and learns how many that
// are from how this process's are served: it is for endpoints that do not report how many run
// and wait, and has no opinion on others. Capacity.MaxConcurrency, where it is given, goes before what is learned.
//
// What an endpoint can do at a time is as many requests as are in flight there, divided by
// how much longer they take than where there was room: what comes beyond that only waits.
// Three times that may be in flight, for slowing down by less is a batch at work as often as
// a queue; fewer are tried only if that is more than chance, and where it turns out that less
// is done with fewer, and more again with more, it was not a queue. This is the
// window of TCP Vegas (Brakmo and Peterson, 1995), which concurrency-limits (Netflix, 2018)
// has brought to servers, with a gain as in BBR (Cardwell et al., 2016). Times are of a unit
// of work, and their means are geometric: outputs are of very different lengths, and some
// answers much slower than others for reasons of their own. First tokens that come as soon
// as ever raise the bound too, so that long streams need not end first. A server that says
// that it is busy is not given as much again, but as much as it has served: then the bound goes
// up by one at a time, ever less often where it is busy again, and at least twice a minute.
//
// The zero value is good. It is for one Controller.
type LearnedConcurrency struct {
	// First is how many a full endpoint has of which nothing is known yet. Default 64.
	First int `json:"first"`
	// Least and Most bound what is learned. Defaults 2 and 100,000.
	Least int `json:"least"`
	Most  int `json:"most"`

	mu    sync.RWMutex
	known map[*types.Load]*window.Window // guarded by mu, as is what is in it
}

const (
	// What counts as one token of output: reading the prompt and beginning take time too.
	promptPerToken = 128.0
	tokensToBegin  = 8.0
	// Prompt tokens that take as long as what else there is to do for a first token.
	promptToBegin = 256.0
	// Diffusion models work on one at a time, or a few: what such an endpoint is taken to have room for of which nothing
	// is known yet.
	firstDenoising = 4.0
)

// Fill implements Detector.
func (l *LearnedConcurrency) Fill(q Query, ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return math.NaN()
	}
	if _, _, known := reported(ep); known && q.fresh(ep) {
		return math.NaN()
	}
	size := float64(ep.Capacity.MaxConcurrency)
	if size <= 0 {
		size = l.sizeAt(ep)
	}
	return float64(ep.Load.Known().Requests) / size
}

// Slots implements SlotDetector.
func (l *LearnedConcurrency) Slots(q Query, ep *types.Endpoint) float64 { return l.Fill(q, ep) }

func (l *LearnedConcurrency) sizeAt(ep *types.Endpoint) float64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if w := l.known[ep.Load]; w != nil {
		return w.Size()
	}
	first, _, _ := l.bounds()
	if ep.Load.DenoiseTokens() > 0 {
		first = min(first, firstDenoising)
	}
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
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.known[ep.Load]
	if w == nil {
		if l.known == nil {
			l.known = map[*types.Load]*window.Window{}
		}
		first, least, most := l.bounds()
		if s.Denoises {
			first = min(first, firstDenoising)
		}
		w = window.New(max(first, least), least, most)
		l.known[ep.Load] = w
	}
	switch {
	case s.Busy:
		w.Busy(s.With, s.At)
	case s.Ended:
		w.Ended(s.Took, s.Output+s.Prompt/promptPerToken+tokensToBegin, s.With, s.At)
	default:
		w.Began(s.Took, promptToBegin+s.Prompt, s.With, s.At)
	}
}

// keep implements keeper.
func (l *LearnedConcurrency) keep(ep *types.Endpoint, note func(keptKind, float64, float64)) {
	if ep == nil {
		return
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if w := l.known[ep.Load]; w != nil {
		note(keptWindowOf, w.Size(), 0)
	}
}

// recall implements keeper.
func (l *LearnedConcurrency) recall(ep *types.Endpoint, k keptKind, size, _ float64) {
	if k != keptWindowOf {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known[ep.Load] != nil {
		return
	}
	if l.known == nil {
		l.known = map[*types.Load]*window.Window{}
	}
	_, least, most := l.bounds()
	l.known[ep.Load] = window.New(min(max(size, least), most), least, most)
}

// Forget implements Forgetter.
func (l *LearnedConcurrency) Forget(ep *types.Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, ep.Load)
}

var (
	_ ServiceLearner = (*LearnedConcurrency)(nil)
	_ Forgetter      = (*LearnedConcurrency)(nil)
	_ SlotDetector   = (*LearnedConcurrency)(nil)
)
