package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// maxErrors is how many errors of one version are told; the rest is counted.
const maxErrors = 100

// Error is one thing that is wrong with a configuration, and where. What Load
// returns joins all of them; errors.As finds the first.
type Error struct {
	// File is the name of the file, under the path that was loaded.
	File string
	// Document counts the documents of File from 1, empty ones left out. 0: what
	// is wrong is the file itself, or that it is no YAML or JSON.
	Document int
	// Line, from 1, is that of the field, or of what it is in, or else that on which
	// Document begins; without Document the very line that is no YAML or JSON. 0: not
	// known.
	Line int
	// Err says what is wrong, the path of the field first.
	Err error
}

// Error returns where and what in one line.
func (e *Error) Error() string {
	return "config: " + place{e.File, e.Document, e.Line}.String() + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Rejected is an object that is left out, or a part of one, because something is wrong
// with it; or a document, or a file, of which nothing can be read.
type Rejected struct {
	// File, Document and Line say where it begins, as in Error.
	File           string
	Document, Line int
	// Kind and Name are what it says it is; empty if that cannot be told.
	Kind string
	Name types.NamespacedName
	// Kept: what was in force before in its place is so still.
	Kept bool
	// Err joins an *Error for each thing that is wrong with it.
	Err error

	id identity
	// follows: it is left out because another one is.
	follows bool
}

// place is where something is that has been read.
type place struct {
	file           string
	document, line int
}

func (p place) String() string {
	switch {
	case p.document > 0:
		return fmt.Sprintf("%s: document %d (line %d)", p.file, p.document, p.line)
	case p.line > 0:
		return p.file + ": line " + strconv.Itoa(p.line)
	}
	return p.file
}

// origin is where an object was read, and what it is called in what is said of it:
//
//	items[3]: StaticEndpoints default/a: spec.poolRef …
type origin struct {
	place
	within string // data["plugins.yaml"], of an object that holds others as text
	item   string // items[3], of a List
	object string // StaticEndpoints default/a; empty: not known yet
	lines  *lineIndex
}

// begins is where the object begins.
func (o *origin) begins() place {
	at, _ := o.text("", "")
	return at
}

// text is what is said of a field of the object, and at its place.
func (o *origin) text(field, text string) (place, string) {
	at := o.place
	if line := o.lines.of(join(o.item, field)); line > 0 {
		at.line = line
	}
	for _, before := range []string{o.object, o.item, o.within} {
		if before != "" {
			text = before + ": " + text
		}
	}
	return at, text
}

// fault is err as an *Error that says where.
func (o *origin) fault(err error) error {
	field := err.Error()
	if m, ok := err.(manifestError); ok {
		field = m.Field
	}
	at, text := o.text(field, err.Error())
	return &Error{at.file, at.document, at.line, prefixed{text, err}}
}

func (o *origin) faults(errs []error) error {
	out := make([]error, 0, min(len(errs), maxErrors+1))
	for i, err := range errs {
		if i == maxErrors {
			out = append(out, fmt.Errorf("config: %s: and %d errors more", o.place, len(errs)-i))
			break
		}
		out = append(out, o.fault(err))
	}
	return errors.Join(out...)
}

// warning is a text about a field that says where.
func (o *origin) warning(field, text string) string {
	at, text := o.text(field, text)
	return at.String() + ": " + text
}

// prefixed is an error with more before its text.
type prefixed struct {
	text string
	err  error
}

func (p prefixed) Error() string { return p.text }
func (p prefixed) Unwrap() error { return p.err }

// joined joins errors, the first maxErrors of those that they join.
func joined(errs []error) error {
	var flat []error
	for _, err := range errs {
		flat = append(flat, flatten(err, err)...)
	}
	if more := len(flat) - maxErrors; more > 0 {
		flat = append(flat[:maxErrors:maxErrors], fmt.Errorf("config: and %d errors more", more))
	}
	return errors.Join(flat...)
}

// manifestErrors are the errors in err of package types, one by one, without that
// package's name: what is before them says enough.
func manifestErrors(err error) []error {
	var list types.ValidationErrors
	if !errors.As(err, &list) {
		return []error{err}
	}
	out := make([]error, len(list))
	for i, e := range list {
		out[i] = manifestError{e}
	}
	return out
}

type manifestError struct{ *types.FieldError }

func (e manifestError) Error() string {
	if e.Known != "" {
		return e.Object + ": " + e.unknown()
	}
	text := strings.TrimPrefix(e.FieldError.Error(), "types: ")
	if e.Rule == mustBeString {
		text += quoteHint(e.Value)
	}
	return text
}

// unknown says of a field that it is none, without the name of the object.
func (e manifestError) unknown() string {
	return e.Field + " " + e.Rule + suggestion(lastName(e.Field), strings.Split(e.Known, ", "))
}

// lastName is the name at the end of the path of a field.
func lastName(field string) string { return field[strings.LastIndexByte(field, '.')+1:] }

func (e manifestError) Unwrap() error { return e.FieldError }

const mustBeString = "must be a string"

// quoteHint helps with what YAML takes for another type than was meant.
func quoteHint(v any) string {
	switch v.(type) {
	case map[string]any, []any, nil:
		return ""
	}
	return "; in YAML, write it in quotes"
}
