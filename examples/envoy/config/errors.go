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
	// Line, from 1, is that on which Document begins, or without Document the
	// very line that is no YAML or JSON. 0: not known.
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

// problems collects errors, the first maxErrors of them.
type problems struct {
	errs []error
	more int
}

func (p *problems) add(at place, err error) {
	if len(p.errs) == maxErrors {
		p.more++
		return
	}
	p.errs = append(p.errs, &Error{at.file, at.document, at.line, err})
}

func (p *problems) any() bool { return len(p.errs) > 0 }

func (p *problems) err() error {
	if p.more > 0 {
		return errors.Join(append(p.errs, fmt.Errorf("config: and %d errors more", p.more))...)
	}
	return errors.Join(p.errs...)
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
	text := strings.TrimPrefix(e.FieldError.Error(), "types: ")
	if e.Rule == mustBeString {
		text += quoteHint(e.Value)
	}
	return text
}

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
