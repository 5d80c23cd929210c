package config

import (
	"github.com/inferpick/inferpick/examples/envoy/internal/expression"
	"github.com/inferpick/inferpick/types"
)

// typeReporter says what of a request's usage Envoy is told.
const typeReporter = "request-attribute-reporter"

// Report is a figure of a request's usage that Envoy is told of as dynamic metadata when
// the answer has ended.
type Report struct {
	Namespace, Name string

	expression *expression.Expression
	condition  *expression.Expression // nil: always
}

// usagePaths are the figures of usage, by their names in answers.
var usagePaths = map[string]func(types.Usage) types.Gauge{
	"usage.prompt_tokens":     func(u types.Usage) types.Gauge { return u.PromptTokens },
	"usage.completion_tokens": func(u types.Usage) types.Gauge { return u.CompletionTokens },
	"usage.total_tokens": func(u types.Usage) types.Gauge {
		prompt, ok1 := u.PromptTokens.Value()
		completion, ok2 := u.CompletionTokens.Value()
		if !ok1 || !ok2 {
			return types.Gauge{}
		}
		return types.Known(prompt + completion)
	},
	"usage.prompt_tokens_details.cached_tokens": func(u types.Usage) types.Gauge { return u.CachedTokens },
}

// Value returns the figure for a usage, and whether there is one: the condition holds, and
// the server reported all that the expression asks for.
func (r *Report) Value(u types.Usage) (float64, bool) {
	lookup := func(path string) (float64, bool) { return usagePaths[path](u).Value() }
	if r.condition != nil {
		if ok, err := r.condition.Truth(lookup); err != nil || !ok {
			return 0, false
		}
	}
	v, err := r.expression.Number(lookup)
	return v, err == nil && v-v == 0
}

// reporter reads the attributes of a request-attribute-reporter.
func (t *translation) reporter(d *declared, p fields) map[string]any {
	d.nothing = true
	p.each("attributes", func(f fields) {
		key := f.object("key")
		r := Report{Namespace: key.str("namespace"), Name: key.need("name")}
		if r.Namespace == "" {
			r.Namespace = "envoy.lb"
		}
		key.done()
		r.expression = t.expression(f, "expression", f.need("expression"))
		if text := f.str("condition"); text != "" {
			r.condition = t.expression(f, "condition", text)
		}
		f.done()
		t.reports = append(t.reports, r)
	})
	p.done()
	return nil
}

func (t *translation) expression(f fields, field, text string) *expression.Expression {
	if text == "" {
		return nil // told
	}
	e, err := expression.Parse(text, func(path string) bool { return usagePaths[path] != nil })
	if err != nil {
		var names []string
		for name := range usagePaths {
			names = append(names, name)
		}
		f.Failf(f.at(field), "%w; names are %s", err, listed(names))
	}
	return e
}
