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
	// Peers is what is known of other gateways.
	Peers PeerStats
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

// stats is Controller.Stats.
func (d *desk) stats() Stats {
	s := Stats{
		Endpoints: d.whole.room.Members(), Saturation: d.whole.room.Saturation(),
		Queued: d.queues.Len(), Bytes: d.queues.Bytes(), Rate: d.drained.Rate(d.now),
		Peers: d.peerStats(),
	}
	for _, b := range d.queues.Bands() {
		settings, info := &d.o.Bands[b.Class], infoOf(b, d.o.Bands)
		one := BandStats{
			Name: settings.Name, Priority: b.Priority, Ceiling: settings.Ceiling, Room: d.whole.room.RoomAt(d.classes[b.Class].ceiling),
			Queued: b.Queued, Bytes: b.Bytes, Running: b.Running, Tenants: b.Tenants(), BandCounts: info.counts,
		}
		one.Refused = maps.Clone(info.counts.Refused)
		if arrived, ok := b.Oldest(); ok {
			one.Oldest = d.now - arrived
		}
		s.Oldest = max(s.Oldest, one.Oldest)
		s.Bands = append(s.Bands, one)
	}
	return s
}
