package types

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/inferpick/inferpick/internal/check"
)

// FieldError is one broken rule of a manifest.
type FieldError struct {
	Object string // kind and name, for example "InferenceModel default/chat"
	Field  string // path, for example spec.targetModels[1].weight
	Rule   string // the rule, for example "must be 1 to 65535"
	Value  any    // the offending value; nil: none

	Known string // for an unknown Field: the names of the known ones, separated by ", "

	Line, Column int // position of Field in the input, from 1; 0: unknown
}

// Error returns place, object, field, value, rule and the nearest known name on one line.
func (e *FieldError) Error() string {
	c := check.Error{Package: "types", Line: e.Line, Column: e.Column}
	if place := c.Place(); place != "" {
		return "types: " + place + ": " + e.Text()
	}
	return "types: " + e.Text()
}

// Text is Error without the name of the package and the place.
func (e *FieldError) Text() string {
	text := strings.TrimSpace(e.Field + " " + e.problem())
	if e.Object != "" {
		return e.Object + ": " + text
	}
	return text
}

func (e *FieldError) problem() string {
	if e.Known != "" {
		return e.Rule + check.Suggest(e.Field[strings.LastIndexByte(e.Field, '.')+1:], strings.Split(e.Known, ", "))
	}
	if e.Value == nil {
		return e.Rule
	}
	if want, ok := strings.CutPrefix(e.Rule, "must be "); ok {
		return "is " + check.Show(e.Value) + ", want " + want
	}
	if want, ok := strings.CutPrefix(e.Rule, "must have "); ok {
		return "has " + check.Show(e.Value) + ", want " + want
	}
	return e.Rule + ", got " + check.Show(e.Value)
}

// ValidationErrors lists all broken rules of one object.
type ValidationErrors []*FieldError

// Error returns the errors, one per line.
func (e ValidationErrors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one, for errors.As.
func (e ValidationErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

func describe(kind string, m *ObjectMeta) string {
	if m.Name == "" {
		return kind + " without a name"
	}
	return kind + " " + m.Key().String()
}

// validator collects the errors of one object.
type validator struct {
	object string
	errs   ValidationErrors
}

func (r *validator) fail(path, rule string, value any) {
	r.errs = append(r.errs, &FieldError{Object: r.object, Field: path, Rule: rule, Value: value})
}

func (r *validator) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs
}

// validation returns a validator that has checked the object's metadata.
func validation(kind string, m *ObjectMeta) *validator {
	r := &validator{object: describe(kind, m)}
	r.must(isSubdomain(m.Name), "metadata.name", "must be 1 to 253 lower case letters, digits, '-' and '.', as in a DNS name", m.Name)
	r.must(isDNSLabel(m.Namespace), "metadata.namespace", "must be 1 to 63 lower case letters, digits and '-', as in a DNS label", m.Namespace)
	r.must(m.CreationTimestamp.IsZero() || m.CreationTimestamp.UTC().Year() >= 0 && m.CreationTimestamp.UTC().Year() <= 9999,
		"metadata.creationTimestamp", "must lie in the years 0 to 9999", m.CreationTimestamp.String())
	return r
}

func (r *validator) must(ok bool, path, rule string, value any) {
	if !ok {
		r.fail(path, rule, value)
	}
}

func (r *validator) length(path, s string, low, high int) {
	if n := utf8.RuneCountInString(s); n < low || n > high {
		r.fail(path, fmt.Sprintf("must be %d to %d characters", low, high), s)
	}
}

func (r *validator) oneOf(path, s string, allowed ...string) {
	if !slices.Contains(allowed, s) {
		r.fail(path, "must be one of "+strings.Join(allowed, ", "), s)
	}
}

func (r *validator) portNumber(path string, n int32) {
	r.must(n >= 1 && n <= 65535, path, "must be 1 to 65535", n)
}

func (r *validator) weight(path string, w *int32) {
	if w != nil {
		r.must(*w >= 1 && *w <= MaxWeight, path, fmt.Sprintf("must be 1 to %d", MaxWeight), *w)
	}
}

func (r *validator) poolRef(path string, ref PoolRef) {
	r.oneOf(path+".group", ref.Group, GroupX, GroupGA, GroupLLMD)
	r.oneOf(path+".kind", ref.Kind, kindPool)
	r.length(path+".name", ref.Name, 1, 253)
}

func (r *validator) matchLabels(path string, labels map[string]string) {
	r.must(len(labels) >= 1 && len(labels) <= 64, path, "must have 1 to 64 labels", len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		r.must(isLabelKey(key), keyed(path, key), "must be [prefix/]name: letters, digits, '-', '_' and '.', at most 253", key)
		r.must(isLabelValue(labels[key]), keyed(path, key), "must be at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last", labels[key])
	}
}

// sameObject returns a validator that has checked that old is an earlier version of obj.
func sameObject(obj, old Object) *validator {
	r := &validator{object: describe(obj.Kind(), obj.Meta())}
	r.must(old.Kind() == obj.Kind() && old.Key() == obj.Key(), "metadata.name",
		"must be that of the object to replace, "+old.Kind()+" "+old.Key().String(), obj.Key().String())
	return r
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func isAlnum(c byte) bool { return isLower(c) || 'A' <= c && c <= 'Z' }

// isName reports whether s starts and ends with a character that allowed accepts and has only
// these and those of inner in between.
func isName(s string, allowed func(byte) bool, inner string) bool {
	if s == "" || !allowed(s[0]) || !allowed(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !allowed(s[i]) && strings.IndexByte(inner, s[i]) < 0 {
			return false
		}
	}
	return true
}

// isDNSLabel is RFC 1123: lower case letters and digits, '-' inside.
func isDNSLabel(s string) bool { return len(s) <= 63 && isName(s, isLower, "-") }

func isSubdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if !isName(part, isLower, "-") {
			return false
		}
	}
	return true
}

func isLabelKey(s string) bool {
	if len(s) > 253 {
		return false
	}
	if prefix, name, ok := strings.Cut(s, "/"); ok {
		return isSubdomain(prefix) && isLabelName(name)
	}
	return isLabelName(s)
}

func isLabelValue(s string) bool { return s == "" || len(s) <= 63 && isLabelName(s) }

func isLabelName(s string) bool { return isName(s, isAlnum, "-_.") }

// isKind is a name of a Kubernetes kind: a letter, then letters, digits and '-'.
func isKind(s string) bool {
	return len(s) <= 63 && isName(s, isAlnum, "-") && !('0' <= s[0] && s[0] <= '9')
}
