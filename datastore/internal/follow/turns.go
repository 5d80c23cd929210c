package follow

import (
	"context"
	"sync"
)

// turns lets one goroutine at a time go on for each key.
type turns struct {
	mu  sync.Mutex
	all map[any]*turn
}

type turn struct {
	taken chan struct{} // has a value while somebody goes on
	users int           // that go on or wait; guarded by turns.mu
}

// take waits for the turn of a key. It reports whether it has come before ctx was done; then
// leave ends it.
func (t *turns) take(ctx context.Context, key any) (leave func(), ok bool) {
	t.mu.Lock()
	if t.all == nil {
		t.all = map[any]*turn{}
	}
	n := t.all[key]
	if n == nil {
		n = &turn{taken: make(chan struct{}, 1)}
		t.all[key] = n
	}
	n.users++
	t.mu.Unlock()

	select {
	case n.taken <- struct{}{}:
		return func() { <-n.taken; t.drop(key, n) }, true
	case <-ctx.Done():
		t.drop(key, n)
		return nil, false
	}
}

func (t *turns) drop(key any, n *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(t.all, key)
	}
}
