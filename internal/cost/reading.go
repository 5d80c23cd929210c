package cost

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Reading is what a server reported last, as far as it matters here.
type Reading struct {
	At       time.Duration // since the first instant that was seen
	Read     bool          // it was read at all
	Counts   bool          // it says how many requests there are
	There    float64       // requests, waiting and running
	Sent     float64       // of these, those that this process and its peers had sent by then, as far as it knew
	Told     float64       // of these, the peers'
	KVUsage  types.Gauge
	KVTokens float64 // size of the KV cache; 0: not known
}

// reported is what follows from readings.
type reported struct {
	last  Reading
	since Tokens    // to compute that were sent since
	raw   float64   // requests of others that nobody told of, averaged over readings
	all   float64   // requests of others, peers among them, averaged over readings
	known bool      // raw and all are
	ended []Seconds // when own requests ended, since it was read
}

// read takes over another reading. It returns how many requests of others there are, beyond what was to be
// expected by what peers had told, and by the readings before; not ok if there is nothing to compare.
func (p *reported) read(r Reading) (byPeers, byReadings float64, ok bool) {
	elapsed := math.Inf(1)
	if p.known {
		if elapsed = (r.At - p.last.At).Seconds(); !r.Read {
			elapsed = 0
		}
	}
	kvTokens := p.last.KVTokens
	p.last = r
	if elapsed <= 0 {
		p.last.KVTokens = kvTokens
		return 0, 0, false
	}
	// A page is of the time when it was asked for: what has ended since may still be on it.
	ended := float64(p.endedSince(Seconds(r.At.Seconds())))
	p.since = 0
	if p.known = r.Read && r.Counts; !p.known {
		p.raw, p.all = 0, 0
		return 0, 0, false
	}
	beyond := func(sent float64) float64 {
		excess := r.There - sent
		if excess > 0 {
			excess = max(excess-ended, 0)
		}
		return excess
	}
	raw, all := beyond(r.Sent), beyond(r.Sent-r.Told)
	byPeers, byReadings, ok = all-r.Told-max(p.raw, 0), all-p.all, elapsed < staleAge.Seconds()
	gain := 1 - math.Exp(-elapsed/foreignSmoothing)
	p.raw += gain * (raw - p.raw)
	p.all += gain * (all - p.all)
	return byPeers, byReadings, ok
}

// stay is the part of the requests on the page read last that have not ended since.
func (p *reported) stay() float64 {
	if p.last.There > 0 {
		return max(1-float64(len(p.ended))/p.last.There, 0)
	}
	return 1
}

// endsOne notes the end of an own request.
func (p *reported) endsOne(now Seconds) {
	if len(p.ended) == maxEnded {
		p.ended = p.ended[:copy(p.ended, p.ended[maxEnded/2:])]
	}
	p.ended = append(p.ended, now)
}

// endedSince returns how many own requests ended since an instant, and forgets those that did
// before.
func (p *reported) endedSince(at Seconds) int {
	first := 0
	for first < len(p.ended) && p.ended[first] < at {
		first++
	}
	p.ended = p.ended[:copy(p.ended, p.ended[first:])]
	return len(p.ended)
}

// age is how old the reading is.
func (p *reported) age(now Seconds) time.Duration {
	return time.Duration(float64(now)*float64(time.Second)) - p.last.At
}

// Recheck returns when to call Trusted and Derive again although nothing happens, because trust in
// the reading falls with its age, and stalls are averages; +Inf: never.
func (s *Server) Recheck(now Seconds) Seconds {
	at := Seconds(math.Inf(1))
	if s.stalled > leastStalls {
		at = now + stallMemory/4
	}
	if s.known {
		switch age := s.age(now); {
		case age < freshAge:
			return min(at, now+Seconds((freshAge-age).Seconds()))
		case age < staleAge:
			return min(at, now+Seconds(freshAge.Seconds()/2))
		}
	}
	return at
}

// trust is how far a reading of such an age is believed, 0 to 1.
func trust(age time.Duration) float64 {
	return min(max(float64(staleAge-age)/float64(staleAge-freshAge), 0), 1)
}

// Witness says how far to follow what peers tell of how many requests they have at a server, and how far what
// its readings said of late: each as it has foretold the readings of all servers until now (the weights of two
// unbiased estimates by the inverses of their variances). Word that is late, lost or a lie is worse than readings, and readings are
// worse where they are rare. The zero value knows nothing. It is guarded by its owner's lock.
type Witness struct{ peers, readings float64 }

// Saw takes what Read has returned.
func (w *Witness) Saw(byPeers, byReadings float64) {
	w.peers += witnessGain * (byPeers*byPeers - w.peers)
	w.readings += witnessGain * (byReadings*byReadings - w.readings)
}

// Peers is how far to follow peers, 0 to 1.
func (w *Witness) Peers() float64 {
	return (w.readings + witnessDoubt) / (w.peers + w.readings + 2*witnessDoubt)
}
