package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// Defaults of Options.
const (
	DefaultMaxBody    = 32 << 20
	DefaultMaxStreams = 1 << 16
)

// Options of a Handler.
type Options struct {
	// Director decides. Required.
	Director *director.Director
	// Pool is the pool of every request for which Wishes name none. Zero: the one that serves
	// the model.
	Pool types.NamespacedName
	// MaxBody bounds request bodies in bytes; beyond it, and beyond Director.MaxBody, the
	// answer is 413. Default DefaultMaxBody.
	MaxBody int
	// MaxDestinations bounds how many endpoints Envoy is told of where Wishes do
	// not say: the choice and its fallbacks. Default: 1, because
	// a data plane that takes one address can do nothing with a list: an ORIGINAL_DST
	// cluster, for example. More is for those that go on to the next on a retry.
	MaxDestinations int
	// MaxStreams bounds the exchanges that are open at a time; further ones are
	// refused. Default DefaultMaxStreams.
	MaxStreams int
	// Apart says what llm-d's side-car in front of a server is to be told of a request beside who
	// computes its prompt. Optional; it must be quick.
	Apart func(context.Context, *director.Incoming, *director.Route) Apart
	// OnRoute is told of each request that was routed, before Envoy is. Optional; it
	// must be quick.
	OnRoute func(*director.Route)
	// Report returns what Envoy is told of the usage of a pool's request when its response
	// has ended: values by name, by namespace of dynamic metadata. Optional; it must be
	// quick.
	Report func(pool types.NamespacedName, usage types.Usage) map[string]map[string]any
	// OnServed is told which endpoint served a routed request, when its response
	// begins. Optional; it must be quick.
	OnServed func(r *director.Route, address string)
	// Tracer makes a span of each exchange. Optional.
	Tracer Tracer
	// Logger hears of requests at debug level. Nil: silence.
	Logger *slog.Logger
}

// withDefaults returns o with its defaults, or what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Director == nil:
		return o, errors.New("exchange: Options.Director is required")
	case o.MaxBody < 0:
		return o, fmt.Errorf("exchange: Options.MaxBody is %d, want more than 0, or 0 for the default of %d", o.MaxBody, DefaultMaxBody)
	case o.MaxDestinations < 0:
		return o, fmt.Errorf("exchange: Options.MaxDestinations is %d, want at least 1, or 0 for the default of 1", o.MaxDestinations)
	case o.MaxStreams < 0:
		return o, fmt.Errorf("exchange: Options.MaxStreams is %d, want at least 1, or 0 for the default of %d", o.MaxStreams, DefaultMaxStreams)
	}
	o.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
	o.MaxDestinations = cmp.Or(o.MaxDestinations, 1)
	o.MaxStreams = cmp.Or(o.MaxStreams, DefaultMaxStreams)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Tracer == nil {
		o.Tracer = noTracer{}
	}
	return o, nil
}

// Handler opens exchanges. Make it with New. Its methods may be called from any goroutine.
type Handler struct {
	o    Options
	open atomic.Int64
}

// New returns a Handler.
func New(o Options) (*Handler, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Handler{o: o}, nil
}

// Open begins an exchange, of which nothing is known yet. It must be closed. The context ends what
// waits to be let in. The error is that there are as many exchanges as there may be.
func (h *Handler) Open(ctx context.Context, w Wishes) (*Exchange, error) {
	if n := h.open.Add(1); n > int64(h.o.MaxStreams) {
		h.open.Add(-1)
		return nil, fmt.Errorf("%d streams are open, the most that are allowed", h.o.MaxStreams)
	}
	if w.Pool.IsZero() {
		w.Pool = h.o.Pool
	}
	if w.Destinations == 0 {
		w.Destinations = h.o.MaxDestinations
	}
	return &Exchange{ctx: ctx, h: h, o: &h.o, wishes: w, span: noSpan{}}, nil
}

// Refuse returns the answer to a request for a path that is refused before there is an exchange, or
// after one has failed.
func (h *Handler) Refuse(path string, e *director.Error) *Answer {
	e = h.o.Director.Refuse(path, e)
	return &Answer{Status: e.Status, Header: e.Header(), Body: e.Body(), Details: detailsOf(e), Err: e}
}
