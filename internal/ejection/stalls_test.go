package ejection

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

const ms = time.Millisecond

// pool is two servers, of which others is known to answer, with a clock.
type pool struct {
	b             Baseline
	stalls, other Stalls
	now           time.Time
}

func newPool() *pool {
	p := &pool{now: start}
	for range leastFor {
		p.b.Answered(0, 20*ms, &p.other, p.now)
	}
	return p
}

// wait sends a request of the class, to which the other server answers what is sent to it
// later, and lets time pass.
func (p *pool) wait(class int, d time.Duration) *Wait {
	w := &Wait{Sent: p.now, Class: class}
	p.stalls.Add(w)
	p.b.Answered(class, 20*ms, &p.other, p.now.Add(ms))
	p.now = p.now.Add(d)
	return w
}

func TestStalls(t *testing.T) {
	strikes := func(p *pool, n int, d time.Duration) (last bool) {
		for range n {
			last = p.stalls.Strike(p.wait(0, d), p.now, &p.b)
		}
		return last
	}
	for _, tt := range []struct {
		name string
		do   func(*pool) bool
		want bool
	}{
		{"three that waited for an outlier", func(p *pool) bool { return strikes(p, 3, 300*ms) }, true},
		{"two", func(p *pool) bool { return strikes(p, 2, 300*ms) }, false},
		{"four: the row began anew", func(p *pool) bool { return strikes(p, 4, 300*ms) }, false},
		{"six", func(p *pool) bool { return strikes(p, 6, 300*ms) }, true},
		{"not for long enough", func(p *pool) bool { return strikes(p, 9, leastSilence) }, false},
		{"a response between", func(p *pool) bool {
			strikes(p, 2, 300*ms)
			p.stalls.Responded(p.now, &p.b)
			return strikes(p, 1, 300*ms)
		}, false},
		{"of one that counted elsewhere", func(p *pool) bool {
			strikes(p, 2, 300*ms)
			w := p.wait(0, 300*ms)
			w.Counted = true
			return p.stalls.Strike(w, p.now, &p.b)
		}, false},
		{"of a trial", func(p *pool) bool {
			strikes(p, 2, 300*ms)
			w := p.wait(0, 300*ms)
			w.Trial = true
			return p.stalls.Strike(w, p.now, &p.b)
		}, false},
		{"of a class of which nothing is known", func(p *pool) bool {
			strikes(p, 2, 300*ms)
			return p.stalls.Strike(p.wait(7, time.Hour), p.now, &p.b)
		}, false},
		{"behind one of a class of which nothing is known", func(p *pool) bool {
			p.wait(7, 0)
			return strikes(p, 3, unknownSilence)
		}, false},
		{"and for longer than that takes", func(p *pool) bool {
			p.wait(7, 0)
			return strikes(p, 3, unknownSilence+ms)
		}, true},
		{"nobody answers", func(p *pool) bool {
			for range 9 {
				w := &Wait{Sent: p.now.Add(2 * ms)}
				p.stalls.Add(w)
				p.now = p.now.Add(300 * ms)
				if p.stalls.Strike(w, p.now, &p.b) {
					return true
				}
			}
			return false
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, tt.do(newPool())) })
	}
}

// Who is left before a server responds would have waited for longer there.
func TestStallsTeachTheBaseline(t *testing.T) {
	p := newPool()
	before, _ := p.b.High(0)
	for range 10 {
		p.stalls.Left(p.wait(0, time.Second), p.now)
	}
	p.stalls.Responded(p.now, &p.b)
	after, known := p.b.High(0)
	require.True(t, known)
	require.Less(t, before, 30*ms)
	require.Greater(t, after, 2*time.Second)
}

func TestBaseline(t *testing.T) {
	var b Baseline
	_, known := b.Median(3)
	require.False(t, known)
	for i := range 100 {
		b.Answered(3, time.Duration(i+1)*ms, new(Stalls), start)
	}
	median, known := b.Median(3)
	require.True(t, known)
	require.InDelta(t, 50, median.Seconds()*1000, 15)
	high, _ := b.High(3)
	require.InDelta(t, 97, high.Seconds()*1000, 30)
	for range 20 * fullAt { // what is old is forgotten
		b.Answered(3, 10*ms, new(Stalls), start)
	}
	high, _ = b.High(3)
	require.InDelta(t, 10, high.Seconds()*1000, 3)
	_, known = b.High(2)
	require.False(t, known)
}

// Each part of a request has classes of its own.
func TestClasses(t *testing.T) {
	seen := map[int]Part{}
	for part := Whole; part <= Prompt; part++ {
		for _, stream := range []bool{true, false} {
			for _, tokens := range []int{0, 1 << 10, 8 << 10, 64 << 10} {
				for _, output := range []int{0, 1, 64, 512} {
					class := Class(&types.Request{Stream: stream, MaxTokens: output, Prompt: types.Prompt{Tokens: tokens}}, part)
					require.Less(t, class, classes)
					if was, ok := seen[class]; ok {
						require.Equal(t, was, part)
					}
					seen[class] = part
				}
			}
		}
	}
	require.Len(t, seen, classes)
}
