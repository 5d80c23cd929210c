// Package kveventstest has an engine's publisher of KV events, for tests and simulated servers: it
// numbers batches, keeps the last ones for replay and drops what a slow subscriber does not read,
// over the wire that real engines speak.
package kveventstest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/internal/zmtp"
)

// Options say what a Publisher is like. The zero value is a publisher as vLLM 0.33 has it.
type Options struct {
	Topic    string // of all messages
	Buffer   int    // batches kept for replay. Default 10,000
	Queue    int    // messages kept for each subscriber; what comes on top is dropped. Default 1,000
	NoReplay bool   // no address for replay is named, and none is answered
	Arrays   bool   // events are arrays, as of vLLM before 0.24
	NoTopic  bool   // replays lack the topic, as of vLLM before 0.26

	// Connect is where the publisher connects to, host:port, again and again, instead of waiting for
	// connections, as vLLM does if its endpoint has no *.
	Connect string
}

// Publisher publishes batches on a port of loopback, and replays them on another one. All methods
// may be called by any goroutine.
type Publisher struct {
	opt     Options
	live    *socket
	replays *socket
	started time.Time

	mu      sync.Mutex
	next    uint64
	kept    []message
	last    float64 // time of the last batch
	waiting map[*subscriber]bool
}

type message struct {
	seq     [8]byte
	payload []byte
}

// subscriber is a connection of one, with what it is still to get.
type subscriber struct {
	conn   *zmtp.Conn
	topics []string
	queue  chan message
}

// New returns a Publisher that runs until Close.
func New(o Options) (*Publisher, error) {
	if o.Buffer <= 0 {
		o.Buffer = 10_000
	}
	if o.Queue <= 0 {
		o.Queue = 1000
	}
	p := &Publisher{opt: o, waiting: map[*subscriber]bool{}, started: time.Now()}
	var err error
	pub := zmtp.Options{Socket: "PUB", Peers: []string{"SUB", "XSUB"}}
	if o.Connect != "" {
		p.live = connect(o.Connect, pub, p.serveSubscriber)
	} else if p.live, err = listen(pub, p.serveSubscriber); err != nil {
		return nil, err
	}
	if p.replays, err = listen(zmtp.Options{Socket: "ROUTER", Peers: []string{"DEALER", "REQ"}}, p.serveReplay); err != nil {
		p.live.close()
		return nil, err
	}
	return p, nil
}

// Endpoint returns where batches are published, as "tcp://127.0.0.1:40001".
func (p *Publisher) Endpoint() string {
	if p.opt.Connect != "" {
		return "tcp://" + p.opt.Connect
	}
	return "tcp://" + p.live.address()
}

// ReplayEndpoint returns where they are replayed, empty if they are not.
func (p *Publisher) ReplayEndpoint() string {
	if p.opt.NoReplay {
		return ""
	}
	return "tcp://" + p.replays.address()
}

// Source returns where to listen to p.
func (p *Publisher) Source() kvevents.Source {
	return kvevents.Source{Endpoint: p.Endpoint(), Replay: p.ReplayEndpoint(), Topic: p.opt.Topic}
}

// ServeHTTP answers GET /kv_event_sources as vLLM does.
func (p *Publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/kv_event_sources" {
		http.NotFound(w, r)
		return
	}
	var replay any
	if e := p.ReplayEndpoint(); e != "" {
		replay = e
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"0": map[string]any{
		"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": p.Endpoint(), "replay_endpoint": replay, "topic": p.opt.Topic,
	}})
}

// Publish publishes a batch, and returns its number.
func (p *Publisher) Publish(events ...kvevents.Event) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	seq, m := p.keepLocked(events)
	for s := range p.waiting {
		if !s.wants(p.opt.Topic) {
			continue
		}
		select {
		case s.queue <- m:
		default: // it is too slow
		}
	}
	return seq
}

// Lose numbers and keeps a batch as Publish does, but sends it to nobody: a replay has it.
func (p *Publisher) Lose(events ...kvevents.Event) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	seq, _ := p.keepLocked(events)
	return seq
}

// keepLocked numbers a batch and keeps it for replay. Caller must hold p.mu.
func (p *Publisher) keepLocked(events []kvevents.Event) (uint64, message) {
	p.last = max(p.last+1e-6, time.Since(p.started).Seconds())
	m := message{payload: AppendBatch(nil, p.last, events, p.opt.Arrays)}
	binary.BigEndian.PutUint64(m.seq[:], p.next)
	p.next++
	if p.kept = append(p.kept, m); len(p.kept) > p.opt.Buffer {
		p.kept = append(p.kept[:0], p.kept[len(p.kept)-p.opt.Buffer:]...)
	}
	return p.next - 1, m
}

// Subscribers returns how many have subscribed.
func (p *Publisher) Subscribers() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.waiting {
		if s.wants(p.opt.Topic) {
			n++
		}
	}
	return n
}

// Cut closes all connections, as a network does.
func (p *Publisher) Cut() {
	p.live.cut()
	p.replays.cut()
}

// Restart does what a restart of the engine does: connections are cut, what was kept is forgotten,
// and numbers begin at 0.
func (p *Publisher) Restart() {
	p.mu.Lock()
	p.next, p.kept = 0, nil
	for s := range p.waiting {
		s.conn.Close()
		delete(p.waiting, s) // it hears nothing of the new process
	}
	p.mu.Unlock()
	p.Cut()
}

// Close ends the publisher.
func (p *Publisher) Close() {
	p.live.close()
	p.replays.close()
}

func (s *subscriber) wants(topic string) bool {
	for _, t := range s.topics {
		if strings.HasPrefix(topic, t) {
			return true
		}
	}
	return false
}

// serveSubscriber takes subscriptions, and sends what is queued.
func (p *Publisher) serveSubscriber(c *zmtp.Conn) {
	s := &subscriber{conn: c, queue: make(chan message, p.opt.Queue)}
	p.mu.Lock()
	p.waiting[s] = true
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			select {
			case m := <-s.queue:
				if c.Send([]byte(p.opt.Topic), m.seq[:], m.payload) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		frames, err := c.Receive()
		if err != nil {
			break
		}
		if len(frames[0]) > 0 && frames[0][0] == 1 {
			p.mu.Lock()
			s.topics = append(s.topics, string(frames[0][1:]))
			p.mu.Unlock()
		}
	}
	p.mu.Lock()
	delete(p.waiting, s)
	p.mu.Unlock()
	cancel()
	c.Close()
	sending.Wait()
}

// serveReplay answers requests for replays.
func (p *Publisher) serveReplay(c *zmtp.Conn) {
	for {
		frames, err := c.Receive()
		if err != nil || len(frames) != 2 || len(frames[1]) != 8 || p.opt.NoReplay {
			return
		}
		from := binary.BigEndian.Uint64(frames[1])
		p.mu.Lock()
		kept := append([]message(nil), p.kept...)
		p.mu.Unlock()
		for _, m := range kept {
			if binary.BigEndian.Uint64(m.seq[:]) >= from && p.sendReplayed(c, []byte(p.opt.Topic), m.seq[:], m.payload) != nil {
				return
			}
		}
		end := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		if p.sendReplayed(c, nil, end, nil) != nil {
			return
		}
	}
}

func (p *Publisher) sendReplayed(c *zmtp.Conn, topic, seq, payload []byte) error {
	if p.opt.NoTopic {
		return c.Send(nil, seq, payload)
	}
	return c.Send(nil, topic, seq, payload)
}

// socket takes connections, or makes one.
type socket struct {
	l     net.Listener
	stop  context.CancelFunc // of connecting
	opt   zmtp.Options
	serve func(*zmtp.Conn)
	wg    sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func listen(o zmtp.Options, serve func(*zmtp.Conn)) (*socket, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("kveventstest: %w", err)
	}
	s := &socket{l: l, opt: o, serve: serve, conns: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s, nil
}

// connect returns a socket that connects until it is closed.
func connect(address string, o zmtp.Options, serve func(*zmtp.Conn)) *socket {
	ctx, cancel := context.WithCancel(context.Background())
	s := &socket{stop: cancel, opt: o, serve: serve, conns: map[net.Conn]bool{}}
	s.wg.Go(func() {
		for ctx.Err() == nil {
			var d net.Dialer
			if conn, err := d.DialContext(ctx, "tcp", address); err == nil && s.enter(conn) {
				s.handle(conn)
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return s
}

func (s *socket) address() string { return s.l.Addr().String() }

func (s *socket) accept() {
	for {
		conn, err := s.l.Accept()
		if err != nil {
			return
		}
		if s.enter(conn) {
			s.wg.Go(func() { s.handle(conn) })
		}
	}
}

// enter notes a connection, or closes it if the socket is closed.
func (s *socket) enter(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *socket) handle(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return
	}
	c, err := zmtp.New(conn, s.opt)
	if err == nil && conn.SetDeadline(time.Time{}) == nil {
		s.serve(c)
	}
}

// cut closes all connections.
func (s *socket) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}

func (s *socket) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if s.l != nil {
		s.l.Close()
	} else {
		s.stop()
	}
	s.cut()
	s.wg.Wait()
}
