package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/inferpick/inferpick/examples/kubernetes/extproc"
	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// target is where a request goes, in its context.
type target struct {
	match   routing.Match
	backend *routing.Backend

	endpoints []string        // of the pool, that its picker has chosen; nil: none has
	route     *director.Route // nil: the director has not decided
}

type targetKey struct{}

func targetOf(ctx context.Context) *target { return ctx.Value(targetKey{}).(*target) }

// incoming says what the route of a request to a pool says.
func incoming(r *http.Request, in *director.Incoming) {
	t := targetOf(r.Context())
	in.Pool, in.AllowPath = t.backend.Pool.Name, t.match.NamesPath()
	in.Subset, in.HasSubset = t.endpoints, t.endpoints != nil
}

// routed notes what the director has decided.
func routed(r *http.Request, route *director.Route) { targetOf(r.Context()).route = route }

// PicksElsewhere reports whether a pool has a picker outside of the gateway. The bodies of its
// requests are for that one to understand: see director.Options.Passthrough.
func (s *Server) PicksElsewhere(pool types.NamespacedName) bool {
	return s.table.Load().Pickers[pool] != nil
}

// toPool sends a request to a pool, and asks the pool's picker for the endpoint, if it has one.
func (s *Server) toPool(r *http.Request, t *target) (*http.Response, error) {
	pool := t.backend.Pool
	transport := s.pools[protocol(pool.H2C)]
	if pool.Picker == nil {
		return transport.RoundTrip(r)
	}
	body, err := s.readBody(r)
	if err != nil {
		return nil, err
	}
	x, answer, err := s.ask(r, pool, body)
	switch {
	case answer != nil:
		return answer, nil
	case err == nil:
		t.endpoints = x.Endpoints[:1] // the others are not in the order that the director would take them in
		r = withBody(r, x.Body)
		r.Header = x.Header
		resp, err := transport.RoundTrip(r)
		if err != nil || t.route == nil {
			x.Close()
			return resp, err
		}
		x.Response(resp, t.route.Endpoint().Address)
		return resp, nil
	case !pool.Picker.FailOpen || r.Context().Err() != nil:
		return nil, &director.Error{Status: 503, Code: codePicker, Message: "the endpoint picker of the pool is not available", Err: err}
	}
	s.o.Logger.Debug("the gateway picks, for want of the picker", slog.String("pool", pool.Name.String()), slog.Any("error", err))
	return transport.RoundTrip(withBody(r, body))
}

const codePicker = "picker_unavailable"

// ask asks the picker of a pool.
func (s *Server) ask(r *http.Request, pool *routing.PoolBackend, body []byte) (*extproc.Exchange, *http.Response, error) {
	if pool.NoPicker != "" {
		return nil, nil, errors.New(pool.NoPicker)
	}
	return s.pickers.Begin(r.Context(), pickerOf(pool.Picker), r, body)
}

// readBody reads a body that a picker is to see.
func (s *Server) readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, s.o.Director.MaxBody()+1))
	switch {
	case err != nil:
		return nil, &director.Error{Status: 400, Code: "incomplete_body", Message: "the body could not be read", Err: err}
	case int64(len(body)) > s.o.Director.MaxBody():
		return nil, &director.Error{Status: 413, Code: "body_too_large", Message: "the body is too large"}
	}
	return body, nil
}

// withBody returns the request with another body.
func withBody(r *http.Request, body []byte) *http.Request {
	out := r.Clone(r.Context())
	out.Body, out.ContentLength, out.TransferEncoding = http.NoBody, int64(len(body)), nil
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	return out
}

// pickersOf are those that a table may ask.
func pickersOf(t *routing.Table) []extproc.Picker {
	var list []extproc.Picker
	for _, p := range t.Pickers {
		list = append(list, pickerOf(p))
	}
	return list
}

func pickerOf(p *routing.Picker) extproc.Picker {
	return extproc.Picker{Addresses: p.Addresses, Plaintext: p.Plaintext}
}
