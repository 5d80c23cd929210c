package picker_test

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// exploding is a Tracer, and its spans, that panics at one place.
type exploding struct{ at string }

func (e exploding) do(what string) {
	if what == e.at {
		panic("on purpose, in " + what)
	}
}

func (e exploding) Start(ctx context.Context, _, _ string, _ map[string][]string) (context.Context, exchange.Span) {
	e.do("Start")
	return ctx, e
}
func (e exploding) Routed(*director.Route)        { e.do("Routed") }
func (e exploding) Refused(*director.Error)       { e.do("Refused") }
func (e exploding) Response(int, *types.Endpoint) { e.do("Response") }
func (e exploding) End()                          { e.do("End") }
func (e exploding) Propagate(p []string) []string { e.do("Propagate"); return p }

// explodingLog is a slog.Handler that always panics.
type explodingLog struct{}

func (explodingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (explodingLog) Handle(context.Context, slog.Record) error { panic("on purpose, in the log") }
func (explodingLog) WithAttrs([]slog.Attr) slog.Handler        { return explodingLog{} }
func (explodingLog) WithGroup(string) slog.Handler             { return explodingLog{} }

// TestPanics of whoever is called, in any phase, end that stream alone, with a status; what
// was booked is given back, and a panic when all is said spoils nothing.
func TestPanics(t *testing.T) {
	script := func() *script {
		m := requestHeaders(false)
		m.ProtocolConfig = &extprocv3.ProtocolConfiguration{RequestBodyMode: duplex, ResponseBodyMode: duplex}
		return &script{ctx: context.Background(), in: []*extprocv3.ProcessingRequest{
			m, requestBody(chatBody(1), true), responseHeaders(200, "text/event-stream", false), responseBody(events, true),
		}}
	}
	type change = func(*picker.Options, *director.Options, *profile)
	hook := func(set func(*scheduling.Hooks, func(scheduling.Event))) change {
		return func(_ *picker.Options, _ *director.Options, p *profile) {
			set(&p.Hooks, func(scheduling.Event) { panic("on purpose, in a hook") })
		}
	}
	trace := func(at string) change {
		return func(o *picker.Options, _ *director.Options, _ *profile) { o.Tracer = exploding{at} }
	}
	for name, tt := range map[string]struct {
		change change
		ended  bool // all was answered all the same
	}{
		"Tracer.Start":   {trace("Start"), false},
		"Span.Routed":    {trace("Routed"), false},
		"Span.Propagate": {trace("Propagate"), false},
		"Span.Response":  {trace("Response"), false},
		"Span.End":       {trace("End"), true},
		"OnRoute": {func(o *picker.Options, _ *director.Options, _ *profile) {
			o.OnRoute = func(*director.Route) { panic("on purpose, in OnRoute") }
		}, false},
		"OnServed": {func(o *picker.Options, _ *director.Options, _ *profile) {
			o.OnRoute = func(*director.Route) {}
			o.OnServed = func(*director.Route, string) { panic("on purpose, in OnServed") }
		}, false},
		"Hooks.Scheduled":  {hook(func(h *scheduling.Hooks, f func(scheduling.Event)) { h.Scheduled = f }), true},
		"Hooks.FirstToken": {hook(func(h *scheduling.Hooks, f func(scheduling.Event)) { h.FirstToken = f }), true},
		"Hooks.Finished":   {hook(func(h *scheduling.Hooks, f func(scheduling.Event)) { h.Finished = f }), true},
		"Logger":           {func(o *picker.Options, _ *director.Options, _ *profile) { o.Logger = slog.New(explodingLog{}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, tt.change)
			s := script()
			err := f.server.Process(s)
			refused := len(s.out) > 0 && s.out[len(s.out)-1].GetImmediateResponse().GetStatus().GetCode() == 500
			switch {
			case tt.ended && (err != nil || s.next != len(s.in) || s.out[len(s.out)-1].GetResponseBody() == nil):
				t.Errorf("Process: %v after %d messages of %d", err, s.next, len(s.in))
			case !tt.ended && !refused && status.Code(err) != codes.Internal:
				t.Errorf("Process: %v, want Internal", err)
			}
			if f.sched.Open() != 0 || f.load("a") != 0 {
				t.Errorf("%d decisions are open, %d booked at a", f.sched.Open(), f.load("a"))
			}
		})
	}
}

// TestPanicsWhenAStreamBreaks: the end of a stream that breaks off calls others too.
func TestPanicsWhenAStreamBreaks(t *testing.T) {
	for name, change := range map[string]func(*picker.Options, *director.Options, *profile){
		"Hooks.Finished": func(_ *picker.Options, _ *director.Options, p *profile) {
			p.Hooks.Finished = func(scheduling.Event) { panic("on purpose") }
		},
		"Span.End": func(o *picker.Options, _ *director.Options, _ *profile) { o.Tracer = exploding{"End"} },
		"both": func(o *picker.Options, _ *director.Options, p *profile) {
			o.Tracer, p.Hooks.Finished = exploding{"End"}, func(scheduling.Event) { panic("on purpose") }
		},
		"the log too": func(o *picker.Options, _ *director.Options, p *profile) {
			o.Logger, p.Hooks.Finished = slog.New(explodingLog{}), func(scheduling.Event) { panic("on purpose") }
		},
	} {
		for n := range 5 { // messages before it breaks off
			f := newFixture(t, change)
			all := []*extprocv3.ProcessingRequest{
				requestHeaders(false), requestBody(chatBody(1), true), responseHeaders(200, "text/event-stream", false), responseBody(events[:200], false), requestHeaders(false),
			}
			if err := f.server.Process(&script{ctx: context.Background(), in: all[:n+1]}); err != nil {
				if _, ok := status.FromError(err); !ok {
					t.Errorf("%s, %d messages: %v", name, n+1, err)
				}
			}
			if f.sched.Open() != 0 || f.load("a") != 0 {
				t.Errorf("%s, %d messages: %d decisions are open, %d booked at a", name, n+1, f.sched.Open(), f.load("a"))
			}
		}
	}
}

// TestPanicsOfTheLog on the way out: a stream too many, an idle one, a message out of order
// and metadata that cannot be read keep their status.
func TestPanicsOfTheLog(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		first func(*stream)
		want  codes.Code
	}{
		{"out of order", nil, func(s *stream) { s.send(requestTrailers()) }, codes.InvalidArgument},
		{"bad metadata", []string{picker.PoolMetadata, "a/b/c"}, func(*stream) {}, codes.InvalidArgument},
		{"idle", nil, func(*stream) {}, codes.DeadlineExceeded},
		{"one too many", nil, func(s *stream) { s.send(requestHeaders(false)) }, codes.ResourceExhausted},
	} {
		f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) {
			o.Logger = slog.New(explodingLog{})
			if tt.want == codes.DeadlineExceeded {
				o.IdleTimeout = time.Millisecond
			}
			o.MaxStreams = 1
		})
		client := f.dial(t)
		if tt.want == codes.ResourceExhausted {
			s := open(t, client, buffered, duplex)
			s.send(requestHeaders(false))
			s.recv() // so it is open
		}
		s := open(t, client, duplex, duplex, tt.pairs...)
		tt.first(s)
		if err := s.ends(); status.Code(err) != tt.want {
			t.Errorf("%s: the stream ended with %v", tt.name, err)
		}
	}
}

// TestGoexit: a function that ends its goroutine ends the stream.
func TestGoexit(t *testing.T) {
	f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) {
		o.OnRoute = func(*director.Route) { runtime.Goexit() }
	})
	s := open(t, f.dial(t), duplex, duplex)
	s.send(requestHeaders(true))
	if err := s.ends(); status.Code(err) != codes.Internal {
		t.Errorf("the stream ended with %v", err)
	}
	f.free(t)
}

// TestLifeAfterPanic: the next stream is served.
func TestLifeAfterPanic(t *testing.T) {
	f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) {
		o.OnRoute = func(r *director.Route) {
			if r.Request.SessionID == "boom" {
				panic("on purpose")
			}
		}
	})
	client := f.dial(t)
	s := open(t, client, duplex, duplex)
	s.send(requestHeaders(false, "x-session-id", "boom"))
	s.send(requestBody(chatBody(1), true))
	if err := s.ends(); status.Code(err) != codes.Internal {
		t.Errorf("the stream ended with %v", err)
	}
	f.free(t)
	s = open(t, client, duplex, duplex)
	s.send(requestHeaders(false))
	s.send(requestBody(chatBody(1), true))
	if got := metadataDestination(s.recv()); got != allThree {
		t.Errorf("after a panic the destination is %q", got)
	}
}
