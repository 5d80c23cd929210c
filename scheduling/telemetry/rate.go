package telemetry

import (
	"math"
	"sync"
	"time"
)

// rateWindow is the time in which what was counted loses all but 1/e of its
// weight in a rate.
const rateWindow = 30 * time.Second

// rate is an exponentially weighted rate per second: the sum over all that was
// counted of n/W * exp(-age/W) with W = rateWindow. Over any long time its mean
// is the true mean, and it falls to 0 when nothing comes.
type rate struct {
	mu sync.Mutex
	// guarded by mu: the rate at an instant
	value float64
	at    time.Time
}

func (r *rate) add(n float64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moveLocked(now)
	r.value += n / rateWindow.Seconds()
}

func (r *rate) read(now time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moveLocked(now)
	return r.value
}

// moveLocked lets the rate decay until now. Events of several goroutines may come
// out of order: one that is late counts as of the latest. Caller must hold r.mu.
func (r *rate) moveLocked(now time.Time) {
	if age := now.Sub(r.at); age > 0 {
		r.value *= math.Exp(-age.Seconds() / rateWindow.Seconds())
		if r.value < 1e-6 {
			r.value = 0
		}
		r.at = now
	}
}
