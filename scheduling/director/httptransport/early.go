package httptransport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
)

// This file is requests that go out while their bodies still come in (Transport.Early).

// DefaultEarlyTimeout is the default of Transport.EarlyTimeout.
const DefaultEarlyTimeout = 5 * time.Second

// feedPiece is how much must have come before it is sent on, so that this is not done for every few bytes.
const feedPiece = 64 << 10

// errLost is why an attempt was broken off: the request is decided once more, when it is whole.
var errLost = errors.New("httptransport: the request was not what it began like, or did not come in time")

// early looks at the body of a request as it comes in.
type early struct {
	*exchange
	next int64 // bytes at which a bet is tried; or, if there is one, more is sent on
	bet  *bet  // nil: there is none
}

// bet is the first attempt of a request of which not all is there.
type bet struct {
	*attempt

	mu      sync.Mutex
	timer   *time.Timer
	settled bool          // it was won or lost
	dropped chan struct{} // closed when what belonged to one that was lost has ended

	over     chan struct{} // closed when the attempt has ended, as follows
	resp     *http.Response
	err      error
	panicked any
}

// receive takes the whole body of a request. If it was decided before all of it was there, and rightly,
// its first attempt is under way.
func (x *exchange) receive() (*bet, error) {
	most := x.t.Early
	if most <= 0 || x.req.Method != http.MethodPost || x.req.ContentLength < 2*most || !x.t.odds.good() {
		return nil, x.body.read(x.req)
	}
	e := &early{exchange: x, next: most}
	x.body.came = e.came
	err := x.body.read(x.req)
	b := e.bet
	switch {
	case b == nil:
		return nil, err
	case err == nil && b.win():
		x.t.odds.won()
		return b, nil
	}
	b.lose()
	<-b.dropped
	x.t.odds.lost()
	return nil, err
}

// came takes what has come of the body.
func (e *early) came() error {
	data := e.body.data
	if e.bet != nil {
		if int64(len(data)) >= e.next {
			e.next = int64(len(data)) + feedPiece
			e.bet.feed.add(data[:len(data)-1], nil) // the server must not have all of it before it is known to be right
		}
		return nil
	}
	if n := int64(len(data)); n < e.next || n >= e.req.ContentLength {
		return nil
	}
	e.next = 2 * int64(len(data))
	return e.try(data[:len(data):len(data)])
}

// try decides on the beginning of the body, if that can be done.
func (e *early) try(head []byte) error {
	x := e.exchange
	if err := x.arrive(head); err != nil {
		return err
	}
	route := x.t.Director.RouteEarly(x.req.Context(), x.in, x.req.ContentLength)
	if route == nil {
		return nil
	}
	x.body.pinned = true
	x.routed(route)
	if err := x.tell(); err != nil {
		route.Withdraw()
		return err
	}
	a := &attempt{exchange: x, endpoint: route.Endpoint(), last: len(route.Fallbacks()) == 0}
	a.feed = newFeed(&x.sent, route.Body, head, x.req.ContentLength)
	a.ctx, a.cancel = context.WithCancelCause(x.ctx)
	if !a.last {
		a.clock = newPatience(route.Patience(), a.cancel) // begins when all of the request is there
	}
	b := &bet{attempt: a, dropped: make(chan struct{}), over: make(chan struct{})}
	timeout := x.t.EarlyTimeout
	if timeout <= 0 {
		timeout = DefaultEarlyTimeout
	}
	b.mu.Lock()
	b.timer = time.AfterFunc(timeout, func() { _ = guard.Call("", b.lose) }) // who waits for over or dropped does not for ever
	b.mu.Unlock()
	e.bet, e.next = b, int64(len(head))+feedPiece
	go func() {
		defer close(b.over)
		defer func() { b.panicked = recover() }()
		b.resp, b.err = a.run()
	}()
	return nil
}

// settle reports whether the bet was open until now.
func (b *bet) settle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := !b.settled
	b.settled = true
	b.timer.Stop()
	return open
}

// win has the server get the rest of the request, if it is as it was thought to be.
func (b *bet) win() bool {
	data := b.exchange.body.data
	if !b.settle() {
		return false
	}
	if int64(len(data)) != b.req.ContentLength || !b.route.Complete(data) {
		b.drop()
		return false
	}
	b.clock.begin()
	b.feed.add(data, io.EOF)
	return true
}

// lose ends the attempt, if the bet is open.
func (b *bet) lose() {
	if b.settle() {
		b.drop()
	}
}

// drop ends the attempt as if there had been none.
func (b *bet) drop() {
	defer close(b.dropped)
	b.route.Withdraw()
	b.feed.add(nil, errLost)
	b.attempt.cancel(errLost)
	<-b.over
	if b.resp != nil {
		guard.Close(b.resp.Body.(*routedBody).src) // it is not the client's, and ends nothing
	}
	b.exchange.cancel(nil)
	b.lost, b.route = b.route, nil
}

// result waits for the end of the attempt of a bet that was won.
func (b *bet) result() (*attempt, *http.Response, error) {
	<-b.over
	if b.panicked != nil {
		panic(b.panicked)
	}
	return b.attempt, b.resp, b.err
}

// odds say whether it is likely that a decision on the beginning of a body stands. After each in a row that did
// not, twice as many requests are waited for.
type odds struct {
	mu     sync.Mutex
	losses uint
	wait   int
}

// mostLosses bounds for how many requests there is no bet: 255.
const mostLosses = 8

func (o *odds) good() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wait > 0 {
		o.wait--
		return false
	}
	return true
}

func (o *odds) won() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.losses = 0
}

func (o *odds) lost() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.losses = min(o.losses+1, mostLosses)
	o.wait = 1<<o.losses - 1
}
