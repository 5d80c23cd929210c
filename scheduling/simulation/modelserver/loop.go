package modelserver

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

const (
	// A wait shorter than this is not slept: timers overshoot by more. The steps
	// after it start from where this one should have ended, so nothing is lost.
	shortestSleep = 300 * time.Microsecond
	// An engine that fell behind the clock by more than this gives up catching
	// up: the machine is too slow for the time scale, or was suspended.
	longestLag = 50 * time.Millisecond
)

// loop drives one engine in real time. It is one goroutine; a step costs one
// timer and one wake-up for each stream that wants to hear of it.
type loop struct {
	models   *models
	scale    float64   // simulated time per real time
	start    time.Time // simulated time 0
	capacity int       // tokens that fit into the KV cache
	config   engine.Config
	wake     chan struct{} // buffered: something arrived or departed

	// Owned by the goroutine of run.
	engine  *engine.Engine
	streams []*stream // by engine ID; nil where the ID is free
	idle    []uint64  // free IDs

	mu         sync.Mutex
	arrivals   []*stream
	departures []*stream
	page       page // as published
}

// page is what a server publishes about itself.
type page struct {
	metrics                          engine.Metrics
	runningAdapters, waitingAdapters []string      // replaced, never written to
	adapterHistory                   []adapterInfo // replaced, never written to; the last is the present
	adaptersAt                       time.Time     // when the present was last seen

	requests   uint64
	stopped    uint64 // replies that ended by themselves
	cut        uint64 // replies that ended at the limit of their length
	aborted    uint64
	firstToken histogram
	interToken histogram
	whole      histogram
}

// adapterInfo is one series of vllm:lora_requests_info.
type adapterInfo struct {
	running, waiting string
	at               time.Time
}

// maxAdapterHistory bounds the series of vllm:lora_requests_info. The real
// server keeps every combination it ever saw; readers must take the newest.
const maxAdapterHistory = 16

func newLoop(e *engine.Engine, scale float64, models *models) *loop {
	l := &loop{
		models:   models,
		scale:    scale,
		start:    time.Now(),
		capacity: e.Config().Blocks * engine.BlockTokens,
		config:   e.Config(),
		wake:     make(chan struct{}, 1),
		engine:   e,
	}
	l.page.metrics = e.Metrics(0)
	l.page.adapterHistory = []adapterInfo{{at: l.start}}
	l.page.adaptersAt = l.start
	l.page.firstToken.bounds = firstTokenBounds()
	l.page.interToken.bounds = interTokenBounds()
	l.page.whole.bounds = wholeBounds()
	return l
}

// run steps the engine until ctx is done.
func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var now time.Duration // simulated
	for ctx.Err() == nil {
		l.exchange()
		began := time.Now()
		step, ok := l.engine.Step(now)
		if !ok {
			l.deliver(step, now, began, began)
			select {
			case <-l.wake:
			case <-ctx.Done():
			}
			now = max(now, l.simulated(time.Now()))
			continue
		}
		now += step.Duration
		l.sleepUntil(ctx, timer, now)
		ended := time.Now()
		l.deliver(step, now, began, ended)
		if clock := l.simulated(ended); clock-now > time.Duration(float64(longestLag)*l.scale) {
			now = clock
		}
	}
}

func (l *loop) simulated(t time.Time) time.Duration {
	return time.Duration(float64(t.Sub(l.start)) * l.scale)
}

func (l *loop) sleepUntil(ctx context.Context, timer *time.Timer, now time.Duration) {
	wait := time.Until(l.start.Add(time.Duration(float64(now) / l.scale)))
	if wait < shortestSleep {
		runtime.Gosched() // let the streams write
		return
	}
	timer.Reset(wait)
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// submit hands a stream to the engine, which sees it in its next step.
func (l *loop) submit(s *stream) {
	l.mu.Lock()
	l.arrivals = append(l.arrivals, s)
	l.page.requests++
	l.mu.Unlock()
	l.nudge()
}

// leave takes a stream back out. It does nothing to one that has ended.
func (l *loop) leave(s *stream) {
	if s.ended.Load() {
		return
	}
	l.mu.Lock()
	l.departures = append(l.departures, s)
	l.mu.Unlock()
	l.nudge()
}

func (l *loop) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// exchange tells the engine who came and who left since the last step.
func (l *loop) exchange() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.arrivals {
		s.id = l.newID()
		s.request.ID = s.id
		if err := l.engine.Submit(s.request); err != nil {
			// The handler has checked what can be wrong with a request.
			panic("modelserver: " + err.Error())
		}
		l.streams[s.id] = s
	}
	for _, s := range l.departures {
		// It may have ended by itself in the meantime, and its ID be another's.
		if l.streams[s.id] == s {
			l.engine.Cancel(s.id)
			l.page.aborted++
			l.release(s)
		}
	}
	clear(l.arrivals)
	clear(l.departures)
	l.arrivals, l.departures = l.arrivals[:0], l.departures[:0]
}

func (l *loop) newID() uint64 {
	if n := len(l.idle); n > 0 {
		id := l.idle[n-1]
		l.idle = l.idle[:n-1]
		return id
	}
	l.streams = append(l.streams, nil)
	return uint64(len(l.streams) - 1)
}

func (l *loop) release(s *stream) {
	l.streams[s.id] = nil
	l.idle = append(l.idle, s.id)
}

// deliver passes the tokens of a step on and publishes the engine's metrics.
func (l *loop) deliver(step engine.Step, now time.Duration, began, ended time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	later := uint64(0) // tokens that are not the first of their request
	for _, ev := range step.Events {
		if ev.Kind != engine.Token {
			continue
		}
		s := l.streams[ev.ID]
		if ev.First {
			s.cached = ev.Cached
			l.page.firstToken.observe(ended.Sub(s.arrived).Seconds(), 1)
		} else {
			later++
		}
		s.produced.Store(int64(ev.Generated))
		if ev.Last {
			l.page.whole.observe(ended.Sub(s.arrived).Seconds(), 1)
			if s.cut {
				l.page.cut++
			} else {
				l.page.stopped++
			}
			s.ended.Store(true)
			l.release(s)
		}
		if s.eager || ev.Last {
			s.notify()
		}
	}
	l.page.interToken.observe(ended.Sub(began).Seconds(), later)
	l.publish(now, ended)
}

// publish takes the engine's metrics over. Caller must hold l.mu.
func (l *loop) publish(now time.Duration, at time.Time) {
	m := l.engine.Metrics(now)
	before := &l.page.metrics
	if slices.Equal(m.RunningAdapters, before.RunningAdapters) && slices.Equal(m.WaitingAdapters, before.WaitingAdapters) {
		m.RunningAdapters, m.WaitingAdapters = before.RunningAdapters, before.WaitingAdapters
	} else {
		// The engine reuses its slices.
		m.RunningAdapters = slices.Clone(m.RunningAdapters)
		m.WaitingAdapters = slices.Clone(m.WaitingAdapters)
		l.page.runningAdapters = l.models.namesOf(m.RunningAdapters)
		l.page.waitingAdapters = l.models.namesOf(m.WaitingAdapters)
		l.page.remember(at)
	}
	l.page.adaptersAt = at
	l.page.metrics = m
}

// published returns what the server publishes about itself.
func (l *loop) published() page {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.page
}
