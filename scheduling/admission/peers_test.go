package admission_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// sharing is above this package: it finds out by itself what a Controller can do.
var (
	_ sharing.AccountPart  = (*admission.Controller)(nil)
	_ sharing.LoadPart     = (*admission.Controller)(nil)
	_ sharing.SnapshotPart = (*admission.Controller)(nil)
)

// told returns what a Controller tells.
func told(c *admission.Controller, whole bool) (all []types.Account) {
	c.ShareAccounts(whole, func(a types.Account) { all = append(all, a) })
	return all
}

// TestAccountsAreTheSame: gateways name what they charge alike, also if their limits differ.
func TestAccountsAreTheSame(t *testing.T) {
	keys := func(perMinute float64) map[uint64]bool {
		c, err := admission.New(admission.Options{
			Tuning: admission.Tuning{Clock: newClock()}, Detector: idle,
			Budgets: []admission.Budget{{RequestsPerMinute: perMinute}, {Tenant: "*", TokensPerMinute: 1e6}, {Model: "*", RequestsPerMinute: 1e6}, {Tenant: "b", Model: "n", RequestsPerMinute: 1e6}},
		})
		require.NoError(t, err)
		c.Put(types.NewEndpoint("e", "10.0.0.1:8000"))
		require.Empty(t, told(c, true))
		for _, tenant := range []string{"a", "b"} {
			for _, model := range []string{"m", "n"} {
				for _, priority := range []int{0, 100} {
					req := request("r", priority, tenant)
					req.Model = model
					_, _, err := c.Offer(admission.Arrival{Request: req}, nil)
					require.NoError(t, err)
				}
			}
		}
		all := map[uint64]bool{}
		for _, a := range told(c, false) {
			require.False(t, all[a.Key])
			all[a.Key] = true
		}
		require.Empty(t, told(c, false))
		require.Len(t, told(c, true), len(all))
		return all
	}
	one := keys(1000)
	require.Len(t, one, 1+2+2+1+4, "of all, two tenants, two models, one with a model; and two tenants at two priorities")
	require.Equal(t, one, keys(2000))
}

// TestAccountsSayWhatIsLeft: and which bounds there are.
func TestAccountsSayWhatIsLeft(t *testing.T) {
	r := newRig(t, 1, admission.Options{Budgets: []admission.Budget{{RequestsPerMinute: 60}, {Tenant: "t", TokensPerMinute: 6000, RequestsPerMinute: 30}}, Fairness: admission.FirstCome, Tuning: admission.Tuning{OutputTokens: 100}})
	told(r.c, false)
	c := r.offer(request("r", 0, "t"))
	require.Equal(t, []types.Account{{Requests: 1, Tokens: 200, RequestsLeft: 29, TokensLeft: 5800}}, withoutKeys(told(r.c, false))[:1])
	r.clock.pass(time.Second)
	c.Booked(r.eps[0])
	c.Done(types.Outcome{Usage: types.Usage{PromptTokens: types.Known(10), CompletionTokens: types.Known(20)}})
	all := withoutKeys(told(r.c, false))
	require.Len(t, all, 2, "and nothing of tenants that do not count")
	for _, a := range all {
		require.Equal(t, []float64{1, 30}, []float64{a.Requests, a.Tokens})
	}
	require.Equal(t, 29.5, all[0].RequestsLeft)
	require.Equal(t, 6000.0, all[0].TokensLeft, "30 of them have come since")
	require.True(t, math.IsNaN(all[1].TokensLeft))
}

func withoutKeys(all []types.Account) []types.Account {
	for i := range all {
		all[i].Key = 0
	}
	return all
}

// TestLiars: a peer that says what cannot be takes no more than there is, and is forgotten.
func TestLiars(t *testing.T) {
	newLiar := func(t *testing.T) (r *rig, budget, tenant uint64) {
		r = newRig(t, 1, admission.Options{Budgets: []admission.Budget{{RequestsPerMinute: 60, TokensPerMinute: 60_000}}, Tuning: admission.Tuning{OutputTokens: 100}})
		r.c.PeersAlive(1)
		r.clock.pass(time.Minute)
		c := r.offer(request("r", 0, "t"))
		for _, a := range told(r.c, false) {
			if math.IsNaN(a.TokensLeft) {
				tenant = a.Key
			} else {
				budget = a.Key
			}
		}
		r.run(c)
		return r, budget, tenant
	}
	for _, tt := range []struct {
		name    string
		said    []types.Account // one after the other
		ignored uint64
		cut     uint64
		least   float64 // requests that are left
	}{
		{"no number", []types.Account{{Requests: math.NaN(), Tokens: 1}, {Requests: 1, Tokens: math.Inf(1)}}, 2, 0, 59},
		{"less than nothing", []types.Account{{Requests: -1}, {Tokens: -1}}, 2, 0, 59},
		{"far too much", []types.Account{{Requests: 1e300}}, 1, 0, 59},
		{"a jump", []types.Account{{Requests: 1}, {Requests: 1e15, Tokens: 1e15}}, 0, 1, -62},
		{"again and again", []types.Account{{Requests: 1}, {Requests: 1e9}, {Requests: 2e9}, {Requests: 3e9}, {Requests: 4e9}}, 0, 4, -62},
		{"as much at first", []types.Account{{Requests: 1e15, Tokens: 1e15, RequestsLeft: -1e300, TokensLeft: math.Inf(-1)}}, 0, 1, -62},
		{"it gives back what it never took", []types.Account{{Requests: 1e5, Tokens: 1e6}, {}, {Requests: 1e5, Tokens: 1e6}, {}}, 0, 1, 59},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, budget, tenant := newLiar(t)
			for _, a := range tt.said {
				for _, a.Key = range []uint64{budget, tenant, 12345} {
					if a.Key != 12345 || a.Requests >= 0 && a.Requests < 1e300 {
						r.c.HearAccount(1, a)
					}
				}
			}
			r.check()
			requests, tokens := r.c.Left("")
			require.True(t, requests >= tt.least-0.1 && requests <= 62, "%g requests are left", requests)
			require.True(t, tokens >= -61_000 && tokens <= 60_500, "%g tokens are left", tokens)
			s := r.c.Stats().Peers
			require.GreaterOrEqual(t, s.Cut, tt.cut)
			require.GreaterOrEqual(t, s.Ignored, tt.ignored)
			r.c.LosePeer(1)
			r.c.PeersAlive(0)
			r.clock.pass(2*time.Minute + 5*time.Second)
			for range 60 {
				c := r.offer(request("r", 0, "t"))
				require.NoError(t, c.err, "all is as before")
				r.run(c)
			}
		})
	}
}

// TestLiesOfTenants: neither do lies about one tenant keep others from being served, nor it.
func TestLiesOfTenants(t *testing.T) {
	for _, tokens := range []float64{1e3, 1e6, 1e12} {
		r := newRig(t, 1, admission.Options{Tuning: admission.Tuning{Credit: 1000, OutputTokens: 100}})
		r.c.PeersAlive(1)
		r.fill(0, 1)
		keys := []uint64{}
		for _, tenant := range []string{"a", "b"} {
			r.fill(0, 0)
			r.run(r.offer(request("first", 0, tenant)))
			keys = append(keys, told(r.c, false)[0].Key)
			r.fill(0, 1)
		}
		for range 50 {
			r.offer(request("a", 0, "a"))
			r.offer(request("b", 0, "b"))
		}
		for i := range 20 { // up and down
			r.clock.pass(100 * time.Millisecond)
			r.c.HearAccount(1, types.Account{Key: keys[0], Requests: float64(i), Tokens: tokens * float64(i%2), RequestsLeft: math.NaN(), TokensLeft: math.NaN()})
			told(r.c, false)
			r.check()
		}
		counters := r.c.Counters(0)
		apart := math.Abs(counters["a"] - counters["b"])
		require.LessOrEqual(t, apart, 1000+6*(1<<20)+1e3, "%g", tokens)
		r.c.HearAccount(1, types.Account{Key: 999, Requests: 5, Tokens: 1e9, RequestsLeft: math.NaN(), TokensLeft: math.NaN()})
		require.Len(t, r.c.Counters(0), 2, "what peers say makes no tenants")
	}
}

// TestFloods: what peers say evicts nothing of this gateway's, and is bounded.
func TestFloods(t *testing.T) {
	r := newRig(t, 1, admission.Options{Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 600}}, Tuning: admission.Tuning{MaxAccounts: 100}})
	r.c.PeersAlive(2)
	for i := range 40 {
		r.run(r.offer(request("r", 0, fmt.Sprint("t", i))))
	}
	before := told(r.c, true)
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		r.c.HearAccount(1+rnd.IntN(2), types.Account{Key: rnd.Uint64(), Requests: rnd.ExpFloat64() * 1e9, Tokens: rnd.ExpFloat64() * 1e9, RequestsLeft: rnd.NormFloat64() * 1e9, TokensLeft: math.NaN()})
	}
	require.Equal(t, len(before), len(told(r.c, true)))
	require.Equal(t, 40, r.c.Meters())
	require.Len(t, r.c.Counters(0), 40)
	require.Equal(t, 80, r.c.Stats().Peers.Accounts)
	r.check()
}

// FuzzHearAccount: nothing that peers say does harm.
func FuzzHearAccount(f *testing.F) {
	f.Add(uint8(1), uint8(0), 1.0, 100.0, 10.0, math.NaN(), uint8(3))
	f.Add(uint8(2), uint8(1), math.Inf(1), -1.0, math.NaN(), -1e300, uint8(0))
	f.Fuzz(func(t *testing.T, peer, which uint8, requests, tokens, requestsLeft, tokensLeft float64, times uint8) {
		r := newRig(t, 1, admission.Options{Budgets: []admission.Budget{{RequestsPerMinute: 60, TokensPerMinute: 1e5, Burst: 0.5}}, Tuning: admission.Tuning{Credit: 100}})
		r.c.PeersAlive(int(peer % 8))
		r.run(r.offer(request("r", 0, "t")))
		r.fill(0, 1)
		r.offer(request("r", 0, "t"))
		r.offer(request("r", 0, "u"))
		all := told(r.c, true)
		for i := range int(times % 8) {
			a := types.Account{Key: all[int(which)%len(all)].Key, Requests: requests * float64(i), Tokens: tokens * float64(i), RequestsLeft: requestsLeft, TokensLeft: tokensLeft}
			r.c.HearAccount(int(peer), a)
			r.clock.pass(time.Duration(times) * time.Millisecond)
			told(r.c, i%2 == 0)
			r.check()
		}
		r.c.LosePeer(int(peer))
		r.c.PeersAlive(0)
		r.fill(0, 0)
		r.clock.pass(3 * time.Minute)
		if c := r.offer(request("r", 0, "v")); c.err != nil {
			t.Errorf("nothing is let in any more: %v", c.err)
		}
		r.check()
	})
}

// TestPeersLoad: what peers have at an endpoint counts as soon as they say so.
func TestPeersLoad(t *testing.T) {
	r := newRig(t, 2, admission.Options{Detector: admission.Concurrency{Requests: 10}})
	for i := range 2 {
		r.eps[i].Load.SetPeers(types.Booking{Requests: 10})
	}
	r.c.PeersChanged(r.eps, r.clock.Now())
	c := r.offer(request("r", 0, "t"))
	require.True(t, c.queued)
	require.Equal(t, 1.0, r.c.Stats().Saturation)
	r.check()
	r.eps[1].Load.SetPeers(types.Booking{Requests: 7})
	r.c.PeersChanged(append([]*types.Endpoint{nil, types.NewEndpoint("other", "10.0.0.9:1")}, r.eps[1]), r.clock.Now())
	require.True(t, c.admitted())
	r.check()
}

// TestPresumedOfPeers: of requests of other gateways as many are presumed to have had their first token as of own.
func TestPresumedOfPeers(t *testing.T) {
	for _, stream := range []bool{true, false} {
		r := newRig(t, 1, admission.Options{Detector: admission.Backlog{Tokens: 10_000}})
		for range 4 {
			req := request("r", 0, "t")
			req.Stream = stream
			c := r.offer(req)
			r.eps[0].Load.Book(types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 100})
			c.Booked(r.eps[0])
		}
		r.eps[0].Load.SetPeers(types.Booking{Requests: 4, Prefilling: 4, PrefillTokens: 4000})
		for range 200 {
			r.clock.pass(100 * time.Millisecond)
			r.c.PeersChanged(r.eps, r.clock.Now())
		}
		want := 0.44
		if !stream {
			want = 0
		}
		require.InDelta(t, want, r.c.Stats().Saturation, 0.02)
	}
}

// TestLearningOfPeers: what is learned of an endpoint is of all requests there.
func TestLearningOfPeers(t *testing.T) {
	var served []admission.Served
	o := admission.Options{Detector: &serviceLog{served: &served}}
	r := newRig(t, 1, o)
	r.eps[0].Load.SetPeers(types.Booking{Requests: 6, PrefillTokens: 5000})
	c := r.offer(request("r", 0, "t"))
	r.eps[0].Load.Book(types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 100})
	c.Booked(r.eps[0])
	r.clock.pass(time.Second)
	c.FirstToken()
	r.eps[0].Load.SetPeers(types.Booking{Requests: 2})
	r.c.PeersChanged(r.eps, r.clock.Now())
	r.clock.pass(time.Second)
	r.eps[0].Load.Release(types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 100})
	c.Done(types.Outcome{Tokens: 10, Usage: types.Usage{CompletionTokens: types.Known(10)}})
	require.Len(t, served, 2)
	require.Equal(t, []any{7.0, int64(5100)}, []any{served[0].With, served[0].Ahead})
	require.InDelta(t, 5, served[1].With, 0.01, "7 for a second and 3 for another")
}

type serviceLog struct{ served *[]admission.Served }

func (l *serviceLog) Fill(admission.Query, *types.Endpoint) float64 { return 0 }
func (l *serviceLog) Served(_ *types.Endpoint, s admission.Served)  { *l.served = append(*l.served, s) }

// TestDetectorsCountPeers: everything that asks how full an endpoint is counts what other gateways have there; what
// a reading explains counts once.
func TestDetectorsCountPeers(t *testing.T) {
	now := newClock().now
	q := admission.Query{Now: now, StaleBefore: now.Add(-time.Second)}
	own := types.Booking{Requests: 2, Prefilling: 2, PrefillTokens: 200, ContextTokens: 400}
	peers := types.Booking{Requests: 6, Prefilling: 3, PrefillTokens: 600, ContextTokens: 1600}
	reading := types.Metrics{UpdatedAt: now, Waiting: types.Known(5), Running: types.Known(3), KVUsage: types.Known(0.2)}
	endpoint := func(read bool) *types.Endpoint {
		ep := types.NewEndpoint("e", "10.0.0.1:8000")
		ep.Capacity.KVTokens = 10_000
		ep.Load.Book(own)
		ep.Load.SetPeers(peers)
		if read {
			ep = ep.WithMetrics(reading)
		}
		return ep
	}
	batch := new(admission.LearnedBatch)
	for _, tt := range []struct {
		name string
		d    admission.Detector
		read bool
		// As it is, with one more request of a peer, and once the peers are gone.
		is, more, alone float64
	}{
		{"concurrency", admission.Concurrency{Requests: 10}, false, 0.8, 0.9, 0.2},
		{"concurrency of tokens", admission.Concurrency{Requests: 1000, Tokens: 4000}, false, 0.5, 0.6, 0.1},
		{"backlog", admission.Backlog{Tokens: 1000}, false, 0.8, 1, 0.2},
		{"learned backlog", &admission.LearnedBacklog{Most: 1000, Least: 1000}, false, 0.8, 1, 0.2},
		{"predicted TTFT", &admission.PredictedTTFT{Rate: 1000}, false, 0.8, 1, 0.2},
		{"learned concurrency", &admission.LearnedConcurrency{First: 10}, false, 0.8, 0.9, 0.2},
		{"utilization without a reading", admission.Utilization{Queue: 10, KVUsage: 1}, false, 0.5, 0.6, 0.2},
		{"utilization", admission.Utilization{Queue: 10, KVUsage: 1}, true, 0.5, 0.6, 0.2},
		{"utilization of the cache", admission.Utilization{Queue: 1000, KVUsage: 1}, true, 0.2, 0.24, 0.04},
		{"learned batch, of which nothing is known", batch, true, math.NaN(), math.NaN(), math.NaN()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ep := endpoint(tt.read)
			fill := func(want float64, what string) {
				t.Helper()
				if got := tt.d.Fill(q, ep); math.IsNaN(want) {
					require.True(t, math.IsNaN(got))
				} else {
					require.InDelta(t, want, got, 1e-9, what)
				}
			}
			fill(tt.is, "as it is")
			ep.Load.SetPeers(peers.Plus(types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 200, ContextTokens: 400}))
			fill(tt.more, "one more")
			ep.Load.SetPeers(types.Booking{})
			fill(tt.alone, "alone")
		})
	}
	t.Run("learned batch", func(t *testing.T) {
		ep := endpoint(true)
		for i := range 8 { // 3 places, all taken
			m := reading
			m.UpdatedAt = now.Add(time.Duration(i) * time.Millisecond)
			ep = ep.WithMetrics(m)
			batch.Reading(ep, admission.Since{Finished: 1})
		}
		is := batch.Fill(q, ep)
		ep.Load.SetPeers(peers.Plus(types.Booking{Requests: 2}))
		require.Greater(t, batch.Fill(q, ep), is)
		ep.Load.SetPeers(types.Booking{Requests: 1})
		require.Less(t, batch.Fill(q, ep), is)
		stale := q
		stale.StaleBefore = now.Add(time.Hour)
		ep.Load.SetPeers(types.Booking{})
		alone := batch.Fill(stale, ep)
		ep.Load.SetPeers(peers)
		require.Greater(t, batch.Fill(stale, ep), alone)
	})
}

func TestStatsOfPeers(t *testing.T) {
	g := newGateways(t, 2, 1, func(int) admission.Options {
		return admission.Options{Detector: idle, Tuning: admission.Tuning{OutputTokens: 100}}
	})
	g.lost = 0
	g.connect()
	g.spend(g.all[1], 1)
	g.spend(g.all[0], 3)
	g.pass(time.Second)
	s := g.all[1].Stats()
	require.Equal(t, 1, s.Peers.Alive)
	require.Equal(t, 1, s.Peers.Accounts)
	require.Positive(t, s.Peers.Heard)
	require.Equal(t, 900.0, s.Bands[0].Elsewhere)
	r := g.all[1].Explain(admission.Arrival{Request: request("r", 0, "t")})
	require.Equal(t, 900.0, r.Elsewhere)
	r.Verdict = "queued"
	require.Contains(t, r.String(), "900 of its own at other gateways")
}

// TestSharingAllocates nothing for each request.
func TestSharingAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := newRig(t, 1, admission.Options{Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 1e9, TokensPerMinute: 1e12}}})
	o := r.with(admission.Options{Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 1e9, TokensPerMinute: 1e12}}})
	o.Hooks = admission.Hooks{}
	require.NoError(t, r.c.Configure(o))
	a := admission.Arrival{Request: request("r", 0, "t")}
	pass := func() {
		ticket, _, err := r.c.Offer(a, nil)
		if err != nil {
			t.Fatal(err)
		}
		ticket.Booked(r.eps[0])
		ticket.Done(types.Outcome{})
	}
	without := testing.AllocsPerRun(1000, pass)
	r.c.PeersAlive(7)
	told(r.c, false)
	with := testing.AllocsPerRun(1000, pass)
	require.Equal(t, without, with)
}

// TestSharingConcurrently has gateways share while requests come.
func TestSharingConcurrently(t *testing.T) {
	const n = 4
	var all []*admission.Controller
	ep := types.NewEndpoint("e", "10.0.0.1:8000")
	for range n {
		c, err := admission.New(admission.Options{
			Detector: admission.Concurrency{Requests: 50}, Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 1e6}}, Bands: []admission.Band{{Name: "all"}},
			Tuning: admission.Tuning{MaxFlows: 5, MaxAccounts: 8},
		})
		require.NoError(t, err)
		c.Put(ep)
		c.PeersAlive(n - 1)
		all = append(all, c)
	}
	var requests, sharers sync.WaitGroup
	stop := make(chan struct{})
	for i, c := range all {
		sharers.Go(func() {
			for turn := 0; ; turn++ {
				select {
				case <-stop:
					return
				default:
				}
				told := told(c, turn%10 == 0)
				for _, other := range all {
					if other != c {
						for _, a := range told {
							other.HearAccount(i+1, a)
						}
					}
				}
				c.AppendSnapshot(nil, 1<<16, time.Now())
				c.PeersChanged([]*types.Endpoint{ep}, time.Now())
				if turn%50 == 0 {
					all[(i+1)%n].LosePeer(i + 1)
				}
			}
		})
		for k := range 4 {
			requests.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), uint64(k)))
				for range 300 {
					ticket, _, err := c.Admit(t.Context(), admission.Arrival{Request: request("r", 0, fmt.Sprint("t", rnd.IntN(10)))})
					if err != nil {
						continue
					}
					ep.Load.Book(types.Booking{Requests: 1})
					ticket.Booked(ep)
					ep.Load.Release(types.Booking{Requests: 1})
					ticket.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(float64(rnd.IntN(500)))}})
				}
			})
		}
	}
	requests.Wait()
	close(stop)
	sharers.Wait()
	for _, c := range all {
		c.Put(ep)
		require.NoError(t, c.CheckInvariants(true))
	}
}

// TestGroupsShareControllers: by a sharing.Group each, as a program does it.
func TestGroupsShareControllers(t *testing.T) {
	now, ep := newClock(), types.NewEndpoint("e", "10.0.0.1:8000")
	var groups []*sharing.Group
	var all []*admission.Controller
	for range 3 {
		c, err := admission.New(admission.Options{Detector: idle, Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 0.06, Burst: 1000}}, Tuning: admission.Tuning{Clock: now}})
		require.NoError(t, err)
		c.Put(ep)
		g, err := sharing.New(sharing.Options{})
		require.NoError(t, err)
		require.NoError(t, g.Add(sharing.Scope{Name: "pool", Parts: []any{c}}))
		groups, all = append(groups, g), append(all, c)
	}
	exchange := func() {
		now.pass(time.Second)
		for i, g := range groups {
			g.Tell(now.Now(), func(msg []byte) {
				for k, other := range groups {
					if k != i {
						other.Hear("peer", msg, now.Now())
					}
				}
			})
		}
	}
	exchange()
	require.Equal(t, 2, all[0].Stats().Peers.Alive)
	for range 10 {
		for _, c := range all {
			ticket, _, err := c.Offer(admission.Arrival{Request: request("r", 0, "t")}, nil)
			require.NoError(t, err)
			ticket.Booked(ep)
			ticket.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(100)}})
		}
		exchange()
	}
	exchange()
	for _, c := range all {
		requests, _ := c.Left("t")
		require.InDelta(t, 30, requests, 0.2)
		require.InDelta(t, 2*10*300, c.Stats().Bands[0].Elsewhere, 1e-6)
	}
	now.pass(10 * time.Second)
	for _, g := range groups {
		g.Tell(now.Now(), func([]byte) {})
	}
	require.Zero(t, all[0].Stats().Peers.Alive)
}
