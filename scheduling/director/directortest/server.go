package directortest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxBody bounds the request bodies that a server reads, in bytes.
const maxBody = 64 << 20

// Behaviour is what a server does. To derive another one, copy it and change fields. Since Serve may
// have state in its closure, create one for each server.
type Behaviour struct {
	// Name identifies it in reports.
	Name string
	// Accept, if not nil, is called when a connection was accepted, before anything is read. If it
	// returns false the connection is closed.
	Accept func(*Exchange) bool
	// Serve is called for each request, once its first byte has arrived. It may read the request and
	// answer it, or not. Afterwards the connection is kept if the whole request was read and neither
	// side wants it closed.
	Serve func(*Exchange)
	// Idle is how long a connection on which there was a request may wait for the next one before it is closed. 0: forever.
	Idle time.Duration
	// Refuse closes the port, so that connections are refused.
	Refuse bool
}

// Request is a request as a server saw it.
type Request struct {
	Method, Target, Proto, Host string
	Header, Trailer             http.Header
	Body                        []byte // byte for byte, without the framing
}

// Path returns the target without its query.
func (r *Request) Path() string {
	path, _, _ := strings.Cut(r.Target, "?")
	return path
}

// Server is a model server on loopback with a given behaviour. It is safe for concurrent use.
type Server struct {
	addr      string
	behaviour atomic.Pointer[Behaviour]
	done      chan struct{}
	running   sync.WaitGroup

	requests, reads, connections atomic.Int64

	mu sync.Mutex
	// guarded by mu
	listener net.Listener // nil: the port is closed
	open     map[net.Conn]struct{}
	closed   bool
	keep     int
	seen     []Request
}

// Start starts a server. It panics if there is no free port. Call Close when done.
func Start(b Behaviour) *Server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("directortest: " + err.Error())
	}
	s := &Server{addr: l.Addr().String(), done: make(chan struct{}), open: map[net.Conn]struct{}{}, listener: l}
	s.behaviour.Store(&b)
	s.running.Go(func() { s.accept(l) })
	if b.Refuse {
		s.shut()
	}
	return s
}

// Addr returns the server's host:port.
func (s *Server) Addr() string { return s.addr }

// Behaviour returns the current behaviour.
func (s *Server) Behaviour() Behaviour { return *s.behaviour.Load() }

// Set changes the behaviour, for requests that begin from now on. If b refuses connections, open ones
// are closed too. Set fails if the port cannot be opened again.
func (s *Server) Set(b Behaviour) error {
	s.behaviour.Store(&b)
	if b.Refuse {
		s.shut()
		return nil
	}
	return s.listen()
}

// Requests returns the number of requests read, whatever their outcome, not counting those that
// gateways send themselves: GET of /metrics, /v1/models and /health without [Probe].
func (s *Server) Requests() int { return int(s.requests.Load()) }

// Reads returns the number of requests read that Requests does not count.
func (s *Server) Reads() int { return int(s.reads.Load()) }

// Connections returns the number of accepted connections.
func (s *Server) Connections() int { return int(s.connections.Load()) }

// Keep makes the server remember the last n requests from now on, including those of gateways, and
// forget earlier ones.
func (s *Server) Keep(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep, s.seen = n, nil
}

// Seen returns the remembered requests, in the order in which they were read.
func (s *Server) Seen() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// Close closes the port and all connections, and waits until nothing runs. Further calls do nothing.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.mu.Unlock()
	s.shut()
	s.running.Wait()
}

func (s *Server) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
	for c := range s.open {
		c.Close()
	}
}

func (s *Server) listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil || s.closed {
		return nil
	}
	var l net.Listener
	var err error
	for range 100 { // another connection may temporarily have the port
		if l, err = net.Listen("tcp", s.addr); err == nil {
			s.listener = l
			s.running.Go(func() { s.accept(l) })
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("directortest: cannot open the port again: %w", err)
}

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(time.Millisecond) // out of file descriptors
			continue
		}
		s.connections.Add(1)
		if !s.track(c) {
			c.Close()
			continue
		}
		s.running.Go(func() {
			defer s.untrack(c)
			s.serve(c)
		})
	}
}

func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return false
	}
	s.open[c] = struct{}{}
	return true
}

func (s *Server) untrack(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// serve serves one connection.
func (s *Server) serve(c net.Conn) {
	b := s.behaviour.Load()
	in := bufio.NewReader(c)
	if b.Accept != nil && !b.Accept(&Exchange{server: s, conn: c, in: in}) {
		return
	}
	for first := true; ; first = false {
		if idle := s.behaviour.Load().Idle; idle > 0 && !first { // who closes a new one is at fault
			_ = c.SetReadDeadline(time.Now().Add(idle))
		}
		if _, err := in.Peek(1); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Time{})
		x := &Exchange{server: s, conn: c, in: in}
		s.behaviour.Load().Serve(x)
		if x.closed || !x.bodyRead || x.last {
			return
		}
	}
}

func (s *Server) saw(r *Request) {
	if own(r) {
		s.reads.Add(1)
	} else {
		s.requests.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keep > 0 {
		if len(s.seen) >= s.keep {
			s.seen = slices.Delete(s.seen, 0, len(s.seen)-s.keep+1)
		}
		s.seen = append(s.seen, *r)
	}
}

// own reports whether a gateway sent r itself.
func own(r *Request) bool {
	return r.Method == http.MethodGet && !probe(r) && slices.Contains([]string{"/metrics", "/v1/models", "/health"}, r.Path())
}

// Exchange is one request at a server, for the goroutine in which Serve was called.
type Exchange struct {
	server *Server
	conn   net.Conn
	in     *bufio.Reader

	request  *Request // nil: not read
	raw      *http.Request
	bodyRead bool
	last     bool // the connection ends with this request
	closed   bool
}

// ReadHead reads the head of the request and returns the request without its body, or nil if that
// fails.
func (x *Exchange) ReadHead() *Request {
	if x.request != nil {
		return x.request
	}
	raw, err := http.ReadRequest(x.in)
	if err != nil {
		x.Close()
		return nil
	}
	x.raw = raw
	x.request = &Request{Method: raw.Method, Target: raw.RequestURI, Proto: raw.Proto, Host: raw.Host, Header: raw.Header}
	x.last = raw.Close
	x.bodyRead = raw.Body == http.NoBody
	if x.bodyRead {
		x.server.saw(x.request)
	}
	return x.request
}

// Read reads the whole request, and returns nil if that fails.
func (x *Exchange) Read() *Request {
	if x.ReadHead() == nil || x.bodyRead {
		return x.request
	}
	if strings.EqualFold(x.raw.Header.Get("Expect"), "100-continue") {
		x.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
	body, err := io.ReadAll(io.LimitReader(x.raw.Body, maxBody))
	x.request.Body, x.request.Trailer = body, x.raw.Trailer
	x.bodyRead = true
	x.server.saw(x.request)
	if err != nil {
		x.Close()
		return nil
	}
	return x.request
}

// Skip counts the request without reading its body.
func (x *Exchange) Skip() {
	if x.ReadHead() != nil && !x.bodyRead {
		x.last = true
		x.bodyRead = true
		x.server.saw(x.request)
	}
}

// Write sends bytes, and reports whether that succeeded.
func (x *Exchange) Write(b []byte) bool {
	if x.closed {
		return false
	}
	if _, err := x.conn.Write(b); err != nil {
		x.Close()
	}
	return !x.closed
}

// Answer sends a. The connection ends afterwards if a is HTTP/1.0 or framed by UntilClose, or if the
// client or a line "Connection: close" asks for that.
func (x *Exchange) Answer(a Answer) { x.answerTo(a, AtEnd) }

// answerTo sends a up to a point, and reports whether that succeeded.
func (x *Exchange) answerTo(a Answer, to Point) bool {
	if a.Framing == UntilClose || a.Proto == "HTTP/1.0" || slices.Contains(a.Header, "Connection: close") {
		x.last = true
	}
	w := a.wire()
	end := w.marks[to]
	sent := 0
	send := func(upTo int) bool {
		upTo = min(upTo, end)
		if upTo <= sent {
			return true
		}
		from := sent
		sent = upTo
		return x.Write(w.bytes[from:upTo])
	}
	if !x.Wait(a.First) { // servers send the head with the first token
		return false
	}
	for i, at := range w.parts {
		if i == 0 || a.Each <= 0 || at > end {
			continue
		}
		if !send(at) || !x.Wait(a.Each) {
			return false
		}
	}
	return send(end)
}

// Wait waits for d. It returns false if the server was closed meanwhile.
func (x *Exchange) Wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.server.done:
		x.Close()
		return false
	}
}

// Hang does nothing until the client leaves or the server is closed.
func (x *Exchange) Hang() {
	_, _ = io.Copy(io.Discard, x.in)
	x.Close()
}

// HangFor hangs for at most d and closes the connection.
func (x *Exchange) HangFor(d time.Duration) {
	_ = x.conn.SetReadDeadline(time.Now().Add(d))
	x.Hang()
}

// Close closes the connection.
func (x *Exchange) Close() {
	x.closed = true
	x.conn.Close()
}

// Reset closes the connection with a reset.
func (x *Exchange) Reset() {
	if c, ok := x.conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	x.Close()
}
