package ejection

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Baseline learns the time until the first response of a server, that is the first token or the end of
// a response without one, over all servers and for each class of requests. Slow responses are learned
// fast and forgotten slowly. The zero value knows nothing.
type Baseline struct {
	classes [classes]histogram
}

// histogram holds the response times of a class, and which servers answered last. Its counts are
// halved when it is full.
type histogram struct {
	counts [buckets]uint16
	n      int
	latest [2]answer // by two servers, the later one first
}

// answer is the latest request that a server answered, by the time it was sent.
type answer struct {
	by   any // identifies the server
	sent time.Time
}

const (
	wholeClasses = 4 + 4*4
	classes      = 2*wholeClasses + 4

	buckets  = 64  // a third of an octave each, from 1 ms to 40 minutes
	fullAt   = 512 // samples at which a histogram is halved
	leastFor = 20  // samples below which nothing is known

	// A wait is an outlier if it is longer than outlierFactor times the outlierQuantile. At a server
	// five times slower than the others this is as rare as waits beyond the quantile at the others.
	outlierFactor   = 5
	outlierQuantile = 0.97
)

// Part is the part of a request that a server serves.
type Part uint8

// The parts of a request.
const (
	Whole  Part = iota
	Answer      // with a prompt that another server computed
	Prompt      // for another server, which answers
)

// Class returns the class of a part of a request, by streaming, length of the prompt and, if not
// streamed, maximum output. Those of one class have similar times to the first response, so the parts
// have classes of their own: an answer alone begins much sooner, and a prompt alone is never streamed.
func Class(req *types.Request, part Part) int {
	prompt := sizeOf(req.Prompt.Tokens, 1<<10, 8<<10, 64<<10)
	if part == Prompt {
		return 2*wholeClasses + prompt
	}
	first := int(part) * wholeClasses
	if req.Stream {
		return first + prompt
	}
	output := 3 // unlimited
	if req.MaxTokens > 0 {
		output = sizeOf(req.MaxTokens, 64, 512, math.MaxInt)
	}
	return first + 4 + 4*prompt + output
}

// sizeOf returns how many of the three ascending bounds n reaches.
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

// Answered records the first response of a server to a request that was sent at sent.
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

// High returns the 97th percentile, and whether it is known.
func (b *Baseline) High(class int) (time.Duration, bool) {
	return b.classes[class].exceededBy(1 - outlierQuantile)
}

// Median returns the median, and whether it is known.
func (b *Baseline) Median(class int) (time.Duration, bool) {
	return b.classes[class].exceededBy(1 - 0.5)
}

// outlier returns the time beyond which a wait is an outlier, and whether it is known.
func (b *Baseline) outlier(class int) (time.Duration, bool) {
	high, known := b.High(class)
	return outlierFactor * high, known
}

// elsewhere reports whether another server has answered a request of the class sent at since or later.
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

// exceededBy returns the time exceeded by the given fraction of samples, rounded up to the end of a
// bucket, and whether there are enough samples.
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

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
