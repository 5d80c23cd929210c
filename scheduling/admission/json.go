package admission

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// JSON in which durations are text, read and written by the tags of fields.

// decodeTexts reads a JSON object into v strictly. wrong is what durations and names say that
// is wrong, each with its path under name; they are left out.
func decodeTexts(data []byte, v any, name string) (wrong []error, err error) {
	tree, err := treeOf(data)
	if err != nil || tree == nil {
		return nil, err
	}
	var t texts
	plain, err := json.Marshal(t.read(tree, reflect.TypeOf(v), name))
	if err = errors.Join(err, t.err); err != nil {
		return nil, err
	}
	return t.wrong, decodeStrict(plain, v)
}

// encodeTexts writes v.
func encodeTexts(v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	tree, err := treeOf(plain)
	if err != nil {
		return nil, err
	}
	t := texts{write: true}
	return json.Marshal(t.read(tree, reflect.TypeOf(v), ""))
}

func treeOf(data []byte) (tree any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err = d.Decode(&tree)
	return tree, err
}

// texts turns durations that are text into numbers, or with write the other way.
type texts struct {
	write bool
	wrong []error // of what is text
	err   error   // of what is none
}

// read returns a JSON value of a type.
func (t *texts) read(v any, of reflect.Type, path string) any {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch v := v.(type) {
	case map[string]any:
		switch of.Kind() {
		case reflect.Map:
			for key, inner := range v {
				v[key] = t.read(inner, of.Elem(), path+"["+strconv.Quote(key)+"]")
			}
		case reflect.Struct:
			t.fields(v, of, path)
		}
	case []any:
		if of.Kind() == reflect.Slice && of != reflect.TypeFor[json.RawMessage]() {
			for i, inner := range v {
				at := fmt.Sprintf("%s[%d]", path, i)
				if m, ok := inner.(map[string]any); ok {
					if name, ok := m["name"].(string); ok {
						at += fmt.Sprintf(" (%q)", name)
					}
				}
				v[i] = t.read(inner, of.Elem(), at)
			}
		}
	case string:
		return t.text(v, of, path)
	case json.Number:
		n, err := v.Int64()
		switch {
		case of != reflect.TypeFor[time.Duration]():
		case t.write && err == nil:
			return time.Duration(n).String()
		default:
			t.err = errors.Join(t.err, fmt.Errorf("%s: %v, want a duration above 0 such as \"30s\"", path, v))
		}
	}
	return v
}

// fields reads those of a struct that are there, the embedded ones too; an outer one counts.
func (t *texts) fields(v map[string]any, of reflect.Type, path string) {
	outer := map[string]bool{}
	var embedded []reflect.Type
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			embedded = append(embedded, f.Type)
			continue
		}
		if inner, ok := v[name]; ok && name != "-" {
			outer[name] = true
			v[name] = t.read(inner, f.Type, strings.TrimPrefix(path+"."+name, "."))
		}
	}
	rest := map[string]any{}
	for name, inner := range v {
		if !outer[name] {
			rest[name] = inner
		}
	}
	for _, e := range embedded {
		t.fields(rest, e, path)
	}
	for name := range rest {
		v[name] = rest[name]
	}
}

// text reads a string: a duration, or the name of something.
func (t *texts) text(s string, of reflect.Type, path string) any {
	if t.write {
		return s
	}
	if of == reflect.TypeFor[time.Duration]() {
		d, err := readDuration(s)
		if err != nil {
			t.wrong = append(t.wrong, fmt.Errorf("%s: %w", path, err))
		}
		return json.Number(strconv.FormatInt(int64(d), 10))
	}
	if to, ok := reflect.New(of).Interface().(encoding.TextUnmarshaler); ok {
		if err := to.UnmarshalText([]byte(s)); err != nil {
			t.wrong = append(t.wrong, fmt.Errorf("%s: %w", path, err))
			return ""
		}
	}
	return s
}

// decodeStrict reads JSON in which nothing is unknown.
func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case err == nil:
		if _, err := d.Token(); err != io.EOF {
			return errors.New("there is more after the first JSON value")
		}
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("byte %d: %w", syntax.Offset, err)
	case errors.As(err, &typed):
		return fmt.Errorf("byte %d: %w", typed.Offset, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("is empty or ends in the middle, want a JSON object")
	}
	return err
}

// readDuration reads a duration; an empty one is 0.
func readDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q, want a duration above 0 such as \"30s\"", s)
	}
	return d, nil
}
