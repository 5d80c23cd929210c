package plugins_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// plain is a model server as simple as can be, and not like the one that Cost has in mind: so
// many requests at a time, others wait in order, and each takes as long as its tokens say.
type plain struct {
	places  int
	api     time.Duration // before and after, whatever the request
	prefill time.Duration // for a token of the prompt
	step    time.Duration // for a token of the answer
	grow    float64       // part by which a step is longer for each other request there
	jitter  time.Duration // mean of the exponential time by which what is seen is late
	free    []time.Time   // when each place is
}

// serve returns when a request that comes now has its first token, and when it ends.
func (p *plain) serve(now time.Time, prompt, output int, rnd *rand.Rand) (first, end time.Time) {
	if p.free == nil {
		p.free = make([]time.Time, p.places)
	}
	slices.SortFunc(p.free, time.Time.Compare)
	start := now.Add(p.api)
	if p.free[0].After(start) {
		start = p.free[0]
	}
	others := 0
	for _, f := range p.free[1:] {
		if f.After(start) {
			others++
		}
	}
	step := time.Duration(float64(p.step) * (1 + p.grow*float64(others)))
	first = start.Add(time.Duration(prompt)*p.prefill + step)
	end = first.Add(time.Duration(output-1) * step)
	p.free[0] = end
	late := func() time.Duration { return time.Duration(rnd.ExpFloat64() * float64(p.jitter)) }
	return first.Add(late()), end.Add(late())
}

// world is a scheduler in front of plain servers, in a time of its own.
type world struct {
	*costBench
	servers map[string]*plain
	rnd     *rand.Rand
	events  []happening
}

type happening struct {
	at time.Time
	do func()
}

func newWorld(t testing.TB, o plugins.CostOptions, servers ...*plain) *world {
	w := &world{servers: map[string]*plain{}, rnd: rand.New(rand.NewPCG(1, 2))}
	var eps []*types.Endpoint
	for i, s := range servers {
		id := fmt.Sprint("server-", i)
		eps = append(eps, schedulingtest.Endpoint(id, schedulingtest.Unread()))
		w.servers[id] = s
	}
	w.costBench = newCostBench(t, o, eps...)
	return w
}

func equal(n int, s plain) (all []*plain) {
	for range n {
		one := s
		all = append(all, &one)
	}
	return all
}

// play makes time pass until nothing is under way.
func (w *world) play() {
	for len(w.events) > 0 {
		slices.SortStableFunc(w.events, func(a, b happening) int { return a.at.Compare(b.at) })
		e := w.events[0]
		w.events = w.events[1:]
		w.now = e.at
		e.do()
	}
}

// asked is one request.
type asked struct {
	prompt, output int
	stream         bool
	usage          bool
}

// send has a request served, and returns where.
func (w *world) send(a asked) string {
	req := prompt(w.rnd.Int64(), a.prompt)
	req.Stream = a.stream
	d := w.schedule(req)
	first, end := w.servers[d.Endpoint.ID].serve(w.now, a.prompt, a.output, w.rnd)
	out := types.Outcome{Status: 200}
	if a.usage {
		out.Usage = types.Usage{PromptTokens: types.Known(float64(a.prompt)), CompletionTokens: types.Known(float64(a.output))}
	}
	if a.stream {
		out.Tokens, out.Reads = a.output, a.output
		w.events = append(w.events, happening{first, d.FirstToken})
		end = slices.MaxFunc([]time.Time{end, first}, time.Time.Compare)
	}
	w.events = append(w.events, happening{end, func() { d.Done(out) }})
	return d.Endpoint.ID
}

// one sends a request and waits for its end.
func (w *world) one(a asked) {
	w.send(a)
	w.play()
}

var figures = regexp.MustCompile(`(?:step takes|first token in) ([0-9.e+-]+) (ms|s)`)

// says returns a time that an item's detail names, in seconds.
func (w *world) says(c scheduling.Candidate, item string) float64 {
	w.t.Helper()
	detail := itemOf(w.t, c, item).Detail
	m := figures.FindStringSubmatch(detail)
	if m == nil {
		w.t.Fatalf("no time in %q", detail)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		w.t.Fatal(err)
	}
	if m[2] == "ms" {
		v /= 1000
	}
	return v
}

func (w *world) step(id string) float64 { return w.says(w.explain(prompt("x", 100))[id], "output") }

func (w *world) firstToken(id string, tokens int) float64 {
	return w.says(w.explain(prompt(w.rnd.Int64(), tokens))[id], "wait")
}

// how is whether requests are streamed, by their number.
var how = map[string]func(i int) bool{
	"unstreamed": func(int) bool { return false },
	"streamed":   func(int) bool { return true },
	"mixed":      func(i int) bool { return i%2 == 0 },
}

// Bursts over equal servers spread, whatever was learned before and during them, and however
// little it has to do with the engine that Cost has in mind: streamed or not, with usage or
// without, fast and slow, with places and without.
func TestBurstsOverEqualServers(t *testing.T) {
	oneGoroutine(t)
	servers := map[string]plain{
		"8 places, 0.5 ms a token":         {places: 8, step: 500 * time.Microsecond},
		"8 places, 15 ms a token":          {places: 8, step: 15 * time.Millisecond},
		"8 places, 100 ms a token, grows":  {places: 8, step: 100 * time.Millisecond, prefill: 2 * time.Millisecond, grow: .1, api: 60 * time.Millisecond},
		"any number, 15 ms a token":        {places: 1000, step: 15 * time.Millisecond, prefill: 100 * time.Microsecond},
		"8 places, 15 ms a token, jitter":  {places: 8, step: 15 * time.Millisecond, jitter: 5 * time.Millisecond},
		"any number, 200 ms whatever else": {places: 1000, api: 200 * time.Millisecond, step: time.Microsecond},
		"any number, grows by a tenth":     {places: 1000, step: 8 * time.Millisecond, grow: .1},
		"one at a time":                    {places: 1, step: 5 * time.Millisecond},
	}
	for name, server := range servers {
		for kind, streams := range how {
			for _, usage := range []bool{true, false} {
				for _, same := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s/%s/usage=%v/same length=%v", name, kind, usage, same), func(t *testing.T) {
						const n, size = 4, 60
						w := newWorld(t, plugins.CostOptions{}, equal(n, server)...)
						ask := func(i int) asked {
							a := asked{5, 60, streams(i), usage}
							if !same {
								a.prompt, a.output = 5+w.rnd.IntN(600), 5+w.rnd.IntN(156)
							}
							return a
						}
						for i := range 30 {
							w.one(ask(i))
						}
						share := 1.3
						if !same {
							share = 1.6 // short prompts go where they do not wait behind long ones
						}
						for burst := range 10 {
							got := map[string]int{}
							for i := range size {
								got[w.send(ask(i))]++
							}
							for id, count := range got {
								if most := share * size / n; float64(count) > most {
									t.Errorf("burst %d: %s has %d of %d, want at most %v: %v", burst, id, count, size, most, got)
								}
							}
							w.play()
							w.pass(time.Second)
						}
						if alike := spread(w); alike > 1.2 {
							t.Errorf("steps learned of equal servers differ by a factor of %v", alike)
						}
					})
				}
			}
		}
	}
}

// spread is the ratio of the largest to the smallest step that is believed.
func spread(w *world) float64 {
	lo, hi := math.Inf(1), 0.
	for id := range w.servers {
		s := w.step(id)
		lo, hi = min(lo, s), max(hi, s)
	}
	return hi / lo
}

// The step that is learned is the true one, of streams, of whole answers, and of both.
func TestTheStepIsLearned(t *testing.T) {
	oneGoroutine(t)
	for name, server := range map[string]plain{
		"15 ms":                         {places: 8, step: 15 * time.Millisecond},
		"1 ms, a fast engine":           {places: 64, step: time.Millisecond, api: 500 * time.Microsecond},
		"40 ms behind 50 ms of API":     {places: 8, step: 40 * time.Millisecond, api: 50 * time.Millisecond, prefill: time.Millisecond},
		"15 ms with jitter":             {places: 8, step: 15 * time.Millisecond, jitter: 5 * time.Millisecond},
		"400 ms, far from all else":     {places: 4, step: 400 * time.Millisecond, prefill: 20 * time.Millisecond},
		"0.1 ms, another kind of model": {places: 64, step: 100 * time.Microsecond},
	} {
		for kind, streams := range how {
			t.Run(name+"/"+kind, func(t *testing.T) {
				w := newWorld(t, plugins.CostOptions{}, equal(3, server)...)
				ask := func(i int) asked { return asked{20 + w.rnd.IntN(400), 5 + w.rnd.IntN(156), streams(i), true} }
				for i := range 50 {
					w.one(ask(i))
				}
				check := func(when string) {
					for id := range w.servers {
						if got, want := w.step(id), server.step.Seconds(); math.Abs(got/want-1) > .2 {
							t.Errorf("%s: %s is believed to take %.3g ms for a step, want %.3g", when, id, 1000*got, 1000*want)
						}
					}
				}
				check("after 50 requests, one after the other")
				for range 10 {
					for i := range 40 {
						w.send(ask(i))
					}
					w.play()
				}
				check("after ten bursts")
			})
		}
	}
}

// Of a fleet that is far from what was believed of it, the time to the first token is known
// within a factor of two after fifty requests.
func TestAFleetFarFromThePrior(t *testing.T) {
	for _, factor := range []float64{.01, .1, 1, 10, 100} {
		for kind, streams := range how {
			t.Run(fmt.Sprintf("%vx/%s", factor, kind), func(t *testing.T) {
				truth := plain{places: 16, step: 20 * time.Millisecond, prefill: 500 * time.Microsecond, api: 5 * time.Millisecond}
				w := newWorld(t, plugins.CostOptions{
					Engine:    plugins.EngineRates{Step: factor * .02, Token: factor * 500e-6, Sequence: factor * 18e-6, Context: factor * 47e-9},
					Transport: factor * .005,
				}, equal(3, truth)...)
				for i := range 50 {
					w.one(asked{20 + w.rnd.IntN(800), 5 + w.rnd.IntN(100), streams(i), true})
				}
				for _, tokens := range []int{100, 400, 2000} {
					want := truth.api.Seconds() + float64(tokens)*truth.prefill.Seconds() + truth.step.Seconds()
					for id := range w.servers {
						if got := w.firstToken(id, tokens); got > 2*want || got < want/2 {
							t.Errorf("first token of %d on %s is expected in %.3g ms, want %.3g", tokens, id, 1000*got, 1000*want)
						}
					}
				}
			})
		}
	}
}

// Where somebody on the way collects the tokens of a stream and hands them on all at once, or
// in few pieces, or a client takes them slowly, their times are not taken for those of tokens.
func TestTokensThatCameLate(t *testing.T) {
	const step, output = 15 * time.Millisecond, 100
	for name, change := range map[string]func(first, end *time.Duration, out *types.Outcome){
		"all at the end":         func(first, end *time.Duration, out *types.Outcome) { *first = *end; out.Reads = 1 },
		"all at once, uncounted": func(first, end *time.Duration, out *types.Outcome) { *first = *end; out.Reads, out.Tokens = 0, 0 },
		"in four pieces":         func(first, end *time.Duration, out *types.Outcome) { *first = *end / 2; out.Reads = 4 },
		"a slow client": func(first, end *time.Duration, out *types.Outcome) {
			out.Stalled = 10 * *end
			*end += out.Stalled
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b")...)
			w := &world{costBench: b, rnd: rand.New(rand.NewPCG(1, 1))}
			for i := range 200 {
				d := b.schedule(prompt(i, 50))
				n := output + i%50
				first, end := step, time.Duration(n)*step
				out := types.Outcome{Status: 200, Tokens: n, Reads: n, Usage: types.Usage{PromptTokens: types.Known(50), CompletionTokens: types.Known(float64(n))}}
				if i%3 > 0 { // the others are what they seem
					change(&first, &end, &out)
				}
				b.pass(first)
				d.FirstToken()
				b.pass(end - first)
				d.Done(out)
			}
			if got := w.step("a"); math.Abs(got/step.Seconds()-1) > .25 {
				t.Errorf("a step is believed to take %.3g ms, want 15", 1000*got)
			}
			if got := w.firstToken("a", 50); got > 2*step.Seconds() {
				t.Errorf("a first token is believed to take %.3g ms, want 15", 1000*got)
			}
		})
	}
}

// Requests that were cancelled, failed, or went on to another server leave nothing of what they
// would have taken.
func TestNothingIsLeftOfWhatWasNotComputed(t *testing.T) {
	oneGoroutine(t)
	for name, end := range map[string]func(d *scheduling.Decision, other *types.Endpoint){
		"cancelled": func(d *scheduling.Decision, _ *types.Endpoint) { d.Done(types.Outcome{Cancelled: true}) },
		"failed":    func(d *scheduling.Decision, _ *types.Endpoint) { d.Done(types.Outcome{Status: 500}) },
		"refused":   func(d *scheduling.Decision, _ *types.Endpoint) { d.Done(types.Outcome{Status: 400}) },
		"unsent":    func(d *scheduling.Decision, _ *types.Endpoint) { d.Done(types.Outcome{Unsent: true, Err: errOther}) },
		"retried": func(d *scheduling.Decision, other *types.Endpoint) {
			d.Retry(other, types.Outcome{Status: 503})
			d.Done(types.Outcome{Cancelled: true})
		},
		"expired": func(d *scheduling.Decision, _ *types.Endpoint) { d.Done(types.Outcome{Err: scheduling.ErrExpired}) },
	} {
		for _, stream := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/stream=%v", name, stream), func(t *testing.T) {
				b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b")...)
				w := &world{costBench: b, rnd: rand.New(rand.NewPCG(1, 1))}
				before := w.firstToken("a", 100)
				var open []*scheduling.Decision
				for i := range 10 {
					req := prompt(i, 32_000)
					req.Stream = stream
					open = append(open, mustSchedule(t, b.s, req, b.eps[:1]))
					b.pass(time.Millisecond)
				}
				for _, d := range open {
					b.pass(time.Millisecond)
					end(d, b.eps[1])
				}
				for id := range map[string]bool{"a": true, "b": true} {
					if after := w.firstToken(id, 100); after > 2*before {
						t.Errorf("%s: first token in %.3g ms, before it was %.3g", id, 1000*after, 1000*before)
					}
				}
			})
		}
	}
}

// Nor does a queue that is over: a first token that came late because others went before is
// nothing that the next one, at an idle server, will meet as well.
func TestNothingIsLeftOfAQueueThatIsOver(t *testing.T) {
	for name, streamed := range how {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, plugins.CostOptions{}, equal(3, plain{places: 2, api: time.Millisecond, prefill: 20 * time.Microsecond, step: 10 * time.Millisecond})...)
			for range 6 {
				for i := range 45 {
					w.send(asked{prompt: 100, output: 60, usage: true, stream: streamed(i)})
				}
				w.play()
				w.pass(time.Second)
			}
			const truth = .001 + 100*20e-6 + .010
			most := 2 * truth
			if name == "unstreamed" {
				most = 5 * truth // of whole times that all have waits in them
			}
			for id := range w.servers {
				if got := w.firstToken(id, 100); got > most {
					t.Errorf("%s is idle: first token in %.3g ms, it takes %.3g", id, 1000*got, 1000*truth)
				}
			}
		})
	}
}

var errOther = fmt.Errorf("something else")

// What is learned of equal servers does not drift apart, though each tenant keeps to one.
func TestEqualServersStayEqual(t *testing.T) {
	oneGoroutine(t)
	for kind, streams := range how {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, plugins.CostOptions{}, equal(2, plain{places: 24, step: 15 * time.Millisecond, prefill: 50 * time.Microsecond, grow: .02, jitter: 2 * time.Millisecond})...)
			sizes := make([]int, 200)
			for i := range sizes {
				sizes[i] = 100 + w.rnd.IntN(3000)
			}
			at := w.now
			for i := range 20_000 {
				at = at.Add(time.Duration(w.rnd.ExpFloat64() * float64(100*time.Millisecond)))
				tenant := w.rnd.IntN(len(sizes))
				w.events = append(w.events, happening{at, func() {
					req := prompt(tenant, sizes[tenant])
					req.Stream = streams(i)
					d := w.schedule(req)
					output := 10 + w.rnd.IntN(100)
					first, end := w.servers[d.Endpoint.ID].serve(w.now, sizes[tenant]/10, output, w.rnd)
					if req.Stream {
						w.events = append(w.events, happening{first, d.FirstToken})
					}
					w.events = append(w.events, happening{end, func() {
						d.Done(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(float64(output)), PromptTokens: types.Known(float64(sizes[tenant]))}})
					}})
				}})
			}
			w.playSorted()
			if r := spread(w); r > 1.1 {
				t.Errorf("the steps that are believed differ by a factor of %v", r)
			}
		})
	}
}

// playSorted is play for many events that are mostly in order.
func (w *world) playSorted() {
	byTime := func(a, b happening) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) }
	slices.SortStableFunc(w.events, byTime)
	for len(w.events) > 0 {
		e := w.events[0]
		rest := w.events[1:]
		w.events = nil
		w.now = e.at
		e.do()
		for _, more := range w.events {
			i, _ := slices.BinarySearchFunc(rest, more, byTime)
			rest = slices.Insert(rest, i, more)
		}
		w.events = rest
	}
}

// As long as engines list new adapters, they are told apart: names that are listed no more make
// room for others.
func TestManyAdaptersInALife(t *testing.T) {
	oneGoroutine(t)
	eps := []*types.Endpoint{schedulingtest.Endpoint("a", schedulingtest.Adapters(4)), schedulingtest.Endpoint("b", schedulingtest.Adapters(4))}
	b := newCostBench(t, plugins.CostOptions{}, eps...)
	list := func(i int, names ...string) {
		b.pass(time.Millisecond)
		m := b.eps[i].Metrics
		m.UpdatedAt, m.RunningAdapters = b.now, names
		b.eps[i] = b.eps[i].WithMetrics(m)
	}
	for i := range 6000 {
		list(i%2, fmt.Sprint("adapter-", i))
		b.schedule(prompt("x", 10)).Done(types.Outcome{Cancelled: true})
	}
	list(0, "newest")
	list(1)
	req := prompt("y", 10)
	req.TargetModel = "newest"
	c := b.explain(req)
	here, there := itemOf(t, c["a"], "adapter"), itemOf(t, c["b"], "adapter")
	if here.Contribution <= there.Contribution {
		t.Errorf("the adapter costs %v s (%s) where it is loaded and %v s (%s) where it is not", -here.Contribution, here.Detail, -there.Contribution, there.Detail)
	}
}

// prefillRate is what an engine measures of itself while it computes prompts, as SGLang tells it.
func prefillRate(t *testing.T, c engine.Calibration) float64 {
	e, err := engine.New(engine.Config{Calibration: c})
	require.NoError(t, err)
	tokens, now := 0, time.Duration(0)
	for id := range uint64(10) {
		require.NoError(t, e.Submit(engine.Request{ID: id, Prompt: 2000, Output: 1}))
		for step, busy := e.Step(now); busy; step, busy = e.Step(now) {
			tokens += step.Tokens
			now += step.Duration
		}
	}
	return float64(tokens) / now.Seconds()
}

// A gateway that has just started knows from the engines themselves how fast they compute prompts.
func TestEnginesTellTheirPrefillRate(t *testing.T) {
	large := prefillRate(t, engine.Llama70H100x4())
	newBench := func(rate types.Gauge) *costBench {
		var eps []*types.Endpoint
		for i := range 3 {
			ep := schedulingtest.Endpoint(fmt.Sprint("s", i))
			ep.Metrics.PrefillRate = rate
			eps = append(eps, ep)
		}
		return newCostBench(t, plugins.CostOptions{}, eps...)
	}
	seconds := func(b *costBench) float64 {
		rates, ok := b.cost.Rates(b.eps[0])
		require.True(t, ok)
		return rates.TokenSeconds
	}
	b := newBench(types.Known(large))
	_, err := b.s.Explain(ctx, prompt("x", 2000), b.eps)
	require.NoError(t, err)
	require.InEpsilon(t, 1/large, seconds(b), .05)

	t.Log("what is not told changes nothing")
	silent := newBench(types.Gauge{})
	_, err = silent.s.Explain(ctx, prompt("x", 2000), silent.eps)
	require.NoError(t, err)
	require.Less(t, seconds(silent), .6/large, "an engine of one GPU with a small model is taken for granted")

	t.Log("another reading of the same rate teaches nothing anew, another rate does")
	b.pass(time.Second)
	for i, ep := range b.eps {
		m := ep.Metrics
		m.UpdatedAt, m.PrefillRate = b.now, types.Known(large/2)
		b.eps[i] = ep.WithMetrics(m)
	}
	for range 3 { // rates change some time apart
		b.schedule(prompt("x", 2000)).Done(types.Outcome{Cancelled: true})
		b.pass(time.Second)
		for i, ep := range b.eps {
			m := ep.Metrics
			m.UpdatedAt = b.now
			b.eps[i] = ep.WithMetrics(m)
		}
	}
	require.InEpsilon(t, 2/large, seconds(b), .05)
}
