package window

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/heap"
)

// server is one that works at a number of requests at a time; the others wait, or are
// refused.
type server struct {
	places  int
	refuses bool
	spread  float64 // of the logarithm of how long a request takes
	slow    float64 // times as long
}

// play sends requests to a server, in virtual time.
type play struct {
	server
	rnd    *rand.Rand
	limit  func() float64
	window *Window // told of what happens, if not nil

	now     time.Duration
	events  heap.Heap[call]
	seq     uint64
	sent    int     // by our ledger
	area    float64 // of that, by seconds
	areaAt  time.Duration
	there   []*call
	served  float64 // seconds of work, after from
	refused int
	from    time.Duration
	most    int // sent at a time, after from
}

type call struct {
	place            int
	do               func(*call)
	booked, needs    time.Duration
	with, area       float64
	started, refused bool
}

func (p *play) at(after time.Duration, c *call, do func(*call)) {
	p.seq++
	c.do = do
	p.events.Push(heap.Item[call]{Key: int64(p.now + after), Seq: p.seq, At: &c.place, Of: c})
}

// reach is how long a request takes to the server: two may come in another order than they
// were sent.
func (p *play) reach() time.Duration {
	return time.Duration(p.rnd.Float64() * float64(3*time.Millisecond))
}

const second = time.Second

// run plays for some time, with twice as many requests as the server can do.
func (p *play) run(until time.Duration) {
	p.arrivals(until)
	for len(p.events) > 0 {
		e := p.events[0]
		p.now = time.Duration(e.Key)
		p.events.Remove(0)
		e.Of.do(e.Of)
	}
}

func (p *play) arrivals(until time.Duration) {
	next := time.Duration(p.rnd.ExpFloat64() / (2 * float64(p.places)) * float64(second))
	p.at(next, new(call), func(*call) {
		if p.now > until {
			return
		}
		p.arrivals(until)
		if float64(p.sent) >= p.limit() {
			return
		}
		p.count(1)
		if p.now > p.from {
			p.most = max(p.most, p.sent)
		}
		c := &call{booked: p.now, with: float64(p.sent), area: p.area}
		c.needs = time.Duration(p.slow * math.Exp(p.spread*p.rnd.NormFloat64()-p.spread*p.spread/2) * float64(second))
		p.at(p.reach(), c, p.arrive)
	})
}

func (p *play) arrive(c *call) {
	if p.refuses && len(p.there) >= p.places {
		c.refused = true
		p.at(p.reach(), c, p.end)
		return
	}
	p.there = append(p.there, c)
	p.work()
}

// work starts those that have a place.
func (p *play) work() {
	for i, c := range p.there {
		if i < p.places && !c.started {
			c.started = true
			p.at(c.needs, c, func(c *call) {
				for i := range p.there {
					if p.there[i] == c {
						p.there = append(p.there[:i:i], p.there[i+1:]...)
						break
					}
				}
				p.work()
				p.at(p.reach(), c, p.end)
			})
		}
	}
}

func (p *play) end(c *call) {
	p.count(-1)
	at := time.Unix(0, 0).Add(p.now)
	if p.now > p.from {
		if c.refused {
			p.refused++
		} else {
			p.served += c.needs.Seconds()
		}
	}
	switch {
	case p.window == nil:
	case c.refused:
		p.window.Busy(c.with, at)
	default:
		took := p.now - c.booked
		p.window.Ended(took, 60, min(c.with, (p.area-c.area)/took.Seconds()), at)
	}
}

// count keeps how many are in flight.
func (p *play) count(n int) {
	p.area += float64(p.sent) * (p.now - p.areaAt).Seconds()
	p.areaAt = p.now
	p.sent += n
}

// best is the most that is served with any fixed limit.
func best(s server, seed uint64, until, from time.Duration) (served float64) {
	for _, limit := range []int{s.places, s.places + 1, 3 * s.places} {
		p := play{server: s, rnd: rand.New(rand.NewPCG(seed, 1)), limit: func() float64 { return float64(limit) }, from: from}
		p.run(until)
		served = max(served, p.served)
	}
	return served
}

func learned(s server, seed uint64, w *Window, from time.Duration) *play {
	return &play{server: s, rnd: rand.New(rand.NewPCG(seed, 1)), limit: w.Size, window: w, from: from}
}

// What a learned window serves at least, as a part of what the best of three fixed limits did,
// which is known afterwards only: in any seed, and in the mean of all.
const (
	leastServed = 0.95
	meanServed  = 0.985
)

var windowSeeds = flag.Int("window.seeds", 20, "how many seeds TestOverload and TestSlowServer play")

// TestOverload: under twice the load, a window that is learned serves nearly what the best
// fixed limit does, in every seed; and it does not send much more than the server can do.
func TestOverload(t *testing.T) {
	seeds := *windowSeeds
	if testing.Short() {
		seeds = min(seeds, 5)
	}
	for _, s := range []server{
		{places: 8, refuses: true, slow: 1}, {places: 8, refuses: true, slow: 1, spread: 0.3}, {places: 8, refuses: true, slow: 1, spread: 0.8},
		{places: 32, refuses: true, slow: 1, spread: 0.5}, {places: 3, refuses: true, slow: 1, spread: 0.5},
		{places: 8, slow: 1}, {places: 8, slow: 1, spread: 0.3}, {places: 8, slow: 1, spread: 0.8}, {places: 32, slow: 1, spread: 0.5},
	} {
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			worst, sum, most := 1.0, 0.0, 0
			for seed := range uint64(seeds) {
				const from, until = 60 * second, 360 * second
				p := learned(s, seed, New(64, 2, 1e5), from)
				p.run(until)
				part := p.served / best(s, seed, until, from)
				worst, sum, most = min(worst, part), sum+part, max(most, p.most)
				if part < leastServed {
					t.Errorf("seed %d: serves %.3f of the best; %d refused, at most %d at a time, window %.1f", seed, part, p.refused, p.most, p.window.Size())
				}
				require.Less(t, p.refused, max(int(p.served)/5, 50), "seed %d: sent to a server that is busy", seed)
			}
			require.Greater(t, sum/float64(seeds), meanServed, "of the best, in the mean")
			t.Logf("worst %.3f, mean %.3f, at most %d at a time", worst, sum/float64(seeds), most)
		})
	}
}

// TestSlowServer: a server that waits has many fewer places from some time on; the window
// follows, and what is done is as much as can be.
func TestSlowServer(t *testing.T) {
	seeds := *windowSeeds
	if testing.Short() {
		seeds = min(seeds, 5)
	}
	for _, refuses := range []bool{false, true} {
		for _, spread := range []float64{0, 0.5} {
			t.Run(fmt.Sprintf("refuses=%v/spread=%v", refuses, spread), func(t *testing.T) {
				sum := 0.0
				for seed := range uint64(seeds) {
					const change, from, until = 120 * second, 300 * second, 600 * second
					w := New(64, 2, 1e5)
					p := learned(server{places: 24, slow: 1, spread: spread, refuses: refuses}, seed, w, from)
					p.at(change, new(call), func(*call) { p.places = 4 })
					p.run(until)
					can := best(server{places: 4, slow: 1, spread: spread, refuses: refuses}, seed, until, from)
					part := p.served / can
					sum += part
					if part < leastServed {
						t.Errorf("seed %d: serves %.3f of what it can", seed, part)
					}
					if w.Size() > 4*4 {
						t.Errorf("seed %d: window %.1f at the end, for 4 places", seed, w.Size())
					}
				}
				require.Greater(t, sum/float64(seeds), meanServed, "of what it can, in the mean")
				t.Logf("mean %.3f", sum/float64(seeds))
			})
		}
	}
}
