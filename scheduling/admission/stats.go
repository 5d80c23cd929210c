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

// Stats returns what the Controller is like now. It looks at each tenant that waits, so
// it is for metrics and pages and not for every request.
func (c *Controller) Stats() Stats {
	c.lock()
	defer c.unlock()
	c.renew()
	s := Stats{
		Endpoints: c.whole.room.Members(), Saturation: c.whole.room.Saturation(),
		Queued: c.queues.Len(), Bytes: c.queues.Bytes(), Rate: c.drained.Rate(c.clock.now),
	}
	for _, b := range c.queues.Bands() {
		settings, info := &c.o.Bands[b.Class], infoOf(b, c.o.Bands)
		one := BandStats{
			Name: settings.Name, Priority: b.Priority, Ceiling: settings.Ceiling, Room: c.whole.room.RoomAt(c.classes[b.Class].ceiling),
			Queued: b.Queued, Bytes: b.Bytes, Running: b.Running, Tenants: b.Tenants(), BandCounts: info.counts,
		}
		one.Refused = maps.Clone(info.counts.Refused)
		if arrived, ok := b.Oldest(); ok {
			one.Oldest = c.clock.now - arrived
		}
		s.Oldest = max(s.Oldest, one.Oldest)
		s.Bands = append(s.Bands, one)
	}
	return s
}
