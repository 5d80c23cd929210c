// Package access finds out who asks for something, and whether they may have it, as the API server of a cluster says.
package access

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// How long an answer of the API server holds, how many are kept, and how long one may take.
const (
	yesFor        = time.Minute
	noFor         = 10 * time.Second
	maxReviews    = 1024
	reviewTimeout = 5 * time.Second
)

// User is who asks.
type User struct {
	Name   string              `json:"username"`
	UID    string              `json:"uid,omitempty"`
	Groups []string            `json:"groups,omitempty"`
	Extra  map[string][]string `json:"extra,omitempty"`
}

// Wish is what somebody wants: to do something with a resource, or with a path if there is no Resource.
type Wish struct {
	Verb                                string
	Path                                string
	Group, Version, Resource, Namespace string
}

// Reviewer asks the API server, which must allow it to create TokenReviews and SubjectAccessReviews. Answers are kept for
// a minute, refusals for ten seconds. Its methods may be called from any goroutine.
type Reviewer struct {
	client dynamic.Interface
	now    func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]review
}

// review is an answer of the API server.
type review struct {
	yes   bool
	user  User // of a token that is known
	until time.Time
}

// NewReviewer returns one that asks the API server there.
func NewReviewer(api *rest.Config) (*Reviewer, error) {
	client, err := dynamic.NewForConfig(api)
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	return &Reviewer{client: client, now: time.Now, known: make(map[[sha256.Size]byte]review)}, nil
}

// Token returns whose token it is, and whether it is anybody's. The error is that the API server cannot be asked.
func (v *Reviewer) Token(ctx context.Context, token string) (User, bool, error) {
	r, err := v.recall(sha256.Sum256([]byte("token\x00"+token)), func() (r review, err error) {
		status, err := v.create(ctx, "authentication.k8s.io", "TokenReview", map[string]any{"token": token})
		if err != nil {
			return r, err
		}
		if r.yes, _, _ = unstructured.NestedBool(status, "authenticated"); !r.yes {
			return r, nil
		}
		user, _, _ := unstructured.NestedMap(status, "user")
		return r, runtime.DefaultUnstructuredConverter.FromUnstructured(user, &r.user)
	})
	return r.user, r.yes, err
}

// May reports whether a user may do what is wished. The error is that the API server cannot be asked.
func (v *Reviewer) May(ctx context.Context, user User, wish Wish) (bool, error) {
	key, err := json.Marshal([]any{user, wish})
	if err != nil {
		return false, fmt.Errorf("access: %w", err)
	}
	r, err := v.recall(sha256.Sum256(key), func() (r review, err error) {
		spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&user)
		if err != nil {
			return r, err
		}
		spec["user"] = spec["username"]
		delete(spec, "username")
		if wish.Resource == "" {
			spec["nonResourceAttributes"] = map[string]any{"verb": wish.Verb, "path": wish.Path}
		} else {
			spec["resourceAttributes"] = map[string]any{
				"verb": wish.Verb, "group": wish.Group, "version": wish.Version, "resource": wish.Resource, "namespace": wish.Namespace,
			}
		}
		status, err := v.create(ctx, "authorization.k8s.io", "SubjectAccessReview", spec)
		r.yes, _, _ = unstructured.NestedBool(status, "allowed")
		return r, err
	})
	return r.yes, err
}

// recall returns the answer there is, or else asks for one. While the API server does not answer, nobody is let in who
// was not just before.
func (v *Reviewer) recall(key [sha256.Size]byte, ask func() (review, error)) (review, error) {
	v.mu.Lock()
	r, ok := v.known[key]
	v.mu.Unlock()
	if ok && v.now().Before(r.until) {
		return r, nil
	}
	r, err := ask()
	if err != nil {
		return review{}, err
	}
	r.until = v.now().Add(noFor)
	if r.yes {
		r.until = v.now().Add(yesFor)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxReviews { // of whoever tries tokens
		clear(v.known)
	}
	v.known[key] = r
	return r, nil
}

// create has the API server fill in the status of a review.
func (v *Reviewer) create(ctx context.Context, group, kind string, spec map[string]any) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	resource := schema.GroupVersionResource{Group: group, Version: "v1", Resource: strings.ToLower(kind) + "s"}
	asked := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource.GroupVersion().String(), "kind": kind, "spec": spec,
	}}
	answer, err := v.client.Resource(resource).Create(ctx, asked, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("access: create %s.%s: %w", resource.Resource, group, err)
	}
	status, _, _ := unstructured.NestedMap(answer.Object, "status")
	return status, nil
}

// BearerOf returns the token that a request shows, empty if there is none.
func BearerOf(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
