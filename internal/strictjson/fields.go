package strictjson

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// field is one of a struct, or of a struct embedded in it.
type field struct {
	index []int
	open  bool
}

// fieldsOf returns the fields of a struct by their names in JSON, and the names in the order
// of the struct. Of several with one name the least embedded counts, as in encoding/json;
// two that are embedded alike are a mistake in the program.
func fieldsOf(t reflect.Type) (fields map[string]field, names []string) {
	fields = map[string]field{}
	names = addFields(fields, nil, t, nil)
	return fields, names
}

// addFields adds those of a struct that is embedded at an index.
func addFields(fields map[string]field, names []string, t reflect.Type, at []int) []string {
	for i := range t.NumField() {
		f, index := t.Field(i), append(slices.Clip(at), i)
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if in := structOf(f.Type); f.Anonymous && name == "" && in != nil {
			names = addFields(fields, names, in, index)
			continue
		}
		if !f.IsExported() || tag == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		old, twice := fields[name]
		switch {
		case twice && len(old.index) == len(index):
			panic(fmt.Sprintf("strictjson: %v has the field %s twice", t, name))
		case twice && len(old.index) < len(index):
			continue
		case twice:
			names = slices.DeleteFunc(names, func(n string) bool { return n == name })
		}
		names = append(names, name)
		fields[name] = field{index: index, open: f.Tag.Get("strictjson") == "open"}
	}
	return names
}

// structOf returns a struct, also of a pointer to one; nil: it is none.
func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	return t
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
