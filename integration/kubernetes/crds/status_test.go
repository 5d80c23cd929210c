package crds

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const condition = `type: Accepted, status: "True", reason: Accepted, message: "", lastTransitionTime: "2026-01-02T03:04:05Z"`

// TestStatusRules: what the API server accepts and refuses in a status.
func TestStatusRules(t *testing.T) {
	c := install(t)
	ns := c.Namespace(t)
	type test struct {
		name, status string
		refused      string
	}
	conditions := []test{ // of any kind; CONDITIONS is where it has them
		{"condition", "[{" + condition + ", observedGeneration: 3}]", ""},
		{"8 conditions", list(8, "{"+strings.Replace(condition, "Accepted", "A%d", 1)+"}"), ""},
		{"9 conditions", list(9, "{"+strings.Replace(condition, "Accepted", "A%d", 1)+"}"), "CONDITIONS: Too many: 9: must have at most 8 items"},
		{"type twice", "[{" + condition + "}, {" + condition + "}]", `CONDITIONS[1]: Duplicate value: {"type":"Accepted"}`},
		{"qualified type", "[{" + strings.Replace(condition, "Accepted", "example.com/Ready", 1) + "}]", ""},
		{"type with a space", "[{" + strings.Replace(condition, "Accepted", "Is ready", 1) + "}]", `CONDITIONS[0].type: Invalid value: "Is ready": should match ` + typePattern},
		{"type of 317", "[{" + strings.Replace(condition, "Accepted", strings.Repeat("a", 317), 1) + "}]", "CONDITIONS[0].type: Too long: may not be more than 316 bytes"},
		{"unknown status", "[{" + strings.Replace(condition, `"True"`, "Maybe", 1) + "}]", `CONDITIONS[0].status: Unsupported value: "Maybe": supported values: "True", "False", "Unknown"`},
		{"empty reason", "[{" + strings.Replace(condition, "reason: Accepted", `reason: ""`, 1) + "}]", `CONDITIONS[0].reason: Invalid value: "": should be at least 1 chars long`},
		{"reason with a space", "[{" + strings.Replace(condition, "reason: Accepted", "reason: not yet", 1) + "}]", `CONDITIONS[0].reason: Invalid value: "not yet": should match ` + reasonPattern},
		{"reason of 1025", "[{" + strings.Replace(condition, "reason: Accepted", "reason: "+strings.Repeat("a", 1025), 1) + "}]", "CONDITIONS[0].reason: Too long: may not be more than 1024 bytes"},
		{"message of 32768", "[{" + strings.Replace(condition, `""`, strings.Repeat("a", 32768), 1) + "}]", ""},
		{"message of 32769", "[{" + strings.Replace(condition, `""`, strings.Repeat("a", 32769), 1) + "}]", "CONDITIONS[0].message: Too long: may not be more than 32768 bytes"},
		{"no time", "[{type: A, status: Unknown, reason: B, message: c}]", "CONDITIONS[0].lastTransitionTime: Required value"},
		{"time without a zone", "[{" + strings.Replace(condition, "05Z", "05", 1) + "}]", `CONDITIONS[0].lastTransitionTime: Invalid value: "2026-01-02T03:04:05": must be of type date-time: "2026-01-02T03:04:05"`},
		{"generation below 0", "[{" + condition + ", observedGeneration: -1}]", "CONDITIONS[0].observedGeneration: Invalid value: -1: should be greater than or equal to 0"},
	}
	for _, k := range kinds {
		tests := append([]test{}, conditions...)
		place, path := "{conditions: CONDITIONS}", "status.conditions"
		switch k {
		case pool:
			place, path = "{parents: [{parentRef: {name: gateway}, controllerName: example.com/gateway, conditions: CONDITIONS}]}", "status.parents[0].conditions"
		case poolAlpha:
			place, path = "{parent: [{parentRef: {name: gateway}, conditions: CONDITIONS}]}", "status.parent[0].conditions"
		case poolImport:
			place, path = "{controllers: [{name: example.com/import, conditions: CONDITIONS}]}", "status.controllers[0].conditions"
		}
		for i := range tests {
			tests[i].status = strings.Replace(place, "CONDITIONS", tests[i].status, 1)
			tests[i].refused = strings.Replace(tests[i].refused, "CONDITIONS", path, 1)
		}
		for _, parents := range parentLists[k] {
			tests = append(tests, test(parents))
		}
		created, err := k.client(c, ns).Create(t.Context(), k.object(t, ""), metav1.CreateOptions{})
		require.NoError(t, err)
		for _, test := range tests {
			t.Run(k.Group+"/"+k.kind+"/"+strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
				o := created.DeepCopy()
				o.Object["status"] = parse(t, test.status)
				_, err := k.client(c, ns).UpdateStatus(t.Context(), o, metav1.UpdateOptions{FieldValidation: "Strict", DryRun: []string{metav1.DryRunAll}})
				require.Equal(t, test.refused, refusal(err))
			})
		}
	}
}

// parentLists are statuses with gateways.
var parentLists = map[kind][]struct{ name, status, refused string }{
	pool: {
		{"no parents", "{parents: []}", ""},
		{"32 parents", "{parents: " + list(32, "{parentRef: {name: g%d}}") + "}", ""},
		{"33 parents", "{parents: " + list(33, "{parentRef: {name: g%d}}") + "}", "status.parents: Too many: 33: must have at most 32 items"},
		{"parent without a gateway", "{parents: [{controllerName: example.com/gateway}]}", "status.parents[0].parentRef: Required value"},
		{"gateway without a name", "{parents: [{parentRef: {kind: Gateway}}]}", "status.parents[0].parentRef.name: Required value"},
		{"gateway of no group", "{parents: [{parentRef: {group: -, name: a}}]}", `status.parents[0].parentRef.group: Invalid value: "-": should match ` + groupPattern},
		{"gateway of no kind", "{parents: [{parentRef: {kind: 1a, name: a}}]}", `status.parents[0].parentRef.kind: Invalid value: "1a": should match ` + kindPattern},
		{"gateway of no namespace", "{parents: [{parentRef: {namespace: A, name: a}}]}", `status.parents[0].parentRef.namespace: Invalid value: "A": should match ` + namespacePattern},
		{"controller without a path", "{parents: [{parentRef: {name: a}, controllerName: example.com}]}", `status.parents[0].controllerName: Invalid value: "example.com": should match ` + controllerPattern},
	},
	poolAlpha: {
		{"no parents", "{parent: []}", ""},
		{"32 parents", "{parent: " + list(32, "{parentRef: {name: g%d}}") + "}", ""},
		{"33 parents", "{parent: " + list(33, "{parentRef: {name: g%d}}") + "}", "status.parent: Too many: 33: must have at most 32 items"},
		{"parent without a gateway", "{parent: [{}]}", "status.parent[0].parentRef: Required value"},
	},
	poolImport: {
		{"no controllers", "{}", "status.controllers: Required value"},
		{"clusters", "{controllers: [{name: example.com/import, exportingClusters: [{name: a}, {name: b}]}]}", ""},
		{"cluster without a name", "{controllers: [{name: example.com/import, exportingClusters: [{}]}]}", "status.controllers[0].exportingClusters[0].name: Required value"},
		{"parents", "{controllers: [{name: example.com/import, parents: [{parentRef: {name: gateway}}]}]}", ""},
		{"controller twice", "{controllers: [{name: example.com/import}, {name: example.com/import}]}", `status.controllers[1]: Duplicate value: {"name":"example.com/import"}`},
		{"9 controllers", "{controllers: " + list(9, "{name: example.com/c%d}") + "}", "status.controllers: Too many: 9: must have at most 8 items"},
		{"controller without a path", "{controllers: [{name: example.com}]}", `status.controllers[0].name: Invalid value: "example.com": should match ` + controllerPattern},
	},
}

// TestStatusDefaults: what a status has that nobody wrote: at once in a pool of v1alpha2, which
// is how gateways know that they are the first; elsewhere in one that is written without
// conditions.
func TestStatusDefaults(t *testing.T) {
	c := install(t)
	ns := c.Namespace(t)
	pending := func(condition string) string {
		return "{type: " + condition + `, status: Unknown, reason: Pending, message: Waiting for controller, lastTransitionTime: "1970-01-01T00:00:00Z"}`
	}
	gateway := "parentRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}"
	for _, test := range []struct {
		kind             kind
		created          string // the status without anybody's doing
		written, becomes string
	}{
		{pool, "", "{parents: [{parentRef: {name: g}}]}", "{parents: [{" + gateway + "}]}"},
		{poolAlpha, "{parent: [{parentRef: {group: gateway.networking.k8s.io, kind: Status, name: default}, conditions: [" + pending("Accepted") + "]}]}",
			"{parent: [{parentRef: {name: g}}]}", "{parent: [{" + gateway + ", conditions: [" + pending("Accepted") + "]}]}"},
		{model, "", "{}", "{conditions: [" + pending("Ready") + "]}"},
		{objective, "", "{}", "{conditions: [" + pending("Ready") + "]}"},
		{objectiveLLMD, "", "{}", "{conditions: [" + pending("Ready") + "]}"},
		{rewrite, "", "{}", "{conditions: [" + pending("Accepted") + "]}"},
		{rewriteLLMD, "", "{}", "{conditions: [" + pending("Accepted") + "]}"},
	} {
		o, err := test.kind.client(c, ns).Create(t.Context(), test.kind.object(t, ""), metav1.CreateOptions{})
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(parse(t, test.created), status(o)), "%s of %s", test.kind.kind, test.kind.Group)
		o.Object["status"] = parse(t, test.written)
		o, err = test.kind.client(c, ns).UpdateStatus(t.Context(), o, metav1.UpdateOptions{})
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(parse(t, test.becomes), status(o)), "%s of %s", test.kind.kind, test.kind.Group)
	}
}

func status(o *unstructured.Unstructured) map[string]any {
	s, _, _ := unstructured.NestedMap(o.Object, "status")
	return s
}
