package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// manifest is what the source keeps of a manifest in the cluster. Immutable.
type manifest struct {
	resource   resource
	name       types.NamespacedName
	uid        string
	version    string // its resourceVersion
	generation int64
	conditions []types.Condition

	object  types.Object // the latest valid version; nil: there was none
	ignored []string     // what of it is unknown and has no effect
	err     error        // why this version is not valid
}

// manifestForm is the part of the JSON form that types.Object does not keep.
type manifestForm struct {
	APIVersion string `json:"apiVersion"`
	Metadata   struct {
		identity
		UID        string `json:"uid"`
		Generation int64  `json:"generation"`
	} `json:"metadata"`
	Status json.RawMessage `json:"status"`
}

// lastApplied is an annotation with a copy of the whole object, which nobody needs here.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// decodeManifest returns a function that decodes manifests of a resource from JSON. One that is
// not valid is no error: the manifest says so.
func decodeManifest(r resource) func(func(any) error) (decoded[*manifest], error) {
	return func(decode func(any) error) (d decoded[*manifest], err error) {
		var raw json.RawMessage
		if err := decode(&raw); err != nil {
			return d, err
		}
		var f manifestForm
		err = json.Unmarshal(raw, &f)
		d.identify(&f.Metadata.identity)
		if err != nil {
			return d, err
		}
		m := &manifest{
			resource: r, name: d.name, version: d.version,
			uid: f.Metadata.UID, generation: f.Metadata.Generation,
		}
		d.object = m
		if r.kind != kindPool {
			var status types.ObjectStatus
			_ = json.Unmarshal(f.Status, &status) // that others wrote nonsense is no reason to fail
			m.conditions = status.Conditions
		}
		if f.APIVersion == "" { // items of some lists do not repeat it
			raw = typed(raw, r)
		}
		object, unknown, err := types.DecodeManifestLenient(raw)
		if err != nil {
			m.err = plain(err)
			return d, nil
		}
		delete(object.Meta().Annotations, lastApplied)
		m.object = object
		for _, field := range unknown {
			m.ignored = append(m.ignored, field.Field)
		}
		return d, nil
	}
}

// typed adds apiVersion and kind to an object.
func typed(raw []byte, r resource) []byte {
	start := bytes.IndexByte(raw, '{') + 1
	head := fmt.Sprintf(`%s"apiVersion":%q,"kind":%q,`, raw[:start], r.GroupVersion().String(), r.kind)
	return append([]byte(head), raw[start:]...)
}

// plain lists broken rules without positions, which mean nothing to who has not seen the JSON.
func plain(err error) error {
	var texts []string
	for _, e := range check.From(err) {
		if f := (*types.FieldError)(nil); errors.As(e.Err, &f) {
			texts = append(texts, f.Text())
			continue
		}
		texts = append(texts, e.Error())
	}
	return errors.New("kubernetes: " + strings.Join(texts, "; "))
}

// carry returns m with the object of old, if m is an invalid version of what was valid before:
// a mistake in an update does not take a service down.
func (m *manifest) carry(old *manifest) *manifest {
	if old == nil || m.err == nil || m.uid != old.uid {
		return m
	}
	next := *m
	next.object, next.ignored = old.object, old.ignored
	return &next
}

// like reports whether the store sees no difference between m and o, which may be nil.
func (m *manifest) like(o *manifest) bool {
	return m == o || o != nil && m.resource == o.resource && m.same(o)
}

// same reports whether two versions of an object are in force alike: they differ in status at
// most.
func (m *manifest) same(o *manifest) bool {
	if m.uid != o.uid || m.generation != o.generation || (m.object == nil) != (o.object == nil) || (m.err == nil) != (o.err == nil) {
		return false
	}
	if m.object == nil {
		return true
	}
	a, b := m.object.Meta(), o.object.Meta()
	return maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations)
}
