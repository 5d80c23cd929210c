package filter_test

import (
	"context"
	"io"
	"strings"
	"testing"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
	"github.com/inferpick/inferpick/examples/envoy/module/filter/hosttest"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

// pieces cuts a body at its bars; there is at least one piece.
func pieces(s string) []string { return strings.Split(s, "|") }

// FuzzHooks plays hooks in any order that Envoy knows, and ends the stream anywhere. Whatever comes: no panic, nothing of what
// hosttest knows as a fault, nothing that waits forever, nothing left booked, and a request that goes on has all of
// its bytes.
func FuzzHooks(f *testing.F) {
	body := exchangetest.ChatBody(3)
	cut := body[:40] + "|" + body[40:]
	for _, ops := range []string{"HBeWRDd", "HBtWRDx", "heWRD", "hWR", "HBBeWSDdX", "Rd", "rHe", "HeRdW", "HeeB", "HTWRx", "UBWRDBeDd", "UeTRWe", "UBTWRd", "Hk", "HKeW", "HBkWRd", "HeWQe", "HHeW"} {
		f.Add([]byte(ops), cut, exchangetest.Whole[:30]+"|"+exchangetest.Whole[30:], uint8(0))
		f.Add([]byte(ops), body, exchangetest.Events, uint8(7))
	}
	f.Fuzz(func(t *testing.T, ops []byte, request, response string, flags uint8) {
		if len(ops) > 64 || len(request) > 1<<16 || len(response) > 1<<16 {
			return
		}
		f := newFixture(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) { o.MaxBody = 1 << 15 })
		s := f.open(t)
		s.Own, s.Ends = flags&1 != 0, flags&2 != 0
		if flags&4 != 0 {
			s.OnGo = func() { s.Response(503, "text/plain", true) }
		}
		requests, responses := pieces(request), pieces(response)
		var began, tunnel, complete, responded, over bool
		sent := ""
		up := func(end bool, piece string) {
			if began && !complete {
				sent += piece
				complete = end
				s.Body(end, piece)
			}
		}
		for _, op := range ops {
			switch op {
			case 'H', 'h', 'U':
				if began || responded {
					continue
				}
				began, tunnel, complete = true, op == 'U', op == 'h'
				if tunnel {
					s.Request(false, upgrade()...)
				} else {
					s.Request(complete, post()...)
				}
			case 'B': // all pieces but the last
				for len(requests) > 1 {
					up(false, requests[0])
					requests = requests[1:]
				}
			case 'e':
				up(true, requests[0])
			case 'k', 'K': // kept by another filter
				if began && !complete && !tunnel {
					sent += request
					complete = op == 'K'
					s.Kept(complete, op == 'k', request)
				}
			case 't', 'T':
				if began && !complete {
					if op == 't' {
						up(false, requests[0])
					}
					complete = true
					s.Trailers("x", "y")
				}
			case 'W':
				if began && (complete || tunnel) && s.Answer == nil && !s.WasReset && !s.Woken {
					s.Wait()
				}
			case 'R', 'S', 'r':
				if !responded && s.Answer == nil && !s.Downstream.Begun {
					responded, over = true, op == 'r'
					s.Response(200, map[byte]string{'R': "application/json", 'S': "text/event-stream", 'r': ""}[op], over)
				}
			case 'D':
				for responded && !over && len(responses) > 1 {
					s.ResponseBody(false, responses[0])
					responses = responses[1:]
				}
			case 'd', 'x', 'X':
				if responded && !over {
					over = true
					if op != 'X' {
						s.ResponseBody(op == 'd', responses[0])
					}
					if op != 'd' {
						s.ResponseTrailers("grpc-status", "0")
					}
				}
			case 'Q':
				s.Destroy()
			}
		}
		if got := string(s.Upstream.Body); s.Upstream.Ended && got != sent && (tunnel || got != strings.Replace(sent, `"chat"`, `"llama-8b"`, 1)) {
			t.Fatalf("of the body\n%q\nwent on\n%q", sent, got)
		}
		s.Destroy()
		s.Released()
		f.Free(t)
		require.Zero(t, f.told(), f.log)
	})
}

// TestHooksAfterTheEnd call nobody.
func TestHooksAfterTheEnd(t *testing.T) {
	f := newFixture(t, nil)
	for _, began := range []bool{false, true} {
		hooks := f.filter.Stream()
		s := hosttest.New(t, hooks)
		if began {
			ask(t, s)
		}
		s.Destroy()
		require.Equal(t, filter.StopIteration, hooks.RequestHeaders(s, true))
		require.Equal(t, filter.StopNoBuffer, hooks.RequestBody(s, true))
		require.Equal(t, filter.StopIteration, hooks.RequestTrailers(s))
		hooks.Woken(s)
		hooks.ResponseHeaders(s, false)
		hooks.ResponseBody(s, true)
		hooks.ResponseTrailers(s)
		hooks.Destroy()
		f.Free(t)
	}
}

// outcome is what becomes of a request and its response.
type outcome struct {
	status  int // of an answer in place of a server's
	answer  string
	headers map[string]string
	body    string
	back    string // of the response, to the client
}

// script is a stream of ext_proc whose messages are known beforehand.
type script struct {
	grpc.ServerStream
	in      []*extprocv3.ProcessingRequest
	next    int
	answers []*extprocv3.ProcessingResponse
}

func (*script) Context() context.Context { return context.Background() }

func (s *script) Recv() (*extprocv3.ProcessingRequest, error) {
	if s.next == len(s.in) {
		return nil, io.EOF
	}
	s.next++
	return s.in[s.next-1], nil
}

func (s *script) Send(m *extprocv3.ProcessingResponse) error {
	s.answers = append(s.answers, proto.CloneOf(m))
	return nil
}

// byPicker is what the picker makes of it, in one piece.
func byPicker(t *testing.T, headers []string, body, response string) (o outcome) {
	f := exchangetest.New(t, nil)
	p, err := picker.New(picker.Options{Options: f.Options})
	require.NoError(t, err)
	first := envoyside.Post("", "")
	first.GetRequestHeaders().Headers = envoyside.HeaderMap(headers...)
	first.ProtocolConfig = &extprocv3.ProtocolConfiguration{RequestBodyMode: modev3.ProcessingMode_FULL_DUPLEX_STREAMED, ResponseBodyMode: modev3.ProcessingMode_FULL_DUPLEX_STREAMED}
	s := &script{in: []*extprocv3.ProcessingRequest{
		first, envoyside.RequestBody(body, true), envoyside.ResponseHeaders(200, "application/json", false), envoyside.ResponseBody(response, true),
	}}
	require.NoError(t, p.Process(s))
	o.headers = map[string]string{}
	for i := 0; i < len(headers); i += 2 {
		o.headers[headers[i]] = headers[i+1]
	}
	for _, m := range s.answers {
		if a := m.GetImmediateResponse(); a != nil {
			return outcome{status: int(a.Status.Code), answer: string(a.Body)}
		}
		changes := m.GetRequestHeaders().GetResponse().GetHeaderMutation()
		for _, name := range changes.GetRemoveHeaders() {
			delete(o.headers, name)
		}
		for _, h := range changes.GetSetHeaders() {
			o.headers[h.Header.Key] = string(h.Header.RawValue)
		}
		o.body += string(m.GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetBody())
		o.back += string(m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetBody())
	}
	return o
}

// byFilter is what the filter makes of it, in pieces of parts.
func byFilter(t *testing.T, headers []string, body, response string, piece, part int) (o outcome) {
	f := newFixture(t, nil)
	s := f.open(t)
	s.Request(false, headers...)
	all := cut(body, piece)
	for i, p := range all {
		s.Body(i == len(all)-1, cut(p, part)...)
	}
	if s.Answer == nil {
		s.Wait()
	}
	if s.Answer != nil {
		return outcome{status: s.Answer.Status, answer: string(s.Answer.Body)}
	}
	s.Response(200, "application/json", false)
	all = cut(response, piece)
	for i, p := range all {
		s.ResponseBody(i == len(all)-1, cut(p, part)...)
	}
	o = outcome{headers: map[string]string{}, body: string(s.Upstream.Body), back: string(s.Downstream.Body)}
	for _, h := range s.Upstream.Header {
		o.headers[h[0]] = h[1]
	}
	s.Destroy()
	f.Free(t)
	return o
}

// FuzzChunks holds the filter against the picker: whatever the request and the response are, and however they are cut, both make
// the same of them.
func FuzzChunks(f *testing.F) {
	for _, body := range []string{exchangetest.ChatBody(3), exchangetest.SidecarBody, `{"model": "nope"}`, `{`, "", `{"model": "chat", "stream": true, "messages": [{"role": "user", "content": "x"}], "model": "batch"}`} {
		for _, response := range []string{exchangetest.Whole, exchangetest.Events, "", `{"model": "llama-8b`} {
			f.Add(body, response, "/v1/chat/completions", uint16(7), uint8(2))
			f.Add(body, response, "/v1/completions?x", uint16(1), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, body, response, path string, piece uint16, part uint8) {
		if len(body) > 1<<12 || len(response) > 1<<12 {
			return
		}
		headers := post("x-request-id", "1", "x-session-id", "s")
		headers[3] = path
		want := byPicker(t, headers, body, response)
		require.Equal(t, want, byFilter(t, headers, body, response, int(piece)+1, int(part)+1))
	})
}
