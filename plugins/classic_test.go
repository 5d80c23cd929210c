package plugins_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// classicOracle computes the reference formulas in the most obvious way: maps by
// endpoint ID, and prompts remembered as text.
type classicOracle struct {
	served map[string]map[string]bool // endpoint → every beginning of a prompt, in whole blocks
}

const blockBytes = 256

func (o *classicOracle) record(id, prompt string) {
	if o.served[id] == nil {
		o.served[id] = map[string]bool{}
	}
	for n := blockBytes; n <= len(prompt); n += blockBytes {
		o.served[id][prompt[:n]] = true
	}
}

func (o *classicOracle) totals(prompt string, eps []*types.Endpoint) map[string]float64 {
	queue, usage := map[string]float64{}, map[string]float64{}
	shortest, longest := math.Inf(1), math.Inf(-1)
	for _, ep := range eps {
		queue[ep.ID], _ = ep.Metrics.Waiting.Value()
		usage[ep.ID], _ = ep.Metrics.KVUsage.Value()
		shortest, longest = min(shortest, queue[ep.ID]), max(longest, queue[ep.ID])
	}
	totals := map[string]float64{}
	for id, q := range queue {
		queueScore := 1.0
		if longest != shortest {
			queueScore = (longest - q) / (longest - shortest)
		}
		matched, blocks := 0, len(prompt)/blockBytes
		for matched < blocks && o.served[id][prompt[:(matched+1)*blockBytes]] {
			matched++
		}
		prefixScore := 0.0
		if blocks > 0 {
			prefixScore = float64(matched) / float64(blocks)
		}
		total := 0.0
		for _, term := range []struct{ weight, score float64 }{{2, queueScore}, {2, 1 - usage[id]}, {3, prefixScore}} {
			total += term.weight * term.score
		}
		totals[id] = total
	}
	return totals
}

// TestClassicEqualsReference compares every total with the oracle's, to the last
// bit, over random fleets and prompts that share beginnings.
func TestClassicEqualsReference(t *testing.T) {
	for seed := range uint64(40) {
		rnd := types.NewRand(seed)
		p := seeded(plugins.Classic())
		p.Seed = seed + 1
		s, oracle := mustNew(t, p), classicOracle{map[string]map[string]bool{}}
		eps := idle(1 + rnd.IntN(20))
		matches := 0
		for round := range 60 {
			for i, ep := range eps { // a new reading of some
				if rnd.IntN(3) > 0 {
					continue
				}
				m := ep.Metrics
				m.Waiting, m.KVUsage = types.Known(float64(rnd.IntN(1+rnd.IntN(50)))), types.Known(rnd.Float64())
				eps[i] = ep.WithMetrics(m)
			}
			// A system prompt, a conversation under it, a question: 0 to 6 KiB.
			prompt := text(fmt.Sprint("system ", rnd.IntN(2)), rnd.IntN(4)*700) +
				text(fmt.Sprint("conversation ", rnd.IntN(3)), rnd.IntN(4)*500) +
				text(fmt.Sprint("question ", round), rnd.IntN(2500))
			want := oracle.totals(prompt, eps)
			ex, err := s.Explain(ctx, schedulingtest.Request(prompt), eps)
			require.NoError(t, err)
			best := math.Inf(-1)
			for _, c := range ex.Candidates {
				if c.Total != want[c.ID] {
					t.Fatalf("seed %d, round %d: total of %s = %v, want %v\n%v", seed, round, c.ID, c.Total, want[c.ID], ex)
				}
				if c.Terms[2].Score > 0 {
					matches++
				}
				best = max(best, c.Total)
			}
			if got := ex.Chosen().Total; got != best {
				t.Fatalf("seed %d, round %d: chosen with %v, the highest is %v", seed, round, got, best)
			}
			d := mustSchedule(t, s, schedulingtest.Request(prompt), eps)
			if d.Endpoint != ex.Endpoint {
				t.Fatalf("seed %d, round %d: Schedule goes to %s, Explain to %s", seed, round, d.Endpoint.ID, ex.Endpoint.ID)
			}
			oracle.record(d.Endpoint.ID, prompt)
			d.FirstToken()
			d.Done(types.Outcome{Status: 200})
		}
		if matches == 0 {
			t.Errorf("seed %d: no prompt matched anything, the test is void", seed)
		}
	}
}

// TestClassicBreaksTiesAtRandom: of 8 endpoints 4 have the same highest total.
func TestClassicBreaksTiesAtRandom(t *testing.T) {
	s := mustNew(t, seeded(plugins.Classic()))
	eps := idle(8)
	for i := range eps {
		if i%2 == 1 {
			waiting(1)(eps[i])
		}
	}
	c := counts{}
	for range 4000 {
		d := mustSchedule(t, s, schedulingtest.Request("hello"), eps)
		c[d.Endpoint.ID]++
		d.Done(types.Outcome{Status: 200})
	}
	for i, ep := range eps {
		// 1000 each, standard deviation 27.
		if n := c[ep.ID]; i%2 == 1 && n > 0 || i%2 == 0 && (n < 850 || n > 1150) {
			t.Errorf("%s was chosen %d times of 4000", ep.ID, n)
		}
	}
}

// TestTrapEverythingEqualSameServer: among equals no place in the list is
// preferred, with and without a ledger.
func TestTrapEverythingEqualSameServer(t *testing.T) {
	for name, p := range profiles() {
		s, eps, c := mustNew(t, p), idle(8), counts{}
		for range 1600 {
			d := mustSchedule(t, s, schedulingtest.Request("hello"), eps)
			c[d.Endpoint.ID]++
			d.Done(types.Outcome{Status: 200})
		}
		for _, ep := range eps {
			if n := c[ep.ID]; n < 120 || n > 280 { // 200, standard deviation 13
				t.Errorf("%s: %s of 8 equals was chosen %d times of 1600", name, ep.ID, n)
			}
		}
	}
}

// TestTrapSharedSystemPromptSendsEverythingToOneServer: a beginning that all
// prompts share must not keep all of them on the server that saw it first.
func TestTrapSharedSystemPromptSendsEverythingToOneServer(t *testing.T) {
	system := text("You are a helpful assistant", 4<<10)
	for _, question := range []int{0, 100, 1000, 4000} {
		s, eps, c := mustNew(t, seeded(plugins.ClassicWithInFlight())), idle(8), counts{}
		for i := range 200 {
			c[mustSchedule(t, s, schedulingtest.Request(system+text(i, question)), eps).Endpoint.ID]++
		}
		if id, n := c.most(); len(c) != 8 || n > 80 {
			t.Errorf("questions of %d bytes: 200 requests went to %d of 8 endpoints, %d of them to %s: %v", question, len(c), n, id, c)
		}
	}
}

// TestTrapBurstInsideScrapeIntervalHerds: while no new reading comes, the ledger
// alone must spread a burst, though the readings say that one is best.
func TestTrapBurstInsideScrapeIntervalHerds(t *testing.T) {
	fleets := map[string]func(i int, rnd *types.Rand) options{
		"all different": func(_ int, rnd *types.Rand) options {
			return options{waiting(float64(rnd.IntN(5))), kv(rnd.Float64() * .7)}
		},
		"only KV differs": func(_ int, rnd *types.Rand) options { return options{kv(rnd.Float64() * .7)} },
		"one idle, nine loaded": func(i int, _ *types.Rand) options {
			return options{waiting(float64(min(i, 1) * 4)), kv(float64(min(i, 1)) * .7)}
		},
	}
	for name, of := range fleets {
		rnd := types.NewRand(3)
		s, eps, c := mustNew(t, seeded(plugins.ClassicWithInFlight())), idle(10), counts{}
		for i, ep := range eps {
			for _, o := range of(i, &rnd) {
				o(ep)
			}
		}
		for i := range 100 {
			c[mustSchedule(t, s, schedulingtest.Request(text(i, 1000)), eps).Endpoint.ID]++
		}
		if id, n := c.most(); len(c) < 8 || n > 30 {
			t.Errorf("%s: 100 requests went to %d of 10 endpoints, %d of them to %s: %v", name, len(c), n, id, c)
		}
	}
}

// TestTrapNewEndpointWithZerosWinsEverything: an endpoint that was never read,
// among known ones with work, gets its share: neither all nor nothing.
func TestTrapNewEndpointWithZerosWinsEverything(t *testing.T) {
	s, c := mustNew(t, seeded(plugins.ClassicWithInFlight())), counts{}
	eps := idle(6)
	for i, ep := range eps[:5] {
		for _, o := range (options{waiting(float64(3 + i%3)), kv(.5 + float64(i)*.05), running(40)}) {
			o(ep)
		}
	}
	unread(eps[5])
	var open []doneFunc
	for i := range 300 {
		d := mustSchedule(t, s, schedulingtest.Request(text(i, 1500)), eps)
		c[d.Endpoint.ID]++
		open = append(open, d.Done)
		if len(open) > 24 { // each lasts as long as 24 others take to come
			open[0](types.Outcome{Status: 200})
			open = open[1:]
		}
	}
	if n := c[eps[5].ID]; n < 10 || n > 120 {
		t.Errorf("the new endpoint got %d of 300 requests, want about 50: %v", n, c)
	}
}

type doneFunc = func(types.Outcome)

// TestTrapStaleMetricsOfDeadServer: the last reading of a server that died says
// that it is idle, and always will.
func TestTrapStaleMetricsOfDeadServer(t *testing.T) {
	fleet := func() []*types.Endpoint {
		eps := idle(5)
		for _, ep := range eps[1:] {
			waiting(4)(ep)
			kv(.7)(ep)
		}
		age(2 * time.Hour)(eps[0])
		return eps
	}
	for name, p := range profiles() {
		s, eps, c := mustNew(t, p), fleet(), counts{}
		for i := range 100 {
			c[mustSchedule(t, s, schedulingtest.Request(text(i, 600)), eps).Endpoint.ID]++
		}
		if c["ep-0"] > 0 {
			t.Errorf("%s: the dead server got %d of 100 requests", name, c["ep-0"])
		}
	}
	for name, p := range profiles() {
		// Without the filter its figures are unknown, and count as the others' mean.
		p.Filters = slices.DeleteFunc(p.Filters, func(f scheduling.Named) bool { return f.Name == "fresh" })
		ex, err := mustNew(t, p).Explain(ctx, schedulingtest.Request("hello"), fleet())
		require.NoError(t, err)
		for i, term := range ex.Candidates[0].Terms[:2] {
			if other := ex.Candidates[1].Terms[i].Used; !term.Unknown || math.Abs(term.Used-other) > 1e-9 {
				t.Errorf("%s: the stale %s counts as %v, want %v as for the others", name, term.Scorer, term.Used, other)
			}
		}
	}
	for name, p := range profiles() {
		// If all are stale it is the scraping that broke: all are used.
		s, eps, c := mustNew(t, p), fleet(), counts{}
		for _, ep := range eps {
			age(2 * time.Hour)(ep)
		}
		for i := range 200 {
			d := mustSchedule(t, s, schedulingtest.Request(text(i, 600)), eps)
			c[d.Endpoint.ID]++
			d.Done(types.Outcome{Status: 200})
		}
		if _, n := c.most(); len(c) != 5 || n > 80 {
			t.Errorf("%s: with all readings stale 200 requests go to %v", name, c)
		}
	}
}
