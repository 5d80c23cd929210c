package simulation

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// This file is which gateway a job reaches, and what happens to gateways.

// maxShare bounds Config.Shares.
const maxShare = 1e6

// time is what clocks show.
func (s *sim) time() time.Time { return epoch.Add(s.now) }

// reaches is the gateway that a job comes to; nil: none lives.
func (s *sim) reaches(j *Job) *gateway {
	if s.cfg.Sticky && j.Session != "" {
		return s.stuck(j.Session)
	}
	return s.next()
}

// next is the gateway whose turn it is: of those that live, the one that has had the least of what is its share.
func (s *sim) next() (next *gateway) {
	total := 0.
	for _, g := range s.gateways {
		if g.dead {
			continue
		}
		total += g.share
		if g.due += g.share; next == nil || g.due > next.due {
			next = g
		}
	}
	if next != nil {
		next.due -= total
	}
	return next
}

// stuck is the gateway of a session: of those that live, one by their shares. When others come or go, it stays.
func (s *sim) stuck(session string) (stuck *gateway) {
	h := fnv.New64a()
	h.Write([]byte(session))
	best := math.Inf(1)
	for _, g := range s.gateways {
		rand := types.NewRand(derive(h.Sum64(), uint64(g.index)))
		if wait := -math.Log(unit(&rand)) / g.share; !g.dead && wait < best {
			stuck, best = g, wait
		}
	}
	return stuck
}

// dieGateway cuts all connections of a gateway.
func (s *sim) dieGateway(g *gateway) {
	if g.dead {
		return
	}
	g.dead = true
	for _, number := range slices.Sorted(maps.Keys(g.jobs)) {
		s.cancel(g.jobs[number], failed)
	}
}

// restartGateway puts a new gateway in the place of one.
func (s *sim) restartGateway(index int) {
	before := s.gateways[index]
	s.dieGateway(before)
	g, err := newGateway(s, index, before.incarnation+1)
	if s.err = err; err != nil {
		return
	}
	s.gateways[index] = g
	for _, r := range s.replicas {
		if r.removed {
			continue
		}
		g.discover(r)
		if g.sink != nil {
			g.sink.State(r.Name, 0, types.KVLate)
		}
	}
}
