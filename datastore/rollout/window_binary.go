package rollout

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/inferpick/inferpick/internal/figures"
)

// windowVersion is the first byte of a window in binary.
const windowVersion = 2 // 1 had no Refused, Busy, Unreadable, BlindWhole and whole

// mostCounted is the largest count that a window may have.
const mostCounted = math.MaxInt32 / 4

// AppendBinary appends the window to b for DecodeWindow: counts as uvarints, of histograms only the buckets that have
// something. That is some KiB. The names of the targets and Began are not in it.
func (w *Window) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, windowVersion)
	b = binary.AppendUvarint(b, w.Epoch)
	for _, c := range [...]*Counts{&w.Stable, &w.Canary} {
		for _, n := range [...]int{c.Requests, c.Errors, c.Refused, c.Busy, c.Unreadable, c.Told, c.Empty, c.Blind,
			c.BlindWhole, c.recents} {
			b = binary.AppendUvarint(b, uint64(n))
		}
		b = binary.BigEndian.AppendUint64(b, c.recent)
		for _, n := range c.Finish {
			b = binary.AppendUvarint(b, uint64(n))
		}
		for _, s := range [...]*strata{&c.ttft, &c.tpot, &c.length, &c.whole} {
			b = s.append(b)
		}
	}
	return b, nil
}

func (s *strata) append(b []byte) []byte {
	for i, h := range s {
		if h != nil && h.n > 0 {
			b = append(b, byte(i+1))
			b = h.append(b)
		}
	}
	return append(b, 0)
}

// append writes buckets as the distance from the one before, and their count; 0 ends.
func (h *histogram) append(b []byte) []byte {
	before := -1
	for i, n := range h.counts {
		if n > 0 {
			b = binary.AppendUvarint(b, uint64(i-before))
			b = binary.AppendUvarint(b, uint64(n))
			before = i
		}
	}
	return append(b, 0)
}

// DecodeWindow reads what AppendBinary has written, as begun at now. It believes nothing: data may come from anywhere.
func DecodeWindow(p *Plan, data []byte, now time.Time) (*Window, error) {
	w := NewWindow(p, 0, now)
	r := figures.NewReader(data)
	if v := r.Byte(); v != windowVersion && r.Err() == nil {
		r.Failf("has version %d, want %d", v, windowVersion)
	}
	w.Epoch = r.Count("epoch", math.MaxUint64)
	for _, c := range [...]*Counts{&w.Stable, &w.Canary} {
		c.read(r)
	}
	if err := r.End(); err != nil {
		return nil, errorf("a window %w", err)
	}
	return w, nil
}

func (c *Counts) read(r *figures.Reader) {
	c.Requests = int(r.Count("requests", mostCounted))
	c.Errors = int(r.Count("errors", uint64(c.Requests)))
	c.Refused = int(r.Count("refused requests", mostCounted))
	c.Busy = int(r.Count("busy answers", mostCounted))
	c.Unreadable = int(r.Count("unreadable answers", uint64(c.Requests-c.Errors)))
	c.Told = int(r.Count("answers", uint64(c.Requests-c.Errors)))
	c.Empty = int(r.Count("empty answers", uint64(c.Told)))
	answers := uint64(c.Requests - c.Errors)
	c.Blind = int(r.Count("first tokens", answers))
	c.BlindWhole = int(r.Count("whole answers", answers))
	c.recents = int(r.Count("recent requests", recentMost))
	c.recent = r.Uint64() & (1<<c.recents - 1)
	for i := range c.Finish {
		c.Finish[i] = int(r.Count("ends", answers))
	}
	c.ttft.read(r, maxStrata, answers)
	c.tpot.read(r, 1, answers)
	c.length.read(r, 1, answers)
	c.whole.read(r, maxStrata, answers)
}

// read reads at most some strata, which have no more values than there were answers.
func (s *strata) read(r *figures.Reader, most int, answers uint64) {
	for last := 0; r.Err() == nil; {
		i := int(r.Byte())
		switch {
		case i == 0:
			return
		case i <= last || i > most:
			r.Failf("has %d as a stratum, want %d to %d", i, last+1, most)
			return
		}
		last = i
		s[i-1] = new(histogram)
		answers -= s[i-1].read(r, answers)
	}
}

func (h *histogram) read(r *figures.Reader, most uint64) (n uint64) {
	for at := -1; r.Err() == nil; {
		step := r.Count("bucket", uint64(buckets-1-at))
		if step == 0 {
			break
		}
		at += int(step)
		c := r.Count("values", most-n)
		h.countAt(at, uint32(c))
		n += c
	}
	return n
}
