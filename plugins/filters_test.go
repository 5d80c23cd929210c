package plugins_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func expression(op string, optional bool, values ...string) plugins.Labels {
	return plugins.Labels{Expressions: []plugins.LabelExpression{{Key: "zone", Operator: op, Values: values, Optional: optional}}}
}

func rule(attribute string, r plugins.AttributeRule) plugins.AttributeFilter {
	return plugins.AttributeFilter{Attribute: attribute, Algorithm: r}
}

func TestFilters(t *testing.T) {
	state := schedulingtest.InState
	label := schedulingtest.Label
	zone := plugins.Labels{Match: map[string]string{"zone": "1", "tier": "gold"}}
	tests := []struct {
		name   string
		filter scheduling.Filter
		eps    []*types.Endpoint
		want   string
	}{
		{"healthy: ready only", plugins.Healthy{}, made(options{}, options{state(types.Draining)}, options{state(types.Unhealthy)}, options{unread}), "a d"},
		{"healthy: none", plugins.Healthy{}, made(options{state(types.Unhealthy)}), ""},

		{"fresh: stale goes", plugins.Fresh{}, made(options{}, options{age(time.Hour)}, options{}), "a c"},
		{"fresh: never read stays", plugins.Fresh{}, made(options{unread}, options{age(time.Hour)}), "a"},
		{"fresh: all stale, all stay", plugins.Fresh{}, made(options{age(time.Hour)}, options{age(2 * time.Hour)}), "a b"},
		{"fresh: one stale alone", plugins.Fresh{}, made(options{age(time.Hour)}), "a"},

		{"labels: all must match", zone, made(options{label("zone", "1"), label("tier", "gold")}, options{label("zone", "1")}, options{label("zone", "2"), label("tier", "gold")}, options{}), "a"},
		{"labels: empty value is not absence", plugins.Labels{Match: map[string]string{"zone": ""}}, made(options{label("zone", "")}, options{}), "a"},
		{"labels: no match asked", plugins.Labels{}, made(options{}, options{label("zone", "2")}), "a b"},

		{"labels: In", expression(plugins.OpIn, false, "1", "2"), made(options{label("zone", "1")}, options{label("zone", "3")}, options{}, options{label("zone", "2")}), "a d"},
		{"labels: In, optional", expression(plugins.OpIn, true, "1"), made(options{label("zone", "1")}, options{label("zone", "")}, options{label("tier", "1")}), "a c"},
		{"labels: NotIn takes those without", expression(plugins.OpNotIn, false, "1"), made(options{label("zone", "1")}, options{label("zone", "3")}, options{}), "b c"},
		{"labels: Exists", expression(plugins.OpExists, false), made(options{label("zone", "")}, options{}), "a"},
		{"labels: DoesNotExist", expression(plugins.OpDoesNotExist, false), made(options{label("zone", "")}, options{}), "b"},
		{"labels: all of both", plugins.Labels{Match: map[string]string{"tier": "gold"}, Expressions: expression(plugins.OpIn, false, "1").Expressions}, made(options{label("zone", "1")}, options{label("tier", "gold")}, options{label("zone", "1"), label("tier", "gold")}), "c"},

		{"attribute: less than", rule("running", plugins.AttributeRule{Type: "threshold", Threshold: &plugins.ThresholdRule{Operator: "LessThan", Value: 10}}), made(options{running(9)}, options{running(10)}, options{unread}), "a c"},
		{"attribute: at most", rule("running", plugins.AttributeRule{Type: "threshold", Threshold: &plugins.ThresholdRule{Operator: "LessThanOrEqual", Value: 10}}), made(options{running(9)}, options{running(10)}, options{running(11)}), "a b"},
		{"attribute: missing fails", plugins.AttributeFilter{Attribute: "running", OnMissing: "Fail", Algorithm: plugins.AttributeRule{Type: "range", Range: &plugins.FixedRange{Min: 2, Max: 4}}}, made(options{running(2)}, options{running(4)}, options{running(5)}, options{unread}), "a b"},
		{"attribute: nobody", rule("running", plugins.AttributeRule{Type: "range", Range: &plugins.FixedRange{Min: 2, Max: 4}}), made(options{running(1)}), ""},
		{"attribute: nobody, so everybody", plugins.AttributeFilter{Attribute: "running", FallbackOnEmpty: true, Algorithm: plugins.AttributeRule{Type: "range", Range: &plugins.FixedRange{Min: 2, Max: 4}}}, made(options{running(1)}, options{running(7)}), "a b"},
		{"attribute: the two highest", rule("waiting", plugins.AttributeRule{Type: "topK", TopK: &plugins.TopKRule{K: 2}}), made(options{waiting(3)}, options{waiting(1)}, options{waiting(4)}, options{waiting(2)}), "a c"},
		{"attribute: the two lowest", rule("waiting", plugins.AttributeRule{Type: "topK", TopK: &plugins.TopKRule{K: 2, HigherIsBetter: new(false)}}), made(options{waiting(3)}, options{waiting(1)}, options{waiting(2)}, options{unread}), "b c d"},
		{"attribute: more than there are", rule("waiting", plugins.AttributeRule{Type: "topK", TopK: &plugins.TopKRule{K: 9}}), made(options{waiting(3)}, options{waiting(1)}), "a b"},
		// ceil(25/100·4) is the first.
		{"attribute: lowest quarter", rule("waiting", plugins.AttributeRule{Type: "percentile", Percentile: &plugins.PercentileRule{Percentile: 25, HigherIsBetter: new(false)}}), made(options{waiting(3)}, options{waiting(1)}, options{waiting(2)}, options{waiting(1)}), "b d"},
		{"attribute: above the median", rule("waiting", plugins.AttributeRule{Type: "percentile", Percentile: &plugins.PercentileRule{Percentile: 50}}), made(options{waiting(3)}, options{waiting(1)}, options{waiting(2)}, options{waiting(4)}), "a c d"},
		{"attribute: percentile 0 keeps all above the least", rule("waiting", plugins.AttributeRule{Type: "percentile", Percentile: &plugins.PercentileRule{}}), made(options{waiting(3)}, options{waiting(1)}), "a b"},
		{"attribute: percentile of nothing", rule("waiting", plugins.AttributeRule{Type: "percentile", Percentile: &plugins.PercentileRule{}}), made(options{unread}), "a"},

		{"capacity: at the thresholds", plugins.HasCapacity{}, made(options{waiting(5), kv(.8)}, options{waiting(6), kv(.8)}, options{waiting(5), kv(.81)}), "a"},
		{"capacity: own thresholds", plugins.HasCapacity{Room: plugins.Room{MaxQueue: 1, MaxKVUsage: .5}}, made(options{waiting(2)}, options{kv(.6)}, options{waiting(1), kv(.5)}), "c"},
		{"capacity: one figure unknown", plugins.HasCapacity{}, made(options{noKV, waiting(5)}, options{noKV, waiting(6)}, options{noWaiting, kv(.8)}, options{noWaiting, kv(.9)}), "a c"},
		{"capacity: unknown is not room", plugins.HasCapacity{}, made(options{unread}, options{waiting(1)}, options{age(time.Hour)}), "b"},
		{"capacity: nothing known at all", plugins.HasCapacity{}, made(options{unread}, options{age(time.Hour)}), "a b"},

		{"adapter: running or waiting", plugins.AdapterPresent{}, made(options{adapters(2, "tuned")}, options{adapters(2, "x"), queued("tuned")}, options{adapters(2, "x")}, options{}), "a b"},
		{"adapter: nobody has it", plugins.AdapterPresent{}, made(options{adapters(2, "x")}, options{}), "a b"},
		{"adapter: stale does not count", plugins.AdapterPresent{}, made(options{adapters(2, "tuned"), age(time.Hour)}, options{adapters(2, "tuned")}), "b"},

		{"low queue: below 128", plugins.LowQueue{}, made(options{waiting(127)}, options{waiting(128)}, options{noWaiting}), "a"},
		{"low queue: own bound", plugins.LowQueue{Below: 3}, made(options{waiting(2)}, options{waiting(3)}), "a"},
		{"low queue: none", plugins.LowQueue{}, made(options{waiting(500)}, options{unread}), ""},
		{"low queue: nothing known", plugins.LowQueue{}, made(options{unread}, options{noWaiting}), "a b"},

		// (9-2)/3 is 2 in whole numbers: up to 4.
		{"least queue: integer division", plugins.LeastQueue{}, made(options{waiting(2)}, options{waiting(9)}, options{waiting(4)}), "a c"},
		{"least queue: 4.3 would be too much", plugins.LeastQueue{}, made(options{waiting(2)}, options{waiting(9)}, options{waiting(4.3)}), "a"},
		{"least queue: less than n apart", plugins.LeastQueue{}, made(options{waiting(2)}, options{waiting(4)}, options{waiting(3)}), "a"},
		{"least queue: all equal", plugins.LeastQueue{}, made(options{waiting(3)}, options{waiting(3)}), "a b"},
		{"least queue: one endpoint", plugins.LeastQueue{}, made(options{waiting(300)}), "a"},
		{"least queue: unknown loses to known", plugins.LeastQueue{}, made(options{waiting(30)}, options{unread}), "a"},
		{"least queue: unknown counts in n", plugins.LeastQueue{}, made(options{waiting(0)}, options{waiting(12)}, options{waiting(4)}, options{unread}), "a"},
		{"least queue: nothing known", plugins.LeastQueue{}, made(options{unread}, options{unread}), "a b"},

		{"least kv: min + (max-min)/n", plugins.LeastKV{}, made(options{kv(.25)}, options{kv(1)}, options{kv(.5)}, options{kv(.4375)}), "a d"},
		{"least kv: all equal", plugins.LeastKV{}, made(options{kv(.5)}, options{kv(.5)}), "a b"},
		{"least kv: one endpoint", plugins.LeastKV{}, made(options{kv(1)}), "a"},
		{"least kv: unknown and stale lose to known", plugins.LeastKV{}, made(options{noKV}, options{kv(0), age(time.Hour)}, options{kv(.9)}), "c"},
		{"least kv: nothing known", plugins.LeastKV{}, made(options{unread}, options{noKV}), "a b"},

		{"lora: who has it", plugins.LoRASoftAffinity{Affinity: 1}, made(options{adapters(2, "tuned")}, options{adapters(2, "x")}, options{adapters(2), queued("tuned")}), "a c"},
		{"lora: nobody has it, free slots", plugins.LoRASoftAffinity{}, made(options{adapters(2, "x")}, options{adapters(1, "x")}, options{}), "a"},
		{"lora: only those who have it", plugins.LoRASoftAffinity{Affinity: 1e-12}, made(options{adapters(1, "tuned")}, options{adapters(1, "x")}), "a"},
		{"lora: rarely, those with a free slot", plugins.LoRASoftAffinity{Affinity: 1e-12}, made(options{adapters(4, "tuned")}, options{adapters(2, "x")}, options{adapters(1, "x")}), "b"},
		{"lora: neither", plugins.LoRASoftAffinity{}, made(options{adapters(1, "x")}, options{}), ""},
		{"lora: in use both ways takes one slot", plugins.LoRASoftAffinity{}, made(options{adapters(2, "x"), queued("x")}, options{adapters(2, "x"), queued("y")}), "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := at(schedulingtest.Request("hello"))
			req.TargetModel = "tuned"
			if got := strings.Join(schedulingtest.Filter(t, tt.filter, req, tt.eps...), " "); got != tt.want {
				t.Errorf("Filter keeps %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHasCapacitySaturated(t *testing.T) {
	eps := made(options{waiting(6)}, options{kv(.81)}, options{unread})
	keep := []bool{true, true, true}
	err := plugins.HasCapacity{}.Filter(ctx, at(schedulingtest.Request("hello")), eps, keep)
	if !errors.Is(err, scheduling.ErrSaturated) || !strings.Contains(err.Error(), "none of 3 endpoints has at most 5 waiting and at most 0.8") {
		t.Errorf("Filter: %v, want ErrSaturated with the thresholds", err)
	}
}

func TestShed(t *testing.T) {
	const critical, standard, sheddable = types.PriorityCritical, types.PriorityStandard, types.PrioritySheddable
	full := options{waiting(6), kv(.5)}
	hot := options{waiting(0), kv(.9)}
	far := options{waiting(129), kv(.5)}
	tests := []struct {
		name string
		f    plugins.Shed
		eps  []*types.Endpoint
		shed []int // the priorities that are shed
	}{
		{"idle", plugins.Shed{}, made(options{}, options{}), nil},
		{"one has room", plugins.Shed{}, made(full, hot, options{waiting(5), kv(.8)}), nil},
		{"full", plugins.Shed{}, made(full, full), []int{sheddable, -1}},
		{"no KV room", plugins.Shed{}, made(hot, hot), []int{sheddable, -1}},
		{"full one way or the other", plugins.Shed{}, made(hot, full), []int{sheddable, -1}},
		{"at the hard queue", plugins.Shed{}, made(far, options{waiting(128)}), []int{sheddable, -1}},
		{"beyond the hard queue", plugins.Shed{}, made(far, far), []int{sheddable, -1, standard, 99}},
		{"own hard queue", plugins.Shed{HardQueue: 5}, made(full, full), []int{sheddable, -1, standard, 99}},
		{"own room", plugins.Shed{Room: plugins.Room{MaxQueue: 10, MaxKVUsage: 1}}, made(full, hot), nil},
		{"nothing known", plugins.Shed{}, made(options{unread}, options{age(time.Hour)}), nil},
		{"unknown is no room", plugins.Shed{}, made(options{unread}, full), []int{sheddable, -1}},
		{"unknown is no room beyond the hard queue", plugins.Shed{}, made(options{unread}, far), []int{sheddable, -1, standard, 99}},
		{"half known, with room", plugins.Shed{}, made(options{noKV, waiting(2)}, full), nil},
		{"half known, without", plugins.Shed{}, made(options{noKV, waiting(6)}), []int{sheddable, -1}},
		{"KV full does not shed standard", plugins.Shed{}, made(options{kv(1)}), []int{sheddable, -1}},
		{"KV full, queue unknown", plugins.Shed{}, made(options{kv(1), noWaiting}), []int{sheddable, -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, priority := range []int{critical + 1, critical, 99, standard, -1, sheddable} {
				req := at(schedulingtest.Request("hello"))
				req.Priority = priority
				keep := make([]bool, len(tt.eps))
				for i := range keep {
					keep[i] = true
				}
				err := tt.f.Filter(ctx, req, tt.eps, keep)
				if err != nil && !errors.Is(err, scheduling.ErrSaturated) {
					t.Errorf("priority %d: %v, want ErrSaturated", priority, err)
				}
				if got, want := err != nil, slices.Contains(tt.shed, priority); got != want {
					t.Errorf("priority %d: shed = %v (%v), want %v", priority, got, err, want)
				}
				if slices.Contains(keep, false) {
					t.Errorf("priority %d: keep = %v, want all", priority, keep)
				}
			}
		})
	}
}

// TestShedThroughScheduler: what a gateway sees of shedding.
func TestShedThroughScheduler(t *testing.T) {
	s := mustNew(t, plugins.Classic())
	eps := made(options{waiting(20)}, options{waiting(30)})
	req := schedulingtest.Request("hello")
	req.Priority = types.PrioritySheddable
	_, err := s.Schedule(ctx, req, eps)
	var pe *scheduling.PluginError
	if !errors.Is(err, scheduling.ErrSaturated) || !errors.As(err, &pe) || pe.Plugin != "shed" {
		t.Fatalf("Schedule: %v, want ErrSaturated of the filter named shed", err)
	}
	if want := "priority -100 is shed while all of 2 endpoints"; !strings.Contains(err.Error(), want) {
		t.Errorf("Schedule: %q, want %q in it", err, want)
	}
	for _, ep := range eps {
		if n := ep.Load.Requests(); n != 0 {
			t.Errorf("%s has %d requests booked after shedding", ep.ID, n)
		}
	}
	// Saturation is that of the endpoints the request could go to: an idle one
	// that drains is no room.
	eps = append(eps, schedulingtest.Endpoint("leaving", schedulingtest.InState(types.Draining)))
	if _, err := s.Schedule(ctx, req, eps); !errors.Is(err, scheduling.ErrSaturated) {
		t.Errorf("Schedule beside a draining endpoint: %v, want ErrSaturated", err)
	}
}

// keepOnly is a filter that keeps the endpoints named, of those it is given.
func keepOnly(ids string) scheduling.Filter {
	return scheduling.FilterFunc(func(_ context.Context, _ *types.Request, eps []*types.Endpoint, keep []bool) error {
		for i, ep := range eps {
			keep[i] = strings.Contains(ids, ep.ID)
		}
		return nil
	})
}

// TestTree checks the meaning of a node: success goes on with what was kept,
// failure (an error, or nobody) with what the node was given.
func TestTree(t *testing.T) {
	type node = plugins.Tree
	boom := errors.New("boom")
	fails := scheduling.FilterFunc(func(_ context.Context, _ *types.Request, _ []*types.Endpoint, keep []bool) error {
		clear(keep[1:]) // what a filter did before it failed does not count
		return boom
	})
	tests := []struct {
		name string
		tree *node
		want string
		err  error
	}{
		{"one node", &node{Rule: keepOnly("bd")}, "b d", nil},
		{"success narrows", &node{Rule: keepOnly("bcd"), OnSuccess: &node{Rule: keepOnly("abc"), OnSuccess: &node{Rule: keepOnly("c")}}}, "c", nil},
		{"success without a next ends", &node{Rule: keepOnly("b"), OnFailure: &node{Rule: keepOnly("a")}}, "b", nil},
		{"nobody kept is failure", &node{Rule: keepOnly(""), OnSuccess: &node{Rule: keepOnly("a")}, OnFailure: &node{Rule: keepOnly("ad")}}, "a d", nil},
		{"an error is failure", &node{Rule: fails, OnSuccess: &node{Rule: keepOnly("a")}, OnFailure: &node{Rule: keepOnly("ad")}}, "a d", nil},
		{"failure goes on with what the node was given", &node{Rule: keepOnly("bcd"), OnSuccess: &node{Rule: keepOnly("a"), OnFailure: &node{Rule: keepOnly("abc")}}}, "b c", nil},
		{"the last fails: nobody", &node{Rule: keepOnly("bcd"), OnSuccess: &node{Rule: keepOnly("a")}}, "", nil},
		{"the last fails with an error", &node{Rule: keepOnly("bcd"), OnSuccess: &node{Rule: fails}}, "", boom},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eps := made(options{}, options{}, options{}, options{})
			keep := []bool{true, true, true, true}
			err := tt.tree.Filter(ctx, schedulingtest.Request("hello"), eps, keep)
			require.ErrorIs(t, err, tt.err)
			var got []string
			for i, k := range keep {
				if k {
					got = append(got, eps[i].ID)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("Filter keeps %q, want %q", got, tt.want)
			}
		})
	}
}

// A filter that says that it keeps all of a list keeps all of it, and of each part.
func TestScreens(t *testing.T) {
	screeners := 0
	for _, f := range allFilters() {
		filter := f.make()
		s, ok := filter.(scheduling.Screener)
		if !ok {
			continue
		}
		screeners++
		for seed := range 200 {
			eps := schedulingtest.Fleet(1 + seed%3)
			req := at(schedulingtest.Request("hello"))
			req.StaleBefore = req.Now.Add(-time.Minute)
			o := scheduling.OverviewOf(eps)
			if !s.Screen(req, &o) {
				continue
			}
			for from := range eps {
				part := eps[from:]
				keep := slices.Repeat([]bool{true}, len(part))
				err := filter.Filter(ctx, req, part, keep)
				if err != nil || slices.Contains(keep, false) {
					t.Errorf("%s: Screen says that all are kept of %d endpoints, Filter gives %v, %v", f.name, len(part), keep, err)
				}
			}
		}
	}
	if screeners < 6 {
		t.Errorf("%d filters are Screeners, want 6: healthy, model-served, previous-answer, fresh, shed, ejection", screeners)
	}
}
