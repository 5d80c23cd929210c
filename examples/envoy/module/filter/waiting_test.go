package filter_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/module/filter/hosttest"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// newFullFixture is a fixture whose endpoints run one request each, and have one: those that are returned.
func newFullFixture(t *testing.T, o admission.Options) (f *fixture, under []*hosttest.Stream) {
	t.Helper()
	o.Detector = admission.Concurrency{Requests: 1}
	f = newFixture(t, func(_ *exchange.Options, do *director.Options, p *scheduling.Profile) {
		do.Admission = func(types.NamespacedName) *admission.Options { return &o }
		p.Fallbacks = 0
	})
	for range exchangetest.Addresses {
		under = append(under, begin(t, f))
	}
	return f, under
}

// comes sends a request for the model chat, and does not wait.
func (f *fixture) comes(t *testing.T, body string, pairs ...string) *hosttest.Stream {
	t.Helper()
	s := f.open(t)
	s.Request(false, post(pairs...)...)
	s.Body(true, body)
	return s
}

// TestWaiting: what there is no room for waits, without a worker, and goes on when there is; or gives its place up as soon as
// the stream ends, or Envoy answers, which it does when the client goes away or a route's time is up.
func TestWaiting(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		f, under := newFullFixture(t, admission.Options{})
		for _, leave := range []func(*hosttest.Stream){
			func(s *hosttest.Stream) { s.Destroy() },
			func(s *hosttest.Stream) { s.Response(504, "text/plain", false) },
		} {
			s := f.comes(t, exchangetest.ChatBody(1))
			f.Waits(t, 1)
			leave(s)
			f.Waits(t, 0)
			s.Released()
			s.Destroy()
		}
		s := f.comes(t, exchangetest.ChatBody(1))
		f.Waits(t, 1)
		require.False(t, s.Pending())
		end(t, under[0])
		s.Wait()
		require.Equal(t, exchangetest.Addresses[0], destinationOf(t, s))
		require.Equal(t, exchangetest.RoutedBody(1), string(s.Upstream.Body))
		require.Positive(t, f.Routes[len(f.Routes)-1].Waited)
		for _, s := range append(under[1:], s) {
			end(t, s)
		}
		f.Free(t)
	})
	exchangetest.NoMoreGoroutines(t, before)
}

// TestRefusedByAdmission: the client is told why, and when to come again.
func TestRefusedByAdmission(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		f, under := newFullFixture(t, admission.Options{Bands: []admission.Band{
			{Name: "critical", Priority: types.PriorityCritical, MaxRequests: 2},
			{Name: "urgent", Priority: 7, MaxWait: 20 * time.Millisecond},
			{Name: "others", MaxRequests: -1},
		}})
		var waiting []*hosttest.Stream
		for i := range 2 {
			waiting = append(waiting, f.comes(t, exchangetest.ChatBody(1)))
			f.Waits(t, i+1)
		}
		refused := func(s *hosttest.Stream, wantStatus int, wantReason string) {
			t.Helper()
			s.Wait()
			code, header, body := status(t, s)
			require.Equal(t, wantStatus, code)
			require.Equal(t, wantReason, header["x-inferpick-reason"])
			require.Contains(t, body, `"code":"`+wantReason+`"`)
			require.Equal(t, wantStatus == 503, header["retry-after"] == "", "Retry-After")
			s.Destroy()
		}
		refused(f.comes(t, strings.Replace(exchangetest.ChatBody(1), `"chat"`, `"batch"`, 1)), 429, "saturated")
		refused(f.comes(t, exchangetest.ChatBody(1)), 429, "queue_full")
		refused(f.comes(t, exchangetest.ChatBody(1), "x-gateway-inference-objective", "urgent"), 429, "queue_timeout")
		f.Director.Close() // what waits is refused, what runs goes on
		for _, s := range waiting {
			refused(s, 503, "shutting_down")
		}
		refused(f.comes(t, exchangetest.ChatBody(1)), 503, "shutting_down")
		require.EqualValues(t, 3, f.Load("a")+f.Load("b")+f.Load("c"))
		for _, s := range under {
			end(t, s)
		}
		f.Free(t)
	})
	exchangetest.NoMoreGoroutines(t, before)
}

// gate is a Picker that blocks until it is told.
type gate struct {
	came, open chan struct{}
	then       func() // before it picks
}

func newGate() *gate { return &gate{came: make(chan struct{}), open: make(chan struct{})} }

// Pick implements scheduling.Picker.
func (g *gate) Pick(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) {
	close(g.came)
	<-g.open
	if g.then != nil {
		g.then()
	}
	return 0, nil
}

// TestEndsWhileDecided: a stream that ends at any point of a decision leaves nothing, however the decision comes
// out; and its end waits for nobody.
func TestEndsWhileDecided(t *testing.T) {
	for name, then := range map[string]func(){"routed": nil, "panic": func() { panic("on purpose") }, "goexit": runtime.Goexit} {
		for _, answered := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				g := newGate()
				g.then = then
				f := newFixture(t, func(o *exchange.Options, _ *director.Options, p *scheduling.Profile) {
					o.MaxStreams, p.Picker = 1, g
				})
				s := f.comes(t, exchangetest.ChatBody(1))
				<-g.came
				if answered {
					s.Response(504, "text/plain", true)
				}
				s.Destroy()
				close(g.open)
				s.Released()
				require.False(t, s.Pending())
				f.Free(t)
				s = f.open(t)
				s.Request(true, get("/v1/models")...)
				s.Wait()
				code, _, _ := status(t, s)
				require.Equal(t, 200, code, "its place is free")
			})
		}
	}
}

// TestEndsAsItIsWoken: a decision and the stream's end meet at any instant.
func TestEndsAsItIsWoken(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		f := newFixture(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
			o.OnRoute = func(*director.Route) {}
		})
		for i := range 300 {
			s := f.comes(t, exchangetest.ChatBody(1))
			for range i % 50 {
				runtime.Gosched()
			}
			if s.Pending() && i%2 == 0 {
				s.Wake()
				require.True(t, s.Upstream.Begun)
			}
			s.Destroy()
			s.Released()
		}
		f.Free(t)
	})
	exchangetest.NoMoreGoroutines(t, before)
}

// TestEndWaitsForWake: a stream does not go while it is being woken, as its worker might go with it.
func TestEndWaitsForWake(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	waking, goOn := make(chan struct{}), make(chan struct{})
	s.OnWake = func() {
		close(waking)
		<-goOn
	}
	s.Request(true, get("/health")...)
	<-waking
	time.AfterFunc(30*time.Millisecond, func() { close(goOn) }) // for an end that does not wait
	s.Destroy()
	s.Released()
	f.Free(t)
}

// TestConcurrentStreams: many at once, all open before any goes on, a third of which ends early; every body comes
// through, and nothing stays.
func TestConcurrentStreams(t *testing.T) {
	const streams = 300
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		f := newFixture(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
			o.OnRoute = func(*director.Route) {}
		})
		var opened, wg sync.WaitGroup
		opened.Add(streams)
		for i := range streams {
			wg.Go(func() {
				s := hosttest.New(t, f.filter.Stream())
				s.Request(false, post()...)
				s.Body(false, exchangetest.ChatBody(i)[:20])
				opened.Done()
				opened.Wait()
				defer s.Destroy()
				if i%3 == 0 {
					return
				}
				s.Body(true, exchangetest.ChatBody(i)[20:])
				s.Wait()
				s.Response(200, "text/event-stream", false)
				s.ResponseBody(true, exchangetest.Events)
				if string(s.Upstream.Body) != exchangetest.RoutedBody(i) || string(s.Downstream.Body) != exchangetest.Restored(exchangetest.Events) {
					t.Errorf("stream %d: %v", i, s)
				}
			})
		}
		wg.Wait()
		f.Free(t)
	})
	exchangetest.NoMoreGoroutines(t, before)
}
