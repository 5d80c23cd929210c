package mailbox

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// Backoff is how long to wait after a failure that so many came before in a row: 50 ms to 1 s, and up to a
// quarter less, so that many that failed together do not come back together.
func Backoff(failures int) time.Duration {
	wait := maxBackoff
	if failures < 5 {
		wait = min(wait, minBackoff<<failures)
	}
	return wait - rand.N(wait/4)
}

// Sleep waits, until ctx ends at the latest.
func Sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
