package rollouts

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// editorOf returns the manager, other than this package, that has written the targets of an object last. Empty: none,
// or the server does not say.
func editorOf(object *unstructured.Unstructured, kind string) string {
	field := "f:targetModels"
	if kind == kindRewrite {
		field = "f:rules"
	}
	editor, at := "", time.Time{}
	for _, m := range object.GetManagedFields() {
		if m.Subresource != "" || !owns(m.FieldsV1, field) {
			continue
		}
		if m.Manager == fieldManager {
			return "" // who writes another value takes the field from us
		}
		var written time.Time
		if m.Time != nil {
			written = m.Time.Time
		}
		if editor == "" || written.After(at) {
			editor, at = m.Manager, written
		}
	}
	return editor
}

// owns reports whether a manager has written a field of the spec.
func owns(fields *metav1.FieldsV1, field string) bool {
	if fields == nil {
		return false
	}
	var set struct {
		Spec map[string]json.RawMessage `json:"f:spec"`
	}
	if json.Unmarshal(fields.GetRawBytes(), &set) != nil {
		return false
	}
	_, ok := set.Spec[field]
	return ok
}

// advice says what to do about an editor, empty if there is nothing to say.
func advice(editor, kind string) string {
	if editor == "" {
		return ""
	}
	text := "the weights were written by " + editor
	gitops := func(name string) bool { return strings.Contains(strings.ToLower(editor), name) }
	if !slices.ContainsFunc([]string{"argocd", "kustomize-controller", "helm", "flux", "fleet", "kapp"}, gitops) {
		return text
	}
	path := "/spec/targetModels"
	if kind == kindRewrite {
		path = "/spec/rules"
	}
	return text + ", which keeps what is in a repository: let it ignore differences of " + path
}
