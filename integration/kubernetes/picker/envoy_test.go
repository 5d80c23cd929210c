package picker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// envoy plays Envoy with a picker: it asks where a request goes, sends it there, and shows the
// picker the answer.
type envoy struct {
	conn *grpc.ClientConn
	http *http.Client
}

func newEnvoy(address string) (*envoy, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &envoy{conn, &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

func (e *envoy) close() { e.conn.Close() }

// refusal is an answer of the picker itself.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.body) }

// ask sends a request for a model through the picker to a server, and returns which one.
func (e *envoy) ask(ctx context.Context, model string) (address string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	stream, err := extprocv3.NewExternalProcessorClient(e.conn).Process(ctx)
	if err != nil {
		return "", err
	}
	body := fmt.Sprintf(`{"model": %q, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}`, model)
	for _, m := range []*extprocv3.ProcessingRequest{
		{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: headers(
			":method", "POST", ":path", "/v1/chat/completions", ":authority", "llm", "content-type", "application/json")}}},
		{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true}}},
	} {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
	}
	address, sent, err := routed(stream)
	if err != nil {
		return "", err
	}
	status, answer, err := e.send(ctx, address, sent)
	if err == nil {
		err = show(stream, status, answer)
	}
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s answers %d: %s", address, status, answer)
	}
	return address, err
}

// routed takes the picker's answer: where the request goes, and with what body.
func routed(stream extprocv3.ExternalProcessor_ProcessClient) (address string, body []byte, err error) {
	for {
		m, err := stream.Recv()
		if err != nil {
			return "", nil, err
		}
		if i := m.GetImmediateResponse(); i != nil {
			return "", nil, &refusal{int(i.GetStatus().GetCode()), string(i.GetBody())}
		}
		for _, h := range m.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
			if h.GetHeader().GetKey() == "x-gateway-destination-endpoint" {
				address = string(h.GetHeader().GetRawValue())
			}
		}
		part := m.GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse()
		body = append(body, part.GetBody()...)
		if part.GetEndOfStream() {
			return address, body, nil
		}
	}
}

func (e *envoy) send(ctx context.Context, address string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+address+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// show shows the picker a server's answer, to its end.
func show(stream extprocv3.ExternalProcessor_ProcessClient, status int, answer []byte) error {
	for _, m := range []*extprocv3.ProcessingRequest{
		{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extprocv3.HttpHeaders{Headers: headers(
			":status", strconv.Itoa(status), "content-type", "application/json")}}},
		{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: &extprocv3.HttpBody{Body: answer, EndOfStream: true}}},
	} {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetEndOfStream():
			return stream.CloseSend()
		}
	}
}

// serving reports whether the picker says that it is ready.
func (e *envoy) serving(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := healthpb.NewHealthClient(e.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: "readiness"})
	if err == nil && answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		err = fmt.Errorf("the picker says %v", answer.GetStatus())
	}
	return err
}

// load is a number of clients that ask one request after the other.
type load struct {
	sent   atomic.Int64
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu     sync.Mutex
	errs   []error
	served map[string]int // by address
}

// load begins it; end ends it and returns what failed.
func (e *envoy) load(ctx context.Context, model string, clients int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel, served: make(map[string]int)}
	for range clients {
		l.wait.Go(func() {
			for ctx.Err() == nil {
				address, err := e.ask(context.WithoutCancel(ctx), model)
				l.sent.Add(1)
				l.mu.Lock()
				l.served[address]++
				if err != nil {
					l.errs = append(l.errs, fmt.Errorf("%s: %w", address, err))
				}
				l.mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) end() error {
	l.cancel()
	l.wait.Wait()
	return errors.Join(l.errs...)
}

// has reports whether a server was asked.
func (l *load) has(address string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.served[address] == 0 {
		return fmt.Errorf("%s was not asked", address)
	}
	return nil
}

func headers(pairs ...string) *corev3.HeaderMap {
	m := new(corev3.HeaderMap)
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}
