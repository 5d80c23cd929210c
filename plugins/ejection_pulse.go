package plugins

import (
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

const (
	// A server hangs after silentRow requests, in windows of time that do not overlap,
	// waited much longer than is usual with no sign of life for anybody.
	silentRow = 3
	// No wait is called long that is shorter than leastSilence.
	leastSilence = 100 * time.Millisecond
	// While a request is waiting of which it is not known what is long for it, that is.
	silenceUnknown = 30 * time.Second
)

// attempt is what a request keeps from Picked to Finished.
type attempt struct {
	owner     *types.Request // a copy of a request has no attempt
	pulse     *pulse         // of where it went; nil: that has gone
	sent      time.Time
	class     int
	ejections uint64 // how many there had been, of all endpoints
	trial     bool   // the endpoint was ejected or on probation, which is judged otherwise
	begun     bool   // a first token was seen

	// guarded by the lock of pulse
	waiting    bool // is in its list
	prev, next *attempt
	blamed     bool // the request has counted against some endpoint, and does so once
}

// pulse is how an endpoint is alive.
type pulse struct {
	mu sync.Mutex
	// guarded by mu
	first, last *attempt // those that wait for a sign of life, and did not speak against it yet
	waits       [usualClasses]int32
	sign        time.Time // when there was one last
	strikes     int       // in a row
	struck      time.Time // when the last of them was
	left        [8]wait   // those that nobody waited for to the end, since the last sign
	nLeft       int
}

// wait is how long a request of a class waited in vain.
type wait struct {
	class int
	time  time.Duration
}

// send adds a request that was sent, unless it cannot be a strike. Caller must hold p.mu.
func (p *pulse) send(a *attempt) {
	if a.blamed || a.trial {
		return
	}
	a.waiting, a.prev, a.next = true, p.last, nil
	if p.last != nil {
		p.last.next = a
	} else {
		p.first = a
	}
	p.last = a
	p.waits[a.class]++
}

// remove takes a request out, if it is in. Caller must hold p.mu.
func (p *pulse) remove(a *attempt) {
	if !a.waiting {
		return
	}
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		p.first = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	} else {
		p.last = a.prev
	}
	a.waiting, a.prev, a.next = false, nil, nil
	p.waits[a.class]--
}

// lives is told of a sign of life. It teaches how long those would have had to wait that
// were left before: at a server that lives, longer than they did. Caller must hold p.mu.
func (p *pulse) lives(now time.Time, u *usualTimes) {
	p.sign, p.strikes = now, 0
	for _, w := range p.left[:p.nLeft] {
		u.learn(w.class, 2*w.time)
	}
	p.nLeft = 0
}

// leaves is told of a request that nobody waits for any more. Caller must hold p.mu.
func (p *pulse) leaves(a *attempt, now time.Time) {
	if p.nLeft < len(p.left) {
		p.left[p.nLeft] = wait{a.class, now.Sub(a.sent)}
		p.nLeft++
	}
}

// strike reports whether the endpoint hangs, of which a, that is waiting, is the last
// of silentRow signs. Caller must hold p.mu.
func (p *pulse) strike(a *attempt, now time.Time, u *usualTimes) bool {
	since := later(a.sent, later(p.sign, p.struck))
	silence := now.Sub(since)
	if a.blamed || a.trial || silence <= leastSilence {
		return false
	}
	long, known := u.long(a.class)
	if !known || silence <= long || !u.elsewhere(a.class, p, since) {
		return false
	}
	for class, n := range p.waits { // it may be busy with a long one
		if n == 0 || class == a.class {
			continue
		}
		if long, known = u.long(class); !known {
			long = silenceUnknown
		}
		if silence <= long {
			return false
		}
	}
	a.blamed, p.struck = true, now
	p.remove(a)
	p.strikes++
	if p.strikes < silentRow {
		return false
	}
	p.strikes = 0
	return true
}
