// Package hearsay remembers what others say: which endpoints hold what, by hashes. It is a table of a fixed size,
// in which what was said the longest ago makes room; looking for a hash that nobody spoke of takes one cache line
// and no lock.
package hearsay

import (
	"sync"
	"sync/atomic"
	"time"
)

// ways is how many words have the choice of places: the hashes of a bucket are one cache line.
const ways = 8

// Table is what was heard. Make it with New. Safe for concurrent use.
type Table struct {
	ttl     time.Duration
	shift   uint
	buckets []bucket

	mu     sync.Mutex
	values []value // guarded by mu: those of a bucket are together
}

// bucket is the hashes that are looked at without the lock; 0: the place is free.
type bucket [ways]atomic.Uint64

type value struct {
	who uint32
	at  time.Duration
}

// New returns a table for about so many words, which are forgotten after ttl.
func New(words int, ttl time.Duration) *Table {
	bits := uint(1)
	for ways<<bits < words {
		bits++
	}
	return &Table{ttl: ttl, shift: 64 - bits, buckets: make([]bucket, 1<<bits), values: make([]value, ways<<bits)}
}

// Put notes that somebody holds what a hash stands for. now is of a clock that does not go back.
func (t *Table) Put(hash uint64, who uint32, now time.Duration) {
	if hash == 0 {
		return
	}
	i := hash >> t.shift
	b := &t.buckets[i]
	t.mu.Lock()
	defer t.mu.Unlock()
	values := t.values[i*ways:][:ways]
	at := -1
	for k := range b {
		switch h := b[k].Load(); {
		case h == hash && values[k].who == who:
			values[k].at = now
			return
		case at < 0 && (h == 0 || now-values[k].at > t.ttl):
			at = k
		}
	}
	if at < 0 {
		at = oldest(values)
	}
	values[at] = value{who, now}
	b[at].Store(hash)
}

func oldest(values []value) (at int) {
	for k := range values {
		if values[k].at < values[at].at {
			at = k
		}
	}
	return at
}

// Any reports whether a hash was spoken of, perhaps too long ago.
func (t *Table) Any(hash uint64) bool {
	b := &t.buckets[hash>>t.shift]
	for k := range b {
		if b[k].Load() == hash {
			return true
		}
	}
	return false
}

// Take appends who holds what a hash stands for to dst, and forgets it.
func (t *Table) Take(hash uint64, dst []uint32, now time.Duration) []uint32 {
	i := hash >> t.shift
	b := &t.buckets[i]
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range b {
		if b[k].Load() != hash || hash == 0 {
			continue
		}
		b[k].Store(0)
		if v := t.values[int(i)*ways+k]; now-v.at <= t.ttl {
			dst = append(dst, v.who)
		}
	}
	return dst
}
