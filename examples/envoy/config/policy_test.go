package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/types"
)

// named is an EndpointPickerConfig with one scorer.
func named(metadata, scorer string) string {
	return pickerHead + "metadata: " + metadata + "\nplugins: [{type: " + scorer + "}]\n"
}

// scorerOf is the first scorer of a policy, empty for that of the default profile.
func scorerOf(t *testing.T, p *config.Policy) string {
	t.Helper()
	profile, err := p.Profile()
	require.NoError(t, err)
	if len(profile.Scorers) == 0 {
		return ""
	}
	return profile.Scorers[0].Name
}

// TestPolicyByAnnotation: a pool chooses by name, in its namespace first; else that which is
// bound to it holds, or the general one.
func TestPolicyByAnnotation(t *testing.T) {
	const queue, kv, running, lora = "queue-scorer", "kv-cache-utilization-scorer", "running-requests-size-scorer", "lora-affinity-scorer"
	c := parse(t, poolYAML+labYAML+named("{name: default}", queue)+named("{name: fast}", kv)+named("{name: fast, namespace: lab}", running)+
		pickerHead+"metadata: {name: bound}\npoolRef: {name: llama}\nplugins: [{type: "+lora+"}]\n")
	require.Empty(t, rejected(c))
	require.Empty(t, c.Warnings)
	for _, tt := range []struct {
		pool       types.NamespacedName
		annotation string
		want, err  string
	}{
		{mistral, "", queue, ""},
		{llama, "", lora, ""},
		{llama, "fast", kv, ""},
		{mistral, "fast", running, ""},
		{mistral, "default/fast", kv, ""},
		{mistral, "bound", lora, ""},
		{mistral, "default", queue, ""},
		{llama, "fasd", lora, `config: InferencePool default/llama: annotation inferpick.io/scheduling-profile: there is no EndpointPickerConfig "fasd"; the nearest is fast`},
		{mistral, "other/fast", queue, `there is no EndpointPickerConfig "other/fast"`},
	} {
		p, err := c.Policy(tt.pool, map[string]string{config.ProfileAnnotation: tt.annotation}, nil)
		require.Equal(t, tt.want, scorerOf(t, p), "%v", tt)
		if tt.err == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, tt.err)
		}
	}

	// What is in a file is told where it is.
	annotated := strings.Replace(poolYAML, "{name: llama}", "{name: llama, annotations: {inferpick.io/scheduling-profile: gone}}", 1)
	c = parse(t, annotated)
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "c.yaml:1: InferencePool default/llama: annotation inferpick.io/scheduling-profile: there is no EndpointPickerConfig")
	require.Empty(t, scorerOf(t, policy(c, llama)))
}

// TestGeneralPolicy: of several that are not bound it must be clear which one holds for all.
func TestGeneralPolicy(t *testing.T) {
	const queue, kv = "queue-scorer", "kv-cache-utilization-scorer"
	for text, want := range map[string]string{
		named("{name: a}", queue):                                queue,
		named("{name: a}", kv) + named("{}", queue):              queue,
		named("{name: a}", kv) + named("{name: default}", queue): queue,
		named("{name: default}", queue) + named("{name: a}", kv): queue,
		named("{name: a}", queue) + named("{name: b}", kv):       "",
		named("{name: default}", queue) + named("{}", kv):        "",
	} {
		c, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+text))
		if want == "" {
			require.ErrorContains(t, err, "holds for every pool that has none of its own, as does that at c.yaml:6", text)
			require.ErrorContains(t, err, "let pools choose the others by their annotation inferpick.io/scheduling-profile")
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, scorerOf(t, policy(c, llama)), text)
	}
}

// TestPoolsElsewhere: a configuration may be empty, has policies for whatever pools, and no
// pools of its own.
func TestPoolsElsewhere(t *testing.T) {
	l := config.Loader{PoolsElsewhere: true}
	c, err := l.Parse("c.yaml", nil)
	require.NoError(t, err)
	require.Empty(t, c.Pools())
	require.Equal(t, policy(c, llama), policy(c, mistral))
	require.Empty(t, scorerOf(t, policy(c, llama)))

	c, err = l.Parse("c.yaml", []byte(poolYAML+modelYAML+rackYAML+pickerHead+"poolRef: {name: mistral, namespace: lab}\nplugins: [{type: queue-scorer}]\n"))
	require.NoError(t, err)
	requireRejected(t, c, "InferencePool default/llama: config: c.yaml:1: InferencePool: it has no effect here: all but EndpointPickerConfig comes from the cluster",
		"InferenceModel", "StaticEndpoints")
	require.Empty(t, c.Change.Objects)
	require.Empty(t, c.Warnings)
	require.Equal(t, "queue-scorer", scorerOf(t, policy(c, mistral)))
	require.Empty(t, scorerOf(t, policy(c, llama)))

	_, err = l.Parse("c.yaml", []byte(pickerHead+"plugins: [{type: nonsense}]\n"))
	require.ErrorContains(t, err, "nonsense")
}
