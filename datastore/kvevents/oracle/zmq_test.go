package oracle

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/types"
)

var pool = types.NamespacedName{Namespace: "default", Name: "p"}

// subscribe runs a Subscriber of one endpoint, "a", until the end of the test. With an address it lets
// the endpoint connect to it.
func subscribe(t *testing.T, source kvevents.Source, listen ...string) (*kveventstest.Index, *kvevents.Subscriber) {
	t.Helper()
	index := &kveventstest.Index{}
	store := datastore.New(datastore.Options{})
	require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "a", Address: "127.0.0.1:1"}))
	sub, err := kvevents.New(store, kvevents.Options{
		Sink: index, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
		Listen: listen, Sources: func(types.NamespacedName, *types.Endpoint) []kvevents.Source { return []kvevents.Source{source} },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- sub.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	for len(sub.Addrs()) < len(listen) {
		time.Sleep(time.Millisecond)
	}
	return index, sub
}

// holds waits until the endpoint is known to hold just these.
func holds(t *testing.T, index *kveventstest.Index, sub *kvevents.Subscriber, want ...uint64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		got := index.Held("a", 0)
		if got.State == kvevents.Live && slices.Equal(got.Hashes(kvevents.GPU), want) {
			return
		}
		require.True(t, time.Now().Before(deadline), "%v holds %v, want live and %v: %+v", got.State, got.Hashes(kvevents.GPU), want, sub.Stats())
		time.Sleep(time.Millisecond)
	}
}

// engine publishes by go-zeromq.
type engine struct {
	t      *testing.T
	pub    zmq4.Socket
	router zmq4.Socket

	mu   sync.Mutex
	kept [][]byte
}

// newEngine returns one whose publisher waits for connections, unless it is to connect.
func newEngine(t *testing.T, connect bool) *engine {
	e := &engine{t: t, pub: zmq4.NewPub(context.Background()), router: zmq4.NewRouter(context.Background())}
	if !connect {
		require.NoError(t, e.pub.Listen("tcp://127.0.0.1:0"))
	}
	require.NoError(t, e.router.Listen("tcp://127.0.0.1:0"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			msg, err := e.router.Recv() // identity, nothing, number
			if err != nil {
				return
			}
			if len(msg.Frames) == 3 {
				e.replay(msg.Frames[0], binary.BigEndian.Uint64(msg.Frames[2]))
			}
		}
	}()
	t.Cleanup(func() {
		e.pub.Close()
		e.router.Close()
		<-done
	})
	return e
}

func (e *engine) source() kvevents.Source {
	live := "tcp://gateway:5557"
	if addr := e.pub.Addr(); addr != nil {
		live = "tcp://" + addr.String()
	}
	return kvevents.Source{Endpoint: live, Replay: "tcp://" + e.router.Addr().String(), Topic: "kv"}
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// publish keeps a batch, and sends it unless it is to be lost.
func (e *engine) publish(lost bool, events ...kvevents.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	seq := uint64(len(e.kept))
	payload := kveventstest.AppendBatch(nil, float64(seq+1), events, seq%2 == 0)
	e.kept = append(e.kept, payload)
	if !lost {
		require.NoError(e.t, e.pub.SendMulti(zmq4.NewMsgFrom([]byte("kv"), number(seq), payload)))
	}
}

func (e *engine) replay(identity []byte, from uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for seq := from; seq < uint64(len(e.kept)); seq++ {
		_ = e.router.SendMulti(zmq4.NewMsgFrom(identity, nil, []byte("kv"), number(seq), e.kept[seq]))
	}
	_ = e.router.SendMulti(zmq4.NewMsgFrom(identity, nil, nil, number(math.MaxUint64), nil))
}

func event(kind kvevents.Kind, hashes ...uint64) kvevents.Event {
	return kvevents.Event{Kind: kind, Hashes: hashes, BlockSize: 4, Full: true}
}

func TestGoZeroMQ(t *testing.T) {
	e := newEngine(t, false)
	e.publish(false, event(kvevents.Stored, 1, 2))
	index, sub := subscribe(t, e.source())
	e.runs(index, sub)
}

// One that connects to us is followed likewise.
func TestGoZeroMQConnects(t *testing.T) {
	e := newEngine(t, true)
	index, sub := subscribe(t, e.source(), "127.0.0.1:0")
	e.publish(false, event(kvevents.Stored, 1, 2))
	require.NoError(t, e.pub.Dial("tcp://"+sub.Addrs()[0].String()))
	e.runs(index, sub)
}

// runs publishes this and that, of which nothing may be missed.
func (e *engine) runs(index *kveventstest.Index, sub *kvevents.Subscriber) {
	t := e.t
	holds(t, index, sub, 1, 2)
	e.publish(false, event(kvevents.Stored, 3), event(kvevents.Removed, 1))
	holds(t, index, sub, 2, 3)
	e.publish(true, event(kvevents.Stored, 4))
	e.publish(false, event(kvevents.Stored, 5))
	holds(t, index, sub, 2, 3, 4, 5)
	var want []uint64
	for h := range uint64(2000) {
		e.publish(h%100 == 50, event(kvevents.Stored, 1000+h), event(kvevents.Removed, 1000+h-500))
		if h >= 1500 {
			want = append(want, 1000+h)
		}
	}
	e.publish(false)
	holds(t, index, sub, append([]uint64{2, 3, 4, 5}, want...)...)
}

// TestLibZMQ: a publisher by pyzmq and msgspec, as engines have them, is followed with nothing
// missing, although it is joined while it publishes, and restarted.
func TestLibZMQ(t *testing.T) {
	python := libZMQ(t)
	first := startPython(t, python, 0, 0)
	source := kvevents.Source{Endpoint: fmt.Sprintf("tcp://127.0.0.1:%d", first.port), Replay: fmt.Sprintf("tcp://127.0.0.1:%d", first.replay), Topic: "kv"}
	index, sub := subscribe(t, source)
	holds(t, index, sub, first.held(t)...)
	first.stop()
	second := startPython(t, python, first.port, first.replay)
	holds(t, index, sub, second.held(t)...)
	s := sub.Stats()
	require.Zero(t, s.BatchErrors+s.ProtocolErrors+s.Skipped, "%+v", s)
	t.Logf("%+v", s)
}

// TestLibZMQConnects: the same if the publisher connects to us, as libzmq's sockets do with an address that
// has a host in it.
func TestLibZMQConnects(t *testing.T) {
	python := libZMQ(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	replay := l.Addr().(*net.TCPAddr).Port
	index, sub := subscribe(t, kvevents.Source{Endpoint: "tcp://gateway:5557", Replay: fmt.Sprintf("tcp://127.0.0.1:%d", replay), Topic: "kv"}, "127.0.0.1:0")
	address := "tcp://" + sub.Addrs()[0].String()
	first := startPython(t, python, 0, replay, address)
	holds(t, index, sub, first.held(t)...)
	first.stop()
	second := startPython(t, python, 0, replay, address)
	holds(t, index, sub, second.held(t)...)
	s := sub.Stats()
	require.Zero(t, s.BatchErrors+s.ProtocolErrors+s.Skipped, "%+v", s)
	require.Positive(t, s.Batches-s.Replayed, "batches came by the connection")
	t.Logf("%+v", s)
}

// libZMQ returns a python that has libzmq.
func libZMQ(t *testing.T) string {
	python := os.Getenv("KVEVENTS_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import zmq, msgspec").CombinedOutput(); err != nil {
		t.Skipf("%s has no pyzmq and msgspec (set KVEVENTS_PYTHON): %v %.200s", python, err, out)
	}
	return python
}

type pythonEngine struct {
	port, replay int
	lines        *bufio.Scanner
	stop         func()
}

// startPython starts testdata/publisher.py at these ports, any if 0. With an address it connects to that.
func startPython(t *testing.T, python string, port, replay int, connect ...string) *pythonEngine {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	args := append([]string{"testdata/publisher.py", fmt.Sprint(port), fmt.Sprint(replay)}, connect...)
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &pythonEngine{lines: bufio.NewScanner(out)}
	p.lines.Buffer(nil, 1<<20)
	p.stop = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait()
	})
	t.Cleanup(p.stop)
	_, err = fmt.Sscan(p.line(t), &p.port, &p.replay)
	require.NoError(t, err)
	return p
}

func (p *pythonEngine) line(t *testing.T) string {
	t.Helper()
	require.True(t, p.lines.Scan(), "the publisher ended")
	return p.lines.Text()
}

// held waits until the publisher has published all, and returns what it holds.
func (p *pythonEngine) held(t *testing.T) (all []uint64) {
	t.Helper()
	for word := range strings.FieldsSeq(p.line(t)) {
		var h uint64
		_, err := fmt.Sscan(word, &h)
		require.NoError(t, err)
		all = append(all, h)
	}
	return all
}
