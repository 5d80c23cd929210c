package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

// wholePod reads a pod as encoding/json gives it, with every field.
func wholePod(data []byte) (string, *pod) {
	var o map[string]any
	if json.Unmarshal(data, &o) != nil {
		return "", nil
	}
	part := func(o map[string]any, name string) map[string]any { m, _ := o[name].(map[string]any); return m }
	meta, st := part(o, "metadata"), part(o, "status")
	p := &pod{labels: map[string]string{}, terminating: meta["deletionTimestamp"] != nil}
	for k, v := range part(meta, "labels") {
		p.labels[k], _ = v.(string)
	}
	for _, key := range []string{"inference.networking.k8s.io/active-ports", "llm-d.ai/active-ports"} {
		if active, ok := part(meta, "annotations")[key].(string); ok {
			p.limited, p.active = true, active
		}
	}
	p.finished = st["phase"] == "Succeeded" || st["phase"] == "Failed"
	p.ip, _ = st["podIP"].(string)
	if ips, _ := st["podIPs"].([]any); len(ips) > 0 {
		first, _ := ips[0].(map[string]any)
		p.ip, _ = first["ip"].(string)
	}
	conditions, _ := st["conditions"].([]any)
	for _, c := range conditions {
		if c, _ := c.(map[string]any); c["type"] == "Ready" {
			p.ready = c["status"] == "True"
		}
	}
	namespace, _ := meta["namespace"].(string)
	name, _ := meta["name"].(string)
	return namespace + "/" + name, p
}

const podText = `{"metadata": {"name": "p", "namespace": "n", "resourceVersion": "7", "uid": "u", "labels": {"app": "x", "é": "\u00e9"},
	"annotations": {"llm-d.ai/active-ports": "1,2", "inference.networking.k8s.io/active-ports": "3", "other": "{}"}, "deletionTimestamp": "2026-01-01T00:00:00Z",
	"managedFields": [{"fieldsV1": {"f:status": {}}}]},
	"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8000}]}]},
	"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
		"conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}, {"type": "Initialized", "status": "False"}]}}`

// FuzzPod: what the slim decoder keeps of a pod is what a whole one says, and whatever it is
// fed, it does not fall.
func FuzzPod(f *testing.F) {
	f.Add([]byte(podText))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"metadata": {"name": null, "labels": null, "annotations": null}, "status": {"conditions": null, "podIPs": []}}`))
	f.Add([]byte(`{"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Ready", "status": "Unknown"}], "phase": "Failed"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decodePod(func(to any) error { return json.Unmarshal(data, to) })
		if err != nil || ambiguous(data) {
			return
		}
		name, want := wholePod(data)
		if want == nil {
			t.Fatalf("decodePod(%q) is no error", data)
		}
		require.Equal(t, name, d.name.Namespace+"/"+d.name.Name)
		require.Empty(t, cmp.Diff(want, d.object, cmp.AllowUnexported(pod{}), cmpopts.EquateEmpty()))
	})
}

// ambiguous reports whether a document has fields that encoding/json reads into a struct in
// another way than into a map: twice, or in other letters. No API server sends such.
func ambiguous(data []byte) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		seen map[string]bool // nil: an array
		key  bool            // the next token is one
	}
	var levels []level
	for {
		t, err := d.Token()
		if err != nil {
			return false
		}
		top := len(levels) - 1
		if t == json.Delim('}') || t == json.Delim(']') {
			levels = levels[:top]
			continue
		}
		if top >= 0 && levels[top].seen != nil {
			if levels[top].key {
				key := strings.ToLower(t.(string))
				if levels[top].seen[key] || strings.ContainsAny(key, "\u017f\u212a") || key != t && strings.Contains(strings.ToLower(podFields), `"`+key+`"`) {
					return true
				}
				levels[top].seen[key], levels[top].key = true, false
				continue
			}
			levels[top].key = true
		}
		switch t {
		case json.Delim('{'):
			levels = append(levels, level{make(map[string]bool), true})
		case json.Delim('['):
			levels = append(levels, level{})
		}
	}
}

const podFields = `"metadata" "name" "namespace" "resourceVersion" "labels" "annotations" "deletionTimestamp" "status" "phase" "podIP" "podIPs"
	"ip" "conditions" "type" "llm-d.ai/active-ports" "inference.networking.k8s.io/active-ports"`

func TestDecodePod(t *testing.T) {
	d, err := decodePod(func(to any) error { return json.Unmarshal([]byte(podText), to) })
	require.NoError(t, err)
	want := decoded[*pod]{types.NamespacedName{Namespace: "n", Name: "p"}, "7", &pod{
		labels: map[string]string{"app": "x", "é": "é"}, ip: "10.0.0.1", ready: true, terminating: true, limited: true, active: "1,2",
	}}
	require.Equal(t, want, d)
	_, whole := wholePod([]byte(podText))
	require.Equal(t, want.object, whole)
}

func TestDecodeManifest(t *testing.T) {
	decode := func(r resource, text string) *manifest {
		t.Helper()
		d, err := decodeManifest(r)(func(to any) error { return json.Unmarshal([]byte(text), to) })
		require.NoError(t, err)
		require.Equal(t, d.object.name, d.name)
		return d.object
	}
	meta := `"metadata": {"name": "m", "namespace": "n", "uid": "u", "resourceVersion": "9", "generation": 4,
		"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "1"}}`
	spec := `"spec": {"modelName": "chat", "poolRef": {"name": "llama"}, "newer": {"a": 1}}`
	m := decode(xModels, `{`+meta+`,`+spec+`, "status": {"conditions": [{"type": "Ready", "status": "Unknown", "observedGeneration": 3}]}}`)
	require.NoError(t, m.err)
	require.Equal(t, "chat", m.object.(*types.InferenceModel).Spec.ModelName)
	require.Equal(t, map[string]string{"kept": "1"}, m.object.Meta().Annotations)
	require.Equal(t, []any{"u", "9", int64(4)}, []any{m.uid, m.version, m.generation})
	require.Equal(t, int64(3), m.conditions[0].ObservedGeneration)

	m = decode(xModels, `{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", `+meta+`,
		"spec": {"modelName": "", "poolRef": {"kind": "Service"}}}`)
	require.Nil(t, m.object)
	require.EqualError(t, m.err, `kubernetes: InferenceModel n/m: spec.modelName is "", want 1 to 256 characters; `+
		`InferenceModel n/m: spec.poolRef.kind is "Service", want one of InferencePool; InferenceModel n/m: spec.poolRef.name is "", want 1 to 253 characters`)
	m = decode(xModels, `{`+meta+`, "spec": {"modelName": 5}}`)
	require.ErrorContains(t, m.err, "spec.modelName is 5, want")

	_, err := decodeManifest(xModels)(func(to any) error { return json.Unmarshal([]byte(`{"metadata": {"name": 4}}`), to) })
	require.Error(t, err)
}

// FuzzList: pages are read to their end or not at all, and no input is a panic.
func FuzzList(f *testing.F) {
	f.Add([]byte(`{"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "5", "continue": "c"}, "items": [` + podText + `]}`))
	f.Add([]byte(`{"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": null}`))
	f.Add([]byte(`{"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": 3}}, {}]}`))
	f.Add([]byte(`{"kind": "PodList", "items": [{}`))
	f.Add([]byte(`{"items": {}, "metadata": []}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		_, err := readList(bytes.NewReader(data), func(decode func(any) error) error {
			n++
			_, err := decodePod(decode)
			return err
		})
		var whole struct{ Items []json.RawMessage }
		if err == nil && !ambiguous(data) && json.Unmarshal(data, &whole) == nil {
			require.Len(t, whole.Items, n)
		}
		_ = readEvents(bytes.NewReader(data), func(string, json.RawMessage) error { return nil })
	})
}

// An object that has no end is refused before it fills the memory.
func TestTooLarge(t *testing.T) {
	endless := &endlessReader{head: []byte(`{"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "`)}
	_, err := readList(endless, func(decode func(any) error) error {
		_, err := decodePod(decode)
		return err
	})
	require.ErrorIs(t, err, errTooLarge)
	require.Less(t, endless.read, 2*maxObject)
}

type endlessReader struct {
	head []byte
	read int
}

func (e *endlessReader) Read(p []byte) (int, error) {
	n := copy(p, e.head)
	e.head = e.head[n:]
	for i := n; i < len(p); i++ {
		p[i] = 'a'
	}
	e.read += len(p)
	return len(p), nil
}

// BenchmarkReadList decodes a page of 500 pods of 8 KB.
func BenchmarkReadList(b *testing.B) {
	text := strings.Replace(podText, `"containers": [`, `"containers": [`+strings.Repeat(`{"name": "VARIABLE", "value": "`+strings.Repeat("v", 60)+`"},`, 75), 1)
	page := fmt.Sprintf(`{"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": [%s]}`, strings.Join(repeat(text, 500), ","))
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := readList(strings.NewReader(page), func(decode func(any) error) error {
			_, err := decodePod(decode)
			return err
		})
		require.NoError(b, err)
	}
}

func repeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}
