package config

import (
	"slices"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/plugins"
)

// roleLabel is the label by which llm-d tells what a server is for.
const roleLabel = "llm-d.ai/role"

// role is the conversion of a filter that keeps servers of some roles.
func role(unlabelled bool, roles ...string) func(*translation, *declared, fields) map[string]any {
	return func(t *translation, _ *declared, p fields) map[string]any {
		p.done()
		return expressions(plugins.LabelExpression{Key: roleLabel, Operator: plugins.OpIn, Values: roles, Optional: unlabelled})
	}
}

func expressions(e ...plugins.LabelExpression) map[string]any {
	return map[string]any{"expressions": e}
}

// labelSelector reads a label selector of Kubernetes.
func (t *translation) labelSelector(_ *declared, p fields) map[string]any {
	ours := make(map[string]any)
	match := p.object("matchLabels")
	for name := range match.m {
		match.str(name)
	}
	if len(match.m) > 0 {
		ours["match"] = match.m
	}
	operators := []string{plugins.OpIn, plugins.OpNotIn, plugins.OpExists, plugins.OpDoesNotExist}
	var list []plugins.LabelExpression
	p.each("matchExpressions", func(f fields) {
		e := plugins.LabelExpression{Key: f.need("key"), Operator: f.need("operator"), Values: f.listOfStrings("values")}
		f.done()
		if e.Operator != "" && !slices.Contains(operators, e.Operator) {
			f.Failf(f.at("operator"), "is %s, which is unknown%s", check.Show(e.Operator), check.Suggest(e.Operator, operators))
			return
		}
		list = append(list, e)
	})
	if len(list) > 0 {
		ours["expressions"] = list
	}
	p.done()
	return ours
}

// byLabel reads the filter by one label of llm-d.
func (t *translation) byLabel(_ *declared, p fields) map[string]any {
	key, values, unlabelled := p.need("label"), p.listOfStrings("validValues"), p.boolean("allowsNoLabel")
	p.done()
	switch {
	case len(values) == 0 && !unlabelled:
		p.Failf(p.at("validValues"), "is empty, want some, or allowsNoLabel to be true")
		return nil
	case len(values) == 0:
		return expressions(plugins.LabelExpression{Key: key, Operator: plugins.OpDoesNotExist})
	}
	return expressions(plugins.LabelExpression{Key: key, Operator: plugins.OpIn, Values: values, Optional: unlabelled})
}
