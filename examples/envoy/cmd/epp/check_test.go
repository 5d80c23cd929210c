package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const configMap = `# license
apiVersion: v1
kind: ConfigMap
metadata: {name: plugins}
data:
  other.txt: hello
  plugins.yaml: |
    # comment
    apiVersion: llm-d.ai/v1alpha1
    kind: EndpointPickerConfig
    plugins:
    - type: single-profile-handler
    - type: max-score-picker
    - {type: queue-scorer, wieght: 2}
  bad.yaml: |
    apiVersion: inference.networking.x-k8s.io/v1alpha1
    kind: EndpointPickerConfig
    plugins:
    - type: queue-scorre
`

func runCheck(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = command(context.Background(), append([]string{"-check"}, args...), &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

// TestCheckForCluster: a configuration for a cluster needs no pool.
func TestCheckForCluster(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\npoolRef: {name: llama}\nplugins: [{type: queue-scorer}]\n"})
	code, out := runCheck(t, dir, "-kubernetes", "-config", dir)
	require.Equal(t, exitOK, code, out)
	code, out = runCheck(t, dir, "-config", dir)
	require.Equal(t, exitError, code)
	require.Contains(t, out, "there is no InferencePool")
}

// TestCheck: in the files of a whole project ours are found, with what is wrong with them,
// and the others are counted.
func TestCheck(t *testing.T) {
	dir := folder(t, map[string]string{
		"a/pool.yaml":            configuration,
		"a/deep/er/model.json":   `{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "m"}, "spec": {"modelName": "m", "poolRef": {"name": "gone"}}}`,
		"b/configmap.yml":        configMap,
		"b/values.yaml":          "epp:\n  custom:\n    p.yaml: |\n      apiVersion: llm-d.ai/v1alpha1\n      kind: EndpointPickerConfig\n      plugins: [{type: queue-scorer}]\n",
		"c/templates/pool.yaml":  "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata:\n  name: {{ .Release.Name }}\n",
		"c/shell.yaml":           "apiVersion: llm-d.ai/v1alpha2\nkind: InferenceObjective\nmetadata: {name: '${NAME}'}\nspec: {poolRef: {name: x}}\n",
		"d/list.yaml":            "kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: Service}\n- apiVersion: llm-d.ai/v1\n  kind: InferenceObjective\n  metadata: {name: o}\n  spec: {poolSelector: {}, targetModels: []}\n- {apiVersion: llm-d.ai/v1, kind: InferenceObjective, metadata: {name: p}}\n",
		"d/broken.yaml":          "kind: InferencePool\na: [\n",
		"d/workflow.yaml":        "on: push\n",
		"d/scalar.yaml":          "just text\n",
		"d/garbage.yaml":         "a: b: c\n",
		".hidden/pool.yaml":      "kind: InferencePool\n",
		"notes.txt":              "kind: InferencePool\n",
		"docs/incomplete.yaml":   "kind: InferencePool\nmetadata: {name: x}\n",
		"docs/misspelt.yaml":     strings.Replace(configuration[:strings.Index(configuration, "---")], "InferencePool", "Inferencepol", 1),
		"docs/not-utf8.json":     "\xff",
		"docs/two-documents.yml": "---\n" + configuration[:strings.Index(configuration, "---")] + "---\napiVersion: apps/v1\nkind: Deployment\n",
	})
	code, out := runCheck(t, dir)
	require.Equal(t, exitError, code)
	for _, want := range []string{
		"loads    " + dir + "/a/pool.yaml:2: InferencePool default/llama\n",
		"loads    " + dir + "/a/pool.yaml:9: StaticEndpoints default/all\n",
		"loads    " + dir + "/a/deep/er/model.json:1: InferenceModel default/m\n",
		"loads    " + dir + `/b/configmap.yml:9: data["plugins.yaml"]: EndpointPickerConfig` + "\n",
		"warning  " + dir + `/b/configmap.yml:14: data["plugins.yaml"]: EndpointPickerConfig: plugins[2].wieght is not a field`,
		"fails    " + dir + `/b/configmap.yml:19: data["bad.yaml"]: EndpointPickerConfig: plugins[0].type is "queue-scorre", which is unknown; the nearest is queue-scorer`,
		"loads    " + dir + `/b/values.yaml:4: epp.custom["p.yaml"]: EndpointPickerConfig` + "\n",
		"loads    " + dir + "/d/list.yaml:5: InferenceObjective default/o\n",
		"warning  " + dir + "/d/list.yaml:8:28: items[1]: InferenceObjective default/o: spec.targetModels is not a field",
		"fails    " + dir + "/d/list.yaml:9:3: items[2]: InferenceObjective default/p: spec.poolRef.name is \"\", want 1 to 253 characters",
		"fails    " + dir + "/d/broken.yaml:3: YAML: did not find expected node content",
		"fails    " + dir + "/docs/incomplete.yaml:1: apiVersion is required",
		"fails    " + dir + `/docs/misspelt.yaml:3:1: kind is "Inferencepol", which is unknown; the nearest is InferencePool`,
		"loads    " + dir + "/docs/two-documents.yml:3: InferencePool default/llama\n",
		"1  skipped: a template of Helm\n", "1  skipped: a template for the shell\n", "2  skipped: unreadable\n",
		"3  skipped: no object of Kubernetes\n", "3  skipped: another kind\n",
		`1  EndpointPickerConfig: plugins[].type is "queue-scorre", which is unknown; the nearest is queue-scorer` + "\n",
	} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, ".hidden")
	require.Regexp(t, `\(unknown\) +1 +0 +1 +0 +0.0 %`, out)
	require.Regexp(t, `InferencePool +4 +2 +2 +0 +50.0 %`, out)
	require.Regexp(t, `EndpointPickerConfig +3 +2 +1 +0 +66.7 %`, out)
}

// TestCheckConfiguration: what is given by -config is looked at as a whole, too.
func TestCheckConfiguration(t *testing.T) {
	dir := folder(t, map[string]string{"c.yaml": configuration})
	for _, path := range []string{dir, dir + "/", filepath.Join(dir, "c.yaml")} {
		code, out := runCheck(t, path, "-config", path)
		require.Equal(t, exitOK, code, out)
	}
	write(t, filepath.Join(dir, "d.yaml"), strings.ReplaceAll(configuration[strings.Index(configuration, "---"):], "llama", "gone"))
	code, out := runCheck(t, dir)
	require.Equal(t, exitOK, code, out)
	code, out = runCheck(t, dir, "-config", dir)
	require.Equal(t, exitError, code)
	require.Contains(t, out, "d.yaml:2: StaticEndpoints default/all: is there twice, first at "+dir+"/c.yaml:9")

	write(t, filepath.Join(dir, "d.yaml"), "apiVersion: llm-d.ai/v1\nkind: EndpointPickerConfig\npoolRef: {name: gone}\n")
	code, out = runCheck(t, dir, "-config", dir)
	require.Equal(t, exitError, code)
	require.Contains(t, out, "d.yaml:3:1: EndpointPickerConfig: poolRef: there is no InferencePool default/gone")
}

func TestCheckStrict(t *testing.T) {
	path := filepath.Join(folder(t, map[string]string{"c.yaml": strings.Replace(configuration, "spec:", "specs: {}\nspec:", 1)}), "c.yaml")
	code, out := runCheck(t, path)
	require.Equal(t, exitOK, code)
	require.Contains(t, out, "warning  "+path+":5:1: InferencePool default/llama: specs is not a field; the nearest is spec")
	code, out = runCheck(t, path, "-strict")
	require.Equal(t, exitError, code)
	require.Contains(t, out, "fails    "+path+":5:1: InferencePool default/llama: specs is not a field")
}

func TestCheckNothing(t *testing.T) {
	dir := folder(t, map[string]string{"x.yaml": "a: 1\n"})
	code, out := runCheck(t, dir)
	require.Equal(t, exitError, code)
	require.Contains(t, out, "holds nothing for the picker")
	code, out = runCheck(t, filepath.Join(dir, "gone"))
	require.Equal(t, exitError, code)
	require.Contains(t, out, "no such file")
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "link.yaml")))
	code, out = runCheck(t, dir)
	require.Equal(t, exitError, code)
	require.Contains(t, out, "fails    "+dir+"/link.yaml: ")
}
