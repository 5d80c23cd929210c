package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// failure is a class of errors of the API server.
type failure uint8

const (
	otherFailure failure = iota // the server is away, or too busy, or broken
	cutFailure                  // the connection of a watch broke
	expired                     // the server does not know the resource version any more
	notServed                   // there is no such resource
	forbidden                   // a right is missing
)

// errCut is wrapped by errors of a watch that had begun.
var errCut = errors.New("the connection broke")

// classify tells what an error means.
func classify(err error) failure {
	switch {
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err),
		apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge):
		return expired
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		return notServed
	case apierrors.IsForbidden(err):
		return forbidden
	case errors.Is(err, errCut):
		return cutFailure
	}
	return otherFailure
}

// explain says what an error means for a target, and what to do.
func explain(err error, t target) error {
	where, remedy := "in all namespaces", " (by a ClusterRole, or set Options.Namespaces)"
	if t.namespace != "" {
		where, remedy = "in namespace "+t.namespace, ""
	}
	switch classify(err) {
	case forbidden:
		return fmt.Errorf("kubernetes: needs list and watch on %s %s%s: %w", t.GroupResource(), where, remedy, err)
	case notServed:
		return fmt.Errorf("%w: %s, %w", ErrNotServed, t.GroupVersionResource.GroupResource(), err)
	}
	if apierrors.IsUnauthorized(err) {
		return fmt.Errorf("kubernetes: the API server does not accept the credentials: %w", err)
	}
	return fmt.Errorf("kubernetes: %s %s: %w", t.GroupResource(), where, err)
}

// retry is how long to wait after failures. The zero value, with bounds, is good.
type retry struct {
	min, max time.Duration // for what is missing or forbidden, which somebody has to change
	away     time.Duration // at most, for a server that is away; 0: longestTry

	class failure
	count int // failures of this class in a row
}

// The bounds of waiting for a server that is away. Many watches break at the same time: the
// first wait is short, and all are random.
const (
	firstWait   = 100 * time.Millisecond
	shortestTry = 800 * time.Millisecond
	longestTry  = 30 * time.Second
	longestHint = 5 * time.Minute // that a server, or a proxy before it, may ask for
)

// succeeded forgets the failures.
func (r *retry) succeeded() { r.count = 0 }

// failed returns how long to wait after an error.
func (r *retry) failed(err error) time.Duration {
	class := classify(err)
	if class != r.class && (class == forbidden || class == notServed || class == expired) {
		r.count = 0 // the server answers, so failures to reach it are over
	}
	r.class = class
	r.count++
	low, high := shortestTry, cmp.Or(r.away, longestTry)
	switch {
	case class == forbidden || class == notServed:
		low, high = r.min, r.max
	case r.count == 1 && class == expired:
		return 0
	case r.count == 1 && class == cutFailure:
		return rand.N(firstWait)
	}
	wait := low
	for range r.count - 1 {
		wait = min(2*wait, high)
	}
	wait = min(wait, high)
	wait -= rand.N(wait/5 + 1)
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		wait = max(wait, min(time.Duration(seconds)*time.Second, longestHint))
	}
	return wait
}
