package rollouts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	k8stypes "k8s.io/apimachinery/pkg/types"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/internal/guardlog"
)

var eventsResource = schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}

// Waits before what has failed is tried again; it doubles from one to the other.
const minWait, maxWait = time.Second, 5 * time.Minute

// maxQueue bounds the events that wait to be sent; further ones are dropped.
const maxQueue = 256

// teller tells people of rollouts, by conditions and events, after the fact: that it cannot holds nobody up.
type teller struct {
	home *Home
	wake chan struct{}

	mu      sync.Mutex
	queue   []rollout.Event
	budgets map[rollout.Object]*budget
	states  map[rollout.Object][]byte // whose conditions are to be looked at
	stats   Stats

	names atomic.Uint64 // of events made so far
	told  map[string]bool
}

// Stats count what a Home has told.
type Stats struct {
	Events, Dropped uint64 // sent; and not sent, as there were too many or it failed
	Conditions      uint64 // written
	Failed          uint64 // requests for either
}

func newTeller(h *Home) *teller {
	return &teller{
		home: h, wake: make(chan struct{}, 1), budgets: make(map[rollout.Object]*budget),
		states: make(map[rollout.Object][]byte), told: make(map[string]bool),
	}
}

// Stats may be called at any time.
func (h *Home) Stats() Stats {
	h.teller.mu.Lock()
	defer h.teller.mu.Unlock()
	return h.teller.stats
}

// Event tells of something that happened to an object, as an event of Kubernetes, when Run gets to it. Verdicts are left
// out, and so is the same text again within 10 minutes; of one object 20 are told at once, and one more each 30 s. It
// does not block.
func (h *Home) Event(e rollout.Event) {
	if h.o.NoEvents || e.Kind == rollout.Judged {
		return
	}
	if e.Kind == rollout.Paused {
		if more := advice(h.Editor(e.Object), e.Object.Kind); more != "" {
			e.Text += "; " + more
		}
	}
	t := h.teller
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.budgets[e.Object]
	if b == nil {
		for o, one := range t.budgets {
			if len(t.budgets) >= maxBudgets || one.idle(e.At) {
				delete(t.budgets, o)
			}
		}
		b = new(budget)
		t.budgets[e.Object] = b
	}
	if len(t.queue) >= maxQueue || !b.allow(string(e.Kind)+": "+e.Text, e.At) {
		t.stats.Dropped++
		return
	}
	t.queue = append(t.queue, e)
	t.signal()
}

// state has the condition of an object follow a state that was written.
func (t *teller) state(o rollout.Object, state []byte) {
	if t.home.o.NoConditions {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.states[o] = append([]byte(nil), state...)
	t.signal()
}

// catchUp has a condition written that the writer of the state, who may have ended since, has not.
func (t *teller) catchUp(o rollout.Object, object *unstructured.Unstructured, state []byte) {
	if t.home.o.NoConditions {
		return
	}
	v := judge(state, advice(t.home.Editor(o), o.Kind))
	if _, differ, err := conditionsWith(object, v, time.Time{}); err == nil && differ {
		t.state(o, state)
	}
}

func (t *teller) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run sends events and writes conditions until ctx is done. It may be called once.
func (h *Home) Run(ctx context.Context) {
	guardlog.Teller(h.o.Logger, "rollouts").Loop(ctx, "Run", func() { h.run(ctx) })
}

func (h *Home) run(ctx context.Context) {
	t, wait := h.teller, time.Duration(0)
	for ctx.Err() == nil {
		if !t.next(ctx) {
			wait = min(max(minWait, 2*wait), maxWait)
			sleep(ctx, wait, nil)
			continue
		}
		wait = 0
		sleep(ctx, time.Hour, t.wake)
	}
}

// next tells what there is, and reports false if it is to be tried again.
func (t *teller) next(ctx context.Context) bool {
	t.mu.Lock()
	queue, states := t.queue, t.states
	t.queue, t.states = nil, make(map[rollout.Object][]byte)
	t.mu.Unlock()
	for _, e := range queue {
		err := t.event(ctx, e)
		t.count(err == nil, &t.stats.Events, &t.stats.Dropped)
		t.tell(ctx, "event", e.Object, err)
	}
	done := true
	for o, state := range states {
		written, err := t.condition(ctx, o, state)
		if written || err != nil {
			t.count(err == nil, &t.stats.Conditions, nil)
		}
		t.tell(ctx, "condition", o, err)
		if err == nil || errors.Is(err, ErrGone) || apierrors.IsInvalid(err) {
			continue
		}
		done = false
		t.mu.Lock()
		if _, newer := t.states[o]; !newer {
			t.states[o] = state
		}
		t.mu.Unlock()
	}
	return done
}

func (t *teller) count(ok bool, good, bad *uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ok {
		*good++
		return
	}
	t.stats.Failed++
	if bad != nil {
		*bad++
	}
}

// event sends one.
func (t *teller) event(ctx context.Context, e rollout.Event) error {
	h := t.home
	known, err := h.find(e.Object)
	if err != nil {
		return err
	}
	kind := "Normal"
	switch e.Kind {
	case rollout.Paused, rollout.Held, rollout.Aborted, rollout.Ended, rollout.Warned:
		kind = "Warning"
	}
	note := e.Text
	if e.Object.Kind == kindRewrite {
		note = fmt.Sprintf("rule %d: %s", e.Object.Rule, note)
	}
	const maxNote, maxName = 1023, 220
	event := map[string]any{
		"apiVersion": eventsResource.GroupVersion().String(), "kind": "Event",
		"metadata": map[string]any{
			"namespace": e.Object.Name.Namespace,
			"name":      fmt.Sprintf("%s.%x%x", cut(e.Object.Name.Name, maxName), e.At.UnixNano(), t.names.Add(1)),
		},
		"eventTime": e.At.UTC().Format(metav1.RFC3339Micro), "type": kind, "reason": "Rollout" + string(e.Kind), "action": "Rollout",
		"note": cut(note, maxNote), "reportingController": h.o.Component, "reportingInstance": cut(h.o.Instance, 128),
		"regarding": map[string]any{
			"apiVersion": known.Resource.GroupVersion().String(), "kind": known.Kind, "uid": known.UID,
			"namespace": e.Object.Name.Namespace, "name": e.Object.Name.Name,
		},
	}
	ctx, cancel := context.WithTimeout(ctx, h.o.Timeout)
	defer cancel()
	_, err = h.client.Resource(eventsResource).Namespace(e.Object.Name.Namespace).
		Create(ctx, &unstructured.Unstructured{Object: event}, metav1.CreateOptions{FieldManager: fieldManager})
	return explain(err, "create", eventsResource, e.Object.Name)
}

// condition makes the condition of an object say what a state says. It reports whether that needed a write.
func (t *teller) condition(ctx context.Context, o rollout.Object, state []byte) (written bool, err error) {
	h := t.home
	v := judge(state, advice(h.Editor(o), o.Kind))
	for range attempts {
		known, err := h.find(o)
		if err != nil {
			return false, err
		}
		object, err := h.get(ctx, o, known)
		if err != nil {
			return false, err
		}
		list, differ, err := conditionsWith(object, v, time.Now())
		if err != nil || !differ {
			return false, err
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": object.GetUID(), "resourceVersion": object.GetResourceVersion()},
			"status":   map[string]any{"conditions": list},
		})
		if err != nil {
			return false, err
		}
		err = t.patchStatus(ctx, known.Resource, o, patch)
		if !apierrors.IsConflict(err) {
			return true, err
		}
	}
	return false, nil // it is written all the time: the next state brings it up to date
}

func (t *teller) patchStatus(ctx context.Context, gvr schema.GroupVersionResource, o rollout.Object, patch []byte) error {
	ctx, cancel := context.WithTimeout(ctx, t.home.o.Timeout)
	defer cancel()
	_, err := t.home.client.Resource(gvr).Namespace(o.Name.Namespace).
		Patch(ctx, o.Name.Name, k8stypes.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	gvr.Resource += "/status"
	return explain(err, "patch", gvr, o.Name)
}

// tell logs a failure once, until it has passed.
func (t *teller) tell(ctx context.Context, what string, o rollout.Object, err error) {
	about := what + " " + o.Kind
	if err == nil {
		delete(t.told, about)
		return
	}
	if ctx.Err() != nil || t.told[about] {
		return
	}
	t.told[about] = true
	t.home.o.Logger.LogAttrs(ctx, slog.LevelWarn, "a rollout's "+what+" cannot be written",
		slog.String("kind", o.Kind), slog.String("name", o.Name.String()), slog.Any("error", err))
}

// cut returns the start of a text that has so many bytes at most.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && text[most]&0xC0 == 0x80 {
		most--
	}
	return text[:most]
}

// sleep waits, or until ctx is done or something comes.
func sleep(ctx context.Context, d time.Duration, cut <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-cut:
	case <-ctx.Done():
	}
}
