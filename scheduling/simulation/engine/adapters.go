package engine

import "slices"

// adapter is a LoRA adapter that some request asked for.
type adapter struct {
	id       uint32
	running  int    // sequences in the batch
	waiting  int    // sequences in the queue
	lastUsed uint64 // step in which it was last in the batch
	gpu      bool   // occupies a slot
	host     bool   // is in host memory
}

// adapters keeps the slots. Loads happen at admission: who runs is resident.
type adapters struct {
	slots, hostSlots int
	byID             map[uint32]*adapter
	all              []*adapter // in order of first use, so that scans are deterministic
	active           int        // adapters with running > 0
	changed          bool       // the set of running or waiting adapters is not what it was
}

func newAdapters(slots, hostSlots int) adapters {
	return adapters{slots: slots, hostSlots: hostSlots, byID: make(map[uint32]*adapter)}
}

// get returns the adapter with the given id; nil for 0, the base model.
func (as *adapters) get(id uint32) *adapter {
	if id == 0 {
		return nil
	}
	a := as.byID[id]
	if a == nil {
		a = &adapter{id: id}
		as.byID[id] = a
		as.all = append(as.all, a)
	}
	return a
}

// fits reports whether a sequence under a may join the batch.
func (as *adapters) fits(a *adapter) bool {
	return a == nil || a.running > 0 || as.active < as.slots
}

// run counts a sequence into the batch and returns the seconds it takes to
// bring its adapter into a slot. Caller must have seen that it fits.
func (as *adapters) run(a *adapter, step uint64, c *Calibration) (load float64) {
	if a == nil {
		return 0
	}
	a.running++
	if a.running == 1 {
		as.active++
		as.changed = true
	}
	a.lastUsed = step
	if a.gpu {
		return 0
	}
	if as.count(func(x *adapter) bool { return x.gpu }) >= as.slots {
		as.oldest(func(x *adapter) bool { return x.gpu && x.running == 0 }).gpu = false
	}
	a.gpu = true
	load = c.AdapterToGPU
	if a.host {
		return load
	}
	// What occupies a slot keeps its copy in host memory, which is why there
	// are at least as many places there.
	if as.count(func(x *adapter) bool { return x.host }) >= as.hostSlots {
		as.oldest(func(x *adapter) bool { return x.host && !x.gpu }).host = false
	}
	a.host = true
	return load + c.AdapterToHost
}

// leave counts a sequence out of the batch.
func (as *adapters) leave(a *adapter, step uint64) {
	if a == nil {
		return
	}
	a.running--
	a.lastUsed = step
	if a.running == 0 {
		as.active--
		as.changed = true
	}
}

// wait counts a sequence into the queue (1) or out of it (-1).
func (as *adapters) wait(a *adapter, delta int) {
	if a == nil {
		return
	}
	a.waiting += delta
	as.changed = true
}

func (as *adapters) count(is func(*adapter) bool) (n int) {
	for _, a := range as.all {
		if is(a) {
			n++
		}
	}
	return n
}

// oldest returns the least recently used adapter for which is holds; the one
// first seen among equals.
func (as *adapters) oldest(is func(*adapter) bool) (found *adapter) {
	for _, a := range as.all {
		if is(a) && (found == nil || a.lastUsed < found.lastUsed) {
			found = a
		}
	}
	return found
}

// appendIDs appends the sorted ids of the adapters for which is holds.
func (as *adapters) appendIDs(ids []uint32, is func(*adapter) bool) []uint32 {
	for _, a := range as.all {
		if is(a) {
			ids = append(ids, a.id)
		}
	}
	slices.Sort(ids)
	return ids
}
