package httptransport

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// errPatience is the cause of the end of an attempt that gave no sign of life.
var errPatience = fmt.Errorf("no sign of life: %w", context.DeadlineExceeded)

// patience ends an attempt that gives no sign of life for too long. Nil waits for ever.
type patience struct {
	wait   time.Duration
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer // nil: it has not begun
	ended bool        // there is nothing to wait for any more
	fired bool        // it has ended the attempt
}

func (a *attempt) startPatience() *patience {
	if a.last {
		return nil
	}
	p := newPatience(a.route.Patience(), a.cancel)
	if !a.legs.waits(p) {
		p.begin()
	}
	return p
}

// newPatience returns one that has not begun. 0: there is no limit.
func newPatience(wait time.Duration, cancel context.CancelCauseFunc) *patience {
	if wait <= 0 {
		return nil
	}
	return &patience{wait: wait, cancel: cancel}
}

// begin begins to wait.
func (p *patience) begin() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil && !p.ended {
		p.timer = time.AfterFunc(p.wait, p.fire)
	}
}

func (p *patience) fire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended, p.fired = true, true
		p.cancel(errPatience)
	}
}

// alive gives the server as long again.
func (p *patience) alive() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil && p.timer.Stop() {
		p.timer.Reset(p.wait)
	}
}

// stop ends it, and reports whether it has not ended the attempt.
func (p *patience) stop() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	return !p.fired
}
