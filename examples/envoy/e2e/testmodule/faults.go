package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// This file is what a user could have put in: functions that panic for requests with the header that names them.

// panicHeader names what is to panic.
const panicHeader = "X-Test-Panic"

// panicIf panics if a request's header names the place, or it is armed for all.
func panicIf(header map[string][]string, place string) {
	if armed.is(place) || slices.Contains(header[panicHeader], place) {
		panic("on purpose, in " + place)
	}
}

// armed are the places that panic whatever the request.
var armed switches

type switches struct {
	mu       sync.Mutex
	on       map[string]bool // guarded by mu
	panicked int             // guarded by mu
}

func (s *switches) set(name string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == nil {
		s.on = map[string]bool{}
	}
	s.on[name] = on
}

// is reports whether a place is armed, and counts that.
func (s *switches) is(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on[name] {
		s.panicked++
	}
	return s.on[name]
}

func (s *switches) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.panicked
}

func panickingRoute(f func(*director.Route)) func(*director.Route) {
	return func(r *director.Route) {
		f(r)
		panicIf(r.Request.Header, "OnRoute")
	}
}

func panickingServed(f func(*director.Route, string)) func(*director.Route, string) {
	return func(r *director.Route, address string) {
		f(r, address)
		panicIf(r.Request.Header, "OnServed")
	}
}

// countingTracer counts the exchanges that are open.
type countingTracer struct{ open atomic.Int64 }

// Start implements exchange.Tracer.
func (t *countingTracer) Start(ctx context.Context, _, _ string, header map[string][]string) (context.Context, exchange.Span) {
	panicIf(header, "Start")
	t.open.Add(1)
	return ctx, &countingSpan{t, header}
}

type countingSpan struct {
	t      *countingTracer
	header map[string][]string
}

// Routed implements exchange.Span.
func (s *countingSpan) Routed(*director.Route) { panicIf(s.header, "Routed") }

// Refused implements exchange.Span.
func (s *countingSpan) Refused(*director.Error) { panicIf(s.header, "Refused") }

// Response implements exchange.Span.
func (s *countingSpan) Response(int, *types.Endpoint) { panicIf(s.header, "Response") }

// Propagate implements exchange.Span.
func (s *countingSpan) Propagate(pairs []string) []string {
	panicIf(s.header, "Propagate")
	return pairs
}

// End implements exchange.Span.
func (s *countingSpan) End() {
	s.t.open.Add(-1)
	panicIf(s.header, "End")
}

// panickingHandler panics while the log is armed.
type panickingHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h panickingHandler) Handle(ctx context.Context, r slog.Record) error {
	panicIf(nil, "log")
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h panickingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return panickingHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h panickingHandler) WithGroup(name string) slog.Handler {
	return panickingHandler{h.Handler.WithGroup(name)}
}

// startCounts are how many pickers of a name there have been.
type startCounts struct {
	mu sync.Mutex
	n  map[string]int // guarded by mu
}

func (c *startCounts) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[name]++
}

func (c *startCounts) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}
