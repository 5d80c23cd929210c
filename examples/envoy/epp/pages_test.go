package epp_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// series returns the sum of the values of a metric's lines that have all of the labels.
func series(page, name string, labels ...string) (sum float64, found bool) {
next:
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err == nil {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

func (r *running) metrics() string {
	r.t.Helper()
	return r.pageAt("/metrics")
}

func (r *running) pageAt(path string) string {
	r.t.Helper()
	status, _, text := fetch(r.t, "GET", "http://"+r.MetricsAddress()+path, "")
	if status != 200 {
		r.t.Fatalf("%s: status %d\n%s", path, status, text)
	}
	return text
}

func (r *running) wantMetric(page string, want float64, name string, labels ...string) {
	r.t.Helper()
	if got, ok := series(page, name, labels...); !ok || got != want {
		r.t.Errorf("%s%q is %v (%v), want %v", name, labels, got, ok, want)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.RefuseUnknownModels = true })
	c := r.client()
	exchanged(t, c, "chat")
	page := r.metrics()
	ofChat := []string{`model_name="chat"`, `target_model_name="llama-8b"`}
	r.wantMetric(page, 1, "inference_objective_request_total", ofChat...)
	r.wantMetric(page, 3, "inference_pool_ready_pods", `name="llama"`)
	if n, ok := series(page, "go_goroutines"); !ok || n < 1 {
		t.Errorf("go_goroutines is %v, %v", n, ok)
	}
	if _, ok := series(page, "inference_model_request_total"); ok {
		t.Error("legacy names are there without their gate")
	}

	if status, body := refused(t, c, "unheard-of"); status != 404 || !strings.Contains(body, "unheard-of") {
		t.Errorf("refused with %d: %s", status, body)
	}
	page = r.metrics()
	r.wantMetric(page, 1, "inference_objective_request_error_total", `error_code="model_not_found"`)
	r.wantMetric(page, 1, "inference_objective_request_total", ofChat...)
	require.False(t, strings.Contains(page, "unheard-of"), "a client has made a series up")

	// Refused after the pool is known.
	put(t, r.path, poolYAML("llama")+modelYAML("chat", "llama", "llama-8b"))
	must(t, r.Reload())
	if status, _ := refused(t, c, "chat"); status != 503 {
		t.Errorf("without endpoints: status %d", status)
	}
	page = r.metrics()
	r.wantMetric(page, 1, "inferpick_refused_requests_total", `pool="llama"`, `error_code="no_endpoint"`)
	r.wantMetric(page, 1, "inference_objective_request_error_total", `error_code="no_endpoint"`, `model_name="chat"`)
	r.wantMetric(page, 0, "inference_pool_ready_pods", `name="llama"`)
}

// TestMetricsFormats: the metrics of the pools and those of the process are one page, in
// the format that is asked for.
func TestMetricsFormats(t *testing.T) {
	t.Parallel()
	r := start(t, base, nil)
	exchanged(t, r.client(), "chat")
	for _, tt := range []struct {
		accept string
		format expfmt.FormatType
	}{
		{"", expfmt.TypeTextPlain},
		{string(expfmt.NewFormat(expfmt.TypeOpenMetrics)), expfmt.TypeOpenMetrics},
		{string(expfmt.NewFormat(expfmt.TypeProtoDelim)), expfmt.TypeProtoDelim},
	} {
		req, err := http.NewRequest("GET", "http://"+r.MetricsAddress()+"/metrics", nil)
		require.NoError(t, err)
		req.Header.Set("Accept", tt.accept)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		format := expfmt.ResponseFormat(res.Header)
		if tt.format == expfmt.TypeOpenMetrics {
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Contains(t, res.Header.Get("Content-Type"), expfmt.OpenMetricsType)
			require.Contains(t, string(body), "\ninference_objective_request_total{")
			require.Contains(t, string(body), "\ngo_goroutines ")
			require.True(t, strings.HasSuffix(string(body), "\n# EOF\n"))
			continue
		}
		require.Equal(t, tt.format, format.FormatType())
		names := map[string]bool{}
		for decoder := expfmt.NewDecoder(res.Body, format); ; {
			var f dto.MetricFamily
			err := decoder.Decode(&f)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.False(t, names[f.GetName()], "%s is there twice", f.GetName())
			names[f.GetName()] = true
		}
		require.Subset(t, names, map[string]bool{"inference_objective_request_total": true, "inference_pool_ready_pods": true, "go_goroutines": true})
	}
}

func TestLegacyMetrics(t *testing.T) {
	t.Parallel()
	r := start(t, base+pickerHead+"featureGates: [enableLegacyMetrics]\n", nil)
	exchanged(t, r.client(), "chat")
	page := r.metrics()
	for _, name := range []string{"inference_model_request_total", "inference_objective_request_total"} {
		r.wantMetric(page, 1, name, `model_name="chat"`, `target_model_name="llama-8b"`)
	}
}

// TestMetricsAfterReplacing: a scheduler that a reload brought counts, too.
func TestMetricsAfterReplacing(t *testing.T) {
	t.Parallel()
	r := start(t, base, nil)
	c := r.client()
	exchanged(t, c, "chat")
	put(t, r.path, base+roundRobin)
	must(t, r.Reload())
	exchanged(t, c, "chat")
	r.wantMetric(r.metrics(), 2, "inference_objective_request_total", `model_name="chat"`)
}

func TestExplain(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.RefuseUnknownModels, o.MaxBody, o.Explain = true, 1<<20, true })
	body := func(model string) string {
		return `{"model": "` + model + `", "messages": [{"role": "user", "content": "hello"}]}`
	}
	for _, tt := range []struct {
		name, method, query, body string
		status                    int
		want                      []string
	}{
		{"a request", "POST", "", body("chat"), 200, []string{"rank", "  a  ", "  b  ", "  c  "}},
		{"its pool", "POST", "?pool=llama", body("chat"), 200, []string{"rank"}},
		{"with a namespace", "POST", "?pool=default/llama", body("chat"), 200, []string{"rank"}},
		{"another API", "POST", "?path=/v1/completions", `{"model": "chat", "prompt": "hello"}`, 200, []string{"rank"}},
		{"bad pool", "POST", "?pool=a/b/c", body("chat"), 400, []string{"a/b/c", "namespace/name"}},
		{"unknown pool", "POST", "?pool=other", body("chat"), 503, []string{"other"}},
		{"unknown model", "POST", "", body("unheard-of"), 404, []string{"unheard-of"}},
		{"no JSON", "POST", "", "{", 400, []string{"JSON"}},
		{"too large", "POST", "", strings.Repeat(" ", 1<<20+1), 413, []string{"too large"}},
		{"wrong method", "PUT", "", "", 405, nil},
		{"an unknown session", "GET", "?session=x", "", 404, []string{"nothing is kept"}},
	} {
		status, header, text := fetch(t, tt.method, "http://"+r.MetricsAddress()+"/explain"+tt.query, tt.body)
		if status != tt.status || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: status %d, want %d, type %s\n%s", tt.name, status, tt.status, header.Get("Content-Type"), text)
		}
		for _, want := range tt.want {
			require.Contains(t, text, want)
		}
	}
	if n := r.Open(); n != 0 {
		t.Errorf("%d requests are open: explaining books", n)
	}
	if n, _ := series(r.metrics(), "inference_objective_request_total"); n != 0 {
		t.Errorf("%v requests were counted: explaining is none", n)
	}
}

// What became of a session is told to who asks, by tenant.
func TestExplainSession(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.Explain = true })
	address := exchanged(t, r.client(), "chat", "x-session-id", "s", "x-parent-session-id", "p")
	require.NotEmpty(t, address)
	for _, query := range []string{"?session=s", "?program=p"} {
		status, _, text := fetch(t, "GET", "http://"+r.MetricsAddress()+"/explain"+query, "")
		require.Equal(t, 200, status, text)
		for _, want := range []string{`"session":"s"`, `"program":"p"`, `"outcome":"done"`, `"outputTokens":5`} {
			require.Contains(t, text, want)
		}
	}
	status, _, _ := fetch(t, "GET", "http://"+r.MetricsAddress()+"/explain?tenant=other&session=s", "")
	require.Equal(t, 404, status)
}

func TestPprofIsOff(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		r := start(t, base, func(o *epp.Options) { o.Pprof = on })
		status, _, _ := fetch(t, "GET", "http://"+r.MetricsAddress()+"/debug/pprof/cmdline", "")
		if (status == 200) != on {
			t.Errorf("Pprof %v: status %d", on, status)
		}
	}
}
