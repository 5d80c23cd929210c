package config

import (
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// FuzzReload: whatever comes after whatever, what is in force is complete and can be put in
// force in the place of what was, and no object is there twice.
func FuzzReload(f *testing.F) {
	const (
		pool   = "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: llama}\nspec: {selector: {matchLabels: {a: b}}, targetPorts: [{number: 1}]}\n---\n"
		model  = "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferenceModel\nmetadata: {name: m}\nspec: {modelName: m, poolRef: {name: llama}}\n---\n"
		static = "apiVersion: inferpick.io/v1alpha1\nkind: StaticEndpoints\nmetadata: {name: s}\nspec: {poolRef: {name: llama}, endpoints: [{address: 'a:1'}]}\n---\n"
		picker = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\npoolRef: {name: llama}\nplugins: [{type: queue-scorer}]\n---\n"
	)
	for _, s := range [][2]string{
		{pool + model + static + picker, pool + "kind: [\n"},
		{pool + model, pool + "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferenceModel\nmetadata: {name: m}\nspec: {modelName: other, poolRef: {name: llama}}\n"},
		{pool + picker, pool + "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{type: no}]\n---\n" + picker + picker},
		{pool + static, "\xff"}, {pool + static, static + "kind: InferencePool\n"}, {pool + picker + picker, pool},
	} {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		before, err := Loader{}.Parse("f.yaml", first)
		if err != nil {
			return
		}
		store := datastore.New(datastore.Options{DeclaredPoolsOnly: true})
		require.NoError(t, store.Commit(before.Change))
		after, err := Loader{}.parse("f.yaml", []file{{name: "f.yaml", data: second}}, before)
		if err != nil {
			return
		}
		require.NoError(t, store.Commit(after.Change), "what is left cannot be put in force")
		seen := make(map[identity]bool)
		for _, o := range after.objects {
			if seen[o.id] {
				t.Fatalf("%+v is there twice", o.id)
			}
			seen[o.id] = true
		}
		for pool := range after.pools {
			if p, _ := after.Policy(pool, nil, nil); p == nil {
				t.Fatalf("nobody schedules for %s", pool)
			}
		}
		for _, r := range after.Rejected {
			if r.Kept && r.Kind != "" && r.Name.Name != "" && after.find(identity{kind: r.Kind, name: r.Name}) == nil {
				t.Fatalf("%s %s is said to be kept, and is not there", r.Kind, r.Name)
			}
		}
		if _, ok := after.pools[types.NamespacedName{}]; ok {
			t.Fatal("a pool without a name")
		}
	})
}

// FuzzLines: no message makes the search for its field's line panic, and a line that is
// found is one of the document.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a:\n  b:\n  - c: 1\n"), "a.b[0].c must be")
	f.Add([]byte("a: &x {b: 1}\nc: *x\n"), `c.b["\"`)
	f.Add([]byte("[1, [2]]"), "[1][0]")
	f.Fuzz(func(t *testing.T, text []byte, message string) {
		x := &lineIndex{text: text, start: 1}
		line, column := x.of(message)
		if line < 0 || line > len(text)+1 || column < 0 || column > len(text)+1 || line == 0 != (column == 0) {
			t.Fatalf("line %d, column %d of %d bytes", line, column, len(text))
		}
		_ = x.ofText(message)
	})
}
