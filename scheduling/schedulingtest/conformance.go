package schedulingtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// TestScorer checks that a scorer keeps the contract of scheduling.Scorer: scores
// of 0..1 or NaN, for lists of any length and endpoints of which nothing is
// known; inputs unchanged; the same scores for the same seed, and whatever the
// order of the endpoints; safe for many goroutines (run with -race). newScorer
// is called for each part and must return a new scorer.
func TestScorer(t *testing.T, newScorer func() scheduling.Scorer) {
	t.Helper()
	type result = map[string]float64
	run := func(t *testing.T, s scheduling.Scorer, c input) result {
		scores := nans(len(c.eps))
		c.unchanged(t, func() {
			if err := s.Score(context.Background(), c.req, c.eps, scores); err != nil {
				t.Errorf("%s: Score: %v", c.name, err)
			}
		})
		res := result{}
		for i, ep := range c.eps {
			if v := scores[i]; v < 0 || v > 1 {
				t.Errorf("%s: score of %s = %v, want 0..1 or NaN", c.name, ep.ID, v)
			}
			res[ep.ID] = scores[i]
		}
		return res
	}
	same := func(a, b result) error {
		for id, v := range a {
			if w := b[id]; v != w && !(math.IsNaN(v) && math.IsNaN(w)) {
				return fmt.Errorf("%s scores %v and then %v", id, v, w)
			}
		}
		return nil
	}
	conform(t, newScorer, run, same, true)
}

// TestFilter checks that a filter keeps the contract of scheduling.Filter, in the
// way of TestScorer. Errors that wrap scheduling.ErrSaturated or
// scheduling.ErrNoEndpoint are allowed.
func TestFilter(t *testing.T, newFilter func() scheduling.Filter) {
	t.Helper()
	type result = map[string]bool
	run := func(t *testing.T, f scheduling.Filter, c input) result {
		keep := trues(len(c.eps))
		var err error
		c.unchanged(t, func() { err = f.Filter(context.Background(), c.req, c.eps, keep) })
		if err != nil && !errors.Is(err, scheduling.ErrSaturated) && !errors.Is(err, scheduling.ErrNoEndpoint) {
			t.Errorf("%s: Filter: %v", c.name, err)
		}
		res := result{"error": err != nil}
		for i, ep := range c.eps {
			res[ep.ID] = keep[i] && err == nil
		}
		o := scheduling.OverviewOf(c.eps)
		if s, ok := f.(scheduling.Screener); ok && !c.shared && s.Screen(c.req, &o) && (err != nil || slices.Contains(keep, false)) {
			t.Errorf("%s: Screen says that all endpoints are kept, Filter gives %v, %v", c.name, keep, err)
		}
		return res
	}
	same := func(a, b result) error {
		if !reflect.DeepEqual(a, b) {
			return fmt.Errorf("keeps %v and then %v", a, b)
		}
		return nil
	}
	conform(t, newFilter, run, same, true)
}

// TestCoster checks that a coster keeps the contract of scheduling.Coster, in the way
// of TestScorer: costs of any size or NaN, and, if it is a scheduling.Itemizer, items
// that add up to the cost.
func TestCoster(t *testing.T, newCoster func() scheduling.Coster) {
	t.Helper()
	type result = map[string]float64
	run := func(t *testing.T, k scheduling.Coster, c input) result {
		costs := nans(len(c.eps))
		c.unchanged(t, func() {
			if err := k.Cost(context.Background(), c.req, c.eps, costs); err != nil {
				t.Errorf("%s: Cost: %v", c.name, err)
			}
		})
		res := result{}
		items, itemizes := k.(scheduling.Itemizer)
		for i, ep := range c.eps {
			res[ep.ID] = costs[i]
			if !itemizes || math.IsNaN(costs[i]) || c.shared {
				continue
			}
			sum := 0.0
			for _, it := range items.Items(c.req, ep) {
				sum += it.Seconds
			}
			if math.Abs(sum-costs[i]) > 1e-9*(1+math.Abs(sum)) {
				t.Errorf("%s: items of %s add up to %v, and the cost is %v", c.name, ep.ID, sum, costs[i])
			}
		}
		return res
	}
	same := func(a, b result) error {
		for id, v := range a {
			if w := b[id]; math.Abs(v-w) > 1e-9*(1+math.Abs(v)) || math.IsNaN(v) != math.IsNaN(w) {
				return fmt.Errorf("%s costs %v and then %v", id, v, w)
			}
		}
		return nil
	}
	conform(t, newCoster, run, same, true)
}

// TestPicker checks that a picker keeps the contract of scheduling.Picker, in the
// way of TestScorer, and that it does not send everything to one endpoint when
// all are equal.
func TestPicker(t *testing.T, newPicker func() scheduling.Picker) {
	t.Helper()
	run := func(t *testing.T, p scheduling.Picker, c input) int {
		if len(c.eps) == 0 {
			return 0
		}
		rnd := types.NewRand(7)
		scores := make([]float64, len(c.eps))
		for i := range scores {
			scores[i] = rnd.Float64() * 7
		}
		before := append([]float64(nil), scores...)
		i := 0
		c.unchanged(t, func() {
			var err error
			if i, err = p.Pick(context.Background(), c.req, c.eps, scores); err != nil {
				t.Errorf("%s: Pick: %v", c.name, err)
			}
		})
		if i < 0 || i >= len(c.eps) {
			t.Errorf("%s: Pick = %d of %d endpoints", c.name, i, len(c.eps))
		}
		if !reflect.DeepEqual(before, scores) {
			t.Errorf("%s: Pick changed the scores", c.name)
		}
		return i
	}
	same := func(a, b int) error {
		if a != b {
			return fmt.Errorf("picks %d and then %d", a, b)
		}
		return nil
	}
	conform(t, newPicker, run, same, false)

	t.Run("equal endpoints are all picked", func(t *testing.T) {
		p, eps, scores := newPicker(), Fleet(8), make([]float64, 8)
		picks := map[int]int{}
		for seed := range uint64(4000) {
			req := Request("hello")
			req.Rand = types.NewRand(seed)
			i, err := p.Pick(context.Background(), req, eps, scores)
			if err != nil || i < 0 || i >= len(eps) {
				t.Fatalf("Pick = %d, %v", i, err)
			}
			if tr, ok := p.(scheduling.Tracker); ok {
				tr.Picked(req, eps[i])
				tr.Finished(req, eps[i], types.Outcome{})
			}
			picks[i]++
		}
		for i := range eps {
			if picks[i] < 250 {
				t.Errorf("endpoint %d of 8 equal ones was picked %d times of 4000", i, picks[i])
			}
		}
	})
}

// conform runs the parts that the kinds of plugin have in common. run calls the
// plugin once and checks that one call.
func conform[P, R any](t *testing.T, newPlugin func() P, run func(*testing.T, P, input) R, same func(a, b R) error, orderFree bool) {
	t.Helper()
	t.Run("contract", func(t *testing.T) {
		p := newPlugin()
		for _, c := range inputs() {
			run(t, p, c)
		}
	})
	t.Run("same seed, same result", func(t *testing.T) {
		for _, c := range inputs() {
			if err := same(run(t, newPlugin(), c.clone()), run(t, newPlugin(), c.clone())); err != nil {
				t.Errorf("%s: a new plugin with the same seed: %v", c.name, err)
			}
		}
	})
	if orderFree {
		t.Run("order of endpoints", func(t *testing.T) {
			for _, c := range inputs() {
				a := run(t, newPlugin(), c.clone())
				if err := same(a, run(t, newPlugin(), c.reversed())); err != nil {
					t.Errorf("%s: with the endpoints in reverse: %v", c.name, err)
				}
			}
		})
	}
	t.Run("concurrency", func(t *testing.T) {
		p := newPlugin()
		eps := Fleet(16)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 50 {
					c := input{name: "concurrent", req: Request(strings.Repeat("a", 100*g)), eps: eps, shared: true}
					run(t, p, c)
					track(p, c.req, eps[(g+i)%len(eps)])
				}
			})
		}
		wg.Wait()
	})
}

// track plays the life of a request for a plugin that tracks.
func track(plugin any, req *types.Request, ep *types.Endpoint) {
	if tr, ok := plugin.(scheduling.Tracker); ok {
		tr.Picked(req, ep)
		tr.FirstToken(req, ep)
		tr.Finished(req, ep, types.Outcome{Status: 200})
	}
	if f, ok := plugin.(scheduling.Forgetter); ok {
		f.Forget(ep)
	}
}

// input is one call's input.
type input struct {
	name   string
	req    *types.Request
	eps    []*types.Endpoint
	shared bool // by several goroutines: counters may move, do not compare
}

func inputs() []input {
	var cs []input
	for _, n := range []int{0, 1, 2, 3, 17, 100} {
		cs = append(cs, input{name: fmt.Sprintf("fleet of %d", n), req: Request(strings.Repeat("once upon a time ", 200)), eps: Fleet(n)})
	}
	unread := []*types.Endpoint{Endpoint("a", Unread()), Endpoint("b", Unread())}
	noLedger := []*types.Endpoint{{ID: "a"}, {ID: "b"}}
	equal := []*types.Endpoint{Endpoint("a"), Endpoint("b"), Endpoint("c")}
	cs = append(cs,
		input{name: "nothing known", req: Request("hello"), eps: unread},
		input{name: "no ledger", req: Request("hello"), eps: noLedger},
		input{name: "all equal", req: Request("hello"), eps: equal},
		input{name: "empty request", req: new(types.Request), eps: Fleet(5)},
	)
	for _, priority := range []int{types.PrioritySheddable, types.PriorityCritical} {
		req := Request("hello")
		req.Priority, req.TargetModel = priority, "adapter-a"
		cs = append(cs, input{name: fmt.Sprintf("priority %d", priority), req: req, eps: Fleet(9)})
	}
	for i := range cs {
		cs[i].req.Rand = types.NewRand(42)
		cs[i].req.Now = time.Now()
		cs[i].req.StaleBefore = cs[i].req.Now.Add(-time.Minute)
	}
	return cs
}

// clone returns the same input with a request of its own, so that what a plugin
// leaves in it does not reach another.
func (c input) clone() input {
	req := *c.req
	c.req = &req
	return c
}

func (c input) reversed() input {
	c = c.clone()
	eps := make([]*types.Endpoint, 0, len(c.eps))
	for i := len(c.eps) - 1; i >= 0; i-- {
		eps = append(eps, c.eps[i])
	}
	c.eps = eps
	return c
}

// unchanged runs f and checks that the endpoints and what the request says are as
// before.
func (c input) unchanged(t *testing.T, f func()) {
	if c.shared {
		f()
		return
	}
	eps := append([]*types.Endpoint(nil), c.eps...)
	values := make([]types.Endpoint, len(eps))
	for i, ep := range eps {
		values[i] = *ep
	}
	req := plainly(c.req)
	f()
	for i, ep := range c.eps {
		if ep != eps[i] {
			t.Errorf("%s: the list of endpoints was changed at %d", c.name, i)
		} else if !reflect.DeepEqual(*ep, values[i]) {
			t.Errorf("%s: endpoint %s was changed", c.name, ep.ID)
		}
	}
	if now := plainly(c.req); !reflect.DeepEqual(req, now) {
		t.Errorf("%s: the request was changed", c.name)
	}
}

// plainly returns a copy of req without what plugins may change.
func plainly(req *types.Request) types.Request {
	c := *req
	c.Attrs, c.Rand = types.Attrs{}, types.Rand{}
	c.Body = append([]byte(nil), c.Body...)
	return c
}
