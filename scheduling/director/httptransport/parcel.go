package httptransport

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// parcel is what is sent to an endpoint: the request with another body and, if it is a leg, other
// headers and another path.
type parcel struct {
	endpoint *types.Endpoint
	body     [][]byte          // in pieces
	feed     *feed             // in place of body, if that still comes in
	header   map[string]string // canonical
	path     string            // "": that of the request
	session  bool              // it asks for a websocket
	of       *http.Request     // nil: the client's, which must not be touched when the client has its answer
}

func parcelOf(ep *types.Endpoint, leg disagg.Leg, path string) parcel {
	p := parcel{endpoint: ep, body: whole(leg.Body), header: leg.Header}
	if leg.Path != path {
		p.path = leg.Path
	}
	return p
}

// whole is a body in one piece.
func whole(body []byte) [][]byte {
	if len(body) == 0 {
		return nil
	}
	return [][]byte{body}
}

// sizeOf is how many bytes a body in pieces has.
func sizeOf(body [][]byte) (n int64) {
	for _, piece := range body {
		n += int64(len(piece))
	}
	return n
}

// deliver sends a parcel. A connection that was kept alive may be closed by the server at the very
// moment at which it is used again, which says nothing about the server: then it is sent once
// more, if resend allows it: engines that meet must not be told twice where.
func (x *exchange) deliver(ctx context.Context, p parcel, resend bool) (*http.Response, facts, error) {
	resp, seen, err := x.trip(ctx, p, x.t.base(), resend)
	if err != nil && resend && seen.stale() && ctx.Err() == nil {
		resp, seen, err = x.trip(ctx, p, x.t.once(), false)
	}
	return resp, seen, err
}

func (x *exchange) trip(ctx context.Context, p parcel, rt http.RoundTripper, resend bool) (*http.Response, facts, error) {
	var tr trace
	out := x.outgoing(httptrace.WithClientTrace(ctx, tr.hooks()), p)
	_, traced := rt.(*http.Transport)
	if !traced && resend {
		markReplayable(out.Header)
	}
	resp, err := rt.RoundTrip(out)
	if err == nil && resp.Body == nil {
		resp.Body = http.NoBody
	}
	if err == nil && resp.Header == nil {
		resp.Header = http.Header{}
	}
	return resp, tr.facts(traced), err
}

// outgoing is the request as the endpoint gets it.
func (x *exchange) outgoing(ctx context.Context, p parcel) *http.Request {
	of := p.of
	if of == nil {
		of = x.req
	}
	out := of.Clone(ctx)
	if p.path != "" {
		setPath(out, p.path)
	}
	out.URL.Scheme, out.URL.Host, out.Host = "http", p.endpoint.Address, ""
	if x.t.Scheme != "" {
		out.URL.Scheme = x.t.Scheme
	}
	out.URL.User, out.URL.Opaque = nil, ""
	out.Body, out.ContentLength, out.GetBody = http.NoBody, 0, nil
	if body := p.body; len(body) > 0 {
		out.Body, out.ContentLength = x.sent.read(body), sizeOf(body)
		out.GetBody = func() (io.ReadCloser, error) { return x.sent.read(body), nil }
	}
	if p.feed != nil {
		out.Body, out.ContentLength = p.feed.read(), p.feed.size
		out.GetBody = func() (io.ReadCloser, error) { return p.feed.read(), nil }
	}
	out.TransferEncoding, out.Trailer, out.Close = nil, nil, false
	if out.Header == nil {
		out.Header = http.Header{}
	}
	removeConnectionHeaders(out.Header)
	if p.session {
		out.Header["Connection"], out.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	out.Header.Del("Accept-Encoding") // usage and model name are read from the response
	out.Header.Del("Expect")          // all of the body is here
	director.StripControlHeaders(out.Header)
	if name, value, is := p.endpoint.RankHeader(); is {
		out.Header[name] = []string{value}
	}
	for name, value := range p.header {
		out.Header[name] = []string{value}
	}
	return out
}

// setPath makes it a request for another path, with its query.
func setPath(out *http.Request, path string) {
	if u, err := url.ParseRequestURI(path); err == nil {
		out.URL.Path, out.URL.RawPath, out.URL.RawQuery, out.URL.ForceQuery = u.Path, u.RawPath, u.RawQuery, u.ForceQuery
	}
}

// markReplayable says to an http.Transport inside of another RoundTripper, by a header that
// is not sent, that it may send the request again over another connection if one that it
// kept alive was closed.
func markReplayable(h http.Header) {
	const key = "X-Idempotency-Key"
	if _, ok := h["Idempotency-Key"]; !ok && len(h[key]) == 0 {
		h[key] = nil
	}
}
