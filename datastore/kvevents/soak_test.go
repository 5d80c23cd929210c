package kvevents_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/types"
)

// cache is what a simulated engine holds: it evicts the oldest blocks.
type cache struct {
	p    *kveventstest.Publisher
	rand *rand.Rand
	room int
	held kveventstest.Held
	fifo []uint64
}

// step stores some blocks, a few of which push others out, and publishes that. It returns the
// number of events.
func (c *cache) step() int {
	var batch []kvevents.Event
	for range 1 + c.rand.IntN(4) {
		e := stored()
		for range 1 + c.rand.IntN(8) {
			e.Hashes = append(e.Hashes, c.rand.Uint64())
		}
		batch = append(batch, e)
		c.fifo = append(c.fifo, e.Hashes...)
	}
	for len(c.fifo) > c.room {
		batch = append(batch, removed(c.fifo[0]))
		c.fifo = c.fifo[1:]
	}
	for _, e := range batch {
		c.held.Apply(e)
	}
	switch c.rand.IntN(100) {
	case 0:
		c.p.Lose(batch...)
	default:
		c.p.Publish(batch...)
	}
	return len(batch)
}

func (c *cache) restart() {
	c.p.Restart()
	c.held, c.fifo = kveventstest.Held{}, nil
}

// TestSoak: many engines publish at once, messages are lost, connections cut and engines
// restarted; once it is quiet, what is known is what they hold, and memory is as it was.
func TestSoak(t *testing.T) {
	engines, events := 100, 1_000_000
	switch {
	case testing.Short():
		engines, events = 10, 20_000
	case raceEnabled:
		engines, events = 30, 100_000
	}
	var sources sync.Map // by endpoint
	r := newRig(t, func(o *kvevents.Options) {
		o.MaxBackoff = 50 * time.Millisecond
		o.Sources = func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			s, _ := sources.Load(ep.ID)
			return []kvevents.Source{s.(kvevents.Source)}
		}
	})
	caches := make([]*cache, engines)
	var specs []datastore.EndpointSpec
	for i := range caches {
		p := r.publisher(kveventstest.Options{Topic: fmt.Sprint("kv@", i), Buffer: 300, Arrays: i%2 == 0, NoTopic: i%4 == 0})
		caches[i] = &cache{p: p, rand: rand.New(rand.NewPCG(uint64(i), 1)), room: 200 + 10*i}
		id := fmt.Sprint("engine-", i)
		sources.Store(id, p.Source())
		specs = append(specs, datastore.EndpointSpec{ID: id, Address: fmt.Sprintf("127.0.0.1:%d", 8000+i)})
	}
	require.NoError(t, r.store.SetEndpoints(pool, specs))

	for _, c := range caches {
		r.subscribed(c.p)
	}
	var halfway uint64
	for part := range 2 {
		var wg sync.WaitGroup
		for _, c := range caches {
			wg.Go(func() {
				for left, steps := events/engines/2, 0; left > 0; steps++ {
					left -= c.step()
					switch c.rand.IntN(1000) {
					case 0:
						c.p.Cut()
					case 1:
						c.restart()
					}
					if steps%20 == 0 { // or most would come by replays
						time.Sleep(5 * time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
		for i, c := range caches {
			id := fmt.Sprint("engine-", i)
			want := c.held.Hashes(kvevents.GPU)
			deadline := time.Now().Add(60 * time.Second)
			got := r.index.Held(id, 0)
			for !same(got, want) && time.Now().Before(deadline) {
				time.Sleep(5 * time.Millisecond)
				got = r.index.Held(id, 0) // it may be told of a connection that was cut even now
			}
			require.Contains(t, []kvevents.State{kvevents.Live, kvevents.Late}, got.State, "%s: %+v", id, r.sub.Stats())
			require.Empty(t, cmp.Diff(want, got.Hashes(kvevents.GPU)), id)
		}
		if part == 0 {
			halfway = heap()
		}
	}
	end := heap()
	s := r.sub.Stats()
	t.Logf("%+v, heap %d KiB, then %d KiB", s, halfway>>10, end>>10)
	require.Zero(t, s.Panics+s.BatchErrors+s.ProtocolErrors)
	require.NotZero(t, s.Gaps)
	require.NotZero(t, s.Replays)
	require.True(t, events < 1_000_000 || s.Resets > 0)
	require.Less(t, end, halfway+halfway/2+4<<20)
}

func same(h kveventstest.Held, want []uint64) bool {
	return (h.State == kvevents.Live || h.State == kvevents.Late) && cmp.Equal(want, h.Hashes(kvevents.GPU))
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
