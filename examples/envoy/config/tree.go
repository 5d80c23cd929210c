package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

// parseTree turns one JSON value into maps, slices and leaves, with numbers as written; line
// is that of its begin. The error, a check.Errors, is that it is none, or has a name twice.
func parseTree(data []byte, line int) (any, error) {
	doc, err := strictjson.Parse(data, strictjson.Options{Line: line})
	if err != nil {
		return nil, err
	}
	return doc.Value()
}

// reader collects what is wrong with one object.
type reader struct {
	check.Checks
	// strict makes errors of fields that are not known, and else they are warned of.
	strict   bool
	warnings []string
}

func (r *reader) warnf(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// unknown notes a field that is not known, and those that there are instead. It reports
// whether the field may be read over.
func (r *reader) unknown(path, name string, known []string) bool {
	e := &check.Error{Field: path, Problem: "is not a field", Name: name, Known: known}
	if r.strict {
		r.Add("", e)
		return false
	}
	r.warnf("%s; it has no effect", e.Text())
	return true
}

// fields is one JSON object being read. Getters return the zero value for a
// field that is not there or null, and note one that has the wrong type.
type fields struct {
	*reader
	path string
	m    map[string]any
	read map[string]bool
}

func (r *reader) fields(v any, path string) fields {
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		r.Want(false, path, v, "an object")
	}
	return fields{r, path, m, make(map[string]bool)}
}

// at is the path of a field.
func (f fields) at(name string) string { return check.Join(f.path, name) }

func (f fields) get(name string) any {
	f.read[name] = true
	return f.m[name]
}

func (f fields) has(name string) bool { return f.get(name) != nil }

func (f fields) str(name string) string {
	v := f.get(name)
	s, ok := v.(string)
	if !ok && v != nil {
		f.Want(false, f.at(name), v, "%s", wantString(v))
	}
	return s
}

// need is str for a field that must be there.
func (f fields) need(name string) string {
	s := f.str(name)
	if v := f.m[name]; v == nil || v == "" {
		f.Failf(f.at(name), "is required")
	}
	return s
}

// number reads a number from low to high.
func (f fields) number(name string, low, high float64) (float64, bool) {
	v := f.get(name)
	if v == nil {
		return 0, false
	}
	n, _ := v.(json.Number)
	x, err := strconv.ParseFloat(string(n), 64)
	if err != nil || !(x >= low && x <= high) {
		f.Want(false, f.at(name), v, "%s", interval("a number", low, high))
		return 0, false
	}
	return x, true
}

// integer reads an integer from low to high.
func (f fields) integer(name string, low, high int) (int, bool) {
	v := f.get(name)
	if v == nil {
		return 0, false
	}
	n, _ := v.(json.Number)
	x, err := strconv.Atoi(string(n))
	if err != nil || x < low || x > high {
		f.Want(false, f.at(name), v, "%s", interval("an integer", float64(low), float64(high)))
		return 0, false
	}
	return x, true
}

func interval(what string, low, high float64) string {
	if high >= math.MaxInt32 {
		return fmt.Sprintf("%s of at least %.0f", what, low)
	}
	return fmt.Sprintf("%s from %g to %g", what, low, high)
}

func (f fields) unsigned(name string) uint64 {
	v := f.get(name)
	if v == nil {
		return 0
	}
	n, _ := v.(json.Number)
	x, err := strconv.ParseUint(string(n), 10, 64)
	if err != nil {
		f.Want(false, f.at(name), v, "an integer of at least 0")
	}
	return x
}

// duration reads a duration above 0.
func (f fields) duration(name string) time.Duration {
	s := f.str(name)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	f.Want(err == nil && d > 0, f.at(name), s, "a duration above 0 such as \"5s\"")
	return d
}

func (f fields) boolean(name string) bool {
	v := f.get(name)
	b, ok := v.(bool)
	if !ok && v != nil {
		f.Want(false, f.at(name), v, "true or false")
	}
	return b
}

func (f fields) object(name string) fields { return f.reader.fields(f.get(name), f.at(name)) }

func (f fields) list(name string) []any {
	v := f.get(name)
	list, ok := v.([]any)
	if !ok && v != nil {
		f.Want(false, f.at(name), v, "a list")
	}
	return list
}

// each calls fn for each object in the list.
func (f fields) each(name string, fn func(fields)) {
	for i, item := range f.list(name) {
		at := index(f.at(name), i)
		if _, ok := item.(map[string]any); !ok {
			f.Want(false, at, item, "an object")
			continue
		}
		fn(f.reader.fields(item, at))
	}
}

// done notes the fields that nobody has read. Those that somebody asked for are the ones
// that there may be.
func (f fields) done() {
	for _, name := range slices.Sorted(maps.Keys(f.m)) {
		if !f.read[name] {
			f.unknown(f.at(name), name, slices.Sorted(maps.Keys(f.read)))
		}
	}
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// wantString says that a string is wanted, and helps with what YAML takes for another type
// than was meant.
func wantString(v any) string {
	switch v.(type) {
	case map[string]any, []any, nil:
		return "a string"
	}
	return "a string; in YAML, write it in quotes"
}

// nearestOf says which of the known names is the nearest, if one is near.
func nearestOf(name string, known []string) string {
	if near := check.Nearest(name, known); near != "" {
		return "; the nearest is " + near
	}
	return ""
}
