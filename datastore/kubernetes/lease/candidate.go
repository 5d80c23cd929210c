package lease

import "time"

// instant is a moment on one machine, by both of its clocks.
type instant struct {
	mono time.Duration // never jumps, but may stand still while the machine is suspended
	wall time.Time     // may jump
}

// record is what a Lease says.
type record struct {
	holder      string // empty: nobody
	duration    time.Duration
	acquired    time.Time // as the holder's clock had it
	renewed     time.Time
	transitions int64
	version     string // of the object; empty: there is none yet
}

// candidate decides when to claim a Lease and whether it is held.
type candidate struct {
	identity        string
	duration, renew time.Duration

	seen   record
	seenAt instant // when that version was seen first

	holds bool
	held  instant // before the last write by which it is held
}

// saw takes what was read from the API server. That somebody has deleted the Lease does not end
// the term of who was seen to hold it.
func (c *candidate) saw(r record, now instant) {
	switch {
	case r.version == "" && c.seen.holder != "":
		if c.seen.version != "" {
			c.seenAt = now // it may have been renewed just before
		}
		c.seen.version = ""
		r.holder = c.seen.holder
	case c.seenAt == (instant{}), r.version != c.seen.version:
		c.seen, c.seenAt = r, now
	}
	if r.holder != c.identity {
		c.holds = false
	}
}

// claim returns what to write to get the Lease, or to keep it, and false while it is another's.
func (c *candidate) claim(now instant) (record, bool) {
	if c.seen.holder != "" && c.seen.holder != c.identity {
		if now.mono-c.seenAt.mono < max(c.duration, c.seen.duration) {
			return record{}, false
		}
	}
	next := record{
		holder: c.identity, duration: c.duration, acquired: c.seen.acquired, renewed: now.wall,
		transitions: c.seen.transitions, version: c.seen.version,
	}
	if c.seen.holder != c.identity {
		next.acquired = now.wall
		if c.seen.version != "" {
			next.transitions++
		}
	}
	return next, true
}

// wrote takes what a claim was answered with, which was made at before and answered at now.
func (c *candidate) wrote(r record, before, now instant) {
	c.seen, c.seenAt = r, now
	c.holds, c.held = true, before
}

// left returns for how long the Lease is held from now on if it is not renewed; 0 or less: it is not.
// That another may claim it only later gives what is under way the time to end.
func (c *candidate) left(now instant) time.Duration {
	if !c.holds {
		return 0
	}
	return c.renew - max(now.mono-c.held.mono, now.wall.Sub(c.held.wall))
}

// release returns what to write to give the Lease back, and false if it is not held.
func (c *candidate) release(now instant) (record, bool) {
	if c.left(now) <= 0 {
		return record{}, false
	}
	c.holds = false
	// One second is the least that the API takes.
	return record{
		duration: time.Second, acquired: c.seen.acquired, renewed: now.wall,
		transitions: c.seen.transitions, version: c.seen.version,
	}, true
}
