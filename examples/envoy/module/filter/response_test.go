package filter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/module/filter/hosttest"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// TestResponses: however a body is cut, and buffers are, nothing is lost, usage is read, and the public name
// is put back.
func TestResponses(t *testing.T) {
	for _, tt := range []struct{ contentType, body string }{{"text/event-stream; charset=utf-8", exchangetest.Events}, {"application/json", exchangetest.Whole}} {
		for _, piece := range []int{1, 7, 64, len(tt.body)} {
			for _, parts := range []int{1, 2, 5} {
				for _, end := range []string{"with the last piece", "empty", "trailers"} {
					t.Run(fmt.Sprint(tt.contentType, " ", piece, " ", parts, " ", end), func(t *testing.T) {
						f := newFixture(t, nil)
						s := begin(t, f)
						s.Response(200, tt.contentType, false, "content-length", lengthOf(tt.body))
						wantHeader(t, &s.Downstream, "content-length", "")
						pieces := cut(tt.body, piece)
						for i, p := range pieces {
							s.ResponseBody(i == len(pieces)-1 && end == "with the last piece", cut(p, max(1, len(p)/parts))...)
						}
						switch end {
						case "empty":
							s.ResponseBody(true)
						case "trailers":
							s.ResponseTrailers("x", "y")
						}
						require.Equal(t, exchangetest.Restored(tt.body), string(s.Downstream.Body))
						require.True(t, s.Downstream.Ended)
						out := f.Outcome(t)
						prompt, _ := out.Usage.PromptTokens.Value()
						output, _ := out.Usage.CompletionTokens.Value()
						cached, _ := out.Usage.CachedTokens.Value()
						if out.Failed() || out.Cancelled || out.Status != 200 || prompt != 11 || output != 2 || cached != 5 ||
							(out.TTFT > 0) != (tt.body == exchangetest.Events) || out.ResponseBytes != int64(len(tt.body)) {
							t.Errorf("outcome is %+v", out)
						}
						f.Free(t) // before the stream's end
						s.Destroy()
						require.Empty(t, f.Outcomes, "once")
					})
				}
			}
		}
	}
}

// TestHeldBack: of a response that ends wherever it does, nothing that was held back is lost.
func TestHeldBack(t *testing.T) {
	for n := range exchangetest.Whole {
		f := newFixture(t, nil)
		body := exchangetest.Whole[:n+1]
		for _, end := range []string{"with the last piece", "empty", "trailers"} {
			s := begin(t, f)
			s.Response(200, "application/json", false)
			s.ResponseBody(end == "with the last piece", cut(body, 5)...)
			switch end {
			case "empty":
				s.ResponseBody(true)
			case "trailers":
				s.ResponseTrailers("x", "y")
			}
			if got := string(s.Downstream.Body); got != body || n == len(exchangetest.Whole)-1 { // it may be too early to tell
				require.Equal(t, exchangetest.Restored(body), got, end)
			}
			s.Destroy()
		}
	}
}

// TestLargeResponse goes through as it is but for the name.
func TestLargeResponse(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f)
	text := strings.Repeat("x", 300_000)
	s.Response(200, "application/json", false)
	s.ResponseBody(false, `{"model": "llama-8b", "text": "`, text[:100_000], text[100_000:])
	s.ResponseBody(true, `"}`)
	require.Equal(t, `{"model": "chat", "text": "`+text+`"}`, string(s.Downstream.Body))
}

// TestServed: the booking goes where Envoy went; what a server says of itself does not count.
func TestServed(t *testing.T) {
	addressOf := map[string]string{"a": exchangetest.Addresses[0], "b": exchangetest.Addresses[1], "c": exchangetest.Addresses[2]}
	for address, want := range exchangetest.Served {
		f := newFixture(t, nil)
		s := begin(t, f)
		require.EqualValues(t, 1, f.Load("a"))
		if address != "" {
			s.Dynamic["envoy.lb"][exchangetest.ServedKey] = address
		}
		s.Response(200, "text/event-stream", false, exchangetest.ServedKey, "[fd00::3]:8000")
		for _, id := range []string{"a", "b", "c"} {
			require.Equal(t, id == want, f.Load(id) == 1, "served by %q: booked at %s", address, id)
		}
		require.Equal(t, []string{addressOf[want]}, f.Served, "served by %q", address)
		s.Destroy()
		f.Free(t)
	}
}

// TestServedOutsideTheList: a data plane that used its list up may take another endpoint of the pool.
func TestServedOutsideTheList(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	s.Dynamic["envoy.lb.subset_hint"] = map[string]any{exchangetest.SubsetKey: "10.0.0.1:8000"}
	ask(t, s)
	s.Dynamic["envoy.lb"][exchangetest.ServedKey] = "[fd00::3]:8000"
	s.Response(200, "application/json", false)
	require.Zero(t, f.Load("a"))
	require.EqualValues(t, 1, f.Load("c"))
}

// TestTrapStatus: it is read from the pseudo-header, and no other.
func TestTrapStatus(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f)
	s.Response(503, "text/plain", false, "status", "200")
	s.ResponseBody(true, "no healthy upstream")
	require.Equal(t, "no healthy upstream", string(s.Downstream.Body))
	if out := f.Outcome(t); out.Status != 503 || !out.Failed() {
		t.Errorf("outcome is %+v", out)
	}
}

// TestResponseWithoutBody, as to a HEAD or with status 204.
func TestResponseWithoutBody(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f)
	s.Response(204, "", true, "content-length", "7")
	wantHeader(t, &s.Downstream, "content-length", "7") // of the answer to a HEAD
	if out := f.Outcome(t); out.Status != 204 || out.Cancelled {
		t.Errorf("outcome is %+v", out)
	}
	f.Free(t)
}

// TestCompressedResponse passes untouched.
func TestCompressedResponse(t *testing.T) {
	f := newFixture(t, nil)
	s := begin(t, f)
	s.Response(200, "application/json", false, "content-encoding", "gzip")
	s.ResponseBody(true, "\x1f\x8b \"model\":\"llama-8b\"")
	require.Equal(t, "\x1f\x8b \"model\":\"llama-8b\"", string(s.Downstream.Body))
}

// TestGRPCStatus: an answer over gRPC may say in its trailers, after data, that it failed.
func TestGRPCStatus(t *testing.T) {
	for code, want := range exchangetest.GRPCStatuses {
		f := newFixture(t, nil)
		s := f.open(t)
		s.Request(false, ":method", "POST", ":path", exchangetest.GRPCPath, "content-type", "application/grpc", "te", "trailers")
		s.Body(true, exchangetest.GRPCRequest)
		s.Wait()
		s.Response(200, "application/grpc", false)
		s.ResponseBody(false, exchangetest.GRPCResponse)
		s.ResponseTrailers("grpc-status", code)
		require.Len(t, f.Routes, 1)
		require.Equal(t, want, f.Routes[0].Status(), "grpc-status %s", code)
		require.Equal(t, exchangetest.GRPCResponse, string(s.Downstream.Body))
		f.Free(t)
	}
}

// TestOwnAnswers: what Envoy answers by itself passes untouched, whenever it does: before the filter has heard of the
// request, while that is coming, while it waits, or inside of Go.
func TestOwnAnswers(t *testing.T) {
	answer := func(s *hosttest.Stream, body string) {
		s.Response(403, "text/plain", body == "", "content-length", lengthOf(body))
		if body != "" {
			s.ResponseBody(true, body)
		}
	}
	steps := []func(*hosttest.Stream){
		func(s *hosttest.Stream) { s.Request(false, post()...) },
		func(s *hosttest.Stream) { s.Body(false, exchangetest.ChatBody(1)[:20]) },
		func(s *hosttest.Stream) { s.Body(true, exchangetest.ChatBody(1)[20:]) },
	}
	for n := range len(steps) + 1 {
		for _, body := range []string{"", "RBAC: access denied", exchangetest.Whole} {
			f := newFixture(t, nil)
			s := f.open(t)
			for _, step := range steps[:n] {
				step(s)
			}
			answer(s, body)
			require.Equal(t, body, string(s.Downstream.Body))
			wantHeader(t, &s.Downstream, "content-length", lengthOf(body))
			s.Released()
			if s.Pending() {
				s.Wake()
			}
			require.False(t, s.Upstream.Begun, "it was answered")
			s.Destroy()
			f.Free(t)
		}
	}
	for _, ends := range []bool{false, true} {
		f := newFixture(t, nil)
		s := f.open(t)
		s.Ends = ends
		s.OnGo = func() {
			s.Response(503, "text/plain", false)
			s.ResponseBody(true, "no healthy upstream")
		}
		ask(t, s)
		require.Equal(t, "no healthy upstream", string(s.Downstream.Body))
		require.Equal(t, 503, f.Outcome(t).Status)
		f.Free(t)
		s.Destroy()
		require.Empty(t, f.Outcomes)
	}
}

// TestEnds: wherever a stream ends, nothing stays booked.
func TestEnds(t *testing.T) {
	steps := []func(*hosttest.Stream){
		func(s *hosttest.Stream) { s.Request(false, post()...) },
		func(s *hosttest.Stream) { s.Body(false, exchangetest.ChatBody(1)[:30]) },
		func(s *hosttest.Stream) { s.Body(true, exchangetest.ChatBody(1)[30:]) },
		func(s *hosttest.Stream) { s.Wait() },
		func(s *hosttest.Stream) { s.Response(200, "text/event-stream", false) },
		func(s *hosttest.Stream) { s.ResponseBody(false, exchangetest.Events[:40]) },
	}
	for n := range len(steps) + 1 {
		f := newFixture(t, nil)
		s := f.open(t)
		for _, step := range steps[:n] {
			step(s)
		}
		s.Destroy()
		s.Released()
		f.Free(t)
		if n >= 4 || n == 3 && len(f.Outcomes) > 0 { // the third step may have been quick enough to route it
			out := f.Outcome(t)
			require.True(t, out.Cancelled && !out.Failed(), "after %d steps the outcome is %+v", n, out)
		}
		s.Destroy()
		require.Empty(t, f.Outcomes, "once")
	}
}

// TestReport: what is to be told of the usage Envoy is told once, when the response has ended, also where trailers end it,
// or its headers.
func TestReport(t *testing.T) {
	for _, how := range []string{"body", "trailers", "headers"} {
		asked := 0
		f := newFixture(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
			o.Report = func(pool types.NamespacedName, u types.Usage) map[string]map[string]any {
				asked++
				return map[string]map[string]any{"ns": {"cost": u.PromptTokens.Or(0) + u.CompletionTokens.Or(0), "pool": pool.Name}}
			}
		})
		s := begin(t, f)
		s.Response(200, "application/json", how == "headers")
		want := map[string]any{"cost": 0., "pool": "llama"}
		if how != "headers" {
			require.NotContains(t, s.Dynamic, "ns")
			want["cost"] = 13.
			s.ResponseBody(how == "body", exchangetest.Whole)
		}
		if how == "trailers" {
			require.NotContains(t, s.Dynamic, "ns")
			s.ResponseTrailers()
		}
		require.Equal(t, want, s.Dynamic["ns"])
		s.Destroy()
		require.Equal(t, 1, asked)
		f.Free(t)
	}
}
