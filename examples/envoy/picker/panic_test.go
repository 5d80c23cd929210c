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

	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

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
	for name, tt := range exchangetest.Panics {
		t.Run(name, func(t *testing.T) {
			f, ended := of(t, exchangetest.New(t, tt.Change)), tt.In == exchangetest.Unimportant
			s := script()
			err := f.server.Process(s)
			refused := len(s.out) > 0 && s.out[len(s.out)-1].GetImmediateResponse().GetStatus().GetCode() == 500
			switch {
			case ended && (err != nil || s.next != len(s.in) || s.out[len(s.out)-1].GetResponseBody() == nil):
				t.Errorf("Process: %v after %d messages of %d", err, s.next, len(s.in))
			case !ended && !refused && status.Code(err) != codes.Internal:
				t.Errorf("Process: %v, want Internal", err)
			}
			if f.Sched.Open() != 0 || f.Load("a") != 0 {
				t.Errorf("%d decisions are open, %d booked at a", f.Sched.Open(), f.Load("a"))
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
		"Span.End": func(o *picker.Options, _ *director.Options, _ *profile) { o.Tracer = exchangetest.Exploding{At: "End"} },
		"both": func(o *picker.Options, _ *director.Options, p *profile) {
			o.Tracer, p.Hooks.Finished = exchangetest.Exploding{At: "End"}, func(scheduling.Event) { panic("on purpose") }
		},
		"the log too": func(o *picker.Options, _ *director.Options, p *profile) {
			o.Logger, p.Hooks.Finished = slog.New(exchangetest.ExplodingLog{}), func(scheduling.Event) { panic("on purpose") }
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
			if f.Sched.Open() != 0 || f.Load("a") != 0 {
				t.Errorf("%s, %d messages: %d decisions are open, %d booked at a", name, n+1, f.Sched.Open(), f.Load("a"))
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
			o.Logger = slog.New(exchangetest.ExplodingLog{})
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
	f.Free(t)
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
	f.Free(t)
	s = open(t, client, duplex, duplex)
	s.send(requestHeaders(false))
	s.send(requestBody(chatBody(1), true))
	if got := metadataDestination(s.recv()); got != allThree {
		t.Errorf("after a panic the destination is %q", got)
	}
}
