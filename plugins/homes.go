package plugins

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// homes remembers at which endpoint each of many things is, bounded in number and in time.
// Things are known by a hash: their names are the clients' or the servers', and may be of
// any length. Safe for concurrent use.
type homes struct {
	max  int
	ttl  time.Duration
	seed maphash.Seed

	mu sync.Mutex
	// guarded by mu
	byID   map[uint64]*list.Element
	recent *list.List // of *home, the one used last in front
}

type home struct {
	id   uint64
	at   *types.Load // the endpoint, by its identity
	used time.Time
}

// newHomes returns homes with the bounds given, 0 for defaults, or what is wrong with them.
// name is what errors call most.
func newHomes(name string, most, def int, ttl, defTTL time.Duration) (*homes, error) {
	c := check.Checks{Package: "plugins"}
	check.Default(&c, name, &most, def, 1, LimitMaxSessions)
	check.Positive(&c, "ttl", &ttl, defTTL)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &homes{max: most, ttl: ttl, seed: maphash.MakeSeed(), byID: map[uint64]*list.Element{}, recent: list.New()}, nil
}

// kind is what homes holds.
type kind byte

const (
	sessionKind kind = iota
	answerKind
)

// idOf returns the id of a thing of that name. Those of different tenants are different.
func (h *homes) idOf(k kind, tenant, name string) uint64 {
	var m maphash.Hash
	m.SetSeed(h.seed)
	m.WriteByte(byte(k))
	for n := len(tenant); ; n >>= 7 { // or a tenant could end where a name begins
		if n < 0x80 {
			m.WriteByte(byte(n))
			break
		}
		m.WriteByte(byte(n) | 0x80)
	}
	m.WriteString(tenant)
	m.WriteString(name)
	return m.Sum64()
}

// put remembers that id is at an endpoint, unless that has gone.
func (h *homes) put(id uint64, at *types.Load, now time.Time) {
	if at == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if at.Retired() {
		return
	}
	if e, ok := h.byID[id]; ok {
		one := e.Value.(*home)
		one.at, one.used = at, now
		h.recent.MoveToFront(e)
		return
	}
	if h.recent.Len() >= h.max {
		h.removeLocked(h.recent.Back())
	}
	h.byID[id] = h.recent.PushFront(&home{id, at, now})
}

// get returns where id is, nil if that is not known.
func (h *homes) get(id uint64, now time.Time) *types.Load {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := h.byID[id]
	if !ok {
		return nil
	}
	if one := e.Value.(*home); now.Sub(one.used) <= h.ttl {
		return one.at
	}
	return nil
}

// drop forgets id if it is at that endpoint.
func (h *homes) drop(id uint64, at *types.Load) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, ok := h.byID[id]; ok && e.Value.(*home).at == at {
		h.removeLocked(e)
	}
}

// forget forgets all that is at an endpoint.
func (h *homes) forget(at *types.Load) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := h.recent.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*home).at == at {
			h.removeLocked(e)
		}
		e = next
	}
}

// len returns how many things are remembered.
func (h *homes) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.recent.Len()
}

// removeLocked forgets one. Caller must hold h.mu.
func (h *homes) removeLocked(e *list.Element) {
	h.recent.Remove(e)
	delete(h.byID, e.Value.(*home).id)
}

// answerOf returns where the answer is that req continues, nil if that is not known.
func (h *homes) answerOf(req *types.Request) *types.Load {
	if req.PreviousID == "" {
		return nil
	}
	return h.get(h.idOf(answerKind, req.FairnessID, req.PreviousID), req.Now)
}

// continues is told that req went to ep: the answer that it continues is still in use, if
// it is there.
func (h *homes) continues(req *types.Request, ep *types.Endpoint) {
	if at := h.answerOf(req); at != nil && at == ep.Load {
		h.put(h.idOf(answerKind, req.FairnessID, req.PreviousID), at, req.Now)
	}
}

// answers is told how req ended at ep: an answer that was given to its end can be continued
// there.
func (h *homes) answers(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	if out.ResponseID != "" && out.Served() {
		h.put(h.idOf(answerKind, req.FairnessID, out.ResponseID), ep.Load, req.Now)
	}
}
