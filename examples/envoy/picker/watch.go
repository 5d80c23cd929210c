package picker

import (
	"sync/atomic"
	"time"
)

// watch tells how long a stream has been idle. The one who receives calls idle and busy,
// the one who watches calls expire.
type watch struct {
	since atomic.Int64 // of the idle time, by clock; 0: busy; expired: given up
}

const expired = -1

// began is what times are counted from: a stream's clock does not jump.
var began = time.Now()

func clock() int64 { return int64(time.Since(began)) + 1 }

// idle begins a time of waiting.
func (w *watch) idle() {
	for now := w.since.Load(); now != expired && !w.since.CompareAndSwap(now, clock()); now = w.since.Load() {
	}
}

// busy ends it, and reports whether the stream is still wanted.
func (w *watch) busy() bool {
	for now := w.since.Load(); now != expired; now = w.since.Load() {
		if w.since.CompareAndSwap(now, 0) {
			return true
		}
	}
	return false
}

// expire gives the stream up if it was idle for so long; else it returns when to look
// again.
func (w *watch) expire(after time.Duration) (left time.Duration) {
	since := w.since.Load()
	if since == 0 {
		return after
	}
	if left := after - time.Duration(clock()-since); left > 0 {
		return left
	}
	if !w.since.CompareAndSwap(since, expired) {
		return after // something came just now
	}
	return 0
}
