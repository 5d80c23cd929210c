package filter

import (
	"runtime"
	"sync/atomic"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
)

// decision is that of one stream, which another goroutine makes. Either that or the stream has the exchange:
// the stream until start, and again from when it is woken. There is no lock, for who wakes the stream
// calls Envoy.
type decision struct {
	at     atomic.Int32
	answer *exchange.Answer // in place of a server's; of the goroutine's until the stream is woken
}

// Where a decision is.
const (
	unmade int32 = iota // the stream has the exchange
	making              // the goroutine has
	waking              // the stream has it, and is being woken
	made                // the stream has
	alone               // the goroutine has, and the stream has ended
)

// start decides by another goroutine, which then wakes the stream; or, if that has ended, calls abandoned.
// What decide sets last is the answer, also if it ends its goroutine.
func (d *decision) start(waker Waker, decide func(answer **exchange.Answer), abandoned func()) {
	d.at.Store(making)
	go func() {
		defer waker.Release()
		defer func() {
			if !d.at.CompareAndSwap(making, waking) {
				abandoned()
				return
			}
			waker.Wake()
			d.at.Store(made)
		}()
		decide(&d.answer)
	}()
}

// result returns the answer, nil if the request is routed. It is for a stream that was woken.
func (d *decision) result() *exchange.Answer {
	d.at.Load() // after which the answer is the stream's
	return d.answer
}

// abandon ends the stream's part, and reports whether it has the exchange; else the goroutine closes it. A stream that
// is being woken must not go: its worker might go with it. That takes no longer than to put an event on a list.
func (d *decision) abandon() bool {
	for {
		switch d.at.Load() {
		case making:
			if d.at.CompareAndSwap(making, alone) {
				return false
			}
		case waking:
			runtime.Gosched()
		default:
			return true
		}
	}
}
