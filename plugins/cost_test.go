package plugins_test

import (
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// bench is a scheduler with Cost alone, and a clock that the test moves.
type costBench struct {
	t    testing.TB
	cost *plugins.Cost
	s    *scheduling.Scheduler
	now  time.Time
	eps  []*types.Endpoint
}

func newCostBench(t testing.TB, o plugins.CostOptions, eps ...*types.Endpoint) *costBench {
	b := &costBench{t: t, cost: mustCost(t, o), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), eps: eps}
	for i, ep := range eps {
		ep.Slot = uint32(i)
		if !ep.Metrics.UpdatedAt.IsZero() {
			ep.Metrics.UpdatedAt = b.now
		}
	}
	b.s = mustNew(t, scheduling.Profile{
		Costs:  []scheduling.Costed{{Name: "cost", Coster: b.cost}},
		Picker: plugins.MaxScore{}, Seed: 1, MetricsTTL: time.Hour, Fallbacks: 2,
		Now: func() time.Time { return b.now },
	})
	return b
}

func (b *costBench) pass(d time.Duration) { b.now = b.now.Add(d) }

func (b *costBench) schedule(req *types.Request) *scheduling.Decision {
	b.t.Helper()
	return mustSchedule(b.t, b.s, req, b.eps)
}

// serve plays a request to its end: so long until the first token, so many tokens with
// so much time between them, and what the server says it had cached.
func (b *costBench) serve(d *scheduling.Decision, first, perToken time.Duration, output int, cached float64) {
	b.pass(first)
	d.FirstToken()
	b.pass(time.Duration(output-1) * perToken)
	d.Done(types.Outcome{Status: 200, Usage: types.Usage{
		PromptTokens:     types.Known(float64(d.Request.Prompt.Tokens)),
		CompletionTokens: types.Known(float64(output)),
		CachedTokens:     types.Known(cached),
	}})
}

// explain returns the candidates by ID.
func (b *costBench) explain(req *types.Request) map[string]scheduling.Candidate {
	b.t.Helper()
	ex, err := b.s.Explain(ctx, req, b.eps)
	if err != nil {
		b.t.Fatal(err)
	}
	by := map[string]scheduling.Candidate{}
	for _, c := range ex.Candidates {
		by[c.ID] = c
		sum := 0.0
		for _, term := range c.Terms {
			sum += term.Contribution
		}
		if math.Abs(sum-c.Total) > 1e-9*(1+math.Abs(sum)) {
			b.t.Errorf("the items of %s add up to %v, and the total is %v: %+v", c.ID, sum, c.Total, c.Terms)
		}
	}
	return by
}

// seconds returns one item of a candidate.
func itemOf(t testing.TB, c scheduling.Candidate, name string) scheduling.Term {
	t.Helper()
	for _, term := range c.Terms {
		if term.Scorer == name {
			return term
		}
	}
	t.Fatalf("%s has no item %q: %+v", c.ID, name, c.Terms)
	return scheduling.Term{}
}

// prompt is a streamed request with so many tokens about a topic.
func prompt(topic any, tokens int) *types.Request {
	req := schedulingtest.Request(text(topic, 4*tokens))
	req.Prompt.Tokens, req.Stream = tokens, true
	return req
}

func unreadAll(ids ...string) (eps []*types.Endpoint) {
	for _, id := range ids {
		eps = append(eps, schedulingtest.Endpoint(id, schedulingtest.Unread()))
	}
	return eps
}

func TestCostOptions(t *testing.T) {
	for want, o := range map[string]plugins.CostOptions{
		"firstToken is -1": {FirstToken: -1},
		"engine.token":     {Engine: plugins.EngineRates{Token: math.NaN()}},
		"home is +Inf":     {Home: math.Inf(1)},
		"transport is NaN": {Transport: math.NaN()},
		"plugins: cost: prefix.blockBytes is 3, want a multiple of 64": {Prefix: plugins.PrefixOptions{BlockBytes: 3}},
		"longSteps is -0.5,": {LongSteps: -.5},
	} {
		if _, err := plugins.NewCost(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewCost = %v, want an error that says %q", err, want)
		}
	}
	if _, err := plugins.NewRegistry().Load([]byte(`{"plugins": [{"type": "latency-cost", "parameters": {"firstTokens": 3}}, {"type": "max-score-picker"}],
		"schedulingProfiles": [{"name": "p", "plugins": [{"pluginRef": "latency-cost"}, {"pluginRef": "max-score-picker"}]}]}`)); err == nil || !strings.Contains(err.Error(), "firstTokens") {
		t.Errorf("Load with an unknown parameter = %v", err)
	}
	_, err := plugins.NewRegistry().Load([]byte(`{"plugins": [
{"type": "latency-cost", "parameters": {"home": -1, "prefix": {"blockBytes": 3,
	"maxBytes": 5}}}, {"type": "max-score-picker"}],
		"schedulingProfiles": [{"name": "p", "plugins": [{"pluginRef": "latency-cost"}, {"pluginRef": "max-score-picker"}]}]}`))
	require.EqualError(t, err, `plugins: profiles: line 2, column 64: plugins[0].parameters.prefix.blockBytes is 3, want a multiple of 64 from 64 to 65536, or 0 for the default 256
plugins: profiles: line 3, column 2: plugins[0].parameters.prefix.maxBytes is 5, want at least 1048576, or 0 for the default 268435456
plugins: profiles: line 2, column 41: plugins[0].parameters.home is -1, want above 0, or 0 for the default 2`)
}

// A burst inside one instant spreads evenly, with and without metrics.
func TestCostSpreadsABurst(t *testing.T) {
	for name, eps := range map[string][]*types.Endpoint{
		"unread": unreadAll("a", "b", "c", "d", "e"),
		"read":   {schedulingtest.Endpoint("a"), schedulingtest.Endpoint("b"), schedulingtest.Endpoint("c"), schedulingtest.Endpoint("d"), schedulingtest.Endpoint("e")},
	} {
		b := newCostBench(t, plugins.CostOptions{}, eps...)
		for i := range 100 {
			b.schedule(prompt(i, 300))
		}
		for _, ep := range eps {
			if n := ep.Load.Requests(); n < 18 || n > 22 {
				t.Errorf("%s: %s got %d of 100 equal requests over 5 equal servers", name, ep.ID, n)
			}
		}
	}
}

// A conversation stays where it is cached, unless waiting there costs more than
// computing it anew.
func TestCostPrefersTheCacheUntilItIsTooBusy(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b")...)
	d := b.schedule(prompt("talk", 2000))
	home := d.Endpoint
	b.serve(d, 100*time.Millisecond, 10*time.Millisecond, 100, 0)
	if got := b.schedule(prompt("talk", 2000)); got.Endpoint != home {
		t.Fatalf("the conversation went from %s to %s", home.ID, got.Endpoint.ID)
	} else {
		b.serve(got, 20*time.Millisecond, 10*time.Millisecond, 100, 1984)
	}
	// Long prefills of others go where it is: its own is shorter than the wait for them.
	for i := range 40 {
		req := prompt(fmt.Sprint("other ", i), 6000)
		mustSchedule(t, b.s, req, []*types.Endpoint{home})
	}
	if got := b.schedule(prompt("talk", 2000)); got.Endpoint == home {
		t.Errorf("it waits for 40 prefills of 6,000 tokens rather than compute 2,000:\n%s", explained(b, prompt("talk", 2000)))
	}
}

func explained(b *costBench, req *types.Request) string {
	ex, err := b.s.Explain(ctx, req, b.eps)
	if err != nil {
		b.t.Fatal(err)
	}
	return ex.String()
}

// What engines report beyond what this process sent is load too, as long as the
// reading is fresh. Where nothing was read, there is as much as elsewhere.
func TestCostSeesForeignLoad(t *testing.T) {
	busy := schedulingtest.Endpoint("busy", schedulingtest.Running(60))
	idle := schedulingtest.Endpoint("idle")
	b := newCostBench(t, plugins.CostOptions{}, busy, idle, unreadAll("unread")[0])
	c := b.explain(prompt("x", 500))
	if !(c["busy"].Total < c["unread"].Total && c["unread"].Total < c["idle"].Total) {
		t.Errorf("totals of busy, unread and idle = %v, %v, %v, want them to rise", c["busy"].Total, c["unread"].Total, c["idle"].Total)
	}
	gap := func() float64 {
		c := b.explain(prompt("x", 500))
		return c["idle"].Total - c["busy"].Total
	}
	fresh := gap()
	b.pass(3 * time.Second)
	half := gap()
	b.pass(3 * time.Second)
	if none := gap(); !(fresh > half && half > 0 && math.Abs(none) < 1e-9) {
		t.Errorf("what foreign load costs when its reading is fresh, 3 s and 6 s old: %v, %v, %v, want it to fall to nothing", fresh, half, none)
	}
}

// The requests that this process sent are in the report too, and count once.
func TestCostCountsItsOwnRequestsOnce(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, schedulingtest.Endpoint("a"), schedulingtest.Endpoint("b"))
	for range 10 {
		d := mustSchedule(t, b.s, prompt("x", 50), b.eps[:1])
		d.FirstToken()
	}
	before := b.explain(prompt("y", 50))["a"]
	m := b.eps[0].Metrics
	m.Running, m.UpdatedAt = types.Known(10), b.now
	b.eps[0] = b.eps[0].WithMetrics(m)
	after := b.explain(prompt("y", 50))["a"]
	if before.Total != after.Total {
		t.Errorf("total = %v before the engine reported the 10 requests that were sent, %v after", before.Total, after.Total)
	}
}

// A server that takes twice as long gets less, after some answers, without anybody
// saying so; and constants that are wrong by a factor of 4 are put right.
func TestCostLearnsRates(t *testing.T) {
	oneGoroutine(t)
	for _, wrong := range []float64{.25, 1, 4} {
		b := newCostBench(t, plugins.CostOptions{Engine: plugins.EngineRates{
			Step: wrong * 7.6e-3, Sequence: wrong * 18e-6, Context: wrong * 47e-9, Token: wrong * 24e-6}}, unreadAll("slow", "fast")...)
		for i := range 600 {
			ep, factor := b.eps[i%2], time.Duration(2-i%2)
			d := mustSchedule(t, b.s, prompt(i, 4000), []*types.Endpoint{ep})
			b.serve(d, factor*127*time.Millisecond, factor*8*time.Millisecond, 50, 0)
		}
		c := b.explain(prompt("new", 4000))
		slow, fast := -itemOf(t, c["slow"], "prefill").Contribution, -itemOf(t, c["fast"], "prefill").Contribution
		if ratio := slow / fast; ratio < 1.6 || ratio > 2.4 {
			t.Errorf("constants %v times what is right: prefill costs %v s on the slow server and %v s on the fast one, want twice as much", wrong, slow, fast)
		}
		if want := 5 * .1056; fast < want/1.3 || fast > want*1.3 {
			t.Errorf("constants %v times what is right: prefill on the fast server costs %v s, want about %v", wrong, fast, want)
		}
	}
}

// How fast endpoints are, in seconds, for who counts work by it: what requests have shown, and nothing before.
func TestCostSpeed(t *testing.T) {
	oneGoroutine(t)
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("slow", "fast")...)
	_, known := b.cost.Speed(b.eps[0])
	require.False(t, known, "it was not met")
	b.explain(prompt("x", 1000))
	_, known = b.cost.Speed(b.eps[0])
	require.False(t, known, "nothing was seen of it")
	for i := range 600 {
		ep, factor := b.eps[i%2], time.Duration(2-i%2)
		d := mustSchedule(t, b.s, prompt(i, 4000), []*types.Endpoint{ep})
		b.serve(d, factor*127*time.Millisecond, factor*8*time.Millisecond, 50, 0)
	}
	slow, known := b.cost.Speed(b.eps[0])
	require.True(t, known)
	fast, _ := b.cost.Speed(b.eps[1])
	require.InEpsilon(t, .1056/4000, fast.Token, .3)
	require.InEpsilon(t, 8e-3, fast.Step, .3)
	require.InEpsilon(t, 2, slow.Token/fast.Token, .2)
	require.InEpsilon(t, 2, slow.Step/fast.Step, .2)
	require.Greater(t, fast.Sequence, 0.)
	require.Less(t, fast.Sequence, fast.Step/10)
}

func TestCostStartsFromCapacityAndAccelerator(t *testing.T) {
	eps := unreadAll("plain", "double", "a100", "l40s", "made-up")
	eps[1].Capacity.Speed = 2
	for _, ep := range eps[2:] {
		ep.Labels = map[string]string{"accelerator": "NVIDIA-" + strings.ToUpper(ep.ID) + "-80GB"}
	}
	b := newCostBench(t, plugins.CostOptions{}, eps...)
	c := b.explain(prompt("x", 1000))
	prefill := func(id string) float64 { return -itemOf(t, c[id], "prefill").Contribution }
	for id, want := range map[string]float64{"double": .5, "a100": 1 / .32, "l40s": 1 / .37, "made-up": 1} {
		if got := prefill(id) / prefill("plain"); math.Abs(got-want) > .01*want {
			t.Errorf("prefill on %s takes %v times as long as on an H100, want %v", id, got, want)
		}
	}
}

// Answers are as long as those of the same model and tenant were.
func TestCostExpectsOutput(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a")...)
	ask := func(model, tenant string) *types.Request {
		req := prompt("x", 100)
		req.Model, req.FairnessID = model, tenant
		return req
	}
	if n := b.cost.ExpectedOutput(ask("m", "t")); n != scheduling.DefaultOutputTokens {
		t.Errorf("expected at first: %d", n)
	}
	for range 200 {
		b.serve(b.schedule(ask("m", "short")), time.Millisecond, time.Millisecond, 20, 0)
		b.serve(b.schedule(ask("m", "long")), time.Millisecond, time.Millisecond, 800, 0)
	}
	short, long, other := b.cost.ExpectedOutput(ask("m", "short")), b.cost.ExpectedOutput(ask("m", "long")), b.cost.ExpectedOutput(ask("m", "new"))
	if short > 60 || long < 700 || other < 300 || other > 500 {
		t.Errorf("expected of tenants short, long and a new one: %d, %d, %d", short, long, other)
	}
	req := ask("m", "long")
	req.MaxTokens = 30
	if n := b.cost.ExpectedOutput(req); n != 30 {
		t.Errorf("expected with at most 30: %d", n)
	}
}

// A beginning that many share gets another copy when its server is busy; one that few
// share does not.
func TestCostCopiesWhatManyShare(t *testing.T) {
	copies := func(alike bool) int {
		b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b", "c", "d")...)
		for _, ep := range b.eps { // something to disturb
			for i := range 20 {
				mustSchedule(t, b.s, prompt(fmt.Sprint(ep.ID, i), 200), []*types.Endpoint{ep}).FirstToken()
			}
		}
		used := map[string]bool{}
		for i := range 40 {
			topic := fmt.Sprint("own ", i/2)
			if alike {
				topic = "shared"
			}
			d := b.schedule(prompt(topic, 4000))
			if i%2 == 0 || alike {
				used[d.Endpoint.ID] = true
			}
			b.pass(50 * time.Millisecond)
			d.FirstToken()
		}
		return len(used)
	}
	if n := copies(true); n < 3 {
		t.Errorf("a beginning that 40 requests in flight share is on %d of 4 servers", n)
	}
}

// A new server gets its share, not everything.
func TestCostDoesNotFloodANewServer(t *testing.T) {
	eps := unreadAll("a", "b", "c", "d")
	b := newCostBench(t, plugins.CostOptions{}, eps...)
	for i := range 120 {
		b.schedule(prompt(i, 300)).FirstToken()
	}
	fresh := unreadAll("fresh")[0]
	fresh.Slot = 9
	b.eps = append(b.eps, fresh)
	run, longest := 0, 0
	for i := range 60 {
		if d := b.schedule(prompt(1000+i, 300)); d.Endpoint == fresh {
			if run++; run > longest {
				longest = run
			}
		} else {
			run = 0
		}
		b.pass(5 * time.Millisecond)
	}
	if n := fresh.Load.Requests(); n < 12 || n > 36 || longest > 12 {
		t.Errorf("the new server got %d of 60 requests, up to %d in a row", n, longest)
	}
}

// With an SLO, what counts among servers that meet it is what others lose; if none
// meets it, the least late is chosen.
func TestCostMeetsSLO(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{Price: 10}, unreadAll("cheap", "dear")...)
	b.eps[0].Capacity = types.Capacity{Speed: .5, CostPerHour: 1}
	b.eps[1].Capacity = types.Capacity{Speed: 2, CostPerHour: 8}
	with := func(ttft, tpot time.Duration) string {
		req := prompt("x", 2000)
		req.SLO = types.SLO{TTFT: ttft, TPOT: tpot}
		for id, c := range b.explain(req) {
			if c.Rank == 1 {
				return id + " " + itemOf(t, c, "slo").Detail
			}
		}
		return ""
	}
	for _, tt := range []struct {
		ttft, tpot time.Duration
		want       string
	}{
		{time.Second, 0, "cheap met"},                        // both meet it
		{80 * time.Millisecond, 0, "dear met"},               // the slow one takes about 130 ms
		{time.Second, 10 * time.Millisecond, "dear met"},     // a step takes 15 ms there
		{10 * time.Millisecond, 0, "dear missed by"},         // none: the less late
		{time.Nanosecond, time.Nanosecond, "dear missed by"}, // absurd, and no overflow
		{time.Hour, time.Hour, "cheap met"},                  //
	} {
		if got := with(tt.ttft, tt.tpot); !strings.HasPrefix(got, tt.want) {
			t.Errorf("TTFT %v, TPOT %v: %q, want %q", tt.ttft, tt.tpot, got, tt.want)
		}
	}
	if ex, err := b.s.Explain(ctx, prompt("x", 2000), b.eps); err != nil || ex.Chosen().ID != "dear" {
		t.Errorf("without an SLO = %v, %v, want the fast server: its price does not matter", ex, err)
	}
}

// A time per output token that no endpoint meets is not chased: the request goes where it
// would have gone without.
func TestCostDoesNotChaseLostSLO(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("cached", "idle")...)
	first := prompt("x", 20000)
	d, err := b.s.Schedule(ctx, first, b.eps[:1])
	require.NoError(t, err)
	d.FirstToken() // it decodes there, and its prompt is cached
	for _, slo := range []types.SLO{{}, {TPOT: time.Microsecond}} {
		req := prompt("x", 20000)
		req.SLO = slo
		if ex, err := b.s.Explain(ctx, req, b.eps); err != nil || ex.Chosen().ID != "cached" {
			t.Errorf("SLO %v: %v, %v, want the server that has the prompt", slo, ex, err)
		}
	}
}

// Requests for a LoRA adapter go together, and a slot that is taken costs.
func TestCostAdapters(t *testing.T) {
	with := func(id string, running ...string) *types.Endpoint {
		return schedulingtest.Endpoint(id, schedulingtest.Adapters(2, running...))
	}
	ask := func(b *costBench, name string) *scheduling.Decision { return b.schedule(forAdapter(name)) }
	b := newCostBench(t, plugins.CostOptions{}, with("a"), with("b", "sql"))
	for range 6 {
		if d := ask(b, "sql"); d.Endpoint.ID != "b" {
			t.Fatalf("adapter sql is in use at b, and a request for it went to %s", d.Endpoint.ID)
		}
	}
	b = newCostBench(t, plugins.CostOptions{}, with("full", "x", "y"), with("free", "x"), with("elsewhere", "z"))
	if d := mustSchedule(t, b.s, forAdapter("z"), b.eps[:2]); d.Endpoint.ID != "free" {
		t.Errorf("an adapter that is in use at neither went to %s, where both slots are taken", d.Endpoint.ID)
	}
	b.explain(forAdapter("z"))
	if d := ask(b, "y"); d.Endpoint.ID != "full" {
		t.Errorf("adapter y went to %s, though another gateway has it running at full", d.Endpoint.ID)
	}
}

// Trap: a base model that is taken for an adapter keeps all its requests together.
func TestTrapBaseModelTakenForAnAdapter(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, schedulingtest.Endpoint("a", schedulingtest.Adapters(2, "sql")), schedulingtest.Endpoint("b", schedulingtest.Adapters(2)))
	for range 20 {
		b.schedule(forAdapter("base"))
	}
	for _, ep := range b.eps {
		if n := ep.Load.Requests(); n < 8 {
			t.Errorf("%s got %d of 20 requests for the base model", ep.ID, n)
		}
	}
}

func forAdapter(name string) *types.Request {
	req := prompt(name, 100)
	req.TargetModel = name
	return req
}

// Gateways that share servers and nothing else agree on a prompt's home; one that is
// alone has no use for it.
func TestCostHome(t *testing.T) {
	gateway := func(foreign float64) *costBench {
		var eps []*types.Endpoint
		for i := range 8 {
			eps = append(eps, schedulingtest.Endpoint(fmt.Sprint("ep", i), schedulingtest.Running(foreign)))
		}
		b := newCostBench(t, plugins.CostOptions{}, eps...)
		for i := range 400 { // prompts of which most is cached
			d := b.schedule(prompt(fmt.Sprint("warm", i%50), 1000))
			b.serve(d, 10*time.Millisecond, time.Millisecond, 10, 900)
			for k, ep := range b.eps {
				m := ep.Metrics
				m.UpdatedAt = b.now
				b.eps[k] = ep.WithMetrics(m)
			}
		}
		return b
	}
	one, two, alone := gateway(20), gateway(20), gateway(0)
	homes := map[string]int{}
	one.explain(prompt("tenant 1", 1000)) // its items add up, with those of the home
	for i := range 40 {
		req := prompt(fmt.Sprint("tenant ", i), 1000)
		a, b := one.schedule(req), two.schedule(prompt(fmt.Sprint("tenant ", i), 1000))
		if a.Endpoint.ID != b.Endpoint.ID {
			t.Errorf("tenant %d: one gateway chose %s and the other %s", i, a.Endpoint.ID, b.Endpoint.ID)
		}
		homes[a.Endpoint.ID]++
		a.Done(types.Outcome{})
		b.Done(types.Outcome{})
	}
	if len(homes) < 6 {
		t.Errorf("40 tenants have homes at %v, want most of the 8 servers", homes)
	}
	for _, term := range alone.explain(prompt("tenant 1", 1000))["ep0"].Terms {
		if term.Scorer == "home" {
			t.Error("a gateway that is alone has given a prompt a home")
		}
	}
}

// Responses that are not streamed show no first token before their end: their prefill
// must not seem to go on until then.
func TestCostLetsGoOfUnstreamedPrefills(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b")...)
	for i := range 10 {
		req := prompt(i, 2000)
		req.Stream = false
		mustSchedule(t, b.s, req, b.eps[:1])
	}
	waits := func() float64 { return -itemOf(t, b.explain(prompt("x", 100))["a"], "wait").Contribution }
	before := waits()
	b.pass(5 * time.Second)
	d := mustSchedule(t, b.s, prompt("y", 100), b.eps[:1]) // an event, so that it looks
	d.Done(types.Outcome{Cancelled: true})
	if after := waits(); after > before/4 {
		t.Errorf("the wait behind 10 prefills is %v s, and 5 s later %v s", before, after)
	}
}

// Whatever happens to requests, nothing is left of them.
func TestCostEndsAtNothing(t *testing.T) {
	oneGoroutine(t)
	var eps []*types.Endpoint
	for i := range 6 {
		eps = append(eps, schedulingtest.Endpoint(fmt.Sprint("ep", i), schedulingtest.Adapters(2)))
	}
	// What their times taught is no part of this, for they are made up.
	b := newCostBench(t, plugins.CostOptions{FixedRates: true}, eps...)
	idle := b.explain(prompt("idle", 700))
	rnd := types.NewRand(5)
	var open []*scheduling.Decision
	for i := range 3000 {
		req := prompt(rnd.IntN(40), 100+rnd.IntN(2000))
		req.Stream = rnd.IntN(3) > 0
		if rnd.IntN(4) == 0 {
			req.TargetModel = fmt.Sprint("adapter-", rnd.IntN(5))
		}
		if rnd.IntN(50) == 0 {
			b.s.Forget(b.eps[rnd.IntN(len(b.eps))]) // it restarted
		}
		open = append(open, b.schedule(req))
		for len(open) > 30 || i == 2999 && len(open) > 0 {
			k := rnd.IntN(len(open))
			d := open[k]
			b.pass(time.Duration(rnd.IntN(5)) * time.Millisecond)
			switch rnd.IntN(6) {
			case 0:
				d.Retry(d.Fallbacks[rnd.IntN(len(d.Fallbacks))], types.Outcome{Err: io.ErrUnexpectedEOF})
				continue
			case 1:
				d.FirstToken()
				d.FirstToken()
				continue
			case 2:
				d.Done(types.Outcome{Cancelled: true})
			case 3:
				d.Done(types.Outcome{Status: 500})
			default:
				d.Done(types.Outcome{Status: 200})
				d.Done(types.Outcome{Status: 200})
			}
			open = append(open[:k], open[k+1:]...)
		}
	}
	b.pass(time.Minute)
	if b.s.Open() != 0 {
		t.Fatalf("%d decisions are open", b.s.Open())
	}
	now := b.explain(prompt("idle", 700))
	for id, before := range idle {
		for _, name := range []string{"wait", "output", "disturb", "kv"} {
			was, is := itemOf(t, before, name), itemOf(t, now[id], name)
			// Waiting may differ by what is known of the rhythm of steps.
			if math.Abs(was.Contribution-is.Contribution) > .05*math.Abs(was.Contribution)+1e-6 {
				t.Errorf("%s: %s cost %v s when all was idle, and %v s (%s) when it is again", id, name, was.Contribution, is.Contribution, is.Detail)
			}
		}
	}
}

// A decision may be booked after its endpoint was forgotten for good.
func TestCostDoesNotEnterEndpointsThatHaveGone(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b")...)
	d := b.schedule(prompt("x", 500))
	for _, ep := range b.eps {
		ep.Load.Retire()
		b.s.Forget(ep)
	}
	d.FirstToken()
	d.Done(types.Outcome{Status: 200})
	costs := []float64{nan, nan}
	if err := b.cost.Cost(ctx, at(prompt("y", 500)), b.eps, costs); err != nil || !math.IsNaN(costs[0]) || !math.IsNaN(costs[1]) {
		t.Errorf("costs of endpoints that have gone = %v, %v, want NaN", costs, err)
	}
	if n := b.cost.Stats().Endpoints; n != 0 {
		t.Errorf("the prefix index still knows %d endpoints", n)
	}
}

// Endpoints made by hand may share a slot; who has a slot may change.
func TestCostSlots(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b", "c")...)
	b.eps[0].Slot, b.eps[1].Slot, b.eps[2].Slot = 0, 0, 1<<31
	for i := range 30 {
		b.schedule(prompt(i, 300))
	}
	for _, ep := range b.eps {
		if n := ep.Load.Requests(); n < 8 || n > 12 {
			t.Errorf("%s got %d of 30 requests", ep.ID, n)
		}
	}
	b.s.Forget(b.eps[0])
	b.s.Forget(b.eps[2])
	if c := b.explain(prompt("x", 300)); c["b"].Total >= c["a"].Total {
		t.Errorf("b has 10 requests and a is forgotten: totals %v and %v", c["b"].Total, c["a"].Total)
	}
}

func TestCostConcurrency(t *testing.T) {
	s := mustNew(t, plugins.Default())
	eps := schedulingtest.Fleet(24)
	for i, ep := range eps {
		ep.State, ep.Slot = types.Ready, uint32(i)
	}
	var mu sync.RWMutex // guards eps
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 150 {
				mu.RLock()
				list := append([]*types.Endpoint(nil), eps...)
				mu.RUnlock()
				req := prompt(i%7, 200+10*g)
				req.TargetModel = []string{"", "adapter-a", "adapter-b"}[i%3]
				if i%5 == 0 {
					req.SLO.TTFT = time.Second
				}
				d, ex, err := s.ScheduleExplained(ctx, req, list)
				if err != nil {
					t.Error(err)
					return
				}
				if ex.Chosen() == nil {
					t.Error("nobody was chosen")
				}
				if i%3 == 0 {
					k := (g + i) % len(list)
					m := list[k].Metrics
					m.UpdatedAt = time.Now()
					mu.Lock()
					eps[k] = list[k].WithMetrics(m)
					mu.Unlock()
				}
				if i%40 == 0 {
					s.Forget(list[(g*i)%len(list)])
				}
				d.FirstToken()
				if i%4 == 0 && len(d.Fallbacks) > 0 {
					d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
				}
				d.Done(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(20), CachedTokens: types.Known(0)}})
			}
		})
	}
	wg.Wait()
	if s.Open() != 0 {
		t.Errorf("%d decisions are open", s.Open())
	}
}

func TestCostAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	cost := mustCost(t, plugins.CostOptions{})
	eps, costs := schedulingtest.Fleet(100), make([]float64, 100)
	for _, slo := range []time.Duration{0, time.Second} {
		req := measured(cost, eps)
		req.SLO.TTFT = slo
		if n := testing.AllocsPerRun(100, func() {
			if err := cost.Cost(ctx, req, eps, costs); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("Cost with an SLO of %v allocates %v times, want 0", slo, n)
		}
	}
}

// A KV cache that is nearly full costs, and one that has no room for the prompt costs
// the wait for it.
func TestCostKVCache(t *testing.T) {
	with := func(id string, usage float64) *types.Endpoint {
		ep := schedulingtest.Endpoint(id, schedulingtest.KVUsage(usage))
		ep.Metrics.BlockSize, ep.Metrics.NumBlocks = types.Known(16), types.Known(1000)
		return ep
	}
	b := newCostBench(t, plugins.CostOptions{}, with("empty", 0), with("half", .5), with("nearly", .85), with("full", 1))
	for _, ep := range b.eps { // something that will give its part back
		mustSchedule(t, b.s, prompt(ep.ID, 100), []*types.Endpoint{ep}).FirstToken()
	}
	c := b.explain(prompt("x", 1000))
	kv := func(id string) float64 { return -itemOf(t, c[id], "kv").Contribution }
	if !(kv("empty") < kv("half") && kv("half") < kv("nearly")/4) {
		t.Errorf("KV caches that are empty, half and nearly full cost %v, %v and %v s, want much more at the end", kv("empty"), kv("half"), kv("nearly"))
	}
	wait := func(id string) float64 { return -itemOf(t, c[id], "wait").Contribution }
	if wait("full") < wait("nearly")+.1 {
		t.Errorf("waiting costs %v s where the cache has no room and %v s where it has", wait("full"), wait("nearly"))
	}
}

// Prefill that another endpoint would have saved is charged to those that decode.
func TestCostDisturbance(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("cached", "busy", "idle")...)
	d := mustSchedule(t, b.s, prompt("talk", 2000), b.eps[:1])
	b.serve(d, 50*time.Millisecond, time.Millisecond, 10, 0)
	for i := range 10 {
		mustSchedule(t, b.s, prompt(i, 100), b.eps[1:2]).FirstToken()
	}
	c := b.explain(prompt("talk", 2000))
	for id, want := range map[string]bool{"cached": false, "busy": true, "idle": false} {
		if got := -itemOf(t, c[id], "disturb").Contribution; got > 1e-9 != want {
			t.Errorf("disturbance at %s costs %v s", id, got)
		}
	}
}

// A server that is taken to be faster gets more of a burst, and not all of it: that it is as
// fast with more requests than it is known to have served together is not known.
func TestCostDoesNotGiveABurstToOne(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b", "c")...)
	for i := range 150 {
		ep, step := b.eps[i%3], 20*time.Millisecond
		if i%3 == 0 {
			step = 10 * time.Millisecond
		}
		b.serve(mustSchedule(t, b.s, prompt(fmt.Sprint("one", i), 50), []*types.Endpoint{ep}), step, step, 60, 0)
	}
	count := map[string]int{}
	for i := range 60 {
		count[b.schedule(prompt(fmt.Sprint("burst", i), 50)).Endpoint.ID]++
	}
	if count["a"] < 20 || count["a"] > 36 || count["b"] < 10 || count["c"] < 10 {
		t.Errorf("of 60 requests at once that one server takes half the time for they get %v", count)
	}
}
