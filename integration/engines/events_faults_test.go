package engines_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// asks sends a prompt to a server of a gateway, whose only one it is, and requires an answer.
func asks(t *testing.T, url, prompt string) answer {
	t.Helper()
	a := ask(context.Background(), url, question{prompt: prompt})
	require.NoError(t, a.good())
	return a
}

// long is a prompt of some ten blocks of an engine.
func long(topic string) string { return strings.Repeat(topic+" is what we talk about. ", 50) }

// heldAlike waits until two ledgers have the same of an endpoint, and returns how much.
func heldAlike(t *testing.T, a, b *ledger, endpoint string) int {
	t.Helper()
	alike := within(t, time.Minute, "both to have heard the same", func() bool {
		return slices.Equal(sorted(a.look(endpoint).held), sorted(b.look(endpoint).held))
	})
	if !alike {
		t.Logf("%d and %d blocks", len(a.look(endpoint).held), len(b.look(endpoint).held))
	}
	return len(a.look(endpoint).held)
}

// fresh is what a gateway hears that has just started.
func fresh(t *testing.T, s *vllm.Server) *ledger {
	t.Helper()
	return listening(t, setup{}, []*vllm.Server{s}).ledger
}

// A cache that is cleared, one of an engine that sleeps and wakes: what is told stays what
// is so.
func TestEventsAfterClear(t *testing.T) {
	s := publishing(t, 1)[0]
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"reset", func(t *testing.T) { require.NoError(t, s.Clear(ctx)) }},
		{"sleep", func(t *testing.T) {
			t.Cleanup(func() { require.NoError(t, s.Wake(ctx)) })
			require.NoError(t, s.Sleep(ctx))
			require.NoError(t, s.Wake(ctx))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			emptied(t, []*vllm.Server{s})
			g := listening(t, setup{}, []*vllm.Server{s})
			prompt := long(tt.name)
			asks(t, g.URL, prompt)
			within(t, time.Minute, "its blocks", func() bool { return len(g.ledger.look(s.Address).held) > 8 })
			part := func() float64 {
				const id = "again"
				a := ask(ctx, g.URL, question{id: id, prompt: prompt})
				require.NoError(t, a.good())
				part, detail, ok := g.saidCached(id)
				require.True(t, ok)
				t.Logf("%d of %d tokens were cached, said: %s", a.cached, a.prompt, detail)
				require.InDelta(t, float64(a.cached), part*float64(a.prompt), 3*vllm.BlockSize)
				return part
			}
			require.Greater(t, part(), .8)
			before := g.ledger.look(s.Address)
			tt.do(t)
			asks(t, g.URL, "and now something else: "+long("wake")) // the engine tells with its next request
			if !within(t, time.Minute, "the clearing to be told", func() bool { return g.ledger.look(s.Address).cleared > before.cleared }) {
				return
			}
			part()
			after := g.ledger.look(s.Address)
			t.Logf("%d blocks before, %d after; states %v", len(before.held), len(after.held), after.states)
			heldAlike(t, g.ledger, fresh(t, s), s.Address)
			require.Equal(t, types.KVLive, g.ledger.look(s.Address).state())
			require.Equal(t, len(after.held), g.sink.Stats().Held)
		})
	}
}

// relay passes connections on to another address, and cuts them.
type relay struct {
	net.Listener
	mu    sync.Mutex
	to    string
	down  bool
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{Listener: l, to: strings.TrimPrefix(to, "tcp://"), conns: map[net.Conn]bool{}}
	r.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.all.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.cut(true)
		r.all.Wait()
	})
	return r
}

func (r *relay) pass(c net.Conn) {
	defer c.Close()
	r.mu.Lock()
	to, down := r.to, r.down
	r.mu.Unlock()
	if down {
		return
	}
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	r.mu.Lock()
	r.conns[c], r.conns[far] = true, true
	if r.down {
		c.Close()
	}
	r.mu.Unlock()
	go func() {
		_, _ = io.Copy(far, c)
		far.Close()
	}()
	_, _ = io.Copy(c, far)
	r.mu.Lock()
	delete(r.conns, c)
	delete(r.conns, far)
	r.mu.Unlock()
}

// cut cuts all connections, and lets none pass until restore if down.
func (r *relay) cut(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	for c := range r.conns {
		c.Close()
	}
}

func (r *relay) source() string { return "tcp://" + r.Addr().String() }

// What was published while the connection was cut is replayed.
func TestEventsAfterCut(t *testing.T) {
	s := publishing(t, 1)[0]
	live, replay, err := s.Sources(context.Background())
	require.NoError(t, err)
	emptied(t, []*vllm.Server{s})
	cut := newRelay(t, live)
	replays := newRelay(t, replay)
	g := listening(t, setup{listen: &kvevents.Options{
		MinBackoff: 50 * time.Millisecond, MaxBackoff: time.Second,
		Sources: func(types.NamespacedName, *types.Endpoint) []kvevents.Source {
			return []kvevents.Source{{Endpoint: cut.source(), Replay: replays.source(), Topic: vllm.Topic}}
		},
	}}, []*vllm.Server{s})
	asks(t, g.URL, long("before"))
	within(t, time.Minute, "blocks", func() bool { return len(g.ledger.look(s.Address).held) > 8 })
	for i := range 3 {
		before, replayed := g.ledger.look(s.Address), g.events.Stats().Replayed
		cut.cut(true)
		within(t, time.Minute, "the cut to be seen", func() bool { return g.ledger.look(s.Address).state() == types.KVUnsynced })
		asks(t, s.URL(""), long(fmt.Sprint("while cut ", i)))
		asks(t, s.URL(""), long(fmt.Sprint("still cut ", i)))
		require.Len(t, g.ledger.look(s.Address).held, len(before.held))
		cut.mu.Lock()
		cut.down = false
		cut.mu.Unlock()
		within(t, time.Minute, "the state to be live", func() bool { return g.ledger.look(s.Address).state() == types.KVLive })
		after := g.ledger.look(s.Address)
		require.Greater(t, len(after.held), len(before.held))
		require.Greater(t, g.events.Stats().Replayed, replayed)
		require.Equal(t, before.resets, after.resets, "nothing is forgotten for it")
		t.Logf("cut %d: %d blocks before, %d after, %d batches replayed, states %v", i, len(before.held), len(after.held),
			g.events.Stats().Replayed-replayed, after.states[len(before.states):])
	}
	n := heldAlike(t, g.ledger, fresh(t, s), s.Address)
	require.Equal(t, n, g.sink.Stats().Held)
}

// expendable returns a server that a test may kill: one that the tests started, or else a new one.
func expendable(t *testing.T) *vllm.Server {
	t.Helper()
	for _, s := range servers(t) {
		if s.Ours() {
			return s
		}
	}
	in, err := vllm.Find(os.Getenv)
	if err != nil {
		t.Skipf("the servers are not ours to kill, and there is no other: %v", err)
	}
	s, err := in.Start(t.TempDir()+"/log", vllm.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	up(t, s)
	return s
}

func up(t *testing.T, s *vllm.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), *starting)
	defer cancel()
	require.NoError(t, s.Ready(ctx, t.Logf), "%s", s.Tail(40))
}

// An engine that is killed and starts anew holds nothing, and is followed again.
func TestEventsAfterRestart(t *testing.T) {
	s := expendable(t)
	g := listening(t, setup{listen: &kvevents.Options{DiscoverInterval: 5 * time.Second}}, []*vllm.Server{s})
	prompt := long("restart")
	asks(t, g.URL, prompt)
	require.Positive(t, asks(t, g.URL, prompt).cached)
	within(t, time.Minute, "its blocks", func() bool { return len(g.ledger.look(s.Address).held) > 8 })
	before := g.ledger.look(s.Address)
	require.NoError(t, s.Restart())
	within(t, time.Minute, "the end to be seen", func() bool { return g.ledger.look(s.Address).state() == types.KVUnsynced })
	up(t, s)
	within(t, 2*time.Minute, "the new process to be followed, which holds nothing", func() bool {
		a := g.ledger.look(s.Address)
		return a.state() == types.KVLive && len(a.held) == 0
	})
	require.Zero(t, g.sink.Stats().Held)
	const id = "after"
	a := ask(context.Background(), g.URL, question{id: id, prompt: prompt})
	require.NoError(t, a.good())
	part, detail, ok := g.saidCached(id)
	require.True(t, ok)
	require.Zero(t, a.cached)
	require.Zero(t, part, detail)
	within(t, time.Minute, "its blocks", func() bool { return len(g.ledger.look(s.Address).held) > 8 })
	after := g.ledger.look(s.Address)
	t.Logf("%d blocks before, %d after; states %v, %d resets; %+v", len(before.held), len(after.held), after.states, after.resets, g.events.Stats())
	heldAlike(t, g.ledger, fresh(t, s), s.Address)
}

var _ kvevents.Sink = (*plugins.KVSink)(nil)
