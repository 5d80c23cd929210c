package picker_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// newFullFixture is a fixture whose endpoints run one request each, and have one.
func newFullFixture(t *testing.T, o admission.Options) *fixture {
	t.Helper()
	o.Detector = admission.Concurrency{Requests: 1}
	return newFixture(t, func(_ *picker.Options, do *director.Options, p *profile) {
		do.Admission = func(types.NamespacedName) *admission.Options { return &o }
		p.Fallbacks = 0
	})
}

// end plays the server's answer.
func (s *stream) end() {
	s.t.Helper()
	s.send(responseHeaders(200, "text/event-stream", false))
	s.recv()
	s.send(responseBody(events, true))
	s.chunks()
	if err := s.ends(); err != nil {
		s.t.Errorf("the stream ended with %v", err)
	}
}

// ask sends a request for the model chat.
func (s *stream) ask(pairs ...string) {
	s.t.Helper()
	s.send(requestHeaders(false, pairs...))
	s.send(requestBody(chatBody(1), true))
}

// TestWaiting: what there is no room for waits, in its ext_proc stream, and goes on when
// there is; or gives its place up as soon as Envoy resets the stream, which it does when
// the client goes away.
func TestWaiting(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		f := newFullFixture(t, admission.Options{})
		client := f.dial(t)
		var under []*stream
		for range addresses {
			s := open(t, client, duplex, duplex)
			s.ask()
			s.recv()
			s.chunks()
			under = append(under, s)
		}
		for _, mode := range []picker.BodyMode{duplex, buffered} {
			s := open(t, client, mode, duplex)
			s.send(requestHeaders(false))
			if mode == buffered {
				s.recv()
			}
			s.send(requestBody(chatBody(1), true))
			f.Waits(t, 1)
			s.cancel()
			f.Waits(t, 0)
		}

		s := open(t, client, duplex, duplex)
		s.send(requestHeaders(false))
		s.send(requestBody(chatBody(1), true))
		f.Waits(t, 1)
		time.Sleep(30 * time.Millisecond)
		under[0].end()
		if got := metadataDestination(s.recv()); got != addresses[0] {
			t.Errorf("goes to %q, want %s", got, addresses[0])
		}
		if body, ended := s.chunks(); string(body) != routedBody(1) || !ended {
			t.Errorf("the body came back as %s, %v", body, ended)
		}
		s.end()
		for _, s := range under[1:] {
			s.end()
		}
		f.Free(t)
		if r := f.Routes[len(f.Routes)-1]; r.Waited < 30*time.Millisecond {
			t.Errorf("waited for %v", r.Waited)
		}
	})
	noMoreGoroutines(t, before)
}

// TestRefusedByAdmission: the client is told why, and when to come again.
func TestRefusedByAdmission(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		f := newFullFixture(t, admission.Options{Bands: []admission.Band{
			{Name: "critical", Priority: types.PriorityCritical, MaxRequests: 2},
			{Name: "urgent", Priority: 7, MaxWait: 20 * time.Millisecond},
			{Name: "others", MaxRequests: -1},
		}})
		client := f.dial(t)
		for range addresses {
			s := open(t, client, duplex, duplex)
			s.ask()
			s.recv()
			s.chunks()
		}
		waiting := make([]*stream, 2)
		for i := range waiting {
			waiting[i] = open(t, client, duplex, duplex)
			waiting[i].ask()
			f.Waits(t, i+1)
		}
		refused := func(s *stream, wantStatus int, wantReason string) {
			t.Helper()
			status, header, body := immediateOf(t, s.recv())
			if status != wantStatus || header["x-inferpick-reason"] != wantReason || !strings.Contains(body, `"code":"`+wantReason+`"`) {
				t.Errorf("%d %v %s, want %d for %s", status, header, body, wantStatus, wantReason)
			}
			if retry := header["retry-after"]; (retry == "") != (wantStatus == 503) {
				t.Errorf("%s: Retry-After is %q", wantReason, retry)
			}
			if err := s.ends(); err != nil {
				t.Errorf("the stream ended with %v", err)
			}
		}
		ask := func(body string, pairs ...string) *stream {
			s := open(t, client, duplex, duplex)
			s.send(requestHeaders(false, pairs...))
			s.send(requestBody(body, true))
			return s
		}
		refused(ask(strings.Replace(chatBody(1), `"chat"`, `"batch"`, 1)), 429, "saturated")
		refused(ask(chatBody(1)), 429, "queue_full")
		refused(ask(chatBody(1), "x-gateway-inference-objective", "urgent"), 429, "queue_timeout")
		f.Director.Close() // what waits is refused, what runs goes on
		for _, s := range waiting {
			refused(s, 503, "shutting_down")
		}
		refused(ask(chatBody(1)), 503, "shutting_down")
		if n := f.Load("a") + f.Load("b") + f.Load("c"); n != 3 {
			t.Errorf("%d requests are booked, want 3", n)
		}
	})
	noMoreGoroutines(t, before)
}
