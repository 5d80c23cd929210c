// Package hearsay remembers what others say: who holds what, by hashes. It is a table of a fixed size, in which
// what was said the longest ago makes room. To look whether anybody spoke of a hash takes one line of the
// processor's cache and no lock.
package hearsay

import (
	"sync"
	"sync/atomic"
	"time"
)

// ways is how many words have the choice of places. With the marks, their hashes are one line of the cache.
const ways = 7

// Table is what was heard. Make it with New. Safe for concurrent use.
type Table struct {
	ttl     time.Duration
	shift   uint
	buckets []bucket

	mu     sync.Mutex
	values []value // guarded by mu: those of a bucket are together
}

// bucket is what is looked at without the lock, and changed with it.
type bucket struct {
	hashes [ways]atomic.Uint64 // 0: the place is free
	fresh  atomic.Uint64       // a bit for each that nobody took yet
}

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
	for k := range values {
		switch h := b.hashes[k].Load(); {
		case h == hash && values[k].who == who:
			values[k].at = now
			b.fresh.Or(1 << k)
			return
		case at < 0 && (h == 0 || now-values[k].at > t.ttl):
			at = k
		}
	}
	if at < 0 {
		at = oldest(values)
	}
	values[at] = value{who, now}
	b.hashes[at].Store(hash)
	b.fresh.Or(1 << at)
}

func oldest(values []value) (at int) {
	for k := range values {
		if values[k].at < values[at].at {
			at = k
		}
	}
	return at
}

// Look reports whether a hash was spoken of, perhaps too long ago, and whether Take would return somebody new.
func (t *Table) Look(hash uint64) (known, fresh bool) {
	b := &t.buckets[hash>>t.shift]
	for k := range b.hashes {
		if b.hashes[k].Load() == hash {
			known = true
			fresh = fresh || b.fresh.Load()&(1<<k) != 0
		}
	}
	return known, fresh
}

// Take appends to dst who holds what a hash stands for, as far as they were said since the last Take.
func (t *Table) Take(hash uint64, dst []uint32, now time.Duration) []uint32 {
	i := hash >> t.shift
	b := &t.buckets[i]
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range b.hashes {
		if b.hashes[k].Load() != hash || b.fresh.Load()&(1<<k) == 0 {
			continue
		}
		b.fresh.And(^uint64(1 << k))
		if v := t.values[int(i)*ways+k]; now-v.at <= t.ttl {
			dst = append(dst, v.who)
		}
	}
	return dst
}
