package exchange

import (
	"context"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// Tracer makes spans of exchanges. Package tracing has one for OpenTelemetry; without
// it the trace context of a request passes on as it came.
type Tracer interface {
	// Start begins the span of a request. The header is in canonical form.
	Start(ctx context.Context, method, path string, header map[string][]string) (context.Context, Span)
}

// Span is the span of one exchange, for one goroutine.
type Span interface {
	// Routed and Refused tell how the director decided.
	Routed(*director.Route)
	Refused(*director.Error)
	// Response tells that a response begins.
	Response(status int, served *types.Endpoint)
	// Propagate appends to pairs of header names and values those that make the
	// server's span a child of this one.
	Propagate(pairs []string) []string
	// End ends it; it is called once, whatever happens.
	End()
}

type noTracer struct{}

func (noTracer) Start(ctx context.Context, _, _ string, _ map[string][]string) (context.Context, Span) {
	return ctx, noSpan{}
}

type noSpan struct{}

func (noSpan) Routed(*director.Route)            {}
func (noSpan) Refused(*director.Error)           {}
func (noSpan) Response(int, *types.Endpoint)     {}
func (noSpan) Propagate(pairs []string) []string { return pairs }
func (noSpan) End()                              {}
