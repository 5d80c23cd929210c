package fakeapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// object is a JSON object. Those that are stored are never changed in place.
type object = map[string]any

// change is what happened to an object, or a bookmark.
type change struct {
	revision int64
	resource Resource
	bookmark bool
	old, new object // nil: there was none, there is none
}

// Object decodes a JSON object. It panics if that is none.
func Object(text string) map[string]any {
	var o object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(fmt.Sprintf("fakeapi: %v in %s", err, text))
	}
	return o
}

// Apply creates or replaces objects, status included. Objects without namespace are put into
// default. It panics if the server does not serve the kind.
func (s *Server) Apply(objects ...map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range objects {
		r := s.kindLocked(o)
		o = clone(o)
		if namespace, _ := text(o, "metadata", "namespace"); namespace == "" {
			meta(o)["namespace"] = "default"
		}
		s.putLocked(r, o)
	}
	s.wakeLocked()
}

// Delete removes an object, and reports whether it existed.
func (s *Server) Delete(r Resource, namespace, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.resources[r][namespace+"/"+name]
	if ok {
		s.removeLocked(r, o)
		s.wakeLocked()
	}
	return ok
}

// Terminate marks an object as being deleted, as a pod is while it stops.
func (s *Server) Terminate(r Resource, namespace, name string) {
	s.Change(r, namespace, name, func(o map[string]any) {
		meta(o)["deletionTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	})
}

// Change changes an object in place. It panics if there is none.
func (s *Server) Change(r Resource, namespace, name string, change func(map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.resources[r][namespace+"/"+name]
	if !ok {
		panic("fakeapi: no " + r.Kind + " " + namespace + "/" + name)
	}
	o = clone(o)
	change(o)
	s.putLocked(r, o)
	s.wakeLocked()
}

// Get returns a copy of an object, or nil.
func (s *Server) Get(r Resource, namespace, name string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.resources[r][namespace+"/"+name]; o != nil {
		return clone(o)
	}
	return nil
}

// List returns copies of all objects of a resource, by namespace and name.
func (s *Server) List(r Resource) (out []map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.selectLocked(r, filter{labels: labels.Everything(), fields: fields.Everything()}) {
		out = append(out, clone(o))
	}
	return out
}

// History returns copies of all versions that an object has had, and nil for each time that it was deleted, as far as
// the server has not forgotten them (Expire).
func (s *Server) History(r Resource, namespace, name string) (out []map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.log {
		switch {
		case c.bookmark || c.resource != r:
		case c.new != nil && keyOf(c.new) == namespace+"/"+name:
			out = append(out, clone(c.new))
		case c.new == nil && keyOf(c.old) == namespace+"/"+name:
			out = append(out, nil)
		}
	}
	return out
}

func (s *Server) kindLocked(o object) Resource {
	version, _ := text(o, "apiVersion")
	kind, _ := text(o, "kind")
	for r := range s.resources {
		if r.GroupVersion() == version && r.Kind == kind {
			return r
		}
	}
	panic("fakeapi: " + version + " " + kind + " is not served")
}

// putLocked stores o, which it takes over, with the metadata that a server fills in. Caller
// must hold s.mu.
func (s *Server) putLocked(r Resource, o object) object {
	key := keyOf(o)
	old := s.resources[r][key]
	s.revision++
	m := meta(o)
	m["resourceVersion"] = strconv.FormatInt(s.revision, 10)
	if old == nil {
		setDefault(m, "uid", "uid-"+strconv.FormatInt(s.revision, 10))
		setDefault(m, "creationTimestamp", time.Now().UTC().Format(time.RFC3339))
		setDefault(m, "generation", float64(1))
	} else {
		was := meta(old)
		for _, field := range []string{"uid", "creationTimestamp", "generation"} {
			setDefault(m, field, was[field])
		}
		if !reflect.DeepEqual(old["spec"], o["spec"]) {
			m["generation"] = was["generation"].(float64) + 1
		}
	}
	s.resources[r][key] = o
	s.log = append(s.log, change{revision: s.revision, resource: r, old: old, new: o})
	return o
}

func (s *Server) removeLocked(r Resource, o object) {
	s.revision++
	last := clone(o)
	meta(last)["resourceVersion"] = strconv.FormatInt(s.revision, 10)
	delete(s.resources[r], keyOf(o))
	s.log = append(s.log, change{revision: s.revision, resource: r, old: last})
}

// filter chooses objects as the query of a list or watch does.
type filter struct {
	namespace string
	labels    labels.Selector
	fields    fields.Selector
}

func (f filter) matches(o object) bool {
	if o == nil {
		return false
	}
	namespace, _ := text(o, "metadata", "namespace")
	if f.namespace != "" && f.namespace != namespace {
		return false
	}
	name, _ := text(o, "metadata", "name")
	phase, _ := text(o, "status", "phase")
	set := make(labels.Set)
	given, _ := meta(o)["labels"].(object)
	for k, v := range given {
		set[k], _ = v.(string)
	}
	return f.labels.Matches(set) &&
		f.fields.Matches(fields.Set{"metadata.namespace": namespace, "metadata.name": name, "status.phase": phase})
}

// selectLocked returns the objects that match, by key. Caller must hold s.mu.
func (s *Server) selectLocked(r Resource, f filter) []object {
	var out []object
	for _, o := range s.resources[r] {
		if f.matches(o) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b object) int { return strings.Compare(keyOf(a), keyOf(b)) })
	return out
}

func keyOf(o object) string {
	namespace, _ := text(o, "metadata", "namespace")
	name, _ := text(o, "metadata", "name")
	return namespace + "/" + name
}

// meta returns the object's metadata, which it creates if needed.
func meta(o object) object {
	m, ok := o["metadata"].(object)
	if !ok {
		m = object{}
		o["metadata"] = m
	}
	return m
}

// text returns a string inside of o.
func text(o object, path ...string) (string, bool) {
	for _, field := range path[:len(path)-1] {
		o, _ = o[field].(object)
	}
	s, ok := o[path[len(path)-1]].(string)
	return s, ok
}

func setDefault(o object, field string, v any) {
	if o[field] == nil && v != nil {
		o[field] = v
	}
}

func clone(o object) object {
	data, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return Object(string(data))
}
