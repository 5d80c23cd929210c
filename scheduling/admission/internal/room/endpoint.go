package room

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// Endpoint is what is known of one endpoint. The zero value is one of no table, of which
// nothing is known.
type Endpoint struct {
	Of any // what it stands for
	// Away: it takes no requests, so it is a candidate for none before it is asked about.
	Away bool

	index   int // in Table.endpoints
	member  bool
	figures []figure // by Lane.slot

	// Requests booked there that will not tell of their first token: those of which it is
	// not presumed yet, and how many others there are.
	silent   list.List[Booking]
	presumed int

	inFlight float64 // requests, at the last event
	area     float64 // sum of that by seconds
	areaAt   time.Duration
}

// figure is how full an endpoint is for the requests of a lane.
type figure struct {
	of *Lane
	Answer
	version uint64 // of what was asked; 0: nothing was
}

// figure returns where that of a lane is kept.
func (x *Endpoint) figure(l *Lane) *figure {
	for len(x.figures) <= l.slot {
		x.figures = append(x.figures, figure{})
	}
	f := &x.figures[l.slot]
	if f.of != l {
		*f = figure{of: l, Answer: Answer{Fill: NotMember}}
		if !x.Away {
			f.Fill = math.NaN() // until it is asked about
		}
	}
	return f
}

// Answer returns the last answer for a lane.
func (x *Endpoint) Answer(l *Lane) Answer { return x.figure(l).Answer }

// Member reports whether the endpoint is one of a table's.
func (x *Endpoint) Member() bool { return x.member }

// Booking is a request that is booked at an endpoint. The zero value is booked nowhere.
type Booking struct {
	Since time.Duration // when it was
	Ahead int64         // tokens of prompts owed there then, its own included
	With  float64       // requests in flight there then
	First bool          // its first token has come

	at       *Endpoint
	area     float64 // Endpoint.area then
	presumed bool    // its first token is
	node     list.Node[Booking]
}

// Book puts a booking at the endpoint. Of one that is silent no first token will be seen:
// it is presumed.
func (x *Endpoint) Book(b *Booking, silent bool) {
	b.at, b.area = x, x.area
	if silent {
		x.silent.Push(b, &b.node)
	}
}

// HasFirst takes note that the first token need not be presumed any more.
func (b *Booking) HasFirst() {
	switch {
	case b.presumed:
		b.at.presumed--
		b.presumed = false
	case b.node.Of != nil:
		b.at.silent.Remove(&b.node)
	}
}

// Leave takes the booking off its endpoint.
func (b *Booking) Leave() {
	b.HasFirst()
	b.at = nil
}

// Beside returns how many requests were in flight with it until now: when it was booked, or
// in the mean since if that is less. Measure must have been called.
func (b *Booking) Beside(now time.Duration) float64 {
	if took := (now - b.Since).Seconds(); took > 0 {
		return min(b.With, (b.at.area-b.area)/took)
	}
	return b.With
}

// Measure keeps how many requests are in flight, in the mean over time.
func (x *Endpoint) Measure(now time.Duration, inFlight float64) {
	x.area += x.inFlight * (now - x.areaAt).Seconds()
	x.areaAt, x.inFlight = now, inFlight
}

// Presumed returns how many first tokens are presumed.
func (x *Endpoint) Presumed() int { return x.presumed }

// Presume presumes the first tokens that are due: of those that were booked longer ago than
// they take.
func (x *Endpoint) Presume(now, takes time.Duration) {
	for n := x.silent.Head; n != nil && n.Of.Since+takes <= now; n = x.silent.Head {
		n.Of.presumed = true
		x.silent.Remove(n)
		x.presumed++
	}
}

// Silent returns since when the first of those is booked that will not tell of a first
// token that is not presumed yet.
func (x *Endpoint) Silent() (since time.Duration, ok bool) {
	if x.silent.Head == nil {
		return 0, false
	}
	return x.silent.Head.Of.Since, true
}
