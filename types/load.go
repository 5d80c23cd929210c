package types

import (
	"sync/atomic"
	"time"
)

// Load is the live ledger cell of one endpoint: what this process has sent
// there and has not yet seen finished. All readings of an endpoint share one
// Load, so a decision is seen by the next one at once, long before the server
// reports it.
//
// A Scheduler books and releases; everybody else only reads. All methods may be
// called from any goroutine. The figures are read one by one: together
// they may straddle a booking. A Load is also the identity of an endpoint:
// a server that was removed and comes back gets a new one.
type Load struct {
	requests   atomic.Int64
	prefilling atomic.Int64
	prefill    atomic.Int64
	context    atomic.Int64
	retired    atomic.Bool
	out        atomic.Pointer[time.Time] // nil: it is in
	_          [16]byte                  // one cell a cache line: neighbours are booked by other cores
}

// NewLoad returns an empty ledger cell.
func NewLoad() *Load { return new(Load) }

// Requests returns the number of requests in flight.
func (l *Load) Requests() int64 { return l.requests.Load() }

// Prefilling returns how many of them have had no first token yet.
func (l *Load) Prefilling() int64 { return l.prefilling.Load() }

// PrefillTokens returns the prompt tokens owed: sent, believed not to be in the
// server's prefix cache, and with no first token seen yet.
func (l *Load) PrefillTokens() int64 { return l.prefill.Load() }

// ContextTokens returns the tokens of context held by the requests in flight:
// their prompts and what they were expected to produce.
func (l *Load) ContextTokens() int64 { return l.context.Load() }

// Retire marks the endpoint as gone for good. Who keeps endpoints calls it before
// anybody is told; a datastore does. Requests in flight go on as before.
func (l *Load) Retire() { l.retired.Store(true) }

// Retired reports whether the endpoint has gone. A plugin that enters an endpoint
// into a table of its own checks it under the lock of that table: a decision may
// be booked after the plugin was told to forget the endpoint.
func (l *Load) Retired() bool { return l.retired.Load() }

// TakeOut notes that the endpoint gets no new requests until the given instant, by what
// its own answers say: a plugin that ejects endpoints calls it, so that whoever asks for
// room sees the same as whoever decides. Forever stands for an end that is not known
// yet. The zero time takes it in again.
func (l *Load) TakeOut(until time.Time) {
	if until.IsZero() {
		l.out.Store(nil)
		return
	}
	l.out.Store(&until)
}

// Out reports whether the endpoint is taken out at the given instant, and until when.
func (l *Load) Out(now time.Time) (until time.Time, out bool) {
	p := l.out.Load()
	if p == nil || !now.Before(*p) {
		return time.Time{}, false
	}
	return *p, true
}

// Forever is an instant that does not come.
var Forever = time.Unix(1<<62/int64(time.Second), 0)

// Booking is an amount added to a Load, to be taken off again later. The zero
// Booking is nothing.
type Booking struct {
	Requests      int64
	Prefilling    int64 // of the requests, those without a first token
	PrefillTokens int64
	ContextTokens int64
}

// Book adds b. Who calls it must see to it that the same amounts are released,
// in whatever happens; a Scheduler does.
func (l *Load) Book(b Booking) {
	l.requests.Add(b.Requests)
	l.prefilling.Add(b.Prefilling)
	l.prefill.Add(b.PrefillTokens)
	l.context.Add(b.ContextTokens)
}

// Release takes b off.
func (l *Load) Release(b Booking) {
	l.Book(Booking{-b.Requests, -b.Prefilling, -b.PrefillTokens, -b.ContextTokens})
}

// Held returns all that is booked now.
func (l *Load) Held() Booking {
	return Booking{l.Requests(), l.Prefilling(), l.PrefillTokens(), l.ContextTokens()}
}
