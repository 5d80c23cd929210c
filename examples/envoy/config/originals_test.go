package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/config"
)

// key returns the digest of the profile that the plugins of a document make, and its
// warnings.
func key(t *testing.T, declarations string) (string, []string) {
	t.Helper()
	c := parse(t, poolYAML+pickerHead+declarations)
	return policy(c, llama).Key(), c.Warnings
}

// TestOriginals: types of the Inference Extension and of llm-d are the same profile as the
// ours that they stand for.
func TestOriginals(t *testing.T) {
	for _, tt := range []struct {
		name, theirs, ours string
		warnings           []string
	}{
		{"label selector", "{type: label-selector-filter, name: x, parameters: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: NotIn, values: [d, e]}, {key: f, operator: Exists}]}}",
			"{type: label-filter, name: x, parameters: {match: {a: b}, expressions: [{key: c, operator: NotIn, values: [d, e]}, {key: f, operator: Exists}]}}", nil},
		{"an older name", "{type: by-label-selector, name: x, parameters: {matchLabels: {a: b}}}", "{type: label-filter, name: x, parameters: {match: {a: b}}}", nil},
		{"an empty selector", "{type: label-selector-filter, name: x}", "{type: label-filter, name: x}", nil},
		{"by label", "{type: by-label, name: x, parameters: {label: role, validValues: [a, b]}}", "{type: label-filter, name: x, parameters: {expressions: [{key: role, operator: In, values: [a, b]}]}}", nil},
		{"by label, or without", "{type: by-label, name: x, parameters: {label: role, validValues: [a], allowsNoLabel: true}}", "{type: label-filter, name: x, parameters: {expressions: [{key: role, operator: In, values: [a], optional: true}]}}", nil},
		{"without a label", "{type: by-label, name: x, parameters: {label: role, allowsNoLabel: true}}", "{type: label-filter, name: x, parameters: {expressions: [{key: role, operator: DoesNotExist}]}}", nil},
		{"decode", "{type: decode-filter, name: x}", "{type: label-filter, name: x, parameters: {expressions: [{key: llm-d.ai/role, operator: In, values: [decode, prefill-decode, both, encode-prefill-decode], optional: true}]}}", nil},
		{"prefill", "{type: prefill-filter, name: x}", "{type: label-filter, name: x, parameters: {expressions: [{key: llm-d.ai/role, operator: In, values: [prefill, encode-prefill, prefill-decode, both, encode-prefill-decode]}]}}", []string{"plugins[0] (x): servers that are not for decode"}},
		{"encode", "{type: encode-filter, name: x}", "{type: label-filter, name: x, parameters: {expressions: [{key: llm-d.ai/role, operator: In, values: [encode, encode-prefill, encode-prefill-decode]}]}}", []string{"plugins[0] (x): servers that are not for decode"}},
		{"active requests", "{type: active-request-scorer, parameters: {requestTimeout: 2m, idleThreshold: 2, maxBusyScore: 0.5}}", "{type: active-request-scorer, parameters: {idleThreshold: 2, maxBusyScore: 0.5}}",
			[]string{"plugins[0].parameters.requestTimeout has no effect here"}},
		{"active requests as a filter", "{type: active-request-filter, name: x, parameters: {maxRequests: 10, fallbackOnEmpty: true}}",
			"{type: endpoint-attribute-filter, name: x, parameters: {attribute: inFlightRequests, fallbackOnEmpty: true, algorithm: {type: threshold, threshold: {operator: LessThanOrEqual, value: 10}}}}", nil},
		{"load", "{type: load-aware-scorer, parameters: {threshold: 100}}", "{type: load-aware-scorer, parameters: {threshold: 100}}", nil},
		{"tokens", "{type: token-load-scorer, parameters: {queueThresholdTokens: 1000, nonTextTokenWeight: 2}}", "{type: token-load-scorer, parameters: {threshold: 1000}}",
			[]string{"plugins[0].parameters.nonTextTokenWeight has no effect here"}},
		{"sessions", "{type: session-affinity-scorer, parameters: {algorithm: session_id_header, headerName: x-s, evictionTtlSeconds: 90}}", "{type: session-affinity-scorer, parameters: {ttl: 90s}}",
			[]string{"plugins[0].parameters.algorithm has no effect here", "plugins[0].parameters.headerName has no effect here"}},
		{"attribute of an engine", "{type: endpoint-attribute-filter, parameters: {attribute: num_requests_running, onMissing: Fail, algorithm: {type: topK, topK: {k: 5, higherIsBetter: false}}}}",
			"{type: endpoint-attribute-filter, parameters: {attribute: running, onMissing: Fail, algorithm: {type: topK, topK: {k: 5, higherIsBetter: false}}}}", nil},
		{"attribute of a metric of one's own", "{type: endpoint-attribute-scorer, parameters: {attributeKey: custom.queue, algorithm: {type: linear_lower_is_better}}}, {type: core-metrics-extractor, parameters: {engineConfigs: [{name: e, queuedRequestsSpec: q, customMetrics: [{attributeKey: custom.queue, metricSpec: \"vllm:num_requests_waiting{a=b}\"}]}]}}",
			"{type: endpoint-attribute-scorer, parameters: {attributeKey: waiting, algorithm: {type: linear_lower_is_better}}}", []string{"customMetrics has no effect here"}},
		{"prefix affinity", "{type: prefix-cache-affinity-filter, parameters: {affinityThreshold: 0.99, explorationProbability: 0.01, maxTTFTPenaltyMs: 5000, ttftSource: latencyPredictor, prefixMatchInfoProducerName: p}}, {type: approx-prefix-cache-producer, name: p}",
			"{type: prefix-cache-affinity-filter, parameters: {affinityThreshold: 0.99, explorationProbability: 0.01, maxTTFTPenaltyMs: 5000}}", []string{"plugins[0].parameters.ttftSource is taken as prefillThroughput"}},
		{"prefix affinity to nobody", "{type: prefix-cache-affinity-filter, parameters: {affinityThreshold: 0}}", "{type: prefix-cache-affinity-filter, parameters: {affinityThreshold: 0.8, explorationProbability: 1}}", nil},
		{"new prompts", "{type: no-hit-lru-scorer, parameters: {lruSize: 2048, prefixPluginName: p, prefixPluginType: prefix-cache-scorer}}, {type: prefix-cache-scorer, name: p}",
			"{type: no-hit-lru-scorer, parameters: {lruSize: 2048, prefixPluginName: p}}, {type: prefix-cache-scorer, name: p}", nil},
		{"new prompts without a plugin that knows them", "{type: no-hit-lru-scorer, parameters: {prefixPluginName: prefix-cache-scorer}}", "{type: no-hit-lru-scorer}", nil},
		{"decision tree", "{type: decision-tree-filter, name: x, parameters: {current: {pluginRef: low}, nextOnSuccess: {decisionTree: {current: {pluginRef: lora}, nextOnSuccessOrFailure: {pluginRef: kv}}}, nextOnFailure: {pluginRef: kv}}}, " +
			"{type: low-queue-filter, name: low, parameters: {threshold: 128}}, {type: lora-affinity-filter, name: lora}, {type: least-kv-cache-filter, name: kv}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: x}]}",
			"{type: decision-tree-filter, name: x, parameters: {rule: {type: low-queue-filter, name: low, parameters: {below: 128}}, onSuccess: {rule: {type: lora-affinity-filter, name: lora}, onSuccess: {rule: {type: least-kv-cache-filter, name: kv}}, onFailure: {rule: {type: least-kv-cache-filter, name: kv}}}, onFailure: {rule: {type: least-kv-cache-filter, name: kv}}}}, " +
				"{type: low-queue-filter, name: low, parameters: {below: 128}}, {type: lora-affinity-filter, name: lora}, {type: least-kv-cache-filter, name: kv}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: x}]}", nil},
		{"data parallel", "{type: data-parallel-profile-handler, parameters: {primaryPort: 8000}}, {type: queue-scorer}", "{type: queue-scorer}", nil},
		{"decode only", "{type: disagg-profile-handler}, {type: queue-scorer}", "{type: queue-scorer}", nil},
		{"tokens", "{type: token-producer, parameters: {estimate: {image: {mode: static}}}}, {type: tokenizer}, {type: queue-scorer}", "{type: queue-scorer}", []string{"plugins[0].parameters (token-producer) has no effect here: tokens are estimated"}},
		{"parsers", "{type: openai-parser}, {type: anthropic-parser}, {type: vllmhttp-parser}, {type: vllmgrpc-parser}, {type: queue-scorer}", "{type: queue-scorer}", nil},
		{"what is so in any case", "{type: models-data-source}, {type: model-server-protocol-models}, {type: queue-scorer}", "{type: queue-scorer}", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, warnings := key(t, "plugins: ["+tt.theirs+"]\n")
			want, _ := key(t, "plugins: ["+tt.ours+"]\n")
			require.Len(t, warnings, len(tt.warnings), "%q", warnings)
			for i, w := range tt.warnings {
				require.Contains(t, warnings[i], w)
			}
			// The tree's own filters are used by it alone, and are named in theirs only.
			require.Equal(t, want, got)
		})
	}
}

// TestLatencyPredictor: what the predictor is for a latency-cost does, once a profile.
func TestLatencyPredictor(t *testing.T) {
	const shed = "shed-filter{0 0} | "
	for _, tt := range []struct {
		name, text, want string
		warnings         []string
	}{
		{"version 1.3", "plugins: [{type: queue-scorer}, {type: predicted-latency-scorer, parameters: {samplingMean: 1000, headroomTTFTWeight: 0.8}}]\nschedulingProfiles: [{name: default, plugins: [{pluginRef: predicted-latency-scorer, weight: 2}]}]\n",
			safe + "shed-filter{0 0} | -predicted-latency-scorer | MaxScore | 0",
			[]string{"plugins[1].parameters: headroomTTFTWeight, samplingMean have no effect here", "schedulingProfiles[0].plugins[0].weight has no effect here", "plugins[0] (queue-scorer) is used by no profile"}},
		{"version 1.5", `plugins:
- {type: prefix-cache-affinity-filter, name: global, parameters: {affinityThreshold: 0.99}}
- {type: slo-headroom-tier-filter, parameters: {epsilonExploreNeg: 0.01}}
- {type: prefix-cache-affinity-filter, name: tier}
- {type: predicted-latency-producer, parameters: {streamingMode: true}}
- {type: latency-scorer}
- {type: latency-slo-admitter}
- {type: weighted-random-picker, parameters: {maxNumOfEndpoints: 2}}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: predicted-latency-producer}, {pluginRef: global}, {pluginRef: slo-headroom-tier-filter}, {pluginRef: tier}, {pluginRef: latency-scorer}, {pluginRef: weighted-random-picker}]}
`, safe + "global tier latency-slo-admitter shed-filter{0 0} | -latency-scorer | MaxScore | 1",
			[]string{"plugins[1].parameters: epsilonExploreNeg", "plugins[3].parameters: streamingMode", "plugins[6] (weighted-random-picker) is taken as max-score-picker"}},
		{"parts alone", "plugins: [{type: slo-headroom-tier-filter}, {type: queue-scorer}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: slo-headroom-tier-filter}, {pluginRef: queue-scorer}]}]\n",
			safe + shed + "queue-scorer*1 -latency-cost | MaxScore | 0", nil},
		{"an admitter alone", "plugins: [{type: latency-slo-admitter}, {type: queue-scorer}]\n",
			safe + "latency-slo-admitter shed-filter{0 0} | queue-scorer*1 | MaxScore | 0", []string{"plugins[0] (latency-slo-admitter) has no effect without latency-scorer"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parse(t, poolYAML+pickerHead+tt.text)
			require.Equal(t, tt.want, wiringOf(t, c, llama))
			require.Len(t, c.Warnings, len(tt.warnings), "%q", c.Warnings)
			for i, w := range tt.warnings {
				require.Contains(t, c.Warnings[i], w)
			}
		})
	}
}

func TestOriginalErrors(t *testing.T) {
	for text, want := range map[string]string{
		"plugins: [{type: pd-profile-handler}]":                                                                                                           `plugins[0].parameters.prefillProfile is given, but there is no profile "prefill": schedulingProfiles has none`,
		"plugins: [{type: precise-prefix-cache-scorer, parameters: {indexerConfig: {a: 1}}}]":                                                             `plugins[0].type is "precise-prefix-cache-scorer", which is not supported: it needs the KV events`,
		"plugins: [{type: disagg-profile-handler, parameters: {deciders: {prefill: p}}}]":                                                                 `plugins[0].parameters.deciders.prefill is "p", which no plugin is named; in plugins there are disagg-profile-handler`,
		"plugins: [{type: topology-affinity-filter}]":                                                                                                     `plugins[0].type is "topology-affinity-filter", which is not supported: who answers is chosen here without regard to where the prompt is computed`,
		"plugins: [{type: p2p-source-producer}]":                                                                                                          `plugins[0].type is "p2p-source-producer", which is not supported: no server is told here to fetch what another one has cached`,
		"plugins: [{type: active-requests-scorer}]":                                                                                                       `plugins[0].type is "active-requests-scorer", which is unknown; the nearest is active-request-scorer; known are `,
		"plugins: [{type: label-select-filter}]":                                                                                                          "the nearest is label-selector-filter;",
		"plugins: [{type: label-selector-filter, parameters: {matchExpressions: [{key: a, operator: in}]}}]":                                              `matchExpressions[0].operator is "in", which is unknown; the nearest is In`,
		"plugins: [{type: label-selector-filter, parameters: {matchExpressions: [{key: a, operator: In}]}}]":                                              "plugins[0].parameters.expressions[0].values is empty, want some for operator In",
		"plugins: [{type: label-selector-filter, parameters: {matchLabels: {a: 1}}}]":                                                                     "plugins[0].parameters.matchLabels.a is 1, want a string",
		"plugins: [{type: by-label, parameters: {label: a}}]":                                                                                             "plugins[0].parameters.validValues is empty, want some",
		"plugins: [{type: by-label, parameters: {validValues: [1]}}]":                                                                                     "plugins[0].parameters.validValues[0] is 1, want a string",
		"plugins: [{type: active-request-filter}]":                                                                                                        "plugins[0].parameters.maxRequests is required",
		"plugins: [{type: endpoint-attribute-scorer, parameters: {attributeKey: custom.speed, algorithm: {type: linear_lower_is_better}}}]":               `plugins[0].parameters.attributeKey is "custom.speed", want one of the figures that are read of servers: `,
		"plugins: [{type: endpoint-attribute-scorer, parameters: {attributeKey: waiting, source: metadata, algorithm: {type: linear_lower_is_better}}}]":  "plugins[0].parameters.source",
		"plugins: [{type: endpoint-attribute-filter, parameters: {attribute: waiting, producer: dcgm-extractor, algorithm: {type: topK, topK: {k: 1}}}}]": "plugins[0].parameters.producer",
		"plugins: [{type: prefix-cache-affinity-filter, parameters: {prefillCalibrationRequired: true}}]":                                                 "no calibration is read here",
		"plugins: [{type: prefix-cache-affinity-filter, parameters: {ttftSource: clock}}]":                                                                `plugins[0].parameters.ttftSource is "clock", want prefillThroughput or latencyPredictor`,
		"plugins: [{type: no-hit-lru-scorer, parameters: {prefixPluginName: q}}, {type: queue-scorer, name: q}]":                                          `plugins[0].parameters.prefixPluginName is "q" of type queue-scorer, which does not know what is cached`,
		"plugins: [{type: session-affinity-scorer, parameters: {algorithm: cookie}}]":                                                                     `plugins[0].parameters.algorithm is "cookie", want encoded_endpoint_header or session_id_header`,
		"plugins: [{type: session-affinity-scorer, parameters: {evictionTtlSeconds: 5, ttl: 5s}}]":                                                        "plugins[0].parameters has both, want one of evictionTtlSeconds and ttl",
		"plugins: [{type: decision-tree-filter, parameters: {}}]":                                                                                         "plugins[0].parameters.current is required",
		"plugins: [{type: decision-tree-filter, parameters: {current: {pluginRef: gone}}}]":                                                               `plugins[0].parameters.current.pluginRef is "gone", which no plugin is named; in plugins there are decision-tree-filter`,
		"plugins: [{type: decision-tree-filter, name: t, parameters: {current: {pluginRef: t}}}]":                                                         `"t", which would be a part of itself`,
		"plugins: [{type: decision-tree-filter, parameters: {current: {pluginRef: f}, nextOnSuccess: {}}}, {type: healthy-filter, name: f}]":              "nextOnSuccess has none or both, want one of pluginRef and decisionTree",
		"plugins: [{type: decision-tree-filter, parameters: {current: {pluginRef: s}}}, {type: queue-scorer, name: s}]":                                   `plugins[0].parameters.rule.type is "queue-scorer", want a filter`,
		"plugins: [{type: single-profile-handler}, {type: header-profile-handler}]":                                                                       "plugins[1] is a header-profile-handler, a second profile handler beside plugins[0] (single-profile-handler)",
		"requestHandler: {parsers: [{pluginRef: vllmrpc-parser}]}":                                                                                        `requestHandler.parsers[0].pluginRef is "vllmrpc-parser", which no plugin is named; none is declared in plugins`,
		"plugins: [{type: queue-scorer}]\nrequestHandler: {parsers: [{pluginRef: queue-scorer}]}":                                                         `"queue-scorer" of type queue-scorer, want one of anthropic-parser, openai-parser, passthrough-parser, sglanghttp-parser, vllmgrpc-parser, vllmhttp-parser`,
	} {
		c, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+text+"\n"))
		err = wrong(c, err)
		require.Error(t, err, text)
		require.Contains(t, err.Error(), want, text)
	}
}

func TestPassthrough(t *testing.T) {
	for text, want := range map[string]bool{
		"": false,
		"parser: {pluginRef: passthrough-parser}":                                                                                 true,
		"plugins: [{type: passthrough-parser, name: p}]\nrequestHandler: {parsers: [{pluginRef: p}]}":                             true,
		"plugins: [{type: passthrough-parser, name: p}]\nrequestHandler: {parsers: [{pluginRef: openai-parser}, {pluginRef: p}]}": false,
		"plugins: [{type: passthrough-parser}]":                                                                                   false,
		"requestHandler: {parsers: [{pluginRef: vllmgrpc-parser}]}":                                                               false,
	} {
		c := parse(t, poolYAML+pickerHead+text+"\n")
		require.Equal(t, want, policy(c, llama).Passthrough(), text)
		require.Empty(t, strings.Join(c.Warnings, "\n"), text)
	}
}
