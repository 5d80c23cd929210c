// Package seldom keeps a log readable when each request has the same to say.
package seldom

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Interval is how long a kind of message is left out after one was written.
const Interval = time.Minute

// Logger writes at most one message of each kind in an Interval. The next one that is written
// says how many were left out before it. Its methods may be called from any goroutine.
type Logger struct {
	to *slog.Logger

	mu    sync.Mutex
	kinds map[string]*kind // as many as the program has
}

type kind struct {
	written time.Time
	leftOut int
}

// New returns a Logger that writes to to.
func New(to *slog.Logger) *Logger { return &Logger{to: to, kinds: map[string]*kind{}} }

// Log writes a message unless one of its kind was written within the Interval. A kind must
// not be made of what clients send.
func (l *Logger) Log(ctx context.Context, level slog.Level, kind, message string, attrs ...slog.Attr) {
	leftOut, ok := l.take(kind)
	if !ok {
		return
	}
	if leftOut > 0 {
		attrs = append(attrs, slog.Int("leftOut", leftOut))
	}
	l.to.LogAttrs(ctx, level, message, attrs...)
}

// take reports whether a message of the kind is to be written, and how many were not.
func (l *Logger) take(name string) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	k := l.kinds[name]
	if k == nil {
		k = new(kind)
		l.kinds[name] = k
	} else if now.Sub(k.written) < Interval {
		k.leftOut++
		return 0, false
	}
	leftOut, k.leftOut, k.written = k.leftOut, 0, now
	return leftOut, true
}
