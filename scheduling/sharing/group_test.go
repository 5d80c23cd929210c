package sharing

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

var start = time.Unix(1_000_000, 0)

// fakePart takes part in everything.
type fakePart struct {
	placed   []types.Placement
	ejected  []types.Ejected
	bound    []types.Binding
	accounts []types.Account

	changed       int
	alive         int
	heardPlaced   []types.Placement
	heardEjected  []types.Ejected
	heardBound    []types.Binding
	heardAccounts []types.Account
	lost          int
	panics        bool
}

func (p *fakePart) PeersChanged(eps []*types.Endpoint, _ time.Time) { p.changed += len(eps) }
func (p *fakePart) PeersAlive(n int)                                { p.alive = n }
func (p *fakePart) LosePeer(int)                                    { p.lost++ }
func (p *fakePart) SharePlacements(tell func(types.Placement)) {
	for _, at := range p.placed {
		tell(at)
	}
	p.placed = nil
}
func (p *fakePart) HearPlacement(at types.Placement, _ time.Time) {
	if p.panics {
		panic("a part of the user's")
	}
	p.heardPlaced = append(p.heardPlaced, types.Placement{Endpoint: at.Endpoint, Anchors: slices.Clone(at.Anchors)})
}
func (p *fakePart) ShareEjections(_ time.Time, tell func(types.Ejected)) {
	for _, e := range p.ejected {
		tell(e)
	}
}
func (p *fakePart) HearEjection(_ int, e types.Ejected, _ time.Time) {
	p.heardEjected = append(p.heardEjected, e)
}
func (p *fakePart) ShareBindings(_ time.Time, tell func(types.Binding)) {
	for _, b := range p.bound {
		tell(b)
	}
	p.bound = nil
}
func (p *fakePart) HearBinding(b types.Binding, _ time.Time) { p.heardBound = append(p.heardBound, b) }
func (p *fakePart) ShareAccounts(_ bool, tell func(types.Account)) {
	for _, a := range p.accounts {
		tell(a)
	}
}
func (p *fakePart) HearAccount(_ int, a types.Account) { p.heardAccounts = append(p.heardAccounts, a) }

func groupOf(t testing.TB, o Options, eps ...*types.Endpoint) (*Group, *fakePart) {
	t.Helper()
	g, err := New(o)
	require.NoError(t, err)
	part := &fakePart{}
	require.NoError(t, g.Add(Scope{Name: "pool", Endpoints: func() []*types.Endpoint { return eps }, Parts: []any{part, "no part"}}))
	return g, part
}

// two are the endpoints of one gateway: the same servers, by other names.
func two(name string) []*types.Endpoint {
	return []*types.Endpoint{types.NewEndpoint(name+"-one", "10.0.0.1:80"), types.NewEndpoint(name+"-two", "10.0.0.2:80")}
}

// All kinds come to a peer, whose endpoints have other names; what is switched off does not.
func TestKinds(t *testing.T) {
	epsA, epsB, epsC := two("a"), two("b"), two("c")
	a, partA := groupOf(t, Options{Name: "first"}, epsA...)
	b, partB := groupOf(t, Options{}, epsB...)
	c, partC := groupOf(t, Options{Without: Kinds{true, true, true, true, true, true, true}}, epsC...)
	booked := types.Booking{Requests: 3, Prefilling: 1, PrefillTokens: 500, ContextTokens: 900, Denoise: 1 << 33}
	epsA[1].Load.Book(booked)
	anchors := make([]uint64, 3000)
	for i := range anchors {
		anchors[i] = uint64(i + 1)
	}
	partA.placed = []types.Placement{{Endpoint: "a-one", Anchors: anchors}, {Endpoint: "unheard of", Anchors: anchors}}
	partA.ejected = []types.Ejected{{Endpoint: "a-two", Number: 4, Refused: true, Left: 1500 * time.Millisecond}}
	partA.bound = []types.Binding{{Key: 9, Endpoint: "a-one", Age: time.Minute}}
	partA.accounts = []types.Account{{Key: 8, Requests: -1, Tokens: 100, RequestsLeft: 7, TokensLeft: 5}}
	a.Tell(start, func(msg []byte) {
		for _, g := range []*Group{a, b, c} { // a hears itself
			g.Hear("10.1.1.1:9", msg, start)
		}
	})
	require.Equal(t, booked, epsB[1].Load.Peers())
	require.Zero(t, epsB[0].Load.Peers())
	require.Equal(t, 1, partB.changed)
	require.Equal(t, 1, partB.alive)
	var heard []uint64
	for _, p := range partB.heardPlaced {
		require.Equal(t, "b-one", p.Endpoint)
		heard = append(heard, p.Anchors...)
	}
	require.Equal(t, anchors, heard)
	require.Equal(t, []types.Ejected{{Endpoint: "b-two", Number: 4, Refused: true, Left: 1500 * time.Millisecond}}, partB.heardEjected)
	require.Equal(t, []types.Binding{{Key: 9, Endpoint: "b-one", Age: time.Minute}}, partB.heardBound)
	require.Equal(t, partA.accounts, partB.heardAccounts)

	require.Zero(t, epsA[1].Load.Peers(), "what it says itself is nothing new")
	require.Zero(t, partA.alive)
	require.Equal(t, &fakePart{alive: 1}, partC)
	require.Zero(t, epsC[1].Load.Peers())
	require.Equal(t, "first", b.peers.list[0].name)
}

// A peer that falls silent counts for as long as it may only be late, and then for less and less.
func TestSilentPeer(t *testing.T) {
	epsA, epsB := two("a"), two("b")
	a, _ := groupOf(t, Options{}, epsA...)
	b, part := groupOf(t, Options{}, epsB...)
	epsA[0].Load.Book(types.Booking{Requests: 100})
	a.Tell(start, func(msg []byte) { b.Hear("", msg, start) })
	at := func(d time.Duration) int64 {
		b.Tell(start.Add(d), func([]byte) {})
		return epsB[0].Load.Peers().Requests
	}
	require.EqualValues(t, 100, at(0))
	require.EqualValues(t, 100, at(3*time.Second))
	require.EqualValues(t, 50, at(3500*time.Millisecond))
	require.Equal(t, 2, part.lost, "of ejections, and of accounts")
	require.Zero(t, part.alive)
	require.Zero(t, at(4*time.Second))

	// It comes back.
	a.Tell(start.Add(9*time.Second), func(msg []byte) { b.Hear("", msg, start.Add(9*time.Second)) })
	require.EqualValues(t, 100, epsB[0].Load.Peers().Requests)
	require.Equal(t, 1, part.alive)
	a.leave(func(msg []byte) { b.Hear("", msg, start.Add(10*time.Second)) })
	require.Zero(t, epsB[0].Load.Peers(), "who leaves has gone at once")
	require.Zero(t, part.alive)
}

// Whatever is lost, late or comes twice: in the end each believes what the others' ledgers say.
func TestConverges(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 1))
		type message struct {
			to, at int
			msg    []byte
		}
		var groups []*Group
		var eps [][]*types.Endpoint
		var parts []*fakePart
		for range 5 {
			e := []*types.Endpoint{types.NewEndpoint("one", "10.0.0.1:80"), types.NewEndpoint("two", "10.0.0.2:80"), types.NewEndpoint("three", "10.0.0.3:80")}
			g, part := groupOf(t, Options{}, e...)
			groups, eps, parts = append(groups, g), append(eps, e), append(parts, part)
		}
		var way []message
		const ticks, quiet = 400, 260
		for i := range ticks + quiet {
			now := start.Add(time.Duration(i) * 50 * time.Millisecond)
			for from, g := range groups {
				if i < ticks {
					e := eps[from][r.IntN(3)]
					if n := int64(r.IntN(4)); r.IntN(2) == 0 || e.Load.Requests() < n {
						e.Load.Book(types.Booking{Requests: n, ContextTokens: 100 * n})
					} else {
						e.Load.Release(types.Booking{Requests: n, ContextTokens: 100 * n})
					}
				}
				g.Tell(now, func(msg []byte) {
					for to := range groups {
						for r.IntN(3) > 0 && to != from { // lost, once, or several times
							way = append(way, message{to, i + r.IntN(8), slices.Clone(msg)})
						}
					}
				})
			}
			r.Shuffle(len(way), func(a, b int) { way[a], way[b] = way[b], way[a] })
			way = slices.DeleteFunc(way, func(m message) bool {
				if m.at <= i {
					groups[m.to].Hear("", m.msg, now)
				}
				return m.at <= i
			})
		}
		for g := range groups {
			for k := range 3 {
				var sum types.Booking
				for other := range groups {
					if other != g {
						sum = sum.Plus(eps[other][k].Load.Held())
					}
				}
				require.Equal(t, sum, eps[g][k].Load.Peers(), "seed %d", seed)
			}
			require.Equal(t, 4, parts[g].alive)
			require.Zero(t, parts[g].lost)
		}
	}
}

// Endpoints come and go, and others may have taken their addresses.
func TestEndpointsChange(t *testing.T) {
	epsB := two("b")
	a, _ := groupOf(t, Options{}, two("a")...)
	g, err := New(Options{})
	require.NoError(t, err)
	require.NoError(t, g.Add(Scope{Name: "pool", Endpoints: func() []*types.Endpoint { return epsB }}))
	tell := func(at time.Duration) {
		a.whole = time.Time{}
		a.Tell(start.Add(at), func(msg []byte) { g.Hear("", msg, start.Add(at)) })
		g.Tell(start.Add(at), func([]byte) {})
	}
	a.scopes[0].eps[0].Load.Book(types.Booking{Requests: 7})
	tell(0)
	old := epsB[0]
	require.EqualValues(t, 7, old.Load.Peers().Requests)
	epsB[0] = epsB[0].WithMetrics(types.Metrics{})
	require.EqualValues(t, 7, epsB[0].Sent.Requests)
	tell(time.Second)
	require.EqualValues(t, 7, epsB[0].Load.Peers().Requests)
	epsB = []*types.Endpoint{epsB[1], types.NewEndpoint("new", "10.0.0.1:80")}
	tell(2 * time.Second)
	tell(3 * time.Second)
	require.EqualValues(t, 7, epsB[1].Load.Peers().Requests)
	epsB = nil
	tell(4 * time.Second)
	tell(5 * time.Second)
	require.EqualValues(t, 1, g.counts.unknown)
}

// What peers do wrong is counted, and does no harm.
func TestBadPeers(t *testing.T) {
	key := []byte("a key of sixteen bytes or more")
	eps := two("b")
	b, part := groupOf(t, Options{MaxPeers: 2, MaxRate: MaxMessage, Key: key}, eps...)
	tell := func(g *Group, at time.Duration) {
		g.Tell(start.Add(at), func(msg []byte) { b.Hear("10.0.0.9:1", msg, start.Add(at)) })
	}
	unsigned, _ := groupOf(t, Options{}, two("u")...)
	tell(unsigned, 0)
	wrong, _ := groupOf(t, Options{Key: []byte("another key of sixteen bytes")}, two("w")...)
	tell(wrong, 0)
	b.Hear("10.0.0.9:1", []byte("hello"), start)
	require.EqualValues(t, 2, b.counts.unsigned)
	require.EqualValues(t, 1, b.counts.broken)
	require.Empty(t, b.peers.of)

	epsA := two("a")
	a, partA := groupOf(t, Options{Key: key}, epsA...)
	var kept []byte
	epsA[0].Load.Book(types.Booking{Requests: 5})
	a.Tell(start, func(msg []byte) { kept = slices.Clone(msg); b.Hear("", msg, start) })
	require.EqualValues(t, 5, eps[0].Load.Peers().Requests)

	// One too many.
	for range 2 {
		g, _ := groupOf(t, Options{Key: key}, two("c")...)
		tell(g, 0)
	}
	require.Equal(t, 2, part.alive)
	require.EqualValues(t, 1, b.peers.refused)

	// An old message that is sent again brings nobody back to life, and nothing changes.
	epsA[0].Load.Release(types.Booking{Requests: 5})
	for i := range 200 {
		tell(a, time.Duration(i)*50*time.Millisecond)
	}
	require.Zero(t, eps[0].Load.Peers().Requests)
	b.Hear("", kept, start.Add(10*time.Second))
	require.Zero(t, eps[0].Load.Peers().Requests)
	for at := 10 * time.Second; at < 20*time.Second; at += time.Second {
		b.Hear("", kept, start.Add(at))
		b.Tell(start.Add(at), func([]byte) {})
	}
	require.Zero(t, part.alive)
	require.Positive(t, b.peers.of[a.origin].counts.old)

	// A flood.
	partA.placed = nil
	for range 10_000 {
		partA.placed = append(partA.placed, types.Placement{Endpoint: "a-one", Anchors: make([]uint64, 100)})
	}
	part.heardPlaced = nil
	tell(a, 20*time.Second)
	require.Less(t, len(part.heardPlaced), 2*MaxMessage/800+1)
	require.Positive(t, b.peers.of[a.origin].counts.flooded)

	// A part that panics.
	part.panics = true
	partA.placed = []types.Placement{{Endpoint: "a-one", Anchors: []uint64{1}}}
	epsA[1].Load.Book(types.Booking{Requests: 2})
	tell(a, 30*time.Second)
	require.EqualValues(t, 1, b.counts.panics)
	require.EqualValues(t, 2, eps[1].Load.Peers().Requests)
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"sharing: Every is 1ms, want 10ms to 10s, or 0 for the default 50ms":        {Every: time.Millisecond},
		"sharing: Whole is 20ms, want at least Every, 50ms, and at most a minute":   {Whole: 20 * time.Millisecond},
		"sharing: TTL is 1s, want at least twice Whole, 2s, and at most an hour":    {TTL: time.Second},
		"sharing: MaxPeers is 300, want 1 to 256, or 0 for the default 64":          {MaxPeers: 300},
		"sharing: MaxRate is 10, want at least 65536, or 0 for the default 8388608": {MaxRate: 10},
		"sharing: Key has 5 bytes, want at least 16":                                {Key: []byte("short")},
		"sharing: Name has 257 bytes, want at most 256":                             {Name: string(make([]byte, 257))},
	} {
		_, err := New(o)
		require.EqualError(t, err, want)
	}
	g, err := New(Options{Every: 5 * time.Second})
	require.NoError(t, err, "the defaults of the others follow")
	require.EqualError(t, g.Add(Scope{}), "sharing: the scope has no Name")
	require.NoError(t, g.Add(Scope{Name: "a"}))
	require.EqualError(t, g.Add(Scope{Name: "a"}), `sharing: there is a scope "a" already`)
	require.EqualError(t, g.Run(context.Background()), "sharing: Run without a Transport")
}

// wire is a Transport to one other.
type wire struct {
	mu     sync.Mutex
	to     *wire
	handle func(string, []byte)
	fails  bool
}

func (w *wire) Broadcast(_ context.Context, msg []byte) error {
	if w.fails {
		return errors.New("the network is down")
	}
	w.to.mu.Lock()
	handle := w.to.handle
	w.to.mu.Unlock()
	if handle != nil {
		handle("peer", msg)
	}
	return nil
}
func (w *wire) Receive(handle func(string, []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handle = handle
}
func (w *wire) Close() error { return nil }

// Run tells and hears, and says when it leaves.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := new(wire), new(wire)
		x.to, y.to = y, x
		epsA, epsB := two("a"), two("b")
		a, _ := groupOf(t, Options{Transport: x}, epsA...)
		b, part := groupOf(t, Options{Transport: y}, epsB...)
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { require.NoError(t, a.Run(ctx)) })
		all.Go(func() { require.NoError(t, b.Run(t.Context())) })
		epsA[0].Load.Book(types.Booking{Requests: 4})
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		require.EqualValues(t, 4, epsB[0].Load.Peers().Requests)
		b.turn.Lock()
		require.Equal(t, 1, part.alive)
		b.turn.Unlock()
		stop()
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		require.Zero(t, epsB[0].Load.Peers().Requests)
		y.fails = true
	})
}
