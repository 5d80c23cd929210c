package scheduling_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// hostile is a Splitter and a tracker that does whatever it may, and what it may not.
type hostile struct {
	draws  atomic.Uint64
	act    func(*types.Request, uint64) // called by trackers
	starts sync.Map                     // *types.Request → *atomic.Int64
}

func (h *hostile) draw() *rand.Rand { return rand.New(rand.NewPCG(h.draws.Add(1), 7)) }

func (h *hostile) Split(_ context.Context, _ *types.Request, eps, prefill []*types.Endpoint, _ bool, by []int32, gains []float64) error {
	r := h.draw()
	for i := range by {
		by[i] = []int32{-1, 0, int32(len(prefill) - 1), int32(len(prefill)), math.MaxInt32, math.MinInt32, -2}[r.IntN(7)]
		gains[i] = []float64{0, 1, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64}[r.IntN(8)]
	}
	switch r.IntN(10) {
	case 0:
		panic("splitter")
	case 1:
		return errors.New("splitter")
	}
	return nil
}

func (h *hostile) PrefillTime(*types.Request, *types.Endpoint) time.Duration {
	if r := h.draw(); r.IntN(3) == 0 {
		panic("time")
	} else if r.IntN(2) == 0 {
		return math.MinInt64
	}
	return 0
}

func (h *hostile) count(req *types.Request, n int64) {
	v, _ := h.starts.LoadOrStore(req, new(atomic.Int64))
	v.(*atomic.Int64).Add(n)
}

func (h *hostile) do(req *types.Request) {
	r := h.draw()
	if h.act != nil {
		h.act(req, r.Uint64())
	}
	if r.IntN(4) == 0 {
		panic("tracker")
	}
}

func (h *hostile) Picked(req *types.Request, _ *types.Endpoint)     { h.count(req, 1); h.do(req) }
func (h *hostile) FirstToken(req *types.Request, _ *types.Endpoint) { h.do(req) }
func (h *hostile) Finished(req *types.Request, _ *types.Endpoint, _ types.Outcome) {
	h.count(req, -1)
	h.do(req)
}
func (h *hostile) PrefillPicked(req *types.Request, _, _ *types.Endpoint) {
	h.count(req, 1000)
	h.do(req)
}
func (h *hostile) PrefillFinished(req *types.Request, _ *types.Endpoint, _ types.Outcome) {
	h.count(req, -1000)
	h.do(req)
}

func TestHostileSplitter(t *testing.T) {
	var decisions sync.Map
	h := new(hostile)
	h.act = func(req *types.Request, n uint64) {
		v, ok := decisions.Load(req)
		if !ok {
			return
		}
		d := v.(*scheduling.Decision)
		switch n % 12 {
		case 0:
			d.Done(types.Outcome{Status: 200})
		case 1:
			d.PrefillDone(types.Outcome{Status: 200})
		case 2:
			d.PrefillDone(types.Outcome{Status: 500})
		case 3:
			d.FirstToken()
		case 4:
			d.Retry(d.Endpoint, types.Outcome{})
		case 5:
			d.Prefill()
			d.PrefillPatience()
			d.Settled()
		}
	}
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	s := mustNew(t, scheduling.Profile{
		Splitter: h, Picker: first, Fallbacks: 2, OutputTokens: 10, Seed: 1, Trackers: []scheduling.Tracker{h}, BookingTTL: time.Minute,
		Now: func() time.Time { return time.Unix(0, clock.Load()) },
		Hooks: scheduling.Hooks{Prefilled: func(e scheduling.Event) { h.do(e.Request) }, Finished: func(e scheduling.Event) { h.do(e.Request) },
			Scheduled: func(e scheduling.Event) { h.do(e.Request) }, Retried: func(e scheduling.Event) { h.do(e.Request) }},
	})
	eps := withRoles(roles, "p1", "p2", "p3", "d1", "d2", "only", "both")
	var mu sync.Mutex
	list := func(r *rand.Rand) []*types.Endpoint { // roles change
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(10) == 0 {
			i := r.IntN(len(eps))
			one := *eps[i]
			one.Roles = []types.Roles{0, types.RolePrefill, types.RoleDecode, types.RolePrefill | types.RoleDecode, types.RoleDecode | types.RoleNotAlone, types.RoleEncode}[r.IntN(6)]
			next := append([]*types.Endpoint(nil), eps...)
			next[i] = &one
			eps = next
		}
		return eps
	}
	var all sync.WaitGroup
	for g := range uint64(8) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(g, 1))
			for range 300 {
				req := splittable(100)
				d, err := s.Schedule(ctx, req, list(r))
				if err != nil {
					continue
				}
				decisions.Store(req, d)
				var two sync.WaitGroup
				for k := range uint64(2) {
					r := rand.New(rand.NewPCG(r.Uint64(), k))
					two.Go(func() {
						for range r.IntN(8) {
							switch r.IntN(8) {
							case 0:
								d.PrefillDone(types.Outcome{Status: 200})
							case 1:
								d.PrefillDone(types.Outcome{Status: 500})
							case 2:
								d.PrefillAgain(ctx, list(r))
							case 3:
								_ = d.Alone(types.Outcome{Unsent: true}, list(r))
							case 4:
								_ = d.RetryApart(ctx, list(r)[r.IntN(7)], types.Outcome{}, list(r))
							case 5:
								d.FirstToken()
							case 6:
								clock.Add(int64(time.Second) * int64(r.IntN(40)))
								s.Expire(time.Unix(0, clock.Load()))
							case 7:
								if r.IntN(4) == 0 {
									d.Done(types.Outcome{})
								}
							}
						}
					})
				}
				two.Wait()
				d.Done(types.Outcome{})
			}
		})
	}
	all.Wait()
	decisions.Range(func(_, v any) bool {
		require.Eventually(t, v.(*scheduling.Decision).Settled, time.Second, time.Microsecond)
		return true
	})
	require.Zero(t, s.Open())
	for _, ep := range eps {
		require.Zero(t, ep.Load.Held(), ep.ID)
	}
	n := 0
	h.starts.Range(func(_, v any) bool {
		n++
		require.Zero(t, v.(*atomic.Int64).Load())
		return true
	})
	require.Greater(t, n, 100)
	// None is counted as one that is served alone.
	more := withRoles(roles, "p1", "d1")
	s2 := s
	var errs error
	ok := false
	for range 200 {
		d, err := s2.Schedule(ctx, splittable(100), more)
		require.NoError(t, err)
		if d.Prefill() != nil {
			d.PrefillDone(types.Outcome{Status: 500})
			errs = d.Alone(types.Outcome{Unsent: true}, more)
			ok = ok || errs == nil
		}
		d.Done(types.Outcome{})
	}
	require.True(t, ok, "%v", errs)
}
