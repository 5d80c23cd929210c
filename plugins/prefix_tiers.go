package plugins

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// lanes are what servers hold in tiers below the GPU, as far as events tell. In the index a server is one
// endpoint more for each such tier, which holds what is in that tier or in a faster one; so one lookup
// finds all of it. The zero value has none.
type lanes struct {
	all atomic.Pointer[[]lane] // by server and tier; never changes once it is published
	mu  sync.Mutex             // guards changes, and cachedServer.lanes

	prices cost.TierPrices
}

type lane struct {
	endpoint, server prefixindex.Endpoint
	tier             types.KVTier
}

// of returns s as the endpoint of a tier, which it adds if it is new.
func (l *lanes) of(x *prefixindex.Index, s *cachedServer, t types.KVTier) prefixindex.Endpoint {
	if t == types.KVGPU {
		return s.handle
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.lanes[t] == (prefixindex.Endpoint{}) {
		s.lanes[t] = x.Add()
		x.SetCapacity(s.lanes[t], math.MaxInt32) // it tells what it drops
		l.publish(append(l.list(), lane{s.lanes[t], s.handle, t}))
	}
	return s.lanes[t]
}

// remove removes those of s.
func (l *lanes) remove(x *prefixindex.Index, s *cachedServer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t, e := range s.lanes {
		if e != (prefixindex.Endpoint{}) {
			x.Remove(e)
			s.lanes[t] = prefixindex.Endpoint{}
		}
	}
	if old := l.list(); len(old) > 0 {
		l.publish(slices.DeleteFunc(old, func(l lane) bool { return l.server == s.handle }))
	}
}

// reset forgets what those of s hold.
func (l *lanes) reset(x *prefixindex.Index, s *cachedServer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range s.lanes {
		x.Reset(e) // the zero Endpoint is nobody's
	}
}

// list returns a copy of the lanes.
func (l *lanes) list() []lane {
	if all := l.all.Load(); all != nil {
		return slices.Clone(*all)
	}
	return nil
}

func (l *lanes) publish(all []lane) {
	slices.SortFunc(all, func(a, b lane) int {
		return cmp.Or(cmp.Compare(a.server.Slot(), b.server.Slot()), cmp.Compare(a.tier, b.tier))
	})
	l.all.Store(&all)
}

// raise raises held, the leading blocks of a prompt by slot, for servers that have more of it in lower
// tiers: by whole blocks, each counted by what it saves. It reports whether there are any.
func (l *lanes) raise(held []uint32) (any bool) {
	all := l.all.Load()
	if all == nil {
		return false
	}
	for i := 0; i < len(*all); {
		at := (*all)[i].server.Slot()
		if at >= len(held) {
			break
		}
		reach, saved := held[at], 0.
		for ; i < len(*all) && (*all)[i].server.Slot() == at; i++ {
			lane := &(*all)[i]
			if slot := lane.endpoint.Slot(); slot < len(held) && held[slot] > reach {
				saved += float64(held[slot]-reach) * (1 - l.prices.Of(lane.tier))
				reach = held[slot]
			}
		}
		held[at] += uint32(saved)
		any = any || held[at] > 0
	}
	return any
}

// beyond is how many blocks of a prompt a server holds in each lower tier, beyond those of faster ones.
func (l *lanes) beyond(x *prefixindex.Index, s *cachedServer, hashes []uint64, held int) (blocks [types.KVTiers]int) {
	all := l.all.Load()
	if all == nil {
		return blocks
	}
	slot := s.handle.Slot()
	at, _ := slices.BinarySearchFunc(*all, slot, func(l lane, slot int) int { return cmp.Compare(l.server.Slot(), slot) })
	for ; at < len(*all) && (*all)[at].server == s.handle; at++ {
		lane := &(*all)[at]
		if n := x.MatchOne(lane.endpoint, hashes); n > held {
			blocks[lane.tier], held = n-held, n
		}
	}
	return blocks
}

// describeTiers says how much there is in lower tiers, for people.
func describeTiers(blocks [types.KVTiers]int) string {
	var parts []string
	for t, n := range blocks {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(", %d more blocks in %s", n, types.KVTier(t)))
		}
	}
	return strings.Join(parts, "")
}
