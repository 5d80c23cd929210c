package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/datastore"
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

// Versions of those that are not of package types.
const (
	pickerVersion    = "inference.networking.x-k8s.io/v1alpha1"
	pickerVersionOld = "config.x-k8s.io/v1alpha1"
	staticVersion    = "inferpick.io/v1alpha1"
)

// kindInfo is a kind with its versions.
type kindInfo struct {
	name     string
	versions []string
}

// kinds are all kinds in the order they are told in.
var kinds = []kindInfo{
	{kindPool, []string{types.GroupGA + "/v1", types.GroupX + "/v1alpha2"}},
	{kindModel, []string{types.GroupX + "/v1alpha2"}},
	{kindObjective, []string{types.GroupX + "/v1alpha2"}},
	{kindRewrite, []string{types.GroupX + "/v1alpha2"}},
	{kindPicker, []string{pickerVersion, pickerVersionOld}},
	{kindStatic, []string{staticVersion}},
}

// builder makes a Config of documents.
type builder struct {
	problems
	config *Config
	at     place  // of the document under way
	item   string // "items[3]: " in a list

	seen    map[identity]place
	pools   []*types.InferencePool
	pickers []*pickerConfig
	statics []*staticEndpoints
	broken  bool // something that is wrong may have been a pool
}

// identity is what no two objects may share.
type identity struct {
	kind string
	name types.NamespacedName
}

func (l Loader) parse(path string, files []file) (*Config, error) {
	b := builder{
		config: &Config{
			Change:   datastore.Change{OnlyObjects: true, Endpoints: make(map[types.NamespacedName][]datastore.EndpointSpec)},
			registry: l.Registry,
			pools:    make(map[types.NamespacedName]*scheduler),
		},
		seen: make(map[identity]place),
	}
	if b.config.registry == nil {
		b.config.registry = plugins.NewRegistry()
	}
	for _, f := range files {
		docs, syntax := documents(f.data, f.isJSON())
		for _, d := range docs {
			b.document(f.name, &d)
		}
		if syntax != nil {
			b.broken = true
			b.add(place{file: f.name, line: syntax.line}, syntax.err)
		}
	}
	if !b.broken {
		b.connect(path)
	}
	if b.any() {
		return nil, b.err()
	}
	return b.config, nil
}

func (b *builder) document(name string, d *document) {
	b.at, b.item = place{name, d.number, d.line}, ""
	data, syntax := d.toJSON()
	for _, e := range syntax {
		at := b.at
		if e.line > 0 {
			at = place{file: name, line: e.line}
		}
		b.add(at, e.err)
	}
	if len(syntax) > 0 {
		b.broken = true
		return
	}
	if data == nil {
		return
	}
	tree, err := parseTree(data)
	if err != nil {
		b.broken = true
		b.add(b.at, err)
		return
	}
	b.value(tree, true)
}

// value takes one object, or a list of them.
func (b *builder) value(tree any, listAllowed bool) {
	var r reader
	top := r.fields(tree, "the document")
	top.path = ""
	kind, version := top.need("kind"), top.need("apiVersion")
	if tree == nil {
		r.errs = []error{errors.New("is empty")}
	}
	isList := kind == "List" || strings.HasSuffix(kind, "List") && top.has("items")
	switch {
	case len(r.errs) > 0 && !isList:
		b.broken = true
		b.fail(r.errs...)
	case isList && !listAllowed:
		b.fail(errors.New("kind must not be a list inside a list"))
	case isList:
		var items reader
		for i, item := range (fields{&items, "", top.m, top.read}).list("items") {
			b.item = index("items", i) + ": "
			b.value(item, false)
		}
		b.item = ""
		b.fail(items.errs...)
	default:
		b.object(top, kind, version)
	}
}

// object takes one object that is no list.
func (b *builder) object(top fields, kind, version string) {
	i := slices.IndexFunc(kinds, func(k kindInfo) bool { return k.name == kind })
	if i < 0 {
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = k.name
		}
		b.fail(fmt.Errorf("kind %s is unknown; known are %s and List", show(kind), strings.Join(names, ", ")))
		return
	}
	if !slices.Contains(kinds[i].versions, version) {
		b.broken = b.broken || kind == kindPool
		b.fail(fmt.Errorf("%s: apiVersion %s is unknown; known are %s", kind, show(version), strings.Join(kinds[i].versions, ", ")))
		return
	}
	switch kind {
	case kindPicker:
		b.picker(top)
	case kindStatic:
		b.static(top)
	default:
		b.manifest(top, kind)
	}
}

// manifest takes an object of package types.
func (b *builder) manifest(top fields, kind string) {
	data, err := json.Marshal(top.m)
	if err != nil {
		b.fail(err)
		return
	}
	obj, err := types.DecodeManifest(data)
	if err != nil {
		b.broken = b.broken || kind == kindPool
		b.fail(manifestErrors(err)...)
		return
	}
	if !b.unique(kind, obj.Key()) {
		return
	}
	b.config.Change.Objects = append(b.config.Change.Objects, obj)
	if p, ok := obj.(*types.InferencePool); ok {
		b.pools = append(b.pools, p)
	}
}

// fail notes what is wrong with the object under way.
func (b *builder) fail(errs ...error) {
	for _, err := range errs {
		if b.item != "" {
			err = fmt.Errorf("%s%w", b.item, err)
		}
		b.add(b.at, err)
	}
}

// failAt notes what is wrong with an object that was read before.
func (b *builder) failAt(o origin, err error) { b.add(o.place, fmt.Errorf("%s%w", o.prefix, err)) }

// origin is where an object that is used later was read, and the beginning of
// what is said of it: items[3]: StaticEndpoints default/a:
type origin struct {
	place
	prefix string
}

func (b *builder) origin(object string) origin { return origin{b.at, b.item + object + ": "} }

// unique reports whether no other object has the name, and notes it if one has.
func (b *builder) unique(kind string, name types.NamespacedName) bool {
	id := identity{kind, name}
	if first, dup := b.seen[id]; dup {
		b.fail(fmt.Errorf("%s %s is there twice, first at %s", kind, name, first))
		return false
	}
	b.seen[id] = b.at
	return true
}

// connect is what can be done when all objects are known. All that could be
// pools were good.
func (b *builder) connect(path string) {
	if len(b.pools) == 0 {
		if !b.any() {
			b.add(place{file: path}, errors.New("there is no InferencePool; at least one is required"))
		}
		return
	}
	for _, p := range b.pools {
		b.config.pools[p.Key()] = nil
		b.config.Change.Endpoints[p.Key()] = nil
	}
	b.connectPickers()
	b.connectStatics()
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
	if group := ref.str("group"); group != "" && group != types.GroupX && group != types.GroupGA {
		ref.errorf("%s must be one of %s, %s, got %s", ref.at("group"), types.GroupX, types.GroupGA, show(group))
	}
	if kind := ref.str("kind"); kind != "" && kind != kindPool {
		ref.errorf("%s must be %s, got %s", ref.at("kind"), kindPool, show(kind))
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
