package sharing

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/figures"
	"github.com/inferpick/inferpick/types"
)

// lossy is a network on which messages come late, twice, in another order, or not at all, and its clock.
type lossy struct {
	t             testing.TB
	now           time.Duration
	rand          *rand.Rand
	lost, twice   float64
	delay, jitter time.Duration
	groups        []*Group
	from          []time.Duration // when each begins to tell
	until         []time.Duration // and when it has gone; 0: never
	events        events
	messages      int
	change        func(from, to int, msg []byte) []byte // what becomes of a message; nil: nothing
}

type happening struct {
	at       time.Duration
	number   int
	from, to int
	msg      []byte // nil: to tells
}

type events []happening

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(happening)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newLossy(t testing.TB, seed uint64) *lossy {
	return &lossy{t: t, rand: rand.New(rand.NewPCG(seed, 1)), delay: time.Millisecond}
}

func (l *lossy) push(h happening) {
	l.messages++
	h.number = l.messages
	heap.Push(&l.events, h)
}

// join has a gateway begin at now.
func (l *lossy) join(g *Group) int {
	i := len(l.groups)
	l.groups, l.from, l.until = append(l.groups, g), append(l.from, l.now), append(l.until, 0)
	l.push(happening{at: l.now + time.Duration(l.rand.Int64N(int64(50*time.Millisecond))), to: i})
	return i
}

// run lets time pass.
func (l *lossy) run(d time.Duration) {
	end := l.now + d
	for len(l.events) > 0 && l.events[0].at <= end {
		h := heap.Pop(&l.events).(happening)
		l.now = h.at
		at := epoch.Add(l.now)
		if l.until[h.to] != 0 && l.now >= l.until[h.to] {
			continue
		}
		if h.msg != nil {
			l.groups[h.to].Hear(fmt.Sprint("g", h.from), h.msg, at)
			continue
		}
		l.groups[h.to].Tell(at, func(msg []byte) { l.send(h.to, msg) })
		l.push(happening{at: l.now + 50*time.Millisecond, to: h.to})
	}
	l.now = end
}

func (l *lossy) send(from int, msg []byte) {
	require.LessOrEqual(l.t, len(msg), MaxMessage)
	for to := range l.groups {
		for n := 1 + l.times(l.twice); n > 0 && to != from; n-- {
			copied := bytes.Clone(msg)
			if l.change != nil {
				copied = l.change(from, to, copied)
			}
			if copied == nil || l.times(l.lost) > 0 {
				continue
			}
			late := l.delay
			if l.jitter > 0 {
				late += time.Duration(l.rand.Int64N(int64(l.jitter)))
			}
			l.push(happening{at: l.now + late, from: from, to: to, msg: copied})
		}
	}
}

func (l *lossy) times(p float64) int {
	if l.rand.Float64() < p {
		return 1
	}
	return 0
}

func knowing(name string, n int) *peerBlob {
	return &peerBlob{blob{name: name, data: text(name, n)}}
}

// A gateway that begins is told what its peers know, of parts that are as good for it, whatever becomes of messages.
func TestGatewayThatBeginsIsTold(t *testing.T) {
	for _, c := range []struct {
		name          string
		gateways      int
		bytes         int
		lost, twice   float64
		delay, jitter time.Duration
		within        time.Duration
		key           string
	}{
		{"one peer", 1, 1000, 0, 0, time.Millisecond, 0, time.Second, ""},
		{"signed", 1, 1000, 0, 0, time.Millisecond, 0, time.Second, "0123456789abcdef"},
		{"of many pages", 1, 5 << 20, 0, 0, time.Millisecond, 0, 3 * time.Second, ""},
		{"one of many", 10, 200_000, 0, 0, time.Millisecond, 0, time.Second, ""},
		{"far away", 3, 400_000, 0, 0, 50 * time.Millisecond, 50 * time.Millisecond, 2 * time.Second, ""},
		{"1 % lost", 3, 1 << 20, .01, .01, 10 * time.Millisecond, 20 * time.Millisecond, 2 * time.Second, ""},
		{"20 % lost", 3, 300_000, .2, .2, 10 * time.Millisecond, 20 * time.Millisecond, 4 * time.Second, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			told, seeds := 0, 5
			if testing.Short() {
				seeds = 2
			}
			for seed := range uint64(seeds) {
				l := newLossy(t, seed)
				o := Options{Key: []byte(c.key)}
				for range c.gateways {
					l.join(newGroup(t, o, of("pool", knowing("x", c.bytes), named("own", "secret"))))
				}
				l.run(6 * time.Second)
				l.lost, l.twice, l.delay, l.jitter = c.lost, c.twice, c.delay, c.jitter
				x, own := knowing("x", 0), named("own", "")
				l.join(newGroup(t, o, of("pool", x, own)))
				l.run(c.within)
				if x.has() == string(text("x", c.bytes)) {
					told++
				}
				require.Empty(t, own.has(), "what is each gateway's own")
				l.run(6 * time.Second)
				require.LessOrEqual(t, x.times, 1)
				for _, g := range l.groups {
					require.Nil(t, g.keeping.pages.snapshot, "it is kept for who asks only")
					require.Empty(t, g.keeping.pages.asking)
					require.True(t, g.keeping.pages.done)
					require.Nil(t, g.keeping.pages.pages)
				}
			}
			if c.lost > .1 {
				told++ // after three tries it is given up
			}
			require.GreaterOrEqual(t, told, seeds)
		})
	}
}

// Endpoints are the same that have the same address, whatever gateways call them.
func TestPeersHaveOtherNames(t *testing.T) {
	l := newLossy(t, 1)
	scope := func(x *renaming, eps ...*types.Endpoint) Scope {
		return Scope{Name: "pool", Endpoints: func() []*types.Endpoint { return eps }, Parts: []any{x}}
	}
	their, x := &renaming{peerBlob: knowing("x", 1000)}, &renaming{peerBlob: knowing("x", 10)}
	l.join(newGroup(t, Options{}, scope(their, types.NewEndpoint("their-one", "10.0.0.1:80"), types.NewEndpoint("their-two", "10.0.0.2:80"))))
	l.run(6 * time.Second)
	l.join(newGroup(t, Options{}, scope(x, types.NewEndpoint("our-one", "10.0.0.1:80"), types.NewEndpoint("their-two", "10.0.0.3:80"))))
	l.run(2 * time.Second)
	require.Equal(t, []string{"our-one", "their-two", "another"}, []string{x.id("their-one"), x.id("their-two"), x.id("another")})
	require.Len(t, x.has(), 1000)
}

// renaming is told what endpoints are called.
type renaming struct {
	*peerBlob
	id func(string) string
}

func (r *renaming) RestoreFromPeer(snapshot []byte, id func(string) string, now time.Time) error {
	r.id = id
	return r.Restore(snapshot, 0, now)
}

// A snapshot that is more than can be sent in time is cut, not sent in vain, and does not crowd out what is told else.
func TestSnapshotOfPeerIsBounded(t *testing.T) {
	l := newLossy(t, 1)
	o := Options{MaxRate: 400_000}
	l.join(newGroup(t, o, of("pool", knowing("x", 5<<20))))
	l.run(10 * time.Second)
	x := knowing("x", 0)
	i := l.join(newGroup(t, o, of("pool", x)))
	l.run(3 * time.Second)
	require.Greater(t, len(x.has()), 250_000)
	require.Less(t, len(x.has()), 300_000)
	for _, p := range l.groups[i].peers.list {
		require.Zero(t, p.counts.flooded)
	}
}

// Gateways that all begin have nothing to tell each other, and give it up; one that was restored has.
func TestNobodyKnows(t *testing.T) {
	l := newLossy(t, 2)
	var all []*peerBlob
	for range 4 {
		all = append(all, knowing("x", 1000))
		l.join(newGroup(t, Options{}, of("pool", all[len(all)-1])))
	}
	l.run(20 * time.Second)
	for i, x := range all {
		require.Zero(t, x.times, i)
	}

	l = newLossy(t, 3)
	warm, x := newGroup(t, Options{}, of("pool", knowing("x", 1000))), knowing("x", 0)
	_, err := warm.Restore(warm.AppendSnapshot(nil, epoch), epoch)
	require.NoError(t, err)
	l.join(warm)
	l.join(newGroup(t, Options{}, of("pool", x)))
	l.run(3 * time.Second)
	require.Len(t, x.has(), 1000)
}

// Who has a snapshot of its own that is young asks nobody, nor does who is not to, or has no use for an answer.
func TestWhoDoesNotAsk(t *testing.T) {
	for name, begin := range map[string]func(*testing.T) (*Group, *peerBlob){
		"restored": func(t *testing.T) (*Group, *peerBlob) {
			x := knowing("x", 10)
			g := newGroup(t, Options{}, of("pool", x))
			_, err := g.Restore(g.AppendSnapshot(nil, epoch), epoch.Add(20*time.Second))
			require.NoError(t, err)
			x.times = 0
			return g, x
		},
		"switched off": func(t *testing.T) (*Group, *peerBlob) {
			x := knowing("x", 10)
			return newGroup(t, Options{Without: Kinds{Snapshots: true}}, of("pool", x)), x
		},
		"no part": func(t *testing.T) (*Group, *peerBlob) {
			return newGroup(t, Options{}, of("pool", named("own", "1"))), knowing("x", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLossy(t, 1)
			l.join(newGroup(t, Options{}, of("pool", knowing("x", 1000))))
			l.run(10 * time.Second)
			g, x := begin(t)
			l.join(g)
			l.run(10 * time.Second)
			require.Zero(t, x.times)
			require.Zero(t, g.keeping.pages.tries)
		})
	}
	t.Run("restored of long ago", func(t *testing.T) {
		l := newLossy(t, 1)
		l.join(newGroup(t, Options{}, of("pool", knowing("x", 1000))))
		l.run(100 * time.Second)
		x := knowing("x", 10)
		g := newGroup(t, Options{}, of("pool", x))
		_, err := g.Restore(g.AppendSnapshot(nil, epoch), epoch.Add(100*time.Second))
		require.NoError(t, err)
		l.join(g)
		l.run(3 * time.Second)
		require.Equal(t, 2, x.times)
		require.Len(t, x.has(), 1000)
	})
}

// A peer that is switched off, dies, or tells nonsense is one of several that are asked.
func TestOtherPeersAreAsked(t *testing.T) {
	spoil := func(msg []byte) []byte { // as a peer without a key could
		m, err := readMessage(msg, nil)
		require.NoError(t, err)
		require.NoError(t, m.each(func(k kind, _ uint64, r reader) error {
			if b := r.Bytes(r.Len()); k == kindPage && len(b) > 500 {
				for i := range b[100:] {
					b[100+i] ^= 0x55
				}
			}
			return nil
		}))
		return msg
	}
	silent := func([]byte) []byte { return nil }
	for name, first := range map[string]func([]byte) []byte{"nonsense": spoil, "silent": silent} {
		t.Run(name, func(t *testing.T) {
			l := newLossy(t, 1)
			l.change = func(from, _ int, msg []byte) []byte {
				if m, _ := readMessage(msg, nil); from == 0 {
					pages := false
					_ = m.each(func(k kind, _ uint64, _ reader) error { pages = pages || k == kindPage; return nil })
					if pages {
						return first(msg)
					}
				}
				return msg
			}
			for range 2 {
				l.join(newGroup(t, Options{}, of("pool", knowing("x", 1000))))
			}
			l.run(10 * time.Second)
			x := knowing("x", 0)
			l.join(newGroup(t, Options{}, of("pool", x)))
			l.run(2 * time.Second)
			require.Equal(t, string(text("x", 1000)), x.has())
		})
	}
}

// What a peer makes up is bounded, counted, and ignored.
func TestPagesOfHostilePeers(t *testing.T) {
	now := epoch
	x := knowing("x", 1000)
	g := newGroup(t, Options{MaxSnapshot: 1 << 20}, of("pool", x))
	foe := writer{origin: origin{1}, send: func(msg []byte) { g.Hear("foe", msg, now) }}
	tell := func(k kind, size int, write func([]byte) []byte) {
		foe.tick++
		foe.begin(k, 0)
		foe.end(write(foe.item(size)))
		foe.flush()
	}
	var asked want
	step := func(d time.Duration) {
		now = now.Add(d)
		g.Tell(now, func(msg []byte) {
			m, err := readMessage(msg, nil)
			require.NoError(t, err)
			require.NoError(t, m.each(func(k kind, _ uint64, r reader) error {
				if k == kindWant {
					asked = r.want()
					require.NoError(t, r.Err())
				}
				return nil
			}))
		})
	}
	give := func(id uint64, p page) {
		p.id = id
		tell(kindPage, pageHead+len(p.data), func(b []byte) []byte { return p.append(b, g.origin) })
	}
	broken := func() uint64 { return g.peers.of[foe.origin].counts.broken }
	a := &g.keeping.pages.asker

	// Nobody asked.
	give(7, page{size: 10, data: make([]byte, 10)})
	require.Nil(t, a.pages)
	step(time.Millisecond)
	require.Equal(t, foe.origin, asked.of)
	// Not the answer.
	give(asked.id+1, page{size: 10, data: make([]byte, 10)})
	require.Nil(t, a.pages)
	// Pages that cannot be.
	give(asked.id, page{size: 100_000, number: 1, data: make([]byte, 1)})
	give(asked.id, page{size: 100_000, number: 5})
	give(asked.id, page{size: 100_000, number: 0, data: make([]byte, pageSize-1)})
	require.EqualValues(t, 3, broken())
	require.Equal(t, []int{0, 1}, a.missing())
	give(asked.id, page{size: 90_000, number: 0, data: make([]byte, pageSize)})
	require.Equal(t, []int{0, 1}, a.missing())
	// All of it, of which nothing is right.
	give(asked.id, page{size: 100_000, number: 0, data: make([]byte, pageSize)})
	give(asked.id, page{size: 100_000, number: 1, data: make([]byte, 100_000-pageSize)})
	step(time.Millisecond)
	require.False(t, a.done)
	require.Zero(t, x.times)
	// One that is too large.
	require.Equal(t, 2, a.tries, "it was asked again")
	give(asked.id, page{size: 1<<20 + 1, data: make([]byte, pageSize)})
	require.EqualValues(t, 4, broken())
	require.False(t, a.open)
	// One with a part that is not asked of peers, and one that is.
	step(time.Millisecond)
	require.Equal(t, 3, a.tries)
	own := named("own", "")
	require.NoError(t, g.Add(of("other", own)))
	liar := newGroup(t, Options{}, of("other", named("own", "a lie")), of("pool", named("x", "the truth")))
	s := liar.AppendSnapshot(nil, now.Add(-1000*time.Hour)) // its clock is another
	give(asked.id, page{size: len(s), data: s})
	step(time.Millisecond)
	require.Equal(t, "the truth", x.has())
	require.Empty(t, own.has())
	require.True(t, a.done)
	for range 10 {
		step(time.Second)
	}
	require.Equal(t, 3, a.tries)

	// Many that ask, again and again: few are told, and not more than they were.
	told := 0
	for i := range 100 {
		foe.origin = origin{2, byte(i)}
		for id := range uint64(50) {
			w := want{of: g.origin, id: id, missing: []int{0, 1, 2, 1000}}
			tell(kindWant, w.size(), w.append)
		}
	}
	require.LessOrEqual(t, len(g.keeping.pages.asking), mostAskers)
	for range 20 {
		now = now.Add(50 * time.Millisecond)
		g.Tell(now, func(msg []byte) { told += len(msg) })
	}
	require.Less(t, told, 50_000)
}

func FuzzPages(f *testing.F) {
	w := want{of: origin{1}, id: 2, missing: []int{3, 4}}
	p := page{id: 2, size: 1000, number: 0, data: make([]byte, 1000)}
	f.Add(w.append(nil), p.append(nil, origin{1}))
	f.Fuzz(func(t *testing.T, asks, tells []byte) {
		g := newGroup(t, Options{MaxSnapshot: 1 << 16}, of("pool", knowing("x", 1000)))
		g.origin = origin{1}
		from := &peer{origin: origin{2}}
		g.peers.list = []*peer{from}
		g.Tell(epoch, func([]byte) {})
		g.keeping.pages.id = 2
		_ = g.hearWant(from, reader{figures.NewReader(asks)}, epoch)
		_ = g.hearPage(from, reader{figures.NewReader(tells)}, epoch)
		for i := range 100 {
			g.Tell(epoch.Add(time.Duration(i)*100*time.Millisecond), func(msg []byte) { require.LessOrEqual(t, len(msg), MaxMessage) })
		}
		require.Empty(t, g.keeping.pages.asking)
		require.Nil(t, g.keeping.pages.pages)
	})
}

// Snapshots are made, told and restored beside all else.
func TestSnapshotsConcurrently(t *testing.T) {
	parts := []*peerBlob{knowing("x", 100_000), knowing("x", 100_000), knowing("x", 10)}
	var groups []*Group
	for _, x := range parts {
		groups = append(groups, newGroup(t, Options{}, of("pool", x)))
	}
	var all sync.WaitGroup
	for i, g := range groups {
		for n := range 3 {
			all.Go(func() {
				for tick := range 60 {
					now := epoch.Add(time.Duration(tick) * 200 * time.Millisecond)
					if i == 2 { // it begins when the others are old
						now = now.Add(time.Minute)
					} else if tick > 30 {
						now = now.Add(time.Minute - 6*time.Second)
					}
					switch n {
					case 0:
						var told [][]byte
						g.Tell(now, func(msg []byte) { told = append(told, bytes.Clone(msg)) })
						for _, msg := range told {
							for _, other := range groups {
								other.Hear("peer", msg, now)
							}
						}
					case 1:
						_, err := g.Restore(g.AppendSnapshot(nil, now), now)
						if err != nil {
							t.Error(err)
						}
					default:
						if err := g.Add(of(fmt.Sprint("scope ", tick), named("y", "more"))); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	all.Wait()
	for _, x := range parts {
		require.NotZero(t, x.times)
	}
}
