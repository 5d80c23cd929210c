// Package logbuffer has a buffer that may be read while others write to it, for tests
// of programs that write logs.
package logbuffer

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
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

// patience bounds WaitFor.
const patience = 10 * time.Second

// WaitFor waits until what was written has n times what is wanted in it, and fails the test after 10 s.
func (l *Buffer) WaitFor(t testing.TB, want string, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); strings.Count(l.String(), want) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("want %q %d times in the log:\n%s", want, n, l)
		}
	}
}
