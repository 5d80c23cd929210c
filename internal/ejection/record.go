package ejection

import (
	"fmt"
	"time"
)

// Record is an ejection, as it is kept over a restart.
type Record struct {
	Left      time.Duration // how much longer it lasts; 0: the server is on probation
	Lasted    time.Duration // its duration
	Doublings int           // of Rules.Base, for the next ejection
	Refused   bool
	Cause     string
}

// maxDoublings is more than lie between any two durations.
const maxDoublings = 64

// Record returns the ejection of a server that is Out or on Trial, and whether it is.
func (s *Server) Record(now time.Time) (Record, bool) {
	return Record{s.Left(now), s.lasted, s.doublings, s.Refused, s.Cause}, s.Found()
}

// Check returns an error if there is no such ejection.
func (c Record) Check() error {
	switch {
	case c.Lasted <= 0 || c.Left < 0 || c.Left > c.Lasted:
		return fmt.Errorf("%v of an ejection of %v are left", c.Left, c.Lasted)
	case c.Doublings < 0 || c.Doublings > maxDoublings:
		return fmt.Errorf("the duration of an ejection was doubled %d times", c.Doublings)
	}
	return nil
}

// Resume returns a server whose ejection, which passed Check, goes on.
func Resume(r Rules, c Record, now time.Time) Server {
	until := now.Add(min(c.Left, r.Max))
	return Server{
		state: Out, Until: until, ends: until, own: until, lasted: clamp(c.Lasted, r.Max), doublings: c.Doublings,
		Refused: c.Refused, Cause: c.Cause,
	}
}

// Sample is how many responses of a class took about the same time.
type Sample struct {
	Class, Bucket, Count int
}

// Check returns an error if there is no such sample.
func (m Sample) Check() error {
	if m.Class < 0 || m.Class >= classes || m.Bucket < 0 || m.Bucket >= buckets || m.Count <= 0 || m.Count > fullAt {
		return fmt.Errorf("%d responses in bucket %d of class %d", m.Count, m.Bucket, m.Class)
	}
	return nil
}

// Samples returns what b has learned.
func (b *Baseline) Samples() (all []Sample) {
	for class := range b.classes {
		for bucket, n := range b.classes[class].counts {
			if n > 0 {
				all = append(all, Sample{class, bucket, int(n)})
			}
		}
	}
	return all
}

// Learn takes over samples, which passed Check, of those classes of which b knows nothing yet.
func (b *Baseline) Learn(samples []Sample) {
	var known [classes]bool
	for class := range known {
		known[class] = b.classes[class].n >= leastFor
	}
	for _, m := range samples {
		if h := &b.classes[m.Class]; !known[m.Class] && h.n+m.Count <= fullAt {
			h.counts[m.Bucket] += uint16(m.Count)
			h.n += m.Count
		}
	}
}
