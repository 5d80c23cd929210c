package httptransport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling/director"
)

// session is the connection to a server that speaks as a websocket, which a httputil.ReverseProxy joins with the client's.
// It owns the end of the request.
type session struct {
	*attempt
	conn io.ReadWriteCloser
	stop func() bool // of who closes it when the request is revoked

	mu sync.Mutex
	// guarded by mu
	closed bool // from this side
}

// converse takes an answer with which a session begins.
func (a *attempt) converse(resp *http.Response) error {
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return a.failed(fmt.Errorf("answered with status 101, but there is no connection: Transport.Base is a %T", a.t.base()))
	}
	if protocol := resp.Header.Get("Upgrade"); !strings.EqualFold(protocol, "websocket") {
		return a.failed(fmt.Errorf("answered with status 101 for %.40q, want websocket", protocol))
	}
	if !a.clock.stop() {
		return a.failed(errPatience)
	}
	if why := revoked(a.exchange.ctx); why != nil {
		return why
	}
	a.route.ResponseHeader(resp.StatusCode, resp.Header)
	s := &session{attempt: a, conn: conn}
	a.t.sessions.add(s)
	s.stop = context.AfterFunc(a.exchange.ctx, func() { _ = guard.Call("", s.abandon) })
	resp.Body, resp.Request = s, a.req
	a.name(resp)
	return nil
}

// Read implements io.Reader: it reads from the server.
func (s *session) Read(p []byte) (int, error) {
	n, err := s.conn.Read(p)
	if n > 0 {
		s.route.Data(p[:n])
	}
	if err != nil {
		s.broke(err)
	}
	return n, err
}

// Write implements io.Writer: it writes to the server.
func (s *session) Write(p []byte) (int, error) {
	s.route.Alive()
	return s.conn.Write(p)
}

// broke takes the end of what comes from the server: its own, unless the connection was closed here.
func (s *session) broke(err error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	switch {
	case closed:
	case err == io.EOF:
		s.route.End()
	default:
		s.route.Break(err)
	}
}

// Close implements io.Closer. Whichever side goes first, a session that is over has been served.
func (s *session) Close() error {
	s.stop()
	return s.over(nil)
}

// abandon ends a session that was revoked, or of which the request has ended: who has the connection may have had no use
// for it, and not have closed it.
func (s *session) abandon() {
	if why := revoked(s.exchange.ctx); why != nil {
		_ = s.over(why)
		return
	}
	_ = s.over(nil)
}

// over ends a session; cause is for the account of it.
func (s *session) over(cause error) error {
	defer s.t.sessions.remove(s) // when all is said of it
	err := s.shut(nil)
	s.end(cause)
	s.cancel(nil)
	return err
}

// shut closes the connection to the server; cause is for the account of it.
func (s *session) shut(cause error) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if cause != nil {
		s.route.Done(cause)
	}
	return guard.Try("httptransport: closing the connection of a session", s.conn.Close) // nobody may be waiting
}

// sessions are those that are open.
type sessions struct {
	mu sync.Mutex
	// guarded by mu
	open map[*session]bool
	none chan struct{} // closed when there are none any more; nil: nobody waits for it
}

func (all *sessions) add(s *session) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.open == nil {
		all.open = map[*session]bool{}
	}
	all.open[s] = true
}

func (all *sessions) remove(s *session) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.open, s)
	if len(all.open) == 0 && all.none != nil {
		close(all.none)
		all.none = nil
	}
}

// empty returns what is closed when no session is open.
func (all *sessions) empty() <-chan struct{} {
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.open) == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if all.none == nil {
		all.none = make(chan struct{})
	}
	return all.none
}

// shut closes all, each for itself.
func (all *sessions) shut() {
	all.mu.Lock()
	var open []*session
	for s := range all.open {
		open = append(open, s)
	}
	all.mu.Unlock()
	for _, s := range open {
		s.shut(context.Canceled)
	}
}

// EndSessions waits until all sessions over websockets have ended by themselves, or ctx is done: then it closes those that
// are left, and returns the error of ctx. A http.Server does not wait for them when it is shut down: call this after, with
// what is left of the grace period.
func (t *Transport) EndSessions(ctx context.Context) error {
	select {
	case <-t.sessions.empty():
		return nil
	case <-ctx.Done():
		t.sessions.shut()
		return ctx.Err()
	}
}

// overHTTP2 refuses a websocket for which a client opened a stream of HTTP/2 (RFC 8441): what reverse proxies of net/http
// join are connections.
func overHTTP2(req *http.Request) error {
	if req.Method != http.MethodConnect || len(req.Header[":protocol"]) == 0 {
		return nil
	}
	return &director.Error{Status: 501, Code: "unsupported", Param: ":protocol", Message: "sessions are taken over HTTP/1.1 only, want an upgrade to websocket"}
}
