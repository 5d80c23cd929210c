package epp

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
)

// How long an answer of the API server holds, how many are kept, and how long one may take.
const (
	allowedFor    = time.Minute
	deniedFor     = 10 * time.Second
	maxReviews    = 1024
	reviewTimeout = 5 * time.Second
)

// reviewer lets those at the pages whose bearer token the API server knows, and who may get the
// path (nonResourceURLs of a ClusterRole).
type reviewer struct {
	client dynamic.Interface
	rarely *seldom.Logger
	next   http.Handler

	mu    sync.Mutex
	known map[[sha256.Size]byte]review // by token, verb and path
}

// review is an answer of the API server.
type review struct {
	status int // of HTTP: 200, 401 or 403
	until  time.Time
}

func newReviewer(api *rest.Config, next http.Handler, logger *slog.Logger) (*reviewer, error) {
	client, err := dynamic.NewForConfig(api)
	if err != nil {
		return nil, fmt.Errorf("epp: %w", err)
	}
	return &reviewer{client: client, rarely: seldom.New(logger), next: next, known: make(map[[sha256.Size]byte]review)}, nil
}

// ServeHTTP implements http.Handler. While the API server does not answer, nobody is let in who
// was not just before.
func (v *reviewer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	status := http.StatusUnauthorized
	if strings.EqualFold(scheme, "Bearer") && token != "" {
		var err error
		if status, err = v.status(r.Context(), token, strings.ToLower(r.Method), r.URL.Path); err != nil {
			v.rarely.Log(context.Background(), slog.LevelError, "review", "nobody is let at the metrics", slog.Any("error", err))
			http.Error(w, "epp: the API server cannot be asked who this is", http.StatusInternalServerError)
			return
		}
	}
	switch status {
	case http.StatusOK:
		v.next.ServeHTTP(w, r)
	case http.StatusForbidden:
		http.Error(w, "epp: the account may not "+strings.ToLower(r.Method)+" "+r.URL.Path+": it wants a ClusterRole with these verbs and nonResourceURLs", status)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="metrics"`)
		http.Error(w, "epp: want the header Authorization: Bearer and a token of the cluster", status)
	}
}

// status returns what a request is answered with.
func (v *reviewer) status(ctx context.Context, token, verb, path string) (int, error) {
	key := sha256.Sum256([]byte(token + "\x00" + verb + "\x00" + path))
	now := time.Now()
	v.mu.Lock()
	had, ok := v.known[key]
	v.mu.Unlock()
	if ok && now.Before(had.until) {
		return had.status, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	status, err := v.ask(ctx, token, verb, path)
	if err != nil {
		return 0, err
	}
	held := deniedFor
	if status == http.StatusOK {
		held = allowedFor
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxReviews { // of whoever tries tokens
		clear(v.known)
	}
	v.known[key] = review{status, now.Add(held)}
	return status, nil
}

// ask asks the API server whose token it is, and whether that account may.
func (v *reviewer) ask(ctx context.Context, token, verb, path string) (int, error) {
	who, err := v.review(ctx, "authentication.k8s.io", "TokenReview", map[string]any{"token": token})
	if err != nil {
		return 0, err
	}
	if known, _, _ := unstructured.NestedBool(who, "authenticated"); !known {
		return http.StatusUnauthorized, nil
	}
	user, _, _ := unstructured.NestedMap(who, "user")
	spec := map[string]any{"nonResourceAttributes": map[string]any{"verb": verb, "path": path}, "user": user["username"]}
	for _, field := range []string{"uid", "groups", "extra"} {
		if user[field] != nil {
			spec[field] = user[field]
		}
	}
	may, err := v.review(ctx, "authorization.k8s.io", "SubjectAccessReview", spec)
	if err != nil {
		return 0, err
	}
	if allowed, _, _ := unstructured.NestedBool(may, "allowed"); !allowed {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}

// review has the API server fill in the status of a review.
func (v *reviewer) review(ctx context.Context, group, kind string, spec map[string]any) (map[string]any, error) {
	resource := schema.GroupVersionResource{Group: group, Version: "v1", Resource: strings.ToLower(kind) + "s"}
	asked := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource.GroupVersion().String(), "kind": kind, "spec": spec,
	}}
	answer, err := v.client.Resource(resource).Create(ctx, asked, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("epp: create %s.%s: %w", resource.Resource, group, err)
	}
	status, _, _ := unstructured.NestedMap(answer.Object, "status")
	return status, nil
}
