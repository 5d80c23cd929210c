// Package guard keeps panics from ending a process that the library is only a part of, and from ending one
// of its loops without a word: of functions of the user's, and of our own.
//
// A goroutine that the library starts runs under a [Teller]: what is done once by Call, what goes on as long as its
// context does by Loop. A function of the user's that is called while something is half done, or with others to be
// called after it, has a Call of its own.
package guard

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Panic is what was recovered.
type Panic struct {
	In    string // what panicked, such as "Options.OnScrape"
	Value any    // what it panicked with
	Stack []byte // where, as debug.Stack prints it
}

// Error says what panicked, and with what.
func (p *Panic) Error() string { return fmt.Sprintf("%s panicked: %v", p.In, p.Value) }

// Unwrap returns the value, if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Caught makes a Panic of what recover returned, nil of nil. It is to be called where that was.
func Caught(in string, value any) *Panic {
	if value == nil {
		return nil
	}
	return &Panic{In: in, Value: value, Stack: debug.Stack()}
}

// Call calls f, and returns its panic.
func Call(in string, f func()) (p *Panic) {
	defer func() { p = Caught(in, recover()) }()
	f()
	return nil
}

// Try calls f, of which a panic is an error, too: a *Panic.
func Try(in string, f func() error) (err error) {
	if p := Call(in, func() { err = f() }); p != nil {
		return p
	}
	return err
}

// Clock returns a clock for one that may panic: then the time is the real one, and tell hears of it.
func Clock(in string, now func() time.Time, tell func(*Panic)) func() time.Time {
	return func() (t time.Time) {
		if p := Call(in, func() { t = now() }); p != nil {
			if tell != nil {
				tell(p)
			}
			return time.Now()
		}
		return t
	}
}

// Again is how long a Teller says nothing more of what goes on panicking.
const Again = time.Minute

// maxPlaces bounds of how many places a Teller knows what it has said.
const maxPlaces = 256

// Teller calls what may panic, and tells of that: of each place at once, and then once in Again at most. A nil Teller
// does so in silence. Its methods may be called from any goroutine.
type Teller struct {
	tell func(p *Panic, more int)

	mu   sync.Mutex
	told map[string]place
}

type place struct {
	at   time.Time
	more int // that were not told of since
}

// NewTeller returns a Teller that tells tell of panics; more is how many others of the same place came before, of
// which it was not told. A panic of tell's own is nobody's.
func NewTeller(tell func(p *Panic, more int)) *Teller {
	return &Teller{tell: tell}
}

// Tell tells of a panic, unless it is nil or was told of a moment ago.
func (t *Teller) Tell(p *Panic) {
	if t == nil || p == nil {
		return
	}
	if more, due := t.due(p.In, time.Now()); due {
		_ = Call("", func() { t.tell(p, more) }) // there is nobody left to tell
	}
}

// due reports whether a panic in that place is to be told of now, and how many were not since the last one that was.
func (t *Teller) due(in string, now time.Time) (more int, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.told[in]
	if known && now.Sub(before.at) < Again {
		before.more++
		t.told[in] = before
		return 0, false
	}
	if t.told == nil || len(t.told) >= maxPlaces {
		t.told = map[string]place{}
	}
	t.told[in] = place{at: now}
	return before.more, true
}

// Call calls f, and tells of its panic. It reports whether there was none.
func (t *Teller) Call(in string, f func()) (fine bool) {
	p := Call(in, f)
	t.Tell(p)
	return p == nil
}

// Try is the function Try, and tells of a panic.
func (t *Teller) Try(in string, f func() error) (err error) {
	if p := Call(in, func() { err = f() }); p != nil {
		t.Tell(p)
		return p
	}
	return err
}

// Recovered is to be deferred by what may panic. It tells of that, and then calls after, which may be nil.
func (t *Teller) Recovered(in string, after func()) {
	if p := Caught(in, recover()); p != nil {
		if after != nil {
			after()
		}
		t.Tell(p)
	}
}

// Close closes what is the user's, from a goroutine in which nobody waits for it.
func Close(c interface{ Close() error }) {
	_ = Call("", func() { _ = c.Close() })
}

// Clock is the function Clock, of whose panics it tells.
func (t *Teller) Clock(in string, now func() time.Time) func() time.Time {
	return Clock(in, now, t.Tell)
}

// The bounds of how long Loop waits before it begins again.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 10 * time.Second
)

// Loop calls f, which works until ctx is done, and calls it again if it panics before: after 100 ms, and then after
// twice as long each time, up to 10 s.
func (t *Teller) Loop(ctx context.Context, in string, f func()) {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		began := time.Now()
		if t.Call(in, f) {
			return
		}
		if time.Since(began) > longestWait {
			wait = firstWait
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
