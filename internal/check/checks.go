package check

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Checks collects what is wrong with options while it fills in their defaults:
//
//	c := check.Checks{Package: "scrape"}
//	check.Default(&c, "Interval", &o.Interval, 50*time.Millisecond, time.Millisecond, time.Hour)
//	c.OneOf("Scheme", o.Scheme, "http", "https")
//	return o, c.Err()
//
// The zero value is good. It is for one goroutine.
type Checks struct {
	Package string // of all errors
	errs    Errors
}

// Number is what a range may be of.
type Number interface {
	~int | ~int32 | ~int64 | ~uint64 | ~float64
}

// Default fills in def if *v is 0, and else checks that it is from low to high. A high that
// is 0, or the largest of its type, is no bound.
func Default[T Number](c *Checks, field string, v *T, def, low, high T) {
	if *v == 0 {
		*v = def
		return
	}
	c.Want(within(*v, low, high), field, *v, "%s, or 0 for the default %v", Interval(low, high), def)
}

// Range checks that v is from low to high; a high that is 0, or the largest of its type,
// is no bound.
func Range[T Number](c *Checks, field string, v, low, high T) {
	c.Want(within(v, low, high), field, v, "%s", Interval(low, high))
}

// Positive fills in def if *v is 0, and else checks that it is finite and above 0.
func Positive[T Number](c *Checks, field string, v *T, def T) {
	if *v == 0 {
		*v = def
		return
	}
	c.Want(*v > 0 && !math.IsInf(float64(*v), 0), field, *v, "above 0, or 0 for the default %v", def)
}

func within[T Number](v, low, high T) bool {
	return v >= low && (v <= high || unbounded(high)) && !math.IsInf(float64(v), 0)
}

func unbounded[T Number](high T) bool { return high == 0 || float64(high) >= math.MaxInt64 }

// Interval says which values are allowed.
func Interval[T Number](low, high T) string {
	if unbounded(high) {
		return fmt.Sprintf("at least %v", low)
	}
	return fmt.Sprintf("%v to %v", low, high)
}

// Want notes that a field is v unless ok, where the rest says what is wanted.
func (c *Checks) Want(ok bool, field string, v any, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, &Error{Package: c.Package, Field: field, Value: v, Want: fmt.Sprintf(format, args...)})
	}
}

// OneOf checks that v is one of some names. The error lists them and tells the nearest:
// where there are many, Unknown is shorter.
func (c *Checks) OneOf(field, v string, names ...string) {
	if slices.Contains(names, v) {
		return
	}
	want := "one of " + strings.Join(names, ", ")
	if near := Nearest(v, names); near != "" {
		want += "; the nearest is " + near
	}
	c.Want(false, field, v, "%s", want)
}

// Unknown notes that a field has a name that is none of the known ones. The error tells the
// nearest, or if none is near all of them.
func (c *Checks) Unknown(field, v string, known []string) {
	c.errs = append(c.errs, &Error{Package: c.Package, Field: field, Problem: "is " + Show(v) + ", which is unknown", Name: v, Known: known})
}

// Required checks that v is not the zero value.
func Required[T comparable](c *Checks, field string, v T) {
	if v == *new(T) {
		c.Failf(field, "is required")
	}
}

// Failf notes a problem of a field. A %w in format wraps a cause.
func (c *Checks) Failf(field, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	c.errs = append(c.errs, &Error{Package: c.Package, Field: field, Problem: err.Error(), Err: errors.Unwrap(err)})
}

// Add notes what is wrong with a field, or with what is inside it, as Under puts it. A nil
// err is fine.
func (c *Checks) Add(field string, err error) {
	for _, e := range Under(field, err) {
		e.Package = cmp.Or(c.Package, e.Package)
		c.errs = append(c.errs, e)
	}
}

// Len returns how many errors there are so far.
func (c *Checks) Len() int { return len(c.errs) }

// Err returns the Errors, nil if there are none.
func (c *Checks) Err() error { return c.errs.Err() }
