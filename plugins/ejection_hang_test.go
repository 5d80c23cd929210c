package plugins_test

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

const hangs = time.Duration(-1) // the time of a server that accepts and never answers

// pond is a pool of servers and its clients, in simulated time.
type pond struct {
	servers int
	// takes returns how long a server takes for a request, from when it begins with it.
	takes func(server int, rnd *rand.Rand) time.Duration
	// places is how many requests a server works on at once; others wait their turn, also
	// those whose client has gone. 0: any number.
	places   int
	stream   bool
	every    time.Duration                    // between two requests
	patience time.Duration                    // of clients; 0: they never leave
	leave    func(*rand.Rand) float64         // a factor to patience; nil: 1
	end      func() types.Outcome             // how leaving looks
	shape    func(*rand.Rand, *types.Request) // makes a request different
	requests int
	deaf     bool // the data plane does not ask for Patience
	profile  func() scheduling.Profile
}

type pondResult struct {
	lost     map[int]int // requests that nobody answered, by server
	sent     map[int]int // first attempts, by server
	moved    int         // attempts that went on to a fallback
	ejected  map[int]int // how often a server was found ejected
	lastLost int         // lost in the last fifth
}

type pondEvent struct {
	at time.Duration
	do func()
	n  int
}
type pondEvents []pondEvent

func (e pondEvents) Len() int { return len(e) }
func (e pondEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e pondEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *pondEvents) Push(v any)   { *e = append(*e, v.(pondEvent)) }
func (e *pondEvents) Pop() any {
	old := *e
	v := old[len(old)-1]
	*e = old[:len(old)-1]
	return v
}

func (p pond) run(t testing.TB) pondResult {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	var now time.Duration
	var events pondEvents
	serial := 0
	after := func(d time.Duration, do func()) {
		serial++
		heap.Push(&events, pondEvent{now + d, do, serial})
	}
	profile := plugins.Default()
	if p.profile != nil {
		profile = p.profile()
	}
	profile.Seed, profile.Now = 1, func() time.Time { return epoch.Add(now) }
	var f *plugins.Ejection
	for _, filter := range profile.Filters {
		if e, ok := filter.Filter.(*plugins.Ejection); ok {
			f = e
		}
	}
	s, eps := mustNew(t, profile), make([]*types.Endpoint, p.servers)
	number := map[*types.Endpoint]int{}
	for i := range eps {
		eps[i] = types.NewEndpoint(fmt.Sprint("server-", i), "")
		eps[i].Slot = uint32(i)
		number[eps[i]] = i
	}
	busy, queue := make([]int, p.servers), make([][]func(), p.servers)
	res := pondResult{map[int]int{}, map[int]int{}, 0, map[int]int{}, 0}
	var work func(i int, done func())
	work = func(i int, done func()) {
		d := p.takes(i, rnd)
		if p.places > 0 && busy[i] >= p.places {
			queue[i] = append(queue[i], func() { work(i, done) })
			return
		}
		busy[i]++
		if d == hangs {
			return
		}
		after(d, func() {
			busy[i]--
			if len(queue[i]) > 0 {
				next := queue[i][0]
				queue[i] = queue[i][1:]
				next()
			}
			done()
		})
	}
	for n := range p.requests {
		after(time.Duration(n)*p.every, func() {
			req := schedulingtest.Request("hello")
			req.Stream = p.stream
			if p.shape != nil {
				p.shape(rnd, req)
			}
			d := mustSchedule(t, s, req, eps)
			over, fallbacks := false, d.Fallbacks
			res.sent[number[d.Endpoint]]++
			var attempt func()
			attempt = func() {
				at := d.Current()
				work(number[at], func() {
					if over || d.Current() != at {
						return
					}
					over = true
					if p.stream {
						d.FirstToken()
					}
					d.Done(types.Outcome{Status: 200})
				})
				if w := d.Patience(); w > 0 && !p.deaf && len(fallbacks) > 0 {
					after(w, func() {
						if over || d.Current() != at {
							return
						}
						res.moved++
						next := fallbacks[0]
						fallbacks = fallbacks[1:]
						d.Retry(next, types.Outcome{Err: fmt.Errorf("no sign of life: %w", context.DeadlineExceeded)})
						attempt()
					})
				}
			}
			attempt()
			if p.patience > 0 {
				w := p.patience
				if p.leave != nil {
					w = time.Duration(float64(w) * p.leave(rnd))
				}
				after(w, func() {
					if over {
						return
					}
					over = true
					res.lost[number[d.Current()]]++
					if n > p.requests*4/5 {
						res.lastLost++
					}
					out := types.Outcome{Cancelled: true, Err: context.Canceled}
					if p.end != nil {
						out = p.end()
					}
					d.Done(out)
				})
			}
			if f.Ejected() > 0 {
				for i, ep := range eps {
					if f.Describe(req, ep) != "" {
						res.ejected[i]++
					}
				}
			}
		})
	}
	for len(events) > 0 {
		e := heap.Pop(&events).(pondEvent)
		now = e.at
		e.do()
	}
	return res
}

// evenly returns a time between two.
func evenly(from, to time.Duration) func(*rand.Rand) time.Duration {
	return func(rnd *rand.Rand) time.Duration { return from + time.Duration(rnd.Int64N(int64(to-from)+1)) }
}

// oneHangs returns servers that take the same, but for the first of them.
func oneHangs(d func(*rand.Rand) time.Duration) func(int, *rand.Rand) time.Duration {
	return func(i int, rnd *rand.Rand) time.Duration {
		if i == 0 {
			return hangs
		}
		return d(rnd)
	}
}

// inTurn sends to every server alike, as a server that hangs is not avoided by itself.
func inTurn() scheduling.Profile {
	p := plugins.RoundRobinProfile()
	e, err := plugins.NewEjection(plugins.EjectionOptions{})
	if err != nil {
		panic(err)
	}
	p.Filters = append(p.Filters, scheduling.Named{Name: "ejection", Filter: e})
	return p
}

func deadline() types.Outcome {
	return types.Outcome{Err: fmt.Errorf("too late: %w", context.DeadlineExceeded)}
}

// TestTrapHangingServer: a server that accepts and never answers is found by what its
// clients do, or do not.
func TestTrapHangingServer(t *testing.T) {
	oneGoroutine(t)
	quick, slower := evenly(20*time.Millisecond, 40*time.Millisecond), evenly(30*time.Millisecond, 80*time.Millisecond)
	base := pond{servers: 10, takes: oneHangs(quick), every: 10 * time.Millisecond, patience: 500 * time.Millisecond, requests: 3000}
	with := func(change func(*pond)) pond {
		p := base
		change(&p)
		return p
	}
	for _, tt := range []struct {
		name string
		p    pond
		lost int // at most
	}{
		{"clients leave", base, 10},
		{"streams", with(func(p *pond) { p.stream = true }), 10},
		{"in turn", with(func(p *pond) { p.profile = inTurn }), 15},
		{"deadlines", with(func(p *pond) { p.profile, p.end = inTurn, deadline }), 15},
		{"a slower pool", with(func(p *pond) { p.profile, p.takes = inTurn, oneHangs(slower) }), 25},
		{"few requests", with(func(p *pond) { p.profile, p.every, p.requests = inTurn, 100*time.Millisecond, 1000 }), 15},
		{"of three servers", with(func(p *pond) { p.profile, p.servers = inTurn, 3 }), 40},
		{"clients of different patience", with(func(p *pond) {
			p.profile, p.leave = inTurn, func(rnd *rand.Rand) float64 { return 0.4 + 4*rnd.Float64() }
		}), 15},
		{"a data plane without patience", with(func(p *pond) { p.profile, p.deaf = inTurn, true }), 25},
		{"clients that stay for long", with(func(p *pond) { p.patience = 60 * time.Second }), 10},
		{"half of the requests are long", with(func(p *pond) {
			p.profile, p.patience = inTurn, 20*time.Second
			p.takes = oneHangs(func(rnd *rand.Rand) time.Duration { return evenly(10*time.Millisecond, time.Second)(rnd) })
		}), 170},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := tt.p.run(t)
			lost := 0
			for i, n := range res.lost {
				lost += n
				if i > 0 && n > 0 {
					t.Errorf("%d requests were lost at server %d, which answers", n, i)
				}
			}
			t.Logf("%d of %d lost, %d of the last fifth; %d went to it, %d moved on; ejected %v", lost, tt.p.requests, res.lastLost, res.sent[0], res.moved, res.ejected)
			if lost > tt.lost || res.lastLost > 3 {
				t.Errorf("%d of %d requests are lost, %d of the last fifth, want at most %d and 3", lost, tt.p.requests, res.lastLost, tt.lost)
			}
			for i := range res.ejected {
				if i > 0 {
					t.Errorf("server %d was ejected, which answers", i)
				}
			}
		})
	}
	// Clients that never leave: it is not sent to for ever.
	res := with(func(p *pond) { p.profile, p.patience, p.deaf = inTurn, 0, true }).run(t)
	if n := res.sent[0]; n > 20 {
		t.Errorf("%d of 3000 requests went to a server that hangs, want at most 20", n)
	}
}

// TestTrapClientsWhoLeave: servers that are well must not be ejected by clients who leave
// early, whatever the servers' speed and the clients' patience.
func TestTrapClientsWhoLeave(t *testing.T) {
	oneGoroutine(t)
	speeds := func(d func(*rand.Rand) time.Duration, factors ...float64) func(int, *rand.Rand) time.Duration {
		return func(i int, rnd *rand.Rand) time.Duration {
			return time.Duration(float64(d(rnd)) * factors[i%len(factors)])
		}
	}
	wide := evenly(300*time.Millisecond, 5*time.Second)
	base := pond{servers: 6, takes: speeds(wide, 1), every: 20 * time.Millisecond, patience: 500 * time.Millisecond, requests: 1000}
	with := func(change func(*pond)) pond {
		p := base
		change(&p)
		return p
	}
	for _, tt := range []struct {
		name string
		p    pond
	}{
		{"early", base},
		{"servers of different speed", with(func(p *pond) { p.takes = speeds(wide, 1, 0.5, 3) })},
		{"of very different speed", with(func(p *pond) { p.takes = speeds(wide, 0.2, 1, 4) })},
		{"one server five times slower", with(func(p *pond) { p.takes = speeds(evenly(20*time.Millisecond, 60*time.Millisecond), 5, 1, 1, 1) })},
		{"all alike, one five times slower", with(func(p *pond) { p.takes = speeds(evenly(100*time.Millisecond, 101*time.Millisecond), 5, 1, 1, 1) })},
		{"leaving just before the slow one answers", with(func(p *pond) {
			p.patience = 450 * time.Millisecond
			p.takes = speeds(evenly(100*time.Millisecond, 101*time.Millisecond), 5, 1, 1, 1)
		})},
		{"queues that grow", with(func(p *pond) {
			p.places, p.takes = 4, speeds(evenly(100*time.Millisecond, 300*time.Millisecond), 1)
		})},
		{"queues that grow, of those who have left", with(func(p *pond) {
			p.places, p.takes = 1, speeds(evenly(50*time.Millisecond, 200*time.Millisecond), 1)
		})},
		{"quick ones and long ones", with(func(p *pond) {
			p.every = 100 * time.Millisecond
			p.takes = func(_ int, rnd *rand.Rand) time.Duration {
				if rnd.IntN(2) == 0 {
					return 20 * time.Millisecond
				}
				return wide(rnd)
			}
		})},
		{"few long ones", with(func(p *pond) {
			p.every = 200 * time.Millisecond
			p.takes = func(_ int, rnd *rand.Rand) time.Duration {
				if rnd.IntN(10) > 0 {
					return 20 * time.Millisecond
				}
				return wide(rnd)
			}
		})},
		{"one server", with(func(p *pond) { p.servers = 1 })},
		{"one server, quick", with(func(p *pond) { p.servers, p.takes = 1, speeds(evenly(time.Millisecond, time.Second), 1) })},
		{"stop buttons", with(func(p *pond) {
			p.patience, p.leave = 20*time.Second, func(rnd *rand.Rand) float64 { return rnd.Float64() }
		})},
		{"no patience at all", with(func(p *pond) { p.patience = time.Millisecond })},
		{"different patience", with(func(p *pond) { p.leave = func(rnd *rand.Rand) float64 { return 0.1 + 5*rnd.Float64() } })},
		{"long prompts", with(func(p *pond) {
			p.stream, p.every = true, 50*time.Millisecond
			p.takes = speeds(evenly(20*time.Millisecond, 60*time.Millisecond), 1)
		})},
	} {
		for _, kind := range []string{"cancelled", "deadline"} {
			for _, stream := range []bool{false, true} {
				for _, profile := range []string{"default", "in turn"} {
					t.Run(fmt.Sprintf("%s/%s/stream=%v/%s", tt.name, kind, stream, profile), func(t *testing.T) {
						p := tt.p
						p.stream = stream
						if kind == "deadline" {
							p.end = deadline
						}
						if profile == "in turn" {
							p.profile = inTurn
						}
						if res := p.run(t); len(res.ejected) > 0 {
							t.Errorf("servers that answer were found ejected: %v; lost %v", res.ejected, res.lost)
						}
					})
				}
			}
		}
	}
}

// TestEjectionHangs: what is a sign that a server hangs, and what is none.
func TestEjectionHangs(t *testing.T) {
	// learned is a pool where b and c have answered in 20 ms, so that 100 ms are long.
	learned := func(t *testing.T) *ward {
		w := newWard(t, plugins.EjectionOptions{})
		for range 20 {
			for i := 1; i < 3; i++ {
				v := w.send(i)
				w.sleep(20 * time.Millisecond)
				v.end(served)
			}
		}
		return w
	}
	// others answer something that was sent after now.
	others := func(w *ward) {
		v := w.send(1)
		w.sleep(10 * time.Millisecond)
		v.end(served)
	}
	leaves := func(w *ward, wait time.Duration, out types.Outcome) {
		v := w.send(0)
		others(w)
		w.sleep(wait)
		v.end(out)
	}
	const all, without, long = "a b c", "b c", 300 * time.Millisecond
	for _, tt := range []struct {
		name string
		do   func(*ward)
		want string
	}{
		{"two leave", func(w *ward) { leaves(w, long, gone); leaves(w, long, gone) }, all},
		{"three leave", func(w *ward) {
			for range 3 {
				leaves(w, long, gone)
			}
		}, without},
		{"three deadlines", func(w *ward) {
			for range 3 {
				leaves(w, long, late)
			}
		}, without},
		{"left by the data plane", func(w *ward) {
			for range 3 {
				leaves(w, long, types.Outcome{Retried: true, Err: context.DeadlineExceeded})
			}
		}, without},
		{"not for long", func(w *ward) {
			for range 9 {
				leaves(w, 50*time.Millisecond, gone)
			}
		}, all},
		{"a first token between", func(w *ward) {
			for range 5 {
				leaves(w, long, gone)
				leaves(w, long, gone)
				w.send(0).token()
			}
		}, all},
		{"an error between", func(w *ward) {
			for range 5 {
				leaves(w, long, gone)
				leaves(w, long, gone)
				w.sends(0, 1, types.Outcome{Status: 404})
			}
		}, all},
		{"three at once", func(w *ward) {
			vs := []visit{w.send(0), w.send(0), w.send(0)}
			others(w)
			w.sleep(long)
			for _, v := range vs {
				v.end(gone)
			}
		}, all},
		{"nobody answers", func(w *ward) {
			for range 9 {
				v := w.send(0)
				w.sleep(long)
				v.end(gone)
			}
		}, all},
		{"others answer what was sent before", func(w *ward) {
			for range 9 {
				old := w.send(1)
				v := w.send(0)
				w.sleep(long)
				old.end(served)
				v.end(gone)
			}
		}, all},
		{"of a kind of which few were answered", func(w *ward) {
			for range 4 {
				v := visit{w, w.request(), w.eps[0]}
				v.req.Stream = true
				w.f.Picked(v.req, v.ep)
				other := visit{w, w.request(), w.eps[1]}
				other.req.Stream = true
				w.f.Picked(other.req, other.ep)
				w.sleep(10 * time.Millisecond)
				other.token().end(served)
				w.sleep(long)
				v.end(gone)
			}
		}, all},
		{"others answer what is shorter", func(w *ward) {
			for range 9 {
				v := visit{w, w.request(), w.eps[0]}
				v.req.Prompt.Tokens = 100_000 // nobody knows how long these take
				w.f.Picked(v.req, v.ep)
				others(w)
				w.sleep(long)
				v.end(gone)
			}
		}, all},
		{"its own clients wait", func(w *ward) {
			w.send(0)
			for range 4 {
				others(w)
				w.sleep(long)
				w.send(0)
			}
		}, without},
		{"its own clients wait, and it answers one", func(w *ward) {
			for range 9 {
				w.send(0)
				others(w)
				w.sleep(long)
				w.sends(0, 1, served)
			}
		}, all},
		{"one request does not count three times", func(w *ward) {
			w.send(0)
			for range 9 {
				others(w)
				w.sleep(long)
				w.sends(0, 1, types.Outcome{Unsent: true, Err: errors.New("no route")})
			}
		}, all},
		{"behind one that is known to take long", func(w *ward) {
			big := w.request()
			big.Prompt.Tokens = 100_000
			w.f.Picked(big, w.eps[0])
			for range 9 {
				leaves(w, long, gone)
			}
		}, all},
		{"it was forgotten", func(w *ward) {
			leaves(w, long, gone)
			leaves(w, long, gone)
			w.f.Forget(w.eps[0])
			leaves(w, long, gone)
		}, all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := learned(t)
			tt.do(w)
			w.wantKept(tt.want, "at the end")
			if says := w.f.Describe(w.request(), w.eps[0]); tt.want == without && !strings.HasSuffix(says, "after 3 requests without a sign of life") {
				t.Errorf("Describe = %q", says)
			}
		})
	}
}
