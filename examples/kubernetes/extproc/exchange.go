package extproc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
)

// Exchange is a request and its answer at a picker.
type Exchange struct {
	// Endpoints are the addresses to send the request to, host:port, the best first.
	Endpoints []string
	// Header and Body are the request as the picker wants it sent.
	Header http.Header
	Body   []byte

	stream grpc.BidiStreamingClient[extprocv3.ProcessingRequest, extprocv3.ProcessingResponse]
	cancel context.CancelFunc
}

// chunk is how much of a body is in one message.
const chunk = 64 << 10

// Begin asks where a request is to go, whose body is given. A picker that answers the request
// itself returns that response; the error wraps ErrUnavailable. An Exchange is to be ended:
// by Response, or by Close.
func (c *Client) Begin(ctx context.Context, p Picker, r *http.Request, body []byte) (*Exchange, *http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	x := &Exchange{Header: r.Header.Clone(), Body: body, cancel: cancel}
	answer, err := x.begin(ctx, c, p, r)
	if err != nil || answer != nil {
		x.Close()
		return nil, answer, err
	}
	return x, nil, nil
}

func (x *Exchange) begin(ctx context.Context, c *Client, p Picker, r *http.Request) (answer *http.Response, err error) {
	if x.stream, err = c.open(ctx, p); err != nil {
		return nil, err
	}
	sent, body := make(chan struct{}), x.Body
	go func() { // a picker may answer before it has read all
		defer close(sent)
		x.sendRequest(r, body)
	}()
	defer func() {
		if err != nil || answer != nil {
			x.cancel()
		}
		<-sent // the stream is for one sender at a time
	}()
	answer, err = x.receiveRequest(r)
	if err == nil && answer == nil && len(x.Endpoints) == 0 {
		err = fmt.Errorf("%w: it names no endpoint", ErrUnavailable)
	}
	return answer, err
}

// sendRequest sends a request. If that fails, so does what is received.
func (x *Exchange) sendRequest(r *http.Request, body []byte) {
	err := x.stream.Send(&extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{
			Headers: requestHeaders(r), EndOfStream: len(body) == 0,
		}},
		ProtocolConfig: &extprocv3.ProtocolConfiguration{
			RequestBodyMode:  modev3.ProcessingMode_FULL_DUPLEX_STREAMED,
			ResponseBodyMode: modev3.ProcessingMode_FULL_DUPLEX_STREAMED,
		},
	})
	for rest := body; len(rest) > 0 && err == nil; {
		piece := rest[:min(chunk, len(rest))]
		rest = rest[len(piece):]
		err = x.stream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
			RequestBody: &extprocv3.HttpBody{Body: piece, EndOfStream: len(rest) == 0},
		}})
	}
}

// receiveRequest receives where the request goes, and what it is like then.
func (x *Exchange) receiveRequest(r *http.Request) (*http.Response, error) {
	var body bytes.Buffer
	for {
		m, err := x.stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		x.readEndpoints(m)
		switch a := m.Response.(type) {
		case *extprocv3.ProcessingResponse_ImmediateResponse:
			return immediate(r, a.ImmediateResponse), nil
		case *extprocv3.ProcessingResponse_RequestHeaders:
			common := a.RequestHeaders.GetResponse()
			x.mutate(common)
			if whole := common.GetBodyMutation().GetBody(); whole != nil {
				x.Body = whole
				return nil, nil
			}
			if len(x.Body) == 0 {
				return nil, nil
			}
		case *extprocv3.ProcessingResponse_RequestBody:
			common := a.RequestBody.GetResponse()
			x.mutate(common)
			streamed := common.GetBodyMutation().GetStreamedResponse()
			if streamed == nil { // all of it at once
				if whole := common.GetBodyMutation().GetBody(); whole != nil {
					x.Body = whole
				}
				return nil, nil
			}
			body.Write(streamed.GetBody())
			if streamed.GetEndOfStream() {
				x.Body = body.Bytes()
				return nil, nil
			}
		default:
			return nil, fmt.Errorf("%w: %T is no answer to a request", ErrUnavailable, a)
		}
	}
}

// mutate changes the headers of the request.
func (x *Exchange) mutate(r *extprocv3.CommonResponse) {
	mutateHeader(x.Header, r.GetHeaderMutation())
	if to := x.Header.Get(keyDestination); to != "" && len(x.Endpoints) == 0 {
		x.Endpoints = addresses(to)
	}
}

// readEndpoints reads where the request goes from the metadata of an answer.
func (x *Exchange) readEndpoints(m *extprocv3.ProcessingResponse) {
	to := m.GetDynamicMetadata().GetFields()[namespaceLB].GetStructValue().GetFields()[keyDestination].GetStringValue()
	if to != "" {
		x.Endpoints = addresses(to)
	}
}

func addresses(list string) []string {
	var all []string
	for a := range strings.SplitSeq(list, ",") {
		if a = strings.TrimSpace(a); a != "" {
			all = append(all, a)
		}
	}
	return all
}

// Close ends an exchange that has no response.
func (x *Exchange) Close() {
	x.cancel()
}

// Response tells the picker of the response of an endpoint, and lets it change that. Its body
// ends the exchange. A picker that is gone by now changes nothing.
func (x *Exchange) Response(resp *http.Response, served string) {
	err := x.stream.Send(&extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extprocv3.HttpHeaders{
			Headers: responseHeaders(resp), EndOfStream: resp.Body == http.NoBody,
		}},
		MetadataContext: servedBy(served),
	})
	var m *extprocv3.ProcessingResponse
	if err == nil {
		m, err = x.stream.Recv()
	}
	if err != nil || m.GetResponseHeaders() == nil {
		x.Close()
		return
	}
	mutateHeader(resp.Header, m.GetResponseHeaders().GetResponse().GetHeaderMutation())
	if resp.Body == http.NoBody {
		x.Close()
		return
	}
	resp.ContentLength = -1
	resp.Header.Del("Content-Length")
	resp.Body = newBody(x, resp.Body)
}

// body is a response's body on its way through the picker.
type body struct {
	x      *Exchange
	from   io.ReadCloser // of the endpoint
	sent   chan struct{} // closed when all of from was sent, or cannot be
	ready  []byte
	ended  bool
	failed error // of from; set before sent is closed
}

func newBody(x *Exchange, from io.ReadCloser) *body {
	b := &body{x: x, from: from, sent: make(chan struct{})}
	go b.send()
	return b
}

// send sends the body as it comes.
func (b *body) send() {
	defer close(b.sent)
	buffer := make([]byte, chunk)
	for {
		n, err := b.from.Read(buffer)
		if err != nil && err != io.EOF {
			b.failed = err
			b.x.cancel()
			return
		}
		m := &extprocv3.HttpBody{Body: bytes.Clone(buffer[:n]), EndOfStream: err == io.EOF}
		if n == 0 && err == nil {
			continue
		}
		if sendErr := b.x.stream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: m}}); sendErr != nil || err == io.EOF {
			return
		}
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	for len(b.ready) == 0 {
		if b.ended {
			return 0, io.EOF
		}
		m, err := b.x.stream.Recv()
		if err != nil {
			b.x.cancel()
			b.from.Close()
			<-b.sent
			if b.failed != nil {
				return 0, b.failed
			}
			return 0, fmt.Errorf("%w: the answer was cut off: %w", ErrUnavailable, err)
		}
		mutation := m.GetResponseBody().GetResponse().GetBodyMutation()
		streamed := mutation.GetStreamedResponse()
		b.ready, b.ended = streamed.GetBody(), streamed.GetEndOfStream()
	}
	n := copy(p, b.ready)
	b.ready = b.ready[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.x.cancel()
	err := b.from.Close()
	<-b.sent
	return err
}
