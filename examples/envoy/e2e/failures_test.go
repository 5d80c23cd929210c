package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	setmetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_metadata/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// TestTrapControlHeadersFromClients: a client that names its own destination, subset or
// served endpoint gets nowhere with it, whatever the variant and the way it is written.
func TestTrapControlHeadersFromClients(t *testing.T) {
	var intruder atomic.Int64
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { intruder.Add(1) })
	var forged atomic.Int64
	servers := make([]string, 3)
	for i := range servers {
		servers[i] = serve(t, func(w http.ResponseWriter, r *http.Request) {
			for name, values := range r.Header {
				if strings.HasPrefix(name, "X-Gateway-Destination-Endpoint") && strings.Contains(strings.Join(values, ","), elsewhere) {
					forged.Add(1)
				}
			}
			answering(w, r)
		})
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: servers})
			for _, name := range []string{
				"x-gateway-destination-endpoint", "X-GATEWAY-DESTINATION-ENDPOINT", "x-gateway-destination-endpoint-subset",
				"x-gateway-destination-endpoint-served", "x-gateway-destination-endpoint-fallback", "x-inferpick-pool",
			} {
				resp, body, err := r.post(t.Context(), 1, name, elsewhere)
				if err != nil || resp.StatusCode != 200 || body != restored {
					t.Errorf("%s: %v, %s", name, err, body)
					continue
				}
				by := resp.Header.Get("x-served-by")
				require.Contains(t, strings.Join(servers, " "), by)
			}
			if intruder.Load() != 0 || forged.Load() != 0 {
				t.Errorf("%d requests went where a client said, %d had its header", intruder.Load(), forged.Load())
			}
			r.settled()
		})
	}
}

// TestDeadServer: what the picker chose first is not there; Envoy goes to the fallback,
// and the picker learns of it.
func TestDeadServer(t *testing.T) {
	for _, v := range adapters {
		t.Run(v.name, func(t *testing.T) {
			alive := serve(t, answering)
			dead := unused(t)
			failing := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{dead, failing, alive}, config: declaredProfile("random-picker", 2)})
			firsts := map[string]int{}
			for range 40 {
				r.resetViews()
				resp, body, err := r.post(t.Context(), 1, "x-session-id", "r")
				if err != nil || resp.StatusCode != 200 || body != restored {
					t.Fatalf("%v, %s", err, body)
				}
				seen := r.view("r")
				chosen, served := seen.Chosen, seen.Served
				firsts[chosen]++
				if by := resp.Header.Get("x-served-by"); by != alive || served != alive {
					t.Errorf("chosen %s, served by %s, the picker believes %s", chosen, by, served)
				}
			}
			if firsts[dead] == 0 || firsts[failing] == 0 || firsts[alive] == 0 {
				t.Errorf("first choices were %v, want each at some time", firsts)
			}
			r.settled()
			if page := r.metrics(); !strings.Contains(page, `inferpick_retries_total{pool="llama"}`) || strings.Contains(page, `inferpick_retries_total{pool="llama"} 0`) {
				t.Error("no retry was counted")
			}
		})
	}
}

// declaredProfile is a document with a picker and a number of fallbacks.
func declaredProfile(picker string, fallbacks int) string {
	return fmt.Sprintf(`
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: %s}]
schedulingProfiles:
- {name: default, fallbacks: %d, plugins: [{pluginRef: %s}]}
`, picker, fallbacks, picker)
}

// metrics returns the picker's page.
func (r *rig) metrics() string {
	r.t.Helper()
	resp, err := http.Get("http://" + r.state(false).Metrics + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(page)
}

// TestViewsAgree: of 5,000 requests, some of which are retried, Envoy and the picker
// believe of each the same about who served it.
func TestViewsAgree(t *testing.T) {
	for _, v := range adapters {
		t.Run(v.name, func(t *testing.T) {
			const requests, clients = 5_000, 32
			var n atomic.Int64
			var servers []string
			for range 4 {
				servers = append(servers, serve(t, func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					if n.Add(1)%17 == 0 {
						w.WriteHeader(http.StatusServiceUnavailable) // once more, elsewhere
						return
					}
					answering(w, r)
				}))
			}
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: servers})
			type answer struct {
				status int
				by     string
			}
			var next atomic.Int64
			answers := make([]answer, requests+1) // each client has its own
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for i := next.Add(1); i <= requests; i = next.Add(1) {
						id := fmt.Sprint("r", i)
						resp, _, err := r.post(t.Context(), 1, "x-session-id", id)
						if err != nil {
							t.Errorf("request %d: %v", i, err)
							return
						}
						answers[i] = answer{resp.StatusCode, resp.Header.Get("x-served-by")}
					}
				})
			}
			wg.Wait()
			views, moved, refused := r.views(), 0, 0
			for i, a := range answers[1:] {
				seen := views[fmt.Sprint("r", i+1)]
				if a.by != seen.Served {
					t.Errorf("request %d (%d): served by %s, the picker believes %s", i+1, a.status, a.by, seen.Served)
				}
				if seen.Chosen != seen.Served {
					moved++
				}
				if a.status != 200 {
					refused++
				}
			}
			if moved < 100 {
				t.Errorf("%d requests were served by another than the first choice, want some hundred", moved)
			}
			t.Logf("%d of %d were retried elsewhere, %d failed everywhere", moved, requests, refused)
			r.settled()
		})
	}
}

// TestPickerKilled under load: FailClose refuses while it is gone, FailOpen serves by
// Envoy's own choice; when it is back it chooses again.
func TestPickerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long; with the race detector, others run the picker")
	}
	for _, open := range []bool{false, true} {
		t.Run(map[bool]string{false: "FailClose", true: "FailOpen"}[open], func(t *testing.T) {
			t.Parallel()
			servers := []string{serve(t, answering), serve(t, answering)}
			r := newRig(t, rigOptions{servers: servers, envoy: func(t *testing.T, b *envoyproxy.Bootstrap) {
				require.NoError(t, b.FailOpen(open))
			}, picker: func(o *epp.Options) { o.DrainTimeout = time.Millisecond }})
			var ok, refused, picked, other, cut atomic.Int64
			var killing, gone atomic.Bool
			done := make(chan struct{})
			var wg sync.WaitGroup
			end := sync.OnceFunc(func() {
				close(done)
				wg.Wait()
			})
			defer end()
			for c := range 8 {
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-done:
							return
						default:
						}
						id := fmt.Sprintf("%d-%d", c, i)
						before := !gone.Load()
						resp, body, err := r.post(t.Context(), 100, "x-session-id", id)
						switch {
						case err != nil && before && killing.Load():
							cut.Add(1) // what of its answer was in the picker is lost with it
						case err != nil:
							other.Add(1)
							t.Errorf("request %s: %v", id, err)
						case resp.StatusCode == 200 && (body == restored || body == answer):
							ok.Add(1)
							if r.view(id).Served != "" {
								picked.Add(1)
							}
						case resp.StatusCode == 503 || resp.StatusCode == 500:
							refused.Add(1)
						default:
							other.Add(1)
							t.Errorf("request %s: %s %s", id, resp.Status, body)
						}
					}
				})
			}
			count := func() [3]int64 { return [3]int64{ok.Load(), refused.Load(), picked.Load()} }
			waitFor(t, "picks", func() bool { return picked.Load() > 100 })
			address := r.picker.app.Address()
			killing.Store(true)
			require.NoError(t, r.picker.stop())
			gone.Store(true)
			// Until Envoy knows that it is gone, it may refuse in either case.
			start := count()
			waitFor(t, "Envoy to notice", func() bool {
				now := count()
				return open && now[0] > start[0]+100 || !open && now[1] > start[1]+100
			})
			time.Sleep(100 * time.Millisecond)
			before := count()
			time.Sleep(700 * time.Millisecond)
			after := count()
			served, shed, chosen := after[0]-before[0], after[1]-before[1], after[2]-before[2]
			t.Logf("without the picker: %d served, %d refused; %d were cut off with it", served, shed, cut.Load())
			switch {
			case chosen > 0:
				t.Errorf("%d requests were picked by nobody", chosen)
			case open && (served == 0 || shed > served/20):
				t.Errorf("FailOpen: %d served, %d refused", served, shed)
			case !open && (served > 0 || shed == 0):
				t.Errorf("FailClose: %d served, %d refused", served, shed)
			}
			r.startPicker(address)
			before = count()
			waitFor(t, "picks after the restart", func() bool { return count()[2] > before[2]+100 })
			settled := count()
			time.Sleep(300 * time.Millisecond)
			if now := count(); now[1] != settled[1] && !open {
				t.Errorf("%d requests were still refused after the picker was back", now[1]-settled[1])
			}
			end()
			r.settled()
		})
	}
}

// TestSubsetFromEnvoy: the hint that a filter of Envoy sets restricts the choice.
func TestSubsetFromEnvoy(t *testing.T) {
	servers := []string{serve(t, answering), serve(t, answering), serve(t, answering)}
	for _, v := range adapters {
		for _, tt := range []struct {
			name   string
			hint   *structpb.Value
			status int
		}{
			{"list", structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue(servers[1])}}), 200},
			{"string", structpb.NewStringValue(servers[1]), 200},
			{"nobody", structpb.NewStringValue("127.0.0.1:1"), 503},
		} {
			t.Run(v.name+", "+tt.name, func(t *testing.T) {
				r := newRig(t, rigOptions{bootstrap: v.bootstrap, servers: servers, envoy: func(t *testing.T, b *envoyproxy.Bootstrap) {
					filter, err := anypb.New(&setmetadatav3.Config{Metadata: []*setmetadatav3.Metadata{{
						MetadataNamespace: "envoy.lb.subset_hint", AllowOverwrite: true,
						Value: &structpb.Struct{Fields: map[string]*structpb.Value{"x-gateway-destination-endpoint-subset": tt.hint}},
					}}})
					require.NoError(t, err)
					err = b.Manager(func(m *hcmv3.HttpConnectionManager) {
						m.HttpFilters = append([]*hcmv3.HttpFilter{{
							Name: "envoy.filters.http.set_metadata", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: filter},
						}}, m.HttpFilters...)
					})
					require.NoError(t, err)
				}})
				for range 5 {
					resp, body, err := r.post(t.Context(), 1)
					if err != nil || resp.StatusCode != tt.status {
						t.Fatalf("%v %s, want %d: %s", err, resp.Status, tt.status, body)
					}
					if by := resp.Header.Get("x-served-by"); tt.status == 200 && by != servers[1] {
						t.Errorf("served by %s, want %s", by, servers[1])
					}
				}
			})
		}
	}
}

// TestPlain: picker and Envoy need no TLS.
func TestPlain(t *testing.T) {
	server := serve(t, answering)
	r := newRig(t, rigOptions{servers: []string{server}, picker: func(o *epp.Options) { o.TLS.Off = true },
		envoy: func(_ *testing.T, b *envoyproxy.Bootstrap) { b.Cluster("endpoint_picker").TransportSocket = nil }})
	resp, body, err := r.post(t.Context(), 1000)
	if err != nil || resp.StatusCode != 200 || body != restored {
		t.Errorf("%v, %s", err, body)
	}
}

// TestUnixSocket: picker and Envoy meet at a path.
func TestUnixSocket(t *testing.T) {
	server := serve(t, answering)
	path := t.TempDir() + "/epp.sock"
	r := newRig(t, rigOptions{servers: []string{server}, picker: func(o *epp.Options) { o.GRPCAddr = "unix:" + path }})
	resp, body, err := r.post(t.Context(), 1000)
	if err != nil || resp.StatusCode != 200 || body != restored {
		t.Errorf("%v, %s", err, body)
	}
}
