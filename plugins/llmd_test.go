package plugins_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// declared builds the one profile of a declaration, or returns what is wrong.
func declared(declarations, uses string) (scheduling.Profile, error) {
	profiles, err := plugins.NewRegistry().Load([]byte(declare(declarations, `{"name": "p", "plugins": [`+uses+`]}`)))
	return profiles["p"], err
}

// TestNoHitLRU: prompts that nobody has go to who got such a one longest ago, and those
// that somebody has do not count.
func TestNoHitLRU(t *testing.T) {
	p, err := declared(`{"type": "no-hit-lru-scorer"}, {"type": "prefix-cache-scorer"}, {"type": "max-score-picker"}`,
		`{"pluginRef": "no-hit-lru-scorer"}, {"pluginRef": "prefix-cache-scorer"}, {"pluginRef": "max-score-picker"}`)
	require.NoError(t, err)
	lru := p.Scorers[0].Scorer
	s := mustNew(t, seeded(p))
	eps := idle(4)
	send := func(topic string) string {
		d := mustSchedule(t, s, schedulingtest.Request(text(topic, 2000)), eps)
		d.FirstToken()
		d.Done(types.Outcome{Status: 200})
		return d.Endpoint.ID
	}
	// Nobody ever had one: it is drawn who comes first.
	scores := schedulingtest.Score(t, lru, schedulingtest.Request(text("x", 2000)), eps...)
	require.InDeltaSlice(t, []float64{0, 1. / 3, 2. / 3, 1}, slices.Sorted(slices.Values(scores)), 1e-9)

	first := []string{send("a"), send("b"), send("c"), send("d")}
	require.ElementsMatch(t, []string{"ep-0", "ep-1", "ep-2", "ep-3"}, first, "each gets one")
	require.Equal(t, first[0], send("e"))
	require.Equal(t, first[1], send("b"), "cached there")
	require.Equal(t, first[1], send("f"), "a prompt that was cached does not make it the latest")

	// In order of their last new prompt.
	by := map[string]*types.Endpoint{}
	for _, ep := range eps {
		by[ep.ID] = ep
	}
	eps = []*types.Endpoint{by[first[2]], by[first[3]], by[first[0]], by[first[1]]}
	scores = schedulingtest.Score(t, lru, schedulingtest.Request(text("g", 2000)), eps...)
	require.InDeltaSlice(t, []float64{1, 2. / 3, 1. / 3, 0}, scores, 1e-9)
	scores = schedulingtest.Score(t, lru, schedulingtest.Request(text("a", 2000)), eps...)
	require.Equal(t, []float64{.5, .5, .5, .5}, scores)
	s.Forget(eps[1])
	// Who never had one comes first; ranks count endpoints that are no candidates, too.
	scores = schedulingtest.Score(t, lru, schedulingtest.Request(text("g", 2000)), eps[2], eps[1])
	require.Equal(t, []float64{0, 1}, scores)
}

func TestNoHitLRUIsBounded(t *testing.T) {
	lru, err := plugins.NewNoHitLRU(plugins.NoHitOptions{LRUSize: 2}, nil)
	require.NoError(t, err)
	eps := idle(3)
	for _, ep := range eps {
		req := schedulingtest.Request("x")
		schedulingtest.Score(t, lru, req, eps...)
		lru.Picked(req, ep)
	}
	require.Equal(t, []float64{1, .5, 0}, schedulingtest.Score(t, lru, schedulingtest.Request("x"), eps...))
	_, err = plugins.NewNoHitLRU(plugins.NoHitOptions{LRUSize: -1}, nil)
	require.ErrorContains(t, err, "lruSize")
}

// TestPrefixAffinity: those that have the prompt are kept, unless they are much busier.
func TestPrefixAffinity(t *testing.T) {
	cache := mustPrefix(t, plugins.PrefixOptions{})
	eps := idle(3)
	req := func() *types.Request { return at(schedulingtest.Request(text("a", 2048))) }
	cache.Picked(req(), eps[1])
	owe := func(ep *types.Endpoint, tokens int64) func() {
		b := types.Booking{PrefillTokens: tokens}
		ep.Load.Book(b)
		return func() { ep.Load.Release(b) }
	}
	keeps := func(o plugins.AffinityOptions, req *types.Request) string {
		f, err := plugins.NewPrefixAffinity(o, cache)
		require.NoError(t, err)
		return strings.Join(schedulingtest.Filter(t, f, req, eps...), " ")
	}
	const all = "ep-0 ep-1 ep-2"
	require.Equal(t, "ep-1", keeps(plugins.AffinityOptions{}, req()))
	require.Equal(t, all, keeps(plugins.AffinityOptions{}, at(schedulingtest.Request(text("b", 2048)))), "nobody has it")
	require.Equal(t, all, keeps(plugins.AffinityOptions{Exploration: 1}, req()))
	half := at(schedulingtest.Request(text("a", 2048) + text("c", 2048)))
	require.Equal(t, all, keeps(plugins.AffinityOptions{}, half))
	require.Equal(t, "ep-1", keeps(plugins.AffinityOptions{Threshold: .5}, half))

	// 1000 tokens a second: 5001 tokens take 5001 ms.
	slow := plugins.AffinityOptions{PeakPrefillThroughput: 1000, MaxTTFTPenaltyMs: new(5000.)}
	release := owe(eps[1], 5000)
	require.Equal(t, "ep-1", keeps(slow, req()))
	owe(eps[1], 1)
	require.Equal(t, all, keeps(slow, req()))
	require.Equal(t, "ep-1", keeps(plugins.AffinityOptions{PeakPrefillThroughput: 1000, MaxTTFTPenaltyMs: new(0.)}, req()), "0: however long it takes")
	owe(eps[0], 2)
	owe(eps[2], 1)
	require.Equal(t, "ep-1", keeps(slow, req()), "elsewhere it takes a millisecond, too")
	release()

	for field, o := range map[string]plugins.AffinityOptions{
		"affinityThreshold": {Threshold: 1.5}, "explorationProbability": {Exploration: -1},
		"maxTTFTPenaltyMs": {MaxTTFTPenaltyMs: new(-1.)}, "peakPrefillThroughput": {PeakPrefillThroughput: -1},
	} {
		_, err := plugins.NewPrefixAffinity(o, nil)
		require.ErrorContains(t, err, field)
	}
}

// TestPrefixAffinityAlone: a declared filter learns without a scorer of the same profile,
// and several share one index with the scorer there is.
func TestPrefixAffinityAlone(t *testing.T) {
	for name, more := range map[string]string{"alone": "", "two": `, {"pluginRef": "second"}`, "with a scorer": `, {"pluginRef": "second"}, {"pluginRef": "prefix-cache-scorer"}`, "with a cost": `, {"pluginRef": "second"}, {"pluginRef": "latency-cost"}`} {
		t.Run(name, func(t *testing.T) {
			declarations := `{"type": "prefix-cache-affinity-filter"}, {"type": "prefix-cache-affinity-filter", "name": "second", "parameters": {"affinityThreshold": 0.5}}, {"type": "random-picker"}`
			if strings.Contains(more, "scorer") {
				declarations += `, {"type": "prefix-cache-scorer"}`
			}
			if strings.Contains(more, "cost") {
				declarations += `, {"type": "latency-cost"}`
			}
			p, err := declared(declarations, `{"pluginRef": "prefix-cache-affinity-filter"}`+more+`, {"pluginRef": "random-picker"}`)
			require.NoError(t, err)
			s := mustNew(t, seeded(p))
			eps := idle(8)
			first := mustSchedule(t, s, schedulingtest.Request(text("a", 2048)), eps)
			first.FirstToken()
			first.Done(types.Outcome{Status: 200})
			for range 20 {
				d := mustSchedule(t, s, schedulingtest.Request(text("a", 2048)), eps)
				require.Equal(t, first.Endpoint.ID, d.Endpoint.ID)
				d.Done(types.Outcome{Status: 200})
			}
			s.Forget(first.Endpoint)
			elsewhere := false
			for range 100 {
				d, err := s.Explain(ctx, schedulingtest.Request(text("a", 2048)), eps)
				require.NoError(t, err)
				elsewhere = elsewhere || d.Endpoint != first.Endpoint
				require.Empty(t, d.Candidates[0].FilteredBy, "nobody has it any more")
			}
		})
	}
}

func TestDeclaredPrefixPlugin(t *testing.T) {
	const uses = `{"pluginRef": "x"}, {"pluginRef": "max-score-picker"}`
	for name, want := range map[string]string{
		"nobody":       `plugins[0].parameters.prefixPluginName is "nobody", which is unknown`,
		"queue-scorer": `plugins[0].parameters.prefixPluginName is "queue-scorer", which has no prefix index`,
	} {
		_, err := declared(`{"type": "no-hit-lru-scorer", "name": "x", "parameters": {"prefixPluginName": "`+name+`"}}, {"type": "queue-scorer"}, {"type": "max-score-picker"}`, uses)
		require.ErrorContains(t, err, want)
	}
}

// TestContextLength: scores by the definition, for 1000 tokens.
func TestContextLength(t *testing.T) {
	label := func(v string) options { return options{schedulingtest.Label(plugins.DefaultContextLabel, v)} }
	eps := made(label("0-2000"), label("0-10000"), label("1000-1000"), label("1000-2000"), label("0-500"), label("3000-4000"), options{}, label("long"), label("9-1"), label(" 0 - 2000 "))
	req := schedulingtest.Request("x")
	req.Prompt.Tokens = 1000
	want := []float64{
		.3 + .7*(.7/1.2+.3*.5), .3 + .7*(.7/2+.3*.9), 1, .3 + .7*(.7/1.1+.3), .3 / 1.5, .3 / 3, .5, 0, 0, .3 + .7*(.7/1.2+.3*.5),
	}
	require.InDeltaSlice(t, want, schedulingtest.Score(t, plugins.ContextLength{}, req, eps...), 1e-12)
	f := plugins.ContextLengthFilter{}
	require.Equal(t, "a b c d g j", strings.Join(schedulingtest.Filter(t, f, req, eps...), " "))
	c := f.Constraint(req, eps)
	require.Equal(t, []bool{true, false, true, false}, []bool{c.Match(eps[0]), c.Match(eps[4]), c.Match(eps[6]), c.Match(eps[7])})
	longer := schedulingtest.Request("x")
	longer.Prompt.Tokens = 1001
	require.NotEqual(t, c.Name, f.Constraint(longer, eps).Name, "not in the range of one token")

	p, err := declared(`{"type": "context-length-aware", "parameters": {"enableFiltering": true, "label": "x"}}, {"type": "max-score-picker"}`, `{"pluginRef": "context-length-aware", "weight": 2}, {"pluginRef": "max-score-picker"}`)
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{len(p.Filters), len(p.Scorers)})
}

func TestSLOAdmitter(t *testing.T) {
	busy := func(n int64) options { return options{running(50), waiting(20), kv(.9), inFlight(n)} }
	tests := []struct {
		name string
		eps  []*types.Endpoint
		slo  types.SLO
		prio int
		shed bool
	}{
		{"nobody meets it", made(busy(400), busy(400)), types.SLO{TTFT: time.Millisecond}, -1, true},
		{"priority 0 is let in", made(busy(400), busy(400)), types.SLO{TTFT: time.Millisecond}, 0, false},
		{"without an SLO", made(busy(400), busy(400)), types.SLO{}, -1, false},
		{"an SLO that is met", made(busy(1), busy(400)), types.SLO{TTFT: time.Hour}, -1, false},
		{"one is idle", made(busy(400), options{running(0), kv(.9)}), types.SLO{TTFT: time.Nanosecond}, -1, false},
		{"one is new", made(busy(400), options{running(3), kv(.01), inFlight(3)}), types.SLO{TTFT: time.Nanosecond}, -1, false},
		{"one of which nothing is known has something to do", made(busy(400), options{unread, inFlight(3)}), types.SLO{TTFT: time.Nanosecond}, -1, true},
		{"one of which nothing is known has nothing to do", made(busy(400), options{unread}), types.SLO{TTFT: time.Nanosecond}, -1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := at(schedulingtest.Request(text("x", 40000)))
			req.SLO, req.Priority = tt.slo, tt.prio
			keep := make([]bool, len(tt.eps))
			err := (&plugins.SLOAdmitter{Cost: mustCost(t, plugins.CostOptions{})}).Filter(ctx, req, tt.eps, keep)
			require.Equal(t, tt.shed, errors.Is(err, scheduling.ErrSaturated), "%v", err)
			req.Admitted = true
			require.NoError(t, (&plugins.SLOAdmitter{}).Filter(ctx, req, tt.eps, keep))
		})
	}
}

func TestDeclaredTree(t *testing.T) {
	const tree = `{"type": "decision-tree-filter", "parameters": {
		"rule": {"type": "low-queue-filter", "parameters": {"below": 10}},
		"onSuccess": {"rule": {"type": "least-kv-cache-filter", "name": "kv"}},
		"onFailure": {"rule": {"type": "least-queue-filter"}, "onSuccess": {"rule": {"type": "least-kv-cache-filter", "name": "kv"}}}}}`
	p, err := declared(tree+`, {"type": "random-picker"}`, `{"pluginRef": "decision-tree-filter"}, {"pluginRef": "random-picker"}`)
	require.NoError(t, err)
	keeps := func(eps []*types.Endpoint) string {
		return strings.Join(schedulingtest.Filter(t, p.Filters[0].Filter, at(schedulingtest.Request("x")), eps...), " ")
	}
	require.Equal(t, "c", keeps(made(options{waiting(20), kv(0)}, options{waiting(9), kv(.9)}, options{waiting(9), kv(.1)})))
	require.Equal(t, "b", keeps(made(options{waiting(90), kv(0)}, options{waiting(20), kv(.1)}, options{waiting(20), kv(.9)})))

	for parameters, want := range map[string]string{
		`{}`: `plugins[0].parameters.rule.type is "", which is unknown`,
		`{"rule": {"type": "healthy-filter"}, "onSuccess": {"rule": {"type": "nothing"}}}`:                            `line 1, column 121: plugins[0].parameters.onSuccess.rule.type is "nothing", which is unknown`,
		`{"rule": {"type": "healthy-filter"}, "onFailure": {"rule": {"type": "queue-scorer"}}}`:                       `onFailure.rule.type is "queue-scorer", want a filter`,
		`{"rule": {"type": "ejection-filter"}}`:                                                                       `learns from where requests go`,
		`{"rule": {"type": "prefix-cache-affinity-filter"}}`:                                                          `learns from where requests go`,
		`{"rule": {"type": "low-queue-filter", "parameters": {"below": -1}}}`:                                         `rule.parameters.below is -1, want above 0`,
		strings.Repeat(`{"rule": {"type": "healthy-filter"}, "onSuccess": `, 300) + `null` + strings.Repeat("}", 300): `is one filter too many, want at most 256`,
	} {
		_, err := declared(`{"type": "decision-tree-filter", "parameters": `+parameters+`}, {"type": "random-picker"}`, `{"pluginRef": "decision-tree-filter"}, {"pluginRef": "random-picker"}`)
		require.ErrorContains(t, err, want)
	}
}

func TestParametersOfLLMD(t *testing.T) {
	for declaration, want := range map[string]string{
		`{"type": "label-filter", "name": "x", "parameters": {"expressions": [{"operator": "In"}]}}`:                                                                                                                       "expressions[0].key is required",
		`{"type": "label-filter", "name": "x", "parameters": {"expressions": [{"key": "a", "operator": "in", "values": ["b"]}]}}`:                                                                                          `expressions[0].operator is "in"`,
		`{"type": "label-filter", "name": "x", "parameters": {"expressions": [{"key": "a", "operator": "In"}]}}`:                                                                                                           "expressions[0].values is empty",
		`{"type": "label-filter", "name": "x", "parameters": {"expressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}`:                                                                                      `expressions[0].values is ["b"], want none for operator Exists`,
		`{"type": "active-request-scorer", "name": "x", "parameters": {"idleThreshold": -1}}`:                                                                                                                              "idleThreshold",
		`{"type": "active-request-scorer", "name": "x", "parameters": {"maxBusyScore": 2}}`:                                                                                                                                "maxBusyScore",
		`{"type": "load-aware-scorer", "name": "x", "parameters": {"threshold": -1}}`:                                                                                                                                      "threshold",
		`{"type": "endpoint-attribute-filter", "name": "x", "parameters": {"attribute": "speed", "algorithm": {"type": "topK", "topK": {"k": 1}}}}`:                                                                        `attribute is "speed", want one of blockSize`,
		`{"type": "endpoint-attribute-filter", "name": "x", "parameters": {"attribute": "waiting", "algorithm": {"type": "top"}}}`:                                                                                         "algorithm.type",
		`{"type": "endpoint-attribute-filter", "name": "x", "parameters": {"attribute": "waiting", "algorithm": {"type": "topK"}}}`:                                                                                        "algorithm.topK is required",
		`{"type": "endpoint-attribute-filter", "name": "x", "parameters": {"attribute": "waiting", "algorithm": {"type": "topK", "topK": {"k": 0}}}}`:                                                                      "algorithm.topK.k is 0",
		`{"type": "endpoint-attribute-filter", "name": "x", "parameters": {"attribute": "waiting", "algorithm": {"type": "range", "range": {"min": 2, "max": 1}}}}`:                                                        "algorithm.range",
		`{"type": "endpoint-attribute-filter", "name": "x", "parameters": {"attribute": "waiting", "algorithm": {"type": "percentile", "percentile": {"percentile": 101}}}}`:                                               "algorithm.percentile.percentile",
		`{"type": "endpoint-attribute-filter", "name": "x", "parameters": {"attribute": "waiting", "algorithm": {"type": "threshold", "threshold": {"operator": "<", "value": 1}}}}`:                                       "algorithm.threshold.operator",
		`{"type": "endpoint-attribute-filter", "name": "x", "parameters": {"attribute": "waiting", "onMissing": "Drop", "algorithm": {"type": "topK", "topK": {"k": 1}}}}`:                                                 "onMissing",
		`{"type": "endpoint-attribute-scorer", "name": "x", "parameters": {"attributeKey": "waiting", "algorithm": {"type": "linear"}}}`:                                                                                   "algorithm.type",
		`{"type": "endpoint-attribute-scorer", "name": "x", "parameters": {"attributeKey": "waiting", "algorithm": {"type": "linear_lower_is_better", "normalization": {"fixedRange": {"min": 1, "max": 1}}}}}`:            "fixedRange",
		`{"type": "endpoint-attribute-scorer", "name": "x", "parameters": {"attributeKey": "waiting", "algorithm": {"type": "linear_lower_is_better", "normalization": {"adaptiveRange": {}, "fixedRange": {"max": 1}}}}}`: "has adaptiveRange and fixedRange, want one of them",
	} {
		_, err := declared(declaration+`, {"type": "max-score-picker"}`, `{"pluginRef": "x"}, {"pluginRef": "max-score-picker"}`)
		require.ErrorContains(t, err, want, declaration)
	}
}
