package admission_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// sender is a tenant of which something always waits.
type sender struct {
	name    string
	weight  float64
	backlog int // how many wait
	joins   int // at which step it begins
	prompt  func(*rand.Rand) int
	output  func(*rand.Rand) int
}

func between(least, most int) func(*rand.Rand) int {
	return func(rng *rand.Rand) int { return least + rng.IntN(most-least+1) }
}

// unfairness has tenants share a pool for so many requests. It returns the most by which
// what two of them were served ever differed, counted from when both had requests that
// waited, the bound that doc.go states, and how often a request followed one of the same
// tenant and prefix.
func unfairness(t *testing.T, o admission.Options, senders []sender, steps int, sure bool) (worst, bound, followed float64) {
	t.Helper()
	const places = 12
	type flying struct {
		in     *admission.Ticket
		sender int
		output int
		missed float64 // weighted tokens by which its output was misjudged, by weight
	}
	var (
		rng     = rand.New(rand.NewPCG(1, 2))
		ep      = types.NewEndpoint("e", "10.0.0.1:8000")
		running []flying
		let     []*admission.Ticket
		outputs = map[*types.Request]int{}
		of      = map[*types.Request]int{}
		waiting = make([]int, len(senders))
		served  = make([]float64, len(senders))
		missed  = make([]float64, len(senders)) // of what is under way
		since   = map[[2]int]float64{}          // the difference when both had come
		u, e    float64
		last    string
	)
	o.Tenants = map[string]admission.Tenant{}
	for _, s := range senders {
		o.Tenants[s.name] = admission.Tenant{Weight: s.weight}
	}
	o.Bands = []admission.Band{{Name: "all", MaxWait: time.Hour}}
	o.MaxRequests = 100_000
	o.Clock = newClock()
	o.Detector = admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return float64(len(running)) / places })
	o.Hooks.Dispatched = func(in *admission.Ticket, _ time.Duration) { let = append(let, in) }
	c, err := admission.New(o)
	require.NoError(t, err)
	for range places {
		running = append(running, flying{}) // all places are taken at first
	}
	c.Put(ep)

	for step := range steps {
		for i, s := range senders {
			for ; step >= s.joins && waiting[i] < s.backlog; waiting[i]++ {
				prefix := fmt.Sprint(rng.IntN(5))
				body := []byte(prefix + strings.Repeat(".", 20))
				req := &types.Request{
					FairnessID: s.name, Body: body, ID: s.name + prefix,
					Prompt: types.Prompt{Tokens: s.prompt(rng), Spans: []types.Span{{Start: 0, End: len(body)}}},
				}
				outputs[req], of[req] = s.output(rng), i
				if sure { // its output is known before
					req.MaxTokens = outputs[req]
				}
				if _, queued, err := c.Offer(admission.Arrival{Request: req}, func(error) {}); err != nil || !queued {
					t.Fatalf("queued is %v, %v", queued, err)
				}
			}
			for j := range i {
				if s.joins == step || senders[j].joins == step {
					since[[2]int{i, j}] = served[i] - served[j]
				}
			}
		}
		// One ends, and its place is free.
		n := rng.IntN(len(running))
		out := running[n]
		running[n] = running[len(running)-1]
		running = running[:len(running)-1]
		if out.in == nil {
			c.Put(ep)
		} else {
			missed[out.sender] -= out.missed
			out.in.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(float64(out.output))}})
		}
		if len(let) != 1 {
			t.Fatalf("%d were let in to one place", len(let))
		}
		in := let[0]
		let = let[:0]
		req := in.Request()
		i := of[req]
		if req.ID == last {
			followed++
		}
		last = req.ID
		cost := o.InputWeight*float64(req.Prompt.Tokens) + o.OutputWeight*float64(outputs[req])
		miss := math.Abs(in.Charge()-cost) / senders[i].weight
		waiting[i]--
		served[i] += cost / senders[i].weight
		missed[i] += miss
		u = max(u, cost/senders[i].weight, in.Charge()/senders[i].weight)
		running = append(running, flying{in, i, outputs[req], miss})
		in.Booked(ep)
		delete(outputs, req)
		delete(of, req)
		for i := range senders {
			for j := range i {
				if step >= senders[i].joins && step >= senders[j].joins {
					worst = max(worst, math.Abs(served[i]-served[j]-since[[2]int{i, j}]))
					e = max(e, missed[i]+missed[j])
				}
			}
		}
	}
	require.NoError(t, c.CheckInvariants(true))
	bound = 2*u + max(o.Credit, 0) + e
	if o.Fairness == admission.PrefixLocality {
		bound += 2 * o.Quantum
	}
	return worst, bound, followed / float64(steps)
}

func TestFairness(t *testing.T) {
	oneGoroutine(t)
	steps := 20_000
	if testing.Short() {
		steps = 4000
	}
	known := func(n int) func(*rand.Rand) int { return between(n, n) }
	for _, tt := range []struct {
		name    string
		o       admission.Options
		sure    bool
		senders []sender
	}{
		{"ten times as many", admission.Options{Tuning: admission.Tuning{Credit: -1}}, true, []sender{
			{"greedy", 1, 200, 0, known(100), known(50)}, {"modest", 1, 20, 0, known(100), known(50)},
		}},
		{"other sizes", admission.Options{Tuning: admission.Tuning{Credit: -1}}, true, []sender{
			{"long prompts", 1, 30, 0, between(1000, 4000), between(1, 20)}, {"long answers", 1, 30, 0, between(10, 100), between(100, 2000)}, {"small", 1, 30, 0, between(1, 50), between(1, 50)},
		}},
		{"weights", admission.Options{Tuning: admission.Tuning{Credit: -1}}, true, []sender{
			{"one", 1, 30, 0, between(1, 500), between(1, 100)}, {"eight", 8, 30, 0, between(1, 500), between(1, 100)}, {"half", 0.5, 30, 0, between(1, 500), between(1, 100)},
		}},
		{"a light one", admission.Options{Tuning: admission.Tuning{Credit: -1}}, true, []sender{
			{"one", 1, 30, 0, known(100), known(10)}, {"tenth", 0.1, 30, 0, known(100), known(10)},
		}},
		{"outputs that nobody knows", admission.Options{Tuning: admission.Tuning{Credit: 5000}}, false, []sender{
			{"a", 1, 100, 0, between(1, 500), between(1, 1000)}, {"b", 2, 10, 0, between(1, 500), between(1, 100)}, {"c", 1, 10, 0, between(1, 500), known(3000)},
		}},
		{"one comes late", admission.Options{Tuning: admission.Tuning{Credit: 2000}}, false, []sender{
			{"a", 1, 100, 0, between(1, 500), between(1, 1000)}, {"b", 2, 10, 0, between(1, 500), between(1, 100)}, {"late", 3, 10, steps / 2, between(1, 500), between(1, 100)},
		}},
	} {
		for _, fairness := range []admission.Fairness{admission.VirtualTokens, admission.PrefixLocality, admission.FirstCome} {
			t.Run(tt.name+"/"+fairness.String(), func(t *testing.T) {
				o := tt.o
				o.Fairness, o.InputWeight, o.OutputWeight, o.Quantum = fairness, 1, 2, 3000
				worst, bound, _ := unfairness(t, o, tt.senders, steps, tt.sure)
				t.Logf("differ by at most %.0f weighted tokens, the bound is %.0f", worst, bound)
				if fairness == admission.FirstCome {
					if worst < 2*bound {
						t.Errorf("without tenants they differ by at most %.0f: this test could not fail", worst)
					}
				} else if worst > bound {
					t.Errorf("differ by %.0f weighted tokens, more than the bound of %.0f", worst, bound)
				}
			})
		}
	}
}

func TestPrefixLocalityFollowsPrefixes(t *testing.T) {
	senders := []sender{{"a", 1, 50, 0, between(50, 100), between(10, 20)}, {"b", 1, 50, 0, between(50, 100), between(10, 20)}, {"c", 1, 50, 0, between(50, 100), between(10, 20)}}
	followed := func(f admission.Fairness) float64 {
		_, _, n := unfairness(t, admission.Options{Fairness: f, Tuning: admission.Tuning{Credit: -1, InputWeight: 1, OutputWeight: 2, Quantum: 1000}}, senders, 4000, true)
		return n
	}
	with, without := followed(admission.PrefixLocality), followed(admission.VirtualTokens)
	t.Logf("%.2f of all requests follow one of the same tenant and prefix, %.2f without locality", with, without)
	if with < 0.6 || without > 0.2 {
		t.Errorf("%.2f of all requests follow one of the same tenant and prefix, %.2f without locality", with, without)
	}
}

// TestTrapIdleTenantSavesNothingUp: who did not ask for a while is not owed for it.
func TestTrapIdleTenantSavesNothingUp(t *testing.T) {
	const credit = 1000 // two requests and a half
	r := newRig(t, 1, admission.Options{Tuning: admission.Tuning{Credit: credit, OutputTokens: 150}})
	r.run(r.offer(request("saver", 0, "saver")))
	for range 1000 {
		r.run(r.offer(request("busy", 0, "busy")))
	}
	r.fill(0, 1)
	for range 20 {
		r.offer(request("busy", 0, "busy"))
		r.offer(request("saver", 0, "saver"))
	}
	saver := 0
	order := r.drain()
	for _, id := range order[:12] {
		if id == "saver" {
			saver++
		}
	}
	if saver < 6 || saver > 9 {
		t.Errorf("of the first 12 the tenant that comes back has %d: %v", saver, order)
	}
	r.check()
}
