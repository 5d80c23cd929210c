package plugins_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

var (
	_ sharing.PeerSnapshotPart = (*plugins.Cost)(nil)
	_ sharing.PeerSnapshotPart = (*plugins.PrefixCache)(nil)
)

// costFleet is a fleet of four servers, one of which is slow, with the load of others.
func costFleet() []*types.Endpoint {
	eps := unreadAll("a", "b", "c", "d")
	for _, ep := range eps[1:] {
		*ep = *schedulingtest.Endpoint(ep.ID, schedulingtest.Running(3))
	}
	return eps
}

// topics are prompts of so many tokens each, whose last whole block is an anchor.
func topics(n int) (prompts []func() *types.Request) {
	for i := range n {
		prompts = append(prompts, func() *types.Request {
			r := prompt("system", 1024+1024*(1+i%3))
			copy(r.Body[strings.Index(string(r.Body), "system")+4096:], fmt.Sprintf("topic %d", i))
			r.FairnessID = fmt.Sprint("tenant ", i%5)
			return r
		})
	}
	return prompts
}

// taughtBench is a bench whose Cost has learned from so many requests, none of which is in flight any more.
func taughtBench(t testing.TB, o plugins.CostOptions, n int) *costBench {
	b := newCostBench(t, o, costFleet()...)
	all := topics(20)
	for i := range n {
		req := all[i%len(all)]()
		d := b.schedule(req)
		perToken := 20 * time.Millisecond
		if d.Endpoint.ID == "d" {
			perToken *= 4
		}
		b.serve(d, time.Duration(30+i%7)*time.Millisecond, perToken, 40+i%50, float64(req.Prompt.Tokens-1)) // nothing was evicted
		b.pass(200 * time.Millisecond)
	}
	b.pass(time.Minute)
	b.read()
	b.explain(prompt("something", 100)) // so that the readings are seen
	return b
}

// read reads all servers anew.
func (b *costBench) read() {
	for i, ep := range b.eps {
		again := *ep
		if !ep.Metrics.UpdatedAt.IsZero() {
			again.Metrics.UpdatedAt = b.now
		}
		b.eps[i] = &again
	}
}

// successor is a bench that begins where b ends.
func (b *costBench) successor(t testing.TB, o plugins.CostOptions) *costBench {
	next := newCostBench(t, o, costFleet()...)
	next.now = b.now
	next.read()
	return next
}

// sameCosts checks that two decide alike.
func sameCosts(t testing.TB, a, b *costBench, reqs ...func() *types.Request) {
	t.Helper()
	nearCosts(t, a, b, 1e-6, reqs...)
}

// nearCosts checks that costs differ by no more than a part.
func nearCosts(t testing.TB, a, b *costBench, part float64, reqs ...func() *types.Request) {
	t.Helper()
	for i, req := range reqs {
		x, y := a.explain(req()), b.explain(req())
		require.Len(t, y, len(x))
		for id := range x {
			require.InEpsilon(t, x[id].Total, y[id].Total, part, "prompt %d at %s\nwant %+v\ngot  %+v", i, id, x[id], y[id])
		}
	}
}

// snapshot returns one, after which servers are read once more, as they are by who begins with it.
func (b *costBench) snapshot() []byte {
	defer b.read()
	return b.cost.AppendSnapshot(nil, 8<<20, b.now)
}

// noLean leaves out a term that changes with every event, and with it the only one that a reading more or less changes:
// see CostOptions.Lean.
var noLean = plugins.CostOptions{Lean: 1e-9}

// A Cost that begins with the snapshot of another decides as that does from its first decision on, whether it has met
// the endpoints before or not, and so does one that begins with its snapshot.
func TestCostGoesOn(t *testing.T) {
	oneGoroutine(t)
	for _, o := range []plugins.CostOptions{
		noLean, {Lean: noLean.Lean, Links: []string{"zone", "region"}}, {Lean: noLean.Lean, FixedRates: true}, {Lean: noLean.Lean, Prefix: plugins.PrefixOptions{BlockBytes: 128}},
	} {
		a := taughtBench(t, o, 300)
		asked := append(topics(20), func() *types.Request { return prompt("new", 3000) }, func() *types.Request { return prompt("short", 20) })
		plain := a.successor(t, o)
		snapshot := a.snapshot()
		require.Less(t, len(snapshot), 300<<10)

		b := a.successor(t, o)
		require.NoError(t, b.cost.Restore(snapshot, 0, b.now))
		sameCosts(t, a, b, asked...)

		met := a.successor(t, o)
		met.explain(prompt("something", 100))
		require.NoError(t, met.cost.Restore(snapshot, 0, met.now))
		sameCosts(t, a, met, asked...)

		unasked := a.successor(t, o)
		require.NoError(t, unasked.cost.Restore(snapshot, 0, unasked.now))
		c := a.successor(t, o)
		require.NoError(t, c.cost.Restore(unasked.snapshot(), 0, c.now))
		sameCosts(t, a, c, asked...)

		if x, y := a.explain(asked[0]()), plain.explain(asked[0]()); math.Abs(x["a"].Total-y["a"].Total) < .01*y["a"].Total {
			t.Error("without the snapshot it decides as well")
		}
	}
}

// With the defaults it is the same within a part of a hundred.
func TestCostGoesOnByDefault(t *testing.T) {
	a := taughtBench(t, plugins.CostOptions{}, 300)
	b := a.successor(t, plugins.CostOptions{})
	require.NoError(t, b.cost.Restore(a.snapshot(), 0, b.now))
	nearCosts(t, a, b, .01, topics(20)...)
}

// What was seen grows as old while no gateway runs.
func TestCostGoesOnLater(t *testing.T) {
	a := taughtBench(t, noLean, 300)
	snapshot := a.snapshot()
	a.pass(90 * time.Second)
	a.read()
	b := a.successor(t, noLean)
	require.NoError(t, b.cost.Restore(snapshot, 90*time.Second, b.now))
	sameCosts(t, a, b, topics(5)...)
}

// Endpoints that were kept and do not come have no part in what servers have in common; the others have.
func TestCostForgetsWhoDoesNotCome(t *testing.T) {
	a := taughtBench(t, noLean, 300)
	without := a.successor(t, noLean)
	without.eps = without.eps[:3]
	require.NoError(t, without.cost.Restore(a.snapshot(), 0, without.now))
	sameCosts(t, &costBench{t: t, s: a.s, eps: a.eps[:3]}, without, func() *types.Request { return prompt("new", 3000) })

	a.cost.Forget(a.eps[3])
	for _, b := range []*costBench{a, without} {
		b.eps = b.eps[:3]
		b.pass(2 * time.Minute)
		b.read()
	}
	sameCosts(t, a, without, func() *types.Request { return prompt("new", 3000) })
}

// A snapshot that does not fit changes nothing, and says why.
func TestSnapshotsThatDoNotFit(t *testing.T) {
	a := taughtBench(t, plugins.CostOptions{}, 100)
	snapshot := a.snapshot()
	for _, c := range []struct {
		o    plugins.CostOptions
		want string
	}{
		{plugins.CostOptions{Engine: plugins.EngineRates{Step: .01}}, "was made with engine.step 0.0076, here it is 0.01"},
		{plugins.CostOptions{Transport: .1}, "transport 0.003, here it is 0.1"},
		{plugins.CostOptions{FixedRates: true}, "fixedRates"},
		{plugins.CostOptions{Links: []string{"zone"}}, `was made with links [], here they are ["zone"]`},
		{plugins.CostOptions{Prefix: plugins.PrefixOptions{BlockBytes: 512}}, "has prompts in blocks of 256 bytes, here they are of 512"},
		{plugins.CostOptions{Prefix: plugins.PrefixOptions{IsolateTenants: true}}, "keeps tenants apart: false, here: true"},
	} {
		b, plain := a.successor(t, c.o), a.successor(t, c.o)
		require.ErrorContains(t, b.cost.Restore(snapshot, 0, b.now), c.want)
		sameCosts(t, plain, b, topics(5)...)
	}
	b, plain := a.successor(t, plugins.CostOptions{}), a.successor(t, plugins.CostOptions{})
	for n := range len(snapshot) {
		if n%31 == 0 {
			require.Error(t, b.cost.Restore(snapshot[:n], 0, b.now), n)
		}
	}
	require.Error(t, b.cost.Restore(append(snapshot[:len(snapshot):len(snapshot)], 1), 0, b.now))
	for at := range 50 {
		wrong, skip := append([]byte(nil), snapshot...), 0
		if at >= 10 {
			skip = 1 // the number of links
		}
		binary.BigEndian.PutUint64(wrong[8*at+skip:], math.Float64bits(math.NaN()))
		require.Error(t, b.cost.Restore(wrong, 0, b.now), at)
	}
	sameCosts(t, plain, b, topics(5)...)
	require.NoError(t, b.cost.Restore(snapshot, 0, b.now))
	nearCosts(t, a, b, .01, topics(5)...)
}

// However little room there is, it is kept to, and what there is room for is what matters most.
func TestSnapshotsHaveRoom(t *testing.T) {
	a := taughtBench(t, plugins.CostOptions{}, 100)
	whole := a.snapshot()
	for _, room := range []int{0, 1, 100, 500, 600, 700, 800, 900, 1000, 1200, 1500, 2000, 3000, 5000, 7000, len(whole) - 8, len(whole) - 1, len(whole)} {
		some := a.cost.AppendSnapshot([]byte("before"), room, a.now)
		require.Equal(t, "before", string(some[:6]))
		some = some[6:]
		require.LessOrEqual(t, len(some), room)
		b := a.successor(t, plugins.CostOptions{})
		if len(some) == 0 {
			require.Less(t, room, 1000)
			continue
		}
		require.NoError(t, b.cost.Restore(some, 0, b.now), room)
	}
	require.Equal(t, whole, a.cost.AppendSnapshot(nil, len(whole)+1000, a.now))
}

func TestPrefixCacheGoesOn(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{})
	eps := idle(100)
	all := topics(40)
	held := make([]float64, len(eps))
	for i := range 400 {
		p.Picked(all[i%len(all)](), eps[(i*7)%len(eps)])
	}
	for _, ep := range eps { // what all have
		p.Picked(prompt("system", 1024), ep)
	}
	restored := func(snapshot []byte) *plugins.PrefixCache {
		q := mustPrefix(t, plugins.PrefixOptions{})
		require.NoError(t, q.Restore(snapshot, time.Second, time.Now()))
		return q
	}
	same := func(q *plugins.PrefixCache) {
		t.Helper()
		got := make([]float64, len(eps))
		for _, req := range all {
			require.NoError(t, p.Score(ctx, req(), eps, held))
			require.NoError(t, q.Score(ctx, req(), eps, got))
			require.Equal(t, held, got)
		}
	}
	whole := p.AppendSnapshot(nil, 8<<20, time.Now())
	same(restored(whole))
	same(restored(restored(whole).AppendSnapshot(nil, 8<<20, time.Now())))

	// Of those that were used last most is there where not all has room.
	last := restored(p.AppendSnapshot(nil, 10_000, time.Now()))
	got := make([]float64, len(eps))
	require.NoError(t, last.Score(ctx, prompt("system", 1024), eps, got))
	for i := range got {
		require.Positive(t, got[i])
	}
}

// What was learned of the size of a cache counts again once that is set to the same.
func TestPrefixCacheKeepsCapacity(t *testing.T) {
	p, eps := mustPrefix(t, plugins.PrefixOptions{CapacityBlocks: 64}), idle(1)
	for range 60 { // the server says that it has evicted all
		req := prompt("x", 4096)
		p.Picked(req, eps[0])
		p.FirstToken(req, eps[0])
		p.Finished(req, eps[0], types.Outcome{Status: 200, Usage: types.Usage{PromptTokens: types.Known(4096.), CachedTokens: types.Known(0.)}})
	}
	held := func(p *plugins.PrefixCache) int {
		for i := range 20 {
			p.Picked(prompt(i, 1024), eps[0])
		}
		return p.Stats().Held
	}
	q := mustPrefix(t, plugins.PrefixOptions{CapacityBlocks: 64})
	require.NoError(t, q.Restore(p.AppendSnapshot(nil, 8<<20, time.Now()), 0, time.Now()))
	require.Equal(t, held(p), held(q))
	require.Less(t, held(q), 64)
}

// Snapshots are made and restored beside decisions.
func TestSnapshotsConcurrently(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, costFleet()...)
	var stop atomic.Bool
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			reqs := topics(20)
			for i := g; !stop.Load(); i++ {
				d, err := b.s.Schedule(ctx, reqs[i%20](), b.eps)
				if err != nil {
					t.Error(err)
					return
				}
				if i%3 == 0 {
					d.FirstToken()
				}
				d.Done(types.Outcome{Status: 200, Tokens: 20, Usage: types.Usage{PromptTokens: types.Known(2048.), CachedTokens: types.Known(100.)}})
				if i%50 == 0 {
					b.cost.Forget(b.eps[i%4])
				}
			}
		})
	}
	for range 10 {
		snapshot := b.cost.AppendSnapshot(nil, 8<<20, b.now)
		require.NoError(t, b.cost.Restore(snapshot, 0, b.now))
	}
	stop.Store(true)
	all.Wait()
	for _, ep := range b.eps {
		require.Zero(t, ep.Load.Requests())
	}
	for _, c := range b.explain(prompt("x", 100)) {
		require.False(t, math.IsNaN(c.Total))
	}
}

// Whatever is restored, decisions have costs that are numbers.
func FuzzCostRestore(f *testing.F) {
	a := taughtBench(f, plugins.CostOptions{}, 50)
	snapshot := a.snapshot()
	f.Add(snapshot, 0, uint64(0))
	f.Add(snapshot, 200, uint64(1)<<62)
	f.Add(snapshot[:500], 0, uint64(0))
	f.Fuzz(func(t *testing.T, in []byte, at int, word uint64) {
		if len(in) > 1<<20 {
			return
		}
		in = append([]byte(nil), in...)
		if at >= 0 && at+8 <= len(in) {
			binary.BigEndian.PutUint64(in[at:], binary.BigEndian.Uint64(in[at:])^word)
		}
		b := a.successor(t, plugins.CostOptions{})
		if b.cost.Restore(in, time.Second, b.now) != nil {
			return
		}
		for range 3 {
			for _, c := range b.explain(prompt("x", 1000)) {
				require.False(t, math.IsNaN(c.Total) || math.IsInf(c.Total, 0), "%+v", c)
			}
			b.serve(b.schedule(prompt("y", 2000)), 50*time.Millisecond, 20*time.Millisecond, 50, 0)
		}
	})
}

func FuzzPrefixRestore(f *testing.F) {
	p, eps := mustPrefix(f, plugins.PrefixOptions{}), idle(3)
	for i, req := range topics(10) {
		p.Picked(req(), eps[i%3])
	}
	f.Add(p.AppendSnapshot(nil, 8<<20, time.Now()))
	f.Add(p.AppendSnapshot(nil, 200, time.Now()))
	f.Fuzz(func(t *testing.T, in []byte) {
		q := mustPrefix(t, plugins.PrefixOptions{})
		if q.Restore(in, time.Second, time.Now()) != nil {
			require.Zero(t, q.Stats().Held)
			return
		}
		scores := make([]float64, len(eps))
		for _, req := range topics(10) {
			require.NoError(t, q.Score(ctx, req(), eps, scores))
		}
		require.NoError(t, mustPrefix(t, plugins.PrefixOptions{}).Restore(q.AppendSnapshot(nil, 8<<20, time.Now()), 0, time.Now()))
	})
}

// BenchmarkSnapshot makes and restores the snapshot of 100 endpoints that hold 5,000 prompts.
func BenchmarkSnapshot(b *testing.B) {
	c, eps := mustCost(b, plugins.CostOptions{}), idle(100)
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		req := prompt(r.IntN(1000), 2048)
		c.Picked(req, eps[r.IntN(100)])
	}
	now := time.Now()
	snapshot := c.AppendSnapshot(nil, 8<<20, now)
	b.Run("append", func(b *testing.B) {
		for b.Loop() {
			snapshot = c.AppendSnapshot(snapshot[:0], 8<<20, now)
		}
		b.ReportMetric(float64(len(snapshot)), "bytes")
	})
	b.Run("restore", func(b *testing.B) {
		next := mustCost(b, plugins.CostOptions{})
		for b.Loop() {
			require.NoError(b, next.Restore(snapshot, 0, now))
		}
	})
}

// What a peer knows is as good, whatever it calls the servers; but who knows its fleet goes on with that.
func TestCostGoesOnFromPeer(t *testing.T) {
	oneGoroutine(t)
	a := taughtBench(t, noLean, 300)
	snapshot := a.snapshot()
	ours := func(id string) string { return "our-" + id }
	b := a.successor(t, noLean)
	for i, ep := range b.eps {
		again := *ep
		again.ID = ours(ep.ID)
		b.eps[i] = &again
	}
	require.NoError(t, b.cost.RestoreFromPeer(snapshot, ours, b.now))
	for _, req := range topics(20) {
		x, y := a.explain(req()), b.explain(req())
		for id := range x {
			require.InEpsilon(t, x[id].Total, y[ours(id)].Total, 1e-6, "%+v\n%+v", x[id], y[ours(id)])
		}
	}

	fast := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b", "c", "d")...)
	for range 300 {
		fast.serve(fast.schedule(prompt("x", 2000)), 10*time.Millisecond, 2*time.Millisecond, 50, 1999)
	}
	fast.pass(time.Minute)
	wait := func() float64 { return itemOf(t, fast.explain(prompt("new", 2000))["d"], "wait").Contribution }
	before := wait()
	require.NoError(t, fast.cost.RestoreFromPeer(snapshot, func(id string) string { return id }, fast.now))
	require.Equal(t, before, wait())
	require.Error(t, fast.cost.RestoreFromPeer(snapshot[:100], ours, fast.now))
}
