package plugins_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// Short names of the fixtures' options.
var (
	waiting  = schedulingtest.Waiting
	running  = schedulingtest.Running
	kv       = schedulingtest.KVUsage
	adapters = schedulingtest.Adapters
	queued   = schedulingtest.WaitingAdapters
	inFlight = schedulingtest.InFlight
	age      = schedulingtest.Age
	unread   = schedulingtest.Unread()
)

type options = []schedulingtest.EndpointOption

func noWaiting(ep *types.Endpoint) { ep.Metrics.Waiting = types.Gauge{} }
func noRunning(ep *types.Endpoint) { ep.Metrics.Running = types.Gauge{} }
func noKV(ep *types.Endpoint)      { ep.Metrics.KVUsage = types.Gauge{} }
func noLedger(ep *types.Endpoint)  { ep.Load = nil }

// made returns one endpoint for each list of options, named a, b, c and so on.
func made(each ...options) []*types.Endpoint {
	eps := make([]*types.Endpoint, len(each))
	for i, o := range each {
		eps[i] = schedulingtest.Endpoint(string(rune('a'+i)), o...)
	}
	return eps
}

// at gives req the clock and the time to live of readings, as a Scheduler does.
func at(req *types.Request) *types.Request {
	req.Now = time.Now()
	req.StaleBefore = req.Now.Add(-time.Minute)
	return req
}

func attributeScorer(name, algorithm string, fixed *plugins.FixedRange) plugins.AttributeScorer {
	return plugins.AttributeScorer{Attribute: name, Algorithm: plugins.AttributeAlgorithm{Type: algorithm, Normalization: plugins.Normalization{FixedRange: fixed}}}
}

func mustNoHit(t testing.TB) *plugins.NoHitLRU {
	t.Helper()
	s, err := plugins.NewNoHitLRU(plugins.NoHitOptions{}, nil)
	require.NoError(t, err)
	return s
}

func TestScorers(t *testing.T) {
	tests := []struct {
		name   string
		scorer scheduling.Scorer
		eps    []*types.Endpoint
		want   []float64
	}{
		{"queue: (max-q)/(max-min)", plugins.QueueDepth{}, made(options{waiting(2)}, options{waiting(10)}, options{waiting(4)}), []float64{1, 0, .75}},
		{"queue: all equal", plugins.QueueDepth{}, made(options{waiting(7)}, options{waiting(7)}), []float64{1, 1}},
		{"queue: all idle", plugins.QueueDepth{}, made(options{}, options{}), []float64{1, 1}},
		{"queue: one endpoint", plugins.QueueDepth{}, made(options{waiting(50)}), []float64{1}},
		{"queue: unknown is left out", plugins.QueueDepth{}, made(options{waiting(2)}, options{noWaiting}, options{waiting(4)}), []float64{1, nan, 0}},
		{"queue: equal and unknown", plugins.QueueDepth{}, made(options{waiting(2)}, options{unread}, options{waiting(2)}), []float64{1, nan, 1}},
		{"queue: stale is unknown", plugins.QueueDepth{}, made(options{waiting(0), age(time.Hour)}, options{waiting(9)}, options{waiting(3)}), []float64{nan, 0, 1}},
		{"queue: nothing known", plugins.QueueDepth{}, made(options{unread}, options{unread}), []float64{nan, nan}},
		{"queue: nobody", plugins.QueueDepth{}, nil, nil},

		{"running: (max-r)/(max-min)", plugins.RunningRequests{}, made(options{running(16)}, options{running(64)}, options{running(32)}), []float64{1, 0, 32. / 48}},
		{"running: all equal", plugins.RunningRequests{}, made(options{running(3)}, options{running(3)}), []float64{1, 1}},
		{"running: one endpoint", plugins.RunningRequests{}, made(options{running(3)}), []float64{1}},
		{"running: unknown and stale", plugins.RunningRequests{}, made(options{noRunning}, options{running(1), age(time.Hour)}, options{running(9)}), []float64{nan, nan, 1}},

		{"kv: 1-kv", plugins.KVCache{}, made(options{kv(0)}, options{kv(.25)}, options{kv(1)}), []float64{1, .75, 0}},
		{"kv: all equal", plugins.KVCache{}, made(options{kv(.5)}, options{kv(.5)}), []float64{.5, .5}},
		{"kv: one endpoint", plugins.KVCache{}, made(options{kv(.75)}), []float64{.25}},
		{"kv: unknown and stale", plugins.KVCache{}, made(options{noKV}, options{kv(0), age(time.Hour)}, options{unread}, options{kv(.75)}), []float64{nan, nan, nan, .25}},

		{"lora: running", plugins.LoRAAffinity{}, made(options{adapters(2, "tuned", "x")}, options{adapters(1, "tuned")}), []float64{1, 1}},
		{"lora: slot free", plugins.LoRAAffinity{}, made(options{adapters(2, "x")}, options{adapters(3, "x"), queued("y")}, options{adapters(4)}), []float64{.8, .8, .8}},
		{"lora: slot free comes before waiting", plugins.LoRAAffinity{}, made(options{adapters(3, "x"), queued("tuned")}), []float64{.8}},
		{"lora: waiting", plugins.LoRAAffinity{}, made(options{adapters(2, "x"), queued("tuned")}), []float64{.6}},
		{"lora: full", plugins.LoRAAffinity{}, made(options{adapters(2, "x", "y")}, options{adapters(2, "x"), queued("y")}, options{adapters(0)}), []float64{0, 0, 0}},
		{"lora: unknown and stale", plugins.LoRAAffinity{}, made(options{}, options{unread}, options{adapters(2, "tuned"), age(time.Hour)}), []float64{nan, nan, nan}},

		{"in flight: (max-n)/(max-min)", plugins.InFlightRequests{Spread: 1}, made(options{inFlight(1)}, options{inFlight(5)}, options{inFlight(2)}), []float64{1, 0, .75}},
		{"in flight: all equal", plugins.InFlightRequests{}, made(options{inFlight(4)}, options{inFlight(4)}), []float64{1, 1}},
		{"in flight: one endpoint", plugins.InFlightRequests{}, made(options{inFlight(4)}), []float64{1}},
		{"in flight: a small difference counts in part", plugins.InFlightRequests{}, made(options{inFlight(1)}, options{inFlight(5)}, options{inFlight(2)}), []float64{1, .5, .875}},
		{"in flight: a large one in full", plugins.InFlightRequests{}, made(options{inFlight(1)}, options{inFlight(17)}, options{inFlight(5)}), []float64{1, 0, .75}},
		{"in flight: needs no reading", plugins.InFlightRequests{Spread: 1}, made(options{inFlight(1), unread}, options{inFlight(3), age(time.Hour)}), []float64{1, 0}},
		{"in flight: no ledger", plugins.InFlightRequests{Spread: 1}, made(options{noLedger}, options{inFlight(3)}, options{}), []float64{nan, 0, 1}},

		// The fixture books 200 context tokens a request.
		{"token load: 1-min(1, tokens/threshold)", plugins.TokenLoad{Threshold: 800}, made(options{}, options{inFlight(1)}, options{inFlight(4)}, options{inFlight(9)}), []float64{1, .75, 0, 0}},
		{"token load: default threshold", plugins.TokenLoad{}, made(options{inFlight(10)}), []float64{1 - 2000./4194304}},
		{"token load: no ledger", plugins.TokenLoad{}, made(options{noLedger}, options{}), []float64{nan, 1}},

		// Of llm-d: 1 where at most idleThreshold, and otherwise (max-n)/max·maxBusyScore.
		{"active: (max-n)/max", plugins.ActiveRequests{}, made(options{inFlight(1)}, options{inFlight(4)}, options{inFlight(3)}, options{}), []float64{.75, 0, .25, 1}},
		{"active: all equal are all busiest", plugins.ActiveRequests{}, made(options{inFlight(4)}, options{inFlight(4)}), []float64{0, 0}},
		{"active: all idle", plugins.ActiveRequests{}, made(options{}, options{}), []float64{1, 1}},
		{"active: idle threshold", plugins.ActiveRequests{IdleThreshold: 2}, made(options{inFlight(2)}, options{inFlight(4)}, options{inFlight(3)}), []float64{1, 0, .25}},
		{"active: busy score", plugins.ActiveRequests{MaxBusyScore: new(.5)}, made(options{inFlight(1)}, options{inFlight(4)}, options{}), []float64{.375, 0, 1}},
		{"active: no busy score at all", plugins.ActiveRequests{MaxBusyScore: new(0.)}, made(options{inFlight(1)}, options{inFlight(4)}, options{}), []float64{0, 0, 1}},
		{"active: no ledger", plugins.ActiveRequests{}, made(options{noLedger}, options{inFlight(2)}, options{inFlight(1)}), []float64{nan, 0, .5}},

		{"load aware: half of 1-q/threshold", plugins.LoadAware{}, made(options{waiting(0)}, options{waiting(32)}, options{waiting(128)}, options{waiting(500)}), []float64{.5, .375, 0, 0}},
		{"load aware: own threshold", plugins.LoadAware{Threshold: 10}, made(options{waiting(5)}, options{waiting(1)}), []float64{.25, .45}},
		{"load aware: unknown and stale", plugins.LoadAware{}, made(options{noWaiting}, options{waiting(0), age(time.Hour)}, options{waiting(64)}), []float64{nan, nan, .25}},

		{"attribute: lower is better", attributeScorer("waiting", plugins.LowerIsBetter, nil), made(options{waiting(2)}, options{waiting(10)}, options{waiting(4)}), []float64{1, 0, .75}},
		{"attribute: higher is better", attributeScorer("waiting", plugins.HigherIsBetter, nil), made(options{waiting(2)}, options{waiting(10)}, options{waiting(4)}), []float64{0, 1, .25}},
		{"attribute: equal", attributeScorer("running", plugins.HigherIsBetter, nil), made(options{running(2)}, options{running(2)}), []float64{1, 1}},
		{"attribute: fixed range", attributeScorer("kvUsage", plugins.LowerIsBetter, &plugins.FixedRange{Min: .25, Max: .75}), made(options{kv(.5)}, options{kv(0)}, options{kv(1)}, options{kv(.5)}), []float64{.5, 1, 0, .5}},
		{"attribute: fixed range upwards", attributeScorer("kvUsage", plugins.HigherIsBetter, &plugins.FixedRange{Max: 1}), made(options{kv(.25)}, options{noKV}), []float64{.25, nan}},
		{"attribute: unknown is left out", attributeScorer("inFlightRequests", plugins.LowerIsBetter, nil), made(options{noLedger}, options{inFlight(1)}, options{inFlight(3)}), []float64{nan, 1, 0}},

		{"no hit: one endpoint", mustNoHit(t), made(options{}), []float64{1}},

		{"prefix: nothing cached", mustPrefix(t, plugins.PrefixOptions{}), made(options{}, options{unread}), []float64{0, 0}},
		{"session: new", mustSessions(t, plugins.SessionOptions{}), made(options{}, options{}), []float64{nan, nan}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := at(schedulingtest.Request(text("x", 1000)))
			req.TargetModel = "tuned"
			if got := schedulingtest.Score(t, tt.scorer, req, tt.eps...); !sameScores(got, tt.want) {
				t.Errorf("Score = %v, want %v", got, tt.want)
			}
		})
	}
}

// TestLoRAAffinityOfModelWithoutTarget scores by the public name if no manifest
// maps it.
func TestLoRAAffinityOfModelWithoutTarget(t *testing.T) {
	req := schedulingtest.Request("hello")
	req.Model = "tuned"
	got := schedulingtest.Score(t, plugins.LoRAAffinity{}, req, made(options{adapters(1, "tuned")}, options{adapters(1, "other")})...)
	if !sameScores(got, []float64{1, 0}) {
		t.Errorf("Score = %v, want [1 0]", got)
	}
}

func TestDescribe(t *testing.T) {
	known := schedulingtest.Endpoint("a", waiting(3), running(17), kv(.5), adapters(2, "tuned"), inFlight(2), schedulingtest.Label("zone", "a"))
	silent := schedulingtest.Endpoint("b", unread, noLedger, schedulingtest.InState(types.Draining))
	old := schedulingtest.Endpoint("c", age(2*time.Minute))
	prefixes := mustPrefix(t, plugins.PrefixOptions{})
	sessions := mustSessions(t, plugins.SessionOptions{})
	seen := at(schedulingtest.Request(text("seen", 1024)))
	seen.TargetModel = "tuned"
	prefixes.Picked(seen, known)
	sessions.Picked(seen, known)
	tests := []struct {
		plugin any
		ep     *types.Endpoint
		want   string
	}{
		{plugins.QueueDepth{}, known, "3 waiting"},
		{plugins.QueueDepth{}, silent, "waiting unknown"},
		{plugins.RunningRequests{}, known, "17 running"},
		{plugins.KVCache{}, known, "KV 50 %"},
		{plugins.KVCache{}, silent, "KV usage unknown"},
		{plugins.LoRAAffinity{}, known, "adapter running"},
		{plugins.LoRAAffinity{}, silent, "adapters unknown"},
		{plugins.AdapterPresent{}, known, "adapter running"},
		{plugins.InFlightRequests{}, known, "2 in flight"},
		{plugins.InFlightRequests{}, silent, "no ledger"},
		{plugins.TokenLoad{}, known, "400 tokens in flight"},
		{plugins.TokenLoad{}, silent, "no ledger"},
		{plugins.HasCapacity{}, known, "3 waiting, KV 50 %"},
		{plugins.Healthy{}, silent, "draining"},
		{plugins.Fresh{}, known, ""},
		{plugins.Fresh{}, silent, ""},
		{plugins.Fresh{}, old, "last reading 2m0s old"},
		{plugins.Labels{}, known, "labels map[zone:a]"},
		{prefixes, known, "4 of 4 blocks cached"},
		{prefixes, silent, "0 of 4 blocks cached"},
		{sessions, known, "served the session's last request"},
		{sessions, silent, ""},
	}
	for _, tt := range tests {
		got := tt.plugin.(scheduling.Describer).Describe(seen, tt.ep)
		if got != tt.want && !(strings.HasSuffix(tt.want, " old") && strings.HasPrefix(got, "last reading 2m")) {
			t.Errorf("%T.Describe of %s = %q, want %q", tt.plugin, tt.ep.ID, got, tt.want)
		}
	}
	fresh := at(schedulingtest.Request(""))
	if got := sessions.Describe(fresh, silent); got != "" {
		t.Errorf("Describe of an endpoint that is not the session's = %q", got)
	}
	fresh.SessionID = ""
	if got := sessions.Describe(fresh, known); got != "no session" {
		t.Errorf("Describe without a session = %q", got)
	}
	fresh.SessionID = "another"
	if got := sessions.Describe(fresh, known); got != "new session" {
		t.Errorf("Describe of a new session = %q", got)
	}
}

// TestTrapUnknownReadAsZero: a server that reports nothing must look neither idle
// nor full to any scorer that goes by reports.
func TestTrapUnknownReadAsZero(t *testing.T) {
	eps := made(options{waiting(9), running(50), kv(.9), adapters(1, "x")}, options{unread}, options{age(time.Hour)})
	for _, s := range []scheduling.Scorer{plugins.QueueDepth{}, plugins.RunningRequests{}, plugins.KVCache{}, plugins.LoRAAffinity{}} {
		got := schedulingtest.Score(t, s, at(schedulingtest.Request("hi")), eps...)
		if math.IsNaN(got[0]) || !math.IsNaN(got[1]) || !math.IsNaN(got[2]) {
			t.Errorf("%T scores %v, want an opinion of the first only", s, got)
		}
	}
}
