package kvevents_test

import (
	"context"
	"encoding/binary"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/internal/zmtp"
	"github.com/inferpick/inferpick/types"
)

// counting is a Sink that counts blocks, and closes done when they are enough.
type counting struct {
	left int
	done chan struct{}
}

func (c *counting) Apply(_ string, _ int, batch []kvevents.Event) {
	for i := range batch {
		c.left -= len(batch[i].Hashes)
	}
	if c.left <= 0 && c.done != nil {
		close(c.done)
		c.done = nil
	}
}

func (*counting) Reset(string, int)                 {}
func (*counting) State(string, int, kvevents.State) {}
func (*counting) Remove(string)                     {}

// BenchmarkFollow: blocks per second from a publisher on loopback to the Sink, in batches of 8 with
// 16 token ids each. The publisher sends what is encoded already, and takes part of a core too.
func BenchmarkFollow(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	payload := kveventstest.AppendBatch(nil, 1, batch(), false)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		c, err := zmtp.New(conn, zmtp.Options{Socket: "PUB", Peers: []string{"SUB"}})
		if err != nil {
			return
		}
		if _, err := c.Receive(); err != nil {
			return
		}
		var many []byte
		for seq := range uint64(b.N) {
			many = append(many, 1, 0, 1, 8)
			many = binary.BigEndian.AppendUint64(many, seq)
			many = append(many, 2)
			many = binary.BigEndian.AppendUint64(many, uint64(len(payload)))
			many = append(many, payload...)
			if len(many) > 1<<16 || seq == uint64(b.N)-1 {
				if _, err := conn.Write(many); err != nil {
					return
				}
				many = many[:0]
			}
		}
		_, _ = c.Receive()
	}()
	store := datastore.New(datastore.Options{})
	require.NoError(b, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "127.0.0.1:1"}))
	sink := &counting{left: 8 * b.N, done: make(chan struct{})}
	done := sink.done
	sub, err := kvevents.New(store, kvevents.Options{Sink: sink, Sources: func(types.NamespacedName, *types.Endpoint) []kvevents.Source {
		return []kvevents.Source{{Endpoint: "tcp://" + l.Addr().String()}}
	}})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	b.ResetTimer()
	go func() { ended <- sub.Run(ctx) }()
	<-done
	b.StopTimer()
	b.ReportMetric(8*float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
	cancel()
	require.NoError(b, <-ended)
}
