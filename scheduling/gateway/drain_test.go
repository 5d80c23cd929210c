package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/gateway"
)

// echoes is a server that takes websockets, and sends back what it gets.
type echoes struct{}

func (echoes) RoundTrip(r *http.Request) (*http.Response, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		_, _ = io.Copy(there, there)
	}()
	return &http.Response{
		StatusCode: http.StatusSwitchingProtocols, Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, Body: here, Request: r,
	}, nil
}

// Drain lets sessions go on until they end or it is time, and none is left open.
func TestDrain(t *testing.T) {
	for name, byClient := range map[string]bool{"sessions end": true, "it is time": false} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, servers{}, gateway.Options{Servers: gateway.Addresses("10.0.0.1:8000")})
			g.Transport.Base = echoes{}
			defer g.Close()
			front := httptest.NewServer(g.Proxy())
			defer front.Close()
			c, err := net.Dial("tcp", front.Listener.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			fmt.Fprint(c, "GET /v1/realtime?model=m HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			r := bufio.NewReader(c)
			head, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, head.StatusCode)

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stopped, drained := make(chan struct{}), make(chan error, 1)
			front.Config.RegisterOnShutdown(func() { close(stopped) })
			go func() { drained <- g.Drain(ctx, front.Config) }()
			<-stopped
			fmt.Fprintln(c, "still here")
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "still here\n", line)
			if byClient {
				require.NoError(t, c.Close())
				require.NoError(t, <-drained)
			} else {
				cancel()
				require.ErrorIs(t, <-drained, context.Canceled)
				_, err = r.ReadByte()
				require.ErrorIs(t, err, io.EOF)
			}
			for _, endpoints := range g.Pools {
				require.Zero(t, endpoints[0].Load.Requests())
			}
		})
	}
}
