package epp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
)

// patience is how long a test waits for what has to happen.
const patience = 10 * time.Second

// Documents of configurations. Nothing is at the addresses: Envoy's side is played.

func poolYAML(name string) string {
	return fmt.Sprintf(`---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  targetPorts: [{number: 8000}]
`, name)
}

func modelYAML(model, pool, target string) string {
	return fmt.Sprintf(`---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: %[1]s}
spec:
  modelName: %[1]s
  poolRef: {name: %[2]s}
  targetModels: [{name: %[3]s}]
`, model, pool, target)
}

// endpointsYAML has endpoints a, b, … of a pool.
func endpointsYAML(pool string, addresses ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `---
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: of-%[1]s}
spec:
  poolRef: {name: %[1]s}
  endpoints:
`, pool)
	for i, a := range addresses {
		fmt.Fprintf(&b, "  - {id: %c, address: %q, metrics: {disabled: true}}\n", 'a'+i, a)
	}
	return b.String()
}

const pickerHead = `---
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
`

// roundRobin takes endpoints in turn, which tells whether a scheduler was kept.
const roundRobin = pickerHead + "plugins: [{type: round-robin-picker}]\n"

// Addresses of the pool llama.
const addressA, addressB, addressC = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"

// base is a pool whose model chat is served as llama-8b by three endpoints.
var base = poolYAML("llama") + modelYAML("chat", "llama", "llama-8b") + endpointsYAML("llama", addressA, addressB, addressC)

// put makes a file in the place of the old one, as mv does.
func put(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o600))
	must(t, os.Rename(path+".new", path))
}

func must(t testing.TB, err error) {
	t.Helper()
	require.NoError(t, err)
}

// eventually waits for something to become true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// options are those of an App on loopback, which looks at its configuration only
// when it is told to.
func options(config string) epp.Options {
	return epp.Options{
		Config: config, ReloadInterval: time.Hour,
		GRPCAddr: "127.0.0.1:0", HealthAddr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0", DrainTimeout: patience,
		TLS: epp.TLS{Off: true},
	}
}

// running is an App that runs.
type running struct {
	*epp.App
	t    testing.TB
	path string // of its configuration
	log  *logbuffer.Buffer
	stop context.CancelFunc
	done chan error // Run's result
}

// start runs an App with a configuration until the test ends.
func start(t testing.TB, text string, change func(*epp.Options)) *running {
	t.Helper()
	r, err := tryStart(t, text, change)
	must(t, err)
	return r
}

// tryStart is start of what may not be good.
func tryStart(t testing.TB, text string, change func(*epp.Options)) (*running, error) {
	t.Helper()
	r, err := launch(t, text, change)
	if err == nil {
		eventually(t, "serving", func() bool { return strings.Contains(r.log.String(), "msg=serving") })
	}
	return r, err
}

// launch is tryStart that does not wait.
func launch(t testing.TB, text string, change func(*epp.Options)) (*running, error) {
	t.Helper()
	r := &running{t: t, path: filepath.Join(t.TempDir(), "epp.yaml"), log: new(logbuffer.Buffer), done: make(chan error, 1)}
	put(t, r.path, text)
	o := options(r.path)
	o.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	if change != nil {
		change(&o)
	}
	var err error
	if r.App, err = epp.New(o); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(2 * patience):
			t.Error("Run does not return")
		}
	})
	return r, nil
}

// ends waits for Run to return.
func (r *running) ends() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		r.t.Fatal("Run does not return")
	}
	return nil
}

// client is Envoy's side of the picker's port.
func (r *running) client() extprocv3.ExternalProcessorClient {
	r.t.Helper()
	return extprocv3.NewExternalProcessorClient(dial(r.t, r.Address(), nil))
}

func dial(t testing.TB, address string, c *tls.Config) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if c != nil {
		creds = credentials.NewTLS(c)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(80<<20)))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func checkHealth(t testing.TB, address, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	return healthOf(t, dial(t, address, nil), service)
}

func healthOf(t testing.TB, conn *grpc.ClientConn, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	require.NoError(t, err, "health of %q", service)
	return answer.Status
}

// Envoy's side of exchanges.

// stream is one ext_proc stream, bodies full duplex.
type stream struct {
	t      testing.TB
	s      extprocv3.ExternalProcessor_ProcessClient
	cancel context.CancelFunc
}

func open(t testing.TB, c extprocv3.ExternalProcessorClient) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	s, err := c.Process(ctx)
	must(t, err)
	return &stream{t, s, cancel}
}

func (x *stream) send(m *extprocv3.ProcessingRequest) {
	x.t.Helper()
	if err := x.s.Send(m); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv says why
		x.t.Fatal(err)
	}
}

func (x *stream) recv() *extprocv3.ProcessingResponse {
	x.t.Helper()
	m, err := x.s.Recv()
	if err != nil {
		x.t.Fatalf("Recv: %v", err)
	}
	return m
}

// ask sends a request for a model, pairs being headers, and returns the answer.
func (x *stream) ask(model string, pairs ...string) *extprocv3.ProcessingResponse {
	x.t.Helper()
	x.send(requestHeaders(pairs...))
	x.send(envoyside.RequestBody(`{"model": "`+model+`", "messages": [{"role": "user", "content": "hello"}]}`, true))
	return x.recv()
}

// routed asks, takes the body back and returns where the request goes.
func (x *stream) routed(model string, pairs ...string) (address string) {
	x.t.Helper()
	address = destinationOf(x.t, x.ask(model, pairs...))
	if m := x.recv(); !m.GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetEndOfStream() {
		x.t.Fatalf("want the request's body, got %v", m)
	}
	return address
}

// finish plays the server's answer.
func (x *stream) finish() {
	x.t.Helper()
	x.send(envoyside.ResponseHeaders(200, "application/json", false))
	x.recv()
	x.send(envoyside.ResponseBody(`{"model": "llama-8b", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}`, true))
	for {
		m, err := x.s.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			x.t.Fatalf("the exchange ended with %v", err)
		}
		if m.GetResponseBody() == nil {
			x.t.Fatalf("want the response's body, got %v", m)
		}
	}
}

// exchanged is one whole exchange.
func exchanged(t testing.TB, c extprocv3.ExternalProcessorClient, model string, pairs ...string) (address string) {
	t.Helper()
	x := open(t, c)
	address = x.routed(model, pairs...)
	x.finish()
	return address
}

// refused asks for what is to be refused, and returns the status and why.
func refused(t testing.TB, c extprocv3.ExternalProcessorClient, model string, pairs ...string) (status int, body string) {
	t.Helper()
	m := open(t, c).ask(model, pairs...)
	i := m.GetImmediateResponse()
	if i == nil {
		t.Fatalf("want a refusal, got %v", m)
	}
	return int(i.Status.Code), string(i.Body)
}

// requestHeaders begins a stream, full duplex.
func requestHeaders(pairs ...string) *extprocv3.ProcessingRequest {
	m := envoyside.RequestHeaders(false, pairs...)
	m.ProtocolConfig = &extprocv3.ProtocolConfiguration{
		RequestBodyMode: modev3.ProcessingMode_FULL_DUPLEX_STREAMED, ResponseBodyMode: modev3.ProcessingMode_FULL_DUPLEX_STREAMED,
	}
	return m
}

// destinationOf returns the first endpoint that an answer names.
func destinationOf(t testing.TB, m *extprocv3.ProcessingResponse) string {
	t.Helper()
	for _, h := range m.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
		if h.Header.Key == "x-gateway-destination-endpoint" {
			first, _, _ := strings.Cut(string(h.Header.RawValue), ",")
			return first
		}
	}
	t.Fatalf("want a destination, got %v", m)
	return ""
}

// HTTP.

func fetch(t testing.TB, method, url, body string) (status int, header http.Header, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	must(t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Header, string(data)
}

// bodyFor is the whole body of a request for a model.
func bodyFor(model string) *extprocv3.ProcessingRequest {
	return envoyside.RequestBody(`{"model": "`+model+`", "messages": [{"role": "user", "content": "hello"}]}`, true)
}

// play sends the server's answer, whatever becomes of it.
func (x *stream) play() {
	x.s.Send(envoyside.ResponseHeaders(200, "application/json", false))
	x.s.Send(envoyside.ResponseBody(`{"model": "llama-8b", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}`, true))
}
