package rollout

import (
	"fmt"
	"slices"

	"github.com/inferpick/inferpick/types"
)

// This file reads and writes the weights of manifests.

// WeightsOf returns the weights of the targets of an InferenceModel, or of a rule of an
// InferenceModelRewrite, in their order: 1 each if none has one, and 0 for a target of a rewrite that
// has none where others do. A model without targets has its own name as the only one. A name that is
// there twice has both weights.
func WeightsOf(o types.Object, rule int) ([]Weight, error) {
	var all []Weight
	add := func(name string, weight *int32) {
		w := Weight{Target: name, Weight: 1}
		if weight != nil {
			w.Weight = *weight
		}
		if i := slices.IndexFunc(all, func(had Weight) bool { return had.Target == name }); i >= 0 {
			all[i].Weight += w.Weight
			return
		}
		all = append(all, w)
	}
	switch o := o.(type) {
	case *types.InferenceModel:
		for _, t := range o.Spec.TargetModels {
			add(t.Name, t.Weight)
		}
		if len(all) == 0 {
			add(o.Spec.ModelName, nil)
		}
		return all, nil
	case *types.InferenceModelRewrite:
		r, err := ruleOf(o, rule)
		if err != nil {
			return nil, err
		}
		var none int32
		weighted := slices.ContainsFunc(r.Targets, func(t types.RewriteTarget) bool { return t.Weight != nil })
		for _, t := range r.Targets {
			if t.Weight == nil && weighted {
				t.Weight = &none
			}
			add(t.ModelRewrite, t.Weight)
		}
		return all, nil
	}
	return nil, wrongKind(o)
}

// SetWeights makes weights those of the targets of a manifest as WeightsOf returns them. Targets keep
// their order; those that are new come last, and those of weight 0, or without one, are not listed.
func SetWeights(o types.Object, rule int, weights []Weight) error {
	listed := func(name string) (int32, bool) {
		i := slices.IndexFunc(weights, func(w Weight) bool { return w.Target == name })
		return weightAt(weights, i), i >= 0 && weights[i].Weight > 0
	}
	if !slices.ContainsFunc(weights, func(w Weight) bool { return w.Weight > 0 }) {
		return fmt.Errorf("rollout: %s %s: no target has a weight", o.Kind(), o.Key())
	}
	had, err := WeightsOf(o, rule)
	if err != nil {
		return err
	}
	var names []string
	for _, w := range append(had, weights...) {
		if _, ok := listed(w.Target); ok && !slices.Contains(names, w.Target) {
			names = append(names, w.Target)
		}
	}
	switch o := o.(type) {
	case *types.InferenceModel:
		o.Spec.TargetModels = make([]types.TargetModel, len(names))
		for i, name := range names {
			weight, _ := listed(name)
			o.Spec.TargetModels[i] = types.TargetModel{Name: name, Weight: &weight}
		}
	case *types.InferenceModelRewrite:
		targets := make([]types.RewriteTarget, len(names))
		for i, name := range names {
			weight, _ := listed(name)
			targets[i] = types.RewriteTarget{ModelRewrite: name, Weight: &weight}
		}
		o.Spec.Rules[rule].Targets = targets
	}
	return nil
}

func weightAt(weights []Weight, i int) int32 {
	if i < 0 {
		return 0
	}
	return weights[i].Weight
}

func ruleOf(o *types.InferenceModelRewrite, rule int) (*types.RewriteRule, error) {
	if rule < 0 || rule >= len(o.Spec.Rules) {
		return nil, fmt.Errorf("rollout: InferenceModelRewrite %s has %d rules, so that there is no rule %d, counted from 0", o.Key(), len(o.Spec.Rules), rule)
	}
	return &o.Spec.Rules[rule], nil
}

func wrongKind(o types.Object) error {
	return fmt.Errorf("rollout: %s %s has no targets: a rollout is of an InferenceModel or an InferenceModelRewrite", o.Kind(), o.Key())
}

// poolOf returns the pool whose servers have the targets of a manifest.
func poolOf(o types.Object) (types.NamespacedName, error) {
	switch o := o.(type) {
	case *types.InferenceModel:
		return o.Pool(), nil
	case *types.InferenceModelRewrite:
		return o.Pool(), nil
	}
	return types.NamespacedName{}, wrongKind(o)
}

// publicNames returns the names of models that a manifest, or a rule of it, is for; none: for all.
func publicNames(o types.Object, rule int) []string {
	switch o := o.(type) {
	case *types.InferenceModel:
		return []string{o.Spec.ModelName}
	case *types.InferenceModelRewrite:
		if r, err := ruleOf(o, rule); err == nil {
			var names []string
			for _, m := range r.Matches {
				names = append(names, m.Model.Value)
			}
			return names
		}
	}
	return nil
}
