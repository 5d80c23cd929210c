// Package window learns how many requests a server serves well at a time, from how it serves
// them. It has no lock and no clock.
package window

import (
	"math"
	"time"
)

// New returns a Window of a size, which is bounded.
func New(first, least, most float64) *Window {
	return &Window{size: first, least: least, most: most}
}

// Size is how many requests may be in flight.
func (w *Window) Size() float64 { return w.size }

func (w *Window) bound() { w.size = min(max(w.size, w.least), w.most) }

// Window is how many requests may be in flight at a server that reports nothing. Make it with
// New.
type Window struct {
	least, most float64
	size        float64
	// Of one that has been busy: after how many ends without that one more is tried, ever
	// more where it is busy again, but no longer than mostCalm; how many there have been, and
	// since when.
	patience, calm int
	busyAt         time.Time
	// proven is the most that were in flight with one that was served, and doubts how often
	// since the server has been busy with fewer.
	proven float64
	doubts int

	ends, firsts pacing
	with         mean // requests in flight with those that ended
	round        int  // ends since size was looked at

	// A trial of a smaller size: what is done before and after.
	phase         phase
	before, after work
	from          float64 // the size before
	draining      int     // ends until those have ended that were sent before
}

// phase is how far a trial is.
type phase uint8

const (
	steady   phase = iota // there is none
	measured              // what is done before is
	drained               // those that were sent before end
	tried                 // what is done after is measured
	restored              // if it was less, what is done with the size before once more
)

// work is what was done in some time.
type work struct {
	units float64
	ends  int
	since time.Time
	rate  float64 // units a second
}

func (d *work) add(units float64, at time.Time) {
	if d.since.IsZero() {
		d.since = at
		return
	}
	d.units += units
	d.ends++
	d.rate = d.units / max(at.Sub(d.since).Seconds(), 1e-9)
}

// pacing is how long a unit of work takes, as logarithms of seconds.
type pacing struct {
	mean  mean    // of late
	quiet mean    // of those beside which few others were in flight
	best  float64 // the mean of quiet ones; while there are too few, the least that mean was
}

// mean is one of late, with the variance.
type mean struct {
	n               int
	value, variance float64
}

func (r *mean) add(v float64) {
	r.n++
	rate, off := 1/min(float64(r.n), meanOver), v-r.value
	r.value += rate * off
	r.variance += rate * (off*off*(1-rate) - r.variance)
}

// error returns the standard error of the mean.
func (r *mean) error() float64 { return math.Sqrt(r.variance / min(float64(r.n), meanOver)) }

const (
	enoughPaced = 16   // measurements that make a mean
	enoughQuiet = 8    // those beside which few were in flight
	meanOver    = 32.0 // measurements that it is over
	bestOver    = 10_000.0
	windowGain  = 3.0
	asSoon      = 2.0 // times as long as ever
	oneRound    = 8   // ends after which the bound may change again
	mostShrink  = 4.0
	rateOver    = 64
	mostTried   = 256

	leastPatience = 16
	mostPatience  = 1024
	mostCalm      = 30 * time.Second
	mostDoubts    = 4
	briefly       = 0.1 // of another that was refused soon
	sure          = 2.0 // standard errors

	mostCost = 0.15
)

// slower takes a measurement, and returns how many times longer it took than where there
// was room, and how many times of late in the mean; 0 while that is not known.
func (p *pacing) slower(seconds float64, quiet bool) (this, mean float64) {
	v := math.Log(max(seconds, 1e-9))
	p.mean.add(v)
	if quiet {
		p.quiet.add(v)
	}
	switch {
	case p.quiet.n >= enoughQuiet:
		p.best = p.quiet.value
	case p.mean.n < enoughPaced:
		return 0, 0
	case p.mean.n == enoughPaced:
		p.best = p.mean.value
	default:
		p.best = min(p.best+(p.mean.value-p.best)/bestOver, p.mean.value)
	}
	return math.Exp(v - p.best), math.Exp(p.mean.value - p.best)
}

// believe makes what it takes where there is room at least something else.
func (p *pacing) believe(best float64) {
	p.best = max(p.best, best)
	p.quiet.value = max(p.quiet.value, best)
}

// quiet reports whether few others are in flight: so few that, were they many for the
// server, the bound would be too.
func (w *Window) quiet(with float64) bool { return with <= max(w.size/8, 1) }

// Ended learns from an end.
func (w *Window) Ended(took time.Duration, units, with float64, at time.Time) {
	defer w.bound()
	_, slower := w.ends.slower(took.Seconds()/units, w.quiet(with))
	w.with.add(with)
	w.calm++
	if in := math.Ceil(with - briefly); in >= w.proven {
		w.proven, w.doubts = in, 0
	}
	if w.round++; slower == 0 || w.round < oneRound {
		w.try(units, slower, at)
		return
	}
	w.round = 0
	switch size := windowGain * w.with.value / slower; {
	case w.phase != steady:
		w.try(units, slower, at)
	case size > w.size:
		w.grow(size, oneRound, at)
	case w.surely(slower) > windowGain:
		w.phase, w.before, w.after = measured, work{}, work{}
	}
}

// surely is how many times longer it takes at least, as far as a mean is sure.
func (w *Window) surely(slower float64) float64 {
	return slower * math.Exp(-sure*w.ends.mean.error())
}

// try goes on with a trial. If much less is done with a smaller size, those that were more
// did not only wait: the engine slows down with its batch, or is slow for a reason of its own.
func (w *Window) try(units, slower float64, at time.Time) {
	switch w.phase {
	case measured:
		if w.before.add(units, at); w.before.ends < rateOver {
			return
		}
		if slower = w.surely(slower); slower <= windowGain {
			w.phase = steady
			return
		}
		w.phase, w.from, w.draining = drained, w.size, int(w.with.value)+1
		w.size = max(min(windowGain*w.with.value/slower, w.size), w.size/mostShrink)
	case drained:
		if w.draining--; w.draining == 0 {
			w.phase = tried
		}
	case tried:
		w.after.add(units, at)
		switch less := w.compare(); {
		case less > 0: // it may be the size, or something that happened meanwhile
			w.size, w.from = w.from, w.size
			w.phase, w.draining = restored, int(w.from)+1
			w.before, w.after = w.after, work{}
		case less < 0:
			w.phase, w.round = steady, 0
		}
	case restored:
		if w.draining--; w.draining > 0 {
			return
		}
		w.after.add(units, at)
		switch more := w.compare(); {
		case more < 0: // it was the size: that it takes longer is no sign of a queue
			w.ends.believe(w.ends.mean.value - math.Log(w.after.rate/w.before.rate))
			w.phase, w.round = steady, 0
		case more > 0:
			w.size = w.from
			w.phase, w.round = steady, 0
		}
	}
}

// compare compares what is done after with what was done before: 1: it is less by mostCost, or
// not more by that once the size is restored; -1: it is not; 0: not known yet.
func (w *Window) compare() int {
	if w.after.ends == 0 || w.after.ends%rateOver != 0 {
		return 0
	}
	// Of so many ends in some time, the error of their number is about its root.
	spread := math.Sqrt(1/float64(w.after.ends) + 1/float64(w.before.ends))
	cost := math.Log(w.after.rate / w.before.rate / (1 - mostCost))
	if w.phase == restored {
		cost = math.Log(w.after.rate / w.before.rate * (1 - mostCost))
	}
	switch {
	case math.Abs(cost) < spread && w.after.ends < mostTried:
		return 0
	case cost < 0 && (w.phase == restored || cost < -spread):
		return 1
	}
	return -1
}

// Busy learns from a refusal of one that was sent with so many in flight, its own included.
// As many as have been served are not taken for too many at once: requests overtake each
// other, so that one may come late to a server that had room when it was sent.
func (w *Window) Busy(with float64, at time.Time) {
	defer w.bound()
	if with-1 < w.proven {
		if w.doubts++; w.doubts > mostDoubts {
			w.proven, w.doubts = with-1, 0
		}
	}
	w.size = min(w.size, max(with-1, w.proven))
	if w.rested(at) { // others that come with it are of the same attempt
		w.patience = min(max(2*w.patience, leastPatience), mostPatience)
	}
	w.calm, w.busyAt = 0, at
}

// rested reports whether the server has not been busy for long enough to try more.
func (w *Window) rested(at time.Time) bool {
	return w.calm >= w.patience || at.Sub(w.busyAt) >= mostCalm
}

// Began learns from a first token. One that comes late may have waited behind a long
// output, which says little; one that does not shows that nobody had to wait.
func (w *Window) Began(took time.Duration, units, with float64, at time.Time) {
	defer w.bound()
	slower, _ := w.firsts.slower(took.Seconds()/units, w.quiet(with))
	if slower > 0 && slower <= asSoon && asSoon*with > w.size {
		w.grow(asSoon*with, 1, at)
	}
}

// grow raises the bound after n requests have shown that it may be; where the server has
// been busy, to what it has served since, and beyond that not at once, and by one for as many
// as it has in flight, as TCP does.
func (w *Window) grow(size, n float64, at time.Time) {
	switch {
	case w.patience == 0:
	case w.size < w.proven && w.calm >= oneRound:
		size = min(size, w.proven)
	case !w.rested(at):
		return
	default:
		size = min(size, w.size+n/w.size)
	}
	w.size = size
}
