package plugins_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// serving returns an endpoint that lists these models; "?" alone: they are not known.
func serving(id string, slot uint32, names ...string) *types.Endpoint {
	ep := types.NewEndpoint(id, "")
	ep.Slot, ep.Models = slot, append([]string{}, names...)
	if len(names) == 1 && names[0] == "?" {
		ep.Models = nil
	}
	return ep
}

func asking(target string) *types.Request {
	req := at(schedulingtest.Request("hello"))
	req.Model, req.TargetModel = "public", target
	return req
}

func TestModelServed(t *testing.T) {
	adapter := func(ep *types.Endpoint, m types.Metrics) *types.Endpoint {
		slot := ep.Slot
		ep = ep.WithMetrics(m)
		ep.Slot = slot
		return ep
	}
	resident := types.Metrics{MaxAdapters: types.Known(4), RunningAdapters: []string{"x"}}
	queued := types.Metrics{MaxAdapters: types.Known(4), WaitingAdapters: []string{"x"}}
	for _, tt := range []struct {
		name string
		eps  []*types.Endpoint
		want string
	}{
		{"nothing known", []*types.Endpoint{serving("a", 0, "?"), serving("b", 1, "?")}, "a b"},
		{"one lists it", []*types.Endpoint{serving("a", 0, "base", "x"), serving("b", 1, "base")}, "a"},
		{"one does not, others are not known", []*types.Endpoint{serving("a", 0, "base"), serving("b", 1, "?")}, "a b"},
		{"listed, not listed, not known", []*types.Endpoint{serving("a", 0, "x"), serving("b", 1, "y"), serving("c", 2, "?")}, "a c"},
		{"nobody lists it", []*types.Endpoint{serving("a", 0, "base"), serving("b", 1, "other")}, "a b"},
		{"none is not the same as not known", []*types.Endpoint{serving("a", 0, "x"), serving("b", 1)}, "a"},
		{"all list it", []*types.Endpoint{serving("a", 0, "x"), serving("b", 1, "y", "x")}, "a b"},
		{"a beginning of a name is none", []*types.Endpoint{serving("a", 0, "x"), serving("b", 1, "xx"), serving("c", 2, "X")}, "a"},
		{"an adapter in use", []*types.Endpoint{adapter(serving("a", 0, "base"), resident), serving("b", 1, "base")}, "a"},
		{"an adapter that waits", []*types.Endpoint{adapter(serving("a", 0, "base"), queued), serving("b", 1, "base")}, "a"},
		{"in use where models are not known", []*types.Endpoint{adapter(serving("a", 0, "?"), resident), serving("b", 1, "base"), serving("c", 2, "?")}, "a c"},
		{"adapters are not reported", []*types.Endpoint{adapter(serving("a", 0, "base"), types.Metrics{RunningAdapters: []string{"x"}}), serving("b", 1, "base")}, "a b"},
		{"all of the same slot", []*types.Endpoint{serving("a", 0, "x"), serving("b", 0, "y"), serving("c", 0, "z", "x")}, "a c"},
		{"a slot out of bounds", []*types.Endpoint{serving("a", 1<<31, "x"), serving("b", 1<<30, "y")}, "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := new(plugins.ModelServed)
			for i := range 4 { // the first times nothing is remembered
				if got := strings.Join(schedulingtest.Filter(t, f, asking("x"), tt.eps...), " "); got != tt.want {
					t.Errorf("call %d: Filter keeps %q, want %q", i+1, got, tt.want)
				}
				c := f.Constraint(asking("x"), tt.eps)
				var match []string
				for _, ep := range tt.eps {
					if c.Match == nil || c.Match(ep) {
						match = append(match, ep.ID)
					}
				}
				if got := strings.Join(match, " "); got != tt.want {
					t.Errorf("call %d: Constraint matches %q, want %q", i+1, got, tt.want)
				}
				if c.Match != nil && (c.Preferred || c.Name == "") {
					t.Errorf("Constraint = %+v, want one with a name that must be kept", c)
				}
			}
		})
	}
}

// TestModelServedChanges: what is remembered never outlives the lists.
func TestModelServedChanges(t *testing.T) {
	f := new(plugins.ModelServed)
	names := func(n int) []string {
		var list []string
		for i := range 3 {
			list = append(list, fmt.Sprint("m", (n+i)%7))
		}
		return list
	}
	for round := range 200 {
		var eps []*types.Endpoint
		for i := range 5 + round%9 { // the fleet grows, too
			eps = append(eps, serving(fmt.Sprint(i), uint32(i), names(round*i)...))
		}
		for n := range 7 {
			target := fmt.Sprint("m", n)
			var want []string
			for i, ep := range eps {
				if strings.Contains(strings.Join(names(round*i), " "), target) {
					want = append(want, ep.ID)
				}
			}
			for range 2 {
				got := schedulingtest.Filter(t, f, asking(target), eps...)
				if len(want) > 0 && strings.Join(got, " ") != strings.Join(want, " ") {
					t.Fatalf("round %d: %s is at %v, want %v", round, target, got, want)
				}
			}
		}
		for n := range 100 { // names that somebody invents, again and again
			for range n % 3 {
				schedulingtest.Filter(t, f, asking(fmt.Sprint("invented ", n)), eps...)
			}
		}
	}
}

func TestModelServedTargets(t *testing.T) {
	f, eps := new(plugins.ModelServed), []*types.Endpoint{serving("a", 0, "public"), serving("b", 1, "x")}
	if got := schedulingtest.Filter(t, f, asking(""), eps...); len(got) != 1 || got[0] != "a" {
		t.Errorf("without a target Filter keeps %v, want that of the public name", got)
	}
	for i, want := range []string{"does not list the model", "serves the model", "models not known"} {
		ep := append(eps, serving("c", 2, "?"))[i]
		require.Equal(t, want, f.Describe(asking("x"), ep), "Describe(%s)", ep.ID)
	}
}

// TestModelServedAllocations: lists that stay are not searched again, and nothing is
// allocated.
func TestModelServedAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	f, eps := new(plugins.ModelServed), manyModels(1000, 50)
	keep, req := make([]bool, len(eps)), asking("model-with-a-long-name-0042")
	if n := testing.AllocsPerRun(100, func() { _ = f.Filter(ctx, req, eps, keep) }); n > 0 {
		t.Errorf("Filter allocates %v times, want 0", n)
	}
}

func manyModels(n, names int) []*types.Endpoint {
	eps := idle(n)
	for i, ep := range eps {
		for k := range names {
			ep.Models = append(ep.Models, fmt.Sprintf("model-with-a-long-name-%04d", i%7+k))
		}
	}
	return eps
}

// BenchmarkModelServed is one call of Filter at 1,000 endpoints that list 50 models each.
func BenchmarkModelServed(b *testing.B) {
	eps := manyModels(1000, 50)
	keep := make([]bool, len(eps))
	for _, target := range []string{"model-with-a-long-name-0042", "model-with-a-long-name-9999"} {
		b.Run("target="+target, func(b *testing.B) {
			f, req := new(plugins.ModelServed), asking(target)
			b.ReportAllocs()
			for b.Loop() {
				_ = f.Filter(ctx, req, eps, keep)
			}
		})
	}
}

// TestTrapModelServedEverywhere: every ready-made profile keeps requests from servers that
// do not have their model, and from engines that sleep.
func TestTrapModelServedEverywhere(t *testing.T) {
	for name, p := range map[string]scheduling.Profile{
		"Default": plugins.Default(), "Classic": plugins.Classic(), "ClassicWithInFlight": plugins.ClassicWithInFlight(),
		"LeastRequests": plugins.LeastRequests(), "RoundRobin": plugins.RoundRobinProfile(), "Random": plugins.RandomProfile(),
		"DecisionTree": plugins.DecisionTree(),
	} {
		s := mustNew(t, seeded(p))
		eps := []*types.Endpoint{serving("a", 0, "base"), serving("b", 1, "base", "x"), serving("c", 2, "base", "x").WithMetrics(types.Metrics{Awake: types.Known(0)})}
		for range 20 {
			d := mustSchedule(t, s, asking("x"), eps)
			if d.Endpoint.ID != "b" || len(d.Fallbacks) > 0 {
				t.Fatalf("%s: the request goes to %s with %d fallbacks, want b and none", name, d.Endpoint.ID, len(d.Fallbacks))
			}
			d.Done(served)
		}
		if c := s.Constraint(asking("x"), eps); c.Match == nil || c.Match(eps[0]) || !c.Match(eps[1]) {
			t.Errorf("%s: the room is not asked for where the model is", name)
		}
	}
}

func TestHealthyAsleep(t *testing.T) {
	awake := func(v types.Gauge) *types.Endpoint {
		return types.NewEndpoint("a", "").WithMetrics(types.Metrics{Awake: v})
	}
	for _, tt := range []struct {
		name string
		ep   *types.Endpoint
		keep bool
		says string
	}{
		{"not known", awake(types.Gauge{}), true, "ready"},
		{"awake", awake(types.Known(1)), true, "ready"},
		{"asleep", awake(types.Known(0)), false, "ready, asleep"},
	} {
		req := at(schedulingtest.Request("hello"))
		keep := []bool{true}
		_ = plugins.Healthy{}.Filter(ctx, req, []*types.Endpoint{tt.ep}, keep)
		if says := (plugins.Healthy{}).Describe(req, tt.ep); keep[0] != tt.keep || says != tt.says {
			t.Errorf("%s: kept %v as %q, want %v as %q", tt.name, keep[0], says, tt.keep, tt.says)
		}
	}
}
