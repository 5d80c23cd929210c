// Package check says what is wrong with options and declarations, all in one voice:
//
//	plugins: profiles.json:12:7: plugins[1].parameters.maxQueu is not a field; the nearest is maxQueue
//	director: RetryAfter is -1s, want above 0, or 0 for the default 1s
//
// that is the package, the place, the field, what is wrong, what is allowed, and the
// nearest name. Checks fills in defaults and collects errors.
package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error is one thing that is wrong. Want with Value, or Problem, says what.
type Error struct {
	Package string // whose error it is; empty: whoever wraps it says so
	File    string // name of the document; may be empty
	// Line and Column, from 1, are where it is in the document; the column counts bytes.
	// 0: not known, as for options that were in no document.
	Line, Column int

	Field string // path, such as spec.targetModels[1].weight; empty: the document itself

	Value any    // what was there; nil: null
	Want  string // what is allowed in its place
	// Problem is used in place of Value and Want if it is not empty.
	Problem string
	// Known are the names of which Name is none; the error tells the nearest.
	Name  string
	Known []string

	Err error // cause, for errors.Is; may be nil
}

// Error returns the error in one line.
func (e *Error) Error() string {
	text := e.Text()
	if place := e.Place(); place != "" {
		text = place + ": " + text
	}
	if e.Package != "" {
		text = e.Package + ": " + text
	}
	return text
}

// Text returns field and problem, without package and place.
func (e *Error) Text() string {
	what := e.Problem
	if what == "" {
		what = "is " + Show(e.Value) + ", want " + e.Want
	}
	if e.Known != nil {
		what += Suggest(e.Name, e.Known)
	}
	switch {
	case e.Field == "" && e.Problem != "":
		return what
	case e.Err != nil && e.Problem == e.Err.Error():
		return shorten(e.Field, 200) + ": " + what
	}
	return cmp.Or(shorten(e.Field, 200), "the document") + " " + what
}

// Place returns file:line:column as far as they are known.
func (e *Error) Place() string {
	switch {
	case e.Line == 0:
		return e.File
	case e.File == "":
		return fmt.Sprintf("line %d, column %d", e.Line, e.Column)
	}
	return fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Errors are all that is wrong.
type Errors []*Error

// most is how many errors a text tells; the others are counted.
const most = 20

// Error returns the errors, one a line.
func (e Errors) Error() string {
	var lines []string
	for i, one := range e {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d errors more", len(e)-i))
			break
		}
		lines = append(lines, one.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// Err returns e, or nil if there are none.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Under returns err as what is wrong with a field: each Error in it has its Field below
// the field, and any other error is the problem of the field itself. Packages and places
// are dropped: those of the document that the field is in count.
func Under(field string, err error) Errors {
	var all Errors
	each(err, func(e *Error) {
		c := *e
		c.Package, c.File, c.Line, c.Column = "", "", 0, 0
		c.Field = Join(field, c.Field)
		all = append(all, &c)
	})
	return all
}

// From returns the Errors in err, and what is none as one.
func From(err error) Errors {
	var all Errors
	each(err, func(e *Error) { all = append(all, e) })
	return all
}

// each calls fn for each Error that err joins.
func each(err error, fn func(*Error)) {
	switch e := err.(type) {
	case nil:
	case *Error:
		fn(e)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			each(one, fn)
		}
	default:
		fn(&Error{Problem: err.Error(), Err: err})
	}
}

// Join returns the path of a field that is inside another.
func Join(path, field string) string {
	if path == "" || field == "" || field[0] == '[' {
		return path + field
	}
	return path + "." + field
}

// Show returns a value as JSON, shortened: it may come from anywhere.
func Show(v any) string {
	if s, ok := v.(fmt.Stringer); ok {
		return Shorten(s.String())
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return Shorten(fmt.Sprint(v)) // NaN, for one
	}
	return Shorten(strings.TrimSuffix(b.String(), "\n"))
}

// Shorten returns s, or its beginning if it is long.
func Shorten(s string) string { return shorten(s, 80) }

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
