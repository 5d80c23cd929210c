package director

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// This file is whether a request may be served in two places, and what clients must not say then.

// HandsOver reports whether there is an Options.Handover: a data plane that asks Route.Legs then
// sets Incoming.Split.
func (d *Director) HandsOver() bool { return d.o.Handover != nil }

// splittable reports whether the request may be served by two of the endpoints.
func (r *Route) splittable(in *Incoming, eps []*types.Endpoint) bool {
	return in.Split && r.generates && !r.opaque && r.parsed.API != openai.Other &&
		slices.ContainsFunc(eps, func(ep *types.Endpoint) bool { return ep.Roles.Has(types.RolePrefill) }) &&
		disagg.Splittable(r.parsed.API, in.Body) == nil
}

// reserved returns an error for a request that tells engines where to get a KV cache from, if
// there are engines of a pool that would.
func (d *Director) reserved(r *Route, in *Incoming, eps []*types.Endpoint) error {
	if len(in.Body) == 0 || d.o.Handover == nil && d.o.Encode == nil && !slices.ContainsFunc(eps, func(ep *types.Endpoint) bool { return ep.Roles != 0 }) {
		return nil
	}
	name, found := disagg.Reserved(r.parsed.API, in.Body)
	switch {
	case !found, name == "" && r.opaque: // nobody has claimed that it is JSON
		return nil
	case name == "":
		return &Error{Status: 400, Code: CodeReserved, Message: "request body is no JSON object in UTF-8"}
	}
	return &Error{Status: 400, Code: CodeReserved, Param: name,
		Message: fmt.Sprintf("%q is set by the gateway, and no request may have it", name)}
}

// ignorers are the endpoints of which it was said that they ignore hand-overs.
type ignorers struct {
	mu    sync.Mutex
	known map[*types.Load]bool
}

// maxIgnorers bounds them; beyond it some may be named again.
const maxIgnorers = 1024

// add reports whether an endpoint is new.
func (i *ignorers) add(ep *types.Endpoint) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known[ep.Load] {
		return false
	}
	if i.known == nil || len(i.known) >= maxIgnorers {
		i.known = map[*types.Load]bool{}
	}
	i.known[ep.Load] = true
	return true
}

// forget forgets an endpoint that has gone, or may be configured in another way now.
func (i *ignorers) forget(ep *types.Endpoint) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.known, ep.Load)
}

// ignored tells that an endpoint was asked to compute a prompt for another, and knows nothing of
// that.
func (d *Director) ignored(r *Route, ep *types.Endpoint) {
	if d.ignorers.add(ep) {
		d.warn(context.Background(), "an endpoint ignores hand-overs: prompts are computed twice; is its connector configured?", ep, nil)
	}
	if d.o.OnIgnored != nil {
		defer d.recovered("Options.OnIgnored", nil)
		d.o.OnIgnored(r, ep)
	}
}

// warn writes to Options.Logger what concerns an endpoint.
func (d *Director) warn(ctx context.Context, message string, ep *types.Endpoint, err error) {
	attrs := []slog.Attr{slog.String("endpoint", ep.ID)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	d.o.Logger.LogAttrs(ctx, slog.LevelWarn, message, attrs...)
}

func panicAttrs(v any) []slog.Attr {
	return []slog.Attr{slog.Any("panic", v), slog.String("stack", string(debug.Stack()))}
}
