package status

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/types"
)

// Waits before something is tried again; each doubles up to its bound.
const (
	minAway, maxAway           = time.Second, 30 * time.Second     // the server is away
	minForbidden, maxForbidden = 30 * time.Second, 5 * time.Minute // a right is missing
	minContested, maxContested = 2 * time.Second, 5 * time.Minute  // another program writes other things
)

// write is one that is to be made.
type write struct {
	object     *kubernetes.Object
	verdict    verdict
	conditions []types.Condition
}

// outcome is what became of a write.
type outcome int

const (
	written   outcome = iota
	outdated          // there is a newer version of the object, or none any more
	refused           // the server does not take this status for this object
	forbidden         // a right is missing
	away              // it failed for a reason that passes
)

type key struct {
	resource schema.GroupVersionResource
	name     types.NamespacedName
	uid      string
}

// memo is what is remembered of an object that was written.
type memo struct {
	from    string  // the version that it was written from
	verdict verdict // that was written last
	pause           // while the same would be written once more
}

// pause is a wait that doubles.
type pause struct {
	wait  time.Duration
	until time.Time
}

func (p *pause) longer(now time.Time, least, most time.Duration) {
	p.wait = min(max(least, 2*p.wait), most)
	p.until = now.Add(p.wait)
}

// plan decides what to write next.
type plan struct {
	memos     map[key]memo
	forbidden map[schema.GroupVersionResource]pause
	away      pause
	pending   int // writes that are not made yet
}

func newPlan() *plan {
	return &plan{memos: make(map[key]memo), forbidden: make(map[schema.GroupVersionResource]pause)}
}

// next returns what is to be written now, nil if there is nothing, and when to look again
// although nothing has changed; zero: no need to.
func (p *plan) next(objects []kubernetes.Object, status func(kind string, name types.NamespacedName) ([]types.Condition, bool), now time.Time) (first *write, wake time.Time) {
	memos := make(map[key]memo, len(p.memos)) // of the objects that are still there
	p.pending = 0
	for i := range objects {
		o := &objects[i]
		k := keyOf(o)
		m, known := p.memos[k]
		if known {
			memos[k] = m
		}
		inStore, _ := status(o.Kind, o.Name)
		v, ok := judge(o, inStore)
		if !ok {
			continue
		}
		conditions, differ := v.conditions(o.Conditions, now)
		if !differ || known && m.from == o.ResourceVersion { // the source has not seen what came of it
			continue
		}
		p.pending++
		at := p.until(o, v, now)
		switch {
		case at.After(now):
			if wake.IsZero() || at.Before(wake) {
				wake = at
			}
		case first == nil:
			first = &write{o, v, conditions}
		}
	}
	p.memos = memos
	return first, wake
}

// until returns when a verdict may be written.
func (p *plan) until(o *kubernetes.Object, v verdict, now time.Time) time.Time {
	at := now
	for _, other := range []time.Time{p.away.until, p.forbidden[o.Resource].until} {
		if other.After(at) {
			at = other
		}
	}
	if m := p.memos[keyOf(o)]; m.verdict == v && m.until.After(at) {
		at = m.until
	}
	return at
}

// done takes what became of a write.
func (p *plan) done(w *write, what outcome, now time.Time) {
	o := w.object
	m := p.memos[keyOf(o)]
	switch what {
	case away:
		p.away.longer(now, minAway, maxAway)
		return
	case forbidden:
		one := p.forbidden[o.Resource]
		one.longer(now, minForbidden, maxForbidden)
		p.forbidden[o.Resource] = one
		return
	case written, refused:
		if m.verdict != w.verdict {
			m = memo{verdict: w.verdict}
		} else {
			m.longer(now, minContested, maxContested)
		}
		p.away = pause{}
		delete(p.forbidden, o.Resource)
	}
	m.from = o.ResourceVersion
	p.memos[keyOf(o)] = m
}

func keyOf(o *kubernetes.Object) key { return key{o.Resource, o.Name, o.UID} }
