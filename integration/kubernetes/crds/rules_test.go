package crds

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/inferpick/inferpick/types"
)

// rule is a change of a valid object, and what is said of the result.
type rule struct {
	kind    kind
	name    string
	changes string
	refused string // what the API server says; empty: it accepts
	differs string // why package types judges otherwise; empty: it does not
}

// TestRules: what the API server accepts and refuses, in its words, and that package types
// does the same and fills in the same defaults.
func TestRules(t *testing.T) {
	c := install(t)
	ns := c.Namespace(t)
	for _, r := range rules() {
		t.Run(r.kind.Group+"/"+r.kind.kind+"/"+strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
			o := r.kind.object(t, r.changes)
			created, err := r.kind.client(c, ns).Create(t.Context(), o, strict)
			require.Equal(t, r.refused, refusal(err))

			o.SetNamespace(ns)
			ours, typesErr := decode(t, o)
			require.Equal(t, (err == nil) == (r.differs == ""), typesErr == nil, "types says: %v", typesErr)
			if err == nil && typesErr == nil {
				theirs, err := decode(t, created)
				require.NoError(t, err)
				require.Empty(t, cmp.Diff(spec(t, ours), spec(t, theirs)), "defaults of types (-) and of the server (+)")
			}
		})
	}
}

func decode(t *testing.T, o *unstructured.Unstructured) (types.Object, error) {
	t.Helper()
	data, err := json.Marshal(o)
	require.NoError(t, err)
	return types.DecodeManifest(data)
}

// spec returns the object's specification as it is written.
func spec(t *testing.T, o types.Object) any {
	t.Helper()
	data, err := json.Marshal(o)
	require.NoError(t, err)
	var written struct{ Spec any }
	require.NoError(t, json.Unmarshal(data, &written))
	return written.Spec
}

// list returns "[ITEM, …]" with n items, in each of which %d is its number.
func list(n int, item string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(item, i+1)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// labels returns "{aN: v, …}" with n labels.
func labels(n int) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf("a%d: v", i+1)
	}
	return "{" + strings.Join(items, ", ") + "}"
}

func rules() []rule {
	const (
		explicit = "an empty string counts as absent"
		useless  = "no pod can have such a label"
		nameless = "an empty name is none"
		noPool   = "nothing but a pool can be meant"
	)
	all := []rule{
		{pool, "valid", "", "", ""},
		{pool, "no spec", "spec: null", "spec: Required value", ""},
		{pool, "unknown field", "spec: {port: 8000}", `unknown field "spec.port"`, ""},
		{pool, "no selector", "spec: {selector: null}", "spec.selector: Required value", ""},
		{pool, "empty selector", "spec: {selector: {matchLabels: null}}", "spec.selector.matchLabels: Required value", ""},
		{pool, "no labels", "spec: {selector: {matchLabels: {app: null}}}", "spec.selector.matchLabels: Invalid value: 0: should have at least 1 properties", ""},
		{pool, "64 labels", "spec: {selector: {matchLabels: " + labels(63) + "}}", "", ""},
		{pool, "65 labels", "spec: {selector: {matchLabels: " + labels(64) + "}}", "spec.selector.matchLabels: Too many: 65: must have at most 64 items", ""},
		{pool, "empty label", `spec: {selector: {matchLabels: {app: ""}}}`, "", ""},
		{pool, "label of 63", "spec: {selector: {matchLabels: {app: " + strings.Repeat("a", 63) + "}}}", "", ""},
		{pool, "label of 64", "spec: {selector: {matchLabels: {app: " + strings.Repeat("a", 64) + "}}}", "spec.selector.matchLabels.app: Too long: may not be more than 63 bytes", ""},
		{pool, "label with a dash first", "spec: {selector: {matchLabels: {app: -a}}}", `spec.selector.matchLabels.app: Invalid value: "-a": should match ` + labelPattern, ""},
		{pool, "label key with a space", "spec: {selector: {matchLabels: {a b: c}}}", "", useless},
		{pool, "no ports", "spec: {targetPorts: null}", "spec.targetPorts: Required value", ""},
		{pool, "empty ports", "spec: {targetPorts: []}", "spec.targetPorts: Invalid value: 0: should have at least 1 items", ""},
		{pool, "8 ports", "spec: {targetPorts: " + list(8, "{number: %d}") + "}", "", ""},
		{pool, "9 ports", "spec: {targetPorts: " + list(9, "{number: %d}") + "}", "spec.targetPorts: Too many: 9: must have at most 8 items", ""},
		{pool, "port twice", "spec: {targetPorts: [{number: 1}, {number: 2}, {number: 1}]}", "spec.targetPorts: Invalid value: port number must be unique", ""},
		{pool, "port without number", "spec: {targetPorts: [{}]}", "spec.targetPorts[0].number: Required value", ""},
		{pool, "port 0", "spec: {targetPorts: [{number: 0}]}", "spec.targetPorts[0].number: Invalid value: 0: should be greater than or equal to 1", ""},
		{pool, "port 65535", "spec: {targetPorts: [{number: 65535}]}", "", ""},
		{pool, "port 65536", "spec: {targetPorts: [{number: 65536}]}", "spec.targetPorts[0].number: Invalid value: 65536: should be less than or equal to 65535", ""},
		{pool, "port as text", `spec: {targetPorts: [{number: "80"}]}`, `spec.targetPorts[0].number: Invalid value: "string": must be of type integer: "string"`, ""},
		{pool, "h2c", "spec: {appProtocol: kubernetes.io/h2c}", "", ""},
		{pool, "empty protocol", `spec: {appProtocol: ""}`, `spec.appProtocol: Unsupported value: "": supported values: "http", "kubernetes.io/h2c"`, explicit},
		{pool, "unknown protocol", "spec: {appProtocol: grpc}", `spec.appProtocol: Unsupported value: "grpc": supported values: "http", "kubernetes.io/h2c"`, ""},

		{pool, "no picker", "spec: {endpointPickerRef: null}", "", ""},
		{pool, "picker without a name", "spec: {endpointPickerRef: {name: null}}", "spec.endpointPickerRef.name: Required value", ""},
		{pool, "picker with an empty name", `spec: {endpointPickerRef: {name: ""}}`, `spec.endpointPickerRef.name: Invalid value: "": should be at least 1 chars long`, ""},
		{pool, "picker name of 253", "spec: {endpointPickerRef: {name: " + strings.Repeat("a", 253) + "}}", "", ""},
		{pool, "picker name of 254", "spec: {endpointPickerRef: {name: " + strings.Repeat("a", 254) + "}}", "spec.endpointPickerRef.name: Too long: may not be more than 253 bytes", ""},
		{pool, "picker service without port", "spec: {endpointPickerRef: {port: null}}", "spec.endpointPickerRef: Invalid value: port is required when kind is 'Service' or unspecified (defaults to 'Service')", ""},
		{pool, "picker of a kind without port", "spec: {endpointPickerRef: {kind: Picker, group: example.com, port: null}}", "", ""},
		{pool, "picker port without number", "spec: {endpointPickerRef: {port: {number: null}}}", "spec.endpointPickerRef.port.number: Required value", ""},
		{pool, "picker port 0", "spec: {endpointPickerRef: {port: {number: 0}}}", "spec.endpointPickerRef.port.number: Invalid value: 0: should be greater than or equal to 1", ""},
		{pool, "picker port 65536", "spec: {endpointPickerRef: {port: {number: 65536}}}", "spec.endpointPickerRef.port.number: Invalid value: 65536: should be less than or equal to 65535", ""},
		{pool, "picker group", "spec: {endpointPickerRef: {group: -}}", `spec.endpointPickerRef.group: Invalid value: "-": should match ` + groupPattern, ""},
		{pool, "picker group of 254", "spec: {endpointPickerRef: {group: " + strings.Repeat("a", 254) + "}}", "spec.endpointPickerRef.group: Too long: may not be more than 253 bytes", ""},
		{pool, "picker of the core group", `spec: {endpointPickerRef: {group: ""}}`, "", ""},
		{pool, "picker of an empty kind", `spec: {endpointPickerRef: {kind: ""}}`, `spec.endpointPickerRef.kind: Invalid value: "": should be at least 1 chars long`, explicit},
		{pool, "picker kind with a digit first", "spec: {endpointPickerRef: {kind: 1a}}", `spec.endpointPickerRef.kind: Invalid value: "1a": should match ` + kindPattern, ""},
		{pool, "picker kind of 64", "spec: {endpointPickerRef: {kind: " + strings.Repeat("a", 64) + "}}", "spec.endpointPickerRef.kind: Too long: may not be more than 63 bytes", ""},
		{pool, "fail open", "spec: {endpointPickerRef: {failureMode: FailOpen}}", "", ""},
		{pool, "unknown failure mode", "spec: {endpointPickerRef: {failureMode: Fail}}", `spec.endpointPickerRef.failureMode: Unsupported value: "Fail": supported values: "FailOpen", "FailClose"`, ""},

		{poolAlpha, "valid", "", "", ""},
		{poolAlpha, "no spec", "spec: null", "spec: Required value", ""},
		{poolAlpha, "no selector", "spec: {selector: null}", "spec.selector: Required value", ""},
		{poolAlpha, "no labels", "spec: {selector: {app: null}}", "", "a pool without labels would have every pod"},
		{poolAlpha, "65 labels", "spec: {selector: " + labels(64) + "}", "", "v1, to which it is converted, has at most 64"},
		{poolAlpha, "label of 64", "spec: {selector: {app: " + strings.Repeat("a", 64) + "}}", "spec.selector.app: Too long: may not be more than 63 bytes", ""},
		{poolAlpha, "label key with a space", "spec: {selector: {a b: c}}", "", useless},
		{poolAlpha, "no port", "spec: {targetPortNumber: null}", "spec.targetPortNumber: Required value", ""},
		{poolAlpha, "port 0", "spec: {targetPortNumber: 0}", "spec.targetPortNumber: Invalid value: 0: should be greater than or equal to 1", ""},
		{poolAlpha, "port 65536", "spec: {targetPortNumber: 65536}", "spec.targetPortNumber: Invalid value: 65536: should be less than or equal to 65535", ""},
		{poolAlpha, "no picker", "spec: {extensionRef: null}", "spec.extensionRef: Required value", "v1, to which it is converted, needs none"},
		{poolAlpha, "picker with an empty name", `spec: {extensionRef: {name: ""}}`, `spec.extensionRef.name: Invalid value: "": should be at least 1 chars long`, ""},
		{poolAlpha, "picker name of 254", "spec: {extensionRef: {name: " + strings.Repeat("a", 254) + "}}", "spec.extensionRef.name: Too long: may not be more than 253 bytes", ""},
		{poolAlpha, "picker port", "spec: {extensionRef: {portNumber: 1}}", "", ""},
		{poolAlpha, "picker port 0", "spec: {extensionRef: {portNumber: 0}}", "spec.extensionRef.portNumber: Invalid value: 0: should be greater than or equal to 1", ""},
		{poolAlpha, "picker port 65536", "spec: {extensionRef: {portNumber: 65536}}", "spec.extensionRef.portNumber: Invalid value: 65536: should be less than or equal to 65535", ""},
		{poolAlpha, "picker group", "spec: {extensionRef: {group: -}}", `spec.extensionRef.group: Invalid value: "-": should match ` + groupPattern, ""},
		{poolAlpha, "picker kind with a digit first", "spec: {extensionRef: {kind: 1a}}", `spec.extensionRef.kind: Invalid value: "1a": should match ` + kindPattern, ""},
		{poolAlpha, "fail open", "spec: {extensionRef: {failureMode: FailOpen}}", "", ""},
		{poolAlpha, "unknown failure mode", "spec: {extensionRef: {failureMode: Fail}}", `spec.extensionRef.failureMode: Unsupported value: "Fail": supported values: "FailOpen", "FailClose"`, ""},

		{model, "valid", "", "", ""},
		{model, "no spec", "spec: null", "spec: Required value", ""},
		{model, "no name", "spec: {modelName: null}", "spec.modelName: Required value", ""},
		{model, "empty name", `spec: {modelName: ""}`, "", nameless},
		{model, "name of 256", "spec: {modelName: " + strings.Repeat("ä", 256) + "}", "", ""},
		{model, "name of 257", "spec: {modelName: " + strings.Repeat("a", 257) + "}", "spec.modelName: Too long: may not be more than 256 bytes", ""},
		{model, "critical", "spec: {criticality: Critical}", "", ""},
		{model, "standard", "spec: {criticality: Standard}", "", ""},
		{model, "sheddable", "spec: {criticality: Sheddable}", "", ""},
		{model, "unknown criticality", "spec: {criticality: High}", `spec.criticality: Unsupported value: "High": supported values: "Critical", "Standard", "Sheddable"`, ""},
		{model, "empty criticality", `spec: {criticality: ""}`, `spec.criticality: Unsupported value: "": supported values: "Critical", "Standard", "Sheddable"`, explicit},
		{model, "no targets", "spec: {targetModels: []}", "", ""},
		{model, "10 targets", "spec: {targetModels: " + list(10, "{name: t%d}") + "}", "", ""},
		{model, "11 targets", "spec: {targetModels: " + list(11, "{name: t%d}") + "}", "spec.targetModels: Too many: 11: must have at most 10 items", ""},
		{model, "target without a name", "spec: {targetModels: [{weight: 1}]}", "spec.targetModels[0].name: Required value", ""},
		{model, "target with an empty name", `spec: {targetModels: [{name: ""}]}`, "", nameless},
		{model, "target name of 253", "spec: {targetModels: [{name: " + strings.Repeat("a", 253) + "}]}", "", ""},
		{model, "target name of 254", "spec: {targetModels: [{name: " + strings.Repeat("a", 254) + "}]}", "spec.targetModels[0].name: Too long: may not be more than 253 bytes", ""},
		{model, "weight 1", "spec: {targetModels: [{name: a, weight: 1}]}", "", ""},
		{model, "weight 1000000", "spec: {targetModels: [{name: a, weight: 1000000}]}", "", ""},
		{model, "weight 0", "spec: {targetModels: [{name: a, weight: 0}]}", "spec.targetModels[0].weight: Invalid value: 0: should be greater than or equal to 1", ""},
		{model, "weight 1000001", "spec: {targetModels: [{name: a, weight: 1000001}]}", "spec.targetModels[0].weight: Invalid value: 1000001: should be less than or equal to 1000000", ""},
		{model, "one weight of two", "spec: {targetModels: [{name: a, weight: 1}, {name: b}]}", "spec.targetModels: Invalid value: Weights should be set for all models, or none of the models.", ""},

		{objective, "priority with a fraction", "spec: {priority: 1.5}", `spec.priority: Invalid value: "number": must be of type integer: "number"`, ""},
		{objectiveLLMD, "priority with a fraction", "spec: {priority: 1.5}", `spec.priority: Invalid value: "float64": must be of type int32: "float64"`, ""},
		{objectiveLLMD, "no pool", "spec: {poolRef: null}", "", "it would be for no pool"},
		{objectiveLLMD, "pools", "spec: {poolRef: null, poolRefs: [{name: a}, {name: b, group: llm-d.ai}]}", "", ""},
		{objectiveLLMD, "no pools", "spec: {poolRefs: []}", "spec.poolRefs: Invalid value: 0: should have at least 1 items", "poolRef is enough"},
		{objectiveLLMD, "pools without a name", "spec: {poolRefs: [{}]}", "spec.poolRefs[0].name: Required value", ""},
		{objectiveLLMD, "65 pools", "spec: {poolRefs: " + list(65, "{name: p%d}") + "}", "", "the bound is ours"},
		{objectiveLLMD, "all pools", "spec: {poolRef: null, poolSelector: {}}", "", ""},
		{objectiveLLMD, "pools by labels", "spec: {poolRef: null, poolSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [d]}]}}", "", ""},
		{objectiveLLMD, "unknown operator", "spec: {poolSelector: {matchExpressions: [{key: c, operator: Like, values: [d]}]}}", "", "nobody knows what it means"},
		{objectiveLLMD, "expression without an operator", "spec: {poolSelector: {matchExpressions: [{key: c}]}}", "spec.poolSelector.matchExpressions[0].operator: Required value", ""},
		{objective, "no pool", "spec: {poolRef: null}", "spec.poolRef: Required value", ""},
	}
	for _, k := range []kind{objective, objectiveLLMD} {
		all = append(all,
			rule{k, "valid", "", "", ""},
			rule{k, "priority", "spec: {priority: 10}", "", ""},
			rule{k, "priority below 0", "spec: {priority: -10}", "", ""},
			rule{k, "priority as text", "spec: {priority: high}", `spec.priority: Invalid value: "string": must be of type integer: "string"`, ""},
		)
	}
	for _, k := range []kind{rewrite, rewriteLLMD} {
		all = append(all,
			rule{k, "valid", "", "", ""},
			rule{k, "no spec", "spec: null", "spec: Required value", ""},
			rule{k, "no rules", "spec: {rules: null}", "spec.rules: Required value", "no rules do nothing"},
			rule{k, "empty rules", "spec: {rules: []}", "", ""},
			rule{k, "no targets", "spec: {rules: [{}]}", "spec.rules[0].targets: Required value", ""},
			rule{k, "empty targets", "spec: {rules: [{targets: []}]}", "spec.rules[0].targets: Invalid value: 0: should have at least 1 items", ""},
			rule{k, "target without a name", "spec: {rules: [{targets: [{weight: 1}]}]}", "spec.rules[0].targets[0].modelRewrite: Required value", ""},
			rule{k, "target with an empty name", `spec: {rules: [{targets: [{modelRewrite: ""}]}]}`, "", nameless},
			rule{k, "one weight of two", "spec: {rules: [{targets: [{modelRewrite: a, weight: 1}, {modelRewrite: b}]}]}", "", ""},
			rule{k, "weight 0", "spec: {rules: [{targets: [{modelRewrite: a, weight: 0}]}]}", "spec.rules[0].targets[0].weight: Invalid value: 0: should be greater than or equal to 1", ""},
			rule{k, "weight 1000001", "spec: {rules: [{targets: [{modelRewrite: a, weight: 1000001}]}]}", "spec.rules[0].targets[0].weight: Invalid value: 1000001: should be less than or equal to 1000000", ""},
			rule{k, "match", "spec: {rules: [{matches: [{model: {value: chat}}], targets: [{modelRewrite: a}]}]}", "", ""},
			rule{k, "match without a model", "spec: {rules: [{matches: [{}], targets: [{modelRewrite: a}]}]}", "spec.rules[0].matches[0].model: Required value", ""},
			rule{k, "match of nothing", `spec: {rules: [{matches: [{model: {value: ""}}], targets: [{modelRewrite: a}]}]}`, `spec.rules[0].matches[0].model.value: Invalid value: "": should be at least 1 chars long`, ""},
			rule{k, "match of another type", "spec: {rules: [{matches: [{model: {type: Prefix, value: a}}], targets: [{modelRewrite: a}]}]}", `spec.rules[0].matches[0].model.type: Unsupported value: "Prefix": supported values: "Exact"`, ""},
		)
	}
	for _, k := range []kind{model, objective, objectiveLLMD, rewrite, rewriteLLMD} {
		all = append(all,
			rule{k, "pool of v1", "spec: {poolRef: {group: inference.networking.k8s.io}}", "", ""},
			rule{k, "pool of v1alpha2", "spec: {poolRef: {group: inference.networking.x-k8s.io}}", "", ""},
			rule{k, "pool of llm-d", "spec: {poolRef: {group: llm-d.ai}}", "", ""},
			rule{k, "pool of another group", "spec: {poolRef: {group: example.com}}", "", noPool},
			rule{k, "pool of no group", "spec: {poolRef: {group: -}}", `spec.poolRef.group: Invalid value: "-": should match ` + groupPattern, ""},
			rule{k, "pool of another kind", "spec: {poolRef: {kind: Service}}", "", noPool},
			rule{k, "pool of no kind", "spec: {poolRef: {kind: 1a}}", `spec.poolRef.kind: Invalid value: "1a": should match ` + kindPattern, ""},
			rule{k, "pool without a name", "spec: {poolRef: {name: null}}", "spec.poolRef.name: Required value", ""},
			rule{k, "pool with an empty name", `spec: {poolRef: {name: ""}}`, `spec.poolRef.name: Invalid value: "": should be at least 1 chars long`, ""},
			rule{k, "pool name of 253", "spec: {poolRef: {name: " + strings.Repeat("a", 253) + "}}", "", ""},
			rule{k, "pool name of 254", "spec: {poolRef: {name: " + strings.Repeat("a", 254) + "}}", "spec.poolRef.name: Too long: may not be more than 253 bytes", ""},
		)
	}
	return all
}

// The name of a model cannot be changed; everything else can.
func TestModelNameIsImmutable(t *testing.T) {
	c := install(t)
	models := model.client(c, c.Namespace(t))
	before, err := models.Create(t.Context(), model.object(t, ""), metav1.CreateOptions{})
	require.NoError(t, err)

	changed := before.DeepCopy()
	merge(changed.Object, parse(t, "spec: {criticality: Critical, poolRef: {name: other}, targetModels: [{name: a}]}"))
	changed, err = models.Update(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)

	renamed := changed.DeepCopy()
	merge(renamed.Object, parse(t, "spec: {modelName: other}"))
	_, err = models.Update(t.Context(), renamed, metav1.UpdateOptions{})
	require.Equal(t, `spec.modelName: Invalid value: "other": modelName is immutable`, refusal(err))

	old, err := decode(t, before)
	require.NoError(t, err)
	same, err := decode(t, changed)
	require.NoError(t, err)
	require.NoError(t, same.ValidateUpdate(old))
	other, err := decode(t, renamed)
	require.NoError(t, err)
	require.Error(t, other.ValidateUpdate(old))
}
