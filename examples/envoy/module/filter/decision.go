package filter

import (
	"sync"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
)

// decision is that of one stream, which another goroutine makes. Either that or the stream has the exchange:
// the stream until start, and again from when it is woken.
type decision struct {
	mu      sync.Mutex       // held while the stream is woken: its worker might go with it
	running bool             // guarded by mu: the goroutine has the exchange
	gone    bool             // guarded by mu: the stream has ended
	answer  *exchange.Answer // guarded by mu: in place of a server's
}

// start decides by another goroutine, which then wakes the stream; or, if that has ended, calls abandoned.
// What decide sets last is the answer, also if it ends its goroutine.
func (d *decision) start(waker Waker, decide func(answer **exchange.Answer), abandoned func()) {
	d.running = true
	go func() {
		defer waker.Release()
		var answer *exchange.Answer
		defer func() {
			if !d.made(waker, answer) {
				abandoned()
			}
		}()
		decide(&answer)
	}()
}

// made gives the exchange back to the stream, and reports whether it is there to take it. To wake it takes no
// longer than to put an event on a list, and calls nobody.
func (d *decision) made(waker Waker, answer *exchange.Answer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running, d.answer = false, answer
	if d.gone {
		return false
	}
	waker.Wake()
	return true
}

// result returns the answer, nil if the request is routed.
func (d *decision) result() *exchange.Answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.answer
}

// abandon ends the stream's part, and reports whether it has the exchange; else the goroutine closes it.
func (d *decision) abandon() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
	return !d.running
}
