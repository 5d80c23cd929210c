// Package crds tests the CustomResourceDefinitions of datastore/kubernetes/crds by a real API
// server, and that package types judges objects as that does.
package crds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// Patterns in messages.
const (
	groupPattern      = `'^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'`
	kindPattern       = `'^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$'`
	namespacePattern  = `'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'`
	labelPattern      = `'^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$'`
	controllerPattern = `'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$'`
	typePattern       = `'^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$'`
	reasonPattern     = `'^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$'`
)

// kind is one of the kinds of the API, with a valid object.
type kind struct {
	schema.GroupVersionResource
	kind string
	spec string // YAML
}

func of(group, version, resource, name, spec string) kind {
	return kind{schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, name, spec}
}

const (
	groupGA   = "inference.networking.k8s.io"
	groupX    = "inference.networking.x-k8s.io"
	groupLLMD = "llm-d.ai"
)

var (
	pool = of(groupGA, "v1", "inferencepools", "InferencePool",
		"{selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}], endpointPickerRef: {name: picker, port: {number: 9002}}}")
	poolAlpha = of(groupX, "v1alpha2", "inferencepools", "InferencePool",
		"{selector: {app: llama}, targetPortNumber: 8000, extensionRef: {name: picker}}")
	model = of(groupX, "v1alpha2", "inferencemodels", "InferenceModel",
		"{modelName: chat, poolRef: {name: llama}}")
	objective     = of(groupX, "v1alpha2", "inferenceobjectives", "InferenceObjective", "{poolRef: {name: llama}}")
	objectiveLLMD = of(groupLLMD, "v1alpha2", "inferenceobjectives", "InferenceObjective", "{poolRef: {name: llama}}")
	rewrite       = of(groupX, "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite",
		"{poolRef: {name: llama}, rules: [{targets: [{modelRewrite: llama-3}]}]}")
	rewriteLLMD = of(groupLLMD, "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite",
		"{poolRef: {name: llama}, rules: [{targets: [{modelRewrite: llama-3}]}]}")
	poolImport = of(groupX, "v1alpha1", "inferencepoolimports", "InferencePoolImport", "")
)

var kinds = []kind{pool, poolAlpha, model, objective, objectiveLLMD, rewrite, rewriteLLMD, poolImport}

// object returns the valid object with changes to it: YAML whose maps are merged into those of
// the object. A null deletes.
func (k kind) object(t testing.TB, changes string) *unstructured.Unstructured {
	t.Helper()
	o := map[string]any{
		"apiVersion": k.GroupVersion().String(), "kind": k.kind,
		"metadata": map[string]any{"name": "x"},
	}
	if k.spec != "" {
		o["spec"] = parse(t, k.spec)
	}
	merge(o, parse(t, changes))
	return &unstructured.Unstructured{Object: o}
}

// client returns the client of the kind in a namespace, as administrator.
func (k kind) client(c *cluster.Server, namespace string) dynamic.ResourceInterface {
	return c.Dynamic.Resource(k.GroupVersionResource).Namespace(namespace)
}

func parse(t testing.TB, text string) (o map[string]any) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal([]byte(text), &o), text)
	return o
}

func merge(into, changes map[string]any) {
	for key, value := range changes {
		inner, isMap := value.(map[string]any)
		old, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(old, inner)
		default:
			into[key] = value
		}
	}
}

// again is where a message repeats the field that it is about.
var again = regexp.MustCompile(`[^ ]+ in body `)

// refusal is what the server says of an object, a line for each field; empty: nothing.
func refusal(err error) string {
	var status apierrors.APIStatus
	if err == nil || !errors.As(err, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 {
		_, unknown, ok := strings.Cut(fmt.Sprint(err), "strict decoding error: ")
		if !ok {
			unknown = strings.TrimPrefix(fmt.Sprint(err), "<nil>")
		}
		return unknown
	}
	var lines []string
	for _, cause := range status.Status().Details.Causes {
		if cause.Field != "<nil>" { // else it says that it may have more to say
			lines = append(lines, cause.Field+": "+again.ReplaceAllString(cause.Message, ""))
		}
	}
	return strings.Join(lines, "\n")
}

// strict makes the server refuse fields that it does not know, and keep nothing.
var strict = metav1.CreateOptions{FieldValidation: "Strict", DryRun: []string{metav1.DryRunAll}}

// install returns the shared server with our definitions.
func install(t *testing.T) *cluster.Server {
	t.Helper()
	c := cluster.Shared(t)
	c.InstallCRDs(t, crds.CRDs)
	return c
}

// Every file holds the definition that its name says, and all kinds have one.
func TestFiles(t *testing.T) {
	files, err := fs.Glob(crds.CRDs, "*")
	require.NoError(t, err)
	var want []string
	for _, k := range kinds {
		name := k.Group + "_" + k.Resource + ".yaml"
		want = append(want, name)
		text, err := fs.ReadFile(crds.CRDs, name)
		require.NoError(t, err)
		objects, err := cluster.Decode(string(text))
		require.NoError(t, err)
		require.Len(t, objects, 1, name)
		require.Equal(t, k.GroupResource().String(), objects[0].GetName())
		versions, _, err := unstructured.NestedSlice(objects[0].Object, "spec", "versions")
		require.NoError(t, err)
		require.Len(t, versions, 1, name)
		require.Equal(t, k.Version, versions[0].(map[string]any)["name"])
	}
	require.ElementsMatch(t, want, files)
}

// All can be installed side by side, and again over themselves.
func TestInstall(t *testing.T) {
	c := install(t)
	c.InstallCRDs(t, crds.CRDs)
	for _, k := range kinds {
		ns := c.Namespace(t)
		o := k.object(t, "")
		_, err := k.client(c, ns).Create(t.Context(), o, metav1.CreateOptions{FieldValidation: "Strict"})
		require.NoError(t, err, k)
	}
}
