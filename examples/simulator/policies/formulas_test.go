package policies_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestLeastRequests(t *testing.T) {
	c := newClock()
	eps := idle(c, 3)
	book(eps[0], 3, 0)
	book(eps[1], 1, 5000)
	book(eps[2], 1, 0)
	require.Equal(t, "b=c>a", order(t, start(t, policies.LeastRequests(), c), blocks("x", 1), eps), "with 3, 1, 1 in flight")
}

// Of two endpoints power of two sees both; of three it never takes the fullest.
func TestPowerOfTwo(t *testing.T) {
	c := newClock()
	eps := idle(c, 3)
	book(eps[0], 2, 0)
	book(eps[1], 1, 0)
	s := start(t, policies.PowerOfTwo(), c)
	taken := map[string]int{}
	for range 3000 {
		d, err := s.Schedule(ctx, blocks("x", 1), eps)
		require.NoError(t, err)
		taken[d.Endpoint.ID]++
		d.Done(types.Outcome{})
	}
	// c wins two of the three pairs, b the third.
	if taken["a"] != 0 || math.Abs(float64(taken["c"])-2000) > 150 {
		t.Errorf("taken = %v, want a never and c about 2000 times of 3000", taken)
	}
}

func TestVLLMDataParallel(t *testing.T) {
	c := newClock()
	eps := []*types.Endpoint{
		endpoint(c, "a", schedulingtest.Waiting(2), schedulingtest.Running(10)), // 18
		endpoint(c, "b", schedulingtest.Running(17)),                            // 17
		endpoint(c, "c", schedulingtest.Waiting(4), schedulingtest.Running(1)),  // 17
		endpoint(c, "d", schedulingtest.Waiting(5)),                             // 20
	}
	s := start(t, policies.VLLMDataParallel(), c)
	require.Equal(t, "b=c>a>d", order(t, s, blocks("x", 1), eps), "4·waiting + running of 18, 17, 17, 20")
	// Each request sent since the reading counts as one waiting: 18, 25, 17, 20. What
	// it came to in the meantime is not known.
	c.wait(time.Millisecond)
	serve(t, s, blocks("x", 1), eps[1])
	send(t, s, blocks("x", 1), eps[1])
	require.Equal(t, "c>a>d>b", order(t, s, blocks("x", 1), eps), "after two to b")
	// A later reading has them.
	m := eps[1].Metrics
	m.UpdatedAt, m.Running = c.now, types.Known(16)
	eps[1] = eps[1].WithMetrics(m)
	require.Equal(t, "b>c>a>d", order(t, s, blocks("x", 1), eps), "after a reading of 16 at b")
	// Readings do not become unknown with age.
	c.wait(time.Hour)
	require.Equal(t, "b>c>a>d", order(t, s, blocks("x", 1), eps), "an hour later")
}

// The tree is that of plugins.DecisionTree for a critical request, whatever the
// priority of the request.
func TestGIE03(t *testing.T) {
	for n := 1; n <= 40; n++ {
		for _, priority := range []int{types.PriorityCritical, types.PriorityStandard, types.PrioritySheddable} {
			eps := schedulingtest.Fleet(n)
			for i, ep := range eps {
				ep.State = types.Ready
				if ep.Metrics.UpdatedAt.IsZero() || n%3 == 0 { // some fleets are full
					ep.Metrics.Waiting = types.Known(float64(126 + i%5))
				}
				ep.Metrics.UpdatedAt = time.Now()
			}
			req := blocks("x", 1)
			req.TargetModel, req.Rand = "adapter-a", types.NewRand(uint64(n))
			want := critical(t, plugins.DecisionTree(), req, eps)
			req.Priority, req.Rand = priority, types.NewRand(uint64(n))
			f := policies.GIE03().Filters
			got := schedulingtest.Filter(t, f[len(f)-1].Filter, req, eps...)
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("fleet of %d, priority %d: kept %v, want %v", n, priority, got, want)
			}
			if req.Priority != priority {
				t.Errorf("the request has priority %d afterwards, want %d", req.Priority, priority)
			}
		}
	}
}

func critical(t *testing.T, p scheduling.Profile, req *types.Request, eps []*types.Endpoint) []string {
	req.Priority = types.PriorityCritical
	return schedulingtest.Filter(t, p.Filters[len(p.Filters)-1].Filter, req, eps...)
}

// The path by hand: queues 0, 1, 9 of three keep up to 0 + 9/3 = 3; of the KV usages
// 0.1 and 0.5 up to 0.1 + 0.4/2 = 0.3.
func TestGIE03ByHand(t *testing.T) {
	c := newClock()
	at := func(id string, queue, kv float64) *types.Endpoint {
		return endpoint(c, id, schedulingtest.Waiting(queue), schedulingtest.KVUsage(kv))
	}
	tests := []struct {
		name string
		eps  []*types.Endpoint
		want string
	}{
		{"least queue, then least KV", []*types.Endpoint{at("a", 0, .5), at("b", 1, .1), at("c", 9, 0)}, "b"},
		{"just within the queue", []*types.Endpoint{at("a", 0, .5), at("b", 3, .1), at("c", 9, 0)}, "b"},
		{"just beyond the queue", []*types.Endpoint{at("a", 0, .5), at("b", 4, .1), at("c", 9, 0)}, "a"},
		{"low queue is below 128", []*types.Endpoint{at("a", 127, .9), at("b", 128, .1)}, "a"},
		{"nobody has a low queue", []*types.Endpoint{at("a", 128, .9), at("b", 128, .1)}, "b"},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, order(t, start(t, policies.GIE03(), c), blocks("x", 1), tt.eps), "%s", tt.name)
	}
}

func TestClassic(t *testing.T) {
	c := newClock()
	eps := []*types.Endpoint{
		endpoint(c, "a", schedulingtest.KVUsage(.1), schedulingtest.Adapters(2, "one", "two")),
		endpoint(c, "b", schedulingtest.Waiting(5), schedulingtest.KVUsage(.5), schedulingtest.Adapters(2, "story")),
		endpoint(c, "c", schedulingtest.Waiting(10), schedulingtest.KVUsage(.9), schedulingtest.Adapters(2, "one")),
	}
	book(eps[0], 4, 0) // of a spread of 8: scores 0.5, 1, 1
	req := blocks("old", 4, "new", 4)
	req.TargetModel = "story"
	tests := []struct {
		name    string
		profile scheduling.Profile
		want    [3]float64 // queue 1, 0.5, 0; KV 0.9, 0.5, 0.1; prefix 0, 0, 0.5; LoRA 0, 1, 0.8
	}{
		{"classic-111", policies.Classic111(), [3]float64{1.9, 1, .6}},
		{"classic-223", policies.Classic223(), [3]float64{3.8, 2, 1.7}},
		{"classic+in-flight", policies.ClassicInFlight(), [3]float64{5.8, 6, 5.7}},
		{"classic+lora", policies.ClassicLoRA(), [3]float64{3.8, 5, 4.1}},
		{"classic+ledger", policies.ClassicLedger(), [3]float64{3.8, 2, 1.7}},
	}
	for _, tt := range tests {
		s := start(t, tt.profile, c)
		old := blocks("old", 4)
		old.TargetModel = "story"
		serve(t, s, old, eps[2])
		x := explain(t, s, blocksOf(req), eps)
		for i, want := range tt.want {
			if got := x.Candidates[i].Total; math.Abs(got-want) > 1e-12 {
				t.Errorf("%s: total of %s = %v, want %v\n%v", tt.name, eps[i].ID, got, want, x)
			}
		}
	}
}

// blocksOf returns the same request anew, with nothing left in it by plugins.
func blocksOf(req *types.Request) *types.Request {
	c := *req
	c.Attrs = types.Attrs{}
	return &c
}

func TestClassicLedger(t *testing.T) {
	c := newClock()
	eps := idle(c, 2)
	for i := range eps {
		m := eps[i].Metrics
		m.BlockSize, m.NumBlocks, m.KVUsage = types.Known(16), types.Known(1000), types.Known(.1)
		eps[i] = eps[i].WithMetrics(m)
	}
	s := start(t, policies.ClassicLedger(), c)
	c.wait(10 * time.Millisecond)
	// 25 blocks of 16 tokens, then the same prompt again, of which the index holds 24
	// (6 of its own blocks of 256 bytes): 400 + 16 of 16,000 tokens, and 2 waiting.
	send(t, s, blocks("x", 25), eps[0])
	send(t, s, blocks("x", 25), eps[0])
	x := explain(t, s, blocks("y", 25), eps)
	want := [2]float64{2*0 + 2*(1-.126), 2*1 + 2*.9}
	for i := range want {
		if got := x.Candidates[i].Total; math.Abs(got-want[i]) > 1e-12 {
			t.Errorf("total of %s = %v, want %v\n%v", eps[i].ID, got, want[i], x)
		}
	}
	// What it does not know it does not correct: a server that reports nothing.
	unread := []*types.Endpoint{schedulingtest.Endpoint("u", schedulingtest.Unread()), eps[1]}
	send(t, s, blocks("x", 25), unread[0])
	for _, term := range explain(t, s, blocks("y", 25), unread).Candidates[0].Terms[:2] {
		if !term.Unknown {
			t.Errorf("%s of an endpoint that was never read = %v, want unknown", term.Scorer, term.Score)
		}
	}
}

func TestSGLang(t *testing.T) {
	tests := []struct {
		name  string
		loads [3]int64
		match int // blocks of 10 that b holds
		want  string
	}{
		{"balanced, match above 0.3", [3]int64{0, 0, 0}, 4, "b>a=c"},
		{"match of 0.3 is not above it", [3]int64{0, 0, 0}, 3, "c>a>b"},
		{"no match: smallest tree", [3]int64{9, 0, 8}, 0, "c>a>b"},
		{"difference of 64", [3]int64{10, 74, 10}, 4, "b>a=c"},
		{"difference of 65", [3]int64{10, 75, 10}, 4, "a=c>b"},
		{"difference of 65, 1.5 times", [3]int64{130, 195, 130}, 4, "b>a=c"},
		{"difference of 66, more than 1.5 times", [3]int64{130, 196, 131}, 4, "a>c>b"},
	}
	for _, tt := range tests {
		c := newClock()
		eps := idle(c, 3)
		s := start(t, policies.SGLang(), c)
		serve(t, s, blocks("q", tt.match, "other", 20), eps[1])
		serve(t, s, blocks("one", 3), eps[0])
		serve(t, s, blocks("two", 2), eps[2])
		serve(t, s, blocks("two", 2), eps[2]) // nothing new
		for i, n := range tt.loads {
			book(eps[i], n, 0)
		}
		require.Equal(t, tt.want, order(t, s, blocks("q", 10), eps), "%s", tt.name)
	}
}

func TestAIBrixPrefix(t *testing.T) {
	tests := []struct {
		name  string
		loads [3]int64
		match [3]int // blocks of 10 held
		want  string
	}{
		{"no match: least requests", [3]int64{3, 1, 2}, [3]int{}, "b>c>a"},
		{"most matched", [3]int64{1, 2, 2}, [3]int{0, 3, 5}, "c>b>a"},
		{"equal match: fewer requests", [3]int64{2, 2, 1}, [3]int{0, 5, 5}, "c>b>a"},
		// mean 8/3, deviation 3.77: up to 6.4
		{"difference of 8, beyond the deviation", [3]int64{0, 0, 8}, [3]int{0, 3, 10}, "b>a>c"},
		// mean 5.33, deviation 3.77: up to 9.1
		{"difference of 8, within the deviation", [3]int64{0, 8, 8}, [3]int{0, 3, 10}, "c>b>a"},
		{"difference of 9", [3]int64{0, 9, 9}, [3]int{0, 3, 10}, "a>b=c"},
	}
	for _, tt := range tests {
		c := newClock()
		eps := idle(c, 3)
		s := start(t, policies.AIBrixPrefix(), c)
		for i, n := range tt.match {
			serve(t, s, blocks("q", n), eps[i])
			book(eps[i], tt.loads[i], 0)
		}
		require.Equal(t, tt.want, order(t, s, blocks("q", 10), eps), "%s", tt.name)
		c.wait(20*time.Minute + time.Second)
		if a, b := order(t, s, blocks("q", 10), eps), order(t, start(t, policies.LeastRequests(), c), blocks("q", 10), eps); a != b {
			t.Errorf("%s: 20 minutes later %s, want least requests, %s", tt.name, a, b)
		}
	}
}

// n ≤ mean + deviation includes the bound: of 0 and 2, 1 + 1.
func TestAIBrixAtTheDeviation(t *testing.T) {
	c := newClock()
	eps := idle(c, 2)
	s := start(t, policies.AIBrixPrefix(), c)
	serve(t, s, blocks("q", 5), eps[1])
	book(eps[1], 2, 0)
	require.Equal(t, "b>a", order(t, s, blocks("q", 5), eps))
}

func TestDynamo(t *testing.T) {
	c := newClock()
	eps := idle(c, 2)
	s := start(t, policies.Dynamo(), c)
	costs := func(when string, a, b float64) {
		t.Helper()
		want := fmt.Sprintf("%g blocks, %g blocks", a, b)
		if got := detail(t, s, blocks("x", 5, "y", 5), eps, 0) + ", " + detail(t, s, blocks("x", 5, "y", 5), eps, 1); got != want {
			t.Errorf("%s: cost %s, want %s", when, got, want)
		}
	}
	// Ten blocks: 160/16 to prefill and 10 to hold.
	costs("idle", 20, 20)
	d := send(t, s, blocks("x", 10), eps[0])
	costs("while another of five equal blocks is prefilled", (160.+80)/16+10+5, 20)
	twin := send(t, s, blocks("x", 10), eps[0])
	costs("and its twin, which is cached", (160.+80)/16+10+5, 20)
	d.FirstToken()
	twin.FirstToken()
	costs("while they decode", 80./16+10+5, 20)
	d.Done(types.Outcome{})
	costs("while the twin decodes", 80./16+10+5, 20)
	twin.Done(types.Outcome{})
	costs("when they are finished", 80./16+10, 20)
	c.wait(120 * time.Second)
	costs("120 s later", 15, 20)
	c.wait(time.Nanosecond)
	costs("after 120 s", 20, 20)
}

// A retry moves the blocks with the request, and an endpoint that restarted has none.
func TestDynamoMoves(t *testing.T) {
	c := newClock()
	eps := idle(c, 2)
	s := start(t, policies.Dynamo(), c)
	d := send(t, s, blocks("x", 10), eps[0])
	d.Retry(eps[1], types.Outcome{Status: 500}) // one is no reason to leave it out
	d.FirstToken()
	if a, b := detail(t, s, blocks("y", 1), eps, 0), detail(t, s, blocks("y", 1), eps, 1); a != "2 blocks" || b != "12 blocks" {
		t.Errorf("after the retry: %s and %s, want 2 and 12 blocks", a, b)
	}
	s.Forget(eps[1])
	send(t, s, blocks("x", 3), eps[1]).FirstToken()
	d.Done(types.Outcome{})
	require.Equal(t, "5 blocks", detail(t, s, blocks("y", 1), eps, 1), "after a restart")
}

func TestCHWBL(t *testing.T) {
	c := newClock()
	eps := idle(c, 4)
	s := start(t, policies.CHWBL(), c)
	// The order along the ring, of endpoints with nothing in flight.
	ring := strings.Split(order(t, s, blocks("x", 2), eps), ">")
	if len(ring) != 4 {
		t.Fatalf("order = %v, want four different places", ring)
	}
	by := map[string]*types.Endpoint{}
	for _, ep := range eps {
		by[ep.ID] = ep
	}
	tests := []struct {
		name  string
		loads [4]int64 // in the order of the ring
		want  []int
	}{
		{"1 + 1 ≤ 1.25·8/4", [4]int64{1, 2, 2, 2}, []int{0, 1, 2, 3}},
		{"2 + 1 > 1.25·8/4", [4]int64{2, 2, 1, 2}, []int{2, 0, 1, 3}},
		{"4 + 1 ≤ 1.25·16/4", [4]int64{4, 1, 5, 5}, []int{0, 1, 2, 3}},
		{"5 + 1 > 1.25·16/4", [4]int64{5, 5, 4, 1}, []int{2, 3, 0, 1}},
		{"nobody is below 1.25·3/4", [4]int64{1, 1, 0, 0}, []int{0, 1, 2, 3}},
	}
	for _, tt := range tests {
		for i, id := range ring {
			book(by[id], tt.loads[i], 0)
		}
		var want []string
		for _, i := range tt.want {
			want = append(want, ring[i])
		}
		require.Equal(t, strings.Join(want, ">"), order(t, s, blocks("x", 2), eps), "%s", tt.name)
		for i, id := range ring {
			book(by[id], -tt.loads[i], 0)
		}
	}
}

// The key is the adapter and the first 1,024 tokens, and all gateways agree on it.
func TestCHWBLKey(t *testing.T) {
	c := newClock()
	eps := idle(c, 10)
	home := func(req *types.Request) string {
		return order(t, start(t, policies.CHWBL(), c), req, eps)
	}
	same, other := 0, 0
	for i := range 200 {
		topic := fmt.Sprint("topic ", i)
		a := home(blocks(topic, 64))
		if a == home(blocks(topic, 64, "more", 100)) {
			same++
		}
		if a != home(blocks(topic, 63, "more", 1)) {
			other++
		}
		lora := blocks(topic, 64)
		lora.TargetModel = "adapter"
		if a != home(lora) {
			other++
		}
	}
	if same != 200 || other < 390 {
		t.Errorf("the order of the ring was the same %d times of 200 with the same beginning and different %d times of 400 without", same, other)
	}
}

func TestLLMDSticky(t *testing.T) {
	tests := []struct {
		name   string
		match  int      // blocks of 10 that a holds
		tokens [3]int64 // in flight
		want   string   // by uncached tokens, that is in flight and own
	}{
		{"8 of 10 is warm", 8, [3]int64{1000, 0, 0}, "a"},
		{"7 of 10 is not", 7, [3]int64{1000, 0, 0}, "b=c>a"},
		{"7 of 10 counts in the cost", 7, [3]int64{100, 0, 0}, "a>b=c"},
		{"286,720 more is not saturated", 10, [3]int64{286_730, 10, 20}, "a"},
		{"286,721 more is", 10, [3]int64{286_731, 10, 20}, "b>c>a"},
	}
	for _, tt := range tests {
		c := newClock()
		eps := idle(c, 3)
		s := start(t, policies.LLMDSticky(), c)
		serve(t, s, blocks("q", tt.match), eps[0])
		for i, n := range tt.tokens {
			book(eps[i], 0, n)
		}
		require.Equal(t, tt.want, order(t, s, blocks("q", 10), eps), "%s", tt.name)
	}
}

// Everybody is warm: the least tokens, or the fewest requests.
func TestLLMDStickyAllWarm(t *testing.T) {
	for _, tt := range []struct {
		profile scheduling.Profile
		want    string
	}{
		{policies.LLMDSticky(), "b>a"},
		{policies.LLMDStickyRequests(), "a>b"},
	} {
		c := newClock()
		eps := idle(c, 2)
		s := start(t, tt.profile, c)
		for _, ep := range eps {
			serve(t, s, blocks("q", 10), ep)
		}
		book(eps[0], 1, 500_000)
		book(eps[1], 2, 100)
		require.Equal(t, tt.want, order(t, s, blocks("q", 10), eps))
	}
}

// held is a CacheOracle by endpoint ID.
type held map[string]int

func (h held) Cached(_ *types.Request, ep *types.Endpoint) int { return h[ep.ID] }

func TestLLMDPrecise(t *testing.T) {
	c := newClock()
	eps := []*types.Endpoint{
		endpoint(c, "a", schedulingtest.Waiting(4), schedulingtest.KVUsage(.75)), // queue 0, KV 0.25
		endpoint(c, "b", schedulingtest.Waiting(1), schedulingtest.KVUsage(.5)),  // queue 0.75, KV 0.5
		endpoint(c, "c"), // queue 1, KV 1
	}
	oracle := held{"a": 160, "b": 80}
	tests := []struct {
		name    string
		profile scheduling.Profile
		want    [3]float64
	}{
		{"2/1/1", policies.LLMDPrecise(oracle), [3]float64{2.25, 1 + .5 + .75, 2}},
		{"3/2/2", policies.LLMDPrecise322(oracle), [3]float64{3.5, 1.5 + 1 + 1.5, 4}},
	}
	for _, tt := range tests {
		x := explain(t, start(t, tt.profile, c), blocks("q", 10), eps)
		for i, want := range tt.want {
			if got := x.Candidates[i].Total; math.Abs(got-want) > 1e-12 {
				t.Errorf("%s: total of %s = %v, want %v", tt.name, eps[i].ID, got, want)
			}
		}
	}
}

func TestDynamoPrecise(t *testing.T) {
	c := newClock()
	eps := idle(c, 2)
	s := start(t, policies.DynamoPrecise(held{"a": 80, "b": 160}), c)
	d := send(t, s, blocks("q", 10), eps[0])
	if got := eps[0].Load.PrefillTokens(); got != 80 {
		t.Errorf("uncached tokens in the ledger = %d, want 80", got)
	}
	a, b := detail(t, s, blocks("q", 10), eps, 0), detail(t, s, blocks("q", 10), eps, 1)
	if a != "20 blocks" || b != "10.0625 blocks" { // (80 + 80)/16 + 10 and 1/16 + 10
		t.Errorf("costs %s and %s, want 20 and 10.0625 blocks", a, b)
	}
	d.Done(types.Outcome{})
}

func TestLMetric(t *testing.T) {
	c := newClock()
	eps := idle(c, 3)
	s := start(t, policies.LMetric(), c)
	serve(t, s, blocks("q", 6), eps[0]) // own: 64, 160, 160
	book(eps[0], 4, 36)                 // (64 + 36)·5
	book(eps[1], 1, 90)                 // (160 + 90)·2
	book(eps[2], 2, 0)                  // 160·3
	require.Equal(t, "c>a=b", order(t, s, blocks("q", 10), eps), "100·5, 250·2 and 160·3")
	// A prompt that is cached goes to the smaller batch: 1·5 and 1·2.
	eps = idle(c, 2)
	for i, n := range []int64{4, 1} {
		serve(t, s, blocks("z", 6), eps[i])
		book(eps[i], n, 0)
	}
	require.Equal(t, "b>a", order(t, s, blocks("z", 6), eps), "cached on both")
}

// The cost of LMetric, 160 tokens by one request everywhere, times 100 without the adapter
// and times 100 without a slot.
func TestLMetricAdapters(t *testing.T) {
	c := newClock()
	slots := func(running ...string) schedulingtest.EndpointOption {
		return func(ep *types.Endpoint) {
			ep.Metrics.MaxAdapters, ep.Metrics.RunningAdapters = types.Known(2), running
		}
	}
	eps := []*types.Endpoint{
		endpoint(c, "a", slots("x", "y")), endpoint(c, "b", slots("y")),
		endpoint(c, "c", slots("y", "z")), endpoint(c, "d"), // d reports no adapters
	}
	s := start(t, policies.LMetricAdapters(), c)
	adapted := func(adapter string) *types.Request {
		req := blocks("q", 10)
		req.TargetModel = adapter
		return req
	}
	require.Equal(t, "a=d>b>c", order(t, s, adapted("x"), eps), "in use at a, a slot at b, none at c, unknown at d")
	require.Equal(t, "a=b=c=d", order(t, s, adapted(""), eps), "the base model")
	// A hundred times the cost is too much: 160·101 and 160·100.
	book(eps[0], 100, 0)
	book(eps[3], 100, 0)
	require.Equal(t, "b>a=d>c", order(t, s, adapted("x"), eps), "with 100 requests at a and d")
	// What was sent to b is in use there before b reports it, and takes its last slot.
	d := send(t, s, adapted("v"), eps[1])
	d.FirstToken()
	require.Equal(t, "b", order(t, s, adapted("v"), eps)[:1], "sent to b")
	require.Equal(t, "a=d>c>b", order(t, s, adapted("x"), eps), "b has no slot any more, and a request more than c")
	d.Done(types.Outcome{Status: 200})
	require.Equal(t, "b>a=d>c", order(t, s, adapted("x"), eps), "and has it again")
}

// Tuned rules differ from the published ones where their constants say: b has some of the
// prompt, and a has less to do.
func TestTuned(t *testing.T) {
	requests := func(n int64) func(*scheduling.Scheduler, *types.Endpoint) {
		return func(_ *scheduling.Scheduler, ep *types.Endpoint) { book(ep, n, 0) }
	}
	tokens := func(n int64) func(*scheduling.Scheduler, *types.Endpoint) {
		return func(_ *scheduling.Scheduler, ep *types.Endpoint) { book(ep, 1, n) }
	}
	decoding := func(n int) func(*scheduling.Scheduler, *types.Endpoint) {
		return func(s *scheduling.Scheduler, ep *types.Endpoint) { send(t, s, blocks("other", n), ep).FirstToken() }
	}
	tests := []struct {
		name             string
		published, tuned func() scheduling.Profile
		match            int // blocks of 40 that b holds
		busy             func(*scheduling.Scheduler, *types.Endpoint)
		want, wantTuned  string
	}{
		{"sglang, 16 requests more", policies.SGLang, policies.SGLangTuned, 24, requests(16), "b>a", "b>a"},
		{"sglang, 17 requests more", policies.SGLang, policies.SGLangTuned, 24, requests(17), "b>a", "a>b"},
		{"sglang, half matched", policies.SGLang, policies.SGLangTuned, 20, requests(0), "b>a", "a>b"},
		{"aibrix, 16 requests more", policies.AIBrixPrefix, policies.AIBrixPrefixTuned, 20, requests(16), "a>b", "b>a"},
		{"aibrix, 17 requests more", policies.AIBrixPrefix, policies.AIBrixPrefixTuned, 20, requests(17), "a>b", "a>b"},
		// 40 blocks of prefill against 40 - 10 and those in use.
		{"dynamo, 9 blocks in use", policies.Dynamo, policies.DynamoTuned, 10, decoding(9), "b>a", "b>a"},
		{"dynamo, 11 blocks in use", policies.Dynamo, policies.DynamoTuned, 10, decoding(11), "a>b", "b>a"},
		{"dynamo, 81 blocks in use", policies.Dynamo, policies.DynamoTuned, 10, decoding(81), "a>b", "a>b"},
		{"llmd-sticky, 1,000 tokens more", policies.LLMDSticky, policies.LLMDStickyTuned, 40, tokens(1000), "b", "b"},
		{"llmd-sticky, 1,001 tokens more", policies.LLMDSticky, policies.LLMDStickyTuned, 40, tokens(1001), "b", "a>b"},
		// 3·0.5 for the prefix, against 4·4/8 and 4·4/16.
		{"classic, 4 requests more", policies.ClassicInFlight, policies.ClassicInFlightTuned, 20, requests(4), "a>b", "b>a"},
		{"classic, 7 requests more", policies.ClassicInFlight, policies.ClassicInFlightTuned, 20, requests(7), "a>b", "a>b"},
	}
	for _, tt := range tests {
		for i, profile := range []func() scheduling.Profile{tt.published, tt.tuned} {
			c := newClock()
			eps := idle(c, 2)
			s := start(t, profile(), c)
			serve(t, s, blocks("q", tt.match), eps[1])
			tt.busy(s, eps[1])
			require.Equal(t, []string{tt.want, tt.wantTuned}[i], order(t, s, blocks("q", 40), eps), "%s, %d", tt.name, i)
		}
	}
}
