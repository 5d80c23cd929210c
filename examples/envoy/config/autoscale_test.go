package config_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/scheduling/autoscale"
)

// TestAutoscale: how a pool is scaled is a section of its EndpointPickerConfig.
func TestAutoscale(t *testing.T) {
	c := parse(t, poolYAML+pickerHead+
		"autoscale: {min: 2, max: 8, toZero: true, idleAfter: 15m, ttft: 500ms, startUp: 90s, utilization: 0.6}\n")
	require.Equal(t, autoscale.Policy{
		Min: 2, Max: 8, ToZero: true, IdleAfter: 15 * time.Minute, TTFT: 500 * time.Millisecond, StartUp: 90 * time.Second,
		Tuning: autoscale.Tuning{Utilization: .6},
	}, policy(c, llama).Autoscale())
	require.Equal(t, autoscale.Policy{}, policy(parse(t, poolYAML), llama).Autoscale())
	require.Equal(t, policy(parse(t, poolYAML+pickerHead), llama).Key(), policy(c, llama).Key(), "the scheduler stays")

	for text, want := range map[string]string{
		"{min: 5, max: 2}":   "autoscale",
		"{min: -1}":          "autoscale.min is -1",
		"{idleAfter: often}": `autoscale.idleAfter is "often"`,
		"[]":                 "autoscale",
	} {
		_, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+"autoscale: "+text+"\n"))
		require.ErrorContains(t, err, want, text)
	}
	text := []byte(poolYAML + pickerHead + "autoscale: {maximum: 3}\n")
	c, err := config.Loader{}.Parse("c.yaml", text)
	require.NoError(t, err)
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "autoscale.maximum")
	_, err = config.Loader{Strict: true}.Parse("c.yaml", text)
	require.ErrorContains(t, err, "maximum")
}
