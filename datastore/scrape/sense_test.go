package scrape_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// Of a figure that makes no sense nothing is known, be it one of several series, and no
// other figure suffers.
func TestFiguresWithoutSense(t *testing.T) {
	for _, bad := range []string{"-1", "NaN", "+Inf", "-Inf", "1e308", "-1e308", "1e10"} {
		for _, tt := range []struct{ name, page string }{
			{"one series", "vllm:num_requests_waiting %s\n"},
			{"the first of two ranks", "vllm:num_requests_waiting{engine=\"0\"} %s\nvllm:num_requests_waiting{engine=\"1\"} 2\n"},
			{"the last of three ranks", "vllm:num_requests_waiting{engine=\"0\"} 1\nvllm:num_requests_waiting{engine=\"1\"} 2\nvllm:num_requests_waiting{engine=\"2\"} %s\n"},
			{"every rank", "vllm:num_requests_waiting{engine=\"0\"} %[1]s\nvllm:num_requests_waiting{engine=\"1\"} %[1]s\n"},
		} {
			m, _, err := parse(t, fmt.Sprintf(tt.page, bad)+"vllm:num_requests_running 3\n", "vllm")
			if err != nil || m.Waiting.IsKnown() || m.Running.Or(-1) != 3 {
				t.Errorf("%s of %s: waiting %v, running %v, %v; want waiting unknown", tt.name, bad, m.Waiting.OrNaN(), m.Running.OrNaN(), err)
			}
		}
		for _, tt := range []struct {
			name, page string
			get        func(types.Metrics) types.Gauge
		}{
			{"KV usage", "vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:kv_cache_usage_perc{engine=\"1\"} %s\n", func(m types.Metrics) types.Gauge { return m.KVUsage }},
			{"block size", "vllm:cache_config_info{block_size=\"%s\"} 1\n", func(m types.Metrics) types.Gauge { return m.BlockSize }},
			{"blocks", "vllm:cache_config_info{engine=\"0\",num_gpu_blocks=\"%s\"} 1\nvllm:cache_config_info{engine=\"1\",num_gpu_blocks=\"10\"} 1\n", func(m types.Metrics) types.Gauge { return m.NumBlocks }},
			{"adapters", "vllm:lora_requests_info{max_lora=\"%s\",running_lora_adapters=\"a\"} 1\n", func(m types.Metrics) types.Gauge { return m.MaxAdapters }},
			{"awake", "vllm:engine_sleep_state{sleep_state=\"awake\"} %s\n", func(m types.Metrics) types.Gauge { return m.Awake }},
			{"start", "process_start_time_seconds %s\n", func(m types.Metrics) types.Gauge { return m.StartedAt }},
		} {
			if tt.name == "start" && bad == "1e10" {
				continue // in a few hundred years
			}
			m, _, err := parse(t, fmt.Sprintf(tt.page, bad)+"vllm:num_requests_running 3\n", "vllm")
			if err != nil || tt.get(m).IsKnown() || m.Running.Or(-1) != 3 {
				t.Errorf("%s of %s: %v, running %v, %v", tt.name, bad, tt.get(m).OrNaN(), m.Running.OrNaN(), err)
			}
		}
		// A page of nothing else is no reading.
		page := fmt.Sprintf("vllm:num_requests_waiting %[1]s\nvllm:num_requests_running %[1]s\nvllm:kv_cache_usage_perc %[1]s\n", bad)
		if m, _, err := parse(t, page, ""); !errors.Is(err, scrape.ErrNoMetrics) {
			t.Errorf("page of %s alone = %s, %v, want ErrNoMetrics", bad, show(m), err)
		}
	}
	for name, label := range map[string]string{"zero": "0", "words": "None", "nothing": "", "hexadecimal text": "0xg", "two numbers": "16 16"} {
		m, _, err := parse(t, fmt.Sprintf("vllm:cache_config_info{block_size=\"%[1]s\",num_gpu_blocks=\"%[1]s\"} 1\nvllm:num_requests_running 3\n", label), "")
		if err != nil || m.BlockSize.IsKnown() || m.NumBlocks.IsKnown() {
			t.Errorf("%s: %s, %v, want neither block size nor blocks", name, show(m), err)
		}
	}
	// The next name for a figure is as good as the first if that has nothing at all.
	m, _, err := parse(t, "vllm:num_requests_waiting NaN\nvllm:num_requests_waiting_by_reason{reason=\"capacity\"} 4\n", "")
	if err != nil || m.Waiting.Or(-1) != 4 {
		t.Errorf("waiting by reason: %s, %v", show(m), err)
	}
	m, _, err = parse(t, "vllm:kv_cache_usage_perc 37.5\nvllm:num_requests_running 3\n", "")
	if err != nil || m.KVUsage.IsKnown() {
		t.Errorf("percents where a fraction is meant: %s, %v", show(m), err)
	}
}

func TestAwake(t *testing.T) {
	// As vLLM 0.32 reports it.
	state := func(engine string, awake, offloaded, discarded string) string {
		of := `vllm:engine_sleep_state{engine="` + engine + `",model_name="tiny",sleep_state="`
		return of + `awake"} ` + awake + "\n" + of + `weights_offloaded"} ` + offloaded + "\n" + of + `discard_all"} ` + discarded + "\n"
	}
	load := "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 0.0\n"
	custom := scrape.Engine{Name: "mine", Running: []scrape.Metric{{Name: "mine_running"}}, Awake: []scrape.Metric{{Name: "mine_up"}}}
	for _, tt := range []struct {
		name, page string
		want       float64 // -1: unknown
	}{
		{"awake", load + state("0", "1.0", "0.0", "0.0"), 1},
		{"asleep, level 0", load + state("0", "0.0", "0.0", "0.0"), 0},
		{"asleep, level 1", load + state("0", "0.0", "1.0", "0.0"), 0},
		{"asleep, level 2", load + state("0", "0.0", "0.0", "1.0"), 0},
		{"all ranks awake", load + state("0", "1.0", "0.0", "0.0") + state("1", "1.0", "0.0", "0.0"), 1},
		{"one rank asleep", load + state("0", "1.0", "0.0", "0.0") + state("1", "0.0", "1.0", "0.0"), 0},
		{"the other rank asleep", load + state("0", "0.0", "0.0", "0.0") + state("1", "1.0", "0.0", "0.0"), 0},
		{"one rank not known", load + state("0", "1.0", "0.0", "0.0") + state("1", "NaN", "0.0", "0.0"), -1},
		{"one not known, one asleep", load + state("0", "-1", "0.0", "0.0") + state("1", "0.0", "0.0", "0.0"), 0},
		{"something between", load + state("0", "0.5", "0.0", "0.0"), -1},
		{"two", load + state("0", "2.0", "0.0", "0.0"), -1},
		{"not said", load, -1},
		{"only how deeply", load + "vllm:engine_sleep_state{sleep_state=\"weights_offloaded\"} 0\n", -1},
		{"of an engine of one's own", "mine_running 0\nmine_up 0\n", 0},
	} {
		p, err := scrape.NewParser(append(scrape.DefaultEngines(), custom))
		require.NoError(t, err)
		m, _, err := p.Parse([]byte(tt.page), "")
		if err != nil || m.Awake.Or(-1) != tt.want {
			t.Errorf("%s: awake = %v, %v, want %v", tt.name, m.Awake.Or(-1), err, tt.want)
		}
	}
	if m, _, err := parse(t, state("0", "1.0", "0.0", "0.0"), ""); !errors.Is(err, scrape.ErrNoMetrics) {
		t.Errorf("being awake alone is no reading: %s, %v", show(m), err)
	}
}

// What a server may make long costs no more than it is long.
func TestLongListsAreRead(t *testing.T) {
	var adapters, series strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&adapters, "a%d,", i)
	}
	for i := range 50_000 {
		fmt.Fprintf(&series, "sglang:num_running_reqs{model=\"%d\"} 1\n", i)
	}
	begin := time.Now()
	m, _, err := parse(t, "vllm:num_requests_running 1\nvllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\""+adapters.String()+"\"} 1\n", "")
	if err != nil || len(m.RunningAdapters) == 0 || len(m.RunningAdapters) > 10_000 {
		t.Errorf("%d adapters, %v, want them bounded", len(m.RunningAdapters), err)
	}
	if m, _, err := parse(t, series.String()+"sglang:num_queue_reqs 1\n", ""); err != nil || m.Running.IsKnown() {
		t.Errorf("running = %v, %v, want unknown", m.Running.OrNaN(), err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
