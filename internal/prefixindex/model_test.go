package prefixindex_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/stretchr/testify/require"
)

// model is the index as one would write it without a care for cost: for each
// endpoint the set of its blocks with the time each was used last. What is
// evicted is the block whose time is longest ago, of those the deepest. It knows
// nothing of nodes, so it also shows that how prompts of other endpoints split
// the tree has no influence on what an endpoint keeps.
type model struct {
	now uint64
	eps map[prefixindex.Endpoint]*modelEndpoint
}

type modelEndpoint struct {
	blocks  map[uint64]modelBlock
	set     int
	learned float64
}

type modelBlock struct {
	parent uint64 // hash of the block before, 0 for none
	depth  int
	used   uint64
}

func (e *modelEndpoint) capacity() int { return max(1, int(float64(e.set)*e.learned)) }

func (e *modelEndpoint) shrink() {
	for len(e.blocks) > e.capacity() {
		var victim uint64
		for h, b := range e.blocks {
			v, ok := e.blocks[victim]
			if !ok || b.used < v.used || b.used == v.used && b.depth > v.depth {
				victim = h
			}
		}
		delete(e.blocks, victim)
	}
}

func (m *model) record(ep prefixindex.Endpoint, chain []uint64) {
	m.now++
	e := m.eps[ep]
	if e == nil {
		return
	}
	parent := uint64(0)
	for i, h := range chain[:min(len(chain), e.capacity())] {
		e.blocks[h] = modelBlock{parent: parent, depth: i, used: m.now}
		parent = h
	}
	e.shrink()
}

func (m *model) truncate(ep prefixindex.Endpoint, chain []uint64, keep int) {
	e := m.eps[ep]
	if e == nil || keep >= len(chain) {
		return
	}
	gone := map[uint64]bool{chain[max(keep, 0)]: true}
	for again := true; again; {
		again = false
		for h, b := range e.blocks {
			if !gone[h] && gone[b.parent] {
				gone[h], again = true, true
			}
		}
	}
	for h := range gone {
		delete(e.blocks, h)
	}
}

func (m *model) observe(ep prefixindex.Endpoint, predicted, actual int) {
	e := m.eps[ep]
	if e == nil || predicted <= 0 && actual <= 0 {
		return
	}
	if predicted > actual {
		e.learned = max(e.learned*0.99, 1.0/32)
	} else {
		e.learned = min(e.learned*1.0005, 1)
	}
	e.shrink()
}

func (m *model) match(ep prefixindex.Endpoint, chain []uint64) int {
	e := m.eps[ep]
	if e == nil {
		return 0
	}
	for i, h := range chain {
		if _, ok := e.blocks[h]; !ok {
			return i
		}
	}
	return len(chain)
}

// anchors are those of what an endpoint holds, the last used first.
func (m *model) anchors(ep prefixindex.Endpoint) (hashes []uint64) {
	e := m.eps[ep]
	if e == nil {
		return nil
	}
	for h, b := range e.blocks {
		if prefixindex.IsAnchor(b.depth + 1) {
			hashes = append(hashes, h)
		}
	}
	slices.SortFunc(hashes, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(e.blocks[b].used, e.blocks[a].used), cmp.Compare(e.blocks[a].depth, e.blocks[b].depth))
	})
	return hashes
}

// driver applies the same operations to the index and to the model. Its
// decisions come from next, so that a fuzzer can take the place of chance.
type driver struct {
	next  func(n int) int // in [0, n)
	x     *prefixindex.Index
	m     model
	known []prefixindex.Endpoint // also removed ones
	out   []uint32
}

const driverCapacity = 60

func newDriver(next func(n int) int) *driver {
	x, err := prefixindex.New(prefixindex.Options{DefaultCapacity: driverCapacity})
	if err != nil {
		panic(err)
	}
	d := &driver{next: next, x: x, m: model{eps: map[prefixindex.Endpoint]*modelEndpoint{}}}
	for range 3 {
		d.add()
	}
	return d
}

func (d *driver) add() {
	e := d.x.Add()
	d.known = append(d.known, e)
	d.m.eps[e] = &modelEndpoint{blocks: map[uint64]modelBlock{}, set: driverCapacity, learned: 1}
}

// chain makes a prompt out of few different parts, so that prompts share heads of
// all lengths, end inside each other, and part anywhere.
func (d *driver) chain() []uint64 {
	n := d.next(24)
	out := make([]uint64, 0, n)
	h := uint64(1)
	for range n {
		choice := 0
		if d.next(6) == 0 {
			choice = 1 + d.next(2)
		}
		h = (h^uint64(choice+1))*0x9e3779b97f4a7c15 + 12345
		h ^= h >> 29
		out = append(out, h)
	}
	return out
}

func (d *driver) step() error {
	e := d.known[d.next(len(d.known))]
	switch op := d.next(20); op {
	default:
		chain := d.chain()
		before := 0
		me := d.m.eps[e]
		if me != nil {
			for _, h := range chain[:min(len(chain), me.capacity())] {
				if _, ok := me.blocks[h]; !ok {
					before++
				}
			}
		}
		d.m.record(e, chain)
		had := d.x.MatchOne(e, chain)
		if len(chain)%2 == 0 {
			if got := d.x.RecordOver(e, chain); got != had {
				return fmt.Errorf("RecordOver of %d blocks = %d, want what MatchOne says: %d", len(chain), got, had)
			}
			break
		}
		if added := d.x.Record(e, chain); added != before {
			return fmt.Errorf("Record of %d blocks = %d, want %d", len(chain), added, before)
		}
	case 11, 12:
		chain := d.chain()
		keep := d.next(len(chain) + 2)
		before := 0
		if me := d.m.eps[e]; me != nil {
			before = len(me.blocks)
		}
		d.m.truncate(e, chain, keep)
		after := 0
		if me := d.m.eps[e]; me != nil {
			after = len(me.blocks)
		}
		if got := d.x.Truncate(e, chain, keep); got != before-after {
			return fmt.Errorf("Truncate of %d blocks at %d = %d, want %d", len(chain), keep, got, before-after)
		}
	case 13, 14, 15:
		p, a := d.next(3), d.next(3)
		d.m.observe(e, p, a)
		d.x.Observe(e, p, a)
	case 16:
		n := d.next(80) // 0: the default
		d.x.SetCapacity(e, n)
		if me := d.m.eps[e]; me != nil {
			if n == 0 {
				n = driverCapacity
			}
			if n != me.set {
				me.set, me.learned = n, 1
			}
			me.shrink()
		}
	case 17:
		if d.next(4) == 0 {
			d.x.Remove(e)
			delete(d.m.eps, e)
		}
	case 18:
		if d.next(4) == 0 {
			d.x.Reset(e)
			if me := d.m.eps[e]; me != nil {
				clear(me.blocks)
			}
		}
	case 19:
		if len(d.m.eps) < 12 {
			d.add()
		}
	}
	return d.compare()
}

func (d *driver) compare() error {
	if err := d.x.Check(); err != nil {
		return err
	}
	held := 0
	some := d.known[d.m.now%uint64(len(d.known))]
	if got, want := d.x.AppendAnchors(nil, some, 1<<20), d.m.anchors(some); !slices.Equal(got, want) {
		return fmt.Errorf("anchors of %v: %x, want %x", some, got, want)
	}
	for _, e := range d.known {
		want, capacity := 0, 0
		if me := d.m.eps[e]; me != nil {
			want, capacity = len(me.blocks), me.capacity()
		}
		held += want
		if got, c := d.x.Usage(e); got != want || c != capacity {
			return fmt.Errorf("%v holds %d of %d blocks, want %d of %d", e, got, c, want, capacity)
		}
	}
	if s := d.x.Stats(); s.Held != held || s.Endpoints != len(d.m.eps) {
		return fmt.Errorf("stats %+v, want %d held by %d endpoints", s, held, len(d.m.eps))
	}
	chain := d.chain()
	if len(d.out) < d.x.Slots() {
		d.out = make([]uint32, d.x.Slots())
	}
	matched := d.x.Match(chain, d.out)
	positive := 0
	want := make([]uint32, len(d.out))
	for e := range d.m.eps {
		n := d.m.match(e, chain)
		want[e.Slot()] = uint32(n)
		if n > 0 {
			positive++
		}
		if got := d.x.MatchOne(e, chain); got != n {
			return fmt.Errorf("MatchOne(%v) = %d, want %d", e, got, n)
		}
	}
	if !slices.Equal(d.out, want) || matched != positive {
		return fmt.Errorf("Match = %d %v, want %d %v", matched, d.out, positive, want)
	}
	return nil
}

// drain empties the index endpoint by endpoint and expects nothing to be left.
func (d *driver) drain() error {
	for _, e := range d.known {
		d.x.Remove(e)
		if err := d.x.Check(); err != nil {
			return err
		}
	}
	if s := d.x.Stats(); s.Nodes != 0 || s.Entries != 0 || s.Blocks != 0 || s.Held != 0 || s.Endpoints != 0 {
		return fmt.Errorf("after all have gone: %+v", s)
	}
	return nil
}

func TestIndexAgainstModel(t *testing.T) {
	runs, steps := 60, 1500
	if testing.Short() || raceEnabled {
		runs, steps = 8, 600
	}
	for seed := range runs {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		d := newDriver(r.IntN)
		for i := range steps {
			require.NoError(t, d.step(), "seed %d, step %d", seed, i)
		}
		require.NoError(t, d.drain(), "seed %d", seed)
	}
}

func FuzzIndex(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		ops = ops[:min(len(ops), 1000)] // each step checks everything
		d := newDriver(func(n int) int {
			if len(ops) == 0 {
				return 0
			}
			v := int(ops[0]) % n
			ops = ops[1:]
			return v
		})
		for len(ops) > 0 {
			require.NoError(t, d.step())
		}
		require.NoError(t, d.drain())
	})
}
