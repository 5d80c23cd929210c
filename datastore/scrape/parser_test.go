package scrape_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// show prints what is known of a reading.
func show(m types.Metrics) string {
	var b strings.Builder
	for _, g := range []struct {
		name string
		g    types.Gauge
	}{
		{"waiting", m.Waiting}, {"running", m.Running}, {"kv", m.KVUsage}, {"block", m.BlockSize},
		{"blocks", m.NumBlocks}, {"started", m.StartedAt}, {"adapters", m.MaxAdapters},
	} {
		if v, ok := g.g.Value(); ok {
			fmt.Fprintf(&b, "%s=%v ", g.name, v)
		}
	}
	if m.MaxAdapters.IsKnown() || len(m.RunningAdapters)+len(m.WaitingAdapters) > 0 {
		fmt.Fprintf(&b, "%q %q ", m.RunningAdapters, m.WaitingAdapters)
	}
	return strings.TrimSuffix(b.String(), " ")
}

func parse(t testing.TB, page, engine string) (m types.Metrics, name string, err error) {
	t.Helper()
	p, err := scrape.NewParser(nil)
	require.NoError(t, err)
	return p.Parse([]byte(page), engine)
}

func TestParseEngines(t *testing.T) {
	tests := []struct{ file, engine, want string }{
		{"vllm", "vllm", `waiting=5 running=37 kv=0.6274310752789987 block=16 blocks=27803 started=1.76371898547e+09 adapters=4 ["sql-assist" "tweet-summary"] ["legal-draft"]`},
		{"sglang", "sglang", "waiting=3 running=12 kv=0.28 block=16 blocks=27647"},
		{"trtllm", "trtllm", "waiting=2 running=18 kv=0.73 block=32 blocks=13901 started=1.76371898547e+09"},
		{"triton", "triton", "waiting=4 running=7 kv=0.4875 block=64 blocks=6240"},
		{"tgi", "tgi", "waiting=6 running=9"},
		{"tei", "tei", "waiting=3"},
		{"vllm-omni", "vllm", "waiting=2 running=6 block=16"},
		{"llamacpp", "llamacpp", "waiting=1 running=3"},
		{"lmdeploy", "lmdeploy", "waiting=2 running=40 kv=0.375"},
		{"dynamo", "dynamo", "running=14 kv=0.36 blocks=9120"},
		{"dynamo-frontend", "dynamo", "waiting=3 running=14"},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			page := string(readPage(t, tt.file))
			for _, given := range []string{"", tt.engine, strings.ToUpper(tt.engine)} {
				m, engine, err := parse(t, page, given)
				require.NoError(t, err)
				if got := show(m); got != tt.want || engine != tt.engine {
					t.Errorf("Parse as %q = %s of %q, want %s", given, got, engine, tt.want)
				}
			}
		})
	}
}

func TestParse(t *testing.T) {
	tests := []struct{ name, page, want string }{
		{"new name before the old", "vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.1\nvllm:gpu_cache_usage_perc 0.9\n", "kv=0.1"},
		{"old name alone", "vllm:gpu_cache_usage_perc 0.9\n", "kv=0.9"},
		{"zero is known", "vllm:num_requests_waiting 0\n", "waiting=0"},
		{"by reason, where the total is not there", "vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 4\nvllm:num_requests_waiting_by_reason{reason=\"deferred\"} 1\n", "waiting=5"},
		{"not a number", "vllm:num_requests_waiting NaN\nvllm:num_requests_running +Inf\nvllm:kv_cache_usage_perc 0.5\n", "kv=0.5"},
		{"negative", "vllm:num_requests_waiting -1\nvllm:num_requests_running 2\n", "running=2"},
		{"a fraction that is none", "vllm:kv_cache_usage_perc 35\nvllm:num_requests_running 2\n", "running=2"},
		{"a fraction with an error in it", "vllm:kv_cache_usage_perc 1.0000002\n", "kv=1"},
		{"blocks not known", "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\"} 1\nvllm:num_requests_running 2\n", "running=2 block=16"},
		{"blocks of all ranks", "vllm:cache_config_info{engine=\"0\",block_size=\"16\",num_gpu_blocks=\"100\"} 1\nvllm:cache_config_info{engine=\"1\",block_size=\"16\",num_gpu_blocks=\"100\"} 1\nvllm:num_requests_running 2\n", "running=2 block=16 blocks=200"},
		{"info metric of older SGLang", "sglang:num_running_reqs 1\nsglang:cache_config_info{page_size=\"64\",num_pages=\"500\"} 1\n", "running=1 block=64 blocks=500"},
		{"Triton without TensorRT-LLM", "nv_inference_pending_request_count{model=\"a\"} 2\nnv_inference_pending_request_count{model=\"b\"} 3\n", "waiting=5"},
		{"llama.cpp of old", "llamacpp:requests_processing 1\nllamacpp:kv_cache_usage_ratio 0.25\n", "running=1 kv=0.25"},
		{"Dynamo worker: only the endpoint that generates", "dynamo_component_inflight_requests{dynamo_endpoint=\"clear_kv_blocks\"} 9\ndynamo_component_inflight_requests{dynamo_endpoint=\"generate\"} 2\n", "running=2"},
		{"Dynamo worker: the engine inside says more", "dynamo_component_inflight_requests 9\nvllm:num_requests_running 4\nvllm:num_requests_waiting 5\n", "waiting=5 running=4"},
		{"adapters: trimmed, once each", "vllm:num_requests_running 2\nvllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\" a, b ,a,,\",waiting_lora_adapters=\"\"} 1\n", `running=2 adapters=2 ["a" "b"] []`},
		{"adapters: no lists", "vllm:num_requests_running 2\nvllm:lora_requests_info{max_lora=\"2\"} 1\n", `running=2 adapters=2 [] []`},
		{"adapters: newest in any order", "vllm:num_requests_running 2\n" +
			"vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"old\"} 100.5\n" +
			"vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"new\"} 1e3\n" +
			"vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"older\"} 99\n", `running=2 adapters=2 ["new"] []`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, _, err := parse(t, tt.page, "")
			require.NoError(t, err)
			require.Equal(t, tt.want, show(m), "Parse")
		})
	}
}

// TestTrapSeveralSeriesOneRead: with data parallelism every rank has a series;
// with SGLang's tensor parallelism the ranks report the same requests again.
func TestTrapSeveralSeriesOneRead(t *testing.T) {
	tests := []struct{ name, page, want string }{
		{"vLLM, data parallel", `vllm:num_requests_waiting{engine="0"} 1
vllm:num_requests_waiting{engine="1"} 7
vllm:num_requests_running{engine="0"} 10
vllm:num_requests_running{engine="1"} 20
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
`, "waiting=8 running=30 kv=0.5"},
		{"SGLang, tensor parallel", `sglang:num_queue_reqs{tp_rank="0"} 4
sglang:num_queue_reqs{tp_rank="1"} 4
sglang:num_running_reqs{tp_rank="0"} 9
sglang:num_running_reqs{tp_rank="1"} 9
sglang:token_usage{tp_rank="0"} 0.5
sglang:token_usage{tp_rank="1"} 0.5
sglang:num_pages{tp_rank="0"} 100
sglang:num_pages{tp_rank="1"} 100
`, "waiting=4 running=9 kv=0.5 blocks=100"},
		{"SGLang, both", `sglang:num_queue_reqs{dp_rank="0",tp_rank="0"} 4
sglang:num_queue_reqs{tp_rank="1",dp_rank="0"} 5
sglang:num_queue_reqs{dp_rank="1",tp_rank="2"} 1
sglang:num_queue_reqs{dp_rank="1",tp_rank="3"} 1
sglang:token_usage{dp_rank="0",tp_rank="0"} 0.5
sglang:token_usage{dp_rank="0",tp_rank="1"} 0.5
sglang:token_usage{dp_rank="1",tp_rank="2"} 0.25
`, "waiting=6 kv=0.375"},
		{"SGLang, total beside priorities", `sglang:num_queue_reqs{priority="0"} 1
sglang:num_queue_reqs{priority="1"} 2
sglang:num_queue_reqs{priority=""} 3
`, "waiting=3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, _, err := parse(t, tt.page, "")
			require.NoError(t, err)
			require.Equal(t, tt.want, show(m), "Parse")
		})
	}
}

// TestTrapMetricMatchedByPrefix: num_requests_waiting_by_reason is not
// num_requests_waiting, in whichever order they come.
func TestTrapMetricMatchedByPrefix(t *testing.T) {
	by := "vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 4\n"
	total := "vllm:num_requests_waiting 5\n"
	for _, page := range []string{by + total, total + by} {
		m, _, err := parse(t, page, "")
		if v, ok := m.Waiting.Value(); err != nil || !ok || v != 5 {
			t.Errorf("Waiting of %q = %v, %v, %v, want 5", page, v, ok, err)
		}
	}
}

// TestTrapJSONPage: a page that is no metrics page is an error that says what it
// is, never a reading of zeros.
func TestTrapJSONPage(t *testing.T) {
	tests := []struct{ name, page, engine, want string }{
		{"JSON", `[{"iter": 1, "numActiveRequests": 0}]`, "", "return_perf_metrics"},
		{"JSON object", "\n{\"waiting\": 0}\n", "trtllm", "begins with '{'"},
		{"HTML", "<!doctype html><title>x</title>", "", "HTML"},
		{"empty", " \n\n", "", "empty"},
		{"other server", "go_goroutines 7\nprocess_start_time_seconds 1e9\n", "", "looked for vllm, sglang, trtllm"},
		{"other engine", string(readPage(t, "sglang")), "vllm", "looked for vllm)"},
		{"only what does not change", "vllm:cache_config_info{block_size=\"16\"} 1\n", "", "none of the engine's metrics"},
		{"only headers", "# TYPE vllm:num_requests_waiting gauge\n", "", "none of the engine's metrics"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, _, err := parse(t, tt.page, tt.engine)
			if !errors.Is(err, scrape.ErrNoMetrics) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse = %v, want ErrNoMetrics with %q", err, tt.want)
			}
			if !reflect.DeepEqual(m, types.Metrics{}) {
				t.Errorf("Parse = %s, want nothing", show(m))
			}
		})
	}
}

// TestTrapLoRASeriesEmptyKeepsOld: a series with both lists empty says that no
// adapter is active; it is not a series to be passed over.
func TestTrapLoRASeriesEmptyKeepsOld(t *testing.T) {
	p, err := scrape.NewParser(nil)
	require.NoError(t, err)
	const first = "vllm:num_requests_running 1\nvllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a\",waiting_lora_adapters=\"b\"} 100\n"
	const second = first + "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"} 101\n"
	for _, step := range []struct{ page, want string }{
		{first, `running=1 adapters=4 ["a"] ["b"]`},
		{second, `running=1 adapters=4 [] []`},
		{"vllm:num_requests_running 1\n", "running=1"},
	} {
		m, _, err := p.Parse([]byte(step.page), "")
		require.NoError(t, err)
		require.Equal(t, step.want, show(m), "Parse")
	}
}

func TestParseDamagedPage(t *testing.T) {
	page := readPage(t, "vllm")
	cut := strings.Index(string(page), "vllm:kv_cache_usage_perc{") + 30
	_, _, err := parse(t, string(page[:cut]), "")
	var damaged *scrape.PageError
	if !errors.As(err, &damaged) || !strings.Contains(err.Error(), "vllm:kv_cache_usage_perc: the page ends") {
		t.Errorf("Parse of a page cut off = %v, want a PageError that names the metric", err)
	}
}

func TestParseUnknownEngine(t *testing.T) {
	if _, _, err := parse(t, "vllm:num_requests_running 1\n", "vlm"); err == nil || !strings.Contains(err.Error(), `"vlm"`) {
		t.Errorf("Parse as vlm = %v, want an error", err)
	}
}

func TestNewParserErrors(t *testing.T) {
	good := []scrape.Metric{{Name: "x"}}
	tests := []struct {
		engine scrape.Engine
		want   string
	}{
		{scrape.Engine{Waiting: good}, "no name"},
		{scrape.Engine{Name: "a"}, "nothing would ever be read"},
		{scrape.Engine{Name: "a", Waiting: good, Path: "metrics"}, "slash"},
		{scrape.Engine{Name: "a", Waiting: good, Path: "/a b"}, "escape"},
		{scrape.Engine{Name: "a", Waiting: []scrape.Metric{{}}}, "no name"},
		{scrape.Engine{Name: "a", Waiting: []scrape.Metric{{Name: "x", Scale: -1}}}, "scale"},
		{scrape.Engine{Name: "a", Waiting: good, Adapters: []scrape.AdapterMetric{{Name: "x"}}}, "label"},
		{scrape.Engine{Name: "VLLM", Waiting: good}, "as engine 0 has"},
	}
	for _, tt := range tests {
		if _, err := scrape.NewParser(append(scrape.DefaultEngines(), tt.engine)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewParser with %+v = %v, want an error with %q", tt.engine, err, tt.want)
		}
	}
}

func TestCustomEngine(t *testing.T) {
	p, err := scrape.NewParser([]scrape.Engine{{
		Name:    "house",
		Waiting: []scrape.Metric{{Name: "house_requests", Match: map[string]string{"state": "queued"}}},
		KVUsage: []scrape.Metric{{Name: "house_cache_percent", Scale: 0.01}},
	}})
	require.NoError(t, err)
	m, engine, err := p.Parse([]byte("house_requests{state=\"queued\"} 3\nhouse_requests{state=\"done\"} 9\nhouse_cache_percent 50\n"), "")
	if got := show(m); err != nil || engine != "house" || got != "waiting=3 kv=0.5" {
		t.Errorf("Parse = %s of %s, %v", got, engine, err)
	}
}

func TestParseAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p, err := scrape.NewParser(nil)
	require.NoError(t, err)
	page := readPage(t, "vllm")
	for _, engine := range []string{"vllm", ""} {
		if n := testing.AllocsPerRun(100, func() {
			if _, _, err := p.Parse(page, engine); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("Parse as %q allocates %v times, want 0: adapters are shared", engine, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, engine := range []string{"vllm", "detect"} {
		b.Run("engine="+engine, func(b *testing.B) {
			p, err := scrape.NewParser(nil)
			if err != nil {
				b.Fatal(err)
			}
			page := readPage(b, "vllm")
			name := strings.TrimSuffix(engine, "detect")
			b.SetBytes(int64(len(page)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := p.Parse(page, name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzEnginePage: whatever a page says, a reading is made of figures that can be,
// or there is an error.
func FuzzEnginePage(f *testing.F) {
	for _, engine := range []string{"sglang", "trtllm", "triton", "tgi", "llamacpp", "lmdeploy", "dynamo"} {
		f.Add(readPage(f, engine))
	}
	f.Add([]byte("vllm:num_requests_waiting{engine=\"0\"} 1e308\nvllm:num_requests_waiting{engine=\"1\"} 1e308\n"))
	f.Add([]byte("vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a,\\n,\\\\\",waiting_lora_adapters=\",\"} NaN\nvllm:num_requests_running 0x10\n"))
	f.Add([]byte("{\"vllm:kv_cache_usage_perc\",a=\"b\"} 0.5\n"))
	parsers := map[string]*scrape.Parser{"": nil, "vllm": nil, "sglang": nil, "dynamo": nil}
	for engine := range parsers {
		p, err := scrape.NewParser(nil)
		require.NoError(f, err)
		parsers[engine] = p
	}
	f.Fuzz(func(t *testing.T, page []byte) {
		for engine, p := range parsers {
			m, name, err := p.Parse(page, engine)
			if err != nil {
				if !reflect.DeepEqual(m, types.Metrics{}) {
					t.Errorf("Parse = %s with %v, want nothing with an error", show(m), err)
				}
				continue
			}
			if name == "" || !m.Waiting.IsKnown() && !m.Running.IsKnown() && !m.KVUsage.IsKnown() {
				t.Errorf("Parse as %q = %s of %q: no load figure", engine, show(m), name)
			}
			for _, g := range []types.Gauge{m.Waiting, m.Running, m.KVUsage, m.BlockSize, m.NumBlocks, m.StartedAt, m.MaxAdapters} {
				if v, ok := g.Value(); ok && !(v >= 0 && v <= math.MaxFloat64) {
					t.Errorf("Parse as %q = %s: a figure is %v", engine, show(m), v)
				}
			}
			if v := m.KVUsage.Or(0); v > 1 {
				t.Errorf("Parse as %q = %s: KV usage above 1", engine, show(m))
			}
			for _, name := range slices.Concat(m.RunningAdapters, m.WaitingAdapters) {
				if name == "" || strings.Contains(name, ",") || strings.TrimSpace(name) != name {
					t.Errorf("Parse as %q: adapter %q", engine, name)
				}
			}
		}
	})
}

func ExampleParser() {
	p, err := scrape.NewParser(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, engine, err := p.Parse([]byte(`# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0"} 3
vllm:num_requests_waiting{engine="1"} 4
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.25
`), "")
	fmt.Println(engine, m.Waiting.OrNaN(), m.Running.OrNaN(), m.KVUsage.OrNaN(), err)
	// Output: vllm 7 NaN 0.375 <nil>
}
