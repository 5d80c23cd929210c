package promtext_test

import (
	"bytes"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/inferpick/inferpick/internal/promtext"
)

// vllmNames is what a scheduler wants of a vLLM page.
func vllmNames() *promtext.Set {
	return promtext.NewSet(
		"vllm:num_requests_waiting",
		"vllm:num_requests_waiting_by_reason",
		"vllm:num_requests_running",
		"vllm:kv_cache_usage_perc",
		"vllm:gpu_cache_usage_perc",
		"vllm:cache_config_info",
		"vllm:lora_requests_info",
		"process_start_time_seconds",
	)
}

// scan picks everything there is to pick, with the labels that matter.
func scan(s *promtext.Scanner, set *promtext.Set, page []byte) (samples int, err error) {
	s.Reset(set, page)
	for s.Next() {
		samples++
		switch s.Index() {
		case 5:
			s.Label("block_size")
			s.Label("num_gpu_blocks")
		case 6:
			s.Label("max_lora")
			s.Label("running_lora_adapters")
			s.Label("waiting_lora_adapters")
		}
	}
	return samples, s.Err()
}

func TestScanAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	set, page := vllmNames(), readPage(t, "vllm")
	escaped := []byte(`vllm:lora_requests_info{max_lora="4",running_lora_adapters="a\"b",waiting_lora_adapters="c\\"} 1.7637225880417268e+09` + "\n")
	var s promtext.Scanner
	for _, page := range [][]byte{page, escaped} {
		if n := testing.AllocsPerRun(100, func() {
			if n, err := scan(&s, set, page); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}); n != 0 {
			t.Errorf("a scan allocates %v times, want 0", n)
		}
	}
}

// BenchmarkScan picks ten samples out of a 59 kB vLLM page. BenchmarkScanExpfmt
// is the reference parser on the same page; compare with
//
//	go test -bench Scan -count 10 ./internal/promtext | benchstat -
func BenchmarkScan(b *testing.B) {
	set, page := vllmNames(), readPage(b, "vllm")
	var s promtext.Scanner
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		if n, err := scan(&s, set, page); n != 10 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkScanExpfmt(b *testing.B) {
	page := readPage(b, "vllm")
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		if _, err := parser.TextToMetricFamilies(bytes.NewReader(page)); err != nil {
			b.Fatal(err)
		}
	}
}
