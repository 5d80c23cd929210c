package simulation

import (
	"fmt"
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
		if g.dead || g.leaving {
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
		rand := types.NewRand(derive(h.Sum64(), uint64(g.place)))
		if wait := -math.Log(unit(&rand)) / g.share; !g.dead && !g.leaving && wait < best {
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

// place is where a gateway is, and what is left of those before.
type place struct {
	gateway  *gateway
	snapshot []byte // the last one; empty: there is none
	at       time.Duration
}

// restartGateway puts a new gateway in the place of one that dies.
func (s *sim) restartGateway(p *place, warm bool) {
	before := p.gateway
	s.dieGateway(before)
	s.begins(p, before.index, before.incarnation+1, warm)
}

// replaceGateway puts a new gateway in the place of one that ends its jobs.
func (s *sim) replaceGateway(p *place, warm bool) {
	p.gateway.leaving = true
	p.gateway.lacks(nil)
	s.begins(p, len(s.gateways), 0, warm)
	for _, r := range s.replicas {
		s.scrapes(p.gateway, r)
	}
}

// begins begins a gateway that was not there at the start.
func (s *sim) begins(p *place, index int, incarnation int32, warm bool) {
	g, err := newGateway(s, index, p.gateway.place, incarnation)
	if s.err = err; err != nil {
		return
	}
	p.gateway = g
	if index < len(s.gateways) {
		s.gateways[index] = g
	} else {
		s.gateways = append(s.gateways, g)
	}
	for _, r := range s.replicas {
		if r.removed {
			continue
		}
		g.discover(r)
		if g.sink != nil {
			g.sink.State(r.Name, 0, types.KVLate)
		}
	}
	if warm && len(p.snapshot) > 0 && s.err == nil {
		if err := g.sharer.(Keeper).Restore(p.snapshot, s.time()); err != nil {
			s.err = fmt.Errorf("simulation: gateway %s takes over no snapshot: %w", g.name(), err)
		}
	}
}

// keep writes a snapshot of a gateway, if it is time.
func (s *sim) keep(g *gateway) {
	p := &s.places[g.place]
	if !s.keeps || g != p.gateway || len(p.snapshot) > 0 && s.now-p.at < s.cfg.Sharing.Snapshots {
		return
	}
	if k, ok := g.sharer.(Keeper); ok {
		p.snapshot, p.at = k.AppendSnapshot(p.snapshot[:0], s.time()), s.now
	}
}

// lacks is told that a job of the gateway has ended.
func (g *gateway) lacks(l *live) {
	if l != nil {
		delete(g.jobs, l.number)
	}
	g.dead = g.dead || g.leaving && len(g.jobs) == 0
}
