package filter

import (
	"sync"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
)

// decision is that of one stream, which another goroutine makes. Either that or the stream has the exchange:
// the stream until start, and again from when it is woken.
type decision struct {
	mu      sync.Mutex
	running bool             // guarded by mu: the goroutine has the exchange
	gone    bool             // guarded by mu: the stream has ended
	answer  *exchange.Answer // guarded by mu: in place of a server's
	waking  chan struct{}    // guarded by mu: not nil while the stream is being woken, closed after
}

// start decides by another goroutine, which then wakes the stream; or, if that has ended, calls abandoned.
func (d *decision) start(waker Waker, decide func() *exchange.Answer, abandoned func()) {
	d.running = true
	go func() {
		defer waker.Release()
		answer := decide()
		waking := make(chan struct{})
		d.mu.Lock()
		d.running, d.answer = false, answer
		gone := d.gone
		if !gone {
			d.waking = waking
		}
		d.mu.Unlock()
		if gone {
			abandoned()
			return
		}
		waker.Wake()
		close(waking)
	}()
}

// result returns the answer, nil if the request is routed.
func (d *decision) result() *exchange.Answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.answer
}

// abandon ends the stream's part, and reports whether it has the exchange; else the goroutine closes it. While
// a stream is being woken it must not go: its worker might go with it. That takes no longer than to put
// an event on a list.
func (d *decision) abandon() bool {
	d.mu.Lock()
	d.gone = true
	running, waking := d.running, d.waking
	d.mu.Unlock()
	if waking != nil {
		<-waking
	}
	return !running
}
