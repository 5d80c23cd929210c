package policies

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

var chwblDefaults = chwblLimits{factor: 1.25, prefix: 4096}

// chwblLimits are what KubeAI has options for.
type chwblLimits struct {
	factor float64 // load that an endpoint may have, over the mean
	prefix int     // bytes of the prompt in the key, four to a token
}

const chwblNodes = 256 // virtual nodes of one endpoint on the ring

// CHWBL is consistent hashing with bounded loads (Mirrokni, Thorup and
// Zadimoghaddam, SODA 2018) as KubeAI's PrefixHash has it (main of 2025): the
// first endpoint on a ring of 256 virtual nodes each, from the hash of adapter and
// beginning of the prompt on, with
//
//	n + 1 ≤ 1.25·(Σn + 1)/endpoints
//
// for n the requests in flight from this gateway; the first of all if none has, or
// if nothing is in flight. Fallbacks go on along the ring.
//
// Deviation: the key is the first 1,024 tokens, where KubeAI's default is the first
// 100 characters, which no tenant's system prompt would fit into.
func CHWBL() scheduling.Profile { return chwblWith(chwblDefaults) }

func chwblWith(limits chwblLimits) scheduling.Profile {
	return rule("chwbl", &chwbl{chwblLimits: limits})
}

// chwbl is the scorer. It keeps the ring of the endpoints it saw last.
type chwbl struct {
	chwblLimits
	last atomic.Pointer[ring]
}

// Score implements scheduling.Scorer.
func (c *chwbl) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	if len(eps) == 0 {
		return nil
	}
	total := 0.0
	for _, ep := range eps {
		total += inFlight(ep)
	}
	most := c.factor * (total + 1) / float64(len(eps))
	full := func(i int) int {
		if total == 0 || inFlight(eps[i])+1 <= most {
			return 0
		}
		return 1
	}
	text := promptOf(req)
	key := chain(chain(0, []byte(req.Target())), text[:min(len(text), c.prefix)])
	place := c.ring(eps).walk(key, eps)
	rank(scores, upTo(len(eps)), func(a, b int) int {
		return cmp.Or(cmp.Compare(full(a), full(b)), cmp.Compare(place[a], place[b]))
	})
	return nil
}

// ring returns the ring of eps.
func (c *chwbl) ring(eps []*types.Endpoint) *ring {
	if r := c.last.Load(); r != nil && r.of(eps) {
		return r
	}
	r := newRing(eps)
	c.last.Store(r)
	return r
}

// ring is a hash ring. It does not change.
type ring struct {
	members map[string]int // by the endpoint's ID
	points  []point        // in order
}

type point struct {
	at     uint64
	member int
}

func newRing(eps []*types.Endpoint) *ring {
	r := &ring{members: map[string]int{}}
	for _, ep := range eps {
		if _, twice := r.members[ep.ID]; twice {
			continue
		}
		m := len(r.members)
		r.members[ep.ID] = m
		for i := range uint64(chwblNodes) {
			at := chain(chain(0, []byte(ep.ID)), binary.LittleEndian.AppendUint64(nil, i))
			r.points = append(r.points, point{at, m})
		}
	}
	slices.SortFunc(r.points, func(a, b point) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.member, b.member)) })
	return r
}

// of reports whether r is the ring of eps.
func (r *ring) of(eps []*types.Endpoint) bool {
	for _, ep := range eps {
		if _, ok := r.members[ep.ID]; !ok {
			return false
		}
	}
	return len(eps) == len(r.members)
}

// walk returns for each of eps how many other endpoints come before it from key on.
func (r *ring) walk(key uint64, eps []*types.Endpoint) []int {
	order := make([]int, len(r.members)) // by member
	for m := range order {
		order[m] = -1
	}
	from := sort.Search(len(r.points), func(i int) bool { return r.points[i].at >= key })
	for k, met := 0, 0; met < len(order); k++ {
		if m := r.points[(from+k)%len(r.points)].member; order[m] < 0 {
			order[m] = met
			met++
		}
	}
	place := make([]int, len(eps))
	for i, ep := range eps {
		place[i] = order[r.members[ep.ID]]
	}
	return place
}

var _ scheduling.Scorer = (*chwbl)(nil)
