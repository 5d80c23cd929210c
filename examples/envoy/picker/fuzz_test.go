package picker_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling/director"
)

// script is a stream whose messages are known beforehand.
type script struct {
	grpc.ServerStream
	ctx  context.Context
	in   []*extprocv3.ProcessingRequest
	next int
	out  []*extprocv3.ProcessingResponse // before in[next] was read
	at   []int
}

func (s *script) Context() context.Context { return s.ctx }

func (s *script) Recv() (*extprocv3.ProcessingRequest, error) {
	if s.next == len(s.in) {
		return nil, io.EOF
	}
	s.next++
	return s.in[s.next-1], nil
}

func (s *script) Send(m *extprocv3.ProcessingResponse) error {
	// As gRPC does, take what is there now: the picker may use the bytes again.
	s.out = append(s.out, proto.CloneOf(m))
	s.at = append(s.at, s.next)
	return nil
}

// FuzzExchange plays any sequence of messages, in any mode. Whatever comes: no panic,
// a gRPC status at the end, nothing left booked, answers only to what was asked, and
// all bytes back if it was an exchange.
func FuzzExchange(f *testing.F) {
	body := chatBody(3)
	cut := body[:40] + "|" + body[40:]
	f.Add([]byte("HBe RDd"), cut, whole, uint8(4), uint8(4))
	f.Add([]byte("HBt RDx"), cut, events, uint8(4), uint8(4))
	f.Add([]byte("He RDd"), body, events, uint8(2), uint8(2))
	f.Add([]byte("hR"), "", "", uint8(0), uint8(0))
	f.Add([]byte("HBBBBRRRXXT"), cut, whole, uint8(4), uint8(1))
	f.Add([]byte("Rd"), "", whole, uint8(4), uint8(4)) // Envoy's own answer
	f.Add([]byte("rHe"), body, "", uint8(4), uint8(4))
	f.Add([]byte("HtT RDd"), cut, whole, uint8(4), uint8(4))
	f.Add([]byte("HeeB"), body, whole, uint8(4), uint8(4)) // a body after its end
	f.Add([]byte("HTRx"), "", whole, uint8(2), uint8(1))
	f.Add([]byte("HTR"), "", whole, uint8(0), uint8(4))
	f.Add([]byte("UBRDBeDd"), "a|b|c", "d|e|f", uint8(4), uint8(4)) // a tunnel
	f.Add([]byte("UeTRe"), "a", "d", uint8(4), uint8(1))
	f.Fuzz(func(t *testing.T, ops []byte, request, response string, requestMode, responseMode uint8) {
		if len(ops) > 64 || len(request) > 1<<16 || len(response) > 1<<16 {
			return
		}
		fix := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) { o.MaxBody = 1 << 15 })
		s := &script{ctx: context.Background()}
		requests, responses := pieces(request), pieces(response)
		for _, op := range ops {
			switch op {
			case 'H':
				s.in = append(s.in, requestHeaders(false))
			case 'U':
				s.in = append(s.in, upgrade())
			case 'h':
				s.in = append(s.in, requestHeaders(true))
			case 'B': // all pieces but the last
				for len(requests) > 1 {
					s.in = append(s.in, requestBody(requests[0], false))
					requests = requests[1:]
				}
			case 'e':
				s.in = append(s.in, requestBody(requests[0], true))
			case 't':
				s.in = append(s.in, requestBody(requests[0], false), requestTrailers())
			case 'T':
				s.in = append(s.in, requestTrailers())
			case 'R':
				s.in = append(s.in, responseHeaders(200, "application/json", false))
			case 'S':
				s.in = append(s.in, responseHeaders(200, "text/event-stream", false))
			case 'r':
				s.in = append(s.in, responseHeaders(204, "", true))
			case 'D':
				for len(responses) > 1 {
					s.in = append(s.in, responseBody(responses[0], false))
					responses = responses[1:]
				}
			case 'd':
				s.in = append(s.in, responseBody(responses[0], true))
			case 'x':
				s.in = append(s.in, responseBody(responses[0], false), responseTrailers())
			case 'X':
				s.in = append(s.in, responseTrailers())
			}
		}
		if len(s.in) > 0 {
			s.in[0].ProtocolConfig = &extprocv3.ProtocolConfiguration{
				RequestBodyMode: picker.BodyMode(requestMode % 6), ResponseBodyMode: picker.BodyMode(responseMode % 6),
			}
		}
		err := fix.server.Process(s)
		if _, ok := status.FromError(err); !ok {
			t.Fatalf("Process returned %v, which is no status", err)
		}
		if fix.Sched.Open() != 0 {
			t.Fatalf("%d decisions are open", fix.Sched.Open())
		}
		checkAnswers(t, s, picker.BodyMode(requestMode%6), picker.BodyMode(responseMode%6), len(fix.Routes) > 0, err == nil)
	})
}

// pieces cuts a body at its bars; there is at least one piece.
func pieces(s string) []string { return strings.Split(s, "|") }

// checkAnswers holds what was answered against what was asked.
func checkAnswers(t *testing.T, s *script, requestMode, responseMode picker.BodyMode, routed, clean bool) {
	asked, tunnel := map[string]int{}, false
	var sent, back, backFrom bytes.Buffer // of the request: what came, and what was given back; of the response
	for _, m := range s.in[:s.next] {
		switch r := m.Request.(type) {
		case *extprocv3.ProcessingRequest_RequestHeaders:
			asked["request_headers"]++
			tunnel = tunnel || r.RequestHeaders.GetHeaders().GetHeaders()[0].RawValue[0] == 'G'
		case *extprocv3.ProcessingRequest_RequestBody:
			asked["request_body"]++
			sent.Write(r.RequestBody.Body)
		case *extprocv3.ProcessingRequest_RequestTrailers:
			asked["request_trailers"]++
		case *extprocv3.ProcessingRequest_ResponseHeaders:
			asked["response_headers"]++
		case *extprocv3.ProcessingRequest_ResponseBody:
			asked["response_body"]++
			backFrom.Write(r.ResponseBody.Body)
		case *extprocv3.ProcessingRequest_ResponseTrailers:
			asked["response_trailers"]++
		}
	}
	order := 0
	step := func(n int) {
		if n < order && !tunnel {
			t.Fatalf("answers are out of order: %v", s.out)
		}
		order = n
	}
	answered := map[string]int{}
	for i, m := range s.out {
		switch r := m.Response.(type) {
		case *extprocv3.ProcessingResponse_RequestHeaders:
			step(1)
			answered["request_headers"]++
			back.Write(r.RequestHeaders.GetResponse().GetBodyMutation().GetBody())
		case *extprocv3.ProcessingResponse_RequestBody:
			step(2)
			if requestMode != duplex {
				answered["request_body"]++
			}
			back.Write(r.RequestBody.GetResponse().GetBodyMutation().GetStreamedResponse().GetBody())
			back.Write(r.RequestBody.GetResponse().GetBodyMutation().GetBody())
		case *extprocv3.ProcessingResponse_RequestTrailers:
			step(3)
			answered["request_trailers"]++
		case *extprocv3.ProcessingResponse_ResponseHeaders:
			step(4)
			answered["response_headers"]++
		case *extprocv3.ProcessingResponse_ResponseBody:
			step(5)
			if responseMode != duplex {
				answered["response_body"]++
			}
		case *extprocv3.ProcessingResponse_ResponseTrailers:
			step(6)
			answered["response_trailers"]++
		case *extprocv3.ProcessingResponse_ImmediateResponse:
			past := tunnel || requestMode == none // bodies that went past the picker
			if i != len(s.out)-1 || routed && !(past && asked["request_trailers"] > 0) {
				t.Fatalf("an immediate response at %d of %d, with a route: %v", i, len(s.out), routed)
			}
		default:
			t.Fatalf("answer %d is empty: %v", i, m)
		}
	}
	for what, n := range answered {
		if n > asked[what] {
			t.Fatalf("%d answers to %d of %s", n, asked[what], what)
		}
	}
	if routed && clean && requestMode == duplex && asked["request_body"] > 0 {
		in, out := sent.String(), back.String()
		if out != in && !tunnel && out != strings.Replace(in, `"chat"`, `"llama-8b"`, 1) {
			t.Fatalf("of the body\n%q\ncame back\n%q", in, out)
		}
	}
}

// FuzzFrames hands over whatever protobuf can decode.
func FuzzFrames(f *testing.F) {
	for _, m := range []*extprocv3.ProcessingRequest{
		requestHeaders(false), requestBody(chatBody(1), true), responseHeaders(200, "application/json", false), responseBody(whole, true),
		with(requestHeaders(true), "envoy.lb.subset_hint", subsetKey, []any{"10.0.0.2:8000"}),
	} {
		data, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(data, data)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := &script{ctx: context.Background()}
		for _, data := range [][]byte{first, second} {
			m := new(extprocv3.ProcessingRequest)
			if proto.Unmarshal(data, m) != nil {
				return
			}
			s.in = append(s.in, m, proto.CloneOf(m))
		}
		fix := newFixture(t, nil)
		if _, ok := status.FromError(fix.server.Process(s)); !ok {
			t.Fatal("no status")
		}
		if fix.Sched.Open() != 0 {
			t.Fatalf("%d decisions are open", fix.Sched.Open())
		}
	})
}
