package httptransport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// awkward is a connection, or the body of an answer, of a Base that panics when it is closed.
type awkward struct {
	io.Reader
	closed atomic.Int64
}

func (a *awkward) Write(p []byte) (int, error) { return len(p), nil }

func (a *awkward) Close() error {
	a.closed.Add(1)
	panic("of Base's")
}

// What of Base panics in a goroutine in which nobody waits for it ends neither the process nor what is booked.
func TestBasePanicsInTheBackground(t *testing.T) {
	t.Run("a session whose request is over", func(t *testing.T) {
		f := newRaw(t, nil, "127.0.0.1:1")
		r, w := io.Pipe()
		defer w.Close()
		conn := &awkward{Reader: r}
		f.Base = roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 101, Header: http.Header{"Upgrade": {"websocket"}}, Body: conn}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", "http://any/v1/realtime?model=m", nil)
		require.NoError(t, err)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		resp, err := f.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, 101, resp.StatusCode)
		cancel()
		settled(t, f)
		require.Positive(t, conn.closed.Load())
		require.NoError(t, f.EndSessions(t.Context()))
	})
	t.Run("an attempt whose request does not come in time", func(t *testing.T) {
		u := newUpload(t, answer(streamed))
		f := newEarly(t, u.address())
		f.EarlyTimeout = 20 * time.Millisecond
		good, began := f.Base, make(chan struct{}, 1)
		body := largeBody("m", 20<<10, `],"max_tokens":5,"stream":true}`)
		req, w := slowly(t, len(body))
		var first atomic.Bool
		closes := &awkward{Reader: strings.NewReader("")}
		f.Base = roundTripper(func(req *http.Request) (*http.Response, error) {
			if first.Swap(true) {
				return good.RoundTrip(req)
			}
			began <- struct{}{}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: closes}, nil
		})
		done := f.start(t, req)
		feed(t, w, body[:9000])
		<-began
		require.Eventually(t, func() bool { return closes.closed.Load() > 0 }, patience, time.Millisecond)
		feed(t, w, body[9000:])
		w.Close()
		require.Equal(t, 200, (<-done).StatusCode)
		settled(t, f)
	})
}

// A DialContext of http.DefaultTransport that panics does so in a goroutine of net/http's.
func TestDialPanics(t *testing.T) {
	f := newRaw(t, nil, "127.0.0.1:1")
	base := f.Base.(*http.Transport)
	base.DialContext = httptransport.DialWire(func(context.Context, string, string) (net.Conn, error) { panic(errors.New("of the user's")) })
	require.Equal(t, 502, f.chat(t).StatusCode)
	settled(t, f)
}
