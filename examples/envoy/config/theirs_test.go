package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/types"
)

// TestTheirVersions: an EndpointPickerConfig is read in all versions that projects use.
func TestTheirVersions(t *testing.T) {
	for _, version := range []string{
		"llm-d.ai/v1alpha1", "llm-d.ai/v1alpha2", "llm-d.ai/v1", "inference.networking.x-k8s.io/v1alpha1", "inference.networking.k8s.io/v1alpha1",
		"config.x-k8s.io/v1alpha1", "config.apix.gateway-api-inference-extension.sigs.k8s.io/v1alpha1",
	} {
		c := parse(t, poolYAML+strings.Replace(pickerHead, "inference.networking.x-k8s.io/v1alpha1", version, 1)+
			"plugins: [{type: single-profile-handler}, {type: queue-scorer}, {type: max-score-picker}]\n")
		require.Empty(t, c.Warnings, version)
		require.Contains(t, wiringOf(t, c, llama), "queue-scorer*1", version)
	}
}

// TestTheirManifests: objectives and pools with what other versions have in them.
func TestTheirManifests(t *testing.T) {
	c := parse(t, `apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama, labels: {tier: gold}}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}], endpointPickerRef: {name: epp, namespace: x, port: {number: 9002}}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: left-over}
spec: {priority: 1, poolRef: {name: llama}, targetModels: [{name: a, weight: 100}]}
---
apiVersion: llm-d.ai/v1
kind: InferenceObjective
metadata: {name: several}
spec: {priority: 2, poolRefs: [{name: gone}, {group: inference.networking.k8s.io, name: llama}]}
---
apiVersion: llm-d.ai/v1
kind: InferenceObjective
metadata: {name: selected}
spec: {priority: 3, poolSelector: {matchLabels: {tier: gold}}}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: rewrite}
spec: {poolRef: {group: llm-d.ai, name: llama}, rules: [{targets: [{modelRewrite: base}]}]}
`)
	require.Empty(t, rejected(c))
	require.Len(t, c.Warnings, 2, "%q", c.Warnings)
	s := datastore.New(datastore.Options{DeclaredPoolsOnly: true})
	require.NoError(t, s.Commit(c.Change))
	for name, want := range map[string]int{"left-over": 1, "several": 2, "selected": 3} {
		r, err := s.Snapshot().Resolve(datastore.Query{Model: "m", Pool: llama, Objective: name})
		require.NoError(t, err)
		require.Equal(t, want, r.Priority, name)
		require.Equal(t, "base", r.TargetModel)
	}
	for _, o := range c.Change.Objects {
		status, _ := s.Status(o.Kind(), o.Key())
		require.Equal(t, types.ConditionTrue, status[0].Status, "%s %s", o.Kind(), o.Key())
	}
}

// TestTheirSections: what newer versions keep elsewhere, or have more of.
func TestTheirSections(t *testing.T) {
	c := parse(t, poolYAML+pickerHead+`featureGates: ["flowControl=true", "dataLayer=false", "enableLegacyMetrics=false"]
plugins:
- type: queue-scorer
- {type: openai-parser, name: p}
- {type: concurrency-detector, parameters: {maxConcurrency: 7}}
requestHandler: {parsers: [{pluginRef: p}, {pluginRef: openai-parser}]}
dataLayer: {injectDefaults: true}
flowControl:
  saturationDetector: {pluginRef: concurrency-detector}
  defaultRequestTTL: 5s
  noEndpointRequestTTL: 90s
  defaultNegativePriorityBand: {maxRequests: 3}
  priorityBands: [{priority: 100, maxRequests: 9}, {priority: -10, maxRequests: 1}]
`)
	require.Empty(t, c.Warnings)
	require.False(t, c.LegacyMetrics)
	require.Equal(t, 90*time.Second, policy(c, llama).Admission().WaitForEndpoints)
	require.Equal(t, "0 0 first-come fifo | 101=above 100{0 0 5s 0} 100=100{9 0 5s 0} 0=above -10{0 0 5s 0} -9=above -10, negative{3 0 5s 0} -10=-10{1 0 5s 0} rest=below -10{3 0 5s 0} | Concurrency{Requests:7 Tokens:0}",
		admissionOf(t, c, llama))

	c = parse(t, poolYAML+pickerHead+"featureGates: [flowControl=false]\nflowControl: {enableEviction: true, defaultNegativePriorityBand: {}}\nplugins: [{type: queue-scorer}]\n")
	require.Nil(t, policy(c, llama).Admission())

	// The section moved: the new place counts.
	c = parse(t, poolYAML+pickerHead+"saturationDetector: {queueDepthThreshold: 1}\nflowControl: {saturationDetector: {queueDepthThreshold: 2}}\nplugins: [{type: queue-scorer}]\n")
	require.Contains(t, wiringOf(t, c, llama), "shed-filter{2 0}")
	require.Contains(t, strings.Join(c.Warnings, "\n"), "saturationDetector has no effect: flowControl.saturationDetector is given")

	c = parse(t, poolYAML+pickerHead+`plugins: [{type: queue-scorer}, {type: openai-parser}, {type: concurrency-detector}]
saturationDetector: {pluginRef: concurrency-detector}
dataLayer: {injectDefaults: false, discovery: {pluginRef: x}, peerDiscovery: {pluginRef: y}}
schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}, {pluginRef: openai-parser}]}]
`)
	warnings := strings.Join(c.Warnings, "\n")
	for _, want := range []string{
		"dataLayer.injectDefaults has no effect here", "dataLayer.discovery has no effect here", "dataLayer.peerDiscovery has no effect here",
		`schedulingProfiles[0].plugins[1].pluginRef: "openai-parser" is of type openai-parser, which is no filter, scorer or picker and has no effect`,
		"saturationDetector: concurrency-detector (concurrency-detector) has no effect without flowControl in featureGates",
	} {
		require.Contains(t, warnings, want)
	}
}

func TestTheirErrors(t *testing.T) {
	for text, want := range map[string]string{
		"featureGates: [flowControl=perhaps]\n":                                                                `featureGates[0] is "flowControl=perhaps", want the name of a gate, which =true or =false may follow`,
		"requestHandler: {parsers: [{pluginRef: none}]}\n":                                                     `requestHandler.parsers[0].pluginRef is "none", which no plugin is named; none is declared in plugins`,
		"requestHandler: []\n":                                                                                 "requestHandler is [], want an object",
		"flowControl: {saturationDetector: {pluginRef: nobody}}\n":                                             `flowControl.saturationDetector.pluginRef is "nobody", which no plugin is named; none is declared in plugins`,
		"featureGates: [flowControl]\nflowControl: {noEndpointRequestTTL: soon}\n":                             `flowControl.noEndpointRequestTTL is "soon", want a duration`,
		"plugins: [{type: prefix-cache-scorer, parameters: {mode: cache_tracking}}]\n":                         "plugins[0].parameters.mode: cache_tracking asks for KV events",
		"plugins: [{type: prefix-cache-scorer, parameters: {kvEventsConfig: {}}}]\n":                           "plugins[0].parameters.kvEventsConfig asks for KV events",
		"plugins: [{type: prefix-cache-scorer, parameters: {mode: guess}}]\n":                                  `plugins[0].parameters.mode is "guess", want estimate`,
		"plugins: [{type: queue-scorer}]\ndataLayer: {sources: [{pluginRef: queue-scorer}]}\n":                 `"queue-scorer" of type queue-scorer, want metrics-data-source, models-data-source, k8s-notification-source, endpoint-notification-source`,
		"plugins: [{type: metrics-data-source}]\nrequestHandler: {parser: {pluginRef: metrics-data-source}}\n": `requestHandler.parser.pluginRef is "metrics-data-source" of type metrics-data-source, want one of anthropic-parser, openai-parser, passthrough-parser, sglanghttp-parser, vllmgrpc-parser, vllmhttp-parser`,
	} {
		err := wrong((config.Loader{}).Parse("c.yaml", []byte(poolYAML+pickerHead+text)))
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "config: c.yaml:")
	}
}
