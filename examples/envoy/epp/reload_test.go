package epp_test

import (
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/stretchr/testify/require"
)

// TestReloadByItself: a new version is noticed without being told.
func TestReloadByItself(t *testing.T) {
	t.Parallel()
	r := start(t, poolYAML("llama")+modelYAML("chat", "llama", "llama-8b")+endpointsYAML("llama", addressA),
		func(o *epp.Options) { o.ReloadInterval, o.RefuseUnknownModels = 20*time.Millisecond, true })
	c := r.client()
	if status, _ := refused(t, c, "new"); status != 404 {
		t.Errorf("status of a model that is not there is %d", status)
	}
	if got := exchanged(t, c, "chat"); got != addressA {
		t.Errorf("goes to %s", got)
	}
	put(t, r.path, poolYAML("llama")+modelYAML("new", "llama", "llama-8b")+endpointsYAML("llama", addressB))
	eventually(t, "the new version is in force", func() bool {
		return strings.Count(r.log.String(), "configuration is in force") >= 2
	})
	if got := exchanged(t, c, "new"); got != addressB {
		t.Errorf("the new model goes to %s, want the new endpoint", got)
	}
	if status, _ := refused(t, c, "chat"); status != 404 {
		t.Errorf("status of a model that is gone is %d", status)
	}
}

// TestReloadOfABadVersion: what is bad is told, counted and shown, and what was before in
// its place goes on.
func TestReloadOfABadVersion(t *testing.T) {
	t.Parallel()
	r := start(t, base+roundRobin, nil)
	c := r.client()
	for _, tt := range []struct {
		name, text, kind string
		want             []string
	}{
		{"host name", strings.Replace(base, addressB, "server.example:80", 1), "StaticEndpoints", []string{`epp.yaml:24:13: `, "want ip:port", "server.example:80"}},
		{"no address", strings.Replace(base, `address: "`+addressA+`", `, "", 1), "StaticEndpoints", []string{"epp.yaml:23:5: ", "spec.endpoints[0]", "address"}},
		{"bad pool", strings.Replace(base, "number: 8000", "number: 0", 1), "InferencePool", []string{"epp.yaml:7:18: ", "spec.targetPorts[0].number"}},
		{"bad model", strings.Replace(base, "{name: llama-8b}", "{name: llama-8b, weight: 0}", 1), "InferenceModel", []string{"epp.yaml:15:35: ", "spec.targetModels[0].weight"}},
		{"no YAML", base + "---\n{", "unknown", []string{"epp.yaml"}},
		{"bad weight", base + pickerHead + "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: queue-scorer, weight: -1}]}]\n",
			"EndpointPickerConfig", []string{"epp.yaml:30:68: ", "schedulingProfiles[0].plugins[0]", "weight"}},
	} {
		put(t, r.path, tt.text)
		must(t, r.Reload())
		page := r.pageAt("/config")
		for _, want := range tt.want {
			require.Contains(t, r.log.String(), want)
			require.Contains(t, page, want)
		}
		r.wantMetric(r.metrics(), 1, "inferpick_config_rejected_objects", `kind="`+tt.kind+`"`)
		exchanged(t, c, "chat") // as before
		if n := len(r.Store().Snapshot().Pools()[0].Endpoints()); n != 3 {
			t.Errorf("%s: the pool has %d endpoints, want 3", tt.name, n)
		}
	}

	put(t, r.path, modelYAML("chat", "llama", "llama-8b"))
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), "InferencePool") {
		t.Errorf("no pool: error %v", err)
	}
	if page := r.pageAt("/config"); !strings.Contains(page, "not in force") {
		t.Errorf("want the version that is not in force in\n%s", page)
	}
	exchanged(t, c, "chat")
	put(t, r.path, poolYAML("llama")+endpointsYAML("llama", addressC))
	must(t, r.Reload())
	if got := exchanged(t, c, "chat"); got != addressC {
		t.Errorf("after the repair it goes to %s", got)
	}
}

// TestReloadKeepsSchedulers: what is not about scheduling leaves what a scheduler has
// learned, here whose turn it is.
func TestReloadKeepsSchedulers(t *testing.T) {
	t.Parallel()
	r := start(t, base+roundRobin, nil)
	c := r.client()
	x := open(t, c)
	if got := x.routed("chat"); got != addressA {
		t.Fatalf("the first goes to %s", got)
	}
	put(t, r.path, base+modelYAML("other", "llama", "llama-8b")+roundRobin)
	must(t, r.Reload())
	require.Equal(t, 1, r.Open(), "requests are open after the reload")
	if got := exchanged(t, c, "other"); got != addressB {
		t.Errorf("the second goes to %s, want %s: the scheduler was replaced", got, addressB)
	}
	x.finish()
	eventually(t, "nothing is open", func() bool { return r.Open() == 0 })
}

// TestReloadReplacesSchedulers: a request ends with who decided on it.
func TestReloadReplacesSchedulers(t *testing.T) {
	t.Parallel()
	r := start(t, base+roundRobin, nil)
	c := r.client()
	x := open(t, c)
	x.routed("chat")
	put(t, r.path, base+roundRobin+"schedulingProfiles: [{name: default, fallbacks: 1, plugins: [{pluginRef: round-robin-picker}]}]\n")
	must(t, r.Reload())
	require.Equal(t, 1, r.Open(), "requests are open after the reload")
	y := open(t, c)
	if got := y.routed("chat"); got != addressA {
		t.Errorf("the first of the new scheduler goes to %s, want %s", got, addressA)
	}
	put(t, r.path, base)
	must(t, r.Reload())
	z := open(t, c)
	z.routed("chat")
	for i, x := range []*stream{y, x, z} {
		require.Equal(t, 3-i, r.Open(), "requests are open")
		x.finish()
		eventually(t, "one less is open", func() bool { return r.Open() <= 2-i })
	}
}

func TestReloadOfPools(t *testing.T) {
	t.Parallel()
	llama, qwen := base, poolYAML("qwen")+modelYAML("code", "qwen", "qwen-32b")+endpointsYAML("qwen", "10.0.1.1:8000")
	r := start(t, llama, func(o *epp.Options) { o.RefuseUnknownModels = true })
	c := r.client()
	if status, _ := refused(t, c, "code"); status != 404 {
		t.Errorf("status before there is such a pool: %d", status)
	}
	x := open(t, c)
	x.routed("chat")

	put(t, r.path, llama+qwen)
	must(t, r.Reload())
	if got := exchanged(t, c, "code"); got != "10.0.1.1:8000" {
		t.Errorf("of the new pool: %s", got)
	}
	exchanged(t, c, "chat")

	put(t, r.path, qwen)
	must(t, r.Reload())
	if status, _ := refused(t, c, "chat"); status != 404 {
		t.Errorf("status when the pool is gone: %d", status)
	}
	exchanged(t, c, "code")
	require.Equal(t, 1, r.Open(), "requests are open")
	x.finish()
	eventually(t, "nothing is open", func() bool { return r.Open() == 0 })

	put(t, r.path, llama+qwen) // and back
	must(t, r.Reload())
	exchanged(t, c, "chat")
}

func TestReloadOfLegacyMetricsSaysRestart(t *testing.T) {
	t.Parallel()
	r := start(t, base, nil)
	put(t, r.path, base+pickerHead+"featureGates: [enableLegacyMetrics]\n")
	must(t, r.Reload())
	if !strings.Contains(r.log.String(), "level=WARN") || !strings.Contains(r.log.String(), "restart") {
		t.Errorf("want a warning:\n%s", r.log)
	}
	exchanged(t, r.client(), "chat")
}
