package engines_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/internal/zmtp"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// told is what an engine published once: see record_events.py.
type told struct {
	live, replay []message3
	held         []uint64 // in order, as libzmq and msgspec have it
}

// message3 is topic, number and batch.
type message3 [3][]byte

func (m message3) number() uint64 { return binary.BigEndian.Uint64(m[1]) }

// published is the batch of a number, as it was published.
func (r told) published(number uint64) []byte {
	for _, m := range r.live {
		if m.number() == number {
			return m[2]
		}
	}
	return nil
}

// readTold reads a recording.
func readTold(t *testing.T, path string) (r told) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0 || fields[0] == "#":
		case fields[0] == "held":
			for _, h := range fields[1:] {
				n, err := strconv.ParseUint(h, 10, 64)
				require.NoError(t, err)
				r.held = append(r.held, n)
			}
		default:
			require.Len(t, fields, 4)
			var m message3
			for i, text := range fields[1:] {
				switch text {
				case "-":
				case "=":
					m[i] = r.published(m.number())
				default:
					m[i], err = base64.StdEncoding.DecodeString(text)
					require.NoError(t, err)
				}
			}
			if fields[0] == "live" {
				r.live = append(r.live, m)
			} else {
				r.replay = append(r.replay, m)
			}
		}
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, r.live)
	require.Equal(t, uint64(math.MaxUint64), r.replay[len(r.replay)-1].number(), "the end marker of the replay")
	return r
}

// stage plays back what an engine published: as much of it as was played so far.
type stage struct {
	t         *testing.T
	recording told
	live      net.Listener
	replays   net.Listener

	mu            sync.Mutex
	moved         *sync.Cond
	played        int // messages of the live recording
	lose          map[int]bool
	conns         map[net.Conn]bool
	subscriptions int
	closed        bool
}

func newStage(t *testing.T, r told) *stage {
	t.Helper()
	s := &stage{t: t, recording: r, lose: map[int]bool{}, conns: map[net.Conn]bool{}}
	s.moved = sync.NewCond(&s.mu)
	var all sync.WaitGroup
	for _, l := range []struct {
		to    *net.Listener
		opt   zmtp.Options
		serve func(*zmtp.Conn)
	}{
		{&s.live, zmtp.Options{Socket: "PUB", Peers: []string{"SUB"}}, s.publish},
		{&s.replays, zmtp.Options{Socket: "ROUTER", Peers: []string{"DEALER"}}, s.answer},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		*l.to = listener
		all.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				all.Go(func() {
					defer conn.Close()
					s.mu.Lock()
					s.conns[conn] = true
					s.mu.Unlock()
					if c, err := zmtp.New(conn, l.opt); err == nil {
						l.serve(c)
					}
				})
			}
		})
	}
	t.Cleanup(func() {
		s.live.Close()
		s.replays.Close()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.cut()
		all.Wait()
	})
	return s
}

// publish sends a subscriber what is played from now on.
func (s *stage) publish(c *zmtp.Conn) {
	if _, err := c.Receive(); err != nil { // the subscription
		return
	}
	s.mu.Lock()
	next := s.played
	s.subscriptions++
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = c.Receive() // until it is cut
		s.mu.Lock()
		s.moved.Broadcast()
		s.mu.Unlock()
	}()
	for {
		s.mu.Lock()
		for next == s.played && !s.closed && !isClosed(gone) {
			s.moved.Wait()
		}
		if s.closed || isClosed(gone) {
			s.mu.Unlock()
			return
		}
		m, lost := s.recording.live[next], s.lose[next]
		next++
		s.mu.Unlock()
		if !lost && c.Send(m[0], m[1], m[2]) != nil {
			return
		}
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// answer answers requests for replays with what was played so far.
func (s *stage) answer(c *zmtp.Conn) {
	for {
		request, err := c.Receive()
		if err != nil {
			return
		}
		from := binary.BigEndian.Uint64(request[len(request)-1])
		s.mu.Lock()
		last := int64(-1) // number of what was published last
		if s.played > 0 {
			last = int64(s.recording.live[s.played-1].number())
		} else {
			last = int64(s.recording.live[0].number()) - 1
		}
		s.mu.Unlock()
		for _, m := range s.recording.replay {
			n := m.number()
			if n == math.MaxUint64 || n >= from && int64(n) <= last {
				if c.Send(nil, m[0], m[1], m[2]) != nil {
					return
				}
			}
		}
	}
}

// subscribed waits for so many subscriptions in all.
func (s *stage) subscribed(n int) {
	s.t.Helper()
	within(s.t, time.Minute, "a subscriber", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.subscriptions >= n
	})
}

// play publishes up to so many messages in all.
func (s *stage) play(n int) {
	s.mu.Lock()
	s.played = n
	s.moved.Broadcast()
	s.mu.Unlock()
}

// cut closes all connections.
func (s *stage) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
		delete(s.conns, c)
	}
	s.moved.Broadcast()
}

// hear listens to a stage until the end of the test. It returns what is heard, and the name
// under which.
func hear(t *testing.T, s *stage, replays bool) (*ledger, string, *kvevents.Subscriber) {
	t.Helper()
	const name = "127.0.0.1:8000"
	source := kvevents.Source{Endpoint: "tcp://" + s.live.Addr().String()}
	if replays {
		source.Replay = "tcp://" + s.replays.Addr().String()
	}
	l := newLedger(nil)
	return l, name, listenTo(t, l, name, source)
}

// listenTo tells a Sink what comes from a source, until the end of the test.
func listenTo(t *testing.T, l kvevents.Sink, name string, source kvevents.Source) *kvevents.Subscriber {
	t.Helper()
	store := datastore.New(datastore.Options{})
	require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{Address: name}))
	sub, err := kvevents.New(store, kvevents.Options{
		Sink: l, Tokens: true, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond, ReplayCooldown: 10 * time.Millisecond,
		Sources: func(types.NamespacedName, *types.Endpoint) []kvevents.Source { return []kvevents.Source{source} },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		_ = sub.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ran
	})
	return sub
}

func recordedEvents(t *testing.T) map[string]told {
	t.Helper()
	files, err := filepath.Glob("testdata/*/events.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := map[string]told{}
	for _, f := range files {
		all[filepath.Base(filepath.Dir(f))] = readTold(t, f)
	}
	return all
}

func sorted(held map[uint64]bool) (all []uint64) {
	for h := range held {
		all = append(all, h)
	}
	slices.Sort(all)
	return all
}

// holds waits until all that was told is that an endpoint holds just these blocks.
func holds(t *testing.T, l *ledger, endpoint string, want []uint64) {
	t.Helper()
	if !within(t, time.Minute, "all that is held", func() bool {
		a := l.look(endpoint)
		return slices.Equal(sorted(a.held), want) && a.state() == types.KVLive
	}) {
		a := l.look(endpoint)
		t.Errorf("%d blocks held, want %d; states %v, %d resets", len(a.held), len(want), a.states, a.resets)
	}
}

// What real engines published leads to what libzmq and msgspec make of it, however the
// connection fails.
func TestRecordedEvents(t *testing.T) {
	for name, r := range recordedEvents(t) {
		n := len(r.live)
		t.Run(name+"/late", func(t *testing.T) {
			s := newStage(t, r)
			s.play(n)
			l, endpoint, _ := hear(t, s, true)
			holds(t, l, endpoint, r.held)
			a := l.look(endpoint)
			t.Logf("%d messages, %d replayed: %d blocks stored, %d removed, %d cleared, %d held", n, len(r.replay)-1, a.stored, a.removed, a.cleared, len(a.held))
			require.NotZero(t, a.stored)
			require.NotZero(t, a.removed)
		})
		t.Run(name+"/as it comes", func(t *testing.T) {
			s := newStage(t, r)
			l, endpoint, sub := hear(t, s, true)
			s.subscribed(1)
			s.play(n)
			holds(t, l, endpoint, r.held)
			if r.live[0].number() == 0 {
				require.Zero(t, sub.Stats().Gaps)
			}
		})
		t.Run(name+"/messages are lost", func(t *testing.T) {
			s := newStage(t, r)
			for i := 1; i < n-1; i += 3 {
				s.lose[i] = true
			}
			l, endpoint, sub := hear(t, s, true)
			s.subscribed(1)
			s.play(n)
			holds(t, l, endpoint, r.held)
			require.NotZero(t, sub.Stats().Gaps)
		})
		t.Run(name+"/cut again and again", func(t *testing.T) {
			s := newStage(t, r)
			l, endpoint, _ := hear(t, s, true)
			const cuts = 10
			for i := range cuts {
				s.subscribed(i + 1)
				s.play(n * (i + 1) / (cuts + 1))
				s.cut()
			}
			s.subscribed(cuts + 1)
			s.play(n)
			holds(t, l, endpoint, r.held)
		})
		t.Run(name+"/without replays", func(t *testing.T) {
			s := newStage(t, r)
			l, endpoint, sub := hear(t, s, false)
			s.subscribed(1)
			s.play(n)
			within(t, time.Minute, "all messages", func() bool { return int(sub.Stats().Batches) == n })
			require.Equal(t, r.held, sorted(l.look(endpoint).held))
		})
	}
}
