package plugins

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// LimitMaxSessions is the most sessions and answers that SessionAffinity and PreviousAnswer
// remember.
const LimitMaxSessions = 16 << 20

// stickTable remembers at which endpoint each session and each answer is, bounded in number
// and in time. They are known by a hash: their names are the clients' or the servers', and
// may be of any length. Safe for concurrent use.
type stickTable struct {
	max  int
	ttl  time.Duration
	seed maphash.Seed

	mu sync.Mutex
	// guarded by mu
	byID   map[uint64]*list.Element
	recent *list.List // of *stuck, the one used last in front
}

type stuck struct {
	id   uint64
	at   *types.Load // the endpoint, by its identity
	used time.Time
}

// newStickTable returns one with the bounds given, 0 for defaults, or what is wrong with them.
// name is what errors call most.
func newStickTable(name string, most, def int, ttl, defTTL time.Duration) (*stickTable, error) {
	c := check.Checks{Package: "plugins"}
	check.Default(&c, name, &most, def, 1, LimitMaxSessions)
	check.Positive(&c, "ttl", &ttl, defTTL)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &stickTable{max: most, ttl: ttl, seed: maphash.MakeSeed(), byID: map[uint64]*list.Element{}, recent: list.New()}, nil
}

// kind is what a stickTable holds.
type kind byte

const (
	sessionKind kind = iota
	answerKind
)

// idOf returns the id of a thing of that name. Those of different tenants are different.
func (t *stickTable) idOf(k kind, tenant, name string) uint64 {
	var m maphash.Hash
	m.SetSeed(t.seed)
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
		one := e.Value.(*stuck)
		one.at, one.used = at, now
		t.recent.MoveToFront(e)
		return
	}
	if t.recent.Len() >= t.max {
		t.removeLocked(t.recent.Back())
	}
	t.byID[id] = t.recent.PushFront(&stuck{id, at, now})
}

// get returns where id is, nil if that is not known.
func (t *stickTable) get(id uint64, now time.Time) *types.Load {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.byID[id]
	if !ok {
		return nil
	}
	if one := e.Value.(*stuck); now.Sub(one.used) <= t.ttl {
		return one.at
	}
	return nil
}

// drop forgets id if it is at that endpoint.
func (t *stickTable) drop(id uint64, at *types.Load) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.byID[id]; ok && e.Value.(*stuck).at == at {
		t.removeLocked(e)
	}
}

// forget forgets all that is at an endpoint.
func (t *stickTable) forget(at *types.Load) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.recent.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*stuck).at == at {
			t.removeLocked(e)
		}
		e = next
	}
}

// len returns how many things are remembered.
func (t *stickTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recent.Len()
}

// removeLocked forgets one. Caller must hold t.mu.
func (t *stickTable) removeLocked(e *list.Element) {
	t.recent.Remove(e)
	delete(t.byID, e.Value.(*stuck).id)
}

// answerAt returns where the answer is that req continues, nil if that is not known.
func (t *stickTable) answerAt(req *types.Request) *types.Load {
	if req.PreviousID == "" {
		return nil
	}
	return t.get(t.idOf(answerKind, req.FairnessID, req.PreviousID), req.Now)
}

// keepAnswer is told that req went to ep: the answer that it continues is still in use, if
// it is there.
func (t *stickTable) keepAnswer(req *types.Request, ep *types.Endpoint) {
	if at := t.answerAt(req); at != nil && at == ep.Load {
		t.put(t.idOf(answerKind, req.FairnessID, req.PreviousID), at, req.Now)
	}
}

// addAnswer is told how req ended at ep: an answer that was given to its end can be continued
// there.
func (t *stickTable) addAnswer(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	if out.ResponseID != "" && out.Served() {
		t.put(t.idOf(answerKind, req.FairnessID, out.ResponseID), ep.Load, req.Now)
	}
}

// describeAnswer says whether ep is where the answer is.
func describeAnswer(at *types.Load, ep *types.Endpoint) string {
	if at == ep.Load {
		return "gave the answer that this continues"
	}
	return "does not have the answer that this continues"
}
