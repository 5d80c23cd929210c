package config

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
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
	// Line and Column, from 1, are those of the field, or of what it is in, or else where
	// Document begins; without Document the very line that is no YAML or JSON. 0: not
	// known.
	Line, Column int
	// Err says what is wrong, the path of the field first.
	Err error
}

// Error returns where and what in one line.
func (e *Error) Error() string {
	return "config: " + place{e.File, e.Document, e.Line, e.Column}.String() + ": " + e.Err.Error()
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
	file                   string
	document, line, column int
}

// String returns file:line:column, as far as they are known.
func (p place) String() string {
	s := p.file
	for _, n := range []int{p.line, p.column} {
		if n > 0 {
			s += ":" + strconv.Itoa(n)
		}
	}
	return s
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
	if line, column := o.lines.of(check.Join(o.item, field)); line > 0 {
		at.line, at.column = line, column
	}
	if o.within != "" {
		at.column = 0 // the text may be indented
	}
	for _, before := range []string{o.object, o.item, o.within} {
		if before != "" {
			text = before + ": " + text
		}
	}
	return at, text
}

// fault is e as an *Error that says where.
func (o *origin) fault(e *check.Error) error {
	field := cmp.Or(e.Field, e.Problem)
	if f := (*types.FieldError)(nil); errors.As(e.Err, &f) {
		field = f.Field
	}
	at, text := o.text(field, e.Text())
	return &Error{at.file, at.document, at.line, at.column, prefixed{text, e}}
}

func (o *origin) faults(errs check.Errors) error {
	out := make([]error, 0, min(len(errs), maxErrors+1))
	for i, e := range errs {
		if i == maxErrors {
			out = append(out, fmt.Errorf("config: %s: and %d errors more", o.place, len(errs)-i))
			break
		}
		out = append(out, o.fault(e))
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

// flatten returns the errors that are joined in err, instead if none are.
func flatten(err, instead error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{instead}
	}
	var out []error
	for _, one := range joined.Unwrap() {
		out = append(out, flatten(one, one)...)
	}
	return out
}

// manifestErrors are the errors in err of package types, one by one, without the places: they are those of JSON
// that nobody has written.
func manifestErrors(err error) (all check.Errors) {
	for _, e := range check.From(err) {
		if f := (*types.FieldError)(nil); errors.As(e.Err, &f) {
			e = manifestError(f)
		}
		all = append(all, e)
	}
	return all
}

func manifestError(f *types.FieldError) *check.Error {
	text := f.Text()
	if _, isString := f.Value.(string); f.Rule == "must be a string" && !isString {
		text = strings.TrimSuffix(text, "a string") + wantString(f.Value)
	}
	return &check.Error{Problem: text, Err: f}
}
