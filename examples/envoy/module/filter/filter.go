package filter

import (
	"cmp"
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
	"github.com/inferpick/inferpick/scheduling/director"
)

// Options of a Filter.
type Options struct {
	// Handler has the exchanges. Required.
	Handler *exchange.Handler
	// Settings are those of the filter; those of routes go before them.
	Settings Settings
	// Ready reports whether there is something to choose from; until then requests are answered 503. Nil:
	// there is.
	Ready func() bool
	// Logger hears of panics. Required.
	Logger *slog.Logger
}

// Filter makes the streams of one filter of Envoy's configuration. Make it with New. Its methods may be
// called from any goroutine.
type Filter struct {
	o      Options
	seldom *seldom.Logger
}

// New returns a Filter.
func New(o Options) *Filter { return &Filter{o: o, seldom: seldom.New(o.Logger)} }

// Stream returns the state of a new stream. It must be destroyed.
func (f *Filter) Stream() *Stream {
	s := &Stream{f: f}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Codes of what only this adapter refuses.
const (
	codeStarting = "starting"
	codeBusy     = "too_many_requests_at_a_time"
)

// retryAfter is when to try again after these.
const retryAfter = time.Second

// attempt sets a to what decide returns; or, if it panics or ends the goroutine, to an answer that says so.
func (f *Filter) attempt(path string, decide func() *exchange.Answer, a **exchange.Answer) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil {
			v = "the goroutine was ended (runtime.Goexit)"
		}
		f.panicked(v)
		*a = f.failure(path)
	}()
	*a = decide()
	returned = true
}

// failure is the answer after a panic.
func (f *Filter) failure(path string) (a *exchange.Answer) {
	e := &director.Error{Status: 500, Code: director.CodeInternal, Message: "the request could not be processed"}
	defer func() {
		if recover() != nil { // of what is told of refusals
			a = &exchange.Answer{Status: e.Status, Header: e.Header(), Body: e.Body(), Details: "inferpick_" + e.Code, Err: e}
		}
	}()
	return f.o.Handler.Refuse(path, e)
}

// panicked tells of a panic.
func (f *Filter) panicked(v any) {
	defer func() { _ = recover() }() // of the logger: there is nobody left to tell
	f.seldom.Log(context.Background(), slog.LevelError, "panic", "panic while a request was processed",
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
}

// over returns the wishes of s, and where it has none those of others.
func (s *Settings) over(others exchange.Wishes) exchange.Wishes {
	w := s.Wishes
	if w.Pool.IsZero() {
		w.Pool = others.Pool
	}
	w.Destinations = cmp.Or(w.Destinations, others.Destinations)
	return w
}
