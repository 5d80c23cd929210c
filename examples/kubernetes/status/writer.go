package status

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/types"
)

// Resources that have a status to write.
var (
	Classes    = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gatewayclasses"}
	Gateways   = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"}
	Routes     = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	Pools      = schema.GroupVersionResource{Group: routing.PoolGroup, Version: "v1", Resource: "inferencepools"}
	PoolsAlpha = schema.GroupVersionResource{Group: routing.PoolGroupAlpha, Version: "v1alpha2", Resource: "inferencepools"}
)

// Writer writes statuses, at most five a second after a burst of fifty. It is for one goroutine.
type Writer struct {
	// Client writes. Required.
	Client dynamic.Interface
	// Cached returns an object as it was last seen, nil if it is not there. Required.
	Cached func(schema.GroupVersionResource, types.NamespacedName) *unstructured.Unstructured
	// Logger is told of what cannot be written. Required.
	Logger *slog.Logger

	limit   flowcontrol.RateLimiter
	written map[object]string // the version that was seen when the next one was written
	refused map[object]time.Time
	away    bool // the server did not answer the last write
}

// object names one that has a status.
type object struct {
	resource schema.GroupVersionResource
	name     types.NamespacedName
}

// change is what makes a status of an object of the one that it has.
type change struct {
	object
	merge func(have fields, now metav1.Time) fields
}

// retryRefused is how long a write is not tried again for an object that refused one.
const retryRefused = 30 * time.Second

// Write writes what differs. It returns when all was tried or ctx is done, and reports whether
// all is written: if not, it is to be called again.
func (w *Writer) Write(ctx context.Context, s *routing.Status) bool {
	if w.limit == nil {
		w.limit = flowcontrol.NewTokenBucketRateLimiter(5, 50)
		w.written, w.refused = make(map[object]string), make(map[object]time.Time)
	}
	all, was := true, w.away
	w.away = false
	for _, c := range w.changes(s) {
		if all = w.write(ctx, c) && all; ctx.Err() != nil || w.away {
			break
		}
	}
	if w.away && !was {
		w.Logger.Warn("statuses cannot be written: the API server does not answer")
	}
	return all
}

// changes are those of all objects, in order of how much depends on them.
func (w *Writer) changes(s *routing.Status) []change {
	var list []change
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		list = append(list, change{object{Classes, types.NamespacedName{Name: name}}, func(have fields, now metav1.Time) fields {
			return mergeClass(have, s.Classes[name], now)
		}})
	}
	for _, name := range slices.SortedFunc(maps.Keys(s.Gateways), types.NamespacedName.Compare) {
		list = append(list, change{object{Gateways, name}, func(have fields, now metav1.Time) fields {
			return mergeGateway(have, s.Gateways[name], now)
		}})
	}
	for _, name := range slices.SortedFunc(maps.Keys(s.Routes), types.NamespacedName.Compare) {
		list = append(list, change{object{Routes, name}, func(have fields, now metav1.Time) fields {
			return mergeRoute(have, s.Routes[name], s.Controller, now)
		}})
	}
	foreign := func(gateway types.NamespacedName) bool {
		_, ours := s.Gateways[gateway]
		return !ours && w.Cached(Gateways, gateway) != nil
	}
	for key, parents := range s.Pools {
		resource := Pools
		if key.Group == routing.PoolGroupAlpha {
			resource = PoolsAlpha
		}
		list = append(list, change{object{resource, key.Name}, func(have fields, now metav1.Time) fields {
			return mergePool(have, key, parents, s.Controller, foreign, now)
		}})
	}
	return list
}

// write writes one status if it differs, and reports whether it is as it shall be.
func (w *Writer) write(ctx context.Context, c change) bool {
	cached := w.Cached(c.resource, c.name)
	if cached == nil || w.written[c.object] == cached.GetResourceVersion() {
		return true // gone, or what was written is still on its way back
	}
	have, _, _ := unstructured.NestedMap(cached.Object, "status")
	next := c.merge(have, metav1.Now())
	if equality.Semantic.DeepEqual(have, next) {
		delete(w.written, c.object)
		return true
	}
	if time.Since(w.refused[c.object]) < retryRefused || w.limit.Wait(ctx) != nil {
		return false
	}
	updated := cached.DeepCopy()
	updated.Object["status"] = next
	_, err := w.Client.Resource(c.resource).Namespace(c.name.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{FieldManager: "inferpick"})
	switch {
	case err == nil:
		w.written[c.object] = cached.GetResourceVersion()
		delete(w.refused, c.object)
		return true
	case apierrors.IsNotFound(err):
		return true
	case apierrors.IsConflict(err):
		return false // the newer one is on its way
	case ctx.Err() != nil:
	case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown:
		w.away = true
	default:
		w.refused[c.object] = time.Now()
		w.Logger.Error("a status cannot be written", slog.String("resource", c.resource.Resource), slog.String("name", c.name.String()), slog.Any("error", err))
	}
	return false
}
