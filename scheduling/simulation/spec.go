package simulation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
)

const (
	maxNesting  = 8       // workloads inside workloads
	maxSpecFile = 1 << 26 // bytes
)

// ErrUnknownKind is what DecodeSpec and EncodeSpec return, wrapped, for a workload
// that is none of this package.
var ErrUnknownKind = errors.New("simulation: unknown kind of workload")

// kinds lists the workloads that have a name, each with a pointer to a zero one.
func kinds() []struct {
	name string
	spec any
} {
	return []struct {
		name string
		spec any
	}{
		{"sharegpt", new(ShareGPT)},
		{"bursty", new(Bursty)},
		{"shared-prefix", new(SharedPrefix)},
		{"b2b", new(B2B)},
		{"multi-lora", new(MultiLoRA)},
		{"agentic", new(Agentic)},
		{"mooncake", new(Mooncake)},
		{"azure", new(Azure)},
		{"lengths", new(LengthsCSV)},
		{"criticality", new(Criticality)},
		{"mix", new(Mix)},
	}
}

// Kinds returns the names that DecodeSpec knows.
func Kinds() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// DecodeSpec reads a workload from JSON: an object with its "kind", one of Kinds,
// and its fields.
//
//	{"kind": "shared-prefix", "rate": 200, "groups": 100, "output": {"kind": "fixed", "tokens": 50}}
//
// What is left out has its default. A field that does not exist or that comes
// twice is an error, which names it; an unknown kind wraps ErrUnknownKind. Whether
// the values make sense is for Validate, which for traces reads the file.
func DecodeSpec(data []byte) (Spec, error) {
	if err := checkDuplicates(data); err != nil {
		return nil, fmt.Errorf("simulation: workload: %w", err)
	}
	s, err := decodeSpec(data, maxNesting)
	if err != nil {
		return nil, fmt.Errorf("simulation: workload: %w", err)
	}
	return s, nil
}

// SpecFile reads a workload from a JSON file, as DecodeSpec does, and validates it.
// Files that it names are relative to the working directory.
func SpecFile(path string) (Spec, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("simulation: workload: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSpecFile+1))
	if err != nil {
		return nil, fmt.Errorf("simulation: workload: %w", err)
	}
	if len(data) > maxSpecFile {
		return nil, fmt.Errorf("simulation: %s: larger than %d bytes", path, maxSpecFile)
	}
	s, err := DecodeSpec(data)
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("simulation: %s: %w", path, inner(err))
	}
	return s, nil
}

// EncodeSpec writes a workload of this package as JSON that DecodeSpec reads. The
// error for any other wraps ErrUnknownKind.
func EncodeSpec(s Spec) ([]byte, error) {
	v := reflect.ValueOf(s)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	for _, k := range kinds() {
		if !v.IsValid() || v.Type() != reflect.TypeOf(k.spec).Elem() {
			continue
		}
		data, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("simulation: %s: %w", k.name, err)
		}
		head := `{"kind":"` + k.name + `"`
		if len(data) > 2 {
			head += ","
		}
		return append([]byte(head), data[1:]...), nil
	}
	return nil, fmt.Errorf("%w: %T", ErrUnknownKind, s)
}

// decodeSpec decodes a workload that may hold others, depth deep.
func decodeSpec(data []byte, depth int) (Spec, error) {
	if depth < 0 {
		return nil, fmt.Errorf("more than %d workloads inside each other", maxNesting)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, jsonError(err)
	}
	var name string
	if raw, ok := fields["kind"]; !ok {
		return nil, fmt.Errorf("kind is missing, want %s", strings.Join(Kinds(), ", "))
	} else if err := json.Unmarshal(raw, &name); err != nil {
		return nil, fmt.Errorf("kind is %.40s, want a string", raw)
	}
	delete(fields, "kind")
	rest, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	for _, k := range kinds() {
		if k.name != name {
			continue
		}
		if err := decodeInto(rest, k.spec, depth); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return specOf(k.spec), nil
	}
	return nil, fmt.Errorf("%w: kind is %.60q, want %s", inner(ErrUnknownKind), name, strings.Join(Kinds(), ", "))
}

func decodeInto(data []byte, spec any, depth int) error {
	if n, ok := spec.(interface{ decode([]byte, int) error }); ok {
		return n.decode(data, depth)
	}
	return decodeStrict(data, spec)
}

// specOf returns the value that spec points to, or for the traces, which cannot be
// copied, the pointer.
func specOf(spec any) Spec {
	if v := reflect.ValueOf(spec).Elem(); v.Type().Implements(reflect.TypeFor[Spec]()) {
		return v.Interface().(Spec)
	}
	return spec.(Spec)
}

// decodeStrict decodes one JSON value whose fields all have a place in v.
func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return jsonError(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

// jsonError says what encoding/json says, without the names of Go types.
func jsonError(err error) error {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		if t.Field == "" {
			return fmt.Errorf("a JSON %s, want %s", t.Value, jsonType(t.Type))
		}
		return fmt.Errorf("%s is a JSON %s, want %s", t.Field, t.Value, jsonType(t.Type))
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	}
	return "an object"
}

// checkDuplicates reports a name that comes twice in one object, of which
// encoding/json would quietly take the last.
func checkDuplicates(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	type object struct {
		seen map[string]bool // nil: an array
		key  bool            // the next token is a name
	}
	var open []object
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return jsonError(err)
		}
		top := len(open) - 1
		if delim, ok := tok.(json.Delim); ok {
			switch delim {
			case '{':
				open = append(open, object{seen: map[string]bool{}, key: true})
				continue
			case '[':
				open = append(open, object{})
				continue
			}
			open = open[:top]
			top--
		} else if top >= 0 && open[top].key {
			name := strings.ToLower(tok.(string)) // as encoding/json compares them
			if open[top].seen[name] {
				return fmt.Errorf("%q comes twice in one object, at byte %d", name, d.InputOffset())
			}
			open[top].seen[name], open[top].key = true, false
			continue
		}
		if top >= 0 && open[top].seen != nil {
			open[top].key = true
		}
	}
}

// inner returns err without the name of this package, for use in another message.
func inner(err error) error { return innerError{err} }

type innerError struct{ error }

func (e innerError) Error() string { return strings.TrimPrefix(e.error.Error(), "simulation: ") }
func (e innerError) Unwrap() error { return e.error }

// sourceErr returns why s has no jobs, if that is an error.
func sourceErr(s Source) error {
	if e, ok := s.(interface{ Err() error }); ok {
		return e.Err()
	}
	return nil
}

// openRegular opens a file for reading and refuses what is none, such as a pipe
// that would never end.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	return os.Open(path)
}
