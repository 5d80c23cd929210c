package accounts

import "math"

// Guard is how much of a bucket may be taken here before peers have heard of it: they see the same level, and take
// from it too. As long as here no more is taken than usually, neither do they, it is assumed. What is left is shared
// by what each took of late, in equal parts where none did: so all together take what there is, and a gateway that
// has all traffic is hardly held back.
//
// The zero value is one of a gateway that has taken nothing.
type Guard struct {
	fresh Fresh // taken here
	// Taken here and known to peers, and taken by them as far as is known: of late. steady is here over a longer time.
	here, there, steady float64
}

// Bucket is what a Guard is of.
type Bucket struct {
	Size      float64
	PerSecond float64
	Peers     int
	// Unknown is for how long, in seconds, peers do not know what was taken.
	Unknown float64
}

// late is of which time what was taken counts: in which as much flows in as there can be, or in which peers hear.
func (b *Bucket) late() float64 { return max(b.Size/max(b.PerSecond, 1e-9), 4*b.Unknown) }

// long is late for what is usual here.
func (b *Bucket) long() float64 { return max(b.late(), 16*b.Unknown) }

// Age takes note that some seconds have passed.
func (g *Guard) Age(epoch uint64, seconds float64, b *Bucket) {
	kept, long := math.Exp(-seconds/b.late()), math.Exp(-seconds/b.long())
	g.here *= kept
	g.there *= kept
	g.steady *= long
	known := g.fresh.Age(epoch)
	g.here, g.steady = max(g.here+known, 0), max(g.steady+known, 0)
}

// Take takes note of what was taken, or given back, here.
func (g *Guard) Take(v float64) { g.fresh.Add(v) }

// Hear takes note of what a peer has taken.
func (g *Guard) Hear(v float64) { g.there = max(g.there+v, 0) }

// Fresh is what was taken here, of which peers may not know.
func (g *Guard) Fresh() float64 { return max(g.fresh.Sum(), 0) }

// Others is what peers are taken to have taken of a bucket that is not known here yet, when want is to be taken. The
// first that is taken here is beside nothing: else what is large could never be.
func (g *Guard) Others(want float64, b *Bucket) float64 {
	fresh := g.Fresh()
	if fresh <= 0 || b.Peers <= 0 || b.Size <= 0 {
		return 0
	}
	n := float64(b.Peers + 1)
	usual := g.steady / b.long() * b.Unknown
	// Of a bucket that is small for so many gateways requests come by chance now sooner, now later.
	chance := 3 * math.Sqrt(usual*want) * min(1, n*want/b.Size)
	more := max(fresh+want-usual-chance, 0)
	here, all := g.here+b.Size/n, g.here+g.there+b.Size
	return g.there/b.late()*b.Unknown + more*(all/here-1)
}

// Meeting is what peers are heard of a bucket for the first time. The zero value begins.
type Meeting struct {
	sum   float64 // taken by those that may have filled nothing up since
	known float64 // what was taken over
}

// Met is what a peer says when it is heard for the first time.
type Met struct {
	Taken float64 // since it started
	Left  float64 // as it sees it; NaN: it knows no bound
	// Size is that of the bucket, and Level what is left here. Own is what was taken here since this gateway started,
	// and Fresh the part of it that peers may not know. Soon is what flows in while gateways get to know each other.
	Size, Level, Own, Fresh, Soon float64
}

// Take returns how much the peer has taken that is not known here.
//
// If it is less than what is gone, all that it took counts; else most of it is long filled up again, and what it
// sees is taken over. To a gateway that has just started, young, all others say what they know of each other: the most
// of that counts, or what they say of themselves, if that is more, for they may all have just started.
func (m *Meeting) Take(p Met, young bool) float64 {
	if !(p.Taken > 0) || math.IsNaN(p.Left) {
		return 0
	}
	left := min(p.Left, p.Size)
	gone, less := p.Size-left, max(p.Level-(left-p.Fresh), 0)
	recent := p.Taken <= gone+p.Soon
	if !young {
		if recent {
			return min(p.Taken, gone)
		}
		return min(p.Taken, less)
	}
	all := min(gone, m.known+less)
	if recent {
		m.sum += min(p.Taken, gone)
		all = min(gone-p.Own, all) // it may have heard of all that was taken here
	}
	take := max(all-m.known, m.sum-m.known, 0)
	m.known += take
	return take
}

// Drop returns a level less what a peer has taken, but no lower than a floor, if it is not below that already: no
// peer can say that it took what cannot be. cut: it said so.
func Drop(level, taken, floor float64) (l float64, cut bool) {
	l = level - taken
	if taken > 0 && l < floor {
		return min(level, floor), true
	}
	return l, false
}
