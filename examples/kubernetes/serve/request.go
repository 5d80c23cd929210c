package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/scheduling/director"
)

// Codes of errors that are the gateway's own.
const (
	codeNoRoute   = "no_route"
	codeBackend   = "backend_unavailable"
	codeAmbiguous = "ambiguous_path"
	codeTimeout   = "timeout"
)

// serve answers a request that came in on a port.
func (s *Server) serve(number int32, w http.ResponseWriter, r *http.Request) {
	port := s.table.Load().Ports[number]
	if port == nil { // closed meanwhile
		refuse(w, r, &director.Error{Status: 404, Code: codeNoRoute, Message: "nothing is served here"})
		return
	}
	listener := port.Listener(r.Host)
	switch {
	case listener == nil:
		refuse(w, r, &director.Error{Status: 404, Code: codeNoRoute, Message: fmt.Sprintf("no listener is for the host %.80q", r.Host)})
		return
	case r.TLS != nil && port.Listener(r.TLS.ServerName) != listener:
		refuse(w, r, &director.Error{Status: 421, Code: codeNoRoute, Message: "this connection was made for another host"})
		return
	case routing.Ambiguous(r.URL.Path):
		refuse(w, r, &director.Error{Status: 400, Code: codeAmbiguous, Message: "the path has segments that lead upwards"})
		return
	}
	match, ok := listener.Match(r)
	if !ok {
		refuse(w, r, &director.Error{Status: 404, Code: codeNoRoute, Message: "no HTTPRoute is for this request"})
		return
	}
	if match.Redirect != nil {
		location, status := match.Redirect.Location(r, match, number)
		match.Response.Apply(w.Header())
		w.Header().Set("Location", location)
		w.WriteHeader(status)
		return
	}
	s.forward(w, r, match)
}

// forward sends a request to a backend of its rule.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, match routing.Match) {
	backend := match.Choose()
	if backend == nil || backend.Problem != "" {
		e := &director.Error{Status: 500, Code: codeBackend, Message: "the route has no backend"}
		if backend != nil {
			e.Err = errors.New(backend.Problem)
		}
		s.o.Logger.Debug("no backend", slog.String("rule", match.Name), slog.Any("error", e))
		refuse(w, r, e)
		return
	}
	ctx := context.WithValue(r.Context(), targetKey{}, &target{match: match, backend: backend})
	for _, limit := range []time.Duration{match.Timeout, match.BackendTimeout} {
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
	}
	s.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// rewrite makes the request to a backend of that of a client.
func (s *Server) rewrite(p *httputil.ProxyRequest) {
	t := targetOf(p.In.Context())
	p.SetXForwarded()
	if !s.o.TrustRequestHeaders {
		stripInference(p.Out.Header)
	}
	t.match.Request.Apply(p.Out.Header)
	t.match.Rewrite.Apply(p.Out, t.match)
	if service := t.backend.Service; service != nil {
		p.Out.URL.Scheme, p.Out.URL.Host = "http", ""
		if n := len(service.Addresses); n > 0 {
			p.Out.URL.Host = service.Addresses[int(s.turn.Add(1))%n]
		}
	}
}

// roundTrip sends a request to its backend.
func (s *Server) roundTrip(r *http.Request) (*http.Response, error) {
	t := targetOf(r.Context())
	if service := t.backend.Service; service != nil {
		if r.URL.Host == "" {
			return nil, &director.Error{Status: 503, Code: codeBackend, Message: "the Service has no ready endpoint"}
		}
		return s.services[protocol(service.H2C)].RoundTrip(r)
	}
	return s.toPool(r, t)
}

func protocol(h2c bool) int {
	if h2c {
		return 1
	}
	return 0
}

func modifyResponse(r *http.Response) error {
	targetOf(r.Request.Context()).match.Response.Apply(r.Header)
	return nil
}

// failed answers a request that a backend did not.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && !errors.Is(r.Context().Err(), context.DeadlineExceeded) {
		return // the client has gone
	}
	s.o.Logger.Debug("a request failed", slog.String("rule", targetOf(r.Context()).match.Name), slog.Any("error", err))
	var e *director.Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, context.DeadlineExceeded):
		e = &director.Error{Status: 504, Code: codeTimeout, Message: "the backend did not answer in the time that the route allows"}
	default:
		e = &director.Error{Status: 502, Code: director.CodeUpstream, Message: "the backend did not answer"}
	}
	refuse(w, r, e)
}

// refuse answers in place of a backend.
func refuse(w http.ResponseWriter, r *http.Request, e *director.Error) {
	if e.Path == "" {
		e.Path = r.URL.EscapedPath()
	}
	for name, values := range e.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(e.Body()) // the client may have gone
	}
}

// inference are the headers that say how important a request is, which no client decides.
var inference = []string{
	director.HeaderObjective, director.HeaderFairness, director.HeaderRewrite, director.HeaderTTFT, director.HeaderTPOT, director.HeaderMaxWait,
	director.HeaderLLMDObjective, director.HeaderLLMDFairness, director.HeaderLLMDRewrite, director.HeaderLLMDTTFT, director.HeaderLLMDTPOT, director.HeaderLLMDMaxWait,
}

func stripInference(h http.Header) {
	for _, name := range inference {
		h.Del(name)
	}
}
