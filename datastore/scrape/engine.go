package scrape

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Engine says where a model server keeps which figure. DefaultEngines has those
// of the field; append to it, or change entries, for others.
//
// Every figure has candidates in order of preference, as engines rename their
// metrics: the first candidate of which the page has a sample wins, and the
// others are not looked at, even if they are there too. Figures that a page does
// not have are unknown.
//
// A page may have several series of one metric, one for each data-parallel rank.
// Requests and blocks are added up. The usage of the KV cache is the mean: ranks
// are of one size, the server itself spreads requests over them, and only the
// mean times the sum of the blocks gives the tokens that the endpoint holds. The
// largest would call a server full while most of it is free. Of block sizes and
// start times the largest counts. An engine is asleep if any rank is. If one of the
// series makes no sense (negative, infinite, no number) the figure is unknown, for what
// the others add up to is less than what there is.
type Engine struct {
	Name    string   // matched without regard to case
	Aliases []string // other names for it, in labels and specifications

	Path string // path of the page; default "/metrics"

	Waiting   []Metric // requests queued
	Running   []Metric // requests in the batch
	KVUsage   []Metric // fraction of the KV cache in use, 0..1
	BlockSize []Metric // tokens in a KV cache block
	NumBlocks []Metric // KV cache blocks
	Awake     []Metric // 1, or 0 while the engine sleeps
	StartedAt []Metric // start of the process in Unix seconds; default process_start_time_seconds

	Adapters []AdapterMetric // LoRA adapters

	// RankLabel is the label that has the number of the data-parallel rank that a series is about. It
	// is for endpoints that are one rank of a server (types.Endpoint.Rank), whose readings have
	// nothing of the others: of load what has their number, and else also what has no such label.
	// Empty: ranks cannot be told apart.
	RankLabel string

	// OverlapLabels are labels whose series count the same requests again: the
	// ranks of tensor parallelism, each reporting what all do, or a total beside
	// its parts. Of series that differ in nothing else only the largest counts.
	OverlapLabels []string
}

// Metric is one place where a figure may be found.
type Metric struct {
	Name  string            // the metric's full name
	Match map[string]string // labels that the sample must have

	// Label, if not empty, means that the figure is the value of this label, not
	// of the sample: info metrics keep numbers there. Values that are no numbers
	// ("None") are unknown.
	Label string

	Scale float64 // what to multiply with, 0.01 for percents; 0 is 1
}

// AdapterMetric is an info metric that lists LoRA adapters in its labels, with
// commas between them, and whose value is the time at which it was so: of several
// series the newest counts, and the others are what was before.
type AdapterMetric struct {
	Name    string // the metric's full name
	Max     string // label: how many adapters fit
	Running string // label: adapters with requests in the batch
	Waiting string // label: adapters with requests in the queue
}

// DefaultEngines returns the engines that are known, in the order in which a page
// is tried for them: vllm, sglang, trtllm, triton, tgi, tei, llamacpp, lmdeploy,
// dynamo. Dynamo is the last as its workers pass the metrics of the engine inside
// through, and those say more. The result is the caller's to change.
func DefaultEngines() []Engine {
	return []Engine{
		{
			Name: "vllm",
			// vLLM renamed its KV gauge in 0.9.2 and removed the old name in 0.12. vLLM-Omni counts a request once, and
			// has the gauges of vLLM for each stage of the pipeline that it goes through.
			Waiting: named("vllm_omni:num_requests_waiting", "vllm:num_requests_waiting", "vllm:num_requests_waiting_by_reason"),
			Running: named("vllm_omni:num_requests_running", "vllm:num_requests_running"),
			KVUsage: named("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
			BlockSize: []Metric{
				{Name: "vllm:cache_config_info", Label: "block_size"},
			},
			NumBlocks: []Metric{
				{Name: "vllm:cache_config_info", Label: "num_gpu_blocks"},
			},
			Awake: vllmSleep(),
			Adapters: []AdapterMetric{{
				Name:    "vllm:lora_requests_info",
				Max:     "max_lora",
				Running: "running_lora_adapters",
				Waiting: "waiting_lora_adapters",
			}},
			RankLabel: "engine",
		},
		{
			Name:      "sglang",
			Waiting:   named("sglang:num_queue_reqs", "sglang:diffusion_num_queue_reqs"),
			Running:   named("sglang:num_running_reqs"),
			KVUsage:   named("sglang:token_usage"),
			BlockSize: []Metric{{Name: "sglang:page_size"}, {Name: "sglang:cache_config_info", Label: "page_size"}},
			NumBlocks: []Metric{{Name: "sglang:num_pages"}, {Name: "sglang:cache_config_info", Label: "num_pages"}},
			RankLabel: "dp_rank",
			// All ranks of one replica report its requests, and a series with an
			// empty priority is the total of those with one.
			OverlapLabels: []string{"tp_rank", "pp_rank", "moe_ep_rank", "priority"},
		},
		{
			Name:      "trtllm",
			Aliases:   []string{"trtllm-serve", "tensorrt-llm", "tensorrtllm"},
			Path:      "/prometheus/metrics", // /metrics is JSON
			Waiting:   named("trtllm_num_requests_waiting"),
			Running:   named("trtllm_num_requests_running"),
			KVUsage:   named("trtllm_kv_cache_utilization"),
			BlockSize: named("trtllm_kv_cache_tokens_per_block"),
			NumBlocks: named("trtllm_kv_cache_max_blocks"),
		},
		{
			Name:    "triton",
			Aliases: []string{"triton-tensorrt-llm", "tritonserver"},
			Waiting: []Metric{
				{Name: "nv_trt_llm_request_metrics", Match: map[string]string{"request_type": "waiting"}},
				{Name: "nv_inference_pending_request_count"},
			},
			Running: []Metric{
				{Name: "nv_trt_llm_request_metrics", Match: map[string]string{"request_type": "scheduled"}},
			},
			KVUsage: []Metric{
				{Name: "nv_trt_llm_kv_cache_block_metrics", Match: map[string]string{"kv_cache_block_type": "fraction"}},
			},
			BlockSize: []Metric{
				{Name: "nv_trt_llm_kv_cache_block_metrics", Match: map[string]string{"kv_cache_block_type": "tokens_per"}},
			},
			NumBlocks: []Metric{
				{Name: "nv_trt_llm_kv_cache_block_metrics", Match: map[string]string{"kv_cache_block_type": "max"}},
			},
		},
		{
			Name:    "tgi",
			Aliases: []string{"text-generation-inference"},
			Waiting: named("tgi_queue_size"),
			Running: named("tgi_batch_current_size"),
		},
		{
			Name:    "tei",
			Aliases: []string{"text-embeddings-inference"},
			Waiting: named("te_queue_size"), // inputs, of which a request may have many; that is all that it says
		},
		{
			Name:    "llamacpp",
			Aliases: []string{"llama.cpp", "llama-server"},
			Waiting: named("llamacpp:requests_deferred"),
			Running: named("llamacpp:requests_processing"),
			KVUsage: named("llamacpp:kv_cache_usage_ratio"), // older builds only
		},
		{
			Name:    "lmdeploy",
			Waiting: named("lmdeploy:num_requests_waiting"),
			Running: named("lmdeploy:num_requests_running"),
			KVUsage: named("lmdeploy:gpu_cache_usage_perc"),

			RankLabel: "engine",
		},
		{
			Name:    "dynamo",
			Waiting: named("dynamo_frontend_queued_requests", "vllm:num_requests_waiting", "sglang:num_queue_reqs", "trtllm_num_requests_waiting"),
			Running: []Metric{
				{Name: "dynamo_frontend_inflight_requests"},
				// A worker has other endpoints beside the one that generates.
				{Name: "dynamo_component_inflight_requests", Match: map[string]string{"dynamo_endpoint": "generate"}},
				{Name: "dynamo_component_inflight_requests"},
			},
			KVUsage:       named("dynamo_component_gpu_cache_usage_percent", "dynamo_component_kvstats_gpu_cache_usage_percent"), // 0..1, both
			Awake:         vllmSleep(),
			BlockSize:     named("dynamo_frontend_model_kv_cache_block_size"),
			NumBlocks:     named("dynamo_component_total_blocks", "dynamo_component_kvstats_total_blocks"),
			OverlapLabels: []string{"tp_rank", "pp_rank", "moe_ep_rank", "priority"},
		},
	}
}

// vllmSleep is where vLLM says whether it sleeps. Its other series say how deeply.
func vllmSleep() []Metric {
	return []Metric{{Name: "vllm:engine_sleep_state", Match: map[string]string{"sleep_state": "awake"}}}
}

// named returns candidates that are samples of these names.
func named(names ...string) []Metric {
	m := make([]Metric, len(names))
	for i, name := range names {
		m[i].Name = name
	}
	return m
}

// is reports whether the engine goes by that name.
func (e *Engine) is(name string) bool {
	return strings.EqualFold(e.Name, name) ||
		slices.ContainsFunc(e.Aliases, func(a string) bool { return strings.EqualFold(a, name) })
}

func (e *Engine) path() string {
	if e.Path == "" {
		return "/metrics"
	}
	return e.Path
}

// validate returns what is wrong with e, in terms of its fields.
func (e *Engine) validate() error {
	if e.Name == "" {
		return errors.New("it has no name")
	}
	if err := validPath(e.path()); err != nil {
		return err
	}
	if len(e.Waiting)+len(e.Running)+len(e.KVUsage) == 0 {
		return errors.New("it has no metric for waiting, running or KV usage: nothing would ever be read")
	}
	for _, candidates := range [][]Metric{e.Waiting, e.Running, e.KVUsage, e.BlockSize, e.NumBlocks, e.Awake, e.StartedAt} {
		for _, m := range candidates {
			if m.Name == "" {
				return errors.New("a metric has no name")
			}
			if !(m.Scale >= 0 && m.Scale <= math.MaxFloat64) {
				return fmt.Errorf("metric %s has scale %v: it must be a number that is not negative", m.Name, m.Scale)
			}
		}
	}
	for _, a := range e.Adapters {
		if a.Name == "" || a.Max == "" {
			return fmt.Errorf("adapter metric %q has no name, or no label for how many fit", a.Name)
		}
	}
	return nil
}
