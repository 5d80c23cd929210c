package simulation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
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
		{"rag", new(RAG)},
		{"image-chat", new(ImageChat)},
		{"diffusion", new(Diffusion)},
		{"video", new(Video)},
		{"embeddings", new(Embeddings)},
		{"transcription", new(Transcription)},
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
	var (
		head struct {
			Kind *string `json:"kind"`
		}
		unknown check.Errors
	)
	doc, err := strictjson.Parse(data, strictjson.Options{Unknown: func(e *check.Error) {
		if e.Field != "kind" { // which no workload has as a field
			unknown = append(unknown, e)
		}
	}})
	if err != nil {
		return nil, err
	}
	if err := doc.Peek(&head); err != nil {
		return nil, err
	}
	if head.Kind == nil {
		return nil, doc.Locate(&check.Error{Field: "kind", Problem: "is missing, want one of " + strings.Join(Kinds(), ", ")})
	}
	for _, k := range kinds() {
		if k.name != *head.Kind {
			continue
		}
		var err error
		if n, ok := k.spec.(nested); ok {
			err = n.decode(doc, depth)
		} else {
			err = doc.Decode(k.spec)
		}
		if err = errors.Join(err, unknown.Err()); err != nil {
			return nil, doc.Locate(err)
		}
		return specOf(k.spec), nil
	}
	return nil, doc.Locate(&check.Error{
		Field: "kind", Problem: "is " + check.Show(*head.Kind) + ", which is unknown", Name: *head.Kind, Known: Kinds(), Err: ErrUnknownKind,
	})
}

// nested is a workload that holds others.
type nested interface {
	decode(doc *strictjson.Document, depth int) error
}

func unmarshalSpec(to nested, data []byte) error {
	doc, err := strictjson.Parse(data, strictjson.Options{})
	if err != nil {
		return err
	}
	return to.decode(doc, maxNesting)
}

// specOf returns the value that spec points to, or for the traces, which cannot be
// copied, the pointer.
func specOf(spec any) Spec {
	if v := reflect.ValueOf(spec).Elem(); v.Type().Implements(reflect.TypeFor[Spec]()) {
		return v.Interface().(Spec)
	}
	return spec.(Spec)
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
