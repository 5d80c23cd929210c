package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// accept asks for the text format: it is what all engines have, and the cheapest
// for those that have more.
const accept = "text/plain;version=0.0.4;q=1,*/*;q=0.1"

// newTransport returns the http.RoundTripper of one endpoint, for https. Each has its own,
// so that the connection can be closed when the endpoint goes.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{}).DialContext,
		DisableCompression:     true, // unpacking a page costs more than carrying it
		MaxIdleConnsPerHost:    1,
		MaxResponseHeaderBytes: maxHeader,
		WriteBufferSize:        1 << 10,
	}
}

// answer is what came back from a server. page is nil unless the status is 200.
type answer struct {
	page     *buffer
	status   int
	location string
}

// fetch makes a request. A page is the caller's to give back to the pool. With an error
// the status is 0 if there was no answer.
func (t *target) fetch(req *request, deadline time.Time) (answer, error) {
	if t.plain == nil || req.URL.Scheme != "http" {
		ctx, cancel := context.WithDeadline(t.ctx, deadline)
		defer cancel()
		resp, err := t.transport.RoundTrip(req.WithContext(ctx))
		if err != nil {
			return answer{}, fmt.Errorf("scrape: %w", err)
		}
		defer resp.Body.Close()
		return t.answer(resp)
	}
	c, resp, err := t.plain.roundTrip(req, deadline)
	if err != nil {
		return answer{}, inTime(fmt.Errorf("scrape: %w", err))
	}
	a, err := t.answer(resp)
	t.plain.done(c, resp, a.page != nil)
	return a, inTime(err)
}

// inTime returns err, which is a context.DeadlineExceeded if it is that of a connection's
// deadline.
func inTime(err error) error {
	if isTimeout(err) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	}
	return err
}

// answer reads the answer to a request.
func (t *target) answer(resp *http.Response) (answer, error) {
	a := answer{status: resp.StatusCode, location: resp.Header.Get("Location")}
	if a.status != http.StatusOK {
		return a, nil
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return a, fmt.Errorf("scrape: %w: %q", errCompressed, e)
	}
	b := t.Scraper.pool.get() // not before: a server that hangs holds no buffer
	if err := b.fill(resp.Body, t.opt.MaxBody); err != nil {
		t.Scraper.pool.put(b)
		return a, err
	}
	b.openMetrics = strings.HasPrefix(resp.Header.Get("Content-Type"), "application/openmetrics-text")
	a.page = b
	return a, nil
}

// buffer is the memory that one page takes while it is fetched and read.
type buffer struct {
	page        []byte
	openMetrics bool // what the page says it is
	reader      *reader
}

// fill reads the page from r, at most max bytes.
func (b *buffer) fill(r io.Reader, max int) error {
	b.page = b.page[:0]
	for {
		if len(b.page) == cap(b.page) {
			b.page = append(b.page, 0)[:len(b.page)]
		}
		n, err := r.Read(b.page[len(b.page):cap(b.page)])
		b.page = b.page[:len(b.page)+n]
		if len(b.page) > max {
			return fmt.Errorf("scrape: %w: more than %d bytes", ErrTooLarge, max)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("scrape: after %d bytes of the page: %w", len(b.page), err)
		}
	}
}

// bufferPool lends buffers to endpoints for the time of a scrape, so that there
// are as many as pages being read, not as many as endpoints.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{page: make([]byte, 0, 64<<10), reader: newReader()}
}

// put takes a buffer back. One that a huge page has made grow is left to the
// garbage collector.
func (p *bufferPool) put(b *buffer) {
	if cap(b.page) <= 1<<20 {
		p.pool.Put(b)
	}
}

var errCompressed = errors.New("the page is compressed, although that was not accepted")

// validPath reports what is wrong with a path that goes into a request.
func validPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("path %q does not begin with a slash", path)
	}
	if i := strings.IndexFunc(path, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }); i >= 0 {
		return fmt.Errorf("path %q has %q in it: escape it as in a URL", path, path[i])
	}
	return nil
}

// validAddress reports what is wrong with the host:port of a request.
func validAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "" || port == "" || strings.ContainsFunc(address, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`/?#@\"`, c)
	}) {
		return fmt.Errorf("address %q is not host:port", address)
	}
	return nil
}
