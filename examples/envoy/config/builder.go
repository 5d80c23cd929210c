package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
)

// Kinds of documents.
const (
	kindPool      = "InferencePool"
	kindModel     = "InferenceModel"
	kindObjective = "InferenceObjective"
	kindRewrite   = "InferenceModelRewrite"
	kindPicker    = "EndpointPickerConfig"
	kindStatic    = "StaticEndpoints"
)

// Versions of those that are not of package types, the usual one first.
var (
	pickerVersions = versionsOf("v1alpha1 v1alpha2 v1", types.GroupX, types.GroupLLMD, "config.x-k8s.io",
		"config.apix.gateway-api-inference-extension.sigs.k8s.io", types.GroupGA)
	staticVersions = []string{"inferpick.io/v1alpha1"}
)

func versionsOf(versions string, groups ...string) []string {
	var out []string
	for _, group := range groups {
		for version := range strings.FieldsSeq(versions) {
			out = append(out, group+"/"+version)
		}
	}
	return out
}

// kindNames are all kinds in the order they are told in.
var kindNames = []string{kindPool, kindModel, kindObjective, kindRewrite, kindPicker, kindStatic}

// Kinds returns the kinds of objects that a configuration is made of.
func Kinds() []string { return slices.Clone(kindNames) }

// versionsOfKind returns the values of apiVersion that a kind may have.
func versionsOfKind(kind string) []string {
	switch kind {
	case kindPicker:
		return pickerVersions
	case kindStatic:
		return staticVersions
	}
	return types.APIVersions(kind)
}

// builder makes a Config of documents.
type builder struct {
	Loader
	config   *Config
	previous *Config // in force; nil: none
	under    origin  // of the object under way

	seen    map[identity]place
	unnamed map[string]int  // pickers without a name, by file
	unsure  map[string]bool // files of which it is not known what some of them was to be
	pickers []*pickerConfig
	statics []*staticEndpoints
}

// identity is what no two objects may share.
type identity struct {
	kind  string
	name  types.NamespacedName
	where string // tells those apart that have no name
}

// object is one that is in force.
type object struct {
	place
	id       identity
	manifest types.Object     // nil, or
	picker   *pickerConfig    // nil, or
	static   *staticEndpoints // nil
}

func (l Loader) parse(path string, files []file, previous *Config) (*Config, error) {
	b := newBuilder(l, previous)
	for _, f := range files {
		b.file(f)
	}
	b.keep()
	b.connect()
	if err := b.verdict(path); err != nil {
		return nil, err
	}
	return b.config, nil
}

func newBuilder(l Loader, previous *Config) *builder {
	if l.Registry == nil {
		l.Registry = plugins.NewRegistry()
	}
	return &builder{
		Loader: l,
		config: &Config{
			Change:  datastore.Change{OnlyObjects: !l.PoolsElsewhere, Endpoints: make(map[types.NamespacedName][]datastore.EndpointSpec)},
			Skipped: make(map[string]int),
			pools:   make(map[types.NamespacedName]bool),
		},
		previous: previous,
		seen:     make(map[identity]place),
		unnamed:  make(map[string]int),
		unsure:   make(map[string]bool),
	}
}

func (b *builder) file(f file) {
	if f.err != nil {
		b.rejectUnknown(origin{place: place{file: f.name}}, "", f.err)
		return
	}
	docs, syntax := documents(f.data, f.isJSON())
	for i := range docs {
		b.document(f.name, &docs[i])
	}
	if syntax != nil {
		b.rejectUnknown(origin{place: place{file: f.name, line: syntax.line}}, "", syntax.err)
	}
}

func (b *builder) document(name string, d *document) {
	b.under = origin{place: place{file: name, document: d.number, line: d.line}, within: b.under.within, lines: &lineIndex{text: d.text, start: d.start}}
	data, syntax := d.toJSON()
	if len(syntax) > 0 {
		b.unreadable(d, syntax)
		return
	}
	if data == nil {
		return
	}
	tree, err := parseTree(data, d.start)
	if err != nil {
		b.rejectUnknown(b.under, kindIn(d.text), err)
		return
	}
	b.value(tree, true)
}

// unreadable leaves out a document that is no YAML.
func (b *builder) unreadable(d *document, syntax []syntaxError) {
	errs := make([]error, len(syntax))
	for i, e := range syntax {
		at := b.under.place
		if e.line > 0 {
			at = place{file: at.file, line: e.line}
		}
		errs[i] = &Error{at.file, at.document, at.line, at.column, e.err}
	}
	b.unsure[b.under.file] = true
	b.config.Rejected = append(b.config.Rejected, &Rejected{
		File: b.under.file, Document: d.number, Line: d.line, Kind: kindIn(d.text), Err: errors.Join(errs...),
	})
}

var kindLine = regexp.MustCompile(`(?m)^[ \t]*["']?kind["']?[ \t]*:[ \t]*["']?([A-Za-z]+)`)

// kindIn guesses which of our kinds a document is of that cannot be read. Empty: none,
// or it cannot be told.
func kindIn(text []byte) string {
	for _, m := range kindLine.FindAllSubmatch(text, -1) {
		if slices.Contains(kindNames, string(m[1])) {
			return string(m[1])
		}
	}
	return ""
}

// value takes one object, or a list of them.
func (b *builder) value(tree any, listAllowed bool) {
	if _, ok := tree.(map[string]any); !ok {
		e := &check.Error{Value: tree, Want: "an object"}
		if b.under.item != "" {
			e.Problem = "is " + check.Show(tree) + ", want an object"
		}
		b.rejectUnknown(b.under, "", e)
		return
	}
	r := reader{strict: b.Strict}
	top := r.fields(tree, "")
	kind, version := top.need("kind"), top.need("apiVersion")
	isList := kind == "List" || strings.HasSuffix(kind, "List") && top.has("items")
	switch {
	case r.Len() > 0 && !isList:
		b.rejectUnknown(b.under, kind, r.Err())
	case isList && !listAllowed:
		b.rejectUnknown(b.under, kind, &check.Error{Field: "kind", Value: kind, Want: "another than a list inside a list"})
	case isList:
		var items reader
		for i, item := range (fields{&items, "", top.m, top.read}).list("items") {
			b.under.item = index("items", i)
			b.value(item, false)
		}
		b.under.item = ""
		if items.Len() > 0 {
			b.rejectUnknown(b.under, kind, items.Err())
		}
	default:
		b.object(top, kind, version)
	}
}

// object takes one object that is no list.
func (b *builder) object(top fields, kind, version string) {
	if !slices.Contains(kindNames, kind) {
		b.foreign(top, kind)
		return
	}
	if versions := versionsOfKind(kind); !slices.Contains(versions, version) {
		b.reject(b.under, b.identify(top, kind), fmt.Errorf("%s: apiVersion is %s, which is unknown%s; known are %s",
			kind, check.Show(version), nearestOf(version, versions), list(versions)))
		return
	}
	switch {
	case kind == kindPicker:
		b.picker(top)
	case b.PoolsElsewhere:
		b.reject(b.under, b.identify(top, kind), fmt.Errorf("%s: it has no effect here: all but %s comes from the cluster", kind, kindPicker))
	case kind == kindStatic:
		b.static(top)
	default:
		b.manifest(top, kind)
	}
}

// foreign takes an object of a kind that is not ours: it is read over, unless it looks
// like one that was meant to be. Files of the Inference Extension have their policy in a
// ConfigMap, from which another one than was meant would be in force without a word.
func (b *builder) foreign(top fields, kind string) {
	near := check.Nearest(kind, kindNames)
	if near != "" && check.Distance(strings.ToLower(kind), strings.ToLower(near)) <= 2 {
		b.rejectUnknown(b.under, kind, fmt.Errorf("kind is %s, which is unknown; the nearest is %s; known are %s and List", check.Show(kind), near, list(kindNames)))
		return
	}
	b.config.Skipped[check.Shorten(kind)]++
	eachText(top.m, "", func(path, text string) {
		if kindIn([]byte(text)) == kindPicker {
			b.warn(b.under, path, check.Shorten(kind)+": "+path+" holds an EndpointPickerConfig, which is not read from there: it has to be in a file of its own")
		}
	})
}

// identify reads what an object is called, of which nothing else need be good.
func (b *builder) identify(top fields, kind string) identity {
	m, _ := top.m["metadata"].(map[string]any)
	name, _ := m["name"].(string)
	namespace, _ := m["namespace"].(string)
	return b.identity(kind, types.NamespacedName{Namespace: namespace, Name: name})
}

func (b *builder) identity(kind string, name types.NamespacedName) identity {
	if name.Name == "" {
		return identity{kind: kind, where: fmt.Sprintf("%s %d", b.under.file, b.unnamed[b.under.file])}
	}
	return identity{kind: kind, name: withNamespace(name)}
}

// manifest takes an object of package types.
func (b *builder) manifest(top fields, kind string) {
	id := b.identify(top, kind)
	data, err := json.Marshal(top.m)
	if err != nil {
		b.reject(b.under, id, err)
		return
	}
	decode := types.DecodeManifestLenient
	if b.Strict {
		decode = func(data []byte) (types.Object, types.ValidationErrors, error) {
			obj, err := types.DecodeManifest(data)
			return obj, nil, err
		}
	}
	obj, unknown, err := decode(data)
	for _, e := range unknown {
		b.warn(b.under, e.Field, e.Text()+"; it has no effect")
	}
	if err != nil {
		b.reject(b.under, id, manifestErrors(err))
		return
	}
	if before := b.previous.find(id); before != nil {
		if err := obj.ValidateUpdate(before.manifest); err != nil {
			b.reject(b.under, id, manifestErrors(err))
			return
		}
	}
	b.accept(b.under, &object{id: id, manifest: obj})
}

// accept takes a good object, unless there is one of its name already.
func (b *builder) accept(o origin, obj *object) {
	if first, dup := b.seen[obj.id]; dup {
		o.object = labelled(obj.id.kind, obj.id.name)
		b.reject(o, obj.id, fmt.Errorf("is there twice, first at %s", first))
		return
	}
	obj.place = o.begins()
	b.seen[obj.id] = obj.place
	b.add(obj)
}

// add puts an object in force.
func (b *builder) add(obj *object) {
	b.config.objects = append(b.config.objects, obj)
	switch {
	case obj.picker != nil:
		b.pickers = append(b.pickers, obj.picker)
		b.config.LegacyMetrics = b.config.LegacyMetrics || obj.picker.legacy
	case obj.static != nil:
		b.statics = append(b.statics, obj.static)
	default:
		b.config.Change.Objects = append(b.config.Change.Objects, obj.manifest)
	}
}

// reject leaves out an object.
func (b *builder) reject(o origin, id identity, err error) *Rejected {
	r := &Rejected{File: o.file, Document: o.document, Line: o.begins().line, Kind: id.kind, Name: id.name, Err: o.faults(check.From(err)), id: id}
	b.config.Rejected = append(b.config.Rejected, r)
	return r
}

// rejectUnknown leaves out what cannot be read so far that it would be known what it was
// to be. kind is what it seems to be.
func (b *builder) rejectUnknown(o origin, kind string, err error) {
	b.unsure[o.file] = true
	b.reject(o, identity{kind: kind}, err)
}

func (b *builder) warn(o origin, field, text string) {
	b.config.Warnings = append(b.config.Warnings, o.warning(field, text))
}

// keep puts in force again what was so before and cannot be replaced, because what was to
// replace it was left out.
func (b *builder) keep() {
	if b.previous == nil {
		return
	}
	kept := make(map[string]bool) // files
	for _, before := range b.previous.objects {
		if _, there := b.seen[before.id]; there {
			continue
		}
		i := slices.IndexFunc(b.config.Rejected, func(r *Rejected) bool { return r.id == before.id })
		if i < 0 && !b.unsure[before.file] {
			continue // it was taken away
		}
		if i >= 0 {
			b.config.Rejected[i].Kept = true
		} else {
			kept[before.file] = true
		}
		b.seen[before.id] = before.place
		b.add(before)
	}
	for _, r := range b.config.Rejected {
		r.Kept = r.Kept || r.id.name.Name == "" && r.id.where == "" && kept[r.File]
	}
}

// connect is what can be done when all objects are known.
func (b *builder) connect() {
	for _, o := range b.config.Change.Objects {
		if p, ok := o.(*types.InferencePool); ok {
			b.config.pools[p.Key()] = true
			b.config.Change.Endpoints[p.Key()] = nil
		}
	}
	if b.poolless() {
		return
	}
	b.connectPickers()
	b.connectStatics()
}

// poolless reports whether there is no pool although there must be.
func (b *builder) poolless() bool { return len(b.config.pools) == 0 && !b.PoolsElsewhere }

// verdict returns why the configuration cannot be put in force at all: there would be no
// pool, or an EndpointPickerConfig is bad and there is none before to go on with.
func (b *builder) verdict(path string) error {
	var errs []error
	stop := b.poolless()
	for _, r := range b.config.Rejected {
		errs = append(errs, r.Err)
		stop = stop || r.Kind == kindPicker && b.previous == nil && !r.follows
	}
	switch {
	case !stop:
		for _, p := range b.pickers {
			p.lines = nil
		}
		for _, s := range b.statics {
			s.lines = nil
		}
		return nil
	case len(errs) == 0:
		return &Error{File: path, Err: errors.New("there is no InferencePool; at least one is required")}
	}
	return joined(errs)
}

// metadata reads the name and namespace of an object that is not of package
// types. All else in it is read over, as Kubernetes writes a lot there.
func metadata(top fields, required bool) types.NamespacedName {
	m := top.object("metadata")
	name := types.NamespacedName{Namespace: m.str("namespace")}
	if required {
		name.Name = m.need("name")
	} else {
		name.Name = m.str("name")
	}
	return name
}

// poolRef reads a reference to a pool; zero if there is none. namespace is where
// the pool is if the reference does not say it.
func poolRef(f fields, namespace string) types.NamespacedName {
	if !f.has("poolRef") {
		return types.NamespacedName{}
	}
	ref := f.object("poolRef")
	groups := []string{types.GroupX, types.GroupGA, types.GroupLLMD}
	if group := ref.str("group"); group != "" && !slices.Contains(groups, group) {
		ref.Want(false, ref.at("group"), group, "one of %s", list(groups))
	}
	if kind := ref.str("kind"); kind != "" && kind != kindPool {
		ref.Want(false, ref.at("kind"), kind, "%s", kindPool)
	}
	pool := types.NamespacedName{Namespace: ref.str("namespace"), Name: ref.need("name")}
	if pool.Namespace == "" {
		pool.Namespace = namespace
	}
	ref.done()
	return withNamespace(pool)
}

// labelled is an object's name for errors: its kind, and its name if it has one.
func labelled(kind string, name types.NamespacedName) string {
	if name.Name == "" {
		return kind
	}
	return kind + " " + withNamespace(name).String()
}
