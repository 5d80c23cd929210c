package crds

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// TestColumns: what kubectl get shows of each kind, before the age.
func TestColumns(t *testing.T) {
	c := install(t)
	ns := c.Namespace(t)
	for _, test := range []struct {
		kind            kind
		changes, status string
		columns, cells  []any
	}{
		{pool, "spec: {targetPorts: [{number: 1}, {number: 2}]}", "{parents: [{parentRef: {name: g}, conditions: [{" + condition + "}]}]}",
			[]any{"Name", "Ports", "Picker", "Accepted"}, []any{"x", `[{"number":1},{"number":2}]`, "picker", "True"}},
		{poolAlpha, "", "{parent: [{parentRef: {name: g}, conditions: [{" + condition + "}]}]}",
			[]any{"Name", "Port", "Picker", "Accepted"}, []any{"x", "8000", "picker", "True"}},
		{model, "spec: {criticality: Critical}", "{conditions: [{" + condition + "}]}",
			[]any{"Name", "Model Name", "Inference Pool", "Criticality", "Accepted"}, []any{"x", "chat", "llama", "Critical", "True"}},
		{objective, "spec: {priority: 3}", "{conditions: [{" + condition + "}]}",
			[]any{"Name", "Inference Pool", "Priority", "Accepted"}, []any{"x", "llama", 3.0, "True"}},
		{objectiveLLMD, "spec: {poolRef: null, poolRefs: [{name: a}, {name: b}]}", "{conditions: [{" + condition + "}]}",
			[]any{"Name", "Inference Pool", "Inference Pools", "Priority", "Accepted"}, []any{"x", nil, "a", nil, "True"}},
		{rewrite, "", "{conditions: [{" + condition + "}]}",
			[]any{"Name", "Inference Pool", "Accepted"}, []any{"x", "llama", "True"}},
		{rewriteLLMD, "", "{conditions: [{" + condition + "}]}",
			[]any{"Name", "Inference Pool", "Accepted"}, []any{"x", "llama", "True"}},
		{poolImport, "", "{controllers: []}", []any{"Name"}, []any{"x"}},
	} {
		o, err := test.kind.client(c, ns).Create(t.Context(), test.kind.object(t, test.changes), metav1.CreateOptions{})
		require.NoError(t, err)
		o.Object["status"] = parse(t, test.status)
		_, err = test.kind.client(c, ns).UpdateStatus(t.Context(), o, metav1.UpdateOptions{})
		require.NoError(t, err)

		columns, cells := table(t, c, test.kind, ns)
		require.Empty(t, cmp.Diff(append(test.columns, "Age"), columns), "%s of %s", test.kind.kind, test.kind.Group)
		require.Empty(t, cmp.Diff(test.cells, cells[:len(cells)-1]), "%s of %s", test.kind.kind, test.kind.Group)
	}
}

// table returns the header of the table that the server makes of a kind, and its only row.
func table(t *testing.T, c *cluster.Server, k kind, namespace string) (columns, cells []any) {
	t.Helper()
	var table struct {
		ColumnDefinitions []struct{ Name string }
		Rows              []struct{ Cells []any }
	}
	get(t, c, "/apis/"+k.Group+"/"+k.Version+"/namespaces/"+namespace+"/"+k.Resource, "application/json;as=Table;v=v1;g=meta.k8s.io", &table)
	for _, c := range table.ColumnDefinitions {
		columns = append(columns, c.Name)
	}
	require.Len(t, table.Rows, 1)
	return columns, table.Rows[0].Cells
}

// TestNames: the names by which kubectl finds each kind; all are in the category inference.
func TestNames(t *testing.T) {
	c := install(t)
	short := map[kind][]string{pool: {"infpool"}, poolAlpha: {"xinfpool"}, poolImport: {"infpimp"}}
	for _, k := range kinds {
		var list metav1.APIResourceList
		get(t, c, "/apis/"+k.Group+"/"+k.Version, "application/json", &list)
		found := false
		for _, r := range list.APIResources {
			if r.Name == k.Resource {
				found = true
				require.Equal(t, short[k], r.ShortNames)
				require.Equal(t, []string{"inference"}, r.Categories)
				require.True(t, r.Namespaced)
			}
		}
		require.True(t, found, k)
	}
}

func get(t *testing.T, c *cluster.Server, path, accept string, into any) {
	t.Helper()
	client, err := rest.HTTPClientFor(c.Config())
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.Config().Host+path, nil)
	require.NoError(t, err)
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NoError(t, json.NewDecoder(response.Body).Decode(into))
}
