package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

// gateways are several, with a store each, in front of servers that they have in common.
type gateways struct {
	t       *testing.T
	all     []*world
	stops   []func()
	apart   map[[2]int]bool // who does not hear whom
	gone    map[int]bool
	bad     bool // requests for the canary fail
	numbers map[[2]int]int
	next    int
}

// newGateways makes n, which hear each other's notes every 100 ms.
func newGateways(t *testing.T, n int, plan string) *gateways {
	g := &gateways{t: t, apart: map[[2]int]bool{}, gone: map[int]bool{}, numbers: map[[2]int]int{}}
	loader := newLoader()
	for i := range n {
		w := newWorld(t, 3, func(o *rollout.Options) {
			o.Name, o.Peers, o.Loader = fmt.Sprintf("gw-%d", i), true, loader
		})
		w.loader = loader
		require.NoError(t, w.store.Apply(manifest(plan)))
		g.all, g.stops = append(g.all, w), append(g.stops, w.run())
	}
	return g
}

// exchange has all tell and hear.
func (g *gateways) exchange() {
	for i, from := range g.all {
		if g.gone[i] {
			continue
		}
		note := from.c.AppendNote(nil, time.Now())
		require.LessOrEqual(g.t, len(note), 16<<10)
		for j, to := range g.all {
			pair := [2]int{j, i}
			if i == j || g.gone[j] || g.apart[pair] {
				continue
			}
			if g.numbers[pair] == 0 {
				g.next++
				g.numbers[pair] = g.next
			}
			to.c.HearNote(g.numbers[pair], note, time.Now())
		}
	}
}

// lose has j lose i.
func (g *gateways) lose(j, i int) {
	pair := [2]int{j, i}
	if n := g.numbers[pair]; n > 0 {
		g.all[j].c.LosePeer(n)
		delete(g.numbers, pair)
	}
}

// part makes two parts that do not hear each other, or one again.
func (g *gateways) part(first []int, apart bool) {
	for i := range g.all {
		for j := range g.all {
			if slices.Contains(first, i) == slices.Contains(first, j) {
				continue
			}
			if g.apart[[2]int{j, i}] = apart; apart {
				g.lose(j, i)
			}
		}
	}
}

// run has requests come for a while, in turn, or until done.
func (g *gateways) run(most time.Duration, done func() bool) bool {
	for range int(most / (100 * time.Millisecond)) {
		g.exchange()
		for i, w := range g.all {
			if !g.gone[i] {
				w.send(20, g.bad)
			}
		}
		time.Sleep(100 * time.Millisecond)
		if done != nil && done() {
			return true
		}
	}
	return false
}

func (g *gateways) status(i int) rollout.Status {
	s, ok := g.all[i].c.Get(chatModel)
	require.True(g.t, ok)
	return s
}

func (g *gateways) leaders() (all []int) {
	for i := range g.all {
		if !g.gone[i] && g.status(i).Leads {
			all = append(all, i)
		}
	}
	return all
}

// same reports whether all have the same weights, and these.
func (g *gateways) same(want string) bool {
	for i, w := range g.all {
		if !g.gone[i] && w.weights() != want {
			return false
		}
	}
	return true
}

func (g *gateways) phase(p rollout.Phase) func() bool {
	return func() bool {
		for i := range g.all {
			if !g.gone[i] && g.status(i).Phase != p {
				return false
			}
		}
		return true
	}
}

// Several gateways have the same weights, one judges, and it judges by what all have seen.
func TestGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(t, 4, quick)
		require.True(t, g.run(time.Minute, g.phase(rollout.Stepping)))
		require.Equal(t, []int{0}, g.leaders())
		require.Equal(t, 3, g.all[0].loader.count(), "one loads")
		require.True(t, g.run(2*time.Second, func() bool { return g.same("v1=9000 v2=1000") }))
		s := g.status(3)
		require.Equal(t, "gateway gw-0", s.Leader)
		require.Equal(t, []string{"gw-0", "gw-1", "gw-2"}, s.Peers)
		require.ErrorIs(t, g.all[3].c.Pause(chatModel, ""), rollout.ErrFollows)
		require.Len(t, g.all[3].admits("v2"), 3)
		require.True(t, g.run(10*time.Minute, g.phase(rollout.Done)))
		require.True(t, g.same("v2=10000"))
		require.Zero(t, len(g.all[2].events), "only the one that judges tells")
	})
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(t, 3, quick)
		require.True(t, g.run(time.Minute, g.phase(rollout.Stepping)))
		g.gone[0] = true // its requests alone would not have shown it
		require.True(t, g.run(time.Second, nil) || true)
		g.gone[0] = false
		g.bad = true
		require.True(t, g.run(time.Minute, g.phase(rollout.Failed)))
		require.True(t, g.same("v1=10000"))
	})
}

// What the others see counts where it is judged.
func TestGatewaysSumUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(t, 2, quick)
		require.True(t, g.run(time.Minute, g.phase(rollout.Stepping)))
		for range 600 { // the one that judges has no requests of its own
			g.exchange()
			g.all[1].send(20, true)
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, rollout.Failed, g.status(0).Phase)
		require.True(t, g.same("v1=10000"))
	})
}

// When the one that leads dies, the next one goes on where it was.
func TestLeaderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(t, 3, quick)
		require.True(t, g.run(5*time.Minute, func() bool { return g.phase(rollout.Stepping)() && g.status(2).Step == 1 }))
		require.True(t, g.run(2*time.Second, func() bool { return g.same("v1=5000 v2=5000") }))
		loads := g.all[0].loader.count()
		g.stops[0]()
		g.gone[0] = true
		g.lose(1, 0)
		g.lose(2, 0)
		g.run(time.Second, nil)
		require.Equal(t, []int{1}, g.leaders())
		require.Equal(t, 1, g.status(1).Step)
		require.True(t, g.same("v1=5000 v2=5000"))
		require.True(t, strings.Contains(fmt.Sprint(g.all[1].events), "gw-0"), "it says so: %v", g.all[1].events)
		require.True(t, g.run(10*time.Minute, g.phase(rollout.Done)))
		require.Equal(t, loads, g.all[0].loader.count(), "nothing is loaded again")
	})
}

// A gateway that begins while others are at work follows them, though its name is the least.
func TestLateGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateways(t, 3, quick)
		g.stops[0]()
		g.gone[0] = true
		require.True(t, g.run(5*time.Minute, func() bool { return g.phase(rollout.Stepping)() && g.status(2).Step == 1 }))
		w := newWorld(t, 3, func(o *rollout.Options) { o.Name, o.Peers, o.Loader = "gw-0", true, g.all[0].loader })
		w.loader = g.all[0].loader
		require.NoError(t, w.store.Apply(manifest(quick)))
		g.all[0], g.stops[0] = w, w.run()
		delete(g.gone, 0)
		g.run(2*time.Second, nil)
		require.Equal(t, "v1=5000 v2=5000", w.weights(), "it takes over what is the case")
		require.False(t, g.status(0).Leads)
		require.True(t, g.run(time.Minute, func() bool { return slices.Equal(g.leaders(), []int{0}) }))
		require.GreaterOrEqual(t, g.status(0).Step, 1)
		require.True(t, g.run(10*time.Minute, g.phase(rollout.Done)))
	})
}

// Two halves that lost each other judge by themselves; when they meet again the safer state is that of all.
func TestPartition(t *testing.T) {
	for name, tt := range map[string]struct {
		half []int // that sees failures
		want rollout.Phase
	}{
		"the half of the leader aborts": {[]int{0, 1}, rollout.Failed},
		"the other half aborts":         {[]int{2, 3}, rollout.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := strings.Replace(quick, `"pause": "5s"}, {"setWeight": 100}`, `"pause": "1h"}, {"setWeight": 100}`, 1)
				g := newGateways(t, 4, slow)
				require.True(t, g.run(time.Minute, g.phase(rollout.Stepping)))
				g.part([]int{0, 1}, true)
				g.run(3*time.Second, nil)
				require.Equal(t, []int{0, 2}, g.leaders())
				for range 1200 { // two minutes
					g.exchange()
					for i, w := range g.all {
						w.send(20, slices.Contains(tt.half, i))
					}
					time.Sleep(100 * time.Millisecond)
				}
				for i := range g.all {
					if slices.Contains(tt.half, i) {
						require.Equal(t, rollout.Failed, g.status(i).Phase, "%d", i)
					} else {
						require.Equal(t, rollout.Stepping, g.status(i).Phase, "%d", i)
						require.Equal(t, 1, g.status(i).Step)
					}
				}
				g.part([]int{0, 1}, false)
				require.True(t, g.run(30*time.Second, g.phase(tt.want)), "%v %v", g.status(0), g.status(2))
				require.True(t, g.run(2*time.Second, func() bool { return g.same("v1=10000") }))
				g.run(30*time.Second, nil)
				require.Equal(t, []int{0}, g.leaders())
				require.True(t, g.phase(tt.want)())
			})
		})
	}
	t.Run("lower weight", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			manual := strings.Replace(quick, `"pause": "5s"}, {"setWeight": 50`, `"manual": true}, {"setWeight": 50`, 1)
			manual = strings.Replace(manual, `"setWeight": 50, "pause": "5s"`, `"setWeight": 50, "pause": "2h"`, 1)
			g := newGateways(t, 2, manual)
			require.True(t, g.run(time.Minute, g.phase(rollout.Stepping)))
			g.part([]int{0}, true)
			g.run(5*time.Second, nil)
			require.NoError(t, g.all[0].c.Promote(chatModel, false, "by hand"))
			g.run(10*time.Second, nil)
			require.Equal(t, 1, g.status(0).Step)
			require.Equal(t, 0, g.status(1).Step)
			g.part([]int{0}, false)
			require.True(t, g.run(30*time.Second, func() bool { return g.same("v1=9000 v2=1000") && g.status(0).Step == 0 }))
		})
	})
}

// Notes that are wrong are ignored, whatever they are.
func TestWrongNotes(t *testing.T) {
	w := newWorld(t, 1, nil)
	note := w.c.AppendNote(nil, time.Now())
	for i := range note {
		w.c.HearNote(1, note[:i], time.Now())
		wrong := slices.Clone(note)
		wrong[i] ^= 0xff
		w.c.HearNote(1, wrong, time.Now())
	}
	w.c.HearNote(1, nil, time.Now())
	w.c.LosePeer(7)
	require.Equal(t, "rollouts", w.c.NoteName())
}

// FuzzHearNote: nobody can bring it down by a note.
func FuzzHearNote(f *testing.F) {
	f.Add(benchWorld(f, 1).c.AppendNote(nil, time.Now()))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, note []byte) {
		w := newWorld(t, 1, nil)
		require.NoError(t, w.store.Apply(manifest(quick)))
		w.c.HearNote(1, note, time.Now())
		w.c.HearNote(1, note, time.Now())
		_ = w.c.Status()
		w.c.LosePeer(1)
	})
}
