package admission

import (
	"iter"
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Max is the fullest that any of several detectors says; what one does not know the
// others decide. It is what any of them is beside.
type Max []Detector

// Fill implements Detector.
func (m Max) Fill(q Query, ep *types.Endpoint) float64 {
	fill := math.NaN()
	for _, d := range m {
		fill = fuller(fill, d.Fill(q, ep))
	}
	return fill
}

// Slots implements SlotDetector.
func (m Max) Slots(q Query, ep *types.Endpoint) float64 {
	fill := math.NaN()
	for s := range those[SlotDetector](m) {
		fill = fuller(fill, s.Slots(q, ep))
	}
	return fill
}

// UsesTarget implements TargetDetector.
func (m Max) UsesTarget() (uses bool) {
	for t := range those[TargetDetector](m) {
		uses = uses || t.UsesTarget()
	}
	return uses
}

// FirstToken implements Learner.
func (m Max) FirstToken(ep *types.Endpoint, tokens int64, took time.Duration) {
	for l := range those[Learner](m) {
		l.FirstToken(ep, tokens, took)
	}
}

// Served implements ServiceLearner.
func (m Max) Served(ep *types.Endpoint, s Served) {
	for l := range those[ServiceLearner](m) {
		l.Served(ep, s)
	}
}

// Reading implements ReadingLearner.
func (m Max) Reading(ep *types.Endpoint, since Since) {
	for l := range those[ReadingLearner](m) {
		l.Reading(ep, since)
	}
}

// Forget implements Forgetter.
func (m Max) Forget(ep *types.Endpoint) {
	for f := range those[Forgetter](m) {
		f.Forget(ep)
	}
}

// keep implements keeper.
func (m Max) keep(ep *types.Endpoint, note func(keptKind, float64, float64)) {
	for k := range those[keeper](m) {
		k.keep(ep, note)
	}
}

// recall implements keeper.
func (m Max) recall(ep *types.Endpoint, kind keptKind, a, b float64) {
	for k := range those[keeper](m) {
		k.recall(ep, kind, a, b)
	}
}

// those returns the detectors that are a T beside.
func those[T any](m Max) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, d := range m {
			if t, ok := d.(T); ok && !yield(t) {
				return
			}
		}
	}
}

var (
	_ SlotDetector   = Max{}
	_ TargetDetector = Max{}
	_ Learner        = Max{}
	_ ServiceLearner = Max{}
	_ ReadingLearner = Max{}
)
