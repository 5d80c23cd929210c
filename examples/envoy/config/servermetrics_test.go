package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/examples/envoy/config"
)

const serversYAML = "---\n" + endpointsHead + `spec:
  poolRef: {name: llama}
  endpoints:
  - {id: plain, address: '10.0.0.1:80'}
  - {id: own, address: '10.0.0.2:80', engine: tgi, metrics: {path: /m, scheme: http}}
  - {id: labelled, address: '10.0.0.3:80', labels: {engine: sglang}}
  - {id: usual, address: '10.0.0.4:80', labels: {llm-d.ai/engine-type: trtllm}}
`

// said is what endpoints say themselves of their metrics.
func said(c *config.Config) map[string]string {
	out := make(map[string]string)
	for _, e := range c.Change.Endpoints[llama] {
		out[e.ID] = strings.Join([]string{e.MetricsScheme, e.MetricsPath, e.Engine}, " ")
	}
	return out
}

// TestMetricsSource: its parameters are for the scraper, which leaves what endpoints say.
func TestMetricsSource(t *testing.T) {
	c := parse(t, poolYAML+serversYAML+pickerHead+`plugins:
- {type: queue-scorer}
- {type: metrics-data-source, parameters: {scheme: https, path: /custom/metrics, insecureSkipVerify: true}}
- {type: core-metrics-extractor, parameters: {engineLabelKey: engine, defaultEngine: vllm}}
`)
	require.Equal(t, map[string]string{"plain": "  ", "own": "http /m tgi", "labelled": "  ", "usual": "  "}, said(c))
	require.Equal(t, scrape.PoolOptions{
		Scheme: "https", Path: "/custom/metrics", InsecureSkipVerify: true, EngineLabel: "engine", Engine: "vllm",
	}, policy(c, llama).ServerMetrics())
	require.Empty(t, c.Warnings)

	c = parse(t, poolYAML+serversYAML)
	require.Equal(t, scrape.PoolOptions{}, policy(c, llama).ServerMetrics())

	// Of several the one that is referred to, and what is not known is told.
	c = parse(t, poolYAML+serversYAML+pickerHead+`plugins:
- {type: metrics-data-source, name: a, parameters: {path: /a}}
- {type: metrics-data-source, name: b, parameters: {path: b, scheme: https, interval: 1s, speed: 5}}
dataLayer: {sources: [{pluginRef: b}]}
`)
	require.Equal(t, scrape.PoolOptions{Scheme: "https", Path: "/b"}, policy(c, llama).ServerMetrics(), "certificates are verified by default")
	require.Len(t, c.Warnings, 3)
	require.Contains(t, c.Warnings[0], "plugins[1].parameters: certificates are verified; insecureSkipVerify: true takes every one")
	require.Contains(t, c.Warnings[1], "plugins[1].parameters.interval has no effect here")
	require.Contains(t, c.Warnings[2], "plugins[1].parameters.speed is not a field")
}

// TestEngineConfigs: what they name is read from a page, by the very scanner.
func TestEngineConfigs(t *testing.T) {
	c := parse(t, poolYAML+serversYAML+pickerHead+`plugins:
- type: core-metrics-extractor
  parameters:
    defaultEngine: mine
    engineConfigs:
    - name: mine
      queuedRequestsSpec: 'my_queue{state="wait\"ing",tier=gold}'
      runningRequestsSpec: my_running
      kvUsageSpec: my_cache
      loraSpec: my_lora
      cacheInfoSpec: my_info
      cacheNumBlocksLabelName: blocks
    - name: vllm
      queuedRequestsSpec: vllm:waiting_now
    - {name: triton-tensorrt-llm, kvUsageSpec: x, cacheBlockSizeSpec: size, cacheNumBlocksSpec: blocks, customMetrics: [{attributeKey: a, metricSpec: b}]}
`)
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "engineConfigs[2].customMetrics has no effect here")
	require.Equal(t, "mine", policy(c, llama).ServerMetrics().Engine)
	engines := policy(c, llama).ServerMetrics().Engines
	var names []string
	for _, e := range engines {
		names = append(names, e.Name)
	}
	require.Equal(t, []string{"mine", "vllm", "triton-tensorrt-llm", "sglang", "trtllm", "tgi", "tei", "llamacpp", "lmdeploy", "dynamo"}, names)
	require.NotEmpty(t, engines[1].Awake, "what the form has no words for stays")

	p, err := scrape.NewParser(engines)
	require.NoError(t, err)
	m, engine, err := p.Parse([]byte(`my_queue{state="wait\"ing",tier="gold"} 3
my_queue{state="wait\"ing",tier="tin"} 50
my_running 2
my_cache 0.5
my_lora{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters=""} 1
my_info{block_size="16",blocks="1000"} 1
vllm:num_requests_waiting 9
`), "mine")
	require.NoError(t, err)
	require.Equal(t, "mine", engine)
	require.Equal(t, []string{"a", "b"}, m.RunningAdapters)
	for name, g := range map[string]struct {
		got  interface{ Value() (float64, bool) }
		want float64
	}{"waiting": {m.Waiting, 3}, "running": {m.Running, 2}, "usage": {m.KVUsage, .5}, "size": {m.BlockSize, 16}, "blocks": {m.NumBlocks, 1000}} {
		got, known := g.got.Value()
		require.True(t, known, name)
		require.Equal(t, g.want, got, name)
	}
}

func TestServerMetricsErrors(t *testing.T) {
	for parameters, want := range map[string]string{
		"metrics-data-source, parameters: {scheme: ftp}":                                                                           `parameters.scheme is "ftp", want http or https`,
		"metrics-data-source, parameters: {path: '/a%zz'}":                                                                         `parameters.path is "/a%zz", want the path of a URL`,
		"metrics-data-source, parameters: {path: '/a b'}":                                                                          `parameters.path is "/a b", want the path of a URL`,
		"metrics-data-source, parameters: {insecureSkipVerify: perhaps}":                                                           `parameters.insecureSkipVerify is "perhaps", want true or false`,
		"core-metrics-extractor, parameters: {defaultEngine: vlm}":                                                                 `parameters.defaultEngine is "vlm", which is no engine; the nearest is vllm`,
		"core-metrics-extractor, parameters: {engineConfigs: [{kvUsageSpec: x}]}":                                                  "engineConfigs[0].name is required",
		"core-metrics-extractor, parameters: {engineConfigs: [{name: x}]}":                                                         "engineConfigs[0] has none, want at least one of queuedRequestsSpec, runningRequestsSpec and kvUsageSpec",
		"core-metrics-extractor, parameters: {engineConfigs: [{name: x, kvUsageSpec: 'a b'}]}":                                     `engineConfigs[0].kvUsageSpec is "a b", want the name of a metric`,
		"core-metrics-extractor, parameters: {engineConfigs: [{name: x, kvUsageSpec: 'a{b!=c}'}]}":                                 `engineConfigs[0].kvUsageSpec is "a{b!=c}", want the name of a metric`,
		"core-metrics-extractor, parameters: {engineConfigs: [{name: x, kvUsageSpec: 'a{b=\"c}'}]}":                                `engineConfigs[0].kvUsageSpec is "a{b=\"c}", want the name of a metric`,
		"core-metrics-extractor, parameters: {engineConfigs: [{name: x, kvUsageSpec: a}, {name: X, kvUsageSpec: a}]}":              `engineConfigs[1].name is "X", which is there twice`,
		"core-metrics-extractor, parameters: {engineConfigs: [{name: x, kvUsageSpec: a, cacheInfoSpec: 5}]}":                       "engineConfigs[0].cacheInfoSpec is 5, want a string",
		"core-metrics-extractor, parameters: {engineConfigs: [{name: vllm, kvUsageSpec: a}, {name: vllm, queuedRequestsSpec: b}]}": `engineConfigs[1].name is "vllm", which is there twice`,
	} {
		_, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+"plugins: [{type: "+parameters+"}]\n"))
		require.ErrorContains(t, err, want, parameters)
		require.ErrorContains(t, err, "config: c.yaml:8:")
		require.ErrorContains(t, err, ": EndpointPickerConfig: plugins[0].parameters")
	}
}
