// Package guardlog is package guard for who has a slog.Logger.
package guardlog

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/inferpick/inferpick/internal/guard"
)

// Logger returns a logger for one of the user's, whose handler may panic: what it was to log is lost then. Nil: it is
// silent.
func Logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	h := l.Handler()
	if _, is := h.(handler); is || h == slog.DiscardHandler {
		return l
	}
	return slog.New(handler{h})
}

// Teller returns a Teller that logs panics as errors. what is put before what panicked, as the name of the package.
func Teller(l *slog.Logger, what string) *guard.Teller {
	l = Logger(l)
	return guard.NewTeller(func(p *guard.Panic, more int) {
		attrs := []slog.Attr{slog.Any("panic", p.Value), slog.String("stack", string(p.Stack))}
		if more > 0 {
			attrs = append(attrs, slog.Int("before", more))
		}
		l.LogAttrs(context.Background(), slog.LevelError, what+": "+cmp.Or(p.In, "a function")+" panicked", attrs...)
	})
}

// handler is one whose panics end nothing.
type handler struct{ slog.Handler }

func (h handler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	_ = guard.Call("", func() { enabled = h.Handler.Enabled(ctx, level) }) // there is nobody left to tell
	return enabled
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	return guard.Try("the Logger's Handler", func() error { return h.Handler.Handle(ctx, r) })
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func() slog.Handler { return h.Handler.WithAttrs(attrs) })
}

func (h handler) WithGroup(name string) slog.Handler {
	return h.with(func() slog.Handler { return h.Handler.WithGroup(name) })
}

func (h handler) with(f func() slog.Handler) slog.Handler {
	more := h
	_ = guard.Call("", func() { more.Handler = f() })
	return more
}
