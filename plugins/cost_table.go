package plugins

import (
	"sync"

	"github.com/inferpick/inferpick/types"
)

// costTable keeps what Cost knows of endpoints: for each a costServer, and apart from
// that, side by side in memory, the few figures that every decision reads.
type costTable struct {
	mu sync.RWMutex

	// guarded by mu
	figures []costFigures
	servers []*costServer // nil: the index is free
	bySlot  []int32       // index + 1, by types.Endpoint.Slot; checked against the ledger
	byLoad  map[*types.Load]int32
	unsure  int // endpoints that are not found by their slot
	free    []int32
}

// costFigures is one endpoint as decisions see it, in one line of the processor's cache:
// a decision over thousands of endpoints is as fast as they can be read. See costServer
// for what the figures mean.
type costFigures struct {
	load       *types.Load
	reading    *types.Endpoint // that the figures come from
	stepEnds   float64
	handle     int32
	pending    float32
	queued     float32
	step       float32
	token      float32
	decoding   float32
	outputCost float32
	perContext float32
	kv         float32
	perKV      float32 // 1 / size of the KV cache in tokens; 0: not known
}

// lookup returns the index of ep, or -1. Caller must hold mu.
func (t *costTable) lookup(ep *types.Endpoint) int32 {
	if int(ep.Slot) < len(t.bySlot) {
		if i := t.bySlot[ep.Slot] - 1; i >= 0 && t.figures[i].load == ep.Load {
			return i
		}
	}
	if t.unsure == 0 {
		return -1
	}
	if i, ok := t.byLoad[ep.Load]; ok {
		return i
	}
	return -1
}

// server returns what is known of ep, or nil. Caller must hold mu.
func (t *costTable) server(ep *types.Endpoint) *costServer {
	if i := t.lookup(ep); i >= 0 {
		return t.servers[i]
	}
	return nil
}

// enter enters ep, which is not in the table, unless it has gone for good: nil then.
// Caller must hold mu for writing.
func (t *costTable) enter(ep *types.Endpoint) *costServer {
	if ep.Load == nil || ep.Load.Retired() {
		return nil
	}
	s := new(costServer)
	if n := len(t.free); n > 0 {
		s.index = t.free[n-1]
		t.free = t.free[:n-1]
		t.servers[s.index] = s
	} else {
		s.index = int32(len(t.servers))
		t.servers = append(t.servers, s)
		t.figures = append(t.figures, costFigures{})
	}
	t.figures[s.index] = costFigures{load: ep.Load}
	if t.byLoad == nil {
		t.byLoad = map[*types.Load]int32{}
	}
	t.byLoad[ep.Load] = s.index
	t.hint(ep.Slot, s.index)
	return s
}

// hint lets an endpoint be found by its slot, if that is not wild. Who had the slot,
// an endpoint that has gone or one of another store, is found by its ledger from then on.
func (t *costTable) hint(slot uint32, index int32) {
	if slot >= maxHints {
		t.unsure++
		return
	}
	if n := int(slot) + 1; n > len(t.bySlot) {
		t.bySlot = append(t.bySlot, make([]int32, n-len(t.bySlot))...)
	}
	if t.bySlot[slot] != 0 {
		t.unsure++
	}
	t.bySlot[slot] = index + 1
}

// remove takes ep out. Its costServer lives on with the requests that are there. Caller
// must hold mu for writing.
func (t *costTable) remove(ep *types.Endpoint) {
	i, ok := t.byLoad[ep.Load]
	if !ok {
		return
	}
	delete(t.byLoad, ep.Load)
	if int(ep.Slot) < len(t.bySlot) && t.bySlot[ep.Slot] == i+1 {
		t.bySlot[ep.Slot] = 0
	} else {
		t.unsure--
	}
	t.servers[i].index = -1
	t.servers[i] = nil
	t.figures[i] = costFigures{}
	t.free = append(t.free, i)
}
