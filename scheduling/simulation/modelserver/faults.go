package modelserver

import (
	"context"
	"sync"
	"sync/atomic"
)

// faults are the switches that make a server misbehave. They outlive a restart.
type faults struct {
	garbage  atomic.Bool
	failures atomic.Int64

	mu   sync.Mutex
	hang chan struct{} // closed when metrics stop hanging; nil: they do not hang
}

func (f *faults) hangMetrics(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case on && f.hang == nil:
		f.hang = make(chan struct{})
	case !on && f.hang != nil:
		close(f.hang)
		f.hang = nil
	}
}

// waitMetrics waits while metrics hang, and until ctx or end is done at most.
func (f *faults) waitMetrics(ctx context.Context, end <-chan struct{}) {
	f.mu.Lock()
	hang := f.hang
	f.mu.Unlock()
	if hang == nil {
		return
	}
	select {
	case <-hang:
	case <-end:
	case <-ctx.Done():
	}
}

// fail reports whether the request at hand is one that has to fail.
func (f *faults) fail() bool {
	for n := f.failures.Load(); n > 0; n = f.failures.Load() {
		if f.failures.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}
