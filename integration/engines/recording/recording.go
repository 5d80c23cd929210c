// Package recording keeps what HTTP servers said, and says it again.
//
// An exchange is two files: NAME.request and NAME.response, each the bytes that went over
// the connection, heads and chunk sizes included. They can be read with a pager and sent
// with netcat.
package recording

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	requestSuffix  = ".request"
	responseSuffix = ".response"
)

// Exchange is a request and the answer to it, as they were sent.
type Exchange struct {
	Name     string
	Request  []byte
	Response []byte
}

// Read returns the exchanges of a folder, by name.
func Read(dir string) ([]Exchange, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+requestSuffix))
	if err != nil {
		return nil, err
	}
	var all []Exchange
	for _, path := range paths {
		stem := strings.TrimSuffix(path, requestSuffix)
		x := Exchange{Name: filepath.Base(stem)}
		if x.Request, err = os.ReadFile(path); err != nil {
			return nil, err
		}
		if x.Response, err = os.ReadFile(stem + responseSuffix); err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	return all, nil
}

// Write puts x into a folder.
func (x Exchange) Write(dir string) error {
	stem := filepath.Join(dir, x.Name)
	if err := os.WriteFile(stem+requestSuffix, x.Request, 0o644); err != nil {
		return err
	}
	return os.WriteFile(stem+responseSuffix, x.Response, 0o644)
}

// HTTPRequest returns the request, parsed.
func (x Exchange) HTTPRequest() (*http.Request, []byte, error) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(x.Request)))
	if err != nil {
		return nil, nil, fmt.Errorf("recording: %s: %w", x.Name, err)
	}
	body, err := io.ReadAll(req.Body)
	return req, body, err
}

// HTTPResponse returns the response, parsed: what a client of the server gets. Of one that
// breaks off it is what came, and io.ErrUnexpectedEOF.
func (x Exchange) HTTPResponse() (*http.Response, []byte, error) {
	req, _, err := x.HTTPRequest()
	if err != nil {
		return nil, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(x.Response)), req)
	if err != nil {
		return nil, nil, fmt.Errorf("recording: %s: %w", x.Name, err)
	}
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// Request returns the bytes of a request with a JSON body, or without one if body is empty.
func Request(method, path, body string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: model-server\r\nAccept: */*\r\n", method, path)
	if body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// Record sends a request to a server and keeps the bytes of the answer. It waits at most
// the given time. Of an answer that breaks off it returns what came, and an error.
func Record(name, address string, request []byte, most time.Duration) (Exchange, error) {
	x := Exchange{Name: name, Request: request}
	req, _, err := x.HTTPRequest()
	if err != nil {
		return x, err
	}
	conn, err := net.DialTimeout("tcp", address, most)
	if err != nil {
		return x, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(most)); err != nil {
		return x, err
	}
	if _, err := conn.Write(request); err != nil {
		return x, err
	}
	var raw bytes.Buffer // the server says nothing after the answer, so this is all of it
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &raw)), req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	x.Response = raw.Bytes()
	if err != nil {
		return x, fmt.Errorf("recording: %s: %w", name, err)
	}
	return x, nil
}
