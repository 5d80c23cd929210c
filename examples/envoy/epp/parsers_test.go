package epp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
)

// TestPassthrough: bodies are looked at or not as the configuration in force says, and of
// the usage Envoy is told what it asks for.
func TestPassthrough(t *testing.T) {
	t.Parallel()
	const reporter = "plugins: [{type: request-attribute-reporter, parameters: {attributes: [{key: {name: cost}, expression: usage.prompt_tokens + usage.completion_tokens * 2}]}}]\n"
	r := start(t, base+pickerHead+"parser: {pluginRef: passthrough-parser}\n", nil)
	c := r.client()
	ask := func() *stream {
		x := open(t, c)
		x.send(requestHeaders())
		x.send(envoyside.RequestBody("this is no JSON", true))
		return x
	}
	x := ask()
	require.NotEmpty(t, destinationOf(t, x.recv()))
	require.Equal(t, "this is no JSON", string(x.recv().GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetBody()))
	x.finish()

	put(t, r.path, base+pickerHead+reporter)
	must(t, r.Reload())
	require.EqualValues(t, 400, ask().recv().GetImmediateResponse().GetStatus().GetCode())
	x = open(t, c)
	x.routed("chat")
	x.send(envoyside.ResponseHeaders(200, "application/json", false))
	x.recv()
	x.send(envoyside.ResponseBody(`{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}`, true))
	require.Equal(t, map[string]any{"envoy.lb": map[string]any{"cost": 13.}}, x.recv().GetDynamicMetadata().AsMap())
}

// TestProfiles: the profile is that of the request's header.
func TestProfiles(t *testing.T) {
	t.Parallel()
	r := start(t, base+pickerHead+`plugins:
- {type: request-profile-handler, parameters: {defaultProfile: here, rules: [{profile: there, header: {name: x-where, values: [there]}}]}}
- {type: label-selector-filter, name: a, parameters: {matchLabels: {side: a}}}
- {type: label-selector-filter, name: b, parameters: {matchLabels: {side: b}}}
schedulingProfiles:
- {name: here, plugins: [{pluginRef: a}]}
- {name: there, plugins: [{pluginRef: b}]}
`, nil)
	c := r.client()
	status, _ := refused(t, c, "chat")
	require.Equal(t, 503, status, "no server has the label")
	put(t, r.path, poolYAML("llama")+modelYAML("chat", "llama", "llama-8b")+`---
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: e}
spec:
  poolRef: {name: llama}
  endpoints:
  - {id: a, address: "`+addressA+`", labels: {app: llama, side: a}, metrics: {disabled: true}}
  - {id: b, address: "`+addressB+`", labels: {app: llama, side: b}, metrics: {disabled: true}}
`+pickerHead+`plugins:
- {type: request-profile-handler, parameters: {defaultProfile: here, rules: [{profile: there, header: {name: x-where, values: [there]}}]}}
- {type: label-selector-filter, name: a, parameters: {matchLabels: {side: a}}}
- {type: label-selector-filter, name: b, parameters: {matchLabels: {side: b}}}
schedulingProfiles:
- {name: here, plugins: [{pluginRef: a}]}
- {name: there, plugins: [{pluginRef: b}]}
`)
	must(t, r.Reload())
	require.Equal(t, addressA, exchanged(t, c, "chat"))
	require.Equal(t, addressB, exchanged(t, c, "chat", "x-where", "there"))
	require.Equal(t, addressA, exchanged(t, c, "chat", "x-where", "nowhere"))
}
