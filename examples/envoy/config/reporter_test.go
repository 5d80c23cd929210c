package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/types"
)

func TestReports(t *testing.T) {
	c := parse(t, poolYAML+pickerHead+`plugins:
- {type: queue-scorer}
- type: request-attribute-reporter
  parameters:
    attributes:
    - key: {name: x-gateway-inference-request-cost}
      expression: |
        usage.prompt_tokens + usage.completion_tokens
      condition: has(usage.prompt_tokens) && has(usage.completion_tokens)
    - key: {namespace: mine, name: cached}
      expression: usage.prompt_tokens_details.cached_tokens * 100 / usage.prompt_tokens
`)
	require.Empty(t, c.Warnings)
	reports := policy(c, llama).Reports()
	require.Len(t, reports, 2)
	require.Equal(t, []string{"envoy.lb", "x-gateway-inference-request-cost", "mine", "cached"}, []string{reports[0].Namespace, reports[0].Name, reports[1].Namespace, reports[1].Name})
	for _, tt := range []struct {
		usage  types.Usage
		report int
		want   float64
		ok     bool
	}{
		{types.Usage{PromptTokens: types.Known(10), CompletionTokens: types.Known(5)}, 0, 15, true},
		{types.Usage{PromptTokens: types.Known(10)}, 0, 0, false},
		{types.Usage{PromptTokens: types.Known(10), CachedTokens: types.Known(4)}, 1, 40, true},
		{types.Usage{PromptTokens: types.Known(0), CachedTokens: types.Known(0)}, 1, 0, false},
		{types.Usage{}, 1, 0, false},
	} {
		got, ok := reports[tt.report].Value(tt.usage)
		require.Equal(t, tt.ok, ok, "%+v", tt)
		if ok {
			require.Equal(t, tt.want, got)
		}
	}
	for parameters, want := range map[string]string{
		"{attributes: [{key: {}, expression: '1'}]}":                              "attributes[0].key.name is required",
		"{attributes: [{key: {name: a}}]}":                                        "attributes[0].expression is required",
		"{attributes: [{key: {name: a}, expression: request.size}]}":              `attributes[0].expression at byte 1: "request.size" is no name that is known here; names are usage.completion_tokens, usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.total_tokens`,
		"{attributes: [{key: {name: a}, expression: '1', condition: 'usage.x'}]}": "attributes[0].condition",
	} {
		c, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+"plugins: [{type: request-attribute-reporter, parameters: "+parameters+"}]\n"))
		require.ErrorContains(t, wrong(c, err), want, parameters)
	}
}
