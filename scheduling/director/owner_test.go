package director_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// logged is a slog.Handler that keeps messages, and may panic.
type logged struct {
	mu     sync.Mutex
	lines  []string
	panics bool
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) Handle(_ context.Context, r slog.Record) error {
	if l.panics {
		panic("logger")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool { r.Message += " " + a.String(); return true })
	l.lines = append(l.lines, r.Message)
	return nil
}
func (l *logged) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *logged) WithGroup(string) slog.Handler      { return l }

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// TestPanics: whatever panics wherever, the request is answered, nothing is left booked or
// let in, and the pool goes on.
func TestPanics(t *testing.T) {
	var on atomic.Bool
	boom := func() {
		if on.Load() {
			panic("boom")
		}
	}
	for name, tt := range map[string]struct {
		change func(*director.Options, *admission.Options, *scheduling.Profile)
		in     director.Incoming
		status int // that the request gets; 0: it is served
	}{
		"AllowPath": {func(o *director.Options, _ *admission.Options, _ *scheduling.Profile) {
			o.AllowPath = func(string, string) bool { boom(); return true }
		}, ask("GET /special"), 500},
		"OnRefused": {func(o *director.Options, _ *admission.Options, _ *scheduling.Profile) {
			o.OnRefused = func(*types.Request, types.NamespacedName, *director.Error) { boom() }
		}, ask("GET /metrics"), 403},
		"admission hooks": {func(_ *director.Options, a *admission.Options, _ *scheduling.Profile) {
			a.Hooks = admission.Hooks{Dispatched: func(*admission.Ticket, time.Duration) { boom() }, Finished: func(*admission.Ticket, types.Outcome) { boom() }}
		}, standard(), 0},
		"detector": {func(_ *director.Options, a *admission.Options, _ *scheduling.Profile) {
			a.Detector = admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { boom(); return 0 })
		}, standard(), 0},
		"filter": {func(_ *director.Options, _ *admission.Options, p *scheduling.Profile) {
			p.Filters = append(p.Filters, scheduling.Named{Name: "bad", Filter: scheduling.FilterFunc(func(context.Context, *types.Request, []*types.Endpoint, []bool) error { boom(); return nil })})
		}, standard(), 500},
		"match": {func(_ *director.Options, _ *admission.Options, p *scheduling.Profile) {
			p.Filters = append(p.Filters, scheduling.Named{Name: "bad", Filter: constrainer{boom}})
		}, standard(), -1},
		"picker": {func(_ *director.Options, _ *admission.Options, p *scheduling.Profile) {
			p.Picker = scheduling.PickerFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) {
				boom()
				return 0, nil
			})
		}, standard(), 500},
		"scheduling hooks": {func(_ *director.Options, _ *admission.Options, p *scheduling.Profile) {
			p.Hooks = scheduling.Hooks{Scheduled: func(scheduling.Event) { boom() }, FirstToken: func(scheduling.Event) { boom() }, Retried: func(scheduling.Event) { boom() }, Finished: func(scheduling.Event) { boom() }}
		}, standard(), 0},
	} {
		for _, badLogger := range []bool{false, true} {
			t.Run(fmt.Sprint(name, badLogger), func(t *testing.T) {
				on.Store(false)
				p := plugins.RandomProfile()
				p.Fallbacks = 1
				log := &logged{panics: badLogger}
				a := func() *admission.Options { return oneEach() }
				store := newStore(t, 2, datastore.Options{})
				d := gated(t, store, func() *admission.Options { return a() }, func(o *director.Options) {
					o.Logger = slog.New(log)
					options := oneEach()
					tt.change(o, options, &p)
					a = func() *admission.Options { one := *options; return &one }
					s, err := scheduling.New(p)
					require.NoError(t, err)
					o.Scheduler = s
				})
				on.Store(true)
				r, err := d.Route(ctx, tt.in)
				if tt.status > 0 {
					if e := director.AsError(err); e.Status != tt.status || strings.Contains(e.Message, "boom") {
						t.Errorf("Route: %v, want status %d", err, tt.status)
					}
					if !badLogger && !strings.Contains(log.String(), "boom") {
						t.Errorf("logged %s", log)
					}
				} else if err != nil && tt.status == 0 {
					t.Errorf("Route: %v", err)
				}
				if r != nil {
					r.Next()
					r.Response(200, "text/event-stream")
					r.Data([]byte(token))
					r.Data([]byte(finish))
					r.End()
				}
				on.Store(false)
				setMetrics(store, 0, 0.1) // with each reading it is asked anew who may serve what
				for range 3 {
					answer(mustRoute(t, d, standard()))
				}
			})
		}
	}
}

// constrainer is a filter with a Match that calls f.
type constrainer struct{ f func() }

func (c constrainer) Filter(context.Context, *types.Request, []*types.Endpoint, []bool) error {
	return nil
}

func (c constrainer) Constraint(*types.Request, []*types.Endpoint) scheduling.Constraint {
	return scheduling.Constraint{Name: "c", Match: func(*types.Endpoint) bool { c.f(); return true }}
}

// TestAdmissionOptionsThatPanic: the error is the pool's, and the next request asks again.
func TestAdmissionOptionsThatPanic(t *testing.T) {
	var on atomic.Bool
	store := datastore.New(datastore.Options{})
	d := newDirector(t, store, func(o *director.Options) {
		o.Admission = func(types.NamespacedName) *admission.Options {
			if on.Load() {
				panic(errors.New("boom"))
			}
			return oneEach()
		}
	})
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "a", Address: "10.0.0.1:8000"}}))
	on.Store(true)
	for range 2 {
		_, err := d.Route(ctx, standard())
		if e := isError(t, err, 500, director.CodeInternal); !strings.Contains(err.Error(), "boom") || strings.Contains(e.Message, "boom") {
			t.Errorf("Route: %v", err)
		}
		if c, err := d.Admission(pool); c != nil || err == nil {
			t.Errorf("Admission = %v, %v", c, err)
		}
	}
	on.Store(false)
	answer(mustRoute(t, d, standard()))
	control(t, d, pool)
}

// TestAdmissionOptionsThatAskTheDirector: about the pool itself and about others, at first and
// when they change, while requests come.
func TestAdmissionOptionsThatAskTheDirector(t *testing.T) {
	other := types.NamespacedName{Namespace: "default", Name: "other"}
	store := datastore.New(datastore.Options{})
	var ready atomic.Pointer[director.Director]
	options := func(name types.NamespacedName) *admission.Options {
		if d := ready.Load(); d != nil {
			for _, p := range []types.NamespacedName{pool, other} {
				if c, err := d.Admission(p); c == nil || err != nil {
					t.Errorf("Admission(%v) within the options of %v = %v, %v", p, name, c, err)
				}
			}
			for _, c := range d.Admissions() {
				c.Stats()
			}
		}
		return oneEach()
	}
	d := newDirector(t, store, func(o *director.Options) { o.Admission = options })
	ready.Store(d)
	for _, p := range []types.NamespacedName{pool, other} {
		require.NoError(t, store.SetEndpoints(p, []datastore.EndpointSpec{{ID: "a", Address: "10.0.0.1:8000"}}))
	}
	done := make(chan error)
	go func() {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if r, err := d.Route(ctx, standard()); err != nil {
					t.Error(err)
				} else {
					answer(r)
				}
			})
		}
		all.Wait()
		done <- d.SetAdmission(options)
	}()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("it hangs")
	}
	if c := control(t, d, pool); c.Stats().Queued != 0 {
		t.Error("requests wait")
	}
}

// TestHooksMayCallTheRoute: no lock of the route, the decision, the ticket or the director
// is held while hooks are told.
func TestHooksMayCallTheRoute(t *testing.T) {
	var d *director.Director
	var route atomic.Pointer[director.Route]
	look := func() {
		if r := route.Load(); r != nil {
			r.Endpoint()
			r.Status()
			r.Fallbacks()
			r.Stalled(0)
		}
		if d != nil {
			_, _ = d.Admission(pool)
			for _, c := range d.Admissions() {
				c.Stats()
			}
		}
	}
	p := plugins.RandomProfile()
	p.Fallbacks = 1
	p.Hooks = scheduling.Hooks{
		Scheduled: func(scheduling.Event) { look() }, Retried: func(scheduling.Event) { look() },
		FirstToken: func(scheduling.Event) { look(); route.Load().Done(nil) },
		Finished:   func(scheduling.Event) { look(); route.Load().Done(nil) },
	}
	s, err := scheduling.New(p)
	require.NoError(t, err)
	d = gated(t, newStore(t, 2, datastore.Options{}), func() *admission.Options {
		o := oneEach()
		o.Hooks = admission.Hooks{
			Queued: func(*admission.Ticket) { look() }, Dispatched: func(*admission.Ticket, time.Duration) { look() },
			Finished: func(*admission.Ticket, types.Outcome) { look() },
		}
		return o
	}, func(o *director.Options) {
		o.Scheduler = s
		o.OnRefused = func(*types.Request, types.NamespacedName, *director.Error) { look() }
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := mustRoute(t, d, standard())
		route.Store(r)
		r.Next()
		r.Response(200, "text/event-stream")
		r.Data([]byte(token))
		r.End()
		_, _ = d.Route(ctx, ask("GET /metrics"))
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it hangs")
	}
}

// TestOnRevokeThatPanics: the one that is revoked ends all the same.
func TestOnRevokeThatPanics(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), func() *admission.Options {
		o := oneEach()
		o.Revoke = true
		return o
	}, nil)
	victim := mustRoute(t, d, incoming("bulk"))
	victim.OnRevoke(func(*director.Error) { panic("boom") })
	answer(letIn(t, start(ctx, d, incoming("food"))))
}

// TestBookingsOfStreamsThatGoOn: data is a sign of life of booking and ticket; one that is
// forgotten loses both at once.
func TestBookingsOfStreamsThatGoOn(t *testing.T) {
	store := newStore(t, 2, datastore.Options{})
	var clock atomic.Int64
	p := plugins.RandomProfile()
	p.BookingTTL = time.Minute
	p.Now = func() time.Time { return time.Unix(1e9, clock.Load()) }
	s, err := scheduling.New(p)
	require.NoError(t, err)
	d := gated(t, store, oneEach, func(o *director.Options) { o.Scheduler = s })
	forgotten, streams := mustRoute(t, d, standard()), mustRoute(t, d, standard())
	streams.Response(200, "text/event-stream")
	for range 10 {
		clock.Add(int64(40 * time.Second))
		streams.Data([]byte(token))
		s.Open() // which is when what is forgotten is looked for
		if r, err := s.Schedule(ctx, &types.Request{}, endpoints(store)); err == nil {
			r.Done(types.Outcome{})
		}
	}
	if n := streams.Endpoint().Load.Requests(); n != 1 {
		t.Errorf("%d are booked where one streams", n)
	}
	if n := forgotten.Endpoint().Load.Requests(); n != 0 {
		t.Errorf("%d are booked where one was forgotten", n)
	}
	running := 0
	for _, b := range control(t, d, pool).Stats().Bands {
		running += b.Running
	}
	require.Equal(t, 1, running, "run")
	streams.End()
}
