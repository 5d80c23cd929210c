package fair

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// naive is the order written down as it is meant, with a search for everything. It knows
// neither floors nor prefixes.
type naive struct {
	edf      bool
	credit   float64
	waiting  []*Item
	running  []*Item
	tenant   map[*Item]string
	counters map[int]map[string]float64 // by priority and tenant
	virtual  map[int]float64
}

// arrive notes a tenant that has something to send: what it missed while it had nothing is
// lost to it, but for the credit.
func (n *naive) arrive(it *Item, tenant string) {
	p := it.Priority
	if n.counters[p] == nil {
		n.counters[p] = map[string]float64{}
	}
	if _, ok := n.counters[p][tenant]; !ok {
		n.counters[p][tenant] = n.virtual[p] - n.credit
	}
	n.tenant[it] = tenant
	n.lift(p, tenant)
}

func (n *naive) lift(p int, tenant string) {
	base, some := n.virtual[p], false
	for _, w := range n.waiting {
		if w.Priority != p {
			continue
		}
		if n.tenant[w] == tenant {
			return
		}
		if c := n.counters[p][n.tenant[w]]; !some || c < base {
			base, some = c, true
		}
	}
	n.counters[p][tenant] = max(n.counters[p][tenant], base-n.credit)
}

// next returns the request of the highest priority, then of the tenant that was served the
// least, then the first, of those for which there is room.
func (n *naive) next(hasRoom func(*Item, bool) bool) *Item {
	var best *Item
	var bestKey []float64
	for _, it := range n.waiting {
		if !hasRoom(it, false) || it != n.first(it) {
			continue
		}
		key := []float64{-float64(it.Priority), n.counters[it.Priority][n.tenant[it]], float64(it.Seq)}
		if best == nil || slices.Compare(key, bestKey) < 0 {
			best, bestKey = it, key
		}
	}
	return best
}

// first returns the request that goes first of an item's tenant, priority and lane.
func (n *naive) first(it *Item) *Item {
	first := it
	for _, w := range n.waiting {
		if w.Priority != it.Priority || w.Lane != it.Lane || n.tenant[w] != n.tenant[it] {
			continue
		}
		if n.edf && cmp.Or(cmp.Compare(w.Deadline, first.Deadline), cmp.Compare(w.Seq, first.Seq)) < 0 || !n.edf && w.Seq < first.Seq {
			first = w
		}
	}
	return first
}

func (n *naive) start(it *Item) {
	p, tenant := it.Priority, n.tenant[it]
	n.virtual[p] = max(n.virtual[p], n.counters[p][tenant])
	n.counters[p][tenant] += it.Charge
	n.running = append(n.running, it)
}

// TestNaive plays the same random history to Queues and to the naive order.
func TestNaive(t *testing.T) {
	for _, edf := range []bool{false, true} {
		for seed := range uint64(40) {
			t.Run(fmt.Sprintf("edf=%v/seed=%d", edf, seed), func(t *testing.T) { play(t, edf, rand.New(rand.NewPCG(seed, 1))) })
		}
	}
}

func play(t *testing.T, edf bool, rnd *rand.Rand) {
	c := testConfig()
	c.EarliestDeadline, c.MaxBands, c.MaxFlows = edf, 100, 100
	c.Classes[1].Floor = 0
	q := New(c)
	n := &naive{edf: edf, credit: c.Credit, tenant: map[*Item]string{}, counters: map[int]map[string]float64{}, virtual: map[int]float64{}}
	lanes := []*Lane{{Of: 0}, {Of: 1}, {Of: 2}}
	now := time.Duration(0)
	for step := range 400 {
		now += time.Duration(rnd.IntN(1000)) * time.Millisecond / 100 // nobody is idle for FlowIdle
		switch rnd.IntN(5) {
		case 0, 1:
			it := &Item{Lane: lanes[rnd.IntN(3)], Priority: rnd.IntN(3) * 10, Bytes: 1, Arrived: now, Deadline: now + time.Duration(rnd.IntN(1e9))}
			tenant := string(rune('a' + rnd.IntN(4)))
			q.Rank(it)
			q.Assign(it, tenant, "", now)
			q.Estimate(it, Amount{Prompt: 1 + rnd.IntN(400)})
			q.Add(it)
			n.arrive(it, tenant)
			n.waiting = append(n.waiting, it)
		case 2, 3:
			full := everywhere{lanes[rnd.IntN(3)]: rnd.IntN(2) == 0}
			it, want := q.Next(full.has), n.next(full.has)
			require.Same(t, want, it)
			if it != nil {
				q.Take(it, now)
				q.Start(it)
				n.waiting = slices.DeleteFunc(n.waiting, func(w *Item) bool { return w == it })
				n.start(it)
			}
		default:
			n.endOne(q, rnd, now)
		}
		if step%16 == 0 {
			q.check(t)
		}
		for _, b := range q.Bands() {
			n.compare(t, b)
		}
	}
}

// compare compares what tenants were served. One may be forgotten early if it is owed
// nothing: it would begin anew where it is, or further on.
func (n *naive) compare(t *testing.T, b *Band) {
	counters := b.Counters()
	for tenant, want := range n.counters[b.Priority] {
		got, ok := counters[tenant]
		if !ok {
			require.LessOrEqual(t, want, n.virtual[b.Priority]-n.credit, "tenant %s was forgotten", tenant)
			delete(n.counters[b.Priority], tenant)
			continue
		}
		if math.Abs(got-want) > 1e-6 {
			t.Fatalf("priority %d, tenant %s: counter %v, want %v", b.Priority, tenant, got, want)
		}
	}
}

// endOne gives up a request that waits, or ends one that was let in.
func (n *naive) endOne(q *Queues, rnd *rand.Rand, now time.Duration) {
	if len(n.waiting) > 0 && rnd.IntN(3) == 0 {
		i := rnd.IntN(len(n.waiting))
		q.Remove(n.waiting[i], now)
		n.waiting = slices.Delete(n.waiting, i, i+1)
		return
	}
	if len(n.running) == 0 {
		return
	}
	i := rnd.IntN(len(n.running))
	it := n.running[i]
	n.running = slices.Delete(n.running, i, i+1)
	before := it.Charge
	correction := q.End(it, float64(rnd.IntN(500)), float64(rnd.IntN(300)), now)
	n.counters[it.Priority][n.tenant[it]] += it.Charge - before
	if correction != it.Charge-before {
		panic("End says another correction than the charge has")
	}
}

// FuzzQueues does anything in any order, with all orders and bounds that are soon reached:
// what is kept fits together, and nothing is lost.
func FuzzQueues(f *testing.F) {
	for seed := range 20 {
		rnd := rand.New(rand.NewPCG(uint64(seed), 2))
		ops := make([]byte, 600)
		for i := range ops {
			ops[i] = byte(rnd.Uint32())
		}
		f.Add(byte(seed)|byte(seed%2)<<7, ops)
	}
	f.Fuzz(func(t *testing.T, how byte, ops []byte) {
		q := New(configOf(how))
		lanes := []*Lane{new(Lane), new(Lane)}
		var waiting, running []*Item
		for i, op := range ops {
			now := time.Duration(i) * 10 * time.Second
			pick := int(op >> 3)
			switch op & 7 {
			case 0, 1, 2:
				it := &Item{Lane: lanes[pick%2], Priority: pick%8*3 - 4, Bytes: int64(op), Arrived: now, Deadline: now + time.Duration(op)}
				q.Rank(it)
				q.Assign(it, fmt.Sprint(pick%12), programOf(how, op), now)
				q.Estimate(it, Amount{Prompt: 10 * pick, MaxOutput: pick})
				for {
					victim, _, full := q.Victim(it)
					if full != "" {
						q.Drop(it, now)
						break
					}
					if victim == nil {
						q.Add(it)
						waiting = append(waiting, it)
						break
					}
					q.Remove(victim, now)
					q.Drop(victim, now)
					waiting = slices.DeleteFunc(waiting, func(w *Item) bool { return w == victim })
				}
			case 3, 4:
				if it := q.Next(everywhere{lanes[0]: pick == 1}.has); it != nil {
					q.Take(it, now)
					q.Start(it)
					running = append(running, it)
					waiting = slices.DeleteFunc(waiting, func(w *Item) bool { return w == it })
				} else {
					require.True(t, len(waiting) == 0 || pick == 1)
				}
			case 5:
				if len(running) > 0 {
					q.Learn(running[0], float64(pick))
					q.End(running[0], float64(pick), float64(op), now)
					running = running[1:]
				}
			case 6:
				if len(waiting) > 0 {
					it := waiting[pick%len(waiting)]
					a := q.Ahead(it)
					require.LessOrEqual(t, a.Higher+a.OtherTenants+a.OwnTenant, len(waiting)-1)
					q.Remove(it, now)
					waiting = slices.DeleteFunc(waiting, func(w *Item) bool { return w == it })
				}
			default:
				q.Configure(configOf(op))
				for _, l := range lanes {
					if l.Queued == 0 {
						q.DropLane(l)
						*l = Lane{}
					}
				}
			}
			if i%16 == 0 || i == len(ops)-1 {
				require.Equal(t, len(waiting), q.Len())
				q.check(t)
			}
		}
	})
}

// configOf returns one of all kinds of orders.
func configOf(how byte) Config {
	c := testConfig()
	c.MaxRequests, c.MaxBytes, c.MaxBands, c.MaxFlows = 20, 3000, 8, 5
	c.EarliestDeadline = how&8 != 0
	c.OneFlow = how&16 != 0
	if how&32 != 0 {
		c.Quantum = 300
		c.Prefix = func(it *Item) uint64 { return uint64(it.Bytes % 3) }
	}
	c.Programs, c.MaxPrograms = Programs(how&7%3), 3
	if how&64 != 0 {
		c.Weights = map[string]float64{"1": 2, "2": 0.5, "3": 1}
	}
	return c
}
