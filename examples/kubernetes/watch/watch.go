// Package watch keeps the objects of a cluster that a gateway goes by. A kind that is missing,
// or that may not be read, leaves the others alone: it is tried again for as long as it takes,
// and what was known of it stays known.
package watch

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/inferpick/inferpick/types"
)

// Kind is a kind of objects to watch, in all namespaces.
type Kind struct {
	schema.GroupVersionResource
	// Name is that of the kind, for the log.
	Name string
	// Fields selects objects by their fields. Empty: all.
	Fields string
	// Decode makes of an object what Watcher.Objects returns. With an error the version before
	// stays, if there was one. Required.
	Decode func(*unstructured.Unstructured) (any, error)
	// Raw keeps objects as they are, for Watcher.Raw.
	Raw bool
}

// Watcher keeps the objects of its kinds. Its methods may be called from any goroutine.
type Watcher struct {
	client  dynamic.Interface
	logger  *slog.Logger
	kinds   []*kind
	changed chan struct{}
	synced  chan struct{}
	unknown atomic.Int32 // kinds of which nothing is known yet, not even why
}

// New returns a Watcher, which knows nothing before Run.
func New(client dynamic.Interface, logger *slog.Logger, kinds ...Kind) *Watcher {
	w := &Watcher{client: client, logger: logger, changed: make(chan struct{}, 1), synced: make(chan struct{})}
	w.unknown.Store(int32(len(kinds)))
	for _, k := range kinds {
		w.kinds = append(w.kinds, &kind{Kind: k, w: w, objects: make(map[types.NamespacedName]object)})
	}
	return w
}

// Run keeps the objects up to date until ctx is done.
func (w *Watcher) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, k := range w.kinds {
		all.Go(func() { k.run(ctx) })
	}
}

// Synced returns a channel that is closed when each kind was listed, or could not be.
func (w *Watcher) Synced() <-chan struct{} { return w.synced }

// Changed returns a channel that has a value when objects may have changed since the last one.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Objects returns what Kind.Decode made of the objects of a kind, in no order.
func Objects[T any](w *Watcher, resource schema.GroupVersionResource) []T {
	k := w.kind(resource)
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]T, 0, len(k.objects))
	for _, o := range k.objects {
		if v, ok := o.value.(T); ok {
			list = append(list, v)
		}
	}
	return list
}

// Raw returns an object as it was last seen, which must not be changed, or nil.
func (w *Watcher) Raw(resource schema.GroupVersionResource, name types.NamespacedName) *unstructured.Unstructured {
	k := w.kind(resource)
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.objects[name].raw
}

// Failures returns why kinds are not up to date.
func (w *Watcher) Failures() map[schema.GroupVersionResource]error {
	failures := make(map[schema.GroupVersionResource]error)
	for _, k := range w.kinds {
		k.mu.Lock()
		if k.err != nil {
			failures[k.GroupVersionResource] = k.err
		}
		k.mu.Unlock()
	}
	return failures
}

// learned counts a kind of which something is known now.
func (w *Watcher) learned() {
	if w.unknown.Add(-1) == 0 {
		close(w.synced)
	}
}

func (w *Watcher) kind(resource schema.GroupVersionResource) *kind {
	for _, k := range w.kinds {
		if k.GroupVersionResource == resource {
			return k
		}
	}
	panic("watch: " + resource.String() + " is not watched")
}

func (w *Watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default: // there is a signal already
	}
}

// kind is what is known of a kind. It is the store of a cache.Reflector.
type kind struct {
	Kind
	w     *Watcher
	first sync.Once // of learned

	mu      sync.Mutex
	objects map[types.NamespacedName]object
	err     error
}

type object struct {
	value any
	raw   *unstructured.Unstructured // with Kind.Raw
}

// minRetry and maxRetry bound how long a kind is left alone that cannot be read.
const minRetry, maxRetry = 800 * time.Millisecond, 30 * time.Second

func (k *kind) run(ctx context.Context) {
	silent := logr.Discard() // failures are told by failed
	ctx = klog.NewContext(ctx, silent)
	client := k.w.client.Resource(k.GroupVersionResource)
	r := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = k.Fields
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.FieldSelector = k.Fields
			return client.Watch(ctx, o)
		},
	}, &unstructured.Unstructured{}, k, cache.ReflectorOptions{Name: k.Resource, Logger: &silent})
	for pause := minRetry; ctx.Err() == nil; pause = min(2*pause, maxRetry) {
		began := time.Now()
		if err := r.ListAndWatchWithContext(ctx); err != nil {
			k.failed(ctx, err)
		}
		if time.Since(began) > maxRetry { // it went well for a while
			pause = minRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)): // not all gateways at once
		}
	}
}

// failed notes why a kind cannot be listed, and says so if it is news.
func (k *kind) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	news := k.err == nil || k.err.Error() != err.Error()
	k.err = err
	k.mu.Unlock()
	if level := slog.LevelWarn; news {
		if apierrors.IsNotFound(err) { // a cluster need not have every kind
			level = slog.LevelInfo
		}
		k.w.logger.Log(ctx, level, "a kind cannot be read and is tried again", slog.String("kind", k.Name), slog.String("resource", k.GroupResource().String()), slog.Any("error", err))
	}
	k.first.Do(k.w.learned)
}

// putLocked keeps an object. Caller must hold k.mu.
func (k *kind) putLocked(o any) {
	raw, ok := o.(*unstructured.Unstructured)
	if !ok {
		return
	}
	name := nameOf(raw)
	value, err := k.Decode(raw)
	if err != nil {
		k.w.logger.Warn("an object is not understood", slog.String("resource", k.GroupResource().String()), slog.String("name", name.String()), slog.Any("error", err))
		return
	}
	kept := object{value: value}
	if k.Raw {
		kept.raw = raw
	}
	k.objects[name] = kept
}

// Add implements cache.ReflectorStore.
func (k *kind) Add(o any) error {
	defer k.w.signal()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.putLocked(o)
	return nil
}

// Update implements cache.ReflectorStore.
func (k *kind) Update(o any) error { return k.Add(o) }

// Delete implements cache.ReflectorStore.
func (k *kind) Delete(o any) error {
	defer k.w.signal()
	k.mu.Lock()
	defer k.mu.Unlock()
	if raw, ok := o.(*unstructured.Unstructured); ok {
		delete(k.objects, nameOf(raw))
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (k *kind) Replace(list []any, _ string) error {
	defer k.w.signal()
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.objects
	k.objects = make(map[types.NamespacedName]object, len(list))
	for _, o := range list {
		if raw, ok := o.(*unstructured.Unstructured); ok {
			if had, ok := before[nameOf(raw)]; ok {
				k.objects[nameOf(raw)] = had
			}
		}
		k.putLocked(o)
	}
	if k.err != nil {
		k.w.logger.Info("a kind is read again", slog.String("resource", k.GroupResource().String()))
		k.err = nil
	}
	k.first.Do(k.w.learned)
	return nil
}

// Resync implements cache.ReflectorStore.
func (*kind) Resync() error { return nil }

func nameOf(o *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

var _ cache.ReflectorStore = (*kind)(nil)
