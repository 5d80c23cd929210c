package filter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
)

// TestTunnel: an upgrade is routed at once, and bytes pass as they come, in both directions and in any
// order, until either side ends.
func TestTunnel(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, clientLast := range []bool{false, true} {
			f := newFixture(t, nil)
			s := f.open(t)
			s.Request(false, upgrade()...)
			sent := ""
			up := func(data string, end bool) {
				t.Helper()
				s.Body(end, data)
				sent += data
			}
			if early { // a client that does not wait for the answer to its upgrade
				up("early", false)
				up("earlier", false)
				require.False(t, s.Upstream.Begun)
			}
			s.Wait()
			require.Equal(t, exchangetest.AllThree, destinationOf(t, s))
			wantHeader(t, &s.Upstream, ":path", "/v1/realtime?model=llama-8b") // the model as the server knows it
			wantHeader(t, &s.Upstream, "content-length", "")
			require.Equal(t, sent, string(s.Upstream.Body))
			s.Response(101, "", false, "upgrade", "websocket")
			s.ResponseBody(false, `"model":"llama-8b"`)
			up("\x00\x01", false)
			if !clientLast {
				up("", true)
				require.True(t, s.Upstream.Ended)
			}
			s.ResponseBody(false, "last")
			require.EqualValues(t, 1, f.Load("a"), "booked while it is open")
			s.ResponseBody(true)
			if clientLast {
				up("bye", true)
			}
			require.Equal(t, sent, string(s.Upstream.Body))
			require.Equal(t, `"model":"llama-8b"last`, string(s.Downstream.Body))
			out := f.Outcome(t)
			require.False(t, out.Failed() || out.Cancelled, "%+v", out)
			f.Free(t)
		}
	}
}

// TestTunnelWithTrailers: they pass, as what was before them did.
func TestTunnelWithTrailers(t *testing.T) {
	for _, early := range []bool{false, true} {
		f := newFixture(t, nil)
		s := f.open(t)
		s.Request(false, upgrade()...)
		if !early {
			s.Wait()
		}
		s.Body(false, "x")
		s.Trailers("a", "b")
		if early {
			s.Wait()
		}
		require.Equal(t, "x", string(s.Upstream.Body))
		require.Equal(t, [][2]string{{"a", "b"}}, s.Upstream.Trailer)
		require.True(t, s.Upstream.Ended)
		s.Destroy()
		f.Free(t)
	}
}

// TestTunnelEnds: wherever it does, it is a client that went away.
func TestTunnelEnds(t *testing.T) {
	for n := range 4 {
		f := newFixture(t, nil)
		s := f.open(t)
		s.Request(false, upgrade()...)
		if n > 0 {
			s.Body(false, "early")
		}
		if n > 1 {
			s.Wait()
		}
		if n > 2 {
			s.Response(101, "", false, "upgrade", "websocket")
		}
		s.Destroy()
		s.Released()
		f.Free(t)
	}
}

// TestConnect is not for clients, and is told so at once.
func TestConnect(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	connect := upgrade()
	connect[1] = "CONNECT"
	s.Request(false, connect...)
	s.Wait()
	code, _, _ := status(t, s)
	require.Equal(t, 403, code)
}
