package epp_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda/externalscaler"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
	"github.com/inferpick/inferpick/types"
)

// scaled is a pool without servers, whose requests wait for some, and which is scaled to zero.
var scaled = poolYAML("llama") + modelYAML("chat", "llama", "llama-8b") + pickerHead + `
admission: {waitForEndpoints: 1m}
autoscale: {max: 4, toZero: true, idleAfter: 1s}
`

func withAutoscale(o *epp.Options) {
	o.Autoscale = &epp.Autoscale{KEDAAddr: "127.0.0.1:0", Every: 20 * time.Millisecond}
}

// scaler is KEDA's side.
func (r *running) scaler() externalscaler.ExternalScalerClient {
	r.t.Helper()
	return externalscaler.NewExternalScalerClient(dial(r.t, r.KEDAAddress(), nil))
}

// scaledObject is one in the pool's namespace, whose trigger has metadata in pairs.
func scaledObject(pairs ...string) *externalscaler.ScaledObjectRef {
	data := map[string]string{"pool": "llama", "scalerAddress": "epp:9005"}
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i]] = pairs[i+1]
	}
	return &externalscaler.ScaledObjectRef{Name: "llama", Namespace: "default", ScalerMetadata: data}
}

func ask(t testing.TB, c externalscaler.ExternalScalerClient, ref *externalscaler.ScaledObjectRef) (float64, error) {
	t.Helper()
	metric := ref.ScalerMetadata["metric"]
	if metric == "" {
		metric = "desired"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := c.GetMetrics(ctx, &externalscaler.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "inferpick-" + metric})
	if err != nil {
		return 0, err
	}
	return m.MetricValues[0].MetricValueFloat, nil
}

// TestFromZero: a request waits for a pool that has no server; KEDA is told, starts one, and the request is answered; once
// nothing has come for a while KEDA is told that, too.
func TestFromZero(t *testing.T) {
	t.Parallel()
	r := start(t, scaled, withAutoscale)
	c := r.scaler()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	stream, err := c.StreamIsActive(ctx, scaledObject())
	must(t, err)
	hear := func(want bool) {
		t.Helper()
		m, err := stream.Recv()
		must(t, err)
		require.Equal(t, want, m.Result)
	}
	hear(false)

	x := open(t, r.client())
	begun := time.Now()
	x.send(requestHeaders())
	x.send(bodyFor("chat"))
	hear(true)
	t.Logf("KEDA was told after %v", time.Since(begun))
	eventually(t, "a replica is recommended", func() bool {
		v, err := ask(t, c, scaledObject())
		must(t, err)
		return v >= 1
	})
	v, err := ask(t, c, scaledObject("metric", "queued", "target", "1"))
	must(t, err)
	require.Equal(t, 1.0, v)
	v, err = ask(t, c, scaledObject("metric", "queued", "target", "1", "model", "chat"))
	must(t, err)
	require.Equal(t, 1.0, v)

	put(t, r.path, scaled+endpointsYAML("llama", addressA)) // what KEDA has started serves
	must(t, r.Reload())
	require.Equal(t, addressA, destinationOf(t, x.recv()))
	for !x.recv().GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetEndOfStream() {
	}
	eventually(t, "it runs", func() bool {
		v, err := ask(t, c, scaledObject("metric", "running", "target", "16"))
		return err == nil && v == 1
	})
	x.finish()
	hear(false)
	v, err = ask(t, c, scaledObject())
	must(t, err)
	require.Zero(t, v)
}

// TestUnknownModelsWakeNobody: a request that is refused as such does not start servers.
func TestUnknownModelsWakeNobody(t *testing.T) {
	t.Parallel()
	r := start(t, scaled, func(o *epp.Options) { withAutoscale(o); o.RefuseUnknownModels = true })
	c := r.scaler()
	for range 5 {
		code, _ := refused(t, r.client(), "nobody")
		require.Equal(t, 404, code)
	}
	active, err := c.IsActive(context.Background(), scaledObject())
	must(t, err)
	require.False(t, active.Result)
	_, err = ask(t, c, scaledObject("model", "nobody", "metric", "queued", "target", "1"))
	require.Equal(t, codes.NotFound, status.Code(err))
	_, err = ask(t, c, scaledObject("pool", "gemma"))
	require.Equal(t, codes.NotFound, status.Code(err))
}

// TestAutoscalePages: what is served at the address of metrics.
func TestAutoscalePages(t *testing.T) {
	t.Parallel()
	r := start(t, base+roundRobin, withAutoscale)
	exchanged(t, r.client(), "chat")
	url := "http://" + r.MetricsAddress()
	var page autoscale.Page
	eventually(t, "the request is seen", func() bool {
		code, _, body := fetch(t, "GET", url+"/autoscale", "")
		require.Equal(t, 200, code, body)
		require.NoError(t, json.Unmarshal([]byte(body), &page))
		return len(page.Pools) == 1 && len(page.Pools[0].Models) == 1
	})
	require.Equal(t, types.NamespacedName{Namespace: "default", Name: "llama"}, page.Pools[0].Pool)
	require.Equal(t, 3, page.Pools[0].Signals.Ready)
	require.Equal(t, "chat", page.Pools[0].Models[0].Model)
	require.NotNil(t, page.Pools[0].Recommendation)
	code, _, body := fetch(t, "GET", url+"/autoscale/own", "")
	require.Equal(t, 200, code)
	require.Contains(t, body, `"gateway"`)
	code, _, _ = fetch(t, "GET", url+"/autoscale?pool=default/gemma", "")
	require.Equal(t, 404, code)
	_, err := ask(t, r.scaler(), scaledObject("metric", "queue", "target", "1"))
	require.Error(t, err)
	_, _, body = fetch(t, "GET", url+"/metrics", "")
	require.Contains(t, body, `inferpick_keda_calls_total{code="InvalidArgument",method="GetMetrics"} 1`)
	require.Contains(t, body, "inferpick_keda_streams 0")
	require.Contains(t, body, "inferpick_pool_desired_replicas{")
	require.Contains(t, body, "inferpick_autoscale_missing_gateways 0")

	off := start(t, base, nil)
	code, _, body = fetch(t, "GET", "http://"+off.MetricsAddress()+"/autoscale", "")
	require.Equal(t, 404, code)
	require.Contains(t, body, "-autoscale, turns it on")
	require.Empty(t, off.KEDAAddress())
	require.Empty(t, off.ExternalMetricsAddress())
	require.Nil(t, off.Autoscaler())
}

// TestScalerAtPickersPort: beside Envoy's requests, on one port.
func TestScalerAtPickersPort(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.Autoscale = &epp.Autoscale{KEDAAddr: epp.PickerPort} })
	require.Equal(t, r.Address(), r.KEDAAddress())
	v, err := ask(t, r.scaler(), scaledObject())
	must(t, err)
	require.Positive(t, v)
	exchanged(t, r.client(), "chat")
}

// TestScalerEnds: streams end when the picker does, before those of requests, and nothing is left of them.
func TestScalerEnds(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", epp.PickerPort} {
		before := runtime.NumGoroutine()
		t.Run(at, func(t *testing.T) {
			r := start(t, base, func(o *epp.Options) { o.Autoscale = &epp.Autoscale{KEDAAddr: at} })
			c := r.scaler()
			var ended atomic.Int64
			for range 20 {
				stream, err := c.StreamIsActive(context.Background(), scaledObject())
				must(t, err)
				_, err = stream.Recv()
				must(t, err)
				go func() {
					_, err := stream.Recv()
					if status.Code(err) != codes.Canceled && err != nil {
						ended.Add(1)
					}
				}()
			}
			r.stop()
			must(t, r.ends())
			eventually(t, "all streams end", func() bool { return ended.Load() == 20 })
		})
		eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+2 })
	}
}

// TestOtherPickers: what another picker has queued is part of the sum, and while it is away there is no sum.
func TestOtherPickers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	tokens := func(o *epp.Options) { withAutoscale(o); o.MetricsTokenFile = file }
	other := start(t, scaled, tokens)
	// The address of the other one is that of a name, which leads to nowhere, too, when it is told to.
	var hosts atomic.Pointer[[]string]
	hosts.Store(&[]string{"127.0.0.1"})
	_, port, _ := net.SplitHostPort(other.MetricsAddress())
	peers, err := epp.NewPickers(epp.Pickers{
		Addresses: []string{"pickers:" + port}, TokenFile: file,
		Resolve: func(context.Context, string) ([]string, error) { return *hosts.Load(), nil },
	})
	must(t, err)
	r := start(t, scaled, func(o *epp.Options) { tokens(o); o.Autoscale.Peers = peers })
	c := r.scaler()

	x := open(t, other.client())
	x.send(requestHeaders())
	x.send(bodyFor("chat"))
	queued := scaledObject("metric", "queued", "target", "1")
	eventually(t, "what the other has is seen", func() bool {
		v, err := ask(t, c, queued)
		must(t, err)
		return v == 1
	})
	active, err := c.IsActive(context.Background(), scaledObject())
	must(t, err)
	require.True(t, active.Result)

	hosts.Store(&[]string{"127.0.0.1", "127.0.0.9"})
	eventually(t, "a part is not told as the whole", func() bool {
		_, err := ask(t, c, queued)
		return status.Code(err) == codes.Unavailable
	})
	hosts.Store(&[]string{"127.0.0.1"})
	eventually(t, "the whole is told again", func() bool {
		v, err := ask(t, c, queued)
		return err == nil && v == 1
	})
	_, err = epp.NewPickers(epp.Pickers{Addresses: []string{"pickers"}})
	require.ErrorContains(t, err, `Pickers.Addresses has "pickers", want host:port`)
}

// TestSharingPickers: pickers that share tell each other what waits, at once if that wakes a pool, without being told
// who they are a second time.
func TestSharingPickers(t *testing.T) {
	t.Parallel()
	network := sharingtest.NewNetwork(sharingtest.NetworkOptions{})
	sharer := func(name string) *running {
		return start(t, scaled, func(o *epp.Options) {
			o.Autoscale = &epp.Autoscale{KEDAAddr: "127.0.0.1:0", Every: 200 * time.Millisecond}
			o.Sharing = &sharing.Options{Name: name, Transport: network.Open(name), Every: sharing.LeastEvery}
		})
	}
	one, two := sharer("one"), sharer("two")
	c := two.scaler()
	eventually(t, "they know each other, and that nothing waits", func() bool {
		_, err := ask(t, c, scaledObject())
		page, pageErr := two.Autoscaler().Page(t.Context(), types.NamespacedName{})
		return err == nil && pageErr == nil && page.Pools[0].Signals.Gateways == 2
	})
	stream, err := c.StreamIsActive(t.Context(), scaledObject())
	must(t, err)
	m, err := stream.Recv()
	must(t, err)
	require.False(t, m.Result)

	x := open(t, one.client())
	begun := time.Now()
	x.send(requestHeaders())
	x.send(bodyFor("chat"))
	m, err = stream.Recv()
	must(t, err)
	require.True(t, m.Result)
	t.Logf("KEDA was told by the other picker after %v", time.Since(begun))
	eventually(t, "what the other has is part of the sum", func() bool {
		v, err := ask(t, c, scaledObject("metric", "queued", "target", "1"))
		return err == nil && v == 1
	})
}

// TestPickersTLS: certificates are for a name, whatever the address; those that changed count.
func TestPickersTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"version": 1, "gateway": "other", "signals": []}`))
	}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for name, missing := range map[string]int{"example.com": 0, "other.example.org": 1} { // the certificate is for the first
		peers, err := epp.NewPickers(epp.Pickers{
			Addresses: []string{"https://" + name + ":" + port}, CAFile: ca,
			Resolve: func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil },
		})
		must(t, err)
		_, n, err := peers.Ask(context.Background())
		must(t, err)
		require.Equal(t, missing, n, name)
	}
}

func TestAutoscaleOptions(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*epp.Options){
		"ExternalMetricsAddr needs Options.Kubernetes": func(o *epp.Options) { o.Autoscale = &epp.Autoscale{ExternalMetricsAddr: ":0"} },
		"ExternalMetricsTLS is off":                    func(o *epp.Options) { o.Autoscale = &epp.Autoscale{ExternalMetricsTLS: epp.TLS{Off: true}} },
		"KEDA address":                                 func(o *epp.Options) { o.Autoscale = &epp.Autoscale{KEDAAddr: "nowhere"} },
		"Every is -1s":                                 func(o *epp.Options) { o.Autoscale = &epp.Autoscale{Every: -time.Second} },
	} {
		_, err := launch(t, base, change)
		require.ErrorContains(t, err, want)
	}
	_, err := launch(t, base+pickerHead+"autoscale: {min: 5, max: 2}\n", withAutoscale)
	require.Error(t, err)
	require.True(t, strings.Contains(err.Error(), "autoscale"), err)
}

// TestRefusedWakes: without admission control nobody waits, but who is refused for want of servers wakes the pool.
func TestRefusedWakes(t *testing.T) {
	t.Parallel()
	r := start(t, strings.Replace(scaled, "admission: {waitForEndpoints: 1m}\n", "", 1), withAutoscale)
	c := r.scaler()
	stream, err := c.StreamIsActive(t.Context(), scaledObject())
	must(t, err)
	m, err := stream.Recv()
	must(t, err)
	require.False(t, m.Result)
	code, _ := refused(t, r.client(), "chat")
	require.Equal(t, 503, code)
	m, err = stream.Recv()
	must(t, err)
	require.True(t, m.Result)
}
