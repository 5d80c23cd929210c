package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Decode returns the objects of YAML documents.
func Decode(text string) (objects []*unstructured.Unstructured, err error) {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		o := new(unstructured.Unstructured)
		if err == nil {
			err = yaml.Unmarshal(document, &o.Object)
		}
		if err != nil {
			return nil, fmt.Errorf("cluster: %w in\n%s", err, document)
		}
		if len(o.Object) > 0 { // else there are only comments
			objects = append(objects, o)
		}
	}
}

// Namespace makes a namespace that no other test has.
func (s *Server) Namespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", s.namespaces.Add(1))
	s.Apply(t, "", "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+"}}")
	return name
}

// Apply creates or changes the objects of YAML documents, as kubectl apply --server-side does.
// Those that name no namespace get this one.
func (s *Server) Apply(t testing.TB, namespace, text string) []*unstructured.Unstructured {
	t.Helper()
	applied, err := s.TryApply(always(t), namespace, text)
	require.NoError(t, err)
	return applied
}

// TryApply is Apply for objects that the server may refuse. It ends at the first error.
func (s *Server) TryApply(ctx context.Context, namespace, text string) (applied []*unstructured.Unstructured, err error) {
	objects, err := Decode(text)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		of, err := s.resources.of(o, namespace)
		if err == nil {
			o, err = of.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "inferpick-test", Force: true})
		}
		if err != nil {
			return applied, err
		}
		applied = append(applied, o)
	}
	return applied, nil
}

// Delete deletes the objects that have the kinds and names of the YAML documents. Those that
// are not there are none to delete.
func (s *Server) Delete(t testing.TB, namespace, text string) {
	t.Helper()
	objects, err := Decode(text)
	require.NoError(t, err)
	for _, o := range objects {
		of, err := s.resources.of(o, namespace)
		require.NoError(t, err)
		err = of.Delete(always(t), o.GetName(), metav1.DeleteOptions{})
		if !apierrors.IsNotFound(err) {
			require.NoError(t, err)
		}
	}
}

// InstallCRDs applies the definitions in the YAML files of a folder and returns when objects
// of them can be made.
func (s *Server) InstallCRDs(t testing.TB, folder fs.FS) {
	t.Helper()
	names, err := fs.Glob(folder, "*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		require.NoError(t, err)
		s.InstallCRD(t, string(text))
	}
}

// InstallCRD applies definitions and returns when objects of them can be made.
func (s *Server) InstallCRD(t testing.TB, text string) {
	t.Helper()
	for _, crd := range s.Apply(t, "", text) {
		for _, resource := range served(crd) {
			Eventually(t, time.Minute, func() error {
				_, err := s.Dynamic.Resource(resource).List(always(t), metav1.ListOptions{Limit: 1})
				return err
			})
		}
	}
}

// RemoveCRD deletes the definition of a resource, PLURAL.GROUP, with all objects, and returns
// when it is gone.
func (s *Server) RemoveCRD(t testing.TB, name string) {
	t.Helper()
	definitions := s.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	require.NoError(t, definitions.Delete(always(t), name, metav1.DeleteOptions{}))
	Eventually(t, time.Minute, func() error {
		_, err := definitions.Get(always(t), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("cluster: %s is still there (%v)", name, err)
	})
}

// served returns the resources that a definition makes the server serve.
func served(crd *unstructured.Unstructured) (resources []schema.GroupVersionResource) {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		if v, ok := v.(map[string]any); ok && v["served"] == true {
			resources = append(resources, schema.GroupVersionResource{Group: group, Version: v["name"].(string), Resource: plural})
		}
	}
	return resources
}

// always is the context of a test, and of what it does after its end.
func always(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

// Eventually returns once fn returns nil. It fails the test when that takes longer than limit.
func Eventually(t testing.TB, limit time.Duration, fn func() error) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		err := fn()
		if err == nil {
			return
		}
		require.True(t, time.Now().Before(deadline), "after %v: %v", limit, err)
	}
}
