package scrape

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"time"
)

// plain makes the requests of one endpoint over HTTP/1.1 without TLS, one at a time, and
// keeps a connection to each address that it asked. It does what an http.Transport does for
// such requests, answers being read by net/http; but a Transport hands each over to two
// goroutines of the connection, under a context with a timer of its own, which costs more
// than all the rest of a scrape: 40 allocations of 50, and more than a third of its CPU time.
type plain struct {
	ctx   context.Context
	conns map[string]*conn // by address
}

// conn is a connection with nothing under way.
type conn struct {
	net.Conn
	stop func() bool // it is closed no more when the context is done
	left int         // bytes that may still be read
	r    *bufio.Reader
}

const (
	maxHeader = 64 << 10
	// maxInformational bounds the answers with a status of 1xx before the one that counts.
	maxInformational = 5
)

var errHeaderTooLarge = fmt.Errorf("the header of the answer exceeded %d bytes", maxHeader)

// roundTrip makes a request. The body of the answer is to be read before the deadline, and
// then done called. A connection that the server has closed since it was used is not held
// against it: the request is made once more, on another one.
func (p *plain) roundTrip(req *request, deadline time.Time) (*conn, *http.Response, error) {
	address := req.URL.Host
	if c := p.conns[address]; c != nil {
		delete(p.conns, address)
		resp, began, err := c.ask(req, deadline)
		if err == nil && !(resp.StatusCode == http.StatusRequestTimeout && resp.Close) { // which may be said to nobody
			return c, resp, nil
		}
		c.close()
		if err != nil && (began || isTimeout(err) || p.ctx.Err() != nil) {
			return nil, nil, err
		}
	}
	c, err := p.dial(address, deadline)
	if err != nil {
		return nil, nil, err
	}
	resp, _, err := c.ask(req, deadline)
	if err != nil {
		c.close()
		return nil, nil, err
	}
	return c, resp, nil
}

func (p *plain) dial(address string, deadline time.Time) (*conn, error) {
	d := net.Dialer{Deadline: deadline}
	raw, err := d.DialContext(p.ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, stop: context.AfterFunc(p.ctx, func() { raw.Close() })}
	c.r = bufio.NewReader(c)
	return c, nil
}

// done keeps the connection for the next request, if the answer was read to its end.
func (p *plain) done(c *conn, resp *http.Response, whole bool) {
	if resp.Close || resp.StatusCode < 200 || !whole && resp.ContentLength != 0 || c.r.Buffered() > 0 {
		c.close()
		return
	}
	if p.conns == nil {
		p.conns = map[string]*conn{}
	}
	p.conns[resp.Request.URL.Host] = c
}

func (p *plain) close() {
	for address, c := range p.conns {
		c.close()
		delete(p.conns, address)
	}
}

// ask makes a request on the connection. began reports whether an answer began.
func (c *conn) ask(req *request, deadline time.Time) (resp *http.Response, began bool, err error) {
	if err := c.SetDeadline(deadline); err != nil {
		return nil, false, err
	}
	if _, err := c.Write(req.wire); err != nil {
		return nil, false, err
	}
	c.left = maxHeader
	if _, err := c.r.Peek(1); err != nil {
		return nil, false, err
	}
	for range maxInformational + 1 {
		resp, err = http.ReadResponse(c.r, req.Request)
		if err != nil {
			return nil, true, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			c.left = math.MaxInt
			return resp, true, nil
		}
	}
	return nil, true, fmt.Errorf("more than %d answers with a status of 1xx", maxInformational)
}

// Read implements io.Reader for c.r.
func (c *conn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

func (c *conn) close() {
	c.stop()
	c.Conn.Close()
}

// request is one that is made any number of times.
type request struct {
	*http.Request
	url  string
	wire []byte // as it is sent
}

// newRequest returns a request of the text or JSON at url.
func newRequest(url, accept string) (*request, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	req.Header = http.Header{"Accept": {accept}, "Accept-Encoding": {"identity"}, "User-Agent": {"inferpick"}}
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	return &request{req, url, wire.Bytes()}, nil
}

// isTimeout reports whether err is that of a deadline.
func isTimeout(err error) bool {
	if err == nil {
		return false
	}
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
