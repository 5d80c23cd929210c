package httptransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// This file is what is sent to engines beside the requests of clients.

// abort tells an engine that it need not wait for the other one, if the protocol has words for it.
func (p *pair) abort(ep *types.Endpoint) {
	if leg, ok := p.Abort(); ok {
		p.aside(parcelOf(ep, leg, p.in.Path), abortTime)
	}
}

// free has an engine fetch what the prefill engine keeps for a decode leg, and let it go, if that leg was certainly not
// sent. What another engine may have fetched must not be fetched again: another request's may be there by then.
func (p *pair) free(ep *types.Endpoint) {
	if p == nil || !p.untouched || p.failure != nil || p.answer != nil {
		return
	}
	parcel := p.decode
	parcel.endpoint = ep
	parcel.header = maps.Clone(parcel.header)
	delete(parcel.header, types.HeaderRank) // it has its own, or none
	p.aside(parcel, p.t.linger())
}

// aside sends a parcel of whose answer no more matters than that it begins, and waits for that for
// a limited time, but keeps nobody waiting.
func (x *exchange) aside(p parcel, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), limit)
	out := x.outgoing(ctx, p)
	markReplayable(out.Header) // else a connection that the server has just closed would swallow it
	go func() {
		defer cancel()
		defer func() { _ = recover() }() // the client has another answer
		resp, err := x.t.base().RoundTrip(out)
		if err != nil || resp.Body == nil {
			return
		}
		defer resp.Body.Close()
		if director.IsAnswer(resp.StatusCode) { // a connection that was upgraded ends with no context
			_, _ = io.ReadFull(resp.Body, make([]byte, 1))
		}
	}()
}

// maxQuery bounds what an engine says of itself.
const maxQuery = 1 << 20

// Query returns a function for disagg.Options.Query that asks by base: the default is a transport
// of its own, as New has it. It reads 1 MiB at most and follows no redirects.
func Query(base http.RoundTripper) func(ctx context.Context, url string) ([]byte, error) {
	if base == nil {
		base = newBase()
	}
	return func(ctx context.Context, url string) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := base.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("httptransport: answered with status %d", resp.StatusCode)
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxQuery+1))
		if len(body) > maxQuery {
			return nil, errors.New("httptransport: the answer is longer than 1 MiB")
		}
		return body, err
	}
}
