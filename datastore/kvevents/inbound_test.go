package kvevents_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/types"
)

// newInbound returns a rig that listens for engines of so many ranks, and where.
func newInbound(t *testing.T, ranks int, change func(*kvevents.Options)) (*rig, []string) {
	t.Helper()
	r := newRig(t, func(o *kvevents.Options) {
		for range ranks {
			o.Listen = append(o.Listen, "127.0.0.1:0")
		}
		if change != nil {
			change(o)
		}
	})
	eventually(t, "listening", func() bool { return len(r.sub.Addrs()) == ranks })
	var at []string
	for _, a := range r.sub.Addrs() {
		at = append(at, a.String())
	}
	return r, at
}

// sources gives all endpoints one source.
func sources(s kvevents.Source) func(*kvevents.Options) {
	return func(o *kvevents.Options) {
		o.Sources = func(types.NamespacedName, *types.Endpoint) []kvevents.Source { return []kvevents.Source{s} }
	}
}

// greeted reports whether a connection is kept open for a greeting, which is sent at once.
func greeted(t *testing.T, address string) (net.Conn, bool) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
	n, _ := io.ReadFull(c, make([]byte, 1))
	return c, n == 1
}

// An engine that connects to us is followed as any other: from its first batch on, over gaps, cuts and
// restarts, by what it replays at a port of its own.
func TestListen(t *testing.T) {
	r, at := newInbound(t, 1, nil)
	p := r.publisher(kveventstest.Options{Connect: at[0], Topic: "kv@127.0.0.1@llama"})
	p.Publish(stored(1, 2))
	r.serve("a", p)
	r.holds("a", kvevents.Live, 1, 2)
	r.subscribed(p)
	p.Publish(stored(3), removed(1))
	r.holds("a", kvevents.Live, 2, 3)
	p.Lose(stored(4))
	p.Publish(stored(5))
	r.holds("a", kvevents.Live, 2, 3, 4, 5)
	p.Cut()
	p.Publish(removed(2))
	r.holds("a", kvevents.Live, 3, 4, 5)
	p.Restart()
	p.Publish(stored(7))
	r.holds("a", kvevents.Live, 7)
	require.True(t, r.store.RemoveEndpoint(pool, "a"))
	eventually(t, "nobody's connection", func() bool { return p.Subscribers() == 0 })
}

// An engine that does not say anything of its events, as old ones, may connect too; there is no replay.
func TestListenWithoutDiscovery(t *testing.T) {
	r, at := newInbound(t, 1, nil)
	r.serve("a", http.NotFoundHandler())
	p := r.publisher(kveventstest.Options{Connect: at[0]})
	r.subscribed(p)
	p.Publish(stored(1))
	r.holds("a", kvevents.Live, 1)
	p.Lose(stored(2))
	p.Publish(stored(3))
	r.holds("a", kvevents.Partial, 1, 3)
}

// Ranks connect to ports of their own.
func TestListenRanks(t *testing.T) {
	r, at := newInbound(t, 2, sources(kvevents.Source{Endpoint: "tcp://gateway:5557", Ranks: 2}))
	require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "localhost:1"}))
	for rank := range 2 {
		p := r.publisher(kveventstest.Options{Connect: at[rank]})
		r.subscribed(p)
		p.Publish(stored(uint64(10 + rank)))
	}
	r.holds("a", kvevents.Live, 10)
	eventually(t, "rank 1", func() bool { return r.index.Held("a", 1).Blocks[kvevents.GPU][11] })
	require.False(t, r.index.Held("a", 0).Blocks[kvevents.GPU][11])
}

// Of several engines at one host, topics say which is which, and none speaks for another one.
func TestListenTopics(t *testing.T) {
	r, at := newInbound(t, 1, sources(kvevents.Source{Endpoint: "tcp://gateway:5557"}))
	var engines []*kveventstest.Publisher
	for i := range 3 {
		address := fmt.Sprintf("127.0.0.1:%d", 1001+i)
		if i == 2 { // nobody's
			address = "127.0.0.1:9"
		} else {
			require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: fmt.Sprint(i), Address: address}))
		}
		engines = append(engines, r.publisher(kveventstest.Options{Connect: at[0], Topic: "kv@" + address + "@llama"}))
	}
	for _, p := range engines {
		r.subscribed(p)
	}
	for i, p := range engines {
		p.Publish(stored(uint64(100 + i)))
	}
	r.holds("0", kvevents.Live, 100)
	r.holds("1", kvevents.Live, 101)
	eventually(t, "a refusal", func() bool { return strings.Contains(r.failed(), "names 0, want the address of one") })
}

// The one at its host speaks for nobody else either.
func TestListenForeignTopic(t *testing.T) {
	r, at := newInbound(t, 1, nil)
	r.serve("a", http.NotFoundHandler())
	p := r.publisher(kveventstest.Options{Connect: at[0], Topic: "kv@10.0.0.9:80@llama"})
	r.subscribed(p)
	p.Publish(stored(1))
	eventually(t, "a refusal", func() bool { return strings.Contains(r.failed(), "is about another endpoint than 127.0.0.1") })
	require.Empty(t, r.index.Held("a", 0).Hashes(kvevents.GPU))
}

// Who is no endpoint's host is not even greeted, and those that say nothing are few, and not for long.
func TestListenHostile(t *testing.T) {
	r, at := newInbound(t, 1, func(o *kvevents.Options) {
		o.MaxPending, o.Timeout = 16, 500*time.Millisecond
		o.Sources = func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			if ep.ID == "b" {
				return []kvevents.Source{}
			}
			return nil
		}
	})
	require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "b", Address: "10.0.0.1:80"})) // not connected to
	_, ok := greeted(t, at[0])
	require.False(t, ok, "nobody is at that host")
	eventually(t, "a refusal", func() bool { return strings.Contains(r.failed(), "which is no endpoint's host") })

	r.serve("a", http.NotFoundHandler())
	var silent []net.Conn
	for len(silent) < 2 {
		if c, ok := greeted(t, at[0]); ok {
			silent = append(silent, c)
		}
	}
	_, ok = greeted(t, at[0])
	require.False(t, ok, "there are two that say nothing")
	eventually(t, "a refusal", func() bool {
		return strings.Contains(r.failed(), "2 connections from 127.0.0.1 that belong to no endpoint yet")
	})
	for _, c := range silent { // they are closed after a while
		_, err := io.Copy(io.Discard, c)
		require.NoError(t, err)
	}
	p := r.publisher(kveventstest.Options{Connect: at[0]})
	r.subscribed(p)
	p.Publish(stored(1))
	r.holds("a", kvevents.Live, 1)
	require.GreaterOrEqual(t, r.sub.Stats().Refused, uint64(4))
}

func TestListenErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	store := datastore.New(datastore.Options{})
	sub, err := kvevents.New(store, kvevents.Options{Sink: &kveventstest.Index{}, Listen: []string{"127.0.0.1:0", l.Addr().String()}})
	require.NoError(t, err)
	for range 2 { // it does not run after that
		err = sub.Run(t.Context())
		require.ErrorContains(t, err, "kvevents: Listen[1]: listen tcp")
	}
	require.Empty(t, sub.Addrs())
	_, err = kvevents.New(store, kvevents.Options{Sink: &kveventstest.Index{}, Listen: make([]string, 65), MaxPending: -1})
	require.ErrorContains(t, err, "Listen")
	require.ErrorContains(t, err, "MaxPending")
}
