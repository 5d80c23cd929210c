package scheduling_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// only is a picker of one endpoint.
func only(i int) scheduling.Picker {
	return scheduling.PickerFunc(func(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
		return min(i, len(eps)-1), nil
	})
}

// TestRules: the first rule that is for a request counts, and the profile for those that
// none is for.
func TestRules(t *testing.T) {
	first := scheduling.Rule{Name: "first", When: func(r *types.Request) bool { return r.Priority > 0 }, Picker: only(1), Fallbacks: 1,
		Filters: []scheduling.Named{{Name: "both", Filter: scheduling.FilterFunc(func(_ context.Context, _ *types.Request, _ []*types.Endpoint, keep []bool) error {
			keep[2] = false
			return nil
		})}}}
	second := scheduling.Rule{Name: "second", When: func(r *types.Request) bool { return r.Priority > -5 }, Picker: only(2)}
	s, err := scheduling.New(scheduling.Profile{Picker: only(0), Fallbacks: 2, Rules: []scheduling.Rule{first, second}})
	require.NoError(t, err)
	eps := schedulingtest.Fleet(3)
	for _, tt := range []struct {
		priority, want, fallbacks int
		rule                      string
	}{{7, 1, 1, "first"}, {0, 2, 0, "second"}, {-5, 0, 2, ""}} {
		req := schedulingtest.Request("x")
		req.Priority = tt.priority
		ex, err := s.Explain(t.Context(), req, eps)
		require.NoError(t, err)
		require.Equal(t, tt.rule, ex.Rule)
		d, err := s.Schedule(t.Context(), req, eps)
		require.NoError(t, err)
		require.Same(t, eps[tt.want], d.Endpoint)
		require.Len(t, d.Fallbacks, tt.fallbacks)
		d.Done(types.Outcome{})
	}
}

// told counts what a tracker hears.
type told struct{ scheduling.Picker }

var heard = map[string]int{}

func (t *told) Picked(_ *types.Request, ep *types.Endpoint)             { heard["picked"]++ }
func (t *told) FirstToken(*types.Request, *types.Endpoint)              { heard["first"]++ }
func (t *told) Finished(*types.Request, *types.Endpoint, types.Outcome) { heard["finished"]++ }
func (t *told) Forget(*types.Endpoint)                                  { heard["forget"]++ }
func (t *told) Constraint(*types.Request, []*types.Endpoint) scheduling.Constraint {
	return scheduling.Constraint{Name: "none", Match: func(*types.Endpoint) bool { return false }}
}
func (t *told) Filter(context.Context, *types.Request, []*types.Endpoint, []bool) error { return nil }

// TestRulesShare: the plugins of a rule hear of all decisions, once, and constrain only
// the requests that the rule is for.
func TestRulesShare(t *testing.T) {
	p := &told{only(0)}
	s, err := scheduling.New(scheduling.Profile{Picker: only(0), Rules: []scheduling.Rule{{
		Name: "critical", When: func(r *types.Request) bool { return r.Priority > 0 }, Picker: p, Filters: []scheduling.Named{{Filter: p}},
	}}})
	require.NoError(t, err)
	eps := []*types.Endpoint{types.NewEndpoint("a", "10.0.0.1:80")}
	for _, priority := range []int{0, 1} {
		req := schedulingtest.Request("x")
		req.Priority = priority
		require.Equal(t, priority > 0, s.Constraint(req, eps).Match != nil)
		d, err := s.Schedule(t.Context(), req, eps)
		require.NoError(t, err)
		require.EqualValues(t, 1, eps[0].Load.Requests())
		d.FirstToken()
		d.Done(types.Outcome{})
	}
	s.Forget(eps[0])
	require.True(t, s.Constrains())
	require.Equal(t, map[string]int{"picked": 2, "first": 2, "finished": 2, "forget": 1}, heard)
}

func TestRuleThatPanics(t *testing.T) {
	var failed *scheduling.PluginError
	s, err := scheduling.New(scheduling.Profile{
		Picker: only(0), Rules: []scheduling.Rule{{Name: "bad", When: func(*types.Request) bool { panic("no") }, Picker: only(1)}},
		Hooks: scheduling.Hooks{PluginFailed: func(_ *types.Request, err *scheduling.PluginError) { failed = err }},
	})
	require.NoError(t, err)
	eps := schedulingtest.Fleet(2)
	d, err := s.Schedule(t.Context(), schedulingtest.Request("x"), eps)
	require.NoError(t, err)
	require.Same(t, eps[0], d.Endpoint)
	require.Equal(t, []string{"rule", "bad"}, []string{failed.Stage, failed.Plugin})
}

func TestRuleErrors(t *testing.T) {
	always := func(*types.Request) bool { return true }
	for want, rules := range map[string][]scheduling.Rule{
		"Rules[0] has no Name":            {{When: always, Picker: only(0)}},
		`rule "a" has no When`:            {{Name: "a", Picker: only(0)}},
		`rule "a": has no Picker`:         {{Name: "a", When: always}},
		`rule "a": field Fallbacks is 99`: {{Name: "a", When: always, Picker: only(0), Fallbacks: 99}},
		`rule "a": Filters[0] has no`:     {{Name: "a", When: always, Picker: only(0), Filters: []scheduling.Named{{}}}},
		`rule "a": scorer "x" has weigh`:  {{Name: "a", When: always, Picker: only(0), Scorers: []scheduling.Weighted{{Name: "x", Weight: -1, Scorer: scheduling.EachScorer(nil)}}}},
	} {
		_, err := scheduling.New(scheduling.Profile{Picker: only(0), Rules: rules})
		require.ErrorContains(t, err, want)
	}
}
