package deploy_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// TestMain keeps Helm from saying of each symbolic link in the chart that it is one.
func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	code := cluster.Run(m)
	_ = os.RemoveAll(built.dir)
	os.Exit(code)
}

// skipShort skips what takes long, and runs in programs of their own, which the race detector does not see.
func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("not in short")
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// root is the top of the repository.
const root = "../../.."

func deployed(path ...string) string {
	return filepath.Join(append([]string{root, "examples", "envoy", "deploy"}, path...)...)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// object is an object of Kubernetes.
type object map[string]any

func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (o object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

// id says which object it is.
func (o object) id() string { return o.text("kind") + " " + o.text("metadata", "name") }

// find returns the object of a kind.
func find(t *testing.T, objects []object, kind string) object {
	t.Helper()
	i := slices.IndexFunc(objects, func(o object) bool { return o.text("kind") == kind })
	require.GreaterOrEqual(t, i, 0, "there is no %s", kind)
	return objects[i]
}

// release is the one of all tests: what the chart is installed as, and where.
const release, namespace = "llama", "serving"

// needed are the values without which nothing is rendered.
const needed = `
inferenceExtension: {image: {registry: registry.example.com/ai, repository: inferpick-epp}}
inferencePool: {modelServers: {matchLabels: {app: llama}}}
`

// values merges values files, of which later ones win.
func values(t *testing.T, texts ...string) map[string]any {
	t.Helper()
	merged := map[string]any{}
	for _, text := range texts {
		var v map[string]any
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &v))
		merged = chartutil.CoalesceTables(v, merged)
	}
	return merged
}

// load loads the chart for values, as Helm does: without the charts in it that they turn off.
func load(t *testing.T, v map[string]any) *chart.Chart {
	t.Helper()
	c, err := loader.Load(deployed("chart"))
	require.NoError(t, err)
	require.NoError(t, chartutil.ProcessDependenciesWithMerge(c, v))
	return c
}

// renderText renders the chart as Helm does for an installation: values are merged and
// checked by the schema first. It returns the files by name.
func renderText(t *testing.T, namespace string, v map[string]any) (map[string]string, error) {
	t.Helper()
	c := load(t, v)
	capabilities := *chartutil.DefaultCapabilities
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: release, Namespace: namespace, IsInstall: true}, &capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// render returns the objects, in the order of the chart's files.
func render(t *testing.T, texts ...string) []object {
	t.Helper()
	return renderIn(t, namespace, texts...)
}

// renderIn is render for another namespace.
func renderIn(t *testing.T, namespace string, texts ...string) []object {
	t.Helper()
	files, err := renderText(t, namespace, values(t, texts...))
	require.NoError(t, err)
	var objects []object
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			objects = append(objects, parse(t, name, []byte(files[name]))...)
		}
	}
	return objects
}

// parse reads the objects of a stream of YAML, in which no name may be twice.
func parse(t *testing.T, name string, text []byte) (objects []object) {
	t.Helper()
	documents := k8syaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer documents.Close()
	buffer := make([]byte, len(text)+1)
	for {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		var o object
		require.NoError(t, yaml.UnmarshalStrict(buffer[:n], &o), "%s:\n%s", name, text)
		if o != nil {
			objects = append(objects, o)
		}
	}
}

// build renders a folder of kustomize, as kubectl apply -k does.
func build(t *testing.T, folder string) []object {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err)
	text, err := resources.AsYaml()
	require.NoError(t, err)
	return parse(t, folder, text)
}

// golden compares objects with a file of testdata/golden.
func golden(t *testing.T, name string, objects []object) {
	t.Helper()
	var got strings.Builder
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		require.NoError(t, err)
		got.WriteString("---\n" + string(text))
	}
	file := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s (-want +got); go test -update writes it anew:\n%s", file, diff)
	}
}
