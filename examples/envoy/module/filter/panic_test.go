package filter_test

import (
	"log/slog"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
	"github.com/inferpick/inferpick/examples/envoy/module/filter/hosttest"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// play is a whole exchange, as far as it comes.
func play(s *hosttest.Stream) {
	s.Request(false, post()...)
	s.Body(true, exchangetest.ChatBody(1))
	if s.Answer == nil && !s.WasReset {
		s.Wait()
	}
	if s.Upstream.Begun {
		s.Response(200, "text/event-stream", false)
		s.ResponseBody(true, exchangetest.Events)
	}
	s.Destroy()
}

// TestPanics of whoever is called, in any phase, end that stream alone, with 500; what was booked is given
// back, it is told once, and a panic when all is said spoils nothing.
func TestPanics(t *testing.T) {
	for name, tt := range exchangetest.Panics {
		for _, ends := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				before := runtime.NumGoroutine()
				f := newFixture(t, tt.Change)
				s := f.open(t)
				s.Ends = ends && tt.In != exchangetest.Unimportant // else Go would end it
				play(s)
				switch tt.In {
				case exchangetest.Unimportant:
					require.Nil(t, s.Answer)
					require.Equal(t, exchangetest.Restored(exchangetest.Events), string(s.Downstream.Body))
				case exchangetest.InRequest:
					require.False(t, s.Upstream.Begun)
					fallthrough
				default:
					if s.Ends && tt.In == exchangetest.InResponse {
						break // it ended before
					}
					code, header, body := status(t, s)
					require.Equal(t, 500, code)
					require.Equal(t, "internal", header["x-inferpick-reason"])
					require.NotContains(t, body, "purpose")
				}
				s.Released()
				f.Free(t)
				require.LessOrEqual(t, f.told(), 1, f.log)
				exchangetest.NoMoreGoroutines(t, before)
			})
		}
	}
}

// TestPanicInReport ends a response that has begun with a reset.
func TestPanicInReport(t *testing.T) {
	for _, ends := range []bool{false, true} {
		f := newFixture(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
			o.Report = func(types.NamespacedName, types.Usage) map[string]map[string]any { panic("on purpose") }
		})
		s := begin(t, f)
		s.Response(200, "text/event-stream", false)
		s.Ends = ends
		s.ResponseBody(true, exchangetest.Events)
		require.True(t, s.WasReset)
		s.Destroy()
		f.Free(t)
		require.Equal(t, 1, f.told())
	}
}

// TestPanicWhenItIsRefused: who is told of refusals may panic as well.
func TestPanicWhenItIsRefused(t *testing.T) {
	f := of(t, exchangetest.New(t, func(o *exchange.Options, do *director.Options, _ *scheduling.Profile) {
		o.MaxBody = 100
		do.OnRefused = func(*types.Request, types.NamespacedName, *director.Error) { panic("on purpose") }
	}), func(o *filter.Options) {
		n := 0
		o.Ready = func() bool { n++; return n > 1 }
	})
	for _, send := range []func(*hosttest.Stream){
		func(s *hosttest.Stream) { s.Request(false, post()...) }, // not ready
		func(s *hosttest.Stream) { s.Request(false, post("content-length", "101")...) },
		func(s *hosttest.Stream) { s.Request(false, post()...); s.Body(false, exchangetest.ChatBody(99)) },
		func(s *hosttest.Stream) { s.Request(false, post()...); s.Body(true, "{"); s.Wait() },
	} {
		s := f.open(t)
		send(s)
		code, _, _ := status(t, s)
		require.GreaterOrEqual(t, code, 400)
		s.Destroy()
		f.Free(t)
	}
}

// detector is one that panics.
type detector struct{}

// Fill implements admission.Detector.
func (detector) Fill(admission.Query, *types.Endpoint) float64 { panic("on purpose") }

// TestPanicInADetector: that of admission control is a user's, too.
func TestPanicInADetector(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("stream", func(t *testing.T) {
		f := newFixture(t, func(_ *exchange.Options, do *director.Options, _ *scheduling.Profile) {
			do.Admission = func(types.NamespacedName) *admission.Options { return &admission.Options{Detector: detector{}} }
		})
		s := f.open(t)
		play(s)
		require.True(t, s.Answer != nil || s.Downstream.Ended, "%v", s)
		f.Free(t)
	})
	exchangetest.NoMoreGoroutines(t, before)
}

// TestPanicsWhenAStreamEnds: the end of a stream calls others too, and none of that gets out.
func TestPanicsWhenAStreamEnds(t *testing.T) {
	finished := func(p *scheduling.Profile) { p.Hooks.Finished = func(scheduling.Event) { panic("on purpose") } }
	for name, change := range map[string]exchangetest.Change{
		"Hooks.Finished": func(_ *exchange.Options, _ *director.Options, p *scheduling.Profile) { finished(p) },
		"Span.End":       exchangetest.Panics["Span.End"].Change,
		"both": func(o *exchange.Options, _ *director.Options, p *scheduling.Profile) {
			finished(p)
			o.Tracer = exchangetest.Exploding{At: "End"}
		},
	} {
		for n := range 5 { // hooks before its end
			f := of(t, exchangetest.New(t, change), func(o *filter.Options) { o.Logger = slog.New(exchangetest.ExplodingLog{}) })
			s := f.open(t)
			for _, step := range []func(){
				func() { s.Request(false, post()...) },
				func() { s.Body(true, exchangetest.ChatBody(1)) },
				func() { s.Wait() },
				func() { s.Response(200, "text/event-stream", false) },
			}[:n] {
				step()
			}
			s.Destroy()
			s.Released()
			f.Free(t)
			require.Nil(t, s.Answer, name)
		}
	}
}

// TestGoexit: a function that ends its goroutine ends the request, and not more.
func TestGoexit(t *testing.T) {
	f := newFixture(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
		o.OnRoute = func(*director.Route) { runtime.Goexit() }
	})
	s := f.open(t)
	play(s)
	code, _, _ := status(t, s)
	require.Equal(t, 500, code)
	f.Free(t)
	require.Equal(t, 1, f.told())
}

// TestLifeAfterPanic: the next stream is served.
func TestLifeAfterPanic(t *testing.T) {
	f := newFixture(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
		o.OnRoute = func(r *director.Route) {
			if r.Request.SessionID == "boom" {
				panic("on purpose")
			}
		}
	})
	s := f.open(t)
	ask(t, s, "x-session-id", "boom")
	code, _, _ := status(t, s)
	require.Equal(t, 500, code)
	s.Destroy()
	f.Free(t)
	begin(t, f)
}
