package types

import (
	"sync/atomic"
	"time"
)

// Load is the live ledger of one endpoint: the requests that this process has sent there and
// that have not finished. All readings of an endpoint share one Load, so each decision sees
// the previous one at once, long before the server reports it.
//
// Only a Scheduler books and releases. All methods are safe for concurrent use, but values
// read one after the other may be from before and after a booking. A Load also identifies
// its endpoint: a server that is removed and comes back gets a new one.
type Load struct {
	requests   atomic.Int64
	prefilling atomic.Int64
	prefill    atomic.Int64
	context    atomic.Int64
	denoise    atomic.Int64
	retired    atomic.Bool
	out        atomic.Pointer[time.Time] // nil: not ejected
	peers      atomic.Pointer[Booking]   // nil: nothing
	// That fills a cache line: other cores book in the neighbours.
}

// NewLoad returns an empty ledger.
func NewLoad() *Load { return new(Load) }

// Requests returns the number of requests in flight.
func (l *Load) Requests() int64 { return l.requests.Load() }

// Prefilling returns how many of them have not had their first token.
func (l *Load) Prefilling() int64 { return l.prefilling.Load() }

// PrefillTokens returns the prompt tokens that the server still has to compute: those of the
// requests without a first token, less what is believed to be in its prefix cache.
func (l *Load) PrefillTokens() int64 { return l.prefill.Load() }

// ContextTokens returns the context tokens held by the requests in flight: their prompts and
// their expected output.
func (l *Load) ContextTokens() int64 { return l.context.Load() }

// DenoiseTokens returns what diffusion models have to do for the requests in flight: tokens of latents times passes. Of
// what they have done of a request nobody tells before its end.
func (l *Load) DenoiseTokens() int64 { return l.denoise.Load() }

// Retire marks the endpoint as removed for good. The owner of the endpoints, for example a
// datastore.Store, calls it before it tells anyone. Requests in flight are not affected.
func (l *Load) Retire() { l.retired.Store(true) }

// Retired reports whether the endpoint was removed. A plugin that adds an endpoint to a table
// must check it under the table's lock: a decision may be booked after the plugin was told
// to forget the endpoint.
func (l *Load) Retired() bool { return l.retired.Load() }

// TakeOut records that the endpoint is ejected until the given time; Forever if the end is
// not known yet, the zero time to end the ejection. A plugin that ejects endpoints calls it,
// so that admission control counts the same endpoints as the scheduler.
func (l *Load) TakeOut(until time.Time) {
	if until.IsZero() {
		l.out.Store(nil)
		return
	}
	l.out.Store(&until)
}

// Out reports whether the endpoint is ejected at now, and until when.
func (l *Load) Out(now time.Time) (until time.Time, out bool) {
	p := l.out.Load()
	if p == nil || !now.Before(*p) {
		return time.Time{}, false
	}
	return *p, true
}

// SetPeers records what other gateways have booked at the endpoint, as they say. Package scheduling/sharing
// calls it.
func (l *Load) SetPeers(b Booking) {
	if b == (Booking{}) {
		l.peers.Store(nil)
		return
	}
	l.peers.Store(&b)
}

// Peers returns what other gateways have booked at the endpoint, as they said last. It is not part of what the
// other methods return.
func (l *Load) Peers() Booking {
	if p := l.peers.Load(); p != nil {
		return *p
	}
	return Booking{}
}

// Forever is a time that never comes.
var Forever = time.Unix(1<<62/int64(time.Second), 0)

// Booking is an amount added to a Load and released later.
type Booking struct {
	Requests      int64
	Prefilling    int64 // how many of them have no first token yet
	PrefillTokens int64
	ContextTokens int64
	Denoise       int64 // tokens of latents times passes of diffusion models: see Denoise.Tokens
}

// Book adds b. The caller must release the same amounts eventually, whatever happens; a
// Scheduler does.
func (l *Load) Book(b Booking) {
	l.requests.Add(b.Requests)
	l.prefilling.Add(b.Prefilling)
	l.prefill.Add(b.PrefillTokens)
	l.context.Add(b.ContextTokens)
	if b.Denoise != 0 {
		l.denoise.Add(b.Denoise)
	}
}

// Release subtracts b.
func (l *Load) Release(b Booking) {
	l.Book(Booking{-b.Requests, -b.Prefilling, -b.PrefillTokens, -b.ContextTokens, -b.Denoise})
}

// Held returns the total of what is booked.
func (l *Load) Held() Booking {
	return Booking{l.Requests(), l.Prefilling(), l.PrefillTokens(), l.ContextTokens(), l.DenoiseTokens()}
}

// Known returns what is booked by this process and by other gateways together.
func (l *Load) Known() Booking { return l.Held().Plus(l.Peers()) }

// Plus returns the sum.
func (b Booking) Plus(c Booking) Booking {
	return Booking{
		b.Requests + c.Requests, b.Prefilling + c.Prefilling, b.PrefillTokens + c.PrefillTokens, b.ContextTokens + c.ContextTokens,
		b.Denoise + c.Denoise,
	}
}
