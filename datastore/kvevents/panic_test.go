package kvevents_test

import (
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/internal/zmtp"
	"github.com/inferpick/inferpick/types"
)

// sink calls at before each of its calls.
type sink struct {
	kvevents.Sink
	at func(string)
}

func (s *sink) Apply(endpoint string, rank int, batch []kvevents.Event) {
	s.at("Apply")
	s.Sink.Apply(endpoint, rank, batch)
}
func (s *sink) Reset(endpoint string, rank int) { s.at("Reset"); s.Sink.Reset(endpoint, rank) }
func (s *sink) State(endpoint string, rank int, state kvevents.State) {
	s.at("State")
	s.Sink.State(endpoint, rank, state)
}
func (s *sink) Remove(endpoint string) { s.at("Remove"); s.Sink.Remove(endpoint) }

// loads publishes a load all the time, and returns where.
func loads(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		c, err := zmtp.New(conn, zmtp.Options{Socket: "PUB", Peers: []string{"SUB"}})
		for n := uint64(0); err == nil; n++ {
			err = c.Send([]byte("load"), binary.BigEndian.AppendUint64(nil, n), []byte("\x95\xa8LoadStat\x03\x02\x05\x06"))
			time.Sleep(time.Millisecond)
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return "tcp://" + l.Addr().String()
}

// Whatever of its options panics, a Subscriber goes on, and knows all once that has stopped.
func TestOptionsPanic(t *testing.T) {
	doubles := []guardtest.Double{guardtest.DoubleOf(func(inner kvevents.Sink, at func(string)) kvevents.Sink { return &sink{inner, at} })}
	index := &kveventstest.Index{}
	var heard atomic.Int64
	p, err := kveventstest.New(kveventstest.Options{})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	load := loads(t)
	base := kvevents.Options{
		Sink: index, OnLoad: func(string, int, kvevents.Load) { heard.Add(1) }, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, ReplayCooldown: time.Millisecond,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	guardtest.Each(t, base, doubles, nil, func(t *testing.T, o kvevents.Options, f *guardtest.Fault) {
		sources := o.Sources
		o.Sources = func(name types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			if sources != nil {
				sources(name, ep)
			}
			switch {
			case ep.Address == "127.0.0.1:1":
				return []kvevents.Source{{Endpoint: "tcp://127.0.0.1:1"}} // nobody
			case f.At == "Transport.RoundTrip":
				return nil
			}
			return []kvevents.Source{p.Source(), {Load: load, LoadTopic: "load"}}
		}
		r := newRig(t, func(all *kvevents.Options) { *all = o })
		r.index = index
		s := r.serve("a", p)
		spec := datastore.EndpointSpec{ID: "a", Address: s.Listener.Addr().String()}
		eventually(t, f.At+" is called", func() bool {
			p.Publish(stored(1))
			p.Restart()
			p.Publish(stored(1))
			time.Sleep(10 * time.Millisecond)
			r.store.RemoveEndpoint(pool, "a")
			require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "127.0.0.1:1"}))
			time.Sleep(10 * time.Millisecond)
			require.NoError(t, r.store.UpsertEndpoint(pool, spec))
			time.Sleep(10 * time.Millisecond)
			return f.Calls() > 0
		})
		f.Off()
		heard.Store(0)
		p.Publish(kvevents.Event{Kind: kvevents.Cleared}, stored(7))
		r.holds("a", kvevents.Live, 7)
		if f.At == "OnLoad" {
			eventually(t, "a load is heard", func() bool { return heard.Load() > 0 })
		}
	})
}
