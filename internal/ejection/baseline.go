package ejection

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Baseline is how long it takes until the first response comes from a server: the first
// token, or the end of an answer of which none was seen. It is learned over all servers,
// for each class of requests; what is slow is learned fast and forgotten slowly. The zero
// value knows nothing.
type Baseline struct {
	classes [classes]histogram
}

// histogram is how long the requests of a class took, and who answered one of them last.
// It halves as it fills.
type histogram struct {
	counts [buckets]uint16
	n      int
	latest [2]answer // of two servers, the later one in front
}

// answer is the latest request that a server answered, by when it was sent.
type answer struct {
	by   any // the server, by a pointer to what is kept of it
	sent time.Time
}

const (
	classes  = 4 + 4*4
	buckets  = 64  // of a third of an octave each, from a millisecond to 40 minutes
	fullAt   = 512 // times in a histogram when it halves
	leastFor = 20  // times without which nothing is known

	// A wait is an outlier beyond outlierFactor times the outlierQuantile. A server five
	// times slower than the others does not make its clients wait so long more often than
	// the others do a fifth of it.
	outlierFactor   = 5
	outlierQuantile = 0.97
)

// Class returns the class of a request: requests of one class take about as long until
// their first token, or, if they are not streamed, until their end. Both depend on the
// length of the prompt, the latter on that of the output, too.
func Class(req *types.Request) int {
	prompt := sizeOf(req.Prompt.Tokens, 1<<10, 8<<10, 64<<10)
	if req.Stream {
		return prompt
	}
	output := 3 // unlimited
	if req.MaxTokens > 0 {
		output = sizeOf(req.MaxTokens, 64, 512, math.MaxInt)
	}
	return 4 + 4*prompt + output
}

// sizeOf returns how many of the three bounds n reaches.
func sizeOf(n, a, b, c int) int {
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

// Answered is told that a request, sent at that instant, got its first response from by.
func (b *Baseline) Answered(class int, took time.Duration, by any, sent time.Time) {
	h := &b.classes[class]
	h.add(took)
	l := &h.latest
	switch {
	case l[0].by == by || l[0].by == nil:
		l[0] = answer{by, later(sent, l[0].sent)}
	case l[1].by == by || sent.After(l[1].sent):
		l[1] = answer{by, later(sent, l[1].sent)}
		if l[1].sent.After(l[0].sent) {
			l[0], l[1] = l[1], l[0]
		}
	}
}

// High returns what only 3 of 100 requests take longer than, and whether that is known.
func (b *Baseline) High(class int) (time.Duration, bool) {
	return b.classes[class].exceededBy(1 - outlierQuantile)
}

// Median returns what half of the requests take, and whether that is known.
func (b *Baseline) Median(class int) (time.Duration, bool) {
	return b.classes[class].exceededBy(1 - 0.5)
}

// outlier returns beyond what a wait is an outlier, and whether that is known.
func (b *Baseline) outlier(class int) (time.Duration, bool) {
	high, known := b.High(class)
	return outlierFactor * high, known
}

// elsewhere reports whether a request of the class that was sent at the instant or later
// was answered by another server than this.
func (b *Baseline) elsewhere(class int, by any, since time.Time) bool {
	for _, l := range b.classes[class].latest {
		if l.by != nil && l.by != by && !l.sent.Before(since) {
			return true
		}
	}
	return false
}

func (h *histogram) add(took time.Duration) {
	if h.n >= fullAt {
		h.n = 0
		for i := range h.counts {
			h.counts[i] /= 2
			h.n += int(h.counts[i])
		}
	}
	i := 3 * math.Log2(max(float64(took)/float64(time.Millisecond), 1))
	h.counts[int(min(i, buckets-1))]++
	h.n++
}

// exceededBy returns the time that this part of all take longer than, rounded up to the end
// of a bucket, and whether there were enough of them.
func (h *histogram) exceededBy(part float64) (time.Duration, bool) {
	if h.n < leastFor {
		return 0, false
	}
	i, above := buckets-1, int(h.counts[buckets-1])
	for i > 0 && float64(above) <= part*float64(h.n) {
		i--
		above += int(h.counts[i])
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
