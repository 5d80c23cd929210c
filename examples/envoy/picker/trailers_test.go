package picker_test

import (
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling/director"
)

// checkWhole fails the test unless m answers a request's headers, body and trailers at once:
// an Envoy that goes on a second time sends a second body.
func checkWhole(t testing.TB, m *extprocv3.ProcessingResponse, body string) {
	t.Helper()
	r := m.GetRequestHeaders().GetResponse()
	if r.GetStatus() != extprocv3.CommonResponse_CONTINUE_AND_REPLACE || string(r.GetBodyMutation().GetBody()) != body {
		t.Errorf("answer is %v with %d bytes, want CONTINUE_AND_REPLACE with %d", r.GetStatus(), len(r.GetBodyMutation().GetBody()), len(body))
	}
	if length, ok := mutationOf(t, r.GetHeaderMutation()).set["content-length"]; ok {
		t.Errorf("content-length is %s: were the body sent twice all the same, the second would be a request", length)
	}
}

// TestTrailersAreAnsweredOnce: with trailers nothing is said to Envoy but one message, and
// the response follows.
func TestTrailersAreAnsweredOnce(t *testing.T) {
	for name, body := range map[string]string{"body": chatBody(1), "none": ""} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			s := open(t, f.dial(t), duplex, duplex)
			s.send(requestHeaders(false))
			want := ""
			if body != "" {
				s.send(requestBody(body, false))
				want = routedBody(1)
			}
			s.send(requestTrailers())
			m := s.recv()
			checkWhole(t, m, want)
			if got := destinationOf(t, m, m.GetRequestHeaders().GetResponse().GetHeaderMutation()); got != allThree {
				t.Errorf("destination is %q", got)
			}
			s.send(responseHeaders(200, "application/json", false))
			if m := s.recv(); m.GetResponseHeaders() == nil {
				t.Errorf("after it came %v", m)
			}
			s.cancel()
			f.Free(t)
		})
	}
}

// TestTrailersPastThePicker: of a body that Envoy has passed on without the picker, the
// trailers must not be let through. It is an answer that stops Envoy, not an error, which
// it may go on after.
func TestTrailersPastThePicker(t *testing.T) {
	for _, late := range []bool{false, true} {
		f := newFixture(t, nil)
		s := open(t, f.dial(t), none, duplex)
		s.send(requestHeaders(false))
		if got := metadataDestination(s.recv()); got != allThree {
			t.Errorf("destination is %q", got)
		}
		if late { // the server answers before it has all of the request
			s.send(responseHeaders(200, "text/event-stream", false))
			s.recv()
		}
		s.send(requestTrailers())
		if status, _, _ := immediateOf(t, s.recv()); status != 400 {
			t.Errorf("status is %d, want 400", status)
		}
		require.NoError(t, s.ends())
		f.Free(t)
	}
}

// TestTrailersTwice, or after the end, end the stream.
func TestTrailersTwice(t *testing.T) {
	for _, mode := range []picker.BodyMode{duplex, buffered} {
		f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) {})
		s := open(t, f.dial(t), mode, duplex)
		s.send(requestHeaders(false))
		s.send(requestBody(chatBody(1), false))
		s.send(requestTrailers())
		s.send(requestTrailers())
		isMisplaced(t, s)
		f.Free(t)
	}
}
