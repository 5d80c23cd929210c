package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/inferpick/inferpick/internal/guard"
)

// panicError is a panic of something of the user's, such as a transport, or of our own.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// guarded returns what f does, of which a panic is a *panicError: it must not end the process.
func guarded(f func() error) (err error) {
	if p := guard.Call("", func() { err = f() }); p != nil {
		return &panicError{p.Value, p.Stack}
	}
	return err
}

// tell logs an error, with the stack of a panic. It does not panic if the logger does.
func tell(log *slog.Logger, level slog.Level, message string, err error, attrs ...any) {
	attrs = append(attrs, slog.Any("error", err))
	if p := (*panicError)(nil); errors.As(err, &p) {
		level, attrs = slog.LevelError, append(attrs, slog.String("stack", string(p.stack)))
	}
	_ = guarded(func() error { log.Log(context.Background(), level, message, attrs...); return nil })
}
