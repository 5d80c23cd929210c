package loader

import (
	"context"
	"sync"
)

// turns lets calls for one server be made one after the other.
type turns struct {
	mu   sync.Mutex
	busy map[string]*turn
}

type turn struct {
	free  chan struct{} // has one element while nobody has the turn
	users int           // who have it or wait for it; guarded by turns.mu
}

// take waits for the turn at a server, until ctx is done. done gives it back.
func (t *turns) take(ctx context.Context, server string) (done func(), err error) {
	t.mu.Lock()
	if t.busy == nil {
		t.busy = map[string]*turn{}
	}
	one := t.busy[server]
	if one == nil {
		one = &turn{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		t.busy[server] = one
	}
	one.users++
	t.mu.Unlock()

	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(t.busy, server)
		}
	}
	select {
	case <-one.free:
		return func() { one.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
