// Package tracing makes OpenTelemetry spans of what a picker does.
package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// Tracer implements exchange.Tracer: one span for each exchange, a child of the one
// whose W3C trace context the request carries, from its headers to the response's
// end. The request goes on with the new span as parent of the server's. Names of
// attributes are those of OpenTelemetry's semantic conventions where there are any.
type Tracer struct {
	tracer     trace.Tracer
	propagator propagation.TraceContext
}

// New returns a Tracer that takes spans from a provider. Shutting that down is the
// caller's.
func New(p trace.TracerProvider) *Tracer {
	return &Tracer{tracer: p.Tracer("github.com/inferpick/inferpick/examples/envoy")}
}

// Start implements exchange.Tracer.
func (t *Tracer) Start(ctx context.Context, method, path string, header map[string][]string) (context.Context, exchange.Span) {
	ctx = t.propagator.Extract(ctx, propagation.HeaderCarrier(header))
	ctx, s := t.tracer.Start(ctx, "pick endpoint", trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(
		attribute.String("http.request.method", method), attribute.String("url.path", path),
	))
	return ctx, &span{Span: s, ctx: ctx, propagator: t.propagator}
}

type span struct {
	trace.Span
	ctx        context.Context
	propagator propagation.TraceContext
}

// Routed implements exchange.Span.
func (s *span) Routed(r *director.Route) {
	s.SetAttributes(
		attribute.String("gen_ai.request.model", r.Request.Model),
		attribute.String("inferpick.target_model", r.Request.TargetModel),
		attribute.String("inferpick.pool", r.Pool.String()),
		attribute.String("inferpick.endpoint", r.Endpoint().ID),
		attribute.Int("inferpick.fallbacks", len(r.Fallbacks())),
		attribute.Int("inferpick.priority", r.Request.Priority),
		attribute.Int("inferpick.prompt_tokens", r.Request.Prompt.Tokens),
	)
	s.AddEvent("routed")
}

// Refused implements exchange.Span.
func (s *span) Refused(e *director.Error) {
	s.SetAttributes(attribute.Int("http.response.status_code", e.Status), attribute.String("error.type", e.Code))
	if e.Status >= http.StatusInternalServerError {
		s.SetStatus(codes.Error, e.Message)
	}
}

// Response implements exchange.Span.
func (s *span) Response(status int, served *types.Endpoint) {
	s.SetAttributes(attribute.Int("http.response.status_code", status), attribute.String("server.address", served.Address))
	if status >= http.StatusInternalServerError {
		s.SetStatus(codes.Error, "the server failed")
	}
	s.AddEvent("response")
}

// Propagate implements exchange.Span.
func (s *span) Propagate(pairs []string) []string {
	carrier := propagation.MapCarrier{}
	s.propagator.Inject(s.ctx, carrier)
	for _, key := range s.propagator.Fields() {
		if v := carrier[key]; v != "" {
			pairs = append(pairs, key, v)
		}
	}
	return pairs
}

// End implements exchange.Span.
func (s *span) End() { s.Span.End() }
