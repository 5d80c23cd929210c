package plugins

import (
	"math"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// usualTimes is how long it takes until a first sign of life comes back from a server:
// the first token, or the end of an answer of which none was seen. It is learned over all
// endpoints, for requests of similar size; what is slow is learned fast and forgotten
// slowly. The zero value knows nothing. Safe for concurrent use.
type usualTimes struct {
	mu      sync.Mutex
	classes [usualClasses]usualClass // guarded by mu
}

// usualClass is what is known of requests of one class: a histogram of their times that
// halves as it fills, and who answered one of them last.
type usualClass struct {
	times  [usualBuckets]uint16
	n      int
	latest [2]answered // of two endpoints, the later one in front
}

// answered is the latest request that got a sign of life from an endpoint, by when it was sent.
type answered struct {
	by   *pulse
	sent time.Time
}

const (
	usualClasses = 4 + 4*4
	usualBuckets = 64  // of a third of an octave each, from a millisecond to 40 minutes
	usualFull    = 512 // times in a histogram when it halves
	usualLeast   = 20  // times without which nothing is known

	// Beyond longFactor times what only few take longer than, longPart of all, a wait is
	// long. A server five times slower than the others does not make its clients wait
	// so long more often than the others do a fifth of it.
	longFactor = 5
	longPart   = 0.03
)

// classOf returns the class of a request: requests of one class take about as long until
// their first token, or, if they are not streamed, until their end. Both depend on the
// length of the prompt, the latter on that of the output, too.
func classOf(req *types.Request) int {
	prompt := step(req.Prompt.Tokens, 1<<10, 8<<10, 64<<10)
	if req.Stream {
		return prompt
	}
	output := 3 // unlimited
	if req.MaxTokens > 0 {
		output = step(req.MaxTokens, 64, 512, math.MaxInt)
	}
	return 4 + 4*prompt + output
}

// step returns how many of the three bounds n reaches.
func step(n, a, b, c int) int {
	switch {
	case n < a:
		return 0
	case n < b:
		return 1
	case n < c:
		return 2
	}
	return 3
}

// learn adds that a request took so long until a sign of life, or would have taken longer.
func (u *usualTimes) learn(class int, took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.classes[class].add(took)
}

// answered is learn for a request that got its sign of life from by.
func (u *usualTimes) answered(class int, took time.Duration, by *pulse, sent time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := &u.classes[class]
	c.add(took)
	l := &c.latest
	switch {
	case l[0].by == by || l[0].by == nil:
		l[0] = answered{by, later(sent, l[0].sent)}
	case l[1].by == by || sent.After(l[1].sent):
		l[1] = answered{by, later(sent, l[1].sent)}
		if l[1].sent.After(l[0].sent) {
			l[0], l[1] = l[1], l[0]
		}
	}
}

// long returns what is much longer than usual, and whether that is known.
func (u *usualTimes) long(class int) (time.Duration, bool) {
	most, known := u.most(class)
	return longFactor * most, known
}

// most returns what only few requests take longer than, and whether that is known.
func (u *usualTimes) most(class int) (time.Duration, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.classes[class].quantile(longPart)
}

// median returns what half of the requests take, and whether that is known.
func (u *usualTimes) median(class int) (time.Duration, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.classes[class].quantile(0.5)
}

// elsewhere reports whether a request of the class that was sent at the instant or later
// got its sign of life from another endpoint than p.
func (u *usualTimes) elsewhere(class int, p *pulse, since time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.classes[class].latest {
		if l.by != nil && l.by != p && !l.sent.Before(since) {
			return true
		}
	}
	return false
}

func (c *usualClass) add(took time.Duration) {
	if c.n >= usualFull {
		c.n = 0
		for i := range c.times {
			c.times[i] /= 2
			c.n += int(c.times[i])
		}
	}
	i := 3 * math.Log2(max(float64(took)/float64(time.Millisecond), 1))
	c.times[int(min(i, usualBuckets-1))]++
	c.n++
}

// quantile returns the time than which part of all take longer, rounded up to the end of a
// bucket, and whether there were enough of them.
func (c *usualClass) quantile(part float64) (time.Duration, bool) {
	if c.n < usualLeast {
		return 0, false
	}
	i, above := usualBuckets-1, int(c.times[usualBuckets-1])
	for i > 0 && float64(above) <= part*float64(c.n) {
		i--
		above += int(c.times[i])
	}
	return time.Duration(math.Exp2(float64(i+1)/3) * float64(time.Millisecond)), true
}

// later returns the later of two instants.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
