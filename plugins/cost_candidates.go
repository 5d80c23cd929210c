package plugins

import (
	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// costScratch is the memory of decisions that come one after the other. Most of them have the
// same candidates as the one before: what was found of these is remembered.
type costScratch struct {
	held    []uint32
	matched []uint32 // held, or nil if nobody holds any
	seen    []costSeen
	costs   []float64 // of seen, for Split

	second *costScratch      // of those that may compute the prompt for others; nil: not used yet
	best   cost.Best         // of these
	eps    []*types.Endpoint // whom seen is of; nil: to be looked up
	view   *tableView[costCell]

	holders []int32  // places in seen whose blocks are not 0
	places  []uint64 // of homes: those of all that are there
}

// costSeen is what a decision sees of one endpoint.
type costSeen struct {
	cell   *costCell // nil: it has gone
	place  uint64    // that of the cell
	handle int32     // of the row
	blocks cost.Blocks
}

// find fills in sc.seen, and returns the most blocks of the prompt that one of eps holds. It
// takes over readings that are new.
func (c *Cost) find(eps []*types.Endpoint, sc *costScratch, held []uint32, now cost.Seconds) (most cost.Blocks) {
	if now >= cost.Seconds(c.recheck.Load()) || !sc.look(c.table.view.Load(), eps) {
		c.catchUp(eps, now)
		sc.look(c.table.view.Load(), eps)
	}
	for _, k := range sc.holders {
		sc.seen[k].blocks = 0
	}
	sc.holders = sc.holders[:0]
	if len(held) == 0 {
		return 0
	}
	for k := range sc.seen {
		s := &sc.seen[k]
		if uint(s.handle) < uint(len(held)) && held[s.handle] > 0 {
			s.blocks = cost.Blocks(held[s.handle])
			sc.holders = append(sc.holders, int32(k))
			most = max(most, s.blocks)
		}
	}
	return most
}

// look looks up eps, and reports whether all are there and their readings were taken over.
func (sc *costScratch) look(view *tableView[costCell], eps []*types.Endpoint) (ok bool) {
	n := len(eps)
	if view != sc.view || n != len(sc.eps) {
		if cap(sc.eps) < n {
			sc.eps, sc.seen = make([]*types.Endpoint, n+n/4), make([]costSeen, n+n/4)
		}
		sc.eps, sc.seen, sc.view = sc.eps[:n], sc.seen[:n], view
		sc.holders = sc.holders[:0]
		clear(sc.eps)
		clear(sc.seen)
	}
	ok = true
	for k, ep := range eps {
		if sc.eps[k] == ep {
			continue
		}
		sc.eps[k], sc.seen[k] = nil, costSeen{handle: -1}
		cell := view.lookup(ep)
		if cell == nil {
			ok = false
			continue
		}
		sc.seen[k] = costSeen{cell: cell, place: cell.place, handle: cell.row.Handle}
		if cell.reading.Load() != ep {
			ok = false
			continue
		}
		sc.eps[k] = ep
	}
	return ok
}
