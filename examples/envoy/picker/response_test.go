package picker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/stretchr/testify/require"
)

// begin sends a request up to the point where a response is awaited.
func begin(t testing.TB, f *fixture, request, response picker.BodyMode) *stream {
	t.Helper()
	s := open(t, f.dial(t), request, response)
	s.send(requestHeaders(false))
	if request == buffered {
		s.recv()
	}
	s.send(requestBody(chatBody(1), true))
	m := s.recv()
	if m.GetImmediateResponse() != nil {
		t.Fatalf("the request was refused: %v", m)
	}
	if request == duplex {
		s.chunks()
	}
	return s
}

// TestResponses: in every mode and however a body is cut, nothing is lost, usage is
// read, and the public name is put back where that is possible.
func TestResponses(t *testing.T) {
	for _, mode := range []picker.BodyMode{duplex, streamed, buffered} {
		for _, tt := range []struct{ contentType, body string }{{"text/event-stream; charset=utf-8", events}, {"application/json", whole}} {
			pieces := []int{1, 7, 64, len(tt.body)}
			if mode == buffered {
				pieces = []int{len(tt.body)}
			}
			for _, piece := range pieces {
				for _, trailers := range []bool{false, true} {
					t.Run(fmt.Sprint(mode, tt.contentType, piece, trailers), func(t *testing.T) {
						f := newFixture(t, nil)
						s := begin(t, f, duplex, mode)
						s.send(responseHeaders(200, tt.contentType, false, "content-length", fmt.Sprint(len(tt.body))))
						m := s.recv()
						mu := mutationOf(t, m.GetResponseHeaders().GetResponse().GetHeaderMutation())
						if contains(mu.removed, "content-length") == (mode == streamed) {
							t.Errorf("content-length is removed although it holds, or left although it does not: %v", m)
						}
						var got strings.Builder
						for rest := tt.body; rest != ""; {
							n := min(piece, len(rest))
							end := n == len(rest) && !trailers
							s.send(responseBody(rest[:n], end))
							rest = rest[n:]
							if mode != duplex {
								r := s.recv().GetResponseBody().GetResponse()
								got.Write(r.GetBodyMutation().GetBody())
								if length := mutationOf(t, r.GetHeaderMutation()).set["content-length"]; mode == buffered && length != fmt.Sprint(got.Len()) {
									t.Errorf("content-length of %d bytes is %q", got.Len(), length)
								}
							}
						}
						if trailers {
							s.send(responseTrailers())
						}
						switch {
						case mode == duplex:
							body, ended := s.chunks()
							got.Write(body)
							if ended == trailers {
								t.Errorf("the body ended the stream: %v, with trailers: %v", ended, trailers)
							}
						case trailers:
							if m := s.recv(); m.GetResponseTrailers() == nil {
								t.Errorf("want trailers, got %v", m)
							}
						}
						want := strings.ReplaceAll(tt.body, "llama-8b", "chat")
						if mode == streamed {
							want = tt.body // nothing can be held back
						}
						if got.String() != want {
							t.Errorf("body is\n%s\nwant\n%s", got.String(), want)
						}
						out := f.Outcome(t)
						prompt, _ := out.Usage.PromptTokens.Value()
						output, _ := out.Usage.CompletionTokens.Value()
						cached, _ := out.Usage.CachedTokens.Value()
						if out.Failed() || out.Cancelled || out.Status != 200 || prompt != 11 || output != 2 || cached != 5 ||
							(out.TTFT > 0) != (tt.body == events) || out.ResponseBytes != int64(len(tt.body)) {
							t.Errorf("outcome is %+v", out)
						}
						if err := s.ends(); err != nil {
							t.Errorf("the stream ended with %v", err)
						}
						f.Free(t)
					})
				}
			}
		}
	}
}

// TestLargeResponse: chunks stay below what Envoy takes.
func TestLargeResponse(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f, duplex, duplex)
	text := strings.Repeat("x", 300_000)
	s.send(responseHeaders(200, "application/json", false))
	s.recv()
	s.send(responseBody(`{"model": "llama-8b", "text": "`+text, false))
	s.send(responseBody(`"}`, true))
	body, _ := s.chunks()
	if want := `{"model": "chat", "text": "` + text + `"}`; string(body) != want {
		t.Errorf("body has %d bytes, want %d", len(body), len(want))
	}
}

// TestServed: the booking goes where Envoy went.
func TestServed(t *testing.T) {
	for address, want := range exchangetest.Served {
		f := newFixture(t, nil)
		s := begin(t, f, duplex, duplex)
		if f.Load("a") != 1 {
			t.Fatal("nothing is booked at a")
		}
		// What a server says of itself does not count.
		m := responseHeaders(200, "text/event-stream", false, servedKey, "[fd00::3]:8000")
		if address != "" {
			with(m, "envoy.lb", servedKey, address)
		}
		s.send(m)
		s.recv()
		for _, id := range []string{"a", "b", "c"} {
			if booked := f.Load(id) == 1; booked != (id == want) {
				t.Errorf("served by %q: booked at %s is %v", address, id, booked)
			}
		}
		if addressOf := map[string]string{"a": addresses[0], "b": addresses[1], "c": addresses[2]}; len(f.Served) != 1 || f.Served[0] != addressOf[want] {
			t.Errorf("served by %q: told %q", address, f.Served)
		}
		s.cancel()
		f.Free(t)
	}
}

// TestServedOutsideTheList: a data plane that used its list up may take another
// endpoint of the pool.
func TestServedOutsideTheList(t *testing.T) {
	f := newFixture(t, nil)
	s := open(t, f.dial(t), duplex, duplex)
	s.send(with(requestHeaders(false), "envoy.lb.subset_hint", subsetKey, "10.0.0.1:8000"))
	s.send(requestBody(chatBody(1), true))
	s.recv()
	s.chunks()
	s.send(with(responseHeaders(200, "application/json", false), "envoy.lb", servedKey, "[fd00::3]:8000"))
	s.recv()
	if f.Load("a") != 0 || f.Load("c") != 1 {
		t.Errorf("booked are a: %d, c: %d", f.Load("a"), f.Load("c"))
	}
}

// TestStatus is read from the pseudo-header, and no other.
func TestTrapStatus(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f, duplex, duplex)
	s.send(responseHeaders(503, "text/plain", false, "status", "200"))
	s.recv()
	s.send(responseBody("no healthy upstream", true))
	if body, _ := s.chunks(); string(body) != "no healthy upstream" {
		t.Errorf("body is %q", body)
	}
	if out := f.Outcome(t); out.Status != 503 || !out.Failed() {
		t.Errorf("outcome is %+v", out)
	}
}

// TestBodiesThatAreNotSent: without a response's body the request is over with the
// stream, and no failure.
func TestBodiesThatAreNotSent(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f, duplex, none)
	s.send(responseHeaders(200, "application/json", false))
	if m := s.recv(); m.GetResponseHeaders().GetResponse().GetHeaderMutation() != nil {
		t.Errorf("a body that is not seen does not change: %v", m)
	}
	s.s.CloseSend()
	if out := f.Outcome(t); out.Status != 200 || out.Failed() || out.Cancelled {
		t.Errorf("outcome is %+v", out)
	}
}

// TestResponseWithoutBody, as to a HEAD or with status 204.
func TestResponseWithoutBody(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f, duplex, duplex)
	s.send(responseHeaders(204, "", true))
	if m := s.recv(); m.GetResponseHeaders() == nil {
		t.Errorf("got %v", m)
	}
	require.NoError(t, s.ends())
	if out := f.Outcome(t); out.Status != 204 || out.Cancelled {
		t.Errorf("outcome is %+v", out)
	}
	f.Free(t)
}

// TestCompressedResponse passes untouched.
func TestCompressedResponse(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f, duplex, duplex)
	s.send(responseHeaders(200, "application/json", false, "content-encoding", "gzip"))
	s.recv()
	s.send(responseBody("\x1f\x8b \"model\":\"llama-8b\"", true))
	if body, _ := s.chunks(); string(body) != "\x1f\x8b \"model\":\"llama-8b\"" {
		t.Errorf("body is %q", body)
	}
}

// TestEarlyAnswer: Envoy answers by itself while the request is coming; there is no
// route, and everything passes.
func TestEarlyAnswer(t *testing.T) {
	f := newFixture(t, nil)
	s := open(t, f.dial(t), duplex, duplex)
	s.send(requestHeaders(false))
	s.send(requestBody(chatBody(1)[:20], false))
	s.send(responseHeaders(408, "text/plain", false))
	if m := s.recv(); m.GetResponseHeaders() == nil {
		t.Fatalf("got %v", m)
	}
	s.send(responseBody("request timeout", true))
	if body, _ := s.chunks(); string(body) != "request timeout" {
		t.Errorf("body is %q", body)
	}
	require.NoError(t, s.ends())
	if len(f.Routes) != 0 {
		t.Error("a request that never was complete was routed")
	}
}

// TestEnds: wherever a stream ends, by a half-close or a reset, nothing stays booked.
func TestEnds(t *testing.T) {
	steps := []func(*stream){
		func(s *stream) { s.send(requestHeaders(false)) },
		func(s *stream) { s.send(requestBody(chatBody(1)[:30], false)) },
		func(s *stream) { s.send(requestBody(chatBody(1)[30:], true)); s.recv(); s.chunks() },
		func(s *stream) { s.send(responseHeaders(200, "text/event-stream", false)); s.recv() },
		func(s *stream) { s.send(responseBody(events[:40], false)) },
	}
	for n := range len(steps) + 1 {
		for _, reset := range []bool{false, true} {
			f := newFixture(t, nil)
			s := open(t, f.dial(t), duplex, duplex)
			for _, step := range steps[:n] {
				step(s)
			}
			if reset {
				s.cancel()
			} else {
				s.s.CloseSend()
				if err := s.ends(); err != nil {
					t.Errorf("after %d steps the stream ended with %v", n, err)
				}
			}
			f.Free(t)
			if n >= 3 {
				if out := f.Outcome(t); !out.Cancelled || out.Failed() {
					t.Errorf("after %d steps the outcome is %+v", n, out)
				}
			}
		}
	}
}
