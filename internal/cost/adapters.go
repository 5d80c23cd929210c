package cost

import (
	"math"
	"slices"
	"sync/atomic"
)

// Adapters is which LoRA adapters a server has in use, as this process's requests and the
// engine's last report say. The zero value is empty. It is guarded as Server is.
type Adapters struct {
	list []adapterState // in order of first use; bounded by maxAdapterStates
	busy atomic.Int32   // adapters that have requests; read without the lock
}

type adapterState struct {
	id       AdapterID
	requests int32   // own, in flight
	running  int32   // of these, with a first token: the adapter has a slot
	listed   int8    // by the engine: 0 no, 1 waiting, 2 running
	used     Seconds // when an own request began or ended last
}

func (a *adapterState) busy() bool    { return a.requests > 0 || a.listed > 0 }
func (a *adapterState) hasSlot() bool { return a.running > 0 || a.listed == 2 }

// of returns the state of an adapter, entering it; nil if there is no room.
func (u *Adapters) of(id AdapterID) *adapterState {
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

// Forget drops an adapter.
func (u *Adapters) Forget(id AdapterID) {
	for i := range u.list {
		if u.list[i].id == id {
			u.busy.Add(change(u.list[i].busy(), false))
			u.list = slices.Delete(u.list, i, i+1)
			return
		}
	}
}

// Busy returns how many adapters have requests. It needs no lock.
func (u *Adapters) Busy() int { return int(u.busy.Load()) }

// Count adds to the requests and the running ones of an adapter.
func (u *Adapters) Count(id AdapterID, requests, running int32, now Seconds) {
	a := u.of(id)
	if a == nil {
		return
	}
	before := a.busy()
	a.requests = max(a.requests+requests, 0)
	a.running = max(a.running+running, 0)
	a.used = now
	u.busy.Add(change(before, a.busy()))
}

func change(before, after bool) int32 {
	switch {
	case after && !before:
		return 1
	case before && !after:
		return -1
	}
	return 0
}

// Report takes over which adapters the engine lists.
func (u *Adapters) Report(waiting, running []AdapterID) {
	for i := range u.list {
		u.list[i].listed = 0
	}
	for _, id := range waiting {
		u.report(id, 1)
	}
	for _, id := range running {
		u.report(id, 2)
	}
	busy := int32(0)
	for i := range u.list {
		if u.list[i].busy() {
			busy++
		}
	}
	u.busy.Store(busy)
}

func (u *Adapters) report(id AdapterID, how int8) {
	if a := u.of(id); a != nil {
		a.listed = how
	}
}

// Delay is what it costs in seconds to serve a request for an adapter here: the time until it
// has one of the slots, and what others lose by the slot where slots are short. reply is the
// time of an answer.
func (u *Adapters) Delay(m *Model, id AdapterID, slots int, reply, scarce float64) (delay Seconds, what string) {
	mine, holding, fewest := u.slots(id)
	busy := u.Busy()
	// A slot is free when the last request of its adapter ends. drain is how long that
	// takes for the one with the fewest.
	drain := reply
	if fewest < math.MaxInt32 {
		drain = reply * (.5 + .5*float64(fewest))
	}
	// A slot is taken for longer by one more request: the less, the more are there. So
	// an adapter that is in use at several servers gathers where most of it is.
	taken := m.AdapterSlot / m.FirstToken * reply * scarce
	if mine != nil && mine.busy() {
		n := 1 + float64(max(mine.requests, 1))
		taken /= n * n
		if mine.hasSlot() || holding < slots {
			return Seconds(taken), "adapter in use"
		}
		return Seconds(taken + drain*float64(max(busy-slots, 0))), "adapter waits for a slot"
	}
	if busy >= slots {
		return Seconds(taken + m.AdapterLoad + drain*float64(busy-slots+1)), "adapter slots are full"
	}
	if mine != nil && mine.used > 0 && u.usedSince(mine.used) < slots {
		return Seconds(taken), "adapter still loaded"
	}
	return Seconds(taken + m.AdapterLoad), "adapter to be loaded"
}

// slots returns the state of an adapter, nil if there is none, how many adapters have a slot,
// and the fewest requests that any of these has.
func (u *Adapters) slots(id AdapterID) (mine *adapterState, holding int, fewest int32) {
	fewest = math.MaxInt32
	for i := range u.list {
		a := &u.list[i]
		if a.id == id {
			mine = a
		}
		if a.hasSlot() {
			holding++
			fewest = min(fewest, max(a.requests, 1))
		}
	}
	return mine, holding, fewest
}

// usedSince returns how many adapters were used later than that.
func (u *Adapters) usedSince(at Seconds) (n int) {
	for i := range u.list {
		if u.list[i].used > at {
			n++
		}
	}
	return n
}
