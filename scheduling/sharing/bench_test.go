package sharing_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// busy is a gateway whose load changes at some endpoints between two ticks.
type busy struct {
	*sharing.Group
	eps  []*types.Endpoint
	part int // of the endpoints, 1 in so many
	at   int
}

func newBusy(b *testing.B, endpoints, part int) *busy {
	g, err := sharing.New(sharing.Options{Key: []byte("0123456789abcdef")})
	require.NoError(b, err)
	w := &busy{Group: g, part: part}
	for i := range endpoints {
		ep := types.NewEndpoint(fmt.Sprint("pod-", i), fmt.Sprintf("10.%d.%d.%d:8000", i>>16, i>>8&255, i&255))
		ep.Load.Book(types.Booking{Requests: 5, Prefilling: 1, PrefillTokens: 4000, ContextTokens: 30_000})
		w.eps = append(w.eps, ep)
	}
	require.NoError(b, g.Add(sharing.Scope{Name: "default/pool", Endpoints: func() []*types.Endpoint { return w.eps }}))
	return w
}

// works changes the load of one in so many endpoints.
func (w *busy) works() {
	w.at++
	for i := w.at % w.part; i < len(w.eps); i += w.part {
		w.eps[i].Load.Book(types.Booking{Requests: int64(1 - 2*(w.at/w.part%2)), PrefillTokens: 100})
	}
}

// BenchmarkTick is what one gateway of eight does in one tick of DefaultEvery: it tells, and hears its seven peers, each
// of which has requests at all endpoints, and others than before at some of them. One tick each DefaultWhole tells all. cpu-% is how
// much of a core that takes; told and heard are bytes a second.
func BenchmarkTick(b *testing.B) {
	const peers, ahead = 7, 32
	for _, endpoints := range []int{100, 1000} {
		for name, part := range map[string]int{"tenth": 10, "all": 1} {
			b.Run(fmt.Sprintf("endpoints=%d/gateways=%d/changed=%s", endpoints, peers+1, name), func(b *testing.B) {
				g, others := newBusy(b, endpoints, part), make([]*busy, peers)
				for i := range others {
					others[i] = newBusy(b, endpoints, part)
				}
				now, told, heard := epoch, 0, 0
				ticks := make([][][]byte, 0, ahead) // what peers tell
				next := 0
				b.ReportAllocs()
				for b.Loop() {
					if next == len(ticks) {
						b.StopTimer()
						ticks, next = ticks[:0], 0
						for i := range ahead {
							at := now.Add(time.Duration(i) * sharing.DefaultEvery)
							var messages [][]byte
							for _, o := range others {
								o.works()
								o.Tell(at, func(msg []byte) { messages = append(messages, bytes.Clone(msg)) })
							}
							ticks = append(ticks, messages)
						}
						b.StartTimer()
					}
					g.works()
					g.Tell(now, func(msg []byte) { told += len(msg) })
					for _, msg := range ticks[next] {
						g.Hear("peer", msg, now)
						heard += len(msg)
					}
					now, next = now.Add(sharing.DefaultEvery), next+1
				}
				perSecond := float64(time.Second/sharing.DefaultEvery) / float64(b.N)
				b.ReportMetric(float64(told)*perSecond, "told-B/s")
				b.ReportMetric(float64(heard)*perSecond, "heard-B/s")
				b.ReportMetric(b.Elapsed().Seconds()*perSecond*100, "cpu-%")
				require.Zero(b, g.Stats(now).Ignored)
			})
		}
	}
}

// BenchmarkStats is what one look at the metrics takes.
func BenchmarkStats(b *testing.B) {
	g := newBusy(b, 1000, 1)
	for range 7 {
		o := newBusy(b, 1000, 1)
		o.Tell(epoch, func(msg []byte) { g.Hear("peer", msg, epoch) })
	}
	b.ReportAllocs()
	for b.Loop() {
		g.Stats(epoch)
	}
}
