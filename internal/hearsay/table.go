// Package hearsay remembers what others say: who holds what, by hashes. It is a table of a bounded size, in which
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

// firstBits is the logarithm of how many buckets a table begins with.
const firstBits = 8

// Table is what was heard. Make it with New. Safe for concurrent use.
type Table struct {
	ttl   time.Duration
	most  int // buckets
	words atomic.Pointer[words]
	mu    sync.Mutex // guards changes of words
}

// words are the words of a Table of one size.
type words struct {
	shift   uint
	buckets []bucket
	values  []value // those of a bucket are together; guarded by Table.mu
	used    int     // places; guarded by Table.mu
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

// New returns a table for at least so many words, which are forgotten after ttl. It grows as it fills.
func New(most int, ttl time.Duration) *Table {
	t := &Table{ttl: ttl, most: 1}
	for ways*t.most < most {
		t.most *= 2
	}
	t.words.Store(newWords(min(t.most, 1<<firstBits)))
	return t
}

func newWords(buckets int) *words {
	w := &words{shift: 64, buckets: make([]bucket, buckets), values: make([]value, ways*buckets)}
	for n := buckets; n > 1; n /= 2 {
		w.shift--
	}
	return w
}

func (w *words) bucket(hash uint64) (*bucket, []value) {
	i := hash >> w.shift
	return &w.buckets[i], w.values[i*ways:][:ways]
}

// Put notes that somebody holds what a hash stands for. now is of a clock that does not go back.
func (t *Table) Put(hash uint64, who uint32, now time.Duration) {
	if hash == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.words.Load()
	if 3*w.used > len(w.values) && len(w.buckets) < t.most {
		w = t.grow(w, now)
	}
	w.put(hash, value{who, now}, now-t.ttl)
}

// put enters a word, in the place of one from before stale if there is one. Caller must hold Table.mu.
func (w *words) put(hash uint64, v value, stale time.Duration) {
	b, values := w.bucket(hash)
	at := -1
	for k := range values {
		switch h := b.hashes[k].Load(); {
		case h == hash && values[k].who == v.who:
			values[k].at = v.at
			b.fresh.Or(1 << k)
			return
		case at < 0 && (h == 0 || values[k].at < stale):
			at = k
		}
	}
	if at < 0 {
		at = oldest(values)
	}
	if b.hashes[at].Load() == 0 {
		w.used++
	}
	values[at] = v
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

// grow returns words of twice the size. Caller must hold t.mu.
func (t *Table) grow(old *words, now time.Duration) *words {
	w := newWords(2 * len(old.buckets))
	for i := range old.buckets {
		b := &old.buckets[i]
		for k := range ways {
			hash, v := b.hashes[k].Load(), old.values[i*ways+k]
			if hash == 0 || now-v.at > t.ttl {
				continue
			}
			w.put(hash, v, now-t.ttl)
			if b.fresh.Load()&(1<<k) == 0 {
				w.take(hash, func(at value) bool { return at == v })
			}
		}
	}
	t.words.Store(w)
	return w
}

// take marks what is fresh of a hash as taken, if it is wanted.
func (w *words) take(hash uint64, want func(value) bool) {
	b, values := w.bucket(hash)
	for k := range values {
		if b.hashes[k].Load() == hash && b.fresh.Load()&(1<<k) != 0 && want(values[k]) {
			b.fresh.And(^uint64(1 << k))
		}
	}
}

// Look reports whether a hash was spoken of, perhaps too long ago, and whether Take would return somebody new.
func (t *Table) Look(hash uint64) (known, fresh bool) {
	w := t.words.Load()
	b := &w.buckets[hash>>w.shift]
	for k := range b.hashes {
		if b.hashes[k].Load() == hash {
			known = true
			fresh = fresh || b.fresh.Load()&(1<<k) != 0
		}
	}
	return known, fresh
}

// Take appends to dst who holds what a hash stands for, as far as they were said since the last Take. It does not
// wait: while something else is changed it takes nothing.
func (t *Table) Take(hash uint64, dst []uint32, now time.Duration) []uint32 {
	if hash == 0 || !t.mu.TryLock() {
		return dst
	}
	defer t.mu.Unlock()
	t.words.Load().take(hash, func(v value) bool {
		if now-v.at <= t.ttl {
			dst = append(dst, v.who)
		}
		return true
	})
	return dst
}

// Word is what somebody said.
type Word struct {
	Hash uint64
	Who  uint32
	Age  time.Duration
}

// page is how many buckets are looked at before others have their turn.
const page = 256

// Fresh appends to dst all that was said since it was taken last, in any order.
func (t *Table) Fresh(dst []Word, now time.Duration) []Word {
	for from, more := 0, true; more; from += page {
		dst, more = t.fresh(dst, from, now)
	}
	return dst
}

// fresh appends the fresh words of some buckets, and reports whether there are more. While the table grows some may be
// there twice, or missing.
func (t *Table) fresh(dst []Word, from int, now time.Duration) ([]Word, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.words.Load()
	to := min(from+page, len(w.buckets))
	for i := from; i < to; i++ {
		b := &w.buckets[i]
		for k := range ways {
			if v := w.values[i*ways+k]; b.fresh.Load()&(1<<k) != 0 && now-v.at <= t.ttl {
				dst = append(dst, Word{b.hashes[k].Load(), v.who, now - v.at})
			}
		}
	}
	return dst, to < len(w.buckets)
}
