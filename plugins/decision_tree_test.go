package plugins_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// pod is one server as version 0.3 saw it.
type pod struct {
	id     string
	queue  int
	kv     float64
	active map[string]bool // adapters, running or waiting
	max    int
}

// tree03 is the filter tree of version 0.3, spelt out: the IDs of the survivors,
// or false if the request is dropped. stay says how the LoRA draw turns out.
func tree03(pods []pod, critical bool, target string, stay bool) (string, bool) {
	where := func(in []pod, ok func(pod) bool) (out []pod) {
		for _, p := range in {
			if ok(p) {
				out = append(out, p)
			}
		}
		return out
	}
	leastQueue := func(in []pod) []pod {
		lo, hi := math.MaxInt, 0
		for _, p := range in {
			lo, hi = min(lo, p.queue), max(hi, p.queue)
		}
		return where(in, func(p pod) bool { return p.queue >= lo && p.queue <= lo+(hi-lo)/len(in) })
	}
	leastKV := func(in []pod) []pod {
		lo, hi := math.MaxFloat64, 0.0
		for _, p := range in {
			lo, hi = min(lo, p.kv), max(hi, p.kv)
		}
		return where(in, func(p pod) bool { return p.kv >= lo && p.kv <= lo+(hi-lo)/float64(len(in)) })
	}
	lora := func(in []pod) []pod {
		have := where(in, func(p pod) bool { return p.active[target] })
		free := where(in, func(p pod) bool { return !p.active[target] && len(p.active) < p.max })
		switch {
		case len(have) > 0 && (len(free) == 0 || stay):
			return have
		case len(free) > 0:
			return free
		}
		return in // the filter failed: the original set goes on
	}
	var left []pod
	if critical {
		if low := where(pods, func(p pod) bool { return p.queue < 128 }); len(low) > 0 {
			left = leastKV(leastQueue(lora(low)))
		} else {
			left = leastKV(lora(leastQueue(pods)))
		}
	} else {
		room := where(pods, func(p pod) bool { return p.queue <= 5 && p.kv <= .8 })
		if len(room) == 0 {
			return "", false
		}
		left = leastKV(lora(leastQueue(room)))
	}
	var ids []string
	for _, p := range left {
		ids = append(ids, p.id)
	}
	return strings.Join(ids, " "), true
}

// randomPods returns up to 12 pods and the same as endpoints. crowded says how
// long the queues are.
func randomPods(rnd *types.Rand, crowded int) ([]pod, []*types.Endpoint) {
	pods := make([]pod, 1+rnd.IntN(12))
	eps := make([]*types.Endpoint, len(pods))
	for i := range pods {
		p := pod{id: fmt.Sprintf("ep-%d", i), queue: rnd.IntN(1 + rnd.IntN(crowded)), kv: float64(rnd.IntN(21)) / 20, active: map[string]bool{}, max: rnd.IntN(4)}
		if crowded > 500 && rnd.IntN(8) > 0 {
			p.queue += 128
		}
		eps[i] = schedulingtest.Endpoint(p.id, waiting(float64(p.queue)), kv(p.kv), adapters(p.max))
		for _, a := range []string{"tuned", "x", "y"} {
			if rnd.IntN(3) == 0 && len(p.active) < p.max {
				p.active[a] = true
				// Running, waiting, or both at once.
				n := rnd.IntN(3)
				if n != 1 {
					eps[i].Metrics.RunningAdapters = append(eps[i].Metrics.RunningAdapters, a)
				}
				if n != 0 {
					eps[i].Metrics.WaitingAdapters = append(eps[i].Metrics.WaitingAdapters, a)
				}
			}
		}
		pods[i] = p
	}
	return pods, eps
}

// withAffinity returns the tree of DecisionTree with another chance to stay, so
// that the draw is certain.
func withAffinity(affinity float64) *plugins.Tree {
	tree := plugins.DecisionTree().Filters[4].Filter.(*plugins.Tree)
	seen := map[*plugins.Tree]bool{}
	var walk func(*plugins.Tree)
	walk = func(n *plugins.Tree) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		if _, ok := n.Rule.(plugins.LoRASoftAffinity); ok {
			n.Rule = plugins.LoRASoftAffinity{Affinity: affinity}
		}
		walk(n.OnSuccess)
		walk(n.OnFailure)
	}
	walk(tree)
	return tree
}

// TestDecisionTreeEqualsReference compares the survivors with those of the tree
// spelt out above, for the two classes that version 0.3 treats as we do.
func TestDecisionTreeEqualsReference(t *testing.T) {
	type variant struct {
		name   string
		tree   *plugins.Tree
		allows []bool // outcomes of the draw
	}
	variants := []variant{
		{"stays", withAffinity(1), []bool{true}},
		{"leaves", withAffinity(1e-12), []bool{false}},
		{"default", plugins.DecisionTree().Filters[4].Filter.(*plugins.Tree), []bool{true, false}},
	}
	dropped, kept := 0, 0
	for seed := range uint64(3000) {
		rnd := types.NewRand(seed)
		pods, eps := randomPods(&rnd, []int{5, 12, 300, 1000}[seed%4])
		for _, v := range variants {
			for _, priority := range []int{types.PriorityCritical, types.PrioritySheddable} {
				req := at(schedulingtest.Request("hello"))
				req.TargetModel, req.Priority, req.Rand = "tuned", priority, types.NewRand(seed)
				keep := slices.Repeat([]bool{true}, len(eps))
				err := v.tree.Filter(ctx, req, eps, keep)
				var ids []string
				for i, k := range keep {
					if k {
						ids = append(ids, eps[i].ID)
					}
				}
				got, ok := strings.Join(ids, " "), false
				var want string
				for _, stay := range v.allows {
					survivors, served := tree03(pods, priority == types.PriorityCritical, "tuned", stay)
					want = fmt.Sprintf("%q, served %v", survivors, served)
					ok = ok || served == (err == nil) && survivors == got
				}
				if !ok || err != nil && !errors.Is(err, scheduling.ErrSaturated) {
					t.Fatalf("seed %d, priority %d, %s: Filter keeps %q, %v; want %s of\n%+v", seed, priority, v.name, got, err, want, pods)
				}
				if err != nil {
					dropped++
				} else {
					kept++
				}
			}
		}
	}
	if dropped < 100 || kept < 100 {
		t.Errorf("%d dropped and %d kept: the fleets do not test both", dropped, kept)
	}
}

// TestTrapStandardBehavesAsSheddable: the three classes behave in three ways.
func TestTrapStandardBehavesAsSheddable(t *testing.T) {
	classes := []int{types.PriorityCritical, types.PriorityStandard, types.PrioritySheddable}
	tests := []struct {
		name string
		eps  []*types.Endpoint
		want []string // survivors for each class; "429": shed
	}{
		// The adapter is on the busier one: Critical looks for it first, the others
		// for the least queue among those with room.
		{"room", made(options{waiting(1), adapters(1)}, options{waiting(4), adapters(1, "tuned")}, options{waiting(20), adapters(1, "tuned")}), []string{"b", "a", "a"}},
		{"some have room", made(options{waiting(10)}, options{waiting(5), kv(.8)}, options{waiting(0), kv(.9)}), []string{"c", "b", "b"}},
		{"saturated", made(options{waiting(30)}, options{waiting(20)}), []string{"b", "b", "429"}},
		{"no KV room", made(options{kv(.95)}, options{kv(.9)}), []string{"b", "b", "429"}},
		{"one far beyond saturation", made(options{waiting(127)}, options{waiting(128)}), []string{"a", "a", "429"}},
		{"all far beyond saturation", made(options{waiting(300)}, options{waiting(128)}), []string{"b", "429", "429"}},
		{"nothing known", made(options{unread}, options{unread}), []string{"a b", "a b", "a b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustNew(t, seeded(plugins.DecisionTree()))
			for i, priority := range classes {
				req := schedulingtest.Request("hello")
				req.Priority, req.TargetModel = priority, "tuned"
				ex, err := s.Explain(ctx, req, tt.eps)
				var left []string
				for _, c := range ex.Candidates {
					if c.FilteredBy == "" {
						left = append(left, c.ID)
					}
				}
				got := strings.Join(left, " ")
				if errors.Is(err, scheduling.ErrSaturated) {
					got = "429"
				} else if err != nil {
					t.Fatal(err)
				}
				if got != tt.want[i] {
					t.Errorf("priority %d goes to %q, want %q", priority, got, tt.want[i])
				}
			}
		})
	}
}

// TestDecisionTreePicksAnySurvivor: the choice among the survivors is uniform.
func TestDecisionTreePicksAnySurvivor(t *testing.T) {
	s, c := mustNew(t, seeded(plugins.DecisionTree())), counts{}
	eps := made(options{}, options{waiting(50)}, options{}, options{kv(.7)}, options{})
	for range 3000 {
		d := mustSchedule(t, s, schedulingtest.Request("hello"), eps)
		c[d.Endpoint.ID]++
		d.Done(types.Outcome{Status: 200})
	}
	for _, id := range []string{"a", "c", "e"} {
		if n := c[id]; n < 850 || n > 1150 {
			t.Errorf("%s was chosen %d times of 3000: %v", id, n, c)
		}
	}
	if c["b"]+c["d"] > 0 {
		t.Errorf("filtered endpoints were chosen: %v", c)
	}
}

// TestLoRASoftAffinityLeavesSometimes: the chance to spread is what it says.
func TestLoRASoftAffinityLeavesSometimes(t *testing.T) {
	eps := made(options{adapters(2, "tuned")}, options{adapters(2)})
	for _, affinity := range []float64{.25, .9, 1} {
		stayed := 0
		for seed := range uint64(8000) {
			req := schedulingtest.Request("hello")
			req.TargetModel, req.Rand = "tuned", types.NewRand(seed)
			got := schedulingtest.Filter(t, plugins.LoRASoftAffinity{Affinity: affinity}, req, eps...)
			if len(got) != 1 {
				t.Fatalf("Filter keeps %v, want one side", got)
			}
			if got[0] == "a" {
				stayed++
			}
		}
		if share := float64(stayed) / 8000; math.Abs(share-affinity) > .025 {
			t.Errorf("affinity %v: stays with share %.3f", affinity, share)
		}
	}
}
