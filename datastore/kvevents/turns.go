package kvevents

import (
	"context"
	"sync"
)

// turns lets one goroutine at a time go on for each name.
type turns struct {
	mu    sync.Mutex
	names map[string]*turn
}

type turn struct {
	taken chan struct{} // has a value while somebody goes on
	users int           // that go on or wait; guarded by turns.mu
}

// take waits for the turn of a name. It reports whether it has come before ctx was done; then
// leave ends it.
func (t *turns) take(ctx context.Context, name string) (leave func(), ok bool) {
	t.mu.Lock()
	if t.names == nil {
		t.names = map[string]*turn{}
	}
	n := t.names[name]
	if n == nil {
		n = &turn{taken: make(chan struct{}, 1)}
		t.names[name] = n
	}
	n.users++
	t.mu.Unlock()

	select {
	case n.taken <- struct{}{}:
		return func() { <-n.taken; t.drop(name, n) }, true
	case <-ctx.Done():
		t.drop(name, n)
		return nil, false
	}
}

func (t *turns) drop(name string, n *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(t.names, name)
	}
}
