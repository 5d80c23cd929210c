package deploy_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// foreign are definitions of other projects that charts have objects of, by API group, and the
// modules that they come in, which are only fetched: nothing of them is linked. Of the
// groups of GKE no module can be had.
var foreign = map[string]struct{ module, file, name string }{
	"gateway.networking.k8s.io": {"sigs.k8s.io/gateway-api@v1.6.1", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml", "httproutes"},
	"keda.sh":                   {"github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml", "scaledobjects"},
	"monitoring.coreos.com":     {"github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml", "servicemonitors"},
	"networking.istio.io":       {"istio.io/api@v1.32.0", "kubernetes/customresourcedefinitions.gen.yaml", "destinationrules"},
}

// unjudged are groups that there is no definition of.
var unjudged = map[string]bool{"networking.gke.io": true, "monitoring.googleapis.com": true}

var installed sync.Once

// server is the API server of these tests, with our definitions and those of others.
func server(t *testing.T) *cluster.Server {
	t.Helper()
	s := cluster.Shared(t)
	installed.Do(func() {
		s.InstallCRDs(t, crds.CRDs)
		for group, of := range foreign {
			out, err := exec.Command("go", "mod", "download", "-json", of.module).Output()
			if err != nil {
				t.Logf("%s cannot be fetched: %v", of.module, err)
				unjudged[group] = true
				continue
			}
			var where struct{ Dir string }
			require.NoError(t, json.Unmarshal(out, &where))
			for _, crd := range strings.Split(read(t, filepath.Join(where.Dir, of.file)), "\n---\n") {
				if strings.Contains(crd, "\n  name: "+of.name+"."+group+"\n") {
					s.InstallCRD(t, crd)
				}
			}
		}
		for _, name := range []string{namespace, "teams", "gmp-system", "gke-gmp-system"} {
			s.Apply(t, "", "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+"}}")
		}
	})
	return s
}

// resourceOf returns where objects like this one are.
func resourceOf(client dynamic.Interface, o object) dynamic.ResourceInterface {
	gvr, _ := meta.UnsafeGuessKindToResource(schema.FromAPIVersionAndKind(o.text("apiVersion"), o.text("kind")))
	if ns := o.text("metadata", "namespace"); ns != "" {
		return client.Resource(gvr).Namespace(ns)
	}
	return client.Resource(gvr)
}

// create asks the server for an object, as strictly as it can: a field that is not known, or is
// there twice, is an error.
func create(t *testing.T, client dynamic.Interface, o object, dryRun ...string) error {
	t.Helper()
	_, err := resourceOf(client, o).Create(t.Context(), &unstructured.Unstructured{Object: o},
		metav1.CreateOptions{DryRun: dryRun, FieldValidation: metav1.FieldValidationStrict})
	return err
}

// TestDryRun: a real API server would take everything that is rendered.
func TestDryRun(t *testing.T) {
	skipShort(t)
	s := server(t)
	check := func(t *testing.T, objects []object) {
		t.Helper()
		for _, o := range objects {
			err := create(t, s.Dynamic, o, metav1.DryRunAll)
			if unjudged[schema.FromAPIVersionAndKind(o.text("apiVersion"), "").Group] {
				require.True(t, apierrors.IsNotFound(err), o.id())
				t.Logf("%s is not judged: there is no definition of %s", o.id(), o.text("apiVersion"))
				continue
			}
			require.NoError(t, err, o.id())
		}
		t.Logf("%d objects", len(objects))
	}
	for name, text := range installations(t) {
		t.Run("chart/"+name, func(t *testing.T) { check(t, render(t, text)) })
	}
	files, err := filepath.Glob(deployed("autoscaling", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run("autoscaling/"+filepath.Base(file), func(t *testing.T) { check(t, parse(t, file, []byte(read(t, file)))) })
	}
	for name := range theSame {
		t.Run("kustomize/"+name, func(t *testing.T) { check(t, build(t, filepath.Join("testdata", "kustomize", name))) })
	}
}

// TestDryRunIsStrict: what is wrong would be seen.
func TestDryRunIsStrict(t *testing.T) {
	s := server(t)
	for _, tt := range []struct {
		kind, want string
		spoil      func(o object)
	}{
		{"Deployment", `unknown field "spec.replica"`, func(o object) { o.at("spec").(map[string]any)["replica"] = int64(1) }},
		{"Service", `unknown field "spec.ports[0].appprotocol"`, func(o object) {
			o.at("spec", "ports").([]any)[0].(map[string]any)["appprotocol"] = "http"
		}},
		{"InferencePool", "targetPorts", func(o object) { delete(o.at("spec").(map[string]any), "targetPorts") }},
		{"Role", "verbs", func(o object) { delete(o["rules"].([]any)[0].(map[string]any), "verbs") }},
	} {
		o := find(t, render(t, needed), tt.kind)
		tt.spoil(o)
		require.ErrorContains(t, create(t, s.Dynamic, o, metav1.DryRunAll), tt.want, tt.kind)
	}
}
