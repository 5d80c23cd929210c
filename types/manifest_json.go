package types

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
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

// apiVersions are those that each kind is known by. Of a pool the version says which
// form it has; the others have one form in all.
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

// APIVersions returns the values of apiVersion by which DecodeManifest knows a kind, the
// usual one first; none for a kind that it does not know.
func APIVersions(kind string) []string { return slices.Clone(apiVersions[kind]) }

// maxDepth bounds the nesting of a manifest. Kubernetes' own metadata
// (managedFields) reaches about a dozen.
const maxDepth = 64

// DecodeManifest reads the JSON of one object, by its apiVersion and kind:
// InferencePool (v1, and v1alpha2, which becomes the form of v1), InferenceModel,
// InferenceObjective and InferenceModelRewrite, in the versions of APIVersions.
//
// Names of fields are exact, in spec an unknown or repeated field is an error,
// null is the same as nothing. Unknown fields in status and metadata are read
// over. Defaults are filled in and the object is validated: every broken rule
// is in the error, a ValidationErrors.
func DecodeManifest(data []byte) (Object, error) {
	objs, err := DecodeManifests(data)
	return one(objs, err)
}

// DecodeManifestLenient is DecodeManifest for a manifest that may have been written for
// another version of its API: fields in spec that are not known are left out and
// returned, in place of an error. All else that is wrong is an error as there.
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

// DecodeManifests reads any number of objects: one after the other, white space
// between, each an object as DecodeManifest reads it or a List (kind: List,
// items: […]) of them. Either all of them are good or none is returned; the
// error then joins what is wrong with each.
func DecodeManifests(data []byte) ([]Object, error) {
	objs, _, err := decodeManifests(data, false)
	return objs, err
}

func decodeManifests(data []byte, lenient bool) (objs []Object, unknown ValidationErrors, err error) {
	var (
		errs []error
		dec  = json.NewDecoder(bytes.NewReader(data))
	)
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err == io.EOF {
			break
		} else if err != nil {
			return nil, nil, syntaxError(data, dec.InputOffset(), err)
		}
		tree, err := parseTree(raw)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found, more, err := decodeTree(tree, len(objs), true, lenient)
		objs, unknown = append(objs, found...), append(unknown, more...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, unknown, errors.Join(errs...)
	}
	return objs, unknown, nil
}

// syntaxError says where in data the JSON is broken. The decoder has read whole
// values up to offset.
func syntaxError(data []byte, offset int64, err error) error {
	at := int64(len(data))
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at = min(max(syntax.Offset-1, offset), at)
	}
	line := 1 + bytes.Count(data[:at], []byte("\n"))
	column := at - int64(bytes.LastIndexByte(data[:at], '\n'))
	if err == io.ErrUnexpectedEOF {
		err = errors.New("unexpected end of JSON input")
	}
	return fmt.Errorf("types: manifest is no JSON at line %d, column %d: %w", line, column, err)
}

// parseTree turns valid JSON into maps, slices and leaves. Other than
// json.Unmarshal it keeps numbers as written and refuses repeated names.
func parseTree(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return parseValue(dec, "", 0)
}

func parseValue(dec *json.Decoder, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("types: manifest is nested deeper than %d levels at %s", maxDepth, path)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("types: manifest: %w", err)
	}
	switch tok {
	case json.Delim('{'):
		m := make(map[string]any)
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, fmt.Errorf("types: manifest: %w", err)
			}
			at := join(path, name.(string))
			if _, dup := m[name.(string)]; dup {
				return nil, ValidationErrors{{Field: at, Rule: "must not appear twice"}}
			}
			v, err := parseValue(dec, at, depth+1)
			if err != nil {
				return nil, err
			}
			m[name.(string)] = v
		}
		_, err := dec.Token()
		return m, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := parseValue(dec, index(path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	return tok, nil
}

// decodeTree makes the objects of one value. nth is the number of objects
// before it, to name one that has no name.
func decodeTree(tree any, nth int, listAllowed, lenient bool) (objs []Object, unknown ValidationErrors, err error) {
	r := &reader{object: "object " + strconv.Itoa(nth), lenient: lenient}
	top := r.fields(tree, "")
	apiVersion, kind := top.str("apiVersion"), top.str("kind")
	if len(r.errs) > 0 {
		return nil, nil, r.errs
	}
	if kind == "List" || strings.HasSuffix(kind, "List") && top.has("items") {
		if !listAllowed {
			r.fail("kind", "must not be a list inside a list", kind)
			return nil, nil, r.errs
		}
		var errs []error
		for i, item := range top.list("items") {
			found, more, err := decodeTree(item, nth+i, false, lenient)
			objs, unknown = append(objs, found...), append(unknown, more...)
			if err != nil {
				errs = append(errs, err)
			}
		}
		return objs, unknown, errors.Join(append(errs, r.err())...)
	}

	obj := top.manifest(kind, apiVersion)
	// Reading stops at the form: a field of the wrong type would break a rule
	// as well, and would be told twice.
	if len(r.errs) > 0 {
		return nil, r.unknown, r.errs
	}
	obj.SetDefaults()
	if err := obj.Validate(); err != nil {
		return nil, r.unknown, err
	}
	return []Object{obj}, r.unknown, nil
}

// manifest reads an object of a kind. That there is none such is an error of f.
func (f fields) manifest(kind, apiVersion string) Object {
	versions, ok := apiVersions[kind]
	switch {
	case !ok:
		f.fail("kind", "must be one of InferencePool, InferenceModel, InferenceObjective and InferenceModelRewrite", apiVersion+" "+kind)
		return nil
	case !slices.Contains(versions, apiVersion):
		f.fail("apiVersion", "of "+kind+" must be one of "+strings.Join(versions, ", "), apiVersion)
		return nil
	}
	switch kind {
	case kindModel:
		return f.model()
	case kindObjective:
		return f.objective()
	case kindRewrite:
		return f.rewrite()
	}
	if slices.Contains(poolVersionsV1, apiVersion) {
		return f.pool()
	}
	return f.poolAlpha()
}

// reader collects what is wrong with the form of an object.
type reader struct {
	object  string
	errs    ValidationErrors
	lenient bool
	unknown ValidationErrors // fields, if lenient; otherwise they are errs
}

func (r *reader) fail(path, rule string, value any) {
	r.errs = append(r.errs, &FieldError{Object: r.object, Field: path, Rule: rule, Value: value})
}

func (r *reader) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs
}

// fields is one JSON object being read. Getters return the zero value for a
// field that is not there, and note one that has the wrong type.
type fields struct {
	*reader
	path string
	m    map[string]any
	read map[string]bool
}

func (r *reader) fields(v any, path string) fields {
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		r.fail(path, "must be an object", v)
	}
	return fields{r, path, m, make(map[string]bool)}
}

func (f fields) get(name string) any {
	f.read[name] = true
	return f.m[name]
}

func (f fields) has(name string) bool { return f.get(name) != nil }

func (f fields) str(name string) string {
	v := f.get(name)
	s, ok := v.(string)
	if !ok && v != nil {
		f.fail(join(f.path, name), "must be a string", v)
	}
	return s
}

func (f fields) integer(name string, low, high int64) (n int64, ok bool) {
	v := f.get(name)
	if v == nil {
		return 0, false
	}
	number, _ := v.(json.Number)
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil || n < low || n > high {
		f.fail(join(f.path, name), fmt.Sprintf("must be an integer from %d to %d", low, high), v)
		return 0, false
	}
	return n, true
}

// int32 reads a number of which the rules are checked later, by Validate.
func (f fields) int32(name string) *int32 {
	n, ok := f.integer(name, math.MinInt32, math.MaxInt32)
	if !ok {
		return nil
	}
	n32 := int32(n)
	return &n32
}

func (f fields) time(name string) time.Time {
	s := f.str(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	t = t.UTC()
	// In UTC the year may leave what RFC 3339 can write.
	if err != nil || t.Year() < 0 || t.Year() > 9999 {
		f.fail(join(f.path, name), "must be a time in RFC 3339", s)
		return time.Time{}
	}
	return t
}

func (f fields) object(name string) fields {
	return f.reader.fields(f.get(name), join(f.path, name))
}

func (f fields) list(name string) []any {
	v := f.get(name)
	list, ok := v.([]any)
	if !ok && v != nil {
		f.fail(join(f.path, name), "must be a list", v)
	}
	return list
}

// each calls fn for each object in the list.
func (f fields) each(name string, fn func(fields)) {
	for i, item := range f.list(name) {
		at := index(join(f.path, name), i)
		if item == nil {
			f.fail(at, "must be an object", nil)
			continue
		}
		fn(f.reader.fields(item, at))
	}
}

func (f fields) stringMap(name string) map[string]string {
	obj := f.object(name)
	if len(obj.m) == 0 {
		return nil
	}
	m := make(map[string]string, len(obj.m))
	for _, key := range slices.Sorted(maps.Keys(obj.m)) {
		s, ok := obj.m[key].(string)
		if !ok {
			f.fail(keyed(obj.path, key), "must be a string", obj.m[key])
		}
		m[key] = s
	}
	return m
}

// done notes the fields that nobody has read. Those that somebody asked for are the
// ones that there may be.
func (f fields) done() {
	for _, name := range slices.Sorted(maps.Keys(f.m)) {
		if f.read[name] {
			continue
		}
		e := &FieldError{
			Object: f.reader.object, Field: join(f.path, name), Rule: "is not a field of this object", Value: f.m[name],
			Known: strings.Join(slices.Sorted(maps.Keys(f.read)), ", "),
		}
		if f.lenient {
			f.unknown = append(f.unknown, e)
		} else {
			f.errs = append(f.errs, e)
		}
	}
}

// meta reads the metadata and from then on errors bear the object's name.
func (f fields) meta() ObjectMeta {
	m := f.object("metadata")
	meta := ObjectMeta{Name: m.str("name"), Namespace: m.str("namespace")}
	if meta.Namespace == "" {
		meta.Namespace = DefaultNamespace
	}
	f.reader.object = describe(f.m["kind"].(string), &meta)
	for _, e := range f.errs {
		e.Object = f.reader.object
	}
	meta.CreationTimestamp = m.time("creationTimestamp")
	meta.Labels = m.stringMap("labels")
	meta.Annotations = m.stringMap("annotations")
	return meta
}

// finish reads over the status if there is one that has not been read, and
// closes the object.
func (f fields) finish() {
	f.read["status"] = true
	f.done()
}

func (f fields) pool() *InferencePool {
	p := &InferencePool{ObjectMeta: f.meta()}
	spec := f.object("spec")
	selector := spec.object("selector")
	p.Spec.Selector.MatchLabels = selector.stringMap("matchLabels")
	selector.done()
	spec.each("targetPorts", func(port fields) {
		p.Spec.TargetPorts = append(p.Spec.TargetPorts, port.port())
		port.done()
	})
	p.Spec.AppProtocol = spec.str("appProtocol")
	if spec.has("endpointPickerRef") {
		ref := spec.object("endpointPickerRef")
		picker := &EndpointPickerRef{
			Group: ref.str("group"), Kind: ref.str("kind"), Name: ref.str("name"),
			FailureMode: FailureMode(ref.str("failureMode")),
		}
		if ref.has("port") {
			port := ref.object("port")
			number := port.port()
			picker.Port = &number
			port.done()
		}
		p.Spec.EndpointPickerRef = picker
		ref.done()
	}
	spec.done()
	f.object("status").each("parents", func(parent fields) {
		ref := parent.object("parentRef")
		p.Status.Parents = append(p.Status.Parents, ParentStatus{
			ParentRef: ParentRef{
				Group: ref.str("group"), Kind: ref.str("kind"),
				Name: ref.str("name"), Namespace: ref.str("namespace"),
			},
			ControllerName: parent.str("controllerName"),
			Conditions:     parent.conditions(),
		})
	})
	f.finish()
	return p
}

func (f fields) port() Port {
	n := f.int32("number")
	if n == nil {
		return Port{}
	}
	return Port{*n}
}

// poolAlpha reads the v1alpha2 form: a flat selector, one port, extensionRef.
func (f fields) poolAlpha() *InferencePool {
	p := &InferencePool{ObjectMeta: f.meta()}
	spec := f.object("spec")
	p.Spec.Selector.MatchLabels = spec.stringMap("selector")
	if n := spec.int32("targetPortNumber"); n != nil {
		p.Spec.TargetPorts = []Port{{*n}}
	}
	if spec.has("extensionRef") {
		ref := spec.object("extensionRef")
		picker := &EndpointPickerRef{
			Group: ref.str("group"), Kind: ref.str("kind"), Name: ref.str("name"),
			FailureMode: FailureMode(ref.str("failureMode")),
			Port:        &Port{DefaultPickerPort},
		}
		if n := ref.int32("portNumber"); n != nil {
			picker.Port = &Port{*n}
		}
		p.Spec.EndpointPickerRef = picker
		ref.done()
	}
	spec.done()
	f.object("status").each("parent", func(parent fields) {
		ref := parent.object("parentRef")
		// An ObjectReference has group and version in one.
		group, _, ok := strings.Cut(ref.str("apiVersion"), "/")
		if !ok {
			group = ""
		}
		p.Status.Parents = append(p.Status.Parents, ParentStatus{
			ParentRef: ParentRef{
				Group: group, Kind: ref.str("kind"),
				Name: ref.str("name"), Namespace: ref.str("namespace"),
			},
			Conditions: parent.conditions(),
		})
	})
	f.finish()
	return p
}

func (f fields) model() *InferenceModel {
	m := &InferenceModel{ObjectMeta: f.meta()}
	spec := f.object("spec")
	m.Spec.ModelName = spec.str("modelName")
	m.Spec.Criticality = Criticality(spec.str("criticality"))
	spec.each("targetModels", func(target fields) {
		m.Spec.TargetModels = append(m.Spec.TargetModels, TargetModel{
			Name: target.str("name"), Weight: target.int32("weight"),
		})
		target.done()
	})
	m.Spec.PoolRef = spec.poolRef("poolRef")
	spec.done()
	m.Status.Conditions = f.object("status").conditions()
	f.finish()
	return m
}

func (f fields) objective() *InferenceObjective {
	o := &InferenceObjective{ObjectMeta: f.meta()}
	spec := f.object("spec")
	if n, ok := spec.integer("priority", math.MinInt, math.MaxInt); ok {
		priority := int(n)
		o.Spec.Priority = &priority
	}
	if spec.has("poolRef") {
		o.Spec.PoolRef = spec.poolRef("poolRef")
	}
	spec.each("poolRefs", func(ref fields) { o.Spec.PoolRefs = append(o.Spec.PoolRefs, ref.asPoolRef()) })
	if spec.has("poolSelector") {
		o.Spec.PoolSelector = spec.object("poolSelector").poolSelector()
	}
	spec.done()
	o.Status.Conditions = f.object("status").conditions()
	f.finish()
	return o
}

func (f fields) rewrite() *InferenceModelRewrite {
	w := &InferenceModelRewrite{ObjectMeta: f.meta()}
	spec := f.object("spec")
	w.Spec.PoolRef = spec.poolRef("poolRef")
	spec.each("rules", func(rule fields) {
		var out RewriteRule
		rule.each("matches", func(match fields) {
			model := match.object("model")
			out.Matches = append(out.Matches, RewriteMatch{Model: ModelMatch{
				Type: MatchType(model.str("type")), Value: model.str("value"),
			}})
			model.done()
			match.done()
		})
		rule.each("targets", func(target fields) {
			out.Targets = append(out.Targets, RewriteTarget{
				ModelRewrite: target.str("modelRewrite"), Weight: target.int32("weight"),
			})
			target.done()
		})
		rule.done()
		w.Spec.Rules = append(w.Spec.Rules, out)
	})
	spec.done()
	w.Status.Conditions = f.object("status").conditions()
	f.finish()
	return w
}

func (f fields) poolRef(name string) PoolRef { return f.object(name).asPoolRef() }

func (f fields) asPoolRef() PoolRef {
	defer f.done()
	return PoolRef{Group: f.str("group"), Kind: f.str("kind"), Name: f.str("name")}
}

func (f fields) poolSelector() *PoolSelector {
	s := &PoolSelector{MatchLabels: f.stringMap("matchLabels")}
	f.each("matchExpressions", func(e fields) {
		s.MatchExpressions = append(s.MatchExpressions, LabelExpression{
			Key: e.str("key"), Operator: LabelOperator(e.str("operator")), Values: e.strings("values"),
		})
		e.done()
	})
	f.done()
	return s
}

func (f fields) strings(name string) []string {
	var out []string
	for i, v := range f.list(name) {
		s, ok := v.(string)
		if !ok {
			f.fail(index(join(f.path, name), i), "must be a string", v)
		}
		out = append(out, s)
	}
	return out
}

func (f fields) conditions() []Condition {
	var out []Condition
	f.each("conditions", func(c fields) {
		generation, _ := c.integer("observedGeneration", math.MinInt64, math.MaxInt64)
		out = append(out, Condition{
			Type: c.str("type"), Status: ConditionStatus(c.str("status")),
			ObservedGeneration: generation, LastTransitionTime: c.time("lastTransitionTime"),
			Reason: c.str("reason"), Message: c.str("message"),
		})
	})
	return out
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func keyed(path, key string) string { return path + "[" + strconv.Quote(key) + "]" }
