package kveventstest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/datastore/kvevents"
)

// Index is the simplest Sink: it knows which blocks are held where, in maps. It panics if a
// Subscriber breaks the rules of calling a Sink. The zero Index is empty and ready to use.
type Index struct {
	mu    sync.Mutex
	ranks map[rank]*Held
	busy  map[string]bool
}

type rank struct {
	endpoint string
	rank     int
}

// Held is what an Index was told of one rank.
type Held struct {
	State  kvevents.State
	Blocks [kvevents.Tiers]map[uint64]bool // hashes by tier
	Resets int

	reset bool // and no State since then
}

var _ kvevents.Sink = (*Index)(nil)

// Apply implements kvevents.Sink.
func (x *Index) Apply(endpoint string, rank int, batch []kvevents.Event) {
	defer x.enter(endpoint)()
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.ofLocked(endpoint, rank)
	if h.reset || h.State == kvevents.Unsynced {
		panic(fmt.Sprintf("kveventstest: Apply to %s while %v, reset %t", endpoint, h.State, h.reset))
	}
	for _, e := range batch {
		h.Apply(e)
	}
}

// Apply changes what is held by an event.
func (h *Held) Apply(e kvevents.Event) {
	if e.Kind == kvevents.Cleared {
		h.Blocks = [kvevents.Tiers]map[uint64]bool{}
		return
	}
	blocks := &h.Blocks[e.Tier]
	if *blocks == nil {
		*blocks = map[uint64]bool{}
	}
	for _, hash := range e.Hashes {
		if e.Kind == kvevents.Stored {
			(*blocks)[hash] = true
		} else {
			delete(*blocks, hash)
		}
	}
}

// Reset implements kvevents.Sink.
func (x *Index) Reset(endpoint string, rank int) {
	defer x.enter(endpoint)()
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.ofLocked(endpoint, rank)
	*h = Held{State: h.State, Resets: h.Resets + 1, reset: true}
}

// State implements kvevents.Sink.
func (x *Index) State(endpoint string, rank int, s kvevents.State) {
	defer x.enter(endpoint)()
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.ofLocked(endpoint, rank)
	h.State, h.reset = s, false
}

// Remove implements kvevents.Sink.
func (x *Index) Remove(endpoint string) {
	defer x.enter(endpoint)()
	x.mu.Lock()
	defer x.mu.Unlock()
	for r := range x.ranks {
		if r.endpoint == endpoint {
			delete(x.ranks, r)
		}
	}
}

// Held returns a copy of what was told of a rank.
func (x *Index) Held(endpoint string, r int) Held {
	x.mu.Lock()
	defer x.mu.Unlock()
	had := x.ranks[rank{endpoint, r}]
	if had == nil {
		return Held{}
	}
	h := Held{State: had.State, Resets: had.Resets}
	for tier, blocks := range had.Blocks {
		for hash := range blocks {
			h.Apply(kvevents.Event{Tier: kvevents.Tier(tier), Hashes: []uint64{hash}})
		}
	}
	return h
}

// Hashes returns what a tier holds, in order.
func (h Held) Hashes(t kvevents.Tier) []uint64 {
	var all []uint64
	for hash := range h.Blocks[t] {
		all = append(all, hash)
	}
	slices.Sort(all)
	return all
}

// Endpoints returns the names of those of which something is known, in order.
func (x *Index) Endpoints() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var all []string
	for r := range x.ranks {
		all = append(all, r.endpoint)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ofLocked returns what is known of a rank. Caller must hold x.mu.
func (x *Index) ofLocked(endpoint string, r int) *Held {
	if x.ranks == nil {
		x.ranks = map[rank]*Held{}
	}
	h := x.ranks[rank{endpoint, r}]
	if h == nil {
		h = &Held{}
		x.ranks[rank{endpoint, r}] = h
	}
	return h
}

// enter marks a call about an endpoint, of which there may be one at a time.
func (x *Index) enter(endpoint string) (leave func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.busy[endpoint] {
		panic("kveventstest: two calls at once about " + endpoint)
	}
	if x.busy == nil {
		x.busy = map[string]bool{}
	}
	x.busy[endpoint] = true
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.busy, endpoint)
	}
}
