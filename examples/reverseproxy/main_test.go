package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/stretchr/testify/require"
)

func TestGateway(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var addresses []string
	for _, name := range []string{"a", "b"} {
		s, err := modelserver.Start(ctx, modelserver.Options{Name: name, Models: []string{"tiny"}})
		require.NoError(t, err)
		defer s.Close()
		addresses = append(addresses, s.Address())
	}
	addresses = append(addresses, "127.0.0.1:1") // nobody listens there: the fallbacks have to serve
	gateway, err := newGateway(addresses)
	require.NoError(t, err)
	defer gateway.Close()
	front := httptest.NewServer(gateway.Proxy())
	defer front.Close()

	for range 10 {
		resp, err := http.Post(front.URL+"/v1/chat/completions", "application/json", strings.NewReader(
			`{"model":"tiny","stream":true,"max_tokens":3,"messages":[{"role":"user","content":"hello"}]}`))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !bytes.HasSuffix(bytes.TrimSpace(body), []byte("data: [DONE]")) {
			t.Fatalf("status %d, %v, body %s", resp.StatusCode, err, body)
		}
	}
	if _, err := newGateway([]string{"no port"}); err == nil {
		t.Error("an address without a port was accepted")
	}
}

// At the end, a request under way is answered, and a session goes on until its client ends it.
func TestEnd(t *testing.T) {
	s, err := modelserver.Start(t.Context(), modelserver.Options{Name: "a", Models: []string{"tiny"}})
	require.NoError(t, err)
	defer s.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- serve(ctx, ln, []string{s.Address()}) }()

	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprint(c, "GET /v1/realtime?model=tiny HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	cancel()
	for { // until nobody listens
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			break
		}
		c.Close()
	}
	require.Empty(t, served, "the session is still open")
	c.Close()
	require.NoError(t, <-served)
}
