package types

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

// Groups and versions that DecodeManifest knows.
const (
	// GroupX is the group of InferenceModel, InferenceObjective,
	// InferenceModelRewrite and the v1alpha2 form of InferencePool.
	GroupX = "inference.networking.x-k8s.io"
	// GroupGA is the group of the v1 form of InferencePool.
	GroupGA = "inference.networking.k8s.io"
	// GroupLLMD is the group of llm-d, which took over InferenceObjective and
	// InferenceModelRewrite.
	GroupLLMD = "llm-d.ai"

	groupOld = "inference.x-k8s.io" // that of GroupX at first

	apiVersionX  = GroupX + "/v1alpha2"
	apiVersionGA = GroupGA + "/v1"
)

// apiVersions are those of each kind. A pool's version tells its form; the other kinds have
// the same form in all versions.
var apiVersions = map[string][]string{
	kindPool:      slices.Concat(poolVersionsV1, poolVersionsAlpha),
	kindModel:     versionsOf(manifestVersions, GroupX, GroupLLMD, groupOld),
	kindObjective: versionsOf(manifestVersions, GroupX, GroupLLMD, GroupGA, groupOld),
	kindRewrite:   versionsOf(manifestVersions, GroupX, GroupLLMD, GroupGA, groupOld),
}

var (
	poolVersionsV1    = versionsOf([]string{"v1"}, GroupGA, GroupLLMD)
	poolVersionsAlpha = versionsOf([]string{"v1alpha2", "v1alpha1"}, GroupX, groupOld, GroupLLMD)
	manifestVersions  = []string{"v1alpha2", "v1alpha1", "v1"}
)

func versionsOf(versions []string, groups ...string) []string {
	var out []string
	for _, group := range groups {
		for _, version := range versions {
			out = append(out, group+"/"+version)
		}
	}
	return out
}

// APIVersions returns the values of apiVersion that DecodeManifest accepts for a kind, the
// preferred one first. It returns none for an unknown kind.
func APIVersions(kind string) []string { return slices.Clone(apiVersions[kind]) }

// DecodeManifest decodes one JSON object by its apiVersion and kind: an InferencePool (v1alpha2
// is converted to v1), InferenceModel, InferenceObjective or InferenceModelRewrite. See
// APIVersions.
//
// Field names are case-sensitive, unknown and duplicate fields are errors, and null means
// absent. Unknown fields in status and metadata are ignored. DecodeManifest fills in defaults
// and validates the object; the error, a ValidationErrors, lists every broken rule.
func DecodeManifest(data []byte) (Object, error) {
	objs, err := DecodeManifests(data)
	return one(objs, err)
}

// DecodeManifestLenient is DecodeManifest for manifests that may come from another version of
// the API: unknown fields in spec are dropped and returned instead of being errors.
func DecodeManifestLenient(data []byte) (obj Object, unknown ValidationErrors, err error) {
	objs, unknown, err := decodeManifests(data, true)
	obj, err = one(objs, err)
	return obj, unknown, err
}

func one(objs []Object, err error) (Object, error) {
	if err != nil {
		return nil, err
	}
	if len(objs) != 1 {
		return nil, fmt.Errorf("types: manifest holds %d objects, want one; DecodeManifests reads several", len(objs))
	}
	return objs[0], nil
}

// DecodeManifests decodes a sequence of JSON objects, separated by white space. Each is an
// object as for DecodeManifest, or a List of them (kind: List, items: […]). If any of them is
// invalid it returns none, and an error that joins those of all objects.
func DecodeManifests(data []byte) ([]Object, error) {
	objs, _, err := decodeManifests(data, false)
	return objs, err
}

func decodeManifests(data []byte, lenient bool) ([]Object, ValidationErrors, error) {
	r := manifestReader{lenient: lenient}
	docs, err := strictjson.ParseAll(data, strictjson.Options{Package: "types", Unknown: r.unknownField()})
	if err != nil {
		return nil, nil, err
	}
	for _, doc := range docs {
		r.value(doc, true)
	}
	if len(r.errs) > 0 {
		return nil, r.unknown, errors.Join(r.errs...)
	}
	return r.objs, r.unknown, nil
}

// manifestReader decodes a sequence of objects.
type manifestReader struct {
	lenient bool
	objs    []Object
	errs    []error
	unknown ValidationErrors // if lenient; otherwise such fields are errors
	read    int              // objects so far, to identify one without a name
}

// unknownField returns the callback for unknown fields.
func (r *manifestReader) unknownField() func(*check.Error) {
	if !r.lenient {
		return nil
	}
	return func(e *check.Error) { r.unknown = append(r.unknown, fieldError("", e)) }
}

// value decodes an object, or the objects of a list.
func (r *manifestReader) value(doc *strictjson.Document, listAllowed bool) {
	var head typeMeta
	label := "object " + strconv.Itoa(r.read)
	if err := doc.Peek(&head); err != nil {
		r.fail(fieldErrors(label, err))
		return
	}
	if head.Kind != "List" && (!strings.HasSuffix(head.Kind, "List") || !doc.Has("items")) {
		r.read++
		r.object(doc, head, label)
		return
	}
	items, err := doc.Elements("items")
	if !listAllowed {
		err = &check.Error{Field: "kind", Value: head.Kind, Want: "another than a list inside a list"}
		items = nil
	}
	for _, item := range items {
		r.value(item, false)
	}
	if err != nil {
		r.fail(located(doc, fieldErrors(label, err)))
	}
}

// object decodes one that is not a list. It is validated only if it could be decoded: else a
// field of the wrong type would be reported twice.
func (r *manifestReader) object(doc *strictjson.Document, head typeMeta, label string) {
	before := len(r.unknown)
	obj, err := readObject(doc, head)
	if obj != nil {
		meta := *obj.Meta()
		meta.setDefaults()
		label = describe(head.Kind, &meta)
	}
	for _, e := range r.unknown[before:] {
		e.Object = label
	}
	if err != nil {
		r.fail(located(doc, fieldErrors(label, err)))
		return
	}
	obj.SetDefaults()
	if err, ok := obj.Validate().(ValidationErrors); ok {
		r.fail(located(doc, err))
		return
	}
	r.objs = append(r.objs, obj)
}

func (r *manifestReader) fail(errs ValidationErrors) { r.errs = append(r.errs, errs) }

// located fills in the lines and columns of fields.
func located(doc *strictjson.Document, errs ValidationErrors) ValidationErrors {
	for _, e := range errs {
		if e.Line == 0 {
			e.Line, e.Column = doc.Place(e.Field)
		}
	}
	return errs
}

// fieldErrors converts errors of the decoder to those of an object.
func fieldErrors(object string, err error) ValidationErrors {
	var out ValidationErrors
	for _, e := range check.From(err) {
		out = append(out, fieldError(object, e))
	}
	return out
}

func fieldError(object string, e *check.Error) *FieldError {
	f := &FieldError{Object: object, Field: e.Field, Rule: e.Problem, Line: e.Line, Column: e.Column, Known: strings.Join(e.Known, ", ")}
	if e.Problem == "" {
		f.Rule, f.Value = "must be "+e.Want, e.Value
	}
	return f
}

// readObject decodes an object by its kind; it returns nil if that is unknown.
func readObject(doc *strictjson.Document, head typeMeta) (Object, error) {
	versions, ok := apiVersions[head.Kind]
	switch {
	case !ok:
		return nil, &check.Error{Field: "kind", Value: head.APIVersion + " " + head.Kind, Want: "one of InferencePool, InferenceModel, InferenceObjective and InferenceModelRewrite"}
	case !slices.Contains(versions, head.APIVersion):
		return nil, &check.Error{Field: "apiVersion", Value: head.APIVersion, Want: "one of those of " + head.Kind + ": " + strings.Join(versions, ", ")}
	}
	switch head.Kind {
	case kindModel:
		var m manifest[InferenceModelSpec, ObjectStatus]
		err := doc.Decode(&m)
		return &InferenceModel{m.Meta, m.Spec, m.Status}, err
	case kindObjective:
		var m manifest[InferenceObjectiveSpec, ObjectStatus]
		err := doc.Decode(&m)
		return &InferenceObjective{m.Meta, m.Spec, m.Status}, err
	case kindRewrite:
		var m manifest[InferenceModelRewriteSpec, ObjectStatus]
		err := doc.Decode(&m)
		return &InferenceModelRewrite{m.Meta, m.Spec, m.Status}, err
	}
	if slices.Contains(poolVersionsV1, head.APIVersion) {
		var m manifest[InferencePoolSpec, InferencePoolStatus]
		err := doc.Decode(&m)
		return &InferencePool{m.Meta, m.Spec, m.Status}, err
	}
	var m manifest[poolSpecAlpha, poolStatusAlpha]
	err := doc.Decode(&m)
	return &InferencePool{m.Meta, m.Spec.v1(), m.Status.v1()}, err
}

// poolSpecAlpha is the v1alpha2 form: a flat selector, one port, extensionRef.
type poolSpecAlpha struct {
	Selector         map[string]string `json:"selector"`
	TargetPortNumber *int32            `json:"targetPortNumber"`
	ExtensionRef     *struct {
		Group       string      `json:"group"`
		Kind        string      `json:"kind"`
		Name        string      `json:"name"`
		FailureMode FailureMode `json:"failureMode"`
		PortNumber  *int32      `json:"portNumber"`
	} `json:"extensionRef"`
}

func (s *poolSpecAlpha) v1() InferencePoolSpec {
	spec := InferencePoolSpec{Selector: LabelSelector{s.Selector}}
	if s.TargetPortNumber != nil {
		spec.TargetPorts = []Port{{*s.TargetPortNumber}}
	}
	if ref := s.ExtensionRef; ref != nil {
		port := Port{DefaultPickerPort}
		if ref.PortNumber != nil {
			port.Number = *ref.PortNumber
		}
		spec.EndpointPickerRef = &EndpointPickerRef{Group: ref.Group, Kind: ref.Kind, Name: ref.Name, Port: &port, FailureMode: ref.FailureMode}
	}
	return spec
}

type poolStatusAlpha struct {
	Parent []struct {
		// An ObjectReference has group and version in one field.
		ParentRef struct {
			ParentRef
			APIVersion string `json:"apiVersion"`
		} `json:"parentRef"`
		Conditions []Condition `json:"conditions"`
	} `json:"parent"`
}

func (s *poolStatusAlpha) v1() (status InferencePoolStatus) {
	for _, p := range s.Parent {
		ref := p.ParentRef.ParentRef
		group, _, ok := strings.Cut(p.ParentRef.APIVersion, "/")
		if ref.Group = group; !ok {
			ref.Group = ""
		}
		status.Parents = append(status.Parents, ParentStatus{ParentRef: ref, Conditions: p.Conditions})
	}
	return status
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func keyed(path, key string) string { return path + "[" + strconv.Quote(key) + "]" }
