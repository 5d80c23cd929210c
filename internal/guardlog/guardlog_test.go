package guardlog_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/guardlog"
)

// handler panics in one of its methods.
type handler struct{ at string }

func (h handler) call(at string) {
	if at == h.at {
		panic("of the user's: " + at)
	}
}
func (h handler) Enabled(context.Context, slog.Level) bool  { h.call("Enabled"); return true }
func (h handler) Handle(context.Context, slog.Record) error { h.call("Handle"); return nil }
func (h handler) WithAttrs([]slog.Attr) slog.Handler        { h.call("WithAttrs"); return h }
func (h handler) WithGroup(string) slog.Handler             { h.call("WithGroup"); return h }

func TestLoggerPanics(t *testing.T) {
	for _, at := range []string{"Enabled", "Handle", "WithAttrs", "WithGroup"} {
		l := guardlog.Logger(slog.New(handler{at}))
		require.NotPanics(t, func() { l.With("a", 1).WithGroup("g").Info("hello", "b", 2) }, at)
	}
}

func TestLogger(t *testing.T) {
	require.False(t, guardlog.Logger(nil).Enabled(t.Context(), slog.LevelError))
	var out bytes.Buffer
	l := guardlog.Logger(slog.New(slog.NewTextHandler(&out, nil)))
	require.Equal(t, l, guardlog.Logger(l), "one is enough")
	l.With("a", 1).WithGroup("g").Info("hello", "b", 2)
	require.Contains(t, out.String(), "msg=hello a=1 g.b=2")
	require.False(t, l.Enabled(t.Context(), slog.LevelDebug))
}

func TestTeller(t *testing.T) {
	var out bytes.Buffer
	teller := guardlog.Teller(slog.New(slog.NewTextHandler(&out, nil)), "somebody")
	teller.Call("Options.OnThis", func() { panic("no") })
	require.Contains(t, out.String(), `level=ERROR msg="somebody: Options.OnThis panicked" panic=no stack=`)
	require.NotPanics(t, func() { guardlog.Teller(nil, "x").Call("f", func() { panic("no") }) })
}
