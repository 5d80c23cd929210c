package modelserver

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
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

// stream is a request between its handler and the engine's loop. The loop
// counts tokens up; the handler writes what is new whenever it gets to run, so
// a handler that lags writes several at once and never holds the engine up.
type stream struct {
	// Set by the handler before the stream is submitted.
	request   engine.Request
	arrived   time.Time
	session   string
	adapter   string
	streaming bool // wants to hear of every token, not only of the last
	truncated bool // ends for its length, not by itself

	cached   int          // prompt tokens found in the prefix cache; set before produced leaves 0
	produced atomic.Int64 // tokens
	at       atomic.Int64 // when the last of them was produced, as a time since arrived
	ended    atomic.Bool  // nothing more will come
	updates  chan struct{}

	slowdown float64 // makes tokens come so many times as late; set before the stream is submitted
}

func newStream(r engine.Request, truncated bool) *stream {
	return &stream{request: r, arrived: time.Now(), truncated: truncated, updates: make(chan struct{}, 1), slowdown: 1}
}

// notify wakes who waits on a channel, or lets them go round once more.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// wait returns the number of tokens when there are more, and whether it is the
// last.
func (s *stream) wait(ctx context.Context) (produced int, ended bool, err error) {
	select {
	case <-s.updates:
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	// In this order: no token comes after ended.
	ended = s.ended.Load()
	produced = int(s.produced.Load())
	if s.slowdown == 1 {
		return produced, ended, nil
	}
	due := s.arrived.Add(time.Duration(float64(s.at.Load()) * s.slowdown))
	late := time.NewTimer(time.Until(due))
	defer late.Stop()
	select {
	case <-late.C:
		return produced, ended, nil
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
}

// loop drives one engine in real time. It is one goroutine; a step costs one
// timer and one wake-up for each stream that wants to hear of it.
type loop struct {
	models   *models
	scale    float64   // simulated time per real time
	start    time.Time // simulated time 0
	capacity int       // tokens that fit into the KV cache
	config   engine.Config
	events   Publisher     // nil: nobody publishes
	wake     chan struct{} // buffered: something arrived or departed

	// Owned by the goroutine of run.
	engine  *engine.Engine
	streams map[uint64]*stream // by engine ID
	lastID  uint64

	mu         sync.Mutex
	arrivals   []*stream
	departures []*stream
	page       page // as published
}

func newLoop(e *engine.Engine, scale float64, models *models, events Publisher) *loop {
	now := time.Now()
	return &loop{
		models:   models,
		scale:    scale,
		start:    now,
		capacity: e.Config().Blocks * engine.BlockTokens,
		config:   e.Config(),
		events:   events,
		wake:     make(chan struct{}, 1),
		engine:   e,
		streams:  map[uint64]*stream{},
		page:     newPage(e.Metrics(0), now),
	}
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
	notify(l.wake)
}

// leave takes a stream back out. It does nothing to one that has ended.
func (l *loop) leave(s *stream) {
	if s.ended.Load() {
		return
	}
	l.mu.Lock()
	l.departures = append(l.departures, s)
	l.mu.Unlock()
	notify(l.wake)
}

// exchange tells the engine who came and who left since the last step.
func (l *loop) exchange() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.arrivals {
		l.lastID++
		s.request.ID = l.lastID
		if err := l.engine.Submit(s.request); err != nil {
			// The handler has checked what can be wrong with a request.
			panic("modelserver: " + err.Error())
		}
		l.streams[l.lastID] = s
	}
	for _, s := range l.departures {
		if l.engine.Cancel(s.request.ID) { // it may have ended by itself in the meantime
			l.page.aborted++
			delete(l.streams, s.request.ID)
		}
	}
	clear(l.arrivals)
	clear(l.departures)
	l.arrivals, l.departures = l.arrivals[:0], l.departures[:0]
}

// deliver passes on what a step did, and publishes the metrics after it.
func (l *loop) deliver(step engine.Step, now time.Duration, began, ended time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events != nil && len(step.Changes) > 0 {
		l.events.Publish(engine.KVEvents(step.Changes, l.named)...)
	}
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
		s.at.Store(int64(ended.Sub(s.arrived)))
		s.produced.Store(int64(ev.Generated))
		if ev.Last {
			l.page.ended(s, ended)
			s.ended.Store(true)
			delete(l.streams, ev.ID)
		}
		if s.streaming || ev.Last {
			notify(s.updates)
		}
	}
	l.page.interToken.observe(ended.Sub(began).Seconds(), later)
	l.publish(now, ended)
}

// named returns what a request is called in events.
func (l *loop) named(id uint64) (session, adapter string) {
	if s := l.streams[id]; s != nil {
		return s.session, s.adapter
	}
	return "", ""
}

// publish takes the engine's metrics over. Caller must hold l.mu.
func (l *loop) publish(now time.Duration, at time.Time) {
	m := l.engine.Metrics(now)
	before := &l.page.metrics
	if slices.Equal(m.RunningAdapters, before.RunningAdapters) && slices.Equal(m.WaitingAdapters, before.WaitingAdapters) {
		m.RunningAdapters, m.WaitingAdapters = before.RunningAdapters, before.WaitingAdapters
	} else {
		// The engine reuses its slices.
		m.RunningAdapters, m.WaitingAdapters = slices.Clone(m.RunningAdapters), slices.Clone(m.WaitingAdapters)
		l.page.runningAdapters, l.page.waitingAdapters = l.models.namesOf(m.RunningAdapters), l.models.namesOf(m.WaitingAdapters)
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
