package simulation

import (
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"sync"
	"time"
)

// The parts of a trace that Minutes can choose.
const (
	EvenMinutes = "even" // the first minute, the third, …
	OddMinutes  = "odd"  // the second, the fourth, …
)

const (
	defaultMaxLines = 10_000_000
	maxLineBytes    = 4 << 20
	maxTraceSeconds = 1e8
	maxEmptyLaps    = 10_000
)

// records is a trace in memory, in order of time. It does not change.
type records struct {
	at      []time.Duration // since the first record
	in, out []int32
	// blocks are the IDs of all prompts' blocks, those of record i from first[i] to
	// first[i+1]. nil for traces that know nothing of content.
	blocks []uint64
	first  []int
}

func (t *records) add(at time.Duration, in, out int) {
	t.at = append(t.at, at)
	t.in = append(t.in, int32(in))
	t.out = append(t.out, int32(out))
}

func (t *records) blocksOf(i int) []uint64 { return t.blocks[t.first[i]:t.first[i+1]] }

// finish puts the records in order and makes times relative to the first.
func (t *records) finish(name string) (*records, error) {
	if len(t.in) == 0 {
		return nil, fmt.Errorf("%s: no records", name)
	}
	if t.blocks != nil {
		t.first = append(t.first, len(t.blocks))
	}
	if !slices.IsSorted(t.at) {
		t.sort()
	}
	for i := len(t.at) - 1; i >= 0; i-- {
		t.at[i] -= t.at[0]
	}
	return t, nil
}

func (t *records) sort() {
	order := make([]int, len(t.at))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return t.at[order[a]] < t.at[order[b]] })
	s := &records{}
	for _, i := range order {
		s.add(t.at[i], int(t.in[i]), int(t.out[i]))
		if t.blocks != nil {
			s.first = append(s.first, len(s.blocks))
			s.blocks = append(s.blocks, t.blocksOf(i)...)
		}
	}
	if t.blocks != nil {
		s.first = append(s.first, len(s.blocks))
	}
	*t = *s
}

// file is the content of a trace file, read when it is first needed and then
// shared by all runs. It is safe for concurrent use.
type file struct {
	mu sync.Mutex
	// guarded by mu
	path string
	max  int
	data *records
}

// load returns what parse makes of the file at path.
func (f *file) load(path string, maxLines int, parse func(r io.Reader, name string, maxLines int) (*records, error)) (*records, error) {
	maxLines = withDefault(maxLines, defaultMaxLines)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.data != nil && f.path == path && f.max == maxLines {
		return f.data, nil
	}
	r, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	defer r.Close()
	data, err := parse(r, path, maxLines)
	if err != nil {
		return nil, err
	}
	f.path, f.max, f.data = path, maxLines, data
	return data, nil
}

// share gives g what f has read.
func (f *file) share(g *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g.path, g.max, g.data = f.path, f.max, f.data
}

// lineError says where in a trace something is wrong.
func lineError(name string, line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", name, line, fmt.Errorf(format, args...))
}

func tooManyLines(name string, max int) error {
	return fmt.Errorf("%s: more than %d lines, want fewer or a higher max_lines", name, max)
}

// tokensIn checks a length that a trace gives.
func tokensIn(field string, v, least int) error {
	if v < least || v > maxTokens {
		return fmt.Errorf("%s is %d, want %d to %d", field, v, least, maxTokens)
	}
	return nil
}

// replay is which part of a trace is played, and how.
type replay struct {
	speed    float64
	from, to float64 // seconds
	minutes  string
	loop     bool
	tick     time.Duration // time stamps are rounded to it; 0: they are exact
}

func (r *replay) check(c *checker) {
	if !(r.speed >= 1e-6 && r.speed <= 1e6) {
		c.failf("speed is %v, want 0.000001 to 1000000, or 0 for 1", r.speed)
	}
	c.floatRange("from_s", r.from, 0, maxTraceSeconds)
	c.floatRange("to_s", r.to, 0, maxTraceSeconds)
	if r.to != 0 && r.to <= r.from {
		c.failf("to_s is %v, want later than from_s, %v, or 0 for the end", r.to, r.from)
	}
	switch r.minutes {
	case "", EvenMinutes, OddMinutes:
	default:
		c.failf("minutes is %q, want even, odd or nothing for all", r.minutes)
	}
	if r.tick < 0 || r.tick > time.Hour {
		c.failf("tick_s is %v, want at most an hour", r.tick.Seconds())
	}
}

// end is when the trace is over: a mean gap, or a tick, after its last record.
func (r *replay) end(t *records) time.Duration {
	last := t.at[len(t.at)-1]
	switch {
	case r.tick > 0:
		return r.tickOf(last) + r.tick
	case last > 0:
		return last + max(1, last/time.Duration(len(t.at)-1))
	}
	return time.Second
}

// window returns the part of the trace's time that is played.
func (r *replay) window(t *records) (from, to time.Duration) {
	from, to = toDuration(r.from), r.end(t)
	if r.to > 0 {
		to = min(to, toDuration(r.to))
	}
	return from, to
}

// tickOf returns the beginning of the tick that a time stamp was rounded to. Time
// stamps may be off by less than half a tick.
func (r *replay) tickOf(at time.Duration) time.Duration { return at.Round(r.tick) }

// playedBefore returns how much of [0, at) is in the minutes that are played. What is
// left out leaves no hole: the minutes that are played follow each other.
func (r *replay) playedBefore(at time.Duration) time.Duration {
	whole, part := at/(2*time.Minute)*time.Minute, at%(2*time.Minute)
	switch r.minutes {
	case EvenMinutes:
		return whole + min(part, time.Minute)
	case OddMinutes:
		return whole + max(part-time.Minute, 0)
	}
	return at
}

// isPlayed reports whether at is in the minutes that are played.
func (r *replay) isPlayed(at time.Duration) bool {
	odd := at/time.Minute%2 == 1
	return r.minutes == "" || odd == (r.minutes == OddMinutes)
}

// span returns how long one pass takes at speed 1, and how many records it has.
func (r *replay) span(t *records) (time.Duration, int) {
	from, to := r.window(t)
	n := 0
	for i := sort.Search(len(t.at), func(i int) bool { return r.stamp(t, i) >= from }); i < len(t.at); i++ {
		at := r.stamp(t, i)
		if at >= to {
			break
		}
		if r.isPlayed(at) {
			n++
		}
	}
	return r.playedBefore(to) - r.playedBefore(from), n
}

// stamp returns the time of record i as the trace gives it, on its tick if it has
// ticks.
func (r *replay) stamp(t *records, i int) time.Duration {
	if r.tick > 0 {
		return r.tickOf(t.at[i])
	}
	return t.at[i]
}

// checkWindow reports a window without records.
func (r *replay) checkWindow(c *checker, t *records) {
	from, to := r.window(t)
	if span, n := r.span(t); n == 0 || span <= 0 {
		c.failf("no records from %v s to %v s (minutes %q; the trace has %d in %v s), want another from_s, to_s or minutes",
			from.Seconds(), to.Seconds(), r.minutes, len(t.at), r.end(t).Seconds())
	}
}

func (r *replay) rate(t *records) float64 {
	span, n := r.span(t)
	if span <= 0 {
		return 0
	}
	return float64(n) / span.Seconds() * r.speed
}

// replaying is a run of a trace.
type replaying struct {
	replay
	trace    *records
	seed     uint64
	make     func(lap uint64, i int) Job
	from, to time.Duration
	span     time.Duration

	next int // record
	lap  uint64
	last time.Duration // arrival
	tick []stamped     // what is left of the tick under way, in order
	buf  []stamped
}

type stamped struct {
	at    time.Duration
	index int
}

func newReplaying(r replay, t *records, seed uint64, job func(lap uint64, i int) Job) *replaying {
	s := &replaying{replay: r, trace: t, seed: derive(seed, streamSpread), make: job}
	s.from, s.to = r.window(t)
	s.span, _ = r.span(t)
	s.rewind()
	return s
}

func (s *replaying) rewind() {
	// A tick may begin before the window and reach into it.
	s.next = sort.Search(len(s.trace.at), func(i int) bool { return s.stamp(s.trace, i) > s.from-max(s.replay.tick, 1) })
}

func (s *replaying) Next() (Job, bool) {
	// A window that is shorter than a tick may go by without a record; a limit keeps
	// a loop over one that never has any from going on for ever.
	for empty := 0; empty < maxEmptyLaps; {
		r, ok := s.record()
		switch {
		case ok && r.at < s.to:
			if r.at < s.from || !s.isPlayed(r.at) {
				continue
			}
			j := s.make(s.lap, r.index)
			s.last = max(s.last, s.arrival(r.at))
			j.Arrival = s.last
			return j, true
		case !s.loop:
			s.next, s.tick = len(s.trace.at), nil
			return Job{}, false
		}
		s.lap++
		empty++
		s.tick = nil
		s.rewind()
	}
	return Job{}, false
}

// arrival returns when a record of the lap under way arrives.
func (s *replaying) arrival(at time.Duration) time.Duration {
	played := (s.playedBefore(at) - s.playedBefore(s.from)).Seconds()
	return toDuration((played + float64(float64(s.lap)*s.span.Seconds())) / s.speed)
}

// record returns the next record and its time, spread over its tick.
func (s *replaying) record() (stamped, bool) {
	if len(s.tick) == 0 && !s.fill() {
		return stamped{}, false
	}
	r := s.tick[0]
	s.tick = s.tick[1:]
	return r, true
}

// fill spreads the records of the next tick evenly over it. Where a record comes
// to lie depends on the seed and its number, so other windows do not move it.
func (s *replaying) fill() bool {
	if s.next >= len(s.trace.at) {
		return false
	}
	s.buf = s.buf[:0]
	begin := s.stamp(s.trace, s.next)
	if s.replay.tick == 0 {
		s.buf = append(s.buf, stamped{begin, s.next})
		s.next++
	}
	for ; s.replay.tick > 0 && s.next < len(s.trace.at) && s.stamp(s.trace, s.next) == begin; s.next++ {
		u := unitOf(derive(s.seed, s.lap<<32|uint64(s.next)))
		s.buf = append(s.buf, stamped{begin + time.Duration(u*float64(s.replay.tick)), s.next})
	}
	slices.SortFunc(s.buf, func(a, b stamped) int {
		if a.at != b.at {
			return int(min(1, max(-1, a.at-b.at)))
		}
		return a.index - b.index
	})
	s.tick = s.buf
	return true
}

func (s *replaying) Done(*Job, time.Duration, bool) (Job, bool) { return Job{}, false }

// meanRate is MeanRate of what a trace's open returns.
func (r replay) meanRate(t *records, err error) float64 {
	if err != nil {
		return 0
	}
	return r.rate(t)
}

// speedFor returns the speed at which the trace has a rate.
func (r replay) speedFor(kind string, rate float64, t *records) (float64, error) {
	now := r.rate(t)
	if !(now > 0) {
		return 0, fmt.Errorf("simulation: %s: its rate is not known: it has no records, or cannot be read", kind)
	}
	return math.Max(1e-6, math.Min(1e6, r.speed*rate/now)), nil
}

var _ Source = (*replaying)(nil)
