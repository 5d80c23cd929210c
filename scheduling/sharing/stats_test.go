package sharing_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// watched is a gateway in front of some servers, without a transport.
type watched struct {
	*sharing.Group
	eps []*types.Endpoint
}

func newWatched(t *testing.T, o sharing.Options, addresses ...string) *watched {
	t.Helper()
	g, err := sharing.New(o)
	require.NoError(t, err)
	w := &watched{Group: g}
	for i, address := range addresses {
		w.eps = append(w.eps, types.NewEndpoint(fmt.Sprintf("%s-%d", o.Name, i), address))
	}
	require.NoError(t, g.Add(sharing.Scope{Name: "scope", Endpoints: func() []*types.Endpoint { return w.eps }}))
	return w
}

// says returns what it tells at now.
func (w *watched) says(now time.Time) (messages [][]byte) {
	w.Tell(now, func(msg []byte) { messages = append(messages, bytes.Clone(msg)) })
	return messages
}

// tells tells all others at now.
func (w *watched) tells(now time.Time, from string, others ...*watched) {
	for _, msg := range w.says(now) {
		for _, o := range others {
			o.Hear(from, msg, now)
		}
	}
}

var epoch = time.Unix(1_000_000, 0)

func after(d time.Duration) time.Time { return epoch.Add(d) }

func TestStats(t *testing.T) {
	const s1, s2 = "10.0.0.1:8000", "10.0.0.2:8000"
	a := newWatched(t, sharing.Options{Name: "a", Without: sharing.Kinds{Accounts: true}}, s1, s2)
	b := newWatched(t, sharing.Options{Name: "b"}, s2, s1, "10.0.0.3:8000") // one that a does not have
	c := newWatched(t, sharing.Options{}, s1)
	for _, ep := range b.eps {
		ep.Load.Book(types.Booking{Requests: 2, Prefilling: 1, PrefillTokens: 100, ContextTokens: 500})
	}
	c.eps[0].Load.Book(types.Booking{Requests: 5, ContextTokens: 70})
	require.Empty(t, a.Stats(epoch).Peers)
	b.tells(epoch, "10.1.0.2:7946", a)
	c.tells(after(40*time.Millisecond), "10.1.0.3:7946", a)
	a.tells(after(50*time.Millisecond), "10.1.0.1:7946", b, c)

	s := a.Stats(after(100 * time.Millisecond))
	require.Equal(t, 2, s.Alive())
	want := []sharing.PeerStats{
		{
			Name: "10.1.0.3:7946", From: "10.1.0.3:7946", Age: 60 * time.Millisecond, Alive: true,
			Held: types.Booking{Requests: 5, ContextTokens: 70}, Traffic: s.Peers[0].Traffic,
		}, {
			Name: "b", From: "10.1.0.2:7946", Age: 100 * time.Millisecond, Alive: true,
			Held: types.Booking{Requests: 4, Prefilling: 2, PrefillTokens: 200, ContextTokens: 1000}, Traffic: s.Peers[1].Traffic,
		},
	}
	require.Empty(t, cmp.Diff(want, s.Peers))
	require.Equal(t, uint64(1), s.Peers[1].Messages)
	require.Equal(t, s.Peers[0].Bytes+s.Peers[1].Bytes, s.Heard.Bytes)
	require.Equal(t, uint64(2), s.Heard.Messages)
	require.Equal(t, uint64(1), s.Told.Messages)
	require.Equal(t, a.Stats(epoch).Told.Bytes, b.Stats(epoch).Heard.Bytes)
	require.Equal(t, sharing.Ignored{Unknown: 1}, s.Ignored, "the endpoint that only b has")
	require.Equal(t, sharing.Kinds{Accounts: true}, s.Without)

	// b is silent: what it has fades, and it is no peer any more, but is not forgotten at once.
	gone := sharing.DefaultTTL + 500*time.Millisecond
	c.tells(after(gone), "10.1.0.3:7946", a)
	a.says(after(gone))
	s = a.Stats(after(gone))
	require.Equal(t, 1, s.Alive())
	require.Equal(t, "b", s.Peers[1].Name)
	require.False(t, s.Peers[1].Alive)
	require.Equal(t, gone, s.Peers[1].Age)
	require.Equal(t, types.Booking{Requests: 2, Prefilling: 2, PrefillTokens: 100, ContextTokens: 500}, s.Peers[1].Held, "half of it at two servers, rounded up")
	a.says(after(gone + time.Minute))
	require.Len(t, a.Stats(after(gone+time.Minute)).Peers, 0)
}

// What a peer has at a server that two scopes have counts once.
func TestStatsOfScopesThatOverlap(t *testing.T) {
	a, b := newWatched(t, sharing.Options{}, "s:1"), newWatched(t, sharing.Options{Name: "b"}, "s:1")
	for _, w := range []*watched{a, b} {
		require.NoError(t, w.Add(sharing.Scope{Name: "again", Endpoints: func() []*types.Endpoint { return w.eps }}))
	}
	b.eps[0].Load.Book(types.Booking{Requests: 3})
	b.tells(epoch, "b", a)
	require.Equal(t, int64(3), a.Stats(epoch).Peers[0].Held.Requests)
	require.Equal(t, int64(3), a.eps[0].Load.Peers().Requests)
}

// A server in two pools is one server: what is at it is the sum, and is known in both.
func TestServerInTwoPools(t *testing.T) {
	a, b := newWatched(t, sharing.Options{}, "s:1", "s:1", "s:2"), newWatched(t, sharing.Options{Name: "b"}, "s:1", "s:2", "s:1")
	b.eps[0].Load.Book(types.Booking{Requests: 3})
	b.eps[2].Load.Book(types.Booking{Requests: 4})
	a.eps[1].Load.Book(types.Booking{Requests: 1})
	peers := func(w *watched) (n []int64) {
		for _, ep := range w.eps {
			n = append(n, ep.Load.Peers().Requests)
		}
		return n
	}
	b.tells(epoch, "b", a)
	a.tells(epoch, "a", b)
	require.Equal(t, []int64{7, 7, 0}, peers(a))
	require.Equal(t, []int64{1, 0, 1}, peers(b))
	require.Equal(t, int64(7), a.Stats(epoch).Peers[0].Held.Requests)
	for _, ep := range a.eps[:2] {
		require.Equal(t, int64(7), a.Explain(ep, epoch)[0].Requests)
	}
	// It leaves one of them, and then both.
	a.eps = a.eps[1:]
	b.tells(after(time.Second), "b", a)
	require.Equal(t, []int64{7, 0}, peers(a))
	b.eps[0].Load.Release(types.Booking{Requests: 3})
	b.eps = b.eps[:1]
	b.tells(after(2*time.Second), "b", a)
	require.Equal(t, []int64{0, 0}, peers(a))
}

func TestStatsOfWhatIsIgnored(t *testing.T) {
	key := []byte("0123456789abcdef")
	a := newWatched(t, sharing.Options{Name: "a", Key: key, MaxPeers: 2, MaxRate: sharing.MaxMessage}, "s:1")
	b := newWatched(t, sharing.Options{Name: "b", Key: key}, "s:1", "only b has:1")
	b.eps[1].Load.Book(types.Booking{Requests: 1})
	unsigned := newWatched(t, sharing.Options{}, "s:1")
	elsewhere := newWatched(t, sharing.Options{Name: "elsewhere", Key: key})
	require.NoError(t, elsewhere.Set(sharing.Scope{Name: "another", Endpoints: func() []*types.Endpoint { return b.eps }}))
	third := newWatched(t, sharing.Options{Name: "third", Key: key}, "s:1")

	unsigned.tells(epoch, "x", a)
	version := b.says(epoch)[0]
	version[3]++
	a.Hear("x", version, epoch)
	a.Hear("x", []byte("GET / HTTP/1.1"), epoch)
	b.tells(epoch, "b", a)
	first := b.says(after(time.Second))
	b.tells(after(2*time.Second), "b", a)
	a.Hear("b", first[0], after(2*time.Second))
	elsewhere.tells(after(2*time.Second), "elsewhere", a)
	third.tells(after(2*time.Second), "third", a)
	for range 2000 {
		b.tells(after(2*time.Second), "b", a)
	}

	got := a.Stats(after(2 * time.Second))
	flooded := got.Ignored.Flooded
	require.Positive(t, flooded)
	unknown := got.Ignored.Unknown
	require.Positive(t, unknown)
	require.Equal(t, sharing.Ignored{Old: 1, Flooded: flooded, Broken: 1, Versions: 1, Unsigned: 1, Refused: 1, Elsewhere: 1, Unknown: unknown}, got.Ignored)
	require.Len(t, got.Peers, 2)
	require.Equal(t, flooded, got.Peers[0].Flooded)
	require.Equal(t, uint64(1), got.Peers[0].Old)
	require.Equal(t, uint64(1), got.Peers[1].Elsewhere)
}

// Counters do not fall when peers are forgotten.
func TestStatsOfManyThatCameAndWent(t *testing.T) {
	a := newWatched(t, sharing.Options{MaxPeers: 1})
	now, before := epoch, sharing.Traffic{}
	const peers = 1100
	for range peers {
		p := newWatched(t, sharing.Options{})
		p.tells(now, "p", a)
		now = now.Add(sharing.DefaultTTL + time.Millisecond)
		a.says(now)
		heard := a.Stats(now).Heard
		require.Equal(t, before.Messages+1, heard.Messages)
		require.Greater(t, heard.Bytes, before.Bytes)
		before = heard
	}
	require.Less(t, len(a.Stats(now).Peers), 30, "those of the last minute")
}

func TestExplain(t *testing.T) {
	a := newWatched(t, sharing.Options{Name: "a"}, "s:1", "s:2")
	b := newWatched(t, sharing.Options{Name: "b"}, "s:1")
	c := newWatched(t, sharing.Options{Name: "c"}, "s:1", "s:2")
	b.eps[0].Load.Book(types.Booking{Requests: 2, PrefillTokens: 900})
	c.eps[0].Load.Book(types.Booking{Requests: 1})
	c.tells(epoch, "from c", a)
	b.tells(after(time.Second), "from b", a)

	half := after(sharing.DefaultTTL + 500*time.Millisecond)
	claims := a.Explain(a.eps[0], half)
	require.Empty(t, cmp.Diff([]sharing.Claim{
		{Name: "b", From: "from b", Age: half.Sub(after(time.Second)), Counts: 1, Booking: types.Booking{Requests: 2, PrefillTokens: 900}},
		{Name: "c", From: "from c", Age: half.Sub(epoch), Counts: .5, Booking: types.Booking{Requests: 1}},
	}, claims))
	require.Equal(t, "b: 2 in flight, 900 prompt tokens owed, 2.5s ago", claims[0].String())
	require.Equal(t, "c: 1 in flight, 0 prompt tokens owed, 3.5s ago, counts 50 %", claims[1].String())
	require.Empty(t, a.Explain(a.eps[1], half), "nobody has anything there")
	require.Empty(t, a.Explain(b.eps[0], half), "it is another gateway's")
	require.Empty(t, a.Explain(types.NewEndpoint("a-0", "s:1"), half), "it has the ID, and is another")
	require.Empty(t, a.Explain(&types.Endpoint{ID: "a-0"}, half))
	newer := *a.eps[0]
	require.Len(t, a.Explain(&newer, half), 2, "it is another reading")
	renamed := *a.eps[0]
	renamed.ID = "another"
	require.Len(t, a.Explain(&renamed, half), 2)
}

// Without a Group nothing is shared, and who asks need not look.
func TestStatsOfNone(t *testing.T) {
	var none *sharing.Group
	require.Zero(t, none.Stats(epoch))
	require.Empty(t, none.Explain(types.NewEndpoint("a", "b:1"), epoch))
}

// changes is a part that notes what it is told.
type changes struct {
	mu    sync.Mutex
	told  []string
	alive int
}

func (c *changes) PeersChanged(eps []*types.Endpoint, _ time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ep := range eps {
		c.told = append(c.told, fmt.Sprint(ep.Address, " ", ep.Load.Peers().Requests))
	}
}

func (c *changes) ShareAccounts(bool, func(types.Account)) {}
func (c *changes) HearAccount(int, types.Account)          {}
func (c *changes) LosePeer(int)                            {}
func (c *changes) PeersAlive(n int)                        { c.alive = n }

func (c *changes) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := c.told
	c.told = nil
	return told
}

func TestScopesChange(t *testing.T) {
	a, b := newWatched(t, sharing.Options{Name: "a"}, "s:1", "s:2"), newWatched(t, sharing.Options{Name: "b"}, "s:1", "s:2")
	for i, ep := range b.eps {
		ep.Load.Book(types.Booking{Requests: int64(i + 1)})
	}
	// A part hears of the endpoints of all scopes.
	other := &changes{}
	require.NoError(t, a.Add(sharing.Scope{Name: "other", Parts: []any{other}}))
	b.tells(epoch, "b", a)
	require.Equal(t, []string{"s:1 1", "s:2 2"}, other.take())
	require.Equal(t, 1, other.alive)

	// In place of a scope comes one with another part and an endpoint less. What was heard stays.
	gone := a.eps[1]
	a.eps = a.eps[:1]
	part := &changes{}
	next := sharing.Scope{Name: "scope", Endpoints: func() []*types.Endpoint { return a.eps }, Parts: []any{part}}
	require.ErrorContains(t, a.Add(next), `there is a scope "scope" already`)
	require.NoError(t, a.Set(next))
	require.Equal(t, []string{"s:1 1"}, part.take())
	require.Equal(t, 1, part.alive)
	require.Len(t, a.Explain(a.eps[0], epoch), 1)
	require.Empty(t, a.Explain(gone, epoch))

	a.Remove("nothing of that name")
	require.Len(t, a.Explain(a.eps[0], epoch), 1)
	other.take()
	a.Remove("scope")
	require.Empty(t, a.Explain(a.eps[0], epoch))
	require.Zero(t, a.eps[0].Load.Peers())
	require.Equal(t, []string{"s:1 0"}, other.take())
	require.Equal(t, []string{"s:1 0"}, part.take())
	b.tells(after(time.Second), "b", a)
	require.Equal(t, uint64(1), a.Stats(epoch).Ignored.Elsewhere)
	require.NoError(t, a.Set(next), "it may come back")
	require.ErrorContains(t, a.Set(sharing.Scope{}), "has no Name")
}

// Keep shares what there is now. A scope that stays as it is keeps what it has.
func TestKeep(t *testing.T) {
	a, b := newWatched(t, sharing.Options{}, "s:1"), newWatched(t, sharing.Options{Name: "b"}, "s:1")
	shared := func(name string) bool {
		if a.Add(sharing.Scope{Name: name}) != nil {
			return true
		}
		a.Remove(name)
		return false
	}
	part := &changes{}
	scope := func(name string, parts ...any) sharing.Scope {
		return sharing.Scope{Name: name, Parts: parts, Endpoints: func() []*types.Endpoint { return a.eps }}
	}
	require.NoError(t, a.Keep(scope("one", part), scope("two")))
	require.True(t, shared("one") && shared("two") && shared("scope"))
	require.NoError(t, b.Add(sharing.Scope{Name: "one", Endpoints: func() []*types.Endpoint { return b.eps }}))
	b.eps[0].Load.Book(types.Booking{Requests: 1})
	b.tells(epoch, "b", a)
	require.NotEmpty(t, part.take())
	require.EqualValues(t, 1, a.eps[0].Load.Peers().Requests)
	require.NoError(t, a.Keep(scope("one", part), scope("three", []int{1})))
	require.Empty(t, part.take(), "it is as it was")
	require.EqualValues(t, 1, a.eps[0].Load.Peers().Requests)
	require.True(t, shared("one") && !shared("two") && shared("three") && shared("scope"), "what was added is not Keep's")
	require.NoError(t, a.Keep(scope("three", []int{1})), "a part that cannot be compared")
	require.False(t, shared("one"))
	require.ErrorContains(t, a.Keep(scope(""), scope("four")), "has no Name")
	require.True(t, shared("four") && !shared("three"))
}

// wire is a transport to one other.
type wire struct {
	mu     sync.Mutex
	to     *wire
	handle func(string, []byte)
	sent   chan []byte
}

func (w *wire) Broadcast(_ context.Context, msg []byte) error {
	select {
	case w.sent <- bytes.Clone(msg):
	default:
	}
	w.to.mu.Lock()
	handle := w.to.handle
	w.to.mu.Unlock()
	if handle != nil {
		go handle("wire", bytes.Clone(msg))
	}
	return nil
}

func (w *wire) Receive(handle func(string, []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.handle != nil {
		panic("Receive is called twice")
	}
	w.handle = handle
}

func (w *wire) Close() error { return nil }

// A Group runs once at a time, and again when it has left: as another peer.
func TestRunAgain(t *testing.T) {
	one, two := &wire{sent: make(chan []byte, 1)}, &wire{sent: make(chan []byte, 1)}
	one.to, two.to = two, one
	a := newWatched(t, sharing.Options{Name: "a", Transport: one, Every: sharing.LeastEvery}, "s:1")
	b := newWatched(t, sharing.Options{Name: "b", Transport: two, Every: sharing.LeastEvery}, "s:1")
	b.eps[0].Load.Book(types.Booking{Requests: 3})
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	running.Go(func() { a.Run(ctx) })
	hears := func(n int64) func() bool {
		return func() bool { return a.eps[0].Load.Peers().Requests == n }
	}
	for range 2 {
		leaving, leave := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- b.Run(leaving) }()
		require.Eventually(t, hears(3), 10*time.Second, time.Millisecond)
		<-two.sent
		require.ErrorIs(t, b.Run(ctx), sharing.ErrRunning)
		leave()
		require.NoError(t, <-done)
		require.Eventually(t, hears(0), 10*time.Second, time.Millisecond)
	}
	g, err := sharing.New(sharing.Options{})
	require.NoError(t, err)
	require.ErrorContains(t, g.Run(ctx), "without a Transport")
}

// Names that peers make up are cut to what people can see.
func TestStatsNames(t *testing.T) {
	a := newWatched(t, sharing.Options{})
	newWatched(t, sharing.Options{Name: "gate\nway\x00\u202e-1" + strings.Repeat("x", 40)}).tells(epoch, "b", a)
	require.Equal(t, "gateway-1"+strings.Repeat("x", 40), a.Stats(epoch).Peers[0].Name)
}
