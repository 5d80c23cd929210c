package epp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// reviews is an API server that knows two accounts, of which one may get /metrics.
type reviews struct {
	mu    sync.Mutex
	asked []string
	away  bool
}

func (v *reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		APIVersion, Kind string
		Spec             struct {
			Token, User           string
			Groups                []string
			NonResourceAttributes struct{ Verb, Path string }
		}
	}
	if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&in) != nil {
		http.NotFound(w, r)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	status := map[string]any{}
	if in.Kind == "TokenReview" {
		user, known := strings.CutPrefix(in.Spec.Token, "token-of-")
		v.asked = append(v.asked, "who "+in.Spec.Token)
		status = map[string]any{"authenticated": known, "user": map[string]any{"username": user, "groups": []string{"g"}}}
	} else {
		a := in.Spec.NonResourceAttributes
		v.asked = append(v.asked, strings.Join([]string{in.Spec.User, in.Spec.Groups[0], a.Verb, a.Path}, " "))
		status["allowed"] = in.Spec.User == "prometheus"
	}
	if v.away {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": in.APIVersion, "kind": in.Kind, "status": status})
}

func (v *reviews) take() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	asked := v.asked
	v.asked = nil
	return asked
}

// TestClusterAuth: the API server says who may see the metrics, and is not asked each time.
func TestClusterAuth(t *testing.T) {
	t.Parallel()
	v := new(reviews)
	web := httptest.NewServer(v)
	t.Cleanup(web.Close)
	r := startCluster(t, newAPI(t), "", func(o *epp.Options) {
		o.Kubernetes.MetricsAuth = true
		o.Kubernetes.API = &rest.Config{Host: web.URL}
	})
	get := func(authorization string) int {
		status, header, text := r.page("GET", "/metrics", authorization)
		require.Equal(t, status == http.StatusOK, strings.Contains(text, "inferpick_kubernetes_source_up"))
		require.Equal(t, status == http.StatusUnauthorized, header.Get("WWW-Authenticate") != "")
		return status
	}
	for _, none := range []string{"", "Bearer ", "Basic x"} {
		require.Equal(t, http.StatusUnauthorized, get(none))
	}
	require.Empty(t, v.take())
	for range 3 {
		require.Equal(t, http.StatusOK, get("Bearer token-of-prometheus"))
		require.Equal(t, http.StatusForbidden, get("Bearer token-of-somebody"))
		require.Equal(t, http.StatusUnauthorized, get("Bearer other"))
	}
	require.Equal(t, []string{"who token-of-prometheus", "prometheus g get /metrics", "who token-of-somebody", "somebody g get /metrics", "who other"}, v.take())
	v.mu.Lock()
	v.away = true
	v.mu.Unlock()
	require.Equal(t, http.StatusOK, get("Bearer token-of-prometheus"), "it was just before")
	require.Equal(t, http.StatusInternalServerError, get("Bearer token-of-prometheus-2"))
	require.Contains(t, r.log.String(), "nobody is let at the metrics")
	require.NotContains(t, r.log.String(), "token-of")
}
