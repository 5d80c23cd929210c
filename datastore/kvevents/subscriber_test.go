package kvevents_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/types"
)

var pool = types.NamespacedName{Namespace: "default", Name: "p"}

func stored(hashes ...uint64) kvevents.Event {
	return kvevents.Event{Kind: kvevents.Stored, Hashes: hashes, BlockSize: 16, Full: true}
}

func removed(hashes ...uint64) kvevents.Event {
	return kvevents.Event{Kind: kvevents.Removed, Hashes: hashes, Full: true}
}

// rig is a Subscriber of a store, and what it tells.
type rig struct {
	t     *testing.T
	store *datastore.Store
	index *kveventstest.Index
	sub   *kvevents.Subscriber
	stop  func()

	mu       sync.Mutex
	failures []kvevents.Failure
}

// newRig returns one that runs until the end of the test. Its waits are as short as can be.
func newRig(t *testing.T, change func(*kvevents.Options)) *rig {
	t.Helper()
	r := &rig{t: t, index: &kveventstest.Index{}}
	r.store = datastore.New(datastore.Options{})
	var err error
	o := kvevents.Options{
		Sink: r.index, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, ReplayCooldown: time.Millisecond,
		OnFailure: func(f kvevents.Failure) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.failures = append(r.failures, f)
		},
	}
	if change != nil {
		change(&o)
	}
	r.sub, err = kvevents.New(r.store, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.sub.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(r.stop)
	return r
}

// failed returns what the failures said.
func (r *rig) failed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, f := range r.failures {
		all = append(all, f.Err.Error())
	}
	return strings.Join(all, "\n")
}

// serve adds an endpoint whose HTTP server is h.
func (r *rig) serve(id string, h http.Handler) *httptest.Server {
	r.t.Helper()
	s := httptest.NewServer(h)
	r.t.Cleanup(s.Close)
	require.NoError(r.t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: id, Address: s.Listener.Addr().String()}))
	return s
}

func (r *rig) publisher(o kveventstest.Options) *kveventstest.Publisher {
	r.t.Helper()
	p, err := kveventstest.New(o)
	require.NoError(r.t, err)
	r.t.Cleanup(p.Close)
	return p
}

// eventually waits for what is sure to come.
func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !fn() {
		require.True(t, time.Now().Before(deadline), "in vain: %s", what)
		time.Sleep(time.Millisecond)
	}
}

// holds waits until an endpoint is known to be in a state and to hold these blocks.
func (r *rig) holds(id string, s kvevents.State, hashes ...uint64) {
	r.t.Helper()
	var got kveventstest.Held
	deadline := time.Now().Add(30 * time.Second)
	for {
		if got = r.index.Held(id, 0); got.State == s && cmp.Equal(got.Hashes(kvevents.GPU), hashes) {
			return
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	require.Equal(r.t, s, got.State, "%s: %+v\n%s", id, r.sub.Stats(), r.failed())
	require.Equal(r.t, hashes, got.Hashes(kvevents.GPU))
}

func (r *rig) subscribed(p *kveventstest.Publisher) {
	r.t.Helper()
	eventually(r.t, "a subscription", func() bool { return p.Subscribers() == 1 })
}

func TestFollow(t *testing.T) {
	for name, o := range map[string]kveventstest.Options{
		"today": {Topic: "kv@10.0.0.7:8000@llama"}, "arrays": {Arrays: true}, "replays without topic": {NoTopic: true, Arrays: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.publisher(o)
			p.Publish(stored(1, 2))
			r.serve("a", p)
			r.holds("a", kvevents.Live, 1, 2)
			r.subscribed(p)
			p.Publish(stored(3), removed(1))
			r.holds("a", kvevents.Live, 2, 3)
			p.Lose(stored(4))
			p.Publish(stored(5), removed(2))
			r.holds("a", kvevents.Live, 3, 4, 5)
			p.Publish(kvevents.Event{Kind: kvevents.Cleared}, stored(6))
			r.holds("a", kvevents.Live, 6)

			p.Cut()
			p.Publish(removed(6), stored(7))
			r.holds("a", kvevents.Live, 7)
			require.Zero(t, r.index.Held("a", 0).Resets, "nothing was missed")

			p.Restart()
			p.Publish(stored(8))
			r.holds("a", kvevents.Live, 8)
			s := r.sub.Stats()
			require.NotZero(t, s.Gaps)
			require.NotZero(t, s.Resets)
			require.GreaterOrEqual(t, s.Replays, uint64(3))
			require.Zero(t, s.ReplayErrors+s.BatchErrors+s.ProtocolErrors+s.Panics)

			require.True(t, r.store.RemoveEndpoint(pool, "a"))
			eventually(t, "the endpoint is forgotten", func() bool { return len(r.index.Endpoints()) == 0 })
			eventually(t, "nobody listens", func() bool { return p.Subscribers() == 0 })
		})
	}
}

func TestWithoutReplay(t *testing.T) {
	r := newRig(t, nil)
	p := r.publisher(kveventstest.Options{NoReplay: true})
	r.serve("a", p)
	r.subscribed(p)
	p.Publish(stored(1))
	r.holds("a", kvevents.Live, 1)
	p.Lose(stored(2))
	p.Publish(stored(3))
	r.holds("a", kvevents.Partial, 1, 3)
	p.Publish(kvevents.Event{Kind: kvevents.Cleared}, stored(4))
	r.holds("a", kvevents.Live, 4)
	p.Restart()
	r.subscribed(p)
	p.Publish(stored(5))
	r.holds("a", kvevents.Live, 5)
	p.Restart()
	p.Lose(stored(6))
	r.subscribed(p)
	p.Publish(stored(7)) // as far as the one before: it cannot be told apart but by its number
	p.Publish(stored(8))
	r.holds("a", kvevents.Partial, 5, 7, 8)

	// One that is joined late.
	q := r.publisher(kveventstest.Options{NoReplay: true})
	q.Publish(stored(1))
	r.serve("b", q)
	r.subscribed(q)
	q.Publish(stored(2))
	r.holds("b", kvevents.Late, 2)
}

func TestMoreThanIsKept(t *testing.T) {
	r := newRig(t, nil)
	p := r.publisher(kveventstest.Options{Buffer: 2})
	for h := range uint64(5) {
		p.Publish(stored(h))
	}
	r.serve("a", p)
	r.holds("a", kvevents.Late, 3, 4)
	r.subscribed(p)
	for h := range uint64(4) {
		p.Lose(stored(10 + h))
	}
	p.Publish(stored(20))
	r.holds("a", kvevents.Late, 13, 20)
}

// A replay that cannot be had is not asked for again before the cool-down is over, and made up for
// after that.
func TestReplayFails(t *testing.T) {
	var p *kveventstest.Publisher
	var broken atomic.Bool
	broken.Store(true)
	with := func(cool time.Duration) *rig {
		return newRig(t, func(o *kvevents.Options) {
			o.ReplayCooldown = cool
			o.Sources = func(types.NamespacedName, *types.Endpoint) []kvevents.Source { return []kvevents.Source{p.Source()} }
			o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if broken.Load() && "tcp://"+address == p.ReplayEndpoint() {
					return nil, errors.New("broken")
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
		})
	}
	patient, hasty := with(time.Hour), with(10*time.Millisecond)
	p = patient.publisher(kveventstest.Options{})
	p.Publish(stored(1))
	for _, r := range []*rig{patient, hasty} {
		require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "127.0.0.1:1"}))
	}
	eventually(t, "both subscribe", func() bool { return p.Subscribers() == 2 })
	p.Publish(stored(2))
	p.Lose(stored(3))
	p.Publish(stored(4))
	patient.holds("a", kvevents.Partial, 2, 4)
	require.Equal(t, uint64(1), patient.sub.Stats().ReplayErrors)
	require.Equal(t, uint64(3), patient.sub.Stats().Replays, "tries of one replay")
	require.Equal(t, "kvevents: broken", patient.failed())

	broken.Store(false)
	hasty.holds("a", kvevents.Live, 1, 2, 3, 4)
	patient.holds("a", kvevents.Partial, 2, 4)
}

// A batch that comes after the first replay and before the subscription holds is not missed, even
// if no other one comes.
func TestLateSubscription(t *testing.T) {
	var p *kveventstest.Publisher
	release := make(chan struct{})
	r := newRig(t, func(o *kvevents.Options) {
		o.ReplayIdle = 50 * time.Millisecond
		o.Sources = func(types.NamespacedName, *types.Endpoint) []kvevents.Source { return []kvevents.Source{p.Source()} }
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if "tcp://"+address == p.Endpoint() && err == nil {
				conn = &lateConn{Conn: conn, release: release}
			}
			return conn, err
		}
	})
	p = r.publisher(kveventstest.Options{})
	p.Publish(stored(1))
	require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "127.0.0.1:1"}))
	r.holds("a", kvevents.Live, 1)
	p.Publish(stored(2))
	close(release)
	r.subscribed(p)
	r.holds("a", kvevents.Live, 1, 2)
}

// lateConn holds back what is sent after the handshake: the subscription.
type lateConn struct {
	net.Conn
	writes  int
	release chan struct{}
}

func (c *lateConn) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 1 {
		return c.Conn.Write(b)
	}
	late := append([]byte(nil), b...)
	go func() {
		<-c.release
		_, _ = c.Conn.Write(late)
	}()
	return len(b), nil
}

// A port for replays that takes connections and says nothing holds up nobody else's replay.
func TestReplayHangs(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	var p *kveventstest.Publisher
	r := newRig(t, func(o *kvevents.Options) {
		o.Replays, o.Timeout = 1, time.Hour
		o.Sources = func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			s := p.Source()
			if ep.ID == "hangs" {
				s.Replay = "tcp://" + silent.Addr().String()
			}
			return []kvevents.Source{s}
		}
	})
	p = r.publisher(kveventstest.Options{})
	p.Publish(stored(1))
	require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "hangs", Address: "127.0.0.1:1"}))
	eventually(t, "it asks", func() bool { return r.sub.Stats().Replays == 1 })
	require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "127.0.0.1:2"}))
	r.holds("a", kvevents.Live, 1)
	require.Zero(t, r.sub.Stats().ReplayErrors)
}

// Each of these is at the port of a publisher, and at that of an endpoint that does well beside it.
func TestHostilePublishers(t *testing.T) {
	const greeting = "ff00000000000000017f" + "0301" + "4e554c4c00000000000000000000000000000000" + "00" + "00000000000000000000000000000000000000000000000000000000000000"
	const ready = "0419055245414459" + "0b536f636b65742d54797065" + "00000003505542"
	for name, c := range map[string]struct{ sends, want string }{
		"a web server":        {"485454502f312e312034303020426164205265717565737400", `the peer does not speak ZMTP: what it sends begins with "HTTP/1.1 400 Bad Request\x00"`},
		"another socket":      {greeting + "041c0552454144590b536f636b65742d5479706500000006524f55544552", `the peer is a "ROUTER" socket, want PUB or XPUB for our SUB`},
		"an endless frame":    {greeting + ready + "02ffffffffffffffff", "a message of more than 16777216 bytes"},
		"endless frames":      {greeting + ready + strings.Repeat("0100", 100), "a message of more than 64 frames"},
		"two frames":          {greeting + ready + "0100" + "0000", "a message of frames of [0 0] bytes, want a topic, a number of 8 and a batch"},
		"no batch":            {greeting + ready + "0100" + "01080000000000000000" + "000180", "a batch cannot be read: msgpack: at byte 0 of 1: a value is of type map, want array"},
		"nothing, and closes": {"", "the peer closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						sends := unhex(t, c.sends)
						_, _ = conn.Write(sends)
						if len(sends) > 0 {
							_, _ = io.Copy(io.Discard, conn)
						}
					}()
				}
			}()
			var logs lockedBuffer
			var p *kveventstest.Publisher
			r := newRig(t, func(o *kvevents.Options) {
				o.Logger = slog.New(slog.NewTextHandler(&logs, nil))
				o.Sources = func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
					if ep.ID == "bad" {
						return []kvevents.Source{{Endpoint: "tcp://" + l.Addr().String()}}
					}
					return []kvevents.Source{p.Source()}
				}
			})
			p = r.publisher(kveventstest.Options{})
			require.NoError(t, r.store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "bad", Address: "127.0.0.1:1"}, {ID: "good", Address: "127.0.0.1:2"}}))
			eventually(t, c.want, func() bool { return strings.Contains(r.failed(), c.want) })
			eventually(t, "it is tried again", func() bool {
				return name == "no batch" || r.sub.Stats().ConnectionErrors+r.sub.Stats().ProtocolErrors > 2
			})
			p.Publish(stored(1))
			r.holds("good", kvevents.Live, 1)
			require.LessOrEqual(t, strings.Count(logs.String(), "cannot be listened to"), 1, "once, not each time")
			require.Empty(t, r.index.Held("bad", 0).Hashes(kvevents.GPU))
		})
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Where one port has the topics of several servers, each is told of its own.
func TestForeignTopics(t *testing.T) {
	var p *kveventstest.Publisher
	r := newRig(t, func(o *kvevents.Options) {
		o.Sources = func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			return []kvevents.Source{{Endpoint: p.Endpoint(), Topic: "kv@" + ep.ID}}
		}
	})
	p = r.publisher(kveventstest.Options{Topic: "kv@a1"})
	require.NoError(t, r.store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "a", Address: "127.0.0.1:1"}, {ID: "a1", Address: "127.0.0.1:2"}, {ID: "b", Address: "127.0.0.1:3"}}))
	eventually(t, "those that may be meant subscribe", func() bool { return p.Subscribers() == 2 })
	p.Publish(stored(1))
	r.holds("a1", kvevents.Live, 1)
	eventually(t, "it is counted", func() bool { return r.sub.Stats().Foreign == 1 })
	require.Empty(t, r.index.Held("a", 0).Hashes(kvevents.GPU))
}

// A slow Sink holds up its own endpoint, one that panics is told anew.
func TestSlowAndPanickingSinks(t *testing.T) {
	index := &kveventstest.Index{}
	s := &awkward{Index: index, release: make(chan struct{})}
	r := newRig(t, func(o *kvevents.Options) { o.Sink = s })
	r.index = index
	var ps []*kveventstest.Publisher
	for _, id := range []string{"slow", "panics", "fine"} {
		p := r.publisher(kveventstest.Options{})
		r.serve(id, p)
		r.subscribed(p)
		p.Publish(stored(1))
		ps = append(ps, p)
	}
	r.holds("fine", kvevents.Live, 1)
	r.holds("panics", kvevents.Live, 1)
	require.Equal(t, uint64(1), r.sub.Stats().Panics)
	require.Contains(t, r.failed(), "kvevents: panic: awkward")
	for range 5000 { // more than is kept for it in the publisher
		ps[0].Publish(stored(2), removed(2))
	}
	ps[0].Publish(stored(3))
	ps[2].Publish(stored(4))
	r.holds("fine", kvevents.Live, 1, 4)
	close(s.release)
	ps[0].Publish(stored(5))
	r.holds("slow", kvevents.Live, 1, 3, 5)
}

type awkward struct {
	*kveventstest.Index
	release chan struct{}
	once    sync.Once
}

func (s *awkward) Apply(endpoint string, rank int, batch []kvevents.Event) {
	switch endpoint {
	case "slow":
		<-s.release
	case "panics":
		s.once.Do(func() { panic("awkward") })
	}
	s.Index.Apply(endpoint, rank, batch)
}

// Of two endpoints with one name one is listened to, and the other one after it.
func TestSameName(t *testing.T) {
	var p *kveventstest.Publisher
	r := newRig(t, func(o *kvevents.Options) {
		o.Sources = func(types.NamespacedName, *types.Endpoint) []kvevents.Source { return []kvevents.Source{p.Source()} }
		o.Name = func(types.NamespacedName, *types.Endpoint) string { return "x" }
	})
	p = r.publisher(kveventstest.Options{})
	other := types.NamespacedName{Namespace: "default", Name: "other"}
	spec := []datastore.EndpointSpec{{ID: "a", Address: "127.0.0.1:1"}}
	require.NoError(t, r.store.SetEndpoints(pool, spec))
	r.subscribed(p)
	require.NoError(t, r.store.SetEndpoints(other, spec))
	p.Publish(stored(1))
	r.holds("x", kvevents.Live, 1)
	require.Equal(t, uint64(1), r.sub.Stats().Connects)
	require.NoError(t, r.store.SetEndpoints(pool, nil))
	eventually(t, "the other one connects", func() bool { return r.sub.Stats().Connects == 2 })
	r.holds("x", kvevents.Live, 1)
	require.NoError(t, r.store.SetEndpoints(other, nil))
	eventually(t, "the endpoint is forgotten", func() bool { return len(r.index.Endpoints()) == 0 })
}

func TestRunEndsAllGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	require.NoError(t, err)
	defer silent.Close()
	r := newRig(t, func(o *kvevents.Options) {
		o.Sources = func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			if ep.ID == "silent" {
				return []kvevents.Source{{Endpoint: "tcp://" + silent.Addr().String(), Load: "tcp://" + silent.Addr().String(), Ranks: 1}}
			}
			return nil
		}
		o.OnLoad = func(string, int, kvevents.Load) {}
	})
	p := r.publisher(kveventstest.Options{})
	web := r.serve("a", p)
	require.NoError(t, r.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "silent", Address: "127.0.0.1:1"}))
	p.Publish(stored(1))
	r.holds("a", kvevents.Live, 1)
	require.ErrorIs(t, r.sub.Run(context.Background()), kvevents.ErrRunning)
	r.stop()
	r.holds("a", kvevents.Unsynced, 1) // it may be of use still
	web.Close()
	p.Close()
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

func TestOptions(t *testing.T) {
	_, err := kvevents.New(nil, kvevents.Options{Replays: 2000, DiscoverInterval: time.Millisecond, MaxRanks: -1})
	require.EqualError(t, err, strings.Join([]string{
		"kvevents: Sink is required, unless OnLoad is set",
		"kvevents: DiscoverInterval is 1ms, want at least 1s, or 0 for the default 1m0s",
		"kvevents: Replays is 2000, want 1 to 1024, or 0 for the default 8",
		"kvevents: MaxRanks is -1, want 1 to 4096, or 0 for the default 64",
	}, "\n"))
}

func TestSources(t *testing.T) {
	for _, c := range []struct {
		name     string
		source   kvevents.Source
		byEngine bool
		want     string
		err      string
	}{
		{name: "wildcards are the endpoint", source: kvevents.Source{Endpoint: "tcp://*:5557", Replay: "tcp://0.0.0.0:5558"}, want: "[[10.0.0.7:5557 10.0.0.7:5558  ]]"},
		{name: "so are loopback and nothing", source: kvevents.Source{Endpoint: "tcp://127.0.0.1:5557", Replay: "tcp://:5558", Load: "tcp://[::]:5559"}, want: "[[10.0.0.7:5557 10.0.0.7:5558 10.0.0.7:5559 ]]"},
		{name: "ranks", source: kvevents.Source{Endpoint: "tcp://*:5557", Replay: "tcp://*:6557", Ranks: 2}, want: "[[10.0.0.7:5557 10.0.0.7:6557  ] [10.0.0.7:5558 10.0.0.7:6558  ]]"},
		{name: "a host that a user names", source: kvevents.Source{Endpoint: "tcp://proxy:5557"}, want: "[[proxy:5557   ]]"},
		{name: "a host that an engine names", source: kvevents.Source{Endpoint: "tcp://10.0.0.8:5557"}, byEngine: true, want: "[[10.0.0.7:5557   ]]"},
		{name: "http", source: kvevents.Source{Endpoint: "http://:8000/kv_cache_events"}, want: "[[   http://10.0.0.7:8000/kv_cache_events]]"},
		{name: "load alone", source: kvevents.Source{Load: "tcp://*:1"}, want: "[[  10.0.0.7:1 ]]"},
		{name: "nothing", err: "kvevents: a Source without Endpoint and Load, want one of them"},
		{name: "another way", source: kvevents.Source{Endpoint: "ipc:///tmp/x"}, err: `kvevents: Endpoint is "ipc:///tmp/x", want tcp://host:port`},
		{name: "another way with a host", source: kvevents.Source{Endpoint: "udp://a:1"}, err: `kvevents: Endpoint is "udp://a:1", want tcp://host:port: nothing else can be reached from another host`},
		{name: "no port", source: kvevents.Source{Endpoint: "tcp://*:5557", Replay: "tcp://*"}, err: `kvevents: Replay is "tcp://*", want a port from 1 to 65535, that of the last rank too`},
		{name: "ports end", source: kvevents.Source{Endpoint: "tcp://*:65535", Ranks: 2}, err: `kvevents: Endpoint is "tcp://*:65535", want a port from 1 to 65535, that of the last rank too`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := kvevents.Expand(c.source, "10.0.0.7", c.byEngine)
			if c.err != "" {
				require.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, fmt.Sprint(got))
		})
	}
}
