package main

import (
	"bytes"
	"context"
	"io"
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
	gateway, err := newGateway(ctx, addresses)
	require.NoError(t, err)
	front := httptest.NewServer(gateway)
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
	if _, err := newGateway(ctx, []string{"no port"}); err == nil {
		t.Error("an address without a port was accepted")
	}
}
