package plugins

import (
	"math"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// adapterUse is which LoRA adapters an endpoint has in use, as this process's requests
// and the engine's last report say.
type adapterUse struct {
	list []adapterState // in order of first use; bounded by maxAdapterStates
	busy int            // adapters that have requests
}

type adapterState struct {
	id       int32
	requests int32   // own, in flight
	running  int32   // of these, with a first token: the adapter has a slot
	listed   int8    // by the engine: 0 no, 1 waiting, 2 running
	used     float64 // when an own request began or ended last
}

// Bounds: of adapters remembered for one endpoint, and of names known at a time.
const (
	maxAdapterStates = 256
	maxAdapterNames  = 4096
)

// adapterIDs gives small numbers, from 1, to the adapters that engines listed, as long as they
// do: of too many names the one that was listed the longest ago is forgotten. The zero value
// is empty.
type adapterIDs struct {
	byName map[string]int32
	names  []listedName // by number less 1
	clock  uint64       // of listings
}

type listedName struct {
	name   string
	listed uint64
}

// of returns the number of an adapter, 0 if the name is none.
func (a *adapterIDs) of(name string) int32 { return a.byName[name] }

// list returns the number of an adapter that was just listed. If it takes that of another,
// forgot says so: what is known of that number is of no use any more.
func (a *adapterIDs) list(name string) (id int32, forgot bool) {
	a.clock++
	id = a.byName[name]
	if id == 0 && len(a.names) < maxAdapterNames {
		a.names = append(a.names, listedName{})
		id = int32(len(a.names))
	}
	if id == 0 {
		oldest := 0
		for i := range a.names {
			if a.names[i].listed < a.names[oldest].listed {
				oldest = i
			}
		}
		delete(a.byName, a.names[oldest].name)
		id, forgot = int32(oldest+1), true
	}
	n := &a.names[id-1]
	if n.name != name {
		if a.byName == nil {
			a.byName = map[string]int32{}
		}
		n.name = strings.Clone(name)
		a.byName[n.name] = id
	}
	n.listed = a.clock
	return id, forgot
}

func (a *adapterState) busy() bool    { return a.requests > 0 || a.listed > 0 }
func (a *adapterState) hasSlot() bool { return a.running > 0 || a.listed == 2 }

// of returns the state of an adapter, entering it; nil if there is no room.
func (u *adapterUse) of(id int32) *adapterState {
	for i := range u.list {
		if u.list[i].id == id {
			return &u.list[i]
		}
	}
	if len(u.list) >= maxAdapterStates {
		oldest := -1
		for i := range u.list {
			if !u.list[i].busy() && (oldest < 0 || u.list[i].used < u.list[oldest].used) {
				oldest = i
			}
		}
		if oldest < 0 {
			return nil
		}
		u.list[oldest] = adapterState{id: id}
		return &u.list[oldest]
	}
	u.list = append(u.list, adapterState{id: id})
	return &u.list[len(u.list)-1]
}

// forget drops an adapter.
func (u *adapterUse) forget(id int32) {
	for i := range u.list {
		if u.list[i].id == id {
			u.busy += change(u.list[i].busy(), false)
			u.list = slices.Delete(u.list, i, i+1)
			return
		}
	}
}

// count adds to the requests and the running ones of an adapter.
func (u *adapterUse) count(id, requests, running int32, now float64) {
	a := u.of(id)
	if a == nil {
		return
	}
	before := a.busy()
	a.requests = max(a.requests+requests, 0)
	a.running = max(a.running+running, 0)
	a.used = now
	u.busy += change(before, a.busy())
}

func change(before, after bool) int {
	switch {
	case after && !before:
		return 1
	case before && !after:
		return -1
	}
	return 0
}

// reportAdapters takes over what the engine lists. A target model is taken for an
// adapter from when any engine has listed it: to take a base model for one would keep
// its requests together.
func (c *Cost) reportAdapters(s *costServer, m *types.Metrics) {
	if !m.MaxAdapters.IsKnown() {
		return
	}
	u := &s.adapters
	for i := range u.list {
		u.list[i].listed = 0
	}
	for _, name := range m.WaitingAdapters {
		c.list(u, name, 1)
	}
	for _, name := range m.RunningAdapters {
		c.list(u, name, 2)
	}
	u.busy = 0
	for i := range u.list {
		if u.list[i].busy() {
			u.busy++
		}
	}
}

func (c *Cost) list(u *adapterUse, name string, how int8) {
	id, forgot := c.adapterIDs.list(name)
	if forgot {
		for _, s := range c.table.values {
			if s != nil {
				s.adapters.forget(id)
			}
		}
	}
	if a := u.of(id); a != nil {
		a.listed = how
	}
}

// adapterDelay is what it costs in seconds to serve a request for an adapter here:
// the time until it has a slot, and what others lose by the slot where slots are
// short. output is the time of a reply.
func (c *Cost) adapterDelay(s *costServer, id int32, slots int, output, scarce float64) (seconds float64, what string) {
	var mine *adapterState
	holding, fewest := 0, int32(math.MaxInt32)
	for i := range s.adapters.list {
		a := &s.adapters.list[i]
		if a.id == id {
			mine = a
		}
		if a.hasSlot() {
			holding++
			fewest = min(fewest, max(a.requests, 1))
		}
	}
	busy := s.adapters.busy
	// A slot is free when the last request of its adapter ends. drain is how long that
	// takes for the one with the fewest.
	drain := output
	if fewest < math.MaxInt32 {
		drain = output * (.5 + .5*float64(fewest))
	}
	// A slot is taken for longer by one more request: the less, the more are there. So
	// an adapter that is in use at several servers gathers where most of it is.
	taken := c.o.AdapterSlot / c.o.FirstToken * output * scarce
	if mine != nil && mine.busy() {
		n := 1 + float64(max(mine.requests, 1))
		taken /= n * n
		if mine.hasSlot() || holding < slots {
			return taken, "adapter in use"
		}
		return taken + drain*float64(max(busy-slots, 0)), "adapter waits for a slot"
	}
	if busy >= slots {
		return taken + c.o.AdapterLoad + drain*float64(busy-slots+1), "adapter slots are full"
	}
	if mine != nil && mine.used > 0 {
		later := 0
		for i := range s.adapters.list {
			if s.adapters.list[i].used > mine.used {
				later++
			}
		}
		if later < slots {
			return taken, "adapter still loaded"
		}
	}
	return taken + c.o.AdapterLoad, "adapter to be loaded"
}
