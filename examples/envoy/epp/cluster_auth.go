package epp

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/examples/envoy/internal/access"
	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
)

// reviewer lets those at the pages whose bearer token the API server knows, and who may get the
// path (nonResourceURLs of a ClusterRole).
type reviewer struct {
	access *access.Reviewer
	rarely *seldom.Logger
	next   http.Handler
}

func newReviewer(api *rest.Config, next http.Handler, logger *slog.Logger) (*reviewer, error) {
	who, err := access.NewReviewer(api)
	if err != nil {
		return nil, err
	}
	return &reviewer{access: who, rarely: seldom.New(logger), next: next}, nil
}

// ServeHTTP implements http.Handler. While the API server does not answer, nobody is let in who
// was not just before.
func (v *reviewer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, err := v.status(r)
	switch {
	case err != nil:
		v.rarely.Log(context.Background(), slog.LevelError, "review", "nobody is let at the metrics", slog.Any("error", err))
		http.Error(w, "epp: the API server cannot be asked who this is", http.StatusInternalServerError)
	case status == http.StatusOK:
		v.next.ServeHTTP(w, r)
	case status == http.StatusForbidden:
		http.Error(w, "epp: the account may not "+strings.ToLower(r.Method)+" "+r.URL.Path+
			": it wants a ClusterRole with these verbs and nonResourceURLs", status)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="metrics"`)
		http.Error(w, "epp: want the header Authorization: Bearer and a token of the cluster", status)
	}
}

// status returns what a request is answered with.
func (v *reviewer) status(r *http.Request) (int, error) {
	token := access.BearerOf(r)
	if token == "" {
		return http.StatusUnauthorized, nil
	}
	user, known, err := v.access.Token(r.Context(), token)
	if err != nil || !known {
		return http.StatusUnauthorized, err
	}
	may, err := v.access.May(r.Context(), user, access.Wish{Verb: strings.ToLower(r.Method), Path: r.URL.Path})
	if err != nil || !may {
		return http.StatusForbidden, err
	}
	return http.StatusOK, nil
}
