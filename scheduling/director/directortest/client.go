package directortest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Probe is in the target of each request of a client that asks for something gateways read on
// their own, so that servers can tell them apart.
const Probe = "directortest=1"

func probe(r *Request) bool { return strings.Contains(r.Target, Probe) || r.Header.Get("X-Kit") != "" }

// Ask is a request of a client. The zero value is a chat completion that is not streamed.
type Ask struct {
	Method string // default POST; others have no body
	Path   string // default /v1/chat/completions
	Model  string // default DefaultModel
	Stream bool
	User   string // the id of the answer; default none
	Prompt string // default "hello"
	// Extra is added to the JSON of the body: `"temperature":-1`.
	Extra  string
	Header []string // lines: "Accept: text/plain"
}

func (a Ask) method() string { return or(a.Method, http.MethodPost) }
func (a Ask) path() string   { return or(a.Path, "/v1/chat/completions") }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Body returns the body as it is sent.
func (a Ask) Body() []byte {
	if a.method() != http.MethodPost {
		return nil
	}
	b := make([]byte, 0, 192+len(a.Prompt))
	b = append(append(b, `{"model":"`...), or(a.Model, DefaultModel)...)
	b = append(append(b, `","user":"`...), a.User...)
	b = append(b, `","stream":`...)
	b = strconv.AppendBool(b, a.Stream)
	if a.Extra != "" {
		b = append(append(b, ','), a.Extra...)
	}
	prompt := or(a.Prompt, "hello")
	switch {
	case strings.HasSuffix(a.path(), "/completions") && !strings.HasSuffix(a.path(), "/chat/completions"), strings.HasSuffix(a.path(), "/completion"):
		b = append(append(b, `,"prompt":"`...), prompt...)
	case strings.HasSuffix(a.path(), "/responses"):
		b = append(append(b, `,"input":"`...), prompt...)
	case strings.HasSuffix(a.path(), "/generate_stream"):
		b = append(append(b, `,"text_input":"`...), prompt...)
	case strings.HasSuffix(a.path(), "/images/generations"):
		b = append(append(b, `,"prompt":"`...), prompt...)
	default:
		b = append(append(b, `,"max_tokens":16,"messages":[{"role":"user","content":"`...), prompt...)
		return append(b, `"}]}`...)
	}
	return append(b, `"}`...)
}

// Head returns the head of the request, up to and with its empty line, for a body of n
// bytes. n below 0: without a length.
func (a Ask) Head(n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: kit\r\n", a.method(), a.path())
	if n >= 0 {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", n)
	}
	for _, line := range a.Header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// Result is what a client has had.
type Result struct {
	Status int // 0: the connection ended, or the client's patience, before there was one
	Header http.Header
	Body   []byte
	// Err is why there is no status, or why the body is not whole.
	Err  error
	Took time.Duration
}

// String says it in a line.
func (r Result) String() string {
	return fmt.Sprintf("status %d, %d bytes %.160q, error %v, after %v", r.Status, len(r.Body), r.Body, r.Err, r.Took.Round(time.Millisecond))
}

// Client is a client that stays, and reads its answers to their end. Its methods may be called
// from any goroutine.
type Client struct {
	base      string
	transport *http.Transport
}

// NewClient returns a client of the server at host:port. Close it.
func NewClient(addr string) *Client {
	return &Client{base: "http://" + addr, transport: &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 30 * time.Second,
	}}
}

// Addr returns the host:port it talks to.
func (c *Client) Addr() string { return strings.TrimPrefix(c.base, "http://") }

// Close closes its idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Do sends a request and reads the answer for at most as long as ctx lives.
func (c *Client) Do(ctx context.Context, a Ask) (res Result) {
	began := time.Now()
	defer func() { res.Took = time.Since(began) }()
	var body io.Reader
	if b := a.Body(); b != nil {
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, a.method(), c.base+a.path(), body)
	if err != nil {
		return Result{Err: err}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		req.GetBody = nil // nothing is sent twice behind our back
	}
	for _, line := range a.Header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return Result{Err: err}
	}
	defer resp.Body.Close()
	res = Result{Status: resp.StatusCode, Header: resp.Header}
	if res.Status != http.StatusSwitchingProtocols { // its body would be the connection, without an end
		res.Body, res.Err = io.ReadAll(resp.Body)
	}
	return res
}

// Raw sends bytes over a connection of its own and reads one answer, to a request of the method, for at
// most patience. Interim answers are passed over.
func Raw(addr, method string, sent []byte, patience time.Duration) (res Result) {
	began := time.Now()
	defer func() { res.Took = time.Since(began) }()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return Result{Err: err}
	}
	defer c.Close()
	_ = c.SetDeadline(began.Add(patience))
	if _, err := c.Write(sent); err != nil {
		return Result{Err: err}
	}
	return readAnswer(bufio.NewReader(c), method)
}

func readAnswer(in *bufio.Reader, method string) Result {
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return Result{Err: err}
		}
		if resp.StatusCode < 200 && resp.StatusCode != 101 {
			continue
		}
		res := Result{Status: resp.StatusCode, Header: resp.Header}
		if res.Status != http.StatusSwitchingProtocols {
			res.Body, res.Err = io.ReadAll(resp.Body)
		}
		return res
	}
}

// A Leave is where a client leaves.
type Leave uint8

// The places at which clients leave.
const (
	LeaveBeforeBody     Leave = iota // the head was sent, and nothing of the body
	LeaveHalfBody                    // half the body was sent
	LeaveAfterRequest                // all was sent
	LeaveAfterHead                   // the head of the answer was read
	LeaveAfterFirstByte              // and the first byte of its body
	LeaveInTheMiddle                 // and about half of it
	LeaveAfterDone                   // all the events were read, but not the end of the body
)

// Leaves returns all of them, in order.
func Leaves() []Leave {
	return []Leave{LeaveBeforeBody, LeaveHalfBody, LeaveAfterRequest, LeaveAfterHead, LeaveAfterFirstByte, LeaveInTheMiddle, LeaveAfterDone}
}

// String returns its name, as it is in the names of subtests.
func (l Leave) String() string {
	return [...]string{"before_the_body", "with_half_the_body", "after_the_request", "after_the_head", "after_the_first_byte", "in_the_middle", "after_done"}[l]
}

// LeaveAt sends a request and closes the connection there, or after patience. The error says
// that it did not come as far; a connection that was closed before the answer's head is one.
func LeaveAt(addr string, a Ask, at Leave, patience time.Duration) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	body := a.Body()
	sent := append(a.Head(len(body)), body...)
	switch at {
	case LeaveBeforeBody:
		sent = sent[:len(sent)-len(body)]
	case LeaveHalfBody:
		sent = sent[:len(sent)-len(body)/2]
	}
	if _, err := c.Write(sent); err != nil || at < LeaveAfterRequest {
		return err
	}
	if at == LeaveAfterRequest {
		time.Sleep(2 * time.Millisecond) // let it arrive: what is closed at once may never be read
		return nil
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 256), &http.Request{Method: a.method()})
	if err != nil || at == LeaveAfterHead {
		return err
	}
	if at == LeaveAfterFirstByte {
		_, err = io.ReadFull(resp.Body, make([]byte, 1))
		return err
	}
	until := []byte("data: [DONE]")
	if at == LeaveInTheMiddle {
		until = []byte("\n\ndata:")
	}
	var seen []byte
	buf := make([]byte, 64)
	for !bytes.Contains(seen, until) {
		n, err := resp.Body.Read(buf)
		seen = append(seen, buf[:n]...)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadSlowly sends a request and reads its answer in pieces of n bytes, with a pause after each.
func ReadSlowly(addr string, a Ask, n int, pause, patience time.Duration) (res Result) {
	began := time.Now()
	defer func() { res.Took = time.Since(began) }()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return Result{Err: err}
	}
	defer c.Close()
	_ = c.SetDeadline(began.Add(patience))
	body := a.Body()
	if _, err := c.Write(append(a.Head(len(body)), body...)); err != nil {
		return Result{Err: err}
	}
	return readAnswer(bufio.NewReader(&slowly{c, n, pause}), a.method())
}

type slowly struct {
	from  io.Reader
	n     int
	pause time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.from.Read(p[:min(len(p), s.n)])
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}
