package admission

import (
	"maps"
	"time"
)

// Stats is what a Controller is like at one moment.
type Stats struct {
	// Endpoints is how many can serve, and Saturation how full they are in the mean,
	// 0..1; NaN if nothing is known.
	Endpoints  int
	Saturation float64
	// Queued and Bytes are what waits, and Oldest is how long that which waits the
	// longest has.
	Queued int
	Bytes  int64
	Oldest time.Duration
	// Rate is how many requests were let in per second, of late.
	Rate float64
	// Bands are the priorities that have been seen lately, highest first.
	Bands []BandStats
}

// BandStats is what one priority is like.
type BandStats struct {
	Name     string
	Priority int
	Ceiling  float64
	// Room is how many endpoints have room for it.
	Room   int
	Queued int
	Bytes  int64
	Oldest time.Duration
	// Running is how many were let in and have not ended, and Tenants how many are
	// known.
	Running, Tenants int
	BandCounts
}

// BandCounts is what has happened at one priority since it was first seen.
type BandCounts struct {
	Dispatched uint64
	Cancelled  uint64
	Refused    map[Reason]uint64
	// Tokens is the weighted tokens of all that was let in.
	Tokens float64
}

func (n *BandCounts) refused(why Reason) {
	if n.Refused == nil {
		n.Refused = map[Reason]uint64{}
	}
	n.Refused[why]++
}

// Stats returns what the Controller is like now. It looks at each tenant that waits, so
// it is for metrics and pages and not for every request.
func (c *Controller) Stats() Stats {
	c.lock()
	defer c.unlock()
	c.renew()
	s := Stats{
		Endpoints: c.whole.members(), Saturation: c.whole.saturation(),
		Queued: c.queued, Bytes: c.bytes, Rate: c.drained.rate(c.now),
	}
	for _, b := range c.bands {
		one := BandStats{
			Name: b.Name, Priority: b.priority, Ceiling: b.Ceiling, Room: c.whole.roomAt(b.ceiling),
			Queued: b.queued, Bytes: b.bytes, Running: b.open, Tenants: len(b.flows), BandCounts: b.counts,
		}
		one.Refused = maps.Clone(b.counts.Refused)
		for _, q := range b.queues {
			for _, e := range q.heap {
				one.Oldest = max(one.Oldest, c.now-e.of.head.of.arrived)
			}
		}
		s.Oldest = max(s.Oldest, one.Oldest)
		s.Bands = append(s.Bands, one)
	}
	return s
}
