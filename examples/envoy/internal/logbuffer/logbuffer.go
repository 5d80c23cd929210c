// Package logbuffer has a buffer that may be read while others write to it, for tests
// of programs that write logs.
package logbuffer

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written. The zero value is ready; all methods may be called
// from any goroutine.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Buffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns all that was written.
func (l *Buffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
