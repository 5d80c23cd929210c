package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// installations are the values that the chart is rendered with, by name.
func installations(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/values/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all[strings.TrimSuffix(filepath.Base(file), ".yaml")] = string(text)
	}
	return all
}

// TestChart: what the chart renders is what it was meant to.
func TestChart(t *testing.T) {
	for name, text := range installations(t) {
		t.Run(name, func(t *testing.T) { golden(t, name+".yaml", render(t, text)) })
	}
}

// TestCRDs: the chart brings definitions if it is told to, and those of the library.
func TestCRDs(t *testing.T) {
	require.Empty(t, load(t, values(t, needed)).CRDObjects())

	want, err := filepath.Glob(filepath.Join(root, "datastore", "kubernetes", "crds", "*.yaml"))
	require.NoError(t, err)
	var got []string
	for _, crd := range load(t, values(t, needed, `{crds: {create: true}}`)).CRDObjects() {
		got = append(got, filepath.Base(crd.Name))
		require.Equal(t, "CustomResourceDefinition", parse(t, crd.Name, crd.File.Data)[0].text("kind"))
	}
	for i := range want {
		want[i] = filepath.Base(want[i])
	}
	require.ElementsMatch(t, want, got)

	var names []string
	for _, crd := range build(t, deployed("kustomize", "crds")) {
		names = append(names, crd.text("metadata", "name"))
	}
	require.Len(t, names, len(want), "those of kustomize: %v", names)
}

// TestNotes: what Helm says at the end fits what was installed.
func TestNotes(t *testing.T) {
	for _, tt := range []struct{ values, want string }{
		{``, "InferencePool llama is installed"},
		{`{inferencePool: {name: other}}`, "kind: InferencePool, name: other}"},
		{`{inferenceExtension: {namespaces: [serving, b]}}`, "all InferencePools in serving, b"},
		{`{inferenceExtension: {namespaces: ["*"]}}`, "all InferencePools of the cluster"},
		{`{inferenceExtension: {endpointsServer: {createInferencePool: false, endpointSelector: a=b}}}`, "the pods a=b is installed"},
		{`{proxy: {enabled: true}}`, "port-forward service/llama-proxy 8081"},
	} {
		files, err := renderText(t, namespace, values(t, needed, tt.values))
		require.NoError(t, err)
		require.Contains(t, files["inferpick/templates/NOTES.txt"], tt.want)
	}
}
