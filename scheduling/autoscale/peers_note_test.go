package autoscale_test

import (
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// noted is a gateway that shares.
type noted struct {
	*peerGateway
	group *sharing.Group
	peers *autoscale.NotePeers
}

func newNoted(t testing.TB, clock *peerClock, running int64, o autoscale.NotePeersOptions, c autoscale.CollectorOptions) *noted {
	t.Helper()
	o.Now = clock.Now
	n := &noted{}
	var err error
	n.peers, err = autoscale.NewNotePeers(o)
	require.NoError(t, err)
	n.peerGateway = newPeerGateway(t, clock, n.peers, c).holds(running)
	n.group, err = sharing.New(sharing.Options{})
	require.NoError(t, err)
	require.NoError(t, n.group.Set(sharing.Scope{Name: "autoscale", Parts: n.peers.Parts()}))
	require.NoError(t, n.group.Set(sharing.Scope{Name: "autoscale", Parts: n.peers.Parts()}), "they are the same")
	return n
}

// says returns what a gateway tells now.
func (n *noted) says(clock *peerClock) (messages [][]byte) {
	n.group.Tell(clock.Now(), func(msg []byte) { messages = append(messages, slices.Clone(msg)) })
	return messages
}

// talk has all tell each other for a while, and recommend.
func talk(clock *peerClock, during time.Duration, all ...*noted) {
	for until := clock.Now().Add(during); !clock.Now().After(until); clock.pass(50 * time.Millisecond) {
		for _, n := range all {
			for _, msg := range n.says(clock) {
				for _, other := range all {
					other.group.Hear("from", msg, clock.Now())
				}
			}
		}
	}
}

func TestNotePeers(t *testing.T) {
	clock := newPeerClock()
	a := newNoted(t, clock, 1, autoscale.NotePeersOptions{}, autoscale.CollectorOptions{})
	b := newNoted(t, clock, 20, autoscale.NotePeersOptions{}, autoscale.CollectorOptions{})
	c := newNoted(t, clock, 300, autoscale.NotePeersOptions{}, autoscale.CollectorOptions{})
	a.lacks(t, 1) // nobody runs the Group

	// A gateway that has just begun does not take itself for the only one.
	talk(clock, 0, a)
	a.lacks(t, 1)
	talk(clock, 3*time.Second, a)
	a.sees(t, 1)

	talk(clock, time.Second, a, b, c)
	for _, n := range []*noted{a, b, c} {
		n.sees(t, 321)
		s, err := n.Signals(t.Context(), peerPool, "")
		require.NoError(t, err)
		require.Equal(t, []int{3, 2}, []int{s.Gateways, s.Ready})
		require.Len(t, n.peers.Peers(), 2)
	}
	b.holds(5)
	talk(clock, 1100*time.Millisecond, a, b, c)
	a.sees(t, 326)

	// One is silent: its last word stands for ten seconds in all, and counts less and less as it has gone.
	talk(clock, 2*time.Second, a, b)
	a.sees(t, 326)
	talk(clock, 3*time.Second, a, b)
	n, err := a.running(t)
	require.NoError(t, err)
	require.True(t, n > 26+100 && n < 26+200, "half of it: %d", n)
	talk(clock, 5*time.Second, a, b)
	a.sees(t, 26)
	require.Len(t, a.peers.Peers(), 1)

	// It comes back, and another one that is of an older version: until that says what it knows, it is not known.
	talk(clock, 1100*time.Millisecond, a, b, c)
	a.sees(t, 326)
	old, err := sharing.New(sharing.Options{})
	require.NoError(t, err)
	talk(clock, time.Second, a, b, c, &noted{group: old})
	a.lacks(t, 1)
	talk(clock, 5*time.Second, a, b, c)
	a.sees(t, 326)
}

// Who says that it lives and does not say what it knows is missing after a while.
func TestNotePeerThatStops(t *testing.T) {
	clock := newPeerClock()
	a := newNoted(t, clock, 1, autoscale.NotePeersOptions{}, autoscale.CollectorOptions{})
	b := newNoted(t, clock, 20, autoscale.NotePeersOptions{}, autoscale.CollectorOptions{})
	talk(clock, time.Second, a, b)
	a.sees(t, 21)
	b.group.Remove("autoscale")
	talk(clock, 9*time.Second, a, b)
	a.sees(t, 21)
	talk(clock, 2*time.Second, a, b)
	a.lacks(t, 1)
	require.NoError(t, b.group.Set(sharing.Scope{Name: "autoscale", Parts: b.peers.Parts()}))
	talk(clock, 1100*time.Millisecond, a, b)
	a.sees(t, 21)
}

// If it is known how many there should be, a part that is cut off says so.
func TestNotePeersThatShouldBeThere(t *testing.T) {
	clock, n := newPeerClock(), 3
	o := autoscale.NotePeersOptions{Gateways: func() int { return n }}
	a := newNoted(t, clock, 1, o, autoscale.CollectorOptions{})
	b := newNoted(t, clock, 20, autoscale.NotePeersOptions{}, autoscale.CollectorOptions{})
	talk(clock, 5*time.Second, a, b)
	a.lacks(t, 1)
	b.sees(t, 21)
	n = 2
	a.sees(t, 21)
	n = 0
	a.sees(t, 21)
	_, err := autoscale.NewNotePeers(autoscale.NotePeersOptions{Every: time.Millisecond, Keep: time.Millisecond})
	require.ErrorContains(t, err, "Every is 1ms, want 50ms to 1m0s")
	require.ErrorContains(t, err, "Keep is 1ms")
}

// manyPools returns pools with names that do not compress well, each with an endpoint that has some requests.
func manyPools(n int, name string, running int64) autoscale.CollectorOptions {
	r := rand.New(rand.NewPCG(7, 7))
	type one struct {
		name types.NamespacedName
		eps  []*types.Endpoint
	}
	var all []one
	for i := range n {
		ep := types.NewEndpoint(fmt.Sprint("p", i), fmt.Sprint("s", i, ":1"))
		ep.Load.Book(types.Booking{Requests: running, PrefillTokens: int64(r.IntN(1 << 20)), ContextTokens: int64(r.IntN(1 << 30))})
		name := types.NamespacedName{Namespace: "default", Name: fmt.Sprintf(name, r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64())}
		if i == 0 {
			name = peerPool
		}
		all = append(all, one{name, []*types.Endpoint{ep}})
	}
	return autoscale.CollectorOptions{Pools: iter.Seq2[types.NamespacedName, []*types.Endpoint](func(yield func(types.NamespacedName, []*types.Endpoint) bool) {
		for _, p := range all {
			if !yield(p.name, p.eps) {
				return
			}
		}
	})}
}

// As much as a gateway knows takes several notes, some of which may be lost; too much is no small number.
func TestNotePeersThatKnowMuch(t *testing.T) {
	clock := newPeerClock()
	const pools, name = 250, "%016[1]x%016[2]x%016[3]x%016[4]x"
	a := newNoted(t, clock, 0, autoscale.NotePeersOptions{}, manyPools(pools, name, 1))
	b := newNoted(t, clock, 0, autoscale.NotePeersOptions{}, manyPools(pools, name, 2))
	talk(clock, time.Second, a, b)
	a.sees(t, 3)
	require.Greater(t, len(a.group.Notes(clock.Now())), 1, "notes")
	require.Zero(t, a.group.Stats(clock.Now()).LongNotes)
	sums := func(n *noted) (sum int64) {
		n.Tick(t.Context())
		page, err := n.Page(t.Context(), types.NamespacedName{})
		require.NoError(t, err)
		require.Len(t, page.Pools, pools)
		for _, p := range page.Pools {
			sum += p.Signals.Running
		}
		return sum
	}
	require.EqualValues(t, 3*pools, sums(a))

	// One message of each tick is lost: what is not whole does not count, and what was stands.
	r := rand.New(rand.NewPCG(1, 1))
	for range 12 {
		clock.pass(500 * time.Millisecond)
		messages := b.says(clock)
		lost := r.IntN(len(messages))
		for i, msg := range messages {
			if i != lost {
				a.group.Hear("b", msg, clock.Now())
			}
		}
		require.EqualValues(t, 3*pools, sums(a))
	}

	if testing.Short() {
		return
	}
	huge := newNoted(t, clock, 0, autoscale.NotePeersOptions{}, manyPools(3500, name+"%016[5]x%016[6]x%016[7]x%016[8]x", 2))
	talk(clock, 1100*time.Millisecond, a, b, huge)
	a.lacks(t, 1)
	errs := 0
	for _, p := range a.peers.Peers() {
		if p.Err != nil {
			errs++
			require.ErrorContains(t, p.Err, "does not fit in 16 notes")
		}
	}
	require.Equal(t, 1, errs)
}

// What comes for a pool without replicas at one gateway wakes it at all of them, without waiting for the next second.
func TestNotePeersWake(t *testing.T) {
	clock := newPeerClock()
	none := autoscale.CollectorOptions{Pools: iter.Seq2[types.NamespacedName, []*types.Endpoint](func(yield func(types.NamespacedName, []*types.Endpoint) bool) {
		yield(peerPool, nil)
	})}
	build := func() *noted {
		n := &noted{}
		var err error
		n.peers, err = autoscale.NewNotePeers(autoscale.NotePeersOptions{Now: clock.Now})
		require.NoError(t, err)
		n.peerGateway = newPeerGateway(t, clock, nil, none)
		n.Autoscaler, err = autoscale.New(autoscale.Options{
			Collector: n.collector, Peers: n.peers, Every: time.Hour,
			Policy: func(types.NamespacedName) (autoscale.Policy, bool) {
				return autoscale.Policy{ToZero: true, Max: 4}, true
			},
		})
		require.NoError(t, err)
		n.group, err = sharing.New(sharing.Options{})
		require.NoError(t, err)
		require.NoError(t, n.group.Set(sharing.Scope{Name: "autoscale", Parts: n.peers.Parts()}))
		return n
	}
	a, b := build(), build()
	talk(clock, 5*time.Second, a, b)
	b.Tick(t.Context())
	ctx := t.Context()
	running := make(chan error, 1)
	go func() { running <- a.Run(ctx) }()
	active, stop, err := a.Watch(peerPool)
	require.NoError(t, err)
	defer stop()
	require.False(t, <-active)

	b.collector.Refused(&types.Request{Model: "m", Now: clock.Now()}, peerPool, "no_endpoint", 503)
	deadline := time.After(10 * time.Second)
	for {
		talk(clock, 0, b, a)
		select {
		case is := <-active:
			require.True(t, is)
			return
		case <-deadline:
			t.Fatal("it does not wake")
		case <-time.After(time.Millisecond):
		}
	}
}

// Messages are lost, doubled, late and out of order, gateways come and go: no sum is smaller than what those have that are
// there all the time, unless it says that it is partial; and when all is well again it is exact.
func TestNotePeersInChaos(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3))
		clock := newPeerClock()
		var all []*noted
		steady := int64(0)
		for i := range 3 + r.IntN(4) {
			all = append(all, newNoted(t, clock, int64(i+1), autoscale.NotePeersOptions{}, autoscale.CollectorOptions{}))
			steady += int64(i + 1)
		}
		talk(clock, 4*time.Second, all...)
		type delivery struct {
			to  *noted
			msg []byte
			at  time.Time
		}
		var flying []delivery
		var guest *noted
		for step := range 600 {
			clock.pass(50 * time.Millisecond)
			if step%150 == 50 {
				guest = newNoted(t, clock, 1000, autoscale.NotePeersOptions{}, autoscale.CollectorOptions{})
			} else if step%150 == 120 {
				guest = nil
			}
			there := slices.Clone(all)
			if guest != nil {
				there = append(there, guest)
			}
			for _, n := range there {
				for _, msg := range n.says(clock) {
					for _, to := range there {
						for range 1 + r.IntN(2) {
							if r.IntN(5) > 0 {
								flying = append(flying, delivery{to, msg, clock.Now().Add(time.Duration(r.IntN(400)) * time.Millisecond)})
							}
						}
					}
				}
			}
			r.Shuffle(len(flying), func(i, j int) { flying[i], flying[j] = flying[j], flying[i] })
			flying = slices.DeleteFunc(flying, func(d delivery) bool {
				if d.at.After(clock.Now()) {
					return false
				}
				d.to.group.Hear("from", d.msg, clock.Now())
				return true
			})
			if n, err := all[step%len(all)].running(t); err == nil {
				require.GreaterOrEqual(t, n, steady, "seed %d, step %d", seed, step)
			}
		}
		talk(clock, 12*time.Second, all...)
		for _, n := range all {
			n.sees(t, steady)
		}
	}
}

// Pages may come in another order than they were told in, and with older ones between them.
func TestNotePagesOutOfOrder(t *testing.T) {
	clock := newPeerClock()
	const name = "%016[1]x%016[2]x%016[3]x%016[4]x"
	b := newNoted(t, clock, 0, autoscale.NotePeersOptions{}, manyPools(250, name, 2))
	notes := func() (pages [][]byte) {
		clock.pass(time.Second)
		for _, part := range b.peers.Parts() {
			if page := part.(sharing.NotePart).AppendNote(nil, clock.Now()); len(page) > 0 {
				pages = append(pages, page)
			}
		}
		require.Greater(t, len(pages), 1)
		return pages
	}
	older, newer := notes(), notes()
	a := newNoted(t, clock, 0, autoscale.NotePeersOptions{}, manyPools(250, name, 1))
	a.says(clock)
	parts := a.peers.Parts()
	hear := func(pages [][]byte, page int) { parts[page].(sharing.NotePart).HearNote(1, pages[page], clock.Now()) }
	parts[0].(sharing.AlivePart).PeersAlive(1)
	a.lacks(t, 1)
	hear(newer, 0)
	for i := range older {
		hear(older, i)
	}
	a.lacks(t, 1)
	for i := len(newer) - 1; i > 0; i-- {
		hear(newer, i)
		hear(newer, i)
		hear(newer, 0)
	}
	a.sees(t, 3)
	for i := range older {
		hear(older, i)
	}
	clock.pass(11 * time.Second)
	a.lacks(t, 1)
}

// FuzzNotePeers: no note makes anything panic, or is believed that cannot be; a peer is known, or is missing.
func FuzzNotePeers(f *testing.F) {
	clock := newPeerClock()
	b := newNoted(f, clock, 20, autoscale.NotePeersOptions{}, autoscale.CollectorOptions{})
	b.says(clock)
	part := b.peers.Parts()[0].(sharing.NotePart)
	clock.pass(time.Second)
	note := part.AppendNote(nil, clock.Now())
	f.Add(note, note[:12], uint8(0))
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 0, 9, 2, 0}, 1, 2, 3), append([]byte{0, 0, 0, 0, 0, 0, 0, 9, 2, 1}, 4), uint8(1))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 9, 0, 0}, []byte{255, 0, 0, 0, 0, 0, 0, 9, 17, 0}, uint8(15))
	f.Fuzz(func(t *testing.T, first, second []byte, page uint8) {
		peers, err := autoscale.NewNotePeers(autoscale.NotePeersOptions{Now: clock.Now})
		require.NoError(t, err)
		of := func(page uint8) sharing.NotePart { return peers.Parts()[page%16].(sharing.NotePart) }
		of(0).AppendNote(nil, clock.Now().Add(-time.Minute))
		of(0).(sharing.AlivePart).PeersAlive(1)
		of(0).HearNote(1, first, clock.Now())
		of(page).HearNote(1, second, clock.Now())
		for range 2 {
			answers, missing, err := peers.Ask(t.Context())
			require.NoError(t, err)
			for _, o := range answers {
				data, err := json.Marshal(o)
				require.NoError(t, err)
				_, err = autoscale.ParseOwn(data)
				require.NoError(t, err)
			}
			require.Equal(t, 1, len(answers)+missing)
			require.LessOrEqual(t, len(peers.Peers()), 1)
			of(0).LosePeer(1)
			of(0).(sharing.AlivePart).PeersAlive(0)
			if len(answers) == 0 {
				break
			}
		}
	})
}
