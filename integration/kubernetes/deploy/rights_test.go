package deploy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// manifests has an object of each kind and group whose status the picker writes.
const manifests = `
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, poolRef: {name: llama, group: inference.networking.k8s.io}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: high}
spec: {priority: 5, poolRef: {name: llama}}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: low}
spec: {priority: -5, poolRef: {name: llama}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {name: old}
spec: {poolRef: {name: llama}, rules: [{matches: [{model: {value: old}}], targets: [{modelRewrite: chat}]}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: older}
spec: {poolRef: {name: llama}, rules: [{matches: [{model: {value: older}}], targets: [{modelRewrite: chat}]}]}
`

// right is one verb on one resource, by a Role.
type right struct{ role, group, resource, verb string }

func (r right) String() string { return fmt.Sprintf("%s %s.%s", r.verb, r.resource, r.group) }

// refusal is what the API server says to who does not have it, as it is in a log of JSON.
func (r right) refusal() string {
	return fmt.Sprintf(`cannot %s resource \"%s\" in API group \"%s\"`, r.verb, r.resource, r.group)
}

// rights are those of the rendered Roles, one by one.
func rights(objects []object) (all []right) {
	for _, o := range objects {
		if o.text("kind") != "Role" {
			continue
		}
		for _, r := range o["rules"].([]any) {
			rule := object(r.(map[string]any))
			for _, group := range rule["apiGroups"].([]any) {
				for _, resource := range rule["resources"].([]any) {
					for _, verb := range rule["verbs"].([]any) {
						all = append(all, right{o.text("metadata", "name"), group.(string), resource.(string), verb.(string)})
					}
				}
			}
		}
	}
	return all
}

// role is a Role with all rights of its name but one.
func role(name string, all []right, but right) string {
	rules := []any{}
	for _, r := range all {
		if r.role == name && r != but {
			rules = append(rules, map[string]any{"apiGroups": []string{r.group}, "resources": []string{r.resource}, "verbs": []string{r.verb}})
		}
	}
	text, _ := json.Marshal(map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": map[string]any{"name": name}, "rules": rules,
	})
	return string(text)
}

// TestRights: under the Role that is rendered the picker does all that it is for, and is
// refused nothing. Each single right is needed: without it the picker says what is missing,
// and goes on.
func TestRights(t *testing.T) {
	skipShort(t)
	s := server(t)
	ns := s.Namespace(t)
	objects := renderIn(t, ns, needed)
	account := s.ServiceAccount(t, ns, "llama-epp")
	install(t, s, objects, "Role", "RoleBinding", "InferencePool")
	s.Apply(t, ns, manifests)
	s.Pod(t, cluster.PodOptions{Namespace: ns, Labels: map[string]string{"app": "llama"}, Silent: true})

	t.Run("all", func(t *testing.T) {
		p := startPicker(t, s, account, objects)
		p.listens(t)
		for _, o := range mustDecode(t, manifests) {
			accepted(t, s, ns, o)
		}
		cluster.Eventually(t, patience, func() error { return held(t, s, ns, "llama-epp") })
		require.NotContains(t, p.log(), "is forbidden", "it is refused nothing")
	})
	all := rights(objects)
	require.Len(t, all, 24)
	for _, missing := range all {
		t.Run(missing.String(), func(t *testing.T) {
			s.Apply(t, ns, role(missing.role, all, missing))
			t.Cleanup(func() { s.Apply(t, ns, role(missing.role, all, right{})) })
			forget(t, s, ns)
			p := startPicker(t, s, account, objects)
			p.says(t, missing.refusal())
			select {
			case <-p.Ended():
				require.Fail(t, "it has ended")
			default:
			}
		})
	}
}

func mustDecode(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := cluster.Decode(text)
	require.NoError(t, err)
	return objects
}

// accepted waits until the picker has written into the status of an object that it is in force.
func accepted(t *testing.T, s *cluster.Server, ns string, o *unstructured.Unstructured) {
	t.Helper()
	of := object(o.Object)
	of["metadata"].(map[string]any)["namespace"] = ns
	cluster.Eventually(t, patience, func() error {
		now, err := resourceOf(s.Dynamic, of).Get(t.Context(), o.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(now.Object, "status", "conditions")
		if slices.ContainsFunc(conditions, func(c any) bool {
			condition := object(c.(map[string]any))
			return condition["type"] == "Accepted" && condition["status"] == "True"
		}) {
			return nil
		}
		return fmt.Errorf("%s %s is not accepted: %v", o.GetKind(), o.GetName(), conditions)
	})
}

var leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}

// held reports with an error that nobody holds the lease.
func held(t *testing.T, s *cluster.Server, ns, name string) error {
	lease, err := s.Dynamic.Resource(leases).Namespace(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err == nil && object(lease.Object).text("spec", "holderIdentity") == "" {
		err = fmt.Errorf("nobody holds the lease %s", name)
	}
	return err
}

// forget takes away what pickers before have left: the lease, and what they wrote into statuses.
func forget(t *testing.T, s *cluster.Server, ns string) {
	t.Helper()
	err := s.Dynamic.Resource(leases).Namespace(ns).Delete(t.Context(), "llama-epp", metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(t, err)
	}
	s.Delete(t, ns, manifests)
	s.Apply(t, ns, manifests)
}

// rolled are objects of each kind and group that rollouts write, with plans.
const rolled = `
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat, annotations: {inferpick.dev/rollout: '{"stable": "v1", "canary": "v2"}'}}
spec: {modelName: chat, poolRef: {name: llama, group: inference.networking.k8s.io}, targetModels: [{name: v1}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {name: old, annotations: {inferpick.dev/rollout: '{"stable": "v1", "canary": "v2"}'}}
spec: {poolRef: {name: llama}, rules: [{matches: [{model: {value: old}}], targets: [{modelRewrite: v1}]}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: older, annotations: {inferpick.dev/rollout: '{"stable": "v1", "canary": "v2"}'}}
spec: {poolRef: {name: llama}, rules: [{matches: [{model: {value: older}}], targets: [{modelRewrite: v1}]}]}
`

// TestRolloutRights: with rollouts the Role has seven more rights, each of which is needed: without it the picker says
// what is missing, and goes on.
func TestRolloutRights(t *testing.T) {
	skipShort(t)
	s := server(t)
	ns := s.Namespace(t)
	without := rights(renderIn(t, ns, needed))
	objects := renderIn(t, ns, needed, `{inferenceExtension: {rollouts: {enabled: true, loader: manual}}}`)
	account := s.ServiceAccount(t, ns, "llama-epp")
	install(t, s, objects, "Role", "RoleBinding", "InferencePool")
	s.Apply(t, ns, rolled)
	s.Pod(t, cluster.PodOptions{Namespace: ns, Labels: map[string]string{"app": "llama"}, Silent: true})
	all := rights(objects)
	begin := func(t *testing.T) *picker {
		err := s.Dynamic.Resource(leases).Namespace(ns).Delete(t.Context(), "llama-epp", metav1.DeleteOptions{})
		if !apierrors.IsNotFound(err) {
			require.NoError(t, err)
		}
		s.Delete(t, ns, rolled)
		s.Apply(t, ns, rolled)
		return startPicker(t, s, account, objects)
	}
	t.Run("all", func(t *testing.T) {
		p := begin(t)
		p.listens(t)
		for _, o := range mustDecode(t, rolled) {
			hasCondition(t, s, ns, o, "Rollout")
		}
		require.NotContains(t, p.log(), "is forbidden", "it is refused nothing")
	})
	more := slices.DeleteFunc(slices.Clone(all), func(r right) bool { return slices.Contains(without, r) })
	require.Len(t, more, 7)
	for _, missing := range more {
		t.Run(missing.String(), func(t *testing.T) {
			s.Apply(t, ns, role(missing.role, all, missing))
			t.Cleanup(func() { s.Apply(t, ns, role(missing.role, all, right{})) })
			p := begin(t)
			p.says(t, missing.refusal())
			select {
			case <-p.Ended():
				require.Fail(t, "it has ended")
			default:
			}
		})
	}
}

// hasCondition waits until an object has a condition of a type.
func hasCondition(t *testing.T, s *cluster.Server, ns string, o *unstructured.Unstructured, kind string) {
	t.Helper()
	of := object(o.Object)
	of["metadata"].(map[string]any)["namespace"] = ns
	cluster.Eventually(t, patience, func() error {
		now, err := resourceOf(s.Dynamic, of).Get(t.Context(), o.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(now.Object, "status", "conditions")
		if slices.ContainsFunc(conditions, func(c any) bool { return object(c.(map[string]any))["type"] == kind }) {
			return nil
		}
		return fmt.Errorf("%s %s has no %s: %v", o.GetKind(), o.GetName(), kind, conditions)
	})
}
