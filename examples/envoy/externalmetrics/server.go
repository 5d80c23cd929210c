package externalmetrics

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/examples/envoy/internal/access"
	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric"
)

// Names of the API.
const (
	Group        = "external.metrics.k8s.io"
	Version      = "v1beta1"
	groupVersion = Group + "/" + Version
	listKind     = "ExternalMetricValueList"
	// Prefix stands before the names of package metric.
	Prefix = "inferpick_"
)

// Options of a Server. Asker and API are required.
type Options struct {
	// Asker knows the metrics.
	Asker metric.Asker
	// API is the API server, which is asked who somebody is and what they may do. It needs the ClusterRole
	// system:auth-delegator and in kube-system the Role extension-apiserver-authentication-reader.
	API *rest.Config
	// Now is the clock of timestamps. Default time.Now.
	Now func() time.Time
	// Answered hears of each answer but those of health, with the name of the metric without its prefix if it is one.
	// Optional.
	Answered func(metric string, status int)
	// Logger hears of what keeps it from answering. Nil: silence.
	Logger *slog.Logger
}

// Server is the API, for an HTTP server with TLS that asks clients for certificates and does not verify them
// (tls.RequestClientCert): which are good is for the Server to say. It starts no goroutine.
type Server struct {
	o      Options
	panics *guard.Teller
	review *access.Reviewer
	front  *access.FrontProxy
	rarely *seldom.Logger
	mux    *http.ServeMux
}

// New returns a Server. The error says which option is wrong.
func New(o Options) (*Server, error) {
	switch {
	case o.Asker.Source == nil:
		return nil, errors.New("externalmetrics: Options.Asker has no Source")
	case o.API == nil:
		return nil, errors.New("externalmetrics: Options.API is required")
	}
	o.Logger = guardlog.Logger(o.Logger)
	panics := guardlog.Teller(o.Logger, "externalmetrics")
	if o.Now == nil {
		o.Now = time.Now
	} else {
		o.Now = panics.Clock("Options.Now", o.Now)
	}
	if o.Answered == nil {
		o.Answered = func(string, int) {}
	}
	s := &Server{o: o, panics: panics, rarely: seldom.New(o.Logger), mux: http.NewServeMux()}
	var err error
	if s.review, err = access.NewReviewer(o.API); err != nil {
		return nil, err
	}
	if s.front, err = access.NewFrontProxy(o.API, o.Logger); err != nil {
		return nil, err
	}
	s.route()
	return s, nil
}

// route says who answers what. All but health is for those who may ask.
func (s *Server) route() {
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) })
	}
	s.mux.HandleFunc("GET /apis", s.answer(s.groups))
	s.mux.HandleFunc("GET /apis/"+Group, s.answer(s.group))
	s.mux.HandleFunc("GET /apis/"+groupVersion, s.answer(s.resources))
	s.mux.HandleFunc("GET /apis/"+groupVersion+"/namespaces/{namespace}/{metric}", s.answer(s.values))
	s.mux.HandleFunc("/", s.answer(s.nothing))
}

func (s *Server) nothing(r *http.Request) (any, *metav1.Status) {
	if r.Method != http.MethodGet {
		return nil, failure(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed,
			"%s is not allowed here, GET is", r.Method)
	}
	return nil, failure(http.StatusNotFound, metav1.StatusReasonNotFound, "there is nothing at %.80q", r.URL.Path)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// answer returns a handler that answers those who may ask.
func (s *Server) answer(of func(*http.Request) (any, *metav1.Status)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var found any
		var status *metav1.Status
		if !s.panics.Call("what answers", func() {
			if status = s.allow(r); status == nil {
				found, status = of(r)
			}
		}) {
			status = failure(http.StatusInternalServerError, metav1.StatusReasonInternalError, "the answer could not be made")
		}
		code := http.StatusOK
		if status != nil {
			found, code = status, int(status.Code)
		}
		if code == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="external metrics"`)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache, private")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(found) // who does not read it has gone
		s.panics.Call("Options.Answered", func() { s.o.Answered(known(r.PathValue("metric")), code) })
	}
}

// known returns the name of a metric, empty if it is none: names that clients make up are not counted.
func known(name string) string {
	name, ok := strings.CutPrefix(name, Prefix)
	if !ok || !slices.Contains(metric.Names(false), name) {
		return ""
	}
	return name
}

// allow returns why a request is refused, nil if it is not.
func (s *Server) allow(r *http.Request) *metav1.Status {
	ctx := r.Context()
	user, known, err := s.front.User(r)
	if token := access.BearerOf(r); !known && token != "" {
		user, known, err = s.review.Token(ctx, token)
	}
	switch {
	case err != nil:
		return s.unsure(ctx, err)
	case !known:
		return failure(http.StatusUnauthorized, metav1.StatusReasonUnauthorized,
			"want the certificate of the API server's front proxy, or the token of an account of the cluster")
	case slices.Contains(user.Groups, "system:masters"): // who are above RBAC, and need not be asked about
		return nil
	}
	wish := access.Wish{Verb: "get", Path: r.URL.Path}
	if name := r.PathValue("metric"); name != "" {
		wish = access.Wish{Verb: "list", Group: Group, Version: Version, Resource: name, Namespace: r.PathValue("namespace")}
	}
	may, err := s.review.May(ctx, user, wish)
	switch {
	case err != nil:
		return s.unsure(ctx, err)
	case !may && wish.Resource != "":
		return failure(http.StatusForbidden, metav1.StatusReasonForbidden,
			"%.80q may not list %.80q of %s in namespace %.80q", user.Name, wish.Resource, Group, wish.Namespace)
	case !may:
		return failure(http.StatusForbidden, metav1.StatusReasonForbidden, "%.80q may not get %.80q", user.Name, wish.Path)
	}
	return nil
}

// unsure is the answer while the API server cannot be asked.
func (s *Server) unsure(ctx context.Context, err error) *metav1.Status {
	s.rarely.Log(ctx, slog.LevelError, "unsure", "nobody is told external metrics", slog.Any("error", err))
	return failure(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "the API server cannot be asked who this is")
}
