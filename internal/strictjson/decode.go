package strictjson

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/internal/check"
)

// Decode reads the document into what v points to, as the package comment says. The error
// is a check.Errors with all that is wrong, in the order of the document.
func (d *Document) Decode(v any) error {
	r := decoder{doc: d, errs: slices.Clone(d.errs)}
	return r.decode(v)
}

// Peek is Decode for the fields that v has: all others are read over.
func (d *Document) Peek(v any) error {
	r := decoder{doc: d, open: 1}
	return r.decode(v)
}

// decoder collects what is wrong with a document.
type decoder struct {
	doc  *Document
	errs check.Errors
	open int // how many fields under way may have unknown fields in them
}

func (r *decoder) decode(v any) error {
	to := reflect.ValueOf(v)
	if to.Kind() != reflect.Pointer || to.IsNil() {
		panic(fmt.Sprintf("strictjson: Decode into %T, want a pointer that is not nil", v))
	}
	r.value(r.doc.root, to.Elem(), "", false)
	return r.errs.Err()
}

// want notes that a value is another than is allowed.
func (r *decoder) want(n *node, path, format string, args ...any) {
	r.fail(n, &check.Error{Field: path, Value: n.any(), Want: fmt.Sprintf(format, args...)})
}

func (r *decoder) fail(n *node, e *check.Error) { r.errs = append(r.errs, r.doc.placed(n, e)) }

// value reads n into v. element: n is one of a list or map, where null is not nothing.
func (r *decoder) value(n *node, v reflect.Value, path string, element bool) {
	if r.itself(n, v, path) {
		return
	}
	if n.kind == 'n' {
		switch v.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
			v.SetZero()
		default:
			if element {
				r.want(n, path, "%s", name(v.Type()))
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		to := v
		if v.IsNil() {
			to = reflect.New(v.Type().Elem())
		}
		r.value(n, to.Elem(), path, element)
		v.Set(to)
	case reflect.Struct:
		r.object(n, v, path)
	case reflect.Map:
		r.table(n, v, path)
	case reflect.Slice, reflect.Array:
		if areBytes(v.Type()) {
			r.leaf(n, v, path)
		} else {
			r.list(n, v, path)
		}
	default:
		r.leaf(n, v, path)
	}
}

// itself reports whether v is of a type that reads itself, and lets it.
func (r *decoder) itself(n *node, v reflect.Value, path string) bool {
	if v.Kind() == reflect.Pointer {
		return false
	}
	var err error
	nothing := n.kind == 'n' || n.kind == '"' && n.text == ""
	switch to := v.Addr().Interface().(type) {
	case *time.Duration:
		d, bad := time.ParseDuration(n.text)
		if nothing {
			break
		}
		if n.kind != '"' || bad != nil || d <= 0 {
			r.want(n, path, "a duration above 0 such as \"300ms\" or \"5s\"")
			break
		}
		*to = d
	case *time.Time:
		var t time.Time
		bad := t.UnmarshalText([]byte(n.text))
		if nothing {
			break
		}
		// In UTC the year may leave what RFC 3339 can write.
		if t = t.UTC(); n.kind != '"' || bad != nil || t.Year() < 0 || t.Year() > 9999 {
			r.want(n, path, "a time in RFC 3339 such as \"2026-01-31T12:00:00Z\"")
			break
		}
		*to = t
	case json.Unmarshaler:
		err = to.UnmarshalJSON(r.doc.data[n.start:n.end:n.end])
	case encoding.TextUnmarshaler:
		switch n.kind {
		case 'n':
		case '"':
			err = to.UnmarshalText([]byte(n.text))
		default:
			r.want(n, path, "a string")
		}
	default:
		return false
	}
	for _, e := range check.Under(path, err) {
		r.fail(n, e)
	}
	return true
}

func (r *decoder) object(n *node, v reflect.Value, path string) {
	if n.kind != '{' {
		r.want(n, path, "an object")
		return
	}
	fields, names := fieldsOf(v.Type())
	for i, key := range n.names {
		at, item := member(path, key), n.inner[i]
		f, ok := fields[key]
		if !ok {
			r.unknown(item, at, key, names)
			continue
		}
		if f.open {
			r.open++
		}
		r.value(item, settable(v, f.index), at, false)
		if f.open {
			r.open--
		}
	}
}

func (r *decoder) unknown(n *node, path, key string, known []string) {
	if r.open > 0 {
		return
	}
	e := &check.Error{Field: path, Problem: "is not a field", Name: key, Known: known, Err: ErrUnknownField}
	if len(known) == 0 {
		e.Problem += ", want none"
	}
	if tell := r.doc.o.Unknown; tell != nil {
		tell(r.doc.placed(n, e))
		return
	}
	r.fail(n, e)
}

func (r *decoder) table(n *node, v reflect.Value, path string) {
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		panic(fmt.Sprintf("strictjson: %v has keys that are no strings", t))
	}
	if n.kind != '{' {
		r.want(n, path, "an object")
		return
	}
	if v.IsNil() && len(n.names) > 0 {
		v.Set(reflect.MakeMapWithSize(t, len(n.names)))
	}
	for i, key := range n.names {
		item := reflect.New(t.Elem()).Elem()
		r.value(n.inner[i], item, path+"["+strconv.Quote(key)+"]", true)
		v.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), item)
	}
}

func (r *decoder) list(n *node, v reflect.Value, path string) {
	switch {
	case n.kind != '[':
		r.want(n, path, "a list")
		return
	case v.Kind() == reflect.Slice && len(n.inner) == 0:
		v.SetZero()
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(n.inner), len(n.inner)))
	case len(n.inner) != v.Len():
		r.want(n, path, "a list of %d", v.Len())
		return
	}
	for i, item := range n.inner {
		r.value(item, v.Index(i), index(path, i), true)
	}
}

// leaf reads what has nothing inside.
func (r *decoder) leaf(n *node, v reflect.Value, path string) {
	want := name(v.Type())
	if want == "" {
		panic(fmt.Sprintf("strictjson: %s is a %v, which cannot be decoded", path, v.Type()))
	}
	if v.Kind() == reflect.Interface {
		v.SetZero() // or what it holds would be read into
	}
	if areBytes(v.Type()) && n.kind != '"' || json.Unmarshal(r.doc.data[n.start:n.end], v.Addr().Interface()) != nil {
		r.want(n, path, "%s", want)
	}
}

// areBytes reports whether a type is read from text in base64.
func areBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// name says which JSON a type is read from; "" if from none.
func name(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		if areBytes(t) {
			return "bytes in base64"
		}
		return "a list"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int64:
		return "an integer" // how large it may be matters to nobody
	case reflect.Int8, reflect.Int16, reflect.Int32:
		low := int64(-1) << (t.Bits() - 1)
		return fmt.Sprintf("an integer from %d to %d", low, -(low + 1))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("an integer from 0 to %d", ^uint64(0)>>(64-t.Bits()))
	case reflect.Pointer:
		return name(t.Elem())
	case reflect.Interface:
		if t.NumMethod() == 0 {
			return "any value"
		}
	}
	return ""
}
