package strictjson

import (
	"fmt"
	"reflect"
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
	var named [][]int // embedded structs that have a name: what is in them is theirs
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		embedded := f.Anonymous && isStruct(f.Type)
		inside := inAnyOf(f.Index, named)
		if embedded && name != "" {
			named = append(named, f.Index)
		}
		if embedded && name == "" || inside || !f.IsExported() || tag == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		old, twice := fields[name]
		switch {
		case twice && len(old.index) == len(f.Index):
			panic(fmt.Sprintf("strictjson: %v has the field %s twice", t, name))
		case twice && len(old.index) < len(f.Index):
			continue
		case !twice:
			names = append(names, name)
		}
		fields[name] = field{index: f.Index, open: f.Tag.Get("strictjson") == "open"}
	}
	return fields, names
}

func isStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

func inAnyOf(index []int, outer [][]int) bool {
	for _, o := range outer {
		if len(index) > len(o) && reflect.DeepEqual(index[:len(o)], o) {
			return true
		}
	}
	return false
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
