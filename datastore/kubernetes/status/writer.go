package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8stypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/types"
)

// Options of a Writer. The zero value is good.
type Options struct {
	// Rate bounds the writes in a second. Default 5.
	Rate float64
	// Logger hears of failures, repeated ones once. Nil: silence.
	Logger *slog.Logger
}

// Source says which objects there are, as kubernetes.Source does.
type Source interface {
	Synced() <-chan struct{}
	Changed() <-chan struct{}
	Objects() []kubernetes.Object
}

// Store says whether they are accepted, as datastore.Store does.
type Store interface {
	Status(kind string, name types.NamespacedName) ([]types.Condition, bool)
}

// Writer writes statuses while it runs. Make one with New.
type Writer struct {
	o      Options
	client dynamic.Interface
	source Source
	store  Store
	told   map[string]bool // failures

	written, failed atomic.Uint64
	pending         atomic.Int64
}

// Stats count what a Writer has done.
type Stats struct {
	Written, Failed uint64 // writes
	Pending         int    // objects whose status is not yet what it is to be; 0 while it does not run
}

// writeTimeout bounds one write; pass is the least time between two looks at all objects.
const (
	writeTimeout = 10 * time.Second
	pass         = 100 * time.Millisecond
)

// New returns a Writer for the cluster of config, which does nothing until Run is called.
func New(config *rest.Config, source Source, store Store, o Options) (*Writer, error) {
	if o.Rate < 0 {
		return nil, fmt.Errorf("status: Options.Rate is %v, want more than 0, or 0 for the default of 5", o.Rate)
	}
	if o.Rate == 0 {
		o.Rate = 5
	}
	o.Logger = guardlog.Logger(o.Logger)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return &Writer{o: o, client: client, source: source, store: store, told: make(map[string]bool)}, nil
}

// Stats may be called at any time.
func (w *Writer) Stats() Stats {
	return Stats{w.written.Load(), w.failed.Load(), int(w.pending.Load())}
}

// Run waits until the source is synced and then writes what changes, until ctx is done. It may be
// called again after it has returned, as when a lease is won again. It receives from
// Source.Changed.
func (w *Writer) Run(ctx context.Context) {
	defer w.pending.Store(0)
	guardlog.Teller(w.o.Logger, "status").Loop(ctx, "Run", func() { w.run(ctx) })
}

func (w *Writer) run(ctx context.Context) {
	select {
	case <-w.source.Synced():
	case <-ctx.Done():
		return
	}
	for p := newPlan(); ctx.Err() == nil; {
		next, wake := p.next(w.source.Objects(), w.store.Status, time.Now())
		w.pending.Store(int64(p.pending))
		if next == nil {
			sleep(ctx, pass, nil)
			w.wait(ctx, wake)
			continue
		}
		what, err := w.write(ctx, next)
		if ctx.Err() != nil {
			return
		}
		p.done(next, what, time.Now())
		w.tell(ctx, next, what, err)
		sleep(ctx, time.Duration(float64(time.Second)/w.o.Rate), nil)
	}
}

// wait waits for something to change, or until wake if that is not zero.
func (w *Writer) wait(ctx context.Context, wake time.Time) {
	d := time.Hour
	if !wake.IsZero() {
		d = time.Until(wake)
	}
	sleep(ctx, d, w.source.Changed())
}

// condition has the fields that the API requires also where they are empty.
type condition struct {
	Type               string                `json:"type"`
	Status             types.ConditionStatus `json:"status"`
	ObservedGeneration int64                 `json:"observedGeneration,omitempty"`
	LastTransitionTime string                `json:"lastTransitionTime"`
	Reason             string                `json:"reason"`
	Message            string                `json:"message"`
}

// write replaces the conditions of the version of an object that was seen: with another version
// the server refuses it. A patch of the list as a whole can take the default out, which a patch
// of items that somebody else owns cannot.
func (w *Writer) write(ctx context.Context, one *write) (outcome, error) {
	if len(one.conditions) > maxConditions {
		return refused, fmt.Errorf("it has %d conditions of others, and with Accepted more than %d", len(one.conditions)-1, maxConditions)
	}
	list := make([]condition, 0, len(one.conditions))
	for _, c := range one.conditions {
		list = append(list, condition{c.Type, c.Status, c.ObservedGeneration, c.LastTransitionTime.UTC().Format(time.RFC3339), c.Reason, c.Message})
	}
	o := one.object
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": o.ResourceVersion, "uid": o.UID},
		"status":   map[string]any{"conditions": list},
	})
	if err != nil {
		return refused, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = w.client.Resource(o.Resource).Namespace(o.Name.Namespace).
		Patch(ctx, o.Name.Name, k8stypes.MergePatchType, data, metav1.PatchOptions{FieldManager: "inferpick"}, "status")
	return outcomeOf(err), err
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return written
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsGone(err):
		return outdated
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err), apierrors.IsRequestEntityTooLargeError(err):
		return refused
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return forbidden
	}
	return away
}

// tell counts a write, and logs a failure once.
func (w *Writer) tell(ctx context.Context, one *write, what outcome, err error) {
	o := one.object
	switch what {
	case written:
		w.written.Add(1)
		delete(w.told, o.Name.String())
		delete(w.told, o.Resource.String())
		w.o.Logger.LogAttrs(ctx, slog.LevelDebug, "status written", slog.String("kind", o.Kind), slog.String("name", o.Name.String()),
			slog.String("accepted", string(one.verdict.status)), slog.String("reason", one.verdict.reason))
		return
	case outdated:
		return
	}
	w.failed.Add(1)
	about := o.Name.String()
	if what != refused {
		about = o.Resource.String()
	}
	if !w.told[about] {
		w.told[about] = true
		w.o.Logger.LogAttrs(ctx, slog.LevelWarn, "status cannot be written", slog.String("kind", o.Kind), slog.String("name", o.Name.String()), slog.Any("error", err))
	}
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

var (
	_ Source = (*kubernetes.Source)(nil)
)
