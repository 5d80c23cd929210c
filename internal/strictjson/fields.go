package strictjson

import (
	"fmt"
	"reflect"
	"strings"
)

// field is one of a struct, or of a struct embedded in it.
type field struct {
	name   string
	index  []int
	tagged bool
	open   bool
}

// fieldsOf returns the fields of a struct that have a name in JSON, by the rules of
// encoding/json: of those with one name the least embedded counts, of several such the one
// with a tag, and none if that does not decide. names are in the order of the struct.
func fieldsOf(t reflect.Type) (fields map[string]field, names []string) {
	fields = map[string]field{}
	var found [][]field // by depth
	collect(t, nil, map[reflect.Type]bool{}, &found)
	for _, level := range found {
		for _, f := range level {
			if old, ok := fields[f.name]; ok && len(old.index) < len(f.index) {
				continue
			}
			if same := rivals(level, f); same == 1 {
				fields[f.name] = f
				names = append(names, f.name)
			}
		}
	}
	return fields, names
}

// rivals counts the fields of a level that have the name of f as well as it does; 0: one
// has it better.
func rivals(level []field, f field) (n int) {
	for _, o := range level {
		switch {
		case o.name != f.name:
		case o.tagged && !f.tagged:
			return 0
		case o.tagged == f.tagged:
			n++
		}
	}
	return n
}

func collect(t reflect.Type, index []int, inside map[reflect.Type]bool, found *[][]field) {
	if inside[t] {
		return
	}
	inside[t] = true
	defer delete(inside, t)
	depth := len(index)
	for len(*found) <= depth {
		*found = append(*found, nil)
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if strings.Contains(options, "string") {
			panic(fmt.Sprintf("strictjson: %v.%s: numbers in strings are not supported", t, f.Name))
		}
		at := append(index[:depth:depth], i)
		under := f.Type
		if under.Kind() == reflect.Pointer {
			under = under.Elem()
		}
		switch {
		case tag == "-":
		case f.Anonymous && name == "" && under.Kind() == reflect.Struct && (f.IsExported() || f.Type == under):
			collect(under, at, inside, found)
		case !f.IsExported():
		case name == "":
			(*found)[depth] = append((*found)[depth], field{name: f.Name, index: at})
		default:
			open := f.Tag.Get("strictjson") == "open"
			(*found)[depth] = append((*found)[depth], field{name: name, index: at, tagged: true, open: open})
		}
	}
}

// settable returns the field of v at an index, for which it makes embedded structs.
func settable(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}
