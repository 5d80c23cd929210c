package sharing

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// fadeTime is how long the load of a peer that has gone takes to count for nothing: not at once, since all of its
// requests do not end at once, and servers' own readings take over meanwhile.
const fadeTime = time.Second

// Bounds of what one gateway can be believed to have at one server.
const (
	mostRequests = 1 << 20
	mostTokens   = 1 << 34
	mostDenoise  = 1 << 48
)

// place is an endpoint of a scope.
type place struct {
	key uint64
	ep  *types.Endpoint
	// A server that is in several pools has several endpoints, and one of the places is the first: what is told and
	// heard is its.
	first *place   // nil: this one is
	twins []*place // of the first: the others

	told    types.Booking // what this gateway said of it last
	stopped time.Time     // when that became nothing
	heard   []claim       // what peers say
	stale   bool          // the sum of that is to be worked out anew
}

// endpoints yields those of a first place.
func (p *place) endpoints(yield func(*types.Endpoint) bool) {
	if !yield(p.ep) {
		return
	}
	for _, twin := range p.twins {
		if !yield(twin.ep) {
			return
		}
	}
}

// claim is what a peer says of a place.
type claim struct {
	peer *peer
	tick uint64 // of the message that said so
	at   time.Time
	// denoiseTick is that of the message that said what Booking.Denoise is: it is told beside the rest.
	denoiseTick uint64
	types.Booking
}

// fade is how far what a peer said counts, 0 to 1.
func (p *peer) fade(now time.Time, ttl time.Duration) float64 {
	over := now.Sub(p.heard) - ttl
	if over <= 0 {
		return 1
	}
	return max(1-float64(over)/float64(fadeTime), 0)
}

// hears takes over what a peer says in a message, unless a newer one was heard.
func (p *place) hears(from *peer, tick uint64, b types.Booking, now time.Time) {
	i := slices.IndexFunc(p.heard, func(c claim) bool { return c.peer == from })
	if i < 0 {
		i = len(p.heard)
		p.heard = append(p.heard, claim{peer: from})
	}
	if c := &p.heard[i]; c.tick <= tick {
		if c.denoiseTick == tick {
			b.Denoise = c.Denoise // of a message that overtook this one
		}
		c.tick, c.at, c.Booking = tick, now, b
		p.stale = true
	}
}

// hearsDenoise takes over what diffusion models have to do by what a peer says, unless something newer was heard.
func (p *place) hearsDenoise(from *peer, tick uint64, tokens int64) {
	i := slices.IndexFunc(p.heard, func(c claim) bool { return c.peer == from })
	if i < 0 || p.heard[i].tick > tick || p.heard[i].denoiseTick > tick {
		return // of a peer that has nothing there, as far as was heard
	}
	p.heard[i].Denoise, p.heard[i].denoiseTick = tokens, tick
	p.stale = true
}

// unsaid is after how many times Options.TTL a claim is dropped that its peer, who still speaks, says no more.
const unsaid = 4

// sum returns what all peers have there, and forgets what counts no more.
func (p *place) sum(now time.Time, ttl time.Duration) (sum types.Booking) {
	p.stale = false
	p.heard = slices.DeleteFunc(p.heard, func(c claim) bool {
		f := c.peer.fade(now, ttl)
		if f <= 0 || c.peer.left || now.Sub(c.at) > unsaid*ttl {
			return true
		}
		if f < 1 {
			p.stale = true
			c.Booking = scaled(c.Booking, f)
		}
		sum = sum.Plus(c.Booking)
		return false
	})
	return sum
}

func scaled(b types.Booking, f float64) types.Booking {
	by := func(v int64) int64 { return int64(math.Ceil(float64(v) * f)) }
	return types.Booking{Requests: by(b.Requests), Prefilling: by(b.Prefilling), PrefillTokens: by(b.PrefillTokens), ContextTokens: by(b.ContextTokens), Denoise: by(b.Denoise)}
}

// tells reports whether something is to be told of a place, and what.
func (p *place) tells(whole bool, now time.Time, ttl time.Duration) (b types.Booking, tell bool) {
	for ep := range p.endpoints {
		b = b.Plus(ep.Load.Held())
	}
	b = positive(b)
	none := b == types.Booking{}
	switch changed := b != p.told; {
	case changed:
		tell = true
		if none {
			p.stopped = now
		}
	case none: // peers may not have heard of it
		tell = whole && !p.stopped.IsZero() && now.Sub(p.stopped) <= unsaid*ttl
	default:
		tell = whole
	}
	p.told = b
	return b, tell
}

// positive is what can be told of a ledger that is read while it changes.
func positive(b types.Booking) types.Booking {
	return types.Booking{
		Requests: min(max(b.Requests, 0), mostRequests), Prefilling: min(max(b.Prefilling, 0), mostRequests),
		PrefillTokens: min(max(b.PrefillTokens, 0), mostTokens), ContextTokens: min(max(b.ContextTokens, 0), mostTokens),
		Denoise: min(max(b.Denoise, 0), mostDenoise),
	}
}

const loadSize = 8 + 4*binary.MaxVarintLen64

func appendLoad(dst []byte, key uint64, b types.Booking) []byte {
	dst = binary.BigEndian.AppendUint64(dst, key)
	for _, v := range []int64{b.Requests, b.Prefilling, b.PrefillTokens, b.ContextTokens} {
		dst = binary.AppendUvarint(dst, uint64(v))
	}
	return dst
}

// denoiseSize is an item's of kindDenoise, which is a kind of its own so that gateways that do not know of it read the
// rest. It follows kindLoad, which says that there is none.
const denoiseSize = 8 + binary.MaxVarintLen64

func appendDenoise(dst []byte, key uint64, b types.Booking) []byte {
	return binary.AppendUvarint(binary.BigEndian.AppendUint64(dst, key), uint64(b.Denoise))
}

func (r reader) load() (key uint64, b types.Booking) {
	key = r.Uint64()
	b.Requests, b.Prefilling = int64(r.Count("requests", mostRequests)), int64(r.Count("requests", mostRequests))
	b.PrefillTokens, b.ContextTokens = int64(r.Count("tokens", mostTokens)), int64(r.Count("tokens", mostTokens))
	b.Prefilling = min(b.Prefilling, b.Requests)
	return key, b
}
