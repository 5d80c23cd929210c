package plugins_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

var (
	_ sharing.EjectionPart = (*plugins.Ejection)(nil)
	_ sharing.SnapshotPart = (*plugins.Ejection)(nil)
)

// refusedConnection is how an attempt at a server ends that nothing listens for.
var refusedConnection = types.Outcome{Err: fmt.Errorf("post: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)})}

// hears has the ward's filter told that a peer has ejected the endpoint of that index.
func (w *ward) hears(peer, i int, number uint64, refused bool, left time.Duration) {
	w.f.HearEjection(peer, types.Ejected{Endpoint: w.eps[i].ID, Number: number, Refused: refused, Left: left}, epoch.Add(w.now))
}

// tells returns what the ward's filter tells peers.
func (w *ward) tells() (all []types.Ejected) {
	w.f.ShareEjections(epoch.Add(w.now), func(e types.Ejected) { all = append(all, e) })
	return all
}

// TestEjectionTold: what becomes of an endpoint that peers say is out.
func TestEjectionTold(t *testing.T) {
	const all, without, word = "a b c", "b c", "on probation: a peer cannot connect to it"
	for _, tt := range []struct {
		name string
		o    plugins.EjectionOptions
		do   func(*ward)
		want string
		says string
	}{
		{"refused", plugins.EjectionOptions{}, func(w *ward) { w.hears(1, 0, 1, true, time.Minute) }, all, word},
		{"one in flight", plugins.EjectionOptions{}, func(w *ward) {
			w.hears(1, 0, 1, true, time.Minute)
			w.send(0)
		}, without, "on probation, with a request in flight: a peer cannot connect to it"},
		{"which is served", plugins.EjectionOptions{}, func(w *ward) {
			w.hears(1, 0, 1, true, time.Minute)
			w.sends(0, 1, served)
			w.hears(1, 0, 1, true, time.Minute)
		}, all, ""},
		{"which gets a token", plugins.EjectionOptions{}, func(w *ward) {
			w.hears(1, 0, 1, true, time.Minute)
			w.send(0).token()
			w.hears(1, 0, 1, true, time.Minute)
		}, all, ""},
		{"which fails", plugins.EjectionOptions{}, func(w *ward) {
			w.hears(1, 0, 1, true, 0)
			w.sends(0, 1, refusedConnection)
		}, without, "ejected for 1.442s more after a request without an answer; 1 peer has it out, too"},
		{"one that is not connected to later", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 1, served)
			w.hears(1, 0, 1, true, 0)
		}, all, word},
		{"requests of before are served", plugins.EjectionOptions{}, func(w *ward) {
			early := []visit{w.send(0), w.send(0).token(), w.send(0), w.send(0)}
			w.hears(1, 0, 1, true, 0)
			early[0].end(served)
			early[1].end(cutOff)
			early[2].token()
			early[3].end(gone)
		}, all, word},
		{"while one is tried", plugins.EjectionOptions{}, func(w *ward) {
			early := []visit{w.send(0), w.send(0)}
			w.hears(1, 0, 1, true, 0)
			w.send(0)
			early[0].end(served)
			early[1].end(broken)
		}, without, "on probation, with a request in flight: a peer cannot connect to it"},
		{"they get no answer", plugins.EjectionOptions{}, func(w *ward) {
			early := []visit{w.send(0), w.send(0)}
			w.hears(1, 0, 1, true, 0)
			early[0].end(unreached)
			early[1].end(unreached)
		}, without, "ejected for 1.442s more after a request without an answer; 1 peer has it out, too"},
		{"one vote", plugins.EjectionOptions{}, func(w *ward) { w.hears(1, 0, 1, false, time.Minute) }, all, ""},
		{"one voter", plugins.EjectionOptions{}, func(w *ward) {
			for n := range 10 {
				w.hears(1, 0, uint64(n+1), false, time.Minute)
			}
		}, all, ""},
		{"two votes and a failure", plugins.EjectionOptions{}, func(w *ward) {
			w.hears(1, 0, 1, false, time.Minute)
			w.hears(2, 0, 1, false, time.Minute)
			w.sends(0, 1, broken)
		}, all, "on probation: 1 failure, and 2 peers say it is dead"},
		{"a vote and two failures, in the other order", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 2, broken)
			w.hears(2, 0, 1, false, time.Minute)
		}, all, "on probation: 2 failures, and 1 peer says it is dead"},
		{"three votes", plugins.EjectionOptions{}, func(w *ward) {
			for peer := range 3 {
				w.hears(peer, 0, 9, false, time.Minute)
			}
		}, all, "on probation: 3 peers say it is dead"},
		{"votes that are disproved", plugins.EjectionOptions{}, func(w *ward) {
			w.hears(1, 0, 1, false, time.Minute)
			w.hears(2, 0, 1, false, time.Minute)
			w.sends(0, 1, served)
			w.hears(3, 0, 1, false, time.Minute)
		}, all, ""},
		{"votes of a peer that has gone", plugins.EjectionOptions{}, func(w *ward) {
			w.hears(1, 0, 1, false, time.Minute)
			w.hears(2, 0, 1, false, time.Minute)
			w.f.LosePeer(1)
			w.hears(3, 0, 1, false, time.Minute)
		}, all, ""},
		{"a server that restarted", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 1, served)
			w.hears(1, 0, 1, true, time.Minute)
			w.f.Forget(w.eps[0])
			w.hears(1, 0, 1, true, time.Minute)
		}, all, ""},
		{"longer after it restarted", plugins.EjectionOptions{}, func(w *ward) {
			w.sends(0, 1, served)
			w.f.Forget(w.eps[0])
			w.hears(1, 0, 1, true, time.Minute)
			w.sleep(10 * time.Second)
			w.hears(1, 0, 1, true, time.Minute)
		}, all, word},
		{"an endpoint that nobody knows", plugins.EjectionOptions{}, func(w *ward) {
			w.f.HearEjection(1, types.Ejected{Endpoint: "nobody", Number: 1, Refused: true}, epoch)
		}, all, ""},
		{"all of them, closed", plugins.EjectionOptions{FailClosed: true}, func(w *ward) {
			w.sends(1, 1, unreached)
			w.sends(2, 1, unreached)
			w.hears(1, 0, 1, true, time.Minute)
			w.send(0)
		}, "a", "on probation, with a request in flight: a peer cannot connect to it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, met := range []bool{false, true} {
				w := newWard(t, tt.o)
				if met {
					w.send(0).end(gone)
				}
				tt.do(w)
				w.wantKept(tt.want, "at the end")
				w.wantSays(0, tt.says)
			}
		})
	}
}

// TestEjectionShared: what is told is what own requests found out, and no echo of what was heard.
func TestEjectionShared(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	require.Empty(t, w.tells())
	w.sends(0, 2, broken)
	w.hears(1, 1, 1, true, time.Minute)
	w.hears(1, 2, 1, false, time.Minute)
	require.Empty(t, w.tells(), "nothing but words and two failures")
	w.sends(0, 1, broken)
	w.sends(1, 1, refusedConnection)
	first := w.tells()
	require.Len(t, first, 2)
	number := first[1].Number
	require.Greater(t, number, first[0].Number)
	require.Equal(t, []types.Ejected{
		{Endpoint: "a", Number: first[0].Number, Left: time.Second},
		{Endpoint: "b", Number: number, Refused: true, Left: time.Second},
	}, first)
	w.hears(1, 1, 2, true, time.Minute)
	w.sleep(400 * time.Millisecond)
	require.Equal(t, 600*time.Millisecond, w.tells()[1].Left, "a peer that has it out for longer changes nothing")
	w.sleep(time.Second)
	require.Zero(t, w.tells()[1].Left, "on probation")
	require.Equal(t, number, w.tells()[1].Number)
	w.sends(1, 1, served)
	require.Len(t, w.tells(), 1)
	w.sends(0, 1, unreached)
	again := w.tells()
	require.Greater(t, again[0].Number, number)
	require.False(t, again[0].Refused, "another error than a refused connection")
	w.f.Forget(w.eps[0])
	require.Empty(t, w.tells())
}

// TestEjectionTakesTurns: while peers try a dead endpoint, this gateway waits, but no peer keeps it out.
// With a zero Rand all wait 0.44 of a peer's time longer.
func TestEjectionTakesTurns(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	w.sends(0, 1, unreached)
	w.sleep(900 * time.Millisecond)
	w.hears(1, 0, 1, true, 500*time.Millisecond)
	w.wantSays(0, "ejected for 721ms more after a request without an answer; 1 peer has it out, too")
	for n := uint64(2); n < 10; n++ {
		w.hears(1, 0, n, true, time.Minute)
	}
	w.wantSays(0, "ejected for 1.542s more after a request without an answer; 1 peer has it out, too")
	w.sleep(1542 * time.Millisecond)
	w.hears(1, 0, 10, true, time.Minute)
	w.wantKept("a b c", "a peer that says so for ever: twice the time, and no more")
	w.hears(2, 0, 1, true, time.Minute)
	w.wantSays(0, "ejected for 1s more after a request without an answer; 2 peers have it out, too")
	w.sleep(time.Second)
	w.send(0)
	w.hears(3, 0, 1, true, time.Minute)
	w.wantSays(0, "on probation, with a request in flight")

	w = newWard(t, plugins.EjectionOptions{Base: 4 * time.Second})
	w.sends(0, 1, unreached)
	w.hears(1, 0, 1, true, 6*time.Second)
	w.wantSays(0, "ejected for 8.65s more after a request without an answer; 1 peer has it out, too")
	w.sleep(3 * time.Second)
	w.tells()
	w.wantSays(0, "ejected for 1s more after a request without an answer")
}

// TestEjectionHeardBeforeMet: the first decision knows what was heard before it.
func TestEjectionHeardBeforeMet(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	w.hears(1, 0, 1, true, time.Minute)
	require.False(t, w.f.Screen(w.request(), nil))
	require.Zero(t, w.f.Ejected())
	w.wantKept("a b c", "on probation")
	require.Equal(t, 1, w.f.Ejected())
	w.send(0)
	w.wantKept("b c", "with its request in flight")
	// One that never comes is forgotten.
	w = newWard(t, plugins.EjectionOptions{})
	w.f.HearEjection(1, types.Ejected{Endpoint: "nobody", Number: 1, Refused: true}, epoch)
	w.tells()
	require.False(t, w.f.Screen(w.request(), nil))
	w.sleep(10 * time.Minute)
	w.tells()
	require.True(t, w.f.Screen(w.request(), nil))
}

// TestTrapEjectionUnmetWithoutBound: peers name any number of endpoints.
func TestTrapEjectionUnmetWithoutBound(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	for i := range 2 * plugins.LimitUnmet {
		w.f.HearEjection(1, types.Ejected{Endpoint: fmt.Sprint("nobody ", i), Number: 1, Refused: true}, epoch)
	}
	require.Equal(t, plugins.LimitUnmet, w.f.Unmet())
	w.hears(1, 0, 1, true, time.Minute)
	w.wantSays(0, "")
	w.sends(0, 1, served)
	w.hears(1, 0, 1, true, time.Minute)
	w.wantSays(0, "on probation: a peer cannot connect to it")
}

func TestEjectionPeersAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	eps := schedulingtest.Fleet(1000)
	keep := make([]bool, len(eps))
	f := mustEjection(t, plugins.EjectionOptions{})
	req := at(schedulingtest.Request("hello"))
	for i := range 10 {
		f.HearEjection(1, types.Ejected{Endpoint: eps[i].ID, Number: 1, Refused: i < 5}, req.Now)
	}
	f.HearEjection(1, types.Ejected{Endpoint: "nobody", Number: 1}, req.Now)
	for what, run := range map[string]func(){
		"Filter": func() { _ = f.Filter(ctx, req, eps, keep) },
		"a request": func() {
			f.Picked(req, eps[30])
			f.FirstToken(req, eps[30])
			f.Finished(req, eps[30], served)
		},
		"a vote": func() {
			f.HearEjection(1, types.Ejected{Endpoint: eps[7].ID, Number: 1}, req.Now)
		},
	} {
		if n := testing.AllocsPerRun(100, run); n > 0 {
			t.Errorf("%s, with votes and some that were not met: %v allocations, want 0", what, n)
		}
	}
}

// TestEjectionPeersConcurrency runs everything at once; run it with -race.
func TestEjectionPeersConcurrency(t *testing.T) {
	f, eps := mustEjection(t, plugins.EjectionOptions{Failures: 2}), idle(6)
	outs := []types.Outcome{served, broken, refusedConnection, served, gone, cutOff}
	done := make(chan struct{})
	var requests, peers sync.WaitGroup
	for g := range 4 {
		requests.Go(func() {
			keep := make([]bool, len(eps))
			for i := range 600 {
				req, ep := turn("", time.Duration(i)*100*time.Millisecond), eps[(g+i)%len(eps)]
				_ = f.Filter(ctx, req, eps, keep)
				f.Picked(req, ep)
				f.Describe(req, ep)
				if i%3 == 0 {
					f.FirstToken(req, ep)
				}
				f.Finished(req, ep, outs[(i+g)%len(outs)])
				if i%50 == 0 {
					f.Forget(ep)
				}
			}
		})
	}
	peers.Go(func() {
		for i := uint64(1); ; i++ {
			select {
			case <-done:
				return
			default:
			}
			now := epoch.Add(time.Duration(i) * 10 * time.Millisecond)
			f.HearEjection(int(i%5), types.Ejected{Endpoint: fmt.Sprint("ep-", i%8), Number: i, Refused: i%3 == 0, Left: time.Second}, now)
			f.ShareEjections(now, func(types.Ejected) { f.Ejected() })
			if i%7 == 0 {
				f.LosePeer(int(i % 5))
				require.NoError(t, f.Restore(f.AppendSnapshot(nil, 1<<16, now), 0, now))
			}
		}
	})
	requests.Wait()
	close(done)
	peers.Wait()
	w := &ward{t: t, f: f, eps: eps, now: time.Hour}
	for i := range eps {
		w.sends(i, 1, served)
		w.send(i)
		w.wantSays(i, "")
	}
	require.Equal(t, 0, f.Ejected(), "Ejected when all have served")
}

// troop is gateways in front of the same servers, in simulated time.
type troop struct {
	t       *testing.T
	now     time.Time
	gates   []*outpost
	pending []func() bool // each is done when it returns true
	behave  map[string]string
	failed  map[string]int
	served  map[string]int
	rnd     *rand.Rand
}

type outpost struct {
	f   *plugins.Ejection
	s   *scheduling.Scheduler
	eps []*types.Endpoint
}

func newTroop(t *testing.T, gateways, servers int) *troop {
	tr := &troop{t: t, now: epoch, behave: map[string]string{}, failed: map[string]int{}, served: map[string]int{}, rnd: rand.New(rand.NewPCG(1, 5))}
	for i := range gateways {
		f := mustEjection(t, plugins.EjectionOptions{})
		p := plugins.LeastRequests()
		p.Filters, p.Fallbacks, p.Seed = []scheduling.Named{{Filter: f}}, 0, uint64(i+1)
		p.Now = func() time.Time { return tr.now }
		tr.gates = append(tr.gates, &outpost{f, mustNew(t, p), idle(servers)})
	}
	return tr
}

// send sends a request through a gateway. Its client waits for ten seconds.
func (tr *troop) send(g *outpost) {
	d := mustSchedule(tr.t, g.s, schedulingtest.Request("hello"), g.eps)
	id, sent := d.Endpoint.ID, tr.now
	how := tr.behave[id]
	end := func(after time.Duration, out types.Outcome) {
		tr.pending = append(tr.pending, func() bool {
			if tr.now.Sub(sent) < after {
				return false
			}
			d.Done(out)
			if out.Status == 200 {
				tr.served[id]++
			} else {
				tr.failed[how]++
			}
			return true
		})
	}
	switch how {
	case "refuses":
		end(0, refusedConnection)
	case "fails":
		end(30*time.Millisecond, broken)
	case "hangs":
		end(10*time.Second, gone)
	default:
		end(time.Duration(50+tr.rnd.IntN(300))*time.Millisecond, served)
	}
}

// tick is 10 ms in which each gateway gets as many requests on average.
func (tr *troop) tick(each float64) {
	tr.now = tr.now.Add(10 * time.Millisecond)
	for _, g := range tr.gates {
		if tr.rnd.Float64() < each {
			tr.send(g)
		}
	}
	rest := tr.pending[:0]
	for _, done := range tr.pending {
		if !done() {
			rest = append(rest, done)
		}
	}
	tr.pending = rest
}

// share has all gateways tell all others what they have out, which arrives after a tenth of a second,
// unless it is lost.
func (tr *troop) share(loss float64) {
	for i, g := range tr.gates {
		g.f.ShareEjections(tr.now, func(e types.Ejected) {
			at := tr.now.Add(100 * time.Millisecond)
			tr.pending = append(tr.pending, func() bool {
				if tr.now.Before(at) {
					return false
				}
				for j, h := range tr.gates {
					if j != i && tr.rnd.Float64() >= loss {
						h.f.HearEjection(i+1, e, tr.now)
					}
				}
				return true
			})
		})
	}
}

// TestEjectionOfMany: eight gateways in front of twelve servers. One of these refuses, one fails, and one
// hangs, for four minutes.
func TestEjectionOfMany(t *testing.T) {
	oneGoroutine(t)
	const repaired = 250
	run := func(talk bool) (tr *troop, first, all float64) {
		tr = newTroop(t, 8, 12)
		for i := 0; ; i++ {
			switch i {
			case 100 * 10:
				tr.behave = map[string]string{"ep-1": "refuses", "ep-2": "fails", "ep-3": "hangs"}
			case 100 * repaired:
				tr.behave = map[string]string{}
			}
			tr.tick(0.2)
			if talk && i%10 == 0 {
				tr.share(0.01)
			}
			if i < 100*repaired {
				continue
			}
			out := 0
			for _, g := range tr.gates {
				out += g.f.Ejected()
			}
			if out < 3*len(tr.gates) && first == 0 {
				first = float64(i)/100 - repaired
			}
			if out == 0 {
				return tr, first, float64(i)/100 - repaired
			}
			require.Less(t, i, 100*(repaired+300), "it never comes back")
		}
	}
	alone, first, all := run(false)
	together, firstTold, allTold := run(true)
	t.Logf("failed requests: %v alone, %v together", alone.failed, together.failed)
	t.Logf("the first gateway has a server back after %.0f s alone, %.0f s together; all have all after %.0f s, %.0f s", first, firstTold, all, allTold)
	sum := 0
	for _, how := range []string{"refuses", "fails", "hangs"} {
		require.Less(t, together.failed[how], alone.failed[how], how)
		sum += alone.failed[how] - 2*together.failed[how]
	}
	require.Positive(t, sum, "half of the failures at most")
	require.LessOrEqual(t, allTold, all*3/2, "after three halves of the longest ejection at most")
}

// TestTrapLyingGateway: a peer says that each server refuses connections, whenever it may. All serve.
func TestTrapLyingGateway(t *testing.T) {
	oneGoroutine(t)
	tr := newTroop(t, 1, 4)
	f := tr.gates[0].f
	trials, number := 0, uint64(0)
	const minutes = 10
	for range 100 * 60 * minutes {
		before := f.Ejected()
		number++
		for _, ep := range tr.gates[0].eps {
			f.HearEjection(1, types.Ejected{Endpoint: ep.ID, Number: number, Refused: true, Left: time.Hour}, tr.now)
		}
		trials += max(f.Ejected()-before, 0)
		tr.tick(0.3) // a tick is shorter than a request
	}
	t.Logf("%d times on probation in %d minutes, at 4 servers", trials, minutes)
	require.Empty(t, tr.failed)
	require.LessOrEqual(t, trials, 4*9, "after 1, 2, 4, ... seconds")
	require.Positive(t, trials)
	for _, ep := range tr.gates[0].eps {
		require.Greater(t, tr.served[ep.ID], 3000, "all serve, %s too", ep.ID)
	}
}

// TestEjectionSnapshot: a gateway that restarts knows what was out, and what is usual.
func TestEjectionSnapshot(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	w.f = usual(t, w, 30)
	w.sends(0, 1, refusedConnection)
	w.sleep(time.Second)
	w.sends(0, 1, refusedConnection)
	w.sends(1, 1, unreached)
	w.sleep(500 * time.Millisecond)
	patience := w.f.Patience(w.request(), w.eps[0])
	snapshot := w.f.AppendSnapshot([]byte("head"), 1<<16, epoch.Add(w.now))
	require.Equal(t, "head", string(snapshot[:4]))
	snapshot = snapshot[4:]

	restored := func(age time.Duration, met bool) *ward {
		again := newWard(t, plugins.EjectionOptions{})
		again.now = w.now + age
		if met {
			again.send(0).end(gone)
		}
		require.NoError(t, again.f.Restore(snapshot, age, epoch.Add(again.now)))
		return again
	}
	for _, met := range []bool{false, true} {
		again := restored(100*time.Millisecond, met)
		again.wantKept("c", "restored")
		again.wantSays(0, "ejected for 1.4s more after a request without an answer")
		again.wantSays(1, "ejected for 400ms more after a request without an answer")
		require.Equal(t, patience, again.f.Patience(again.request(), again.eps[0]))
		require.NotEqual(t, plugins.UnknownPatience, patience)
		require.Len(t, again.tells(), 2)
		require.True(t, again.tells()[0].Refused)
		again.sleep(1400 * time.Millisecond)
		again.wantKept("a b c", "on probation")
		again.sends(0, 1, refusedConnection)
		again.wantSays(0, "ejected for 4s more after a request without an answer")
	}
	restored(5*time.Minute, false).wantKept("a b c", "long over: on probation")
	again := restored(11*time.Minute, false)
	again.wantKept("a b c", "an old one")
	again.wantSays(0, "")

	// What is known better stays.
	again = newWard(t, plugins.EjectionOptions{})
	again.now = w.now
	again.sends(0, 3, broken)
	require.NoError(t, again.f.Restore(snapshot, 0, epoch.Add(again.now)))
	again.wantSays(0, "ejected for 1s more after 3 failures")

	// Any room will do.
	for room := range len(snapshot) + 20 {
		part := w.f.AppendSnapshot(nil, room, epoch.Add(w.now))
		require.LessOrEqual(t, len(part), room)
		if len(part) > 0 {
			require.NoError(t, newWard(t, plugins.EjectionOptions{}).f.Restore(part, 0, epoch))
		}
	}
	// One that was changed, or is another's, changes nothing.
	again = newWard(t, plugins.EjectionOptions{})
	for i := range snapshot {
		bad := append([]byte{}, snapshot...)
		bad[i] ^= 1 << (i % 8)
		require.ErrorContains(t, again.f.Restore(bad, 0, epoch.Add(w.now)), "plugins: snapshot ejection/1")
		require.Error(t, again.f.Restore(snapshot[:i], 0, epoch.Add(w.now)))
	}
	again.wantKept("a b c", "nothing was restored")
	require.True(t, again.f.Screen(again.request(), nil))
}

// usual returns a filter that has seen n requests served at each endpoint.
func usual(t *testing.T, w *ward, n int) *plugins.Ejection {
	w.f = mustEjection(t, plugins.EjectionOptions{})
	for range n {
		for i := range w.eps {
			v := w.send(i)
			w.sleep(200 * time.Millisecond)
			v.end(served)
		}
	}
	return w.f
}

func FuzzEjectionRestore(f *testing.F) {
	w := newWard(f, plugins.EjectionOptions{})
	w.sends(0, 1, refusedConnection)
	w.sends(1, 3, broken)
	sealed := w.f.AppendSnapshot(nil, 1<<16, epoch)
	f.Add(sealed[:len(sealed)-4])
	f.Add([]byte{0, 0})
	f.Add([]byte(strings.Repeat("\xff", 30)))
	f.Fuzz(func(t *testing.T, content []byte) {
		again := newWard(t, plugins.EjectionOptions{})
		snapshot := plugins.SealSnapshot(content, again.f.SnapshotName())
		if err := again.f.Restore(snapshot, 0, epoch); err != nil {
			require.ErrorContains(t, err, "plugins: snapshot ejection/1: ")
			require.True(t, again.f.Screen(again.request(), nil), "nothing has changed")
			return
		}
		again.wantKept(again.kept(), "restored")
		for _, e := range again.tells() {
			require.LessOrEqual(t, e.Left, plugins.DefaultEjectionMax)
		}
		require.NoError(t, newWard(t, plugins.EjectionOptions{}).f.Restore(again.f.AppendSnapshot(nil, 1<<20, epoch), 0, epoch))
	})
}

// TestEjectionRefused: which errors say that nothing listens.
func TestEjectionRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		out  types.Outcome
		want bool
	}{
		"refused":             {refusedConnection, true},
		"refused, bare":       {types.Outcome{Err: syscall.ECONNREFUSED}, true},
		"refused, retried":    {types.Outcome{Err: refusedConnection.Err, Retried: true}, true},
		"reset":               {types.Outcome{Err: syscall.ECONNRESET}, false},
		"another error":       {types.Outcome{Err: errOther}, false},
		"moved on":            {movedOn, false},
		"of an odd status":    {types.Outcome{Status: 999, Err: syscall.ECONNRESET}, false},
		"refused, in a dream": {types.Outcome{Err: errors.New("connection refused")}, false},
	} {
		w := newWard(t, plugins.EjectionOptions{})
		w.sends(0, 1, tt.out)
		require.Len(t, w.tells(), 1, name)
		require.Equal(t, tt.want, w.tells()[0].Refused, name)
	}
}
