package config

import (
	"maps"
	"slices"
	"strings"
)

// This file is about the latency predictor: what it predicts a latency-cost estimates,
// without a model of its own to be trained. The SLO is that of the request's headers.

// predicted makes a latency-cost of a scorer by predicted latency.
func (t *translation) predicted(d *declared, p fields) map[string]any {
	d.predicts = true
	t.withoutTuning(p)
	return nil
}

// partOfPrediction is what a latency-cost does in any case: it predicts, and prefers the
// endpoints that meet the SLO.
func (t *translation) partOfPrediction(d *declared, p fields) map[string]any {
	d.predicts, d.nothing = true, true
	t.withoutTuning(p)
	return nil
}

// admitter is used by every profile.
func (t *translation) admitter(d *declared, p fields) map[string]any {
	d.predicts, d.everyone = true, true
	return p.m
}

// withoutTuning warns of parameters of the predictor.
func (t *translation) withoutTuning(p fields) {
	if names := slices.Sorted(maps.Keys(p.m)); len(names) > 0 {
		t.warn("%s: %s have no effect here: a latency-cost estimates what the predictor predicted", p.path, strings.Join(names, ", "))
	}
}
