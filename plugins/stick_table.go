package plugins

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// LimitMaxSessions is the upper limit of SessionOptions.MaxSessions and AnswerOptions.MaxAnswers.
const LimitMaxSessions = 16 << 20

// stickTable remembers the endpoints of sessions and responses, bounded in number and time. It
// stores a hash of their names, which come from clients or servers and may have any length. Safe
// for concurrent use.
type stickTable struct {
	max  int
	ttl  time.Duration
	seed maphash.Seed

	mu sync.Mutex
	// guarded by mu
	byID   map[uint64]*list.Element
	recent *list.List // of *stickEntry, the most recently used one in front
}

type stickEntry struct {
	id   uint64
	at   *types.Load // identifies the endpoint
	used time.Time
}

// newStickTable returns a table with the given bounds, 0 for defaults. name is the name of most in
// errors.
func newStickTable(name string, most, def int, ttl, defTTL time.Duration) (*stickTable, error) {
	c := check.Checks{Package: "plugins"}
	check.Default(&c, name, &most, def, 1, LimitMaxSessions)
	check.Positive(&c, "ttl", &ttl, defTTL)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &stickTable{max: most, ttl: ttl, seed: maphash.MakeSeed(), byID: map[uint64]*list.Element{}, recent: list.New()}, nil
}

// kind distinguishes the entries of a stickTable.
type kind byte

const (
	sessionKind kind = iota
	answerKind
)

// idOf returns the hash of a name. Those of different tenants differ.
func (t *stickTable) idOf(k kind, tenant, name string) uint64 {
	var m maphash.Hash
	m.SetSeed(t.seed)
	m.WriteByte(byte(k))
	for n := len(tenant); ; n >>= 7 { // marks where the tenant ends and the name begins
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

// put sets the endpoint of id, unless the endpoint was removed.
func (t *stickTable) put(id uint64, at *types.Load, now time.Time) {
	if at == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.Retired() {
		return
	}
	if e, ok := t.byID[id]; ok {
		entry := e.Value.(*stickEntry)
		entry.at, entry.used = at, now
		t.recent.MoveToFront(e)
		return
	}
	if t.recent.Len() >= t.max {
		t.removeLocked(t.recent.Back())
	}
	t.byID[id] = t.recent.PushFront(&stickEntry{id, at, now})
}

// get returns the endpoint of id, or nil.
func (t *stickTable) get(id uint64, now time.Time) *types.Load {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.byID[id]
	if !ok {
		return nil
	}
	if entry := e.Value.(*stickEntry); now.Sub(entry.used) <= t.ttl {
		return entry.at
	}
	return nil
}

// drop removes id if it is at that endpoint.
func (t *stickTable) drop(id uint64, at *types.Load) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.byID[id]; ok && e.Value.(*stickEntry).at == at {
		t.removeLocked(e)
	}
}

// forget removes all entries of an endpoint.
func (t *stickTable) forget(at *types.Load) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.recent.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*stickEntry).at == at {
			t.removeLocked(e)
		}
		e = next
	}
}

// len returns the number of entries.
func (t *stickTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recent.Len()
}

// removeLocked removes an entry. Caller must hold t.mu.
func (t *stickTable) removeLocked(e *list.Element) {
	t.recent.Remove(e)
	delete(t.byID, e.Value.(*stickEntry).id)
}

// answerAt returns the endpoint of the response that req continues, or nil.
func (t *stickTable) answerAt(req *types.Request) *types.Load {
	if req.PreviousID == "" {
		return nil
	}
	return t.get(t.idOf(answerKind, req.FairnessID, req.PreviousID), req.Now)
}

// keepAnswer marks the response that req continues as used, if it is at ep, where req went.
func (t *stickTable) keepAnswer(req *types.Request, ep *types.Endpoint) {
	if at := t.answerAt(req); at != nil && at == ep.Load {
		t.put(t.idOf(answerKind, req.FairnessID, req.PreviousID), at, req.Now)
	}
}

// addAnswer adds the response to req at ep, if it was completed.
func (t *stickTable) addAnswer(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	if out.ResponseID != "" && out.Served() {
		t.put(t.idOf(answerKind, req.FairnessID, out.ResponseID), ep.Load, req.Now)
	}
}

// describeAnswer describes whether ep has the response.
func describeAnswer(at *types.Load, ep *types.Endpoint) string {
	if at == ep.Load {
		return "gave the answer that this continues"
	}
	return "does not have the answer that this continues"
}
