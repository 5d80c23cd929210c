package sharingtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
)

// fleet returns a fleet over a new network.
func fleet(o sharingtest.NetworkOptions) func(t *testing.T) sharingtest.Fleet {
	return func(t *testing.T) sharingtest.Fleet {
		n := sharingtest.NewNetwork(o)
		return sharingtest.Fleet{
			Open: func(_ *testing.T, name string) sharing.Transport { return n.Open(name) },
			Cut:  n.Isolate,
			Heal: n.Heal,
		}
	}
}

func TestNetworkConforms(t *testing.T) {
	for name, o := range map[string]sharingtest.NetworkOptions{
		"good": {},
		"bad":  {Link: sharingtest.Link{Delay: time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.3, Duplicates: 0.3}},
		"echo": {Echo: true},
	} {
		t.Run(name, func(t *testing.T) { sharingtest.Run(t, fleet(o)) })
	}
}

// ear hears messages as text, "a:hello".
type ear struct {
	mu    sync.Mutex
	heard []string
	at    []time.Time
}

func (e *ear) hear(from string, msg []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, from+":"+string(msg))
	e.at = append(e.at, time.Now())
}

func (e *ear) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

func open(n *sharingtest.Network, name string) (*sharingtest.Member, *ear) {
	m, e := n.Open(name), &ear{}
	m.Receive(e.hear)
	return m, e
}

func say(t testing.TB, m *sharingtest.Member, text string) {
	t.Helper()
	require.NoError(t, m.Broadcast(context.Background(), []byte(text)))
}

// In a bubble the network's time is that of the bubble.
func TestNetworkTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sharingtest.NewNetwork(sharingtest.NetworkOptions{Link: sharingtest.Link{Delay: 100 * time.Millisecond}})
		a, heardByA := open(n, "a")
		b, heardByB := open(n, "b")
		start := time.Now()
		say(t, a, "one")
		time.Sleep(50 * time.Millisecond)
		say(t, a, "two")
		n.SetLink(sharingtest.Link{})
		say(t, a, "three")
		synctest.Wait()
		require.Equal(t, []string{"a:three"}, heardByB.all())
		time.Sleep(time.Minute)
		require.Equal(t, []string{"a:three", "a:one", "a:two"}, heardByB.all())
		for i, want := range []time.Duration{50, 100, 150} {
			require.Equal(t, want*time.Millisecond, heardByB.at[i].Sub(start))
		}
		require.Empty(t, heardByA.all())
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
		require.Equal(t, sharingtest.Traffic{Sent: 3, SentBytes: 11}, n.Traffic("a"))
		require.Equal(t, sharingtest.Traffic{Heard: 3, HeardBytes: 11}, n.Traffic("b"))
	})
}

func TestNetworkCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sharingtest.NewNetwork(sharingtest.NetworkOptions{Link: sharingtest.Link{Delay: time.Second}})
		ears := map[string]*ear{}
		members := map[string]*sharingtest.Member{}
		for _, name := range []string{"a", "b", "c"} {
			members[name], ears[name] = open(n, name)
			defer members[name].Close()
		}
		// round has each say a text, and returns who has heard whom.
		round := func(text string) string {
			for _, name := range []string{"a", "b", "c"} {
				say(t, members[name], text)
			}
			time.Sleep(2 * time.Second)
			var got []string
			for to, e := range ears {
				for _, heard := range e.all() {
					if from, said, _ := strings.Cut(heard, ":"); said == text {
						got = append(got, from+to)
					}
				}
			}
			slices.Sort(got)
			return strings.Join(got, " ")
		}
		const whole = "ab ac ba bc ca cb"
		require.Equal(t, whole, round("1"))
		n.Cut("a", "b")
		require.Equal(t, "ac bc ca cb", round("2"))
		n.Heal()
		require.Equal(t, whole, round("3"))
		n.Isolate("c")
		require.Equal(t, "ab ba", round("4"))
		n.Heal()
		require.Equal(t, whole, round("5"))
		require.Equal(t, uint64(6), n.Total().Lost)

		say(t, members["a"], "on the way")
		n.Isolate("a") // what is on the way is lost
		time.Sleep(2 * time.Second)
		require.Equal(t, uint64(8), n.Total().Lost)
		require.Equal(t, uint64(3), n.Traffic("c").Lost)
	})
}

// play returns what b hears of 500 messages of a over a bad network, in the time of a bubble.
func play(t *testing.T, seed uint64, noise bool) (heard []string) {
	synctest.Test(t, func(t *testing.T) {
		n := sharingtest.NewNetwork(sharingtest.NetworkOptions{Seed: seed, Link: sharingtest.Link{
			Delay: time.Millisecond, Jitter: 50 * time.Millisecond, Loss: 0.2, Duplicates: 0.1,
		}})
		a, _ := open(n, "a")
		b, ear := open(n, "b")
		c, _ := open(n, "c")
		for i := range 500 {
			if noise {
				say(t, c, "noise")
			}
			say(t, a, fmt.Sprint(i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		for _, m := range []*sharingtest.Member{a, b, c} {
			require.NoError(t, m.Close())
		}
		heard = slices.DeleteFunc(ear.all(), func(s string) bool { return s == "c:noise" })
	})
	return heard
}

func TestNetworkIsRepeatable(t *testing.T) {
	first := play(t, 1, false)
	require.Equal(t, first, play(t, 1, false))
	require.Equal(t, first, play(t, 1, true), "what others send must not matter")
	require.NotEqual(t, first, play(t, 2, false))

	different := len(slices.Compact(slices.Sorted(slices.Values(first))))
	require.InDelta(t, 400, different, 40, "500 messages less a fifth")
	require.InDelta(t, 40, len(first)-different, 25, "a tenth of them twice")
	require.False(t, slices.IsSortedFunc(first, func(a, b string) int { return len(a) - len(b) }), "none has overtaken another")
}

// world is a simulated one: an agenda, by time.
type world struct {
	now    time.Duration
	agenda []plan
}

type plan struct {
	at time.Duration
	do func()
}

func (w *world) after(d time.Duration, f func()) { w.agenda = append(w.agenda, plan{w.now + d, f}) }

func (w *world) run() {
	for len(w.agenda) > 0 {
		slices.SortStableFunc(w.agenda, func(a, b plan) int { return int(a.at - b.at) })
		p := w.agenda[0]
		w.agenda = w.agenda[1:]
		w.now = p.at
		p.do()
	}
}

func TestNetworkInASimulatedWorld(t *testing.T) {
	var w world
	n := sharingtest.NewNetwork(sharingtest.NetworkOptions{Link: sharingtest.Link{Delay: time.Second}, AfterFunc: w.after})
	a, heardByA := open(n, "a")
	b := n.Open("b")
	var when []time.Duration
	b.Receive(func(string, []byte) {
		when = append(when, w.now)
		if len(when) == 3 {
			require.NoError(t, b.Close()) // nobody waits here
		}
		say(t, a, "again") // from within handle
	})
	say(t, a, "hello")
	w.run()
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}, when)
	require.Empty(t, heardByA.all())
	require.Error(t, b.Broadcast(context.Background(), []byte("x")))
}

// Who keeps a message beyond handle finds it spoiled, and who is slow loses the oldest.
func TestNetworkIsHostile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sharingtest.NewNetwork(sharingtest.NetworkOptions{Queue: 5000})
		a, _ := open(n, "a")
		b := n.Open("b")
		var kept [][]byte
		hold := make(chan struct{})
		b.Receive(func(_ string, msg []byte) {
			<-hold
			kept = append(kept, msg)
		})
		var sizes []int
		for i := range 10 {
			say(t, a, strings.Repeat("x", 1000+i))
			synctest.Wait()
		}
		close(hold)
		synctest.Wait()
		for _, msg := range kept {
			sizes = append(sizes, len(msg))
			require.Equal(t, strings.Repeat("\xdb", len(msg)), string(msg))
		}
		require.Equal(t, []int{1000, 1006, 1007, 1008, 1009}, sizes)
		require.Equal(t, uint64(5), n.Traffic("b").Dropped)
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
		require.Panics(t, func() { b.Receive(func(string, []byte) {}) })
	})
}
