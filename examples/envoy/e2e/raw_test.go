package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"github.com/stretchr/testify/require"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// rawServer is a model server that has no HTTP library between it and the wire: it keeps
// every byte of each connection, and takes them apart by its own, strict reading of their
// framing. What a desynchronised proxy sends is there as a request of its own.
type rawServer struct {
	t       *testing.T
	address string
	react   func(*rawRequest) reaction
	wg      sync.WaitGroup
	ln      net.Listener

	mu       sync.Mutex
	conns    map[net.Conn]bool
	requests []rawRequest // guarded by mu, as all here
	broken   []string     // what could not be read as a request
}

// reaction is what a server does with a request.
type reaction uint8

const (
	serves  reaction = iota
	refuses          // with 503
	hangsUp          // without an answer
)

// rawRequest is a request as it was on the wire.
type rawRequest struct {
	line   string // METHOD target version
	header map[string]string
	body   string
}

// id is what the tests tell requests apart by.
func (r *rawRequest) id() string { return r.header["x-test-id"] }

func newRawServer(t *testing.T, react func(*rawRequest) reaction) *rawServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &rawServer{t: t, address: ln.Addr().String(), react: react, ln: ln, conns: map[net.Conn]bool{}}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(s.close)
	return s
}

func (s *rawServer) close() {
	s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// serve answers the requests of one connection for as long as they can be read.
func (s *rawServer) serve(c net.Conn) {
	defer c.Close()
	var wire bytes.Buffer
	r := bufio.NewReader(io.TeeReader(c, &wire))
	for {
		wire.Reset()
		wire.Write(peeked(r))
		req, err := readRaw(r)
		if err != nil {
			if !isClosed(err) {
				s.mu.Lock()
				s.broken = append(s.broken, fmt.Sprintf("%v in %.600q", err, wire.String()))
				s.mu.Unlock()
			}
			return
		}
		how := s.react(req)
		s.mu.Lock()
		s.requests = append(s.requests, *req)
		s.mu.Unlock()
		status, body := "200 OK", answer
		switch how {
		case refuses:
			status, body = "503 Service Unavailable", `{"error": {"message": "busy"}}`
		case hangsUp:
			return
		}
		if strings.HasPrefix(req.line, "HEAD ") {
			body = ""
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", status, len(body), body); err != nil {
			return
		}
	}
}

// peeked is what was read from the connection already, but not yet as a request.
func peeked(r *bufio.Reader) []byte {
	b, _ := r.Peek(r.Buffered())
	return b
}

// isClosed reports whether a connection ended between requests or was broken off.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "reset by peer")
}

// errCut is the error of a connection that ended within a request. It is no desync.
var errCut = fmt.Errorf("cut: %w", io.EOF)

// readRaw reads one request: io.EOF if there is none.
func readRaw(r *bufio.Reader) (*rawRequest, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	words := strings.Split(line, " ")
	if len(words) != 3 || words[2] != "HTTP/1.1" || words[0] == "" || strings.ToUpper(words[0]) != words[0] {
		return nil, fmt.Errorf("no request line: %.80q", line)
	}
	req := &rawRequest{line: line, header: map[string]string{}}
	if err := readFields(r, req.header); err != nil {
		return nil, err
	}
	length, hasLength := req.header["content-length"]
	coding, hasCoding := req.header["transfer-encoding"]
	switch {
	case hasLength && hasCoding:
		return nil, errors.New("both content-length and transfer-encoding")
	case hasCoding && coding != "chunked":
		return nil, fmt.Errorf("transfer-encoding %q", coding)
	case hasCoding:
		req.body, err = readChunks(r)
	case hasLength:
		var n int
		if _, err := fmt.Sscanf(length, "%d", &n); err != nil || n < 0 {
			return nil, fmt.Errorf("content-length %q", length)
		}
		body := make([]byte, n)
		_, err = io.ReadFull(r, body)
		req.body = string(body)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCut
	}
	return req, err
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		if line != "" && errors.Is(err, io.EOF) && !looksLikeRequest(line) {
			return "", fmt.Errorf("%.80q at the end", line)
		}
		return "", err
	}
	if !strings.HasSuffix(line, "\r\n") {
		return "", fmt.Errorf("a line that ends with LF alone: %.80q", line)
	}
	return strings.TrimSuffix(line, "\r\n"), nil
}

// looksLikeRequest tells the beginning of a request that was cut off from bytes that
// belong to none.
func looksLikeRequest(s string) bool {
	method, _, _ := strings.Cut(s, " ")
	return strings.ToUpper(method) == method && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// readFields reads header or trailer fields into h, which may be nil. A field of framing
// that comes twice is an error.
func readFields(r *bufio.Reader, h map[string]string) error {
	for {
		line, err := readLine(r)
		if err != nil || line == "" {
			if errors.Is(err, io.EOF) {
				err = errCut
			}
			return err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("no field: %.80q", line)
		}
		name = strings.ToLower(name)
		if _, twice := h[name]; twice && (name == "content-length" || name == "transfer-encoding") {
			return fmt.Errorf("%s twice", name)
		}
		if h != nil {
			h[name] = strings.TrimSpace(value)
		}
	}
}

func readChunks(r *bufio.Reader) (string, error) {
	var body strings.Builder
	for {
		line, err := readLine(r)
		if err != nil {
			return "", err
		}
		var n int
		if _, err := fmt.Sscanf(line, "%x", &n); err != nil {
			return "", fmt.Errorf("chunk size %.80q", line)
		}
		if n == 0 {
			return body.String(), readFields(r, nil)
		}
		if _, err := io.CopyN(&body, r, int64(n)); err != nil {
			return "", err
		}
		if end, err := readLine(r); err != nil || end != "" {
			return "", errors.Join(err, fmt.Errorf("after a chunk came %.80q", end))
		}
	}
}

// got returns what servers got of the request with an id, and forgets it; the error says
// what they got that nobody sent.
func got(id string, servers ...*rawServer) (requests []rawRequest, err error) {
	var errs []error
	for _, s := range servers {
		s.mu.Lock()
		for _, r := range s.requests {
			if r.id() == id {
				requests = append(requests, r)
			} else {
				errs = append(errs, fmt.Errorf("a request of nobody's: %q with %.200q", r.line, r.body))
			}
		}
		for _, b := range s.broken {
			errs = append(errs, errors.New("no request: "+b))
		}
		s.requests, s.broken = nil, nil
		s.mu.Unlock()
	}
	return requests, errors.Join(errs...)
}

// h2Client is a client of HTTP/2 without TLS.
func h2Client(t *testing.T) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
