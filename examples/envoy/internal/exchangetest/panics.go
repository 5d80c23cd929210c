package exchangetest

import (
	"context"
	"log/slog"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// Exploding is a Tracer, and its spans, that panics at one place.
type Exploding struct{ At string }

func (e Exploding) do(what string) {
	if what == e.At {
		panic("on purpose, in " + what)
	}
}

// Start implements exchange.Tracer.
func (e Exploding) Start(ctx context.Context, _, _ string, _ map[string][]string) (context.Context, exchange.Span) {
	e.do("Start")
	return ctx, e
}

// Routed implements exchange.Span, as the others do.
func (e Exploding) Routed(*director.Route)        { e.do("Routed") }
func (e Exploding) Refused(*director.Error)       { e.do("Refused") }
func (e Exploding) Response(int, *types.Endpoint) { e.do("Response") }
func (e Exploding) End()                          { e.do("End") }
func (e Exploding) Propagate(p []string) []string { e.do("Propagate"); return p }

// ExplodingLog is a slog.Handler that always panics.
type ExplodingLog struct{}

// Enabled implements slog.Handler, as the others do.
func (ExplodingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (ExplodingLog) Handle(context.Context, slog.Record) error { panic("on purpose, in the log") }
func (ExplodingLog) WithAttrs([]slog.Attr) slog.Handler        { return ExplodingLog{} }
func (ExplodingLog) WithGroup(string) slog.Handler             { return ExplodingLog{} }

// Phase is when a function is called.
type Phase int

// Phases of an exchange.
const (
	InRequest   Phase = iota // before the request is let go
	InResponse               // with the headers of the response
	Unimportant              // all is answered all the same
)

// Panics are what may panic, and in which phase of a request that is answered with Events.
var Panics = map[string]struct {
	Change Change
	In     Phase
}{
	"Tracer.Start":   {trace("Start"), InRequest},
	"Span.Routed":    {trace("Routed"), InRequest},
	"Span.Propagate": {trace("Propagate"), InRequest},
	"Span.Response":  {trace("Response"), InResponse},
	"Span.End":       {trace("End"), Unimportant},
	"OnRoute": {func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
		o.OnRoute = func(*director.Route) { panic("on purpose, in OnRoute") }
	}, InRequest},
	"Apart": {func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
		o.Apart = func(context.Context, *director.Incoming, *director.Route) exchange.Apart {
			panic("on purpose, in Apart")
		}
	}, InRequest},
	"OnServed": {func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
		o.OnRoute = func(*director.Route) {}
		o.OnServed = func(*director.Route, string) { panic("on purpose, in OnServed") }
	}, InResponse},
	"Hooks.Scheduled":  {hook(func(h *scheduling.Hooks, f func(scheduling.Event)) { h.Scheduled = f }), Unimportant},
	"Hooks.FirstToken": {hook(func(h *scheduling.Hooks, f func(scheduling.Event)) { h.FirstToken = f }), Unimportant},
	"Hooks.Finished":   {hook(func(h *scheduling.Hooks, f func(scheduling.Event)) { h.Finished = f }), Unimportant},
	"Picker": {func(_ *exchange.Options, _ *director.Options, p *scheduling.Profile) {
		p.Picker = scheduling.PickerFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) {
			panic("on purpose, in a picker")
		})
	}, InRequest},
	"Logger": {func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
		o.Logger = slog.New(ExplodingLog{})
	}, InRequest},
}

func trace(at string) Change {
	return func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) { o.Tracer = Exploding{at} }
}

func hook(set func(*scheduling.Hooks, func(scheduling.Event))) Change {
	return func(_ *exchange.Options, _ *director.Options, p *scheduling.Profile) {
		set(&p.Hooks, func(scheduling.Event) { panic("on purpose, in a hook") })
	}
}
