package directortest

import (
	"bufio"
	"bytes"
	"cmp"
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

// Probe marks, in their targets, requests of clients for paths that gateways also read themselves,
// so that servers can tell them apart.
const Probe = "directortest=1"

func probe(r *Request) bool { return strings.Contains(r.Target, Probe) || r.Header.Get("X-Kit") != "" }

// Ask is a request of a client. The zero value is a chat completion that is not streamed.
type Ask struct {
	Method string // default POST; others have no body
	Path   string // default /v1/chat/completions
	Model  string // default DefaultModel
	Stream bool
	User   string // becomes the ID of the answer; default none
	Prompt string // default "hello"
	// Extra is added to the JSON of the body, for example `"temperature":-1`.
	Extra  string
	Header []string // lines such as "Accept: text/plain"
}

func (a Ask) method() string { return cmp.Or(a.Method, http.MethodPost) }
func (a Ask) path() string   { return cmp.Or(a.Path, "/v1/chat/completions") }

// Body returns the body as it is sent.
func (a Ask) Body() []byte {
	if a.method() != http.MethodPost {
		return nil
	}
	b := make([]byte, 0, 192+len(a.Prompt))
	b = append(append(b, `{"model":"`...), cmp.Or(a.Model, DefaultModel)...)
	b = append(append(b, `","user":"`...), a.User...)
	b = append(b, `","stream":`...)
	b = strconv.AppendBool(b, a.Stream)
	if a.Extra != "" {
		b = append(append(b, ','), a.Extra...)
	}
	before, after := `,"max_tokens":16,"messages":[{"role":"user","content":"`, `"}]}`
	switch path := a.path(); {
	case strings.HasSuffix(path, "/chat/completions"):
	case strings.HasSuffix(path, "/completions"), strings.HasSuffix(path, "/completion"), strings.HasSuffix(path, "/images/generations"):
		before, after = `,"prompt":"`, `"}`
	case strings.HasSuffix(path, "/responses"):
		before, after = `,"input":"`, `"}`
	case strings.HasSuffix(path, "/generate_stream"):
		before, after = `,"text_input":"`, `"}`
	}
	b = append(append(b, before...), cmp.Or(a.Prompt, "hello")...)
	return append(b, after...)
}

// Head returns the head of the request, including the final empty line, for a body of n bytes. If
// n is negative it has no Content-Length.
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

// Result is the response that a client got.
type Result struct {
	Status int // 0: none before the connection ended or the client gave up
	Header http.Header
	Body   []byte
	// Err is why there is no status, or why the body is incomplete.
	Err  error
	Took time.Duration
}

// String describes the result on one line.
func (r Result) String() string {
	return fmt.Sprintf("status %d, %d bytes %.160q, error %v, after %v", r.Status, len(r.Body), r.Body, r.Err, r.Took.Round(time.Millisecond))
}

// Client is a client that reads its responses completely. It is safe for concurrent use.
type Client struct {
	base      string
	transport *http.Transport
}

// NewClient returns a client of the server at host:port. Call Close when done.
func NewClient(addr string) *Client {
	return &Client{base: "http://" + addr, transport: &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 30 * time.Second,
	}}
}

// Addr returns the server's host:port.
func (c *Client) Addr() string { return strings.TrimPrefix(c.base, "http://") }

// Close closes its idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Do sends a request and reads the response, until ctx is done.
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
		req.GetBody = nil // prevents retries
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
	return resultOf(resp)
}

// Raw sends bytes over a new connection and reads one response to a request of the given method,
// for at most patience. It skips interim responses.
func Raw(addr, method string, sent []byte, patience time.Duration) Result {
	return converse(addr, method, sent, patience, func(c net.Conn) io.Reader { return c })
}

// converse is Raw, reading the connection through a reader.
func converse(addr, method string, sent []byte, patience time.Duration, through func(net.Conn) io.Reader) (res Result) {
	began := time.Now()
	defer func() { res.Took = time.Since(began) }()
	c, err := dial(addr, sent, patience)
	if err != nil {
		return Result{Err: err}
	}
	defer c.Close()
	return readAnswer(bufio.NewReader(through(c)), method)
}

// dial opens a connection that lasts for patience, and sends bytes over it.
func dial(addr string, sent []byte, patience time.Duration) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(sent); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func resultOf(resp *http.Response) Result {
	res := Result{Status: resp.StatusCode, Header: resp.Header}
	if res.Status != http.StatusSwitchingProtocols { // its body would be the endless connection
		res.Body, res.Err = io.ReadAll(resp.Body)
	}
	return res
}

func readAnswer(in *bufio.Reader, method string) Result {
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return Result{Err: err}
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resultOf(resp)
		}
	}
}

// A Leave is the point at which a client closes its connection.
type Leave uint8

// The points at which clients leave.
const (
	LeaveBeforeBody     Leave = iota // the head was sent, but nothing of the body
	LeaveHalfBody                    // half the body was sent
	LeaveAfterRequest                // the request was sent
	LeaveAfterHead                   // the head of the response was read
	LeaveAfterFirstByte              // the first byte of its body was read
	LeaveInTheMiddle                 // about half of its body was read
	LeaveAfterDone                   // all events were read, but not the end of the body
)

// Leaves returns all values of Leave, in order.
func Leaves() []Leave {
	return []Leave{LeaveBeforeBody, LeaveHalfBody, LeaveAfterRequest, LeaveAfterHead, LeaveAfterFirstByte, LeaveInTheMiddle, LeaveAfterDone}
}

// String returns the name as used in names of subtests.
func (l Leave) String() string {
	return [...]string{"before_the_body", "with_half_the_body", "after_the_request", "after_the_head", "after_the_first_byte", "in_the_middle", "after_done"}[l]
}

// LeaveAt sends a request and closes the connection at the given point, or after patience. It
// returns an error if it did not get that far, for example because the connection was closed before
// the head of the response.
func LeaveAt(addr string, a Ask, at Leave, patience time.Duration) error {
	body := a.Body()
	sent := append(a.Head(len(body)), body...)
	switch at {
	case LeaveBeforeBody:
		sent = sent[:len(sent)-len(body)]
	case LeaveHalfBody:
		sent = sent[:len(sent)-len(body)/2]
	}
	c, err := dial(addr, sent, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if at < LeaveAfterRequest {
		return nil
	}
	if at == LeaveAfterRequest {
		time.Sleep(2 * time.Millisecond) // let it arrive: data sent just before a close may never be read
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

// ReadSlowly sends a request and reads the response in pieces of n bytes, with a pause before each.
func ReadSlowly(addr string, a Ask, n int, pause, patience time.Duration) Result {
	body := a.Body()
	return converse(addr, a.method(), append(a.Head(len(body)), body...), patience, func(c net.Conn) io.Reader {
		return &slowly{c, n, pause}
	})
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
