package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// holding is a server that answers when it is told to, once for each value sent to go.
func holding(t *testing.T) (address string, arrived chan string, release chan struct{}) {
	arrived, release = make(chan string, 64), make(chan struct{})
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.Header.Get("X-Session-Id")
		select {
		case <-release:
		case <-r.Context().Done():
		}
		answering(w, r)
	}), arrived, release
}

const classes = `apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: report}
spec: {modelName: report, criticality: Standard, poolRef: {name: llama}, targetModels: [{name: llama-8b}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: batch}
spec: {modelName: batch, criticality: Sheddable, poolRef: {name: llama}, targetModels: [{name: llama-8b}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: concurrency-detector, parameters: {maxConcurrency: 2}}]
saturationDetector: {pluginRef: concurrency-detector}
admission:
  bands:
  - {name: critical, priority: 100, maxWait: 30s, displace: true}
  - {name: standard, priority: 0, ceiling: 0.5, maxWait: 30s}
  - {name: sheddable, ceiling: 0.5, maxRequests: -1}
`

type answered struct {
	*http.Response
	body string
	err  error
}

// ask sends a request for a model in the background.
func (r *rig) ask(ctx context.Context, model, session string) <-chan answered {
	out := make(chan answered, 1)
	go func() {
		resp, body, err := r.do(ctx, "/v1/chat/completions", strings.Replace(chatBody(1), `"chat"`, `"`+model+`"`, 1), "x-session-id", session)
		out <- answered{resp, body, err}
	}()
	return out
}

// waits waits until so many requests wait in the picker.
func (r *rig) waits(n int) {
	r.t.Helper()
	waitFor(r.t, fmt.Sprintf("%d requests to wait", n), func() bool {
		return strings.Contains(r.metrics(), fmt.Sprintf("\ninferpick_admission_queued_requests{pool=\"llama\"} %d\n", n))
	})
}

// TestAdmission of a pool that is full: what is critical is served, what may wait waits,
// for longer than Envoy gives a message by default, and is served then; what is sheddable
// is refused. Who goes away meanwhile leaves no trace.
func TestAdmission(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			server, arrived, release := holding(t)
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}, config: classes})
			ctx := t.Context()
			arrives := func(want string) {
				t.Helper()
				select {
				case got := <-arrived:
					if got != want {
						t.Fatalf("the request %s is served, want %s", got, want)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("the request %s is not served", want)
				}
			}
			served := func(name string, out <-chan answered) {
				t.Helper()
				if a := <-out; a.err != nil || a.StatusCode != 200 || !strings.Contains(a.body, "chat.completion") {
					t.Errorf("%s: %v, %v %s", name, a.err, a.Response, a.body)
				}
			}

			first := r.ask(ctx, "report", "first") // and that is all there is room for, of this class
			arrives("first")
			second := r.ask(ctx, "report", "second")
			r.waits(1)
			gone, cancel := context.WithCancel(ctx)
			third := r.ask(gone, "report", "third")
			r.waits(2)
			batch := <-r.ask(ctx, "batch", "batch")
			if batch.err != nil || batch.StatusCode != 429 || batch.Header.Get("x-inferpick-reason") != "saturated" ||
				batch.Header.Get("retry-after") == "" || !strings.Contains(batch.body, `"code":"saturated"`) {
				t.Errorf("what is sheddable: %v, %v %s", batch.err, batch.Response, batch.body)
			}
			critical := r.ask(ctx, "chat", "critical")
			arrives("critical")
			cancel()
			if a := <-third; a.err == nil {
				t.Errorf("the third was answered: %v", a.Response)
			}
			r.waits(1)

			time.Sleep(500 * time.Millisecond)
			release <- struct{}{}
			release <- struct{}{}
			served("first", first)
			served("critical", critical)
			arrives("second")
			release <- struct{}{}
			served("second", second)
			r.settled()
			r.waits(0)
			page := r.metrics()
			for _, want := range []string{
				`inferpick_admission_refused_total{pool="llama",priority="-100",reason="saturated"} 1`,
				`inferpick_admission_cancelled_total{pool="llama",priority="0"} 1`,
				`inferpick_admission_dispatched_total{pool="llama",priority="0"} 2`,
				`inferpick_admission_dispatched_total{pool="llama",priority="100"} 1`,
			} {
				require.Contains(t, page, want)
			}
		})
	}
}

// TestTrapMessageTimeoutEndsWaiting: where bodies are buffered Envoy waits for the answer
// for message_timeout and no longer, so that it has to be that of the longest wait.
func TestTrapMessageTimeoutEndsWaiting(t *testing.T) {
	for _, failOpen := range []bool{false, true} {
		t.Run(fmt.Sprintf("failOpen=%v", failOpen), func(t *testing.T) {
			server, arrived, release := holding(t)
			r := newRig(t, rigOptions{servers: []string{server}, config: classes, envoy: func(t *testing.T, b *envoyproxy.Bootstrap) {
				bodies(extprocv3.ProcessingMode_BUFFERED)(t, b)
				err := b.ExtProc(func(p *extprocv3.ExternalProcessor) {
					p.MessageTimeout, p.FailureModeAllow = durationpb.New(300*time.Millisecond), failOpen
				})
				require.NoError(t, err)
			}})
			first := r.ask(t.Context(), "report", "first")
			<-arrived
			second := r.ask(t.Context(), "report", "second")
			want := 504
			if failOpen {
				<-arrived // the server has both, whatever the picker says
				release <- struct{}{}
				release <- struct{}{}
				want = 200
			}
			if a := <-second; a.err != nil || a.StatusCode != want {
				t.Errorf("what waited for too long: %v, %v, want status %d", a.err, a.Response, want)
			}
			r.waits(0)
			if !failOpen {
				release <- struct{}{}
			}
			<-first
			r.settled()
		})
	}
}
