package picker_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

// upgrade begins a websocket.
func upgrade() *extprocv3.ProcessingRequest {
	m := get("/v1/realtime?model=chat", "connection", "keep-alive, Upgrade", "upgrade", "websocket")
	m.GetRequestHeaders().EndOfStream = false
	return m
}

// TestTunnel: an upgrade is routed at once, and bytes pass as they come, in both directions
// and in any order, until either side ends.
func TestTunnel(t *testing.T) {
	f := newFixture(t, nil)
	s := open(t, f.dial(t), duplex, duplex)
	s.send(upgrade())
	m := s.recv()
	if got := destinationOf(t, m, m.GetRequestHeaders().GetResponse().GetHeaderMutation()); got != allThree {
		t.Errorf("destination is %q", got)
	}
	path := ""
	for _, h := range m.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
		if h.GetHeader().GetKey() == ":path" {
			path = string(h.GetHeader().GetRawValue())
		}
	}
	require.Equal(t, "/v1/realtime?model=llama-8b", path, "the model as the server knows it")
	up := func(data string, end bool) {
		t.Helper()
		s.send(requestBody(data, end))
		c := s.recv().GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse()
		if string(c.GetBody()) != data || c.GetEndOfStream() != end {
			t.Errorf("of %q came back %q, at the end: %v", data, c.GetBody(), c.GetEndOfStream())
		}
	}
	down := func(data string, end bool) {
		t.Helper()
		s.send(responseBody(data, end))
		c := s.recv().GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
		if string(c.GetBody()) != data || c.GetEndOfStream() != end {
			t.Errorf("of %q came back %q, at the end: %v", data, c.GetBody(), c.GetEndOfStream())
		}
	}
	up("early", false)
	s.send(responseHeaders(101, "", false, "upgrade", "websocket"))
	if m := s.recv(); m.GetResponseHeaders() == nil || m.GetResponseHeaders().GetResponse().GetHeaderMutation() != nil {
		t.Errorf("headers came back as %v", m)
	}
	down("\"model\":\"llama-8b\"", false)
	up("\x00\x01", false)
	up("", true)
	down("last", false)
	if f.Load("a") != 1 {
		t.Errorf("%d are booked at a while it is open, want 1", f.Load("a"))
	}
	down("", true)
	require.NoError(t, s.ends())
	if out := f.Outcome(t); out.Failed() || out.Cancelled {
		t.Errorf("outcome is %+v", out)
	}
	f.Free(t)
}

// TestTunnelPastThePicker: where Envoy would keep bytes until their end, or wait for an answer
// to each piece, it is told to pass them on by itself.
func TestTunnelPastThePicker(t *testing.T) {
	const replace = extprocv3.CommonResponse_CONTINUE_AND_REPLACE
	for _, tt := range []struct{ request, response picker.BodyMode }{
		{buffered, buffered}, {duplex, buffered}, {buffered, duplex}, {duplex, streamed}, {none, none}, {none, buffered},
	} {
		f := newFixture(t, nil)
		s := open(t, f.dial(t), tt.request, tt.response)
		s.send(upgrade())
		m := s.recv()
		r := m.GetRequestHeaders().GetResponse()
		if got := destinationOf(t, m, r.GetHeaderMutation()); got != allThree {
			t.Errorf("%v: destination is %q", tt, got)
		}
		if passes := r.Status == replace; passes != (tt.request == buffered) || r.BodyMutation != nil {
			t.Errorf("%v: the request passes by itself: %v", tt, passes)
		}
		s.send(responseHeaders(101, "", false, "upgrade", "websocket"))
		r = s.recv().GetResponseHeaders().GetResponse()
		if passes := r.GetStatus() == replace; passes != (tt.response == buffered || tt.response == streamed) || r.BodyMutation != nil {
			t.Errorf("%v: the response passes by itself: %v", tt, passes)
		}
		if f.Load("a") != 1 {
			t.Errorf("%v: %d are booked at a while it is open", tt, f.Load("a"))
		}
		s.s.CloseSend()
		require.NoError(t, s.ends(), "%v", tt)
		if out := f.Outcome(t); out.Failed() || out.Cancelled != (tt.response == duplex) {
			t.Errorf("%v: outcome is %+v", tt, out)
		}
		f.Free(t)
	}
}

// TestConnect is not for clients, and is told so at once.
func TestConnect(t *testing.T) {
	f := newFixture(t, nil)
	connect := upgrade()
	connect.GetRequestHeaders().Headers.Headers[0].RawValue = []byte("CONNECT")
	s := open(t, f.dial(t), duplex, duplex)
	s.send(connect)
	if got, _, _ := immediateOf(t, s.recv()); got != 403 {
		t.Errorf("status is %d, want 403", got)
	}
}

// TestTunnelEnds: after its half is over, a client has no more to say; and trailers cannot
// follow what has been passed on.
func TestTunnelEnds(t *testing.T) {
	var log logbuffer.Buffer
	f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *scheduling.Profile) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	client := f.dial(t)
	s := open(t, client, duplex, duplex)
	s.send(upgrade())
	s.send(requestBody("x", true))
	s.send(requestBody("y", false))
	isMisplaced(t, s)
	f.Free(t)

	s = open(t, client, duplex, duplex)
	s.send(upgrade())
	s.recv()
	s.send(requestTrailers())
	if got, _, _ := immediateOf(t, s.recv()); got != 400 {
		t.Errorf("status is %d, want 400", got)
	}
	f.Free(t)
	if strings.Contains(log.String(), "request_trailer_mode") {
		t.Errorf("Envoy's configuration is blamed: %s", log.String())
	}
}

// isMisplaced reads to the end of a stream, which is to be that of a message out of order.
func isMisplaced(t testing.TB, s *stream) {
	t.Helper()
	for {
		if _, err := s.s.Recv(); err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("the stream ended with %v", err)
			}
			return
		}
	}
}

// TestTunnelIsNotIdle: in a session nobody need say anything.
func TestTunnelIsNotIdle(t *testing.T) {
	f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *scheduling.Profile) {
		o.IdleTimeout = 100 * time.Millisecond
	})
	s := open(t, f.dial(t), duplex, duplex)
	s.send(upgrade())
	s.recv()
	s.send(responseHeaders(101, "", false, "upgrade", "websocket"))
	s.recv()
	time.Sleep(400 * time.Millisecond)
	require.EqualValues(t, 1, f.Load("a"))
	s.send(responseBody("late", true))
	s.recv()
	require.NoError(t, s.ends())
	f.Free(t)
}
