//go:build linux || darwin

package hooks

/*
#cgo noescape envoy_dynamic_module_callback_log
#cgo nocallback envoy_dynamic_module_callback_log
#cgo nocallback envoy_dynamic_module_callback_log_enabled
#include "abi.h"
*/
import "C"

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// Levels of Envoy's log.
const (
	levelDebug = 1
	levelInfo  = 2
	levelWarn  = 3
	levelError = 4
)

func levelOf(l slog.Level) C.int {
	switch {
	case l < slog.LevelInfo:
		return levelDebug
	case l < slog.LevelWarn:
		return levelInfo
	case l < slog.LevelError:
		return levelWarn
	}
	return levelError
}

func logLine(l slog.Level, line string) {
	C.envoy_dynamic_module_callback_log(levelOf(l), given("inferpick: "+line))
}

// NewLogger returns a logger to Envoy's log, at the level of its logger dynamic_modules.
func NewLogger() *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{} // Envoy writes its own
		}
		return a
	}}
	out := new(line)
	return slog.New(handler{slog.NewTextHandler(out, o), out})
}

// line is what a text handler has written, under its own lock.
type line struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *line) Write(b []byte) (int, error) { return l.text.Write(b) }

// handler makes lines of a text handler Envoy's.
type handler struct {
	slog.Handler
	out *line
}

// Enabled implements slog.Handler.
func (handler) Enabled(_ context.Context, l slog.Level) bool {
	return bool(C.envoy_dynamic_module_callback_log_enabled(levelOf(l)))
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	h.out.text.Reset()
	err := h.Handler.Handle(ctx, r)
	text := string(bytes.TrimRight(h.out.text.Bytes(), "\n"))
	h.out.mu.Unlock()
	if err == nil {
		logLine(r.Level, text)
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.out}
}
