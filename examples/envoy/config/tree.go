package config

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
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document, as that of manifests is.
const maxDepth = 64

// parseTree turns one JSON value into maps, slices and leaves. Other than
// json.Unmarshal it keeps numbers as written and refuses repeated names.
func parseTree(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseValue(dec, "", 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("there is something after the end of the JSON value")
	}
	return v, nil
}

func parseValue(dec *json.Decoder, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s is nested deeper than %d levels", shorten(path), maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		m := make(map[string]any)
		for dec.More() {
			tok, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name := tok.(string)
			at := join(path, name)
			if _, dup := m[name]; dup {
				return nil, fmt.Errorf("%s must not appear twice", at)
			}
			if m[name], err = parseValue(dec, at, depth+1); err != nil {
				return nil, err
			}
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

// reader collects what is wrong with one object, a line for each.
type reader struct {
	errs []error
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
	text := path + " is not a field of this object" + suggestion(name, known)
	if r.strict {
		r.errs = append(r.errs, errors.New(text))
		return false
	}
	r.warnf("%s; it has no effect", text)
	return true
}

func (r *reader) errorf(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
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
		r.errorf("%s must be an object, got %s", path, show(v))
	}
	return fields{r, path, m, make(map[string]bool)}
}

// at is the path of a field.
func (f fields) at(name string) string { return join(f.path, name) }

func (f fields) get(name string) any {
	f.read[name] = true
	return f.m[name]
}

func (f fields) has(name string) bool { return f.get(name) != nil }

func (f fields) str(name string) string {
	v := f.get(name)
	s, ok := v.(string)
	if !ok && v != nil {
		f.errorf("%s %s, got %s%s", f.at(name), mustBeString, show(v), quoteHint(v))
	}
	return s
}

// need is str for a field that must be there.
func (f fields) need(name string) string {
	s := f.str(name)
	if v := f.m[name]; v == nil || v == "" {
		f.errorf("%s is required", f.at(name))
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
		f.errorf("%s must be %s, got %s", f.at(name), interval("a number", low, high), show(v))
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
		f.errorf("%s must be %s, got %s", f.at(name), interval("an integer", float64(low), float64(high)), show(v))
		return 0, false
	}
	return x, true
}

func interval(what string, low, high float64) string {
	if high >= math.MaxInt32 {
		return fmt.Sprintf("%s of at least %g", what, low)
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
		f.errorf("%s must be an integer of at least 0, got %s", f.at(name), show(v))
	}
	return x
}

func (f fields) boolean(name string) bool {
	v := f.get(name)
	b, ok := v.(bool)
	if !ok && v != nil {
		f.errorf("%s must be true or false, got %s", f.at(name), show(v))
	}
	return b
}

func (f fields) object(name string) fields { return f.reader.fields(f.get(name), f.at(name)) }

func (f fields) list(name string) []any {
	v := f.get(name)
	list, ok := v.([]any)
	if !ok && v != nil {
		f.errorf("%s must be a list, got %s", f.at(name), show(v))
	}
	return list
}

// each calls fn for each object in the list.
func (f fields) each(name string, fn func(fields)) {
	for i, item := range f.list(name) {
		at := index(f.at(name), i)
		if _, ok := item.(map[string]any); !ok {
			f.errorf("%s must be an object, got %s", at, show(item))
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

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// show writes a value as JSON would, shortened: it may come from anywhere.
func show(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return shorten(fmt.Sprint(v))
	}
	return shorten(strings.TrimSuffix(b.String(), "\n"))
}

func shorten(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
