package plugins

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// crowdOfServers is a Cost that many goroutines use at once, while servers are read and
// restart.
type crowdOfServers struct {
	cost *Cost
	s    *scheduling.Scheduler
	eps  []atomic.Pointer[types.Endpoint]
}

func newCrowdOfServers(t *testing.T, n int) *crowdOfServers {
	w := &crowdOfServers{cost: mustCost(CostOptions{}), eps: make([]atomic.Pointer[types.Endpoint], n)}
	for i := range w.eps {
		ep := schedulingtest.Endpoint(fmt.Sprint("ep-", i), schedulingtest.Adapters(2), schedulingtest.Running(float64(i%5)))
		ep.Slot = uint32(i % (n - 1)) // two share one
		w.eps[i].Store(ep)
	}
	var err error
	w.s, err = scheduling.New(scheduling.Profile{
		Costs: []scheduling.Costed{{Name: "cost", Coster: w.cost}}, Picker: MaxScore{}, Fallbacks: 1, MetricsTTL: time.Hour,
	})
	require.NoError(t, err)
	return w
}

func (w *crowdOfServers) list() []*types.Endpoint {
	list := make([]*types.Endpoint, len(w.eps))
	for i := range w.eps {
		list[i] = w.eps[i].Load()
	}
	return list
}

// read publishes another reading of a server.
func (w *crowdOfServers) read(i int) {
	ep := w.eps[i].Load()
	m := ep.Metrics
	m.UpdatedAt = time.Now()
	m.Running = types.Known(float64(i % 7))
	m.RunningAdapters = []string{fmt.Sprint("adapter-", i%6)}
	w.eps[i].Store(ep.WithMetrics(m))
}

// play plays requests of every kind to their end.
func (w *crowdOfServers) play(t *testing.T, rnd types.Rand, n int) {
	for i := range n {
		req := schedulingtest.Request(fmt.Sprint("group ", rnd.IntN(20)))
		req.Prompt.Tokens, req.Stream = 50+rnd.IntN(2000), rnd.IntN(2) == 0
		if rnd.IntN(3) == 0 {
			req.TargetModel = fmt.Sprint("adapter-", rnd.IntN(8))
		}
		if rnd.IntN(5) == 0 {
			req.SLO.TTFT = time.Duration(rnd.IntN(100)) * time.Millisecond
		}
		d, err := w.s.Schedule(context.Background(), req, w.list())
		if err != nil {
			t.Error(err)
			return
		}
		if rnd.IntN(2) == 0 {
			d.FirstToken()
		}
		if rnd.IntN(6) == 0 {
			d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
		}
		if rnd.IntN(200) == 0 {
			w.s.Forget(w.eps[rnd.IntN(len(w.eps))].Load())
		}
		if i%4 == 0 {
			_, _ = w.s.Explain(context.Background(), req, w.list())
		}
		d.Done(types.Outcome{Status: 200 + 300*rnd.IntN(2), Usage: types.Usage{CompletionTokens: types.Known(float64(1 + rnd.IntN(50)))}})
	}
}

// Whatever many goroutines do at once, nothing is left of requests that have ended: neither at
// their servers nor in what the servers have in common.
func TestCostOfManyGoroutinesEndsAtNothing(t *testing.T) {
	const goroutines, each = 8, 250
	w := newCrowdOfServers(t, 12)
	var all, readers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				w.read(i % len(w.eps))
			}
		}
	})
	for g := range goroutines {
		all.Go(func() { w.play(t, types.NewRand(uint64(g)), each) })
	}
	all.Wait()
	close(stop)
	readers.Wait()

	c := w.cost
	require.Zero(t, w.s.Open())
	require.Zero(t, c.own.Load(), "requests of this process")
	require.Equal(t, cost.Crowd{}, c.crowd, "requests that begin alike")
	foreign, believed, partly := 0., 0., 0
	for _, cell := range c.table.all() {
		if cell == nil {
			continue
		}
		n, prefilling := cell.server.Requests()
		require.Zero(t, n, "requests at a server")
		require.Zero(t, prefilling)
		f, b := cell.server.Trust()
		foreign, believed = foreign+f, believed+b
		if cell.partly.Load() {
			partly++
		}
	}
	require.InDelta(t, foreign, c.foreign.Load(), 1e-6, "requests of others are the sum of those at the servers")
	require.InDelta(t, believed, c.believed.Load(), 1e-6)
	require.EqualValues(t, partly, c.partly.Load())
	require.False(t, math.IsNaN(c.context.Load()))
}

// A burst that comes in on many goroutines at once spreads.
func TestCostSpreadsABurstOfManyGoroutines(t *testing.T) {
	const goroutines, each, servers = 16, 15, 4
	w := newCrowdOfServers(t, servers)
	for i := range w.eps {
		ep := types.NewEndpoint(fmt.Sprint("ep-", i), fmt.Sprint("10.0.0.", i, ":80"))
		ep.Slot = uint32(i)
		w.eps[i].Store(ep)
	}
	eps := w.list()
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range each {
				req := schedulingtest.Request(fmt.Sprint("prompt ", g, " ", i))
				req.Prompt.Tokens, req.Stream = 300, true
				if _, err := w.s.Schedule(context.Background(), req, eps); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, ep := range eps {
		n := ep.Load.Requests()
		require.InDelta(t, goroutines*each/servers, n, goroutines*each/servers/4, "of %d requests over %d servers", goroutines*each, servers)
	}
}
