package plugins

import (
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/types"
)

// LimitMaxSessions is the upper limit of SessionOptions.MaxSessions and AnswerOptions.MaxAnswers.
const LimitMaxSessions = 16 << 20

// stickTable remembers the endpoints of sessions and responses, bounded in number and time. It
// stores a hash of their names, which come from clients or servers and may have any length. Safe
// for concurrent use.
type stickTable struct {
	name      string // of its snapshot
	kinds     kinds  // that it has use for
	max       int
	maxUntold int
	ttl       time.Duration
	keep      time.Duration // bounds what servers say of how long they keep something

	mu sync.Mutex
	// guarded by mu
	byID   map[uint64]*stickEntry
	used   list.List[stickEntry] // here, the most recently used one in front
	heard  list.List[stickEntry] // from peers, and not used here yet, in the same order
	nHeard int
	names  places[struct{}]
	news   news
}

// seat is an endpoint of a stickTable.
type seat = place[struct{}]

type stickEntry struct {
	id      uint64
	at      *seat // nil: nowhere any more
	used    time.Time
	until   time.Time // so long the server keeps it, whether it is used or not; zero: it does not say
	version uint64
	told    int64 // when it was last to be told to peers, in Unix nanoseconds
	tells   uint8 // how often it is still to be told
	sure    bool  // this gateway itself saw it given there
	hearsay bool  // it is in stickTable.heard
	listed  list.Node[stickEntry]
	queued  list.Node[stickEntry] // in news
}

// lastUse returns when an entry was used that lives as long as this one, at a time: when this one was, or later if its
// server keeps it longer than for the time to live from then on.
func (e *stickEntry) lastUse(now time.Time, ttl time.Duration) time.Time {
	at := e.used
	if !e.until.IsZero() {
		if as := e.until.Add(-ttl); as.After(now) {
			return now
		} else if as.After(at) {
			return as
		}
	}
	return at
}

// expired reports whether an entry counts no more. Caller must hold t.mu.
func (t *stickTable) expired(e *stickEntry, now time.Time) bool {
	return now.Sub(e.lastUse(now, t.ttl)) > t.ttl
}

// stickBounds are the options of a stickTable, 0 for defaults.
type stickBounds struct {
	max       int
	ttl       time.Duration
	maxUntold int
	keep      time.Duration
}

// newStickTable returns a table with the given bounds and defaults. most is the name of max in errors.
func newStickTable(name string, k kinds, most string, b, def stickBounds) (*stickTable, error) {
	c := check.Checks{Package: "plugins"}
	check.Default(&c, most, &b.max, def.max, 1, LimitMaxSessions)
	check.Positive(&c, "ttl", &b.ttl, def.ttl)
	check.Default(&c, "maxUntold", &b.maxUntold, def.maxUntold, 1, LimitMaxSessions)
	if def.keep > 0 {
		check.Positive(&c, "keep", &b.keep, def.keep)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &stickTable{name: name, kinds: k, max: b.max, maxUntold: b.maxUntold, ttl: b.ttl, keep: b.keep, byID: map[uint64]*stickEntry{}}, nil
}

// found is the endpoint of an entry: by its ledger or, if no request went there yet, by its ID.
type found struct {
	load *types.Load
	id   string
}

// known reports whether there is one.
func (f found) known() bool { return f != found{} }

// is reports whether it is ep.
func (f found) is(ep *types.Endpoint) bool {
	if f.load == nil {
		return f.id != "" && f.id == ep.ID && ep.Load != nil
	}
	return f.load == ep.Load
}

// put sets the endpoint of id, unless the endpoint was removed. sure means that req was served there, so
// that no peer knows better.
func (t *stickTable) put(id uint64, ep *types.Endpoint, req *types.Request, sure bool) {
	if ep.Load == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.putLocked(id, ep, req, sure)
}

func (t *stickTable) putLocked(id uint64, ep *types.Endpoint, req *types.Request, sure bool) {
	if ep.Load.Retired() {
		return
	}
	e := t.byID[id]
	if e != nil && e.at != nil && e.at.ep != nil && e.at.ep.Load == ep.Load {
		t.use(e, req.Now, sure)
		t.announce(e, req.Now, tellAgain)
		return
	}
	at := t.names.meet(ep)
	if e == nil {
		t.makeRoom()
		e = &stickEntry{id: id, at: at, version: versionOf(0, at, req)}
		t.byID[id] = e
		t.used.PushFront(e, &e.listed)
	} else if e.at != at {
		moves := e.version >> 32
		if e.at != nil { // else they were counted when it was dropped
			moves++
		}
		e.at, e.version, e.sure = at, versionOf(moves, at, req), false
	}
	t.use(e, req.Now, sure)
	t.announce(e, req.Now, 0)
}

// use notes that an entry was used here. Caller must hold t.mu.
func (t *stickTable) use(e *stickEntry, now time.Time, sure bool) {
	t.unlist(e)
	e.used, e.sure = now, e.sure || sure
	t.used.PushFront(e, &e.listed)
}

// get returns the endpoint of id, if it is known.
func (t *stickTable) get(id uint64, now time.Time) found {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	switch {
	case e == nil || e.at == nil || t.expired(e, now):
	case e.at.ep != nil:
		return found{load: e.at.ep.Load}
	case !e.at.gone && now.Sub(e.at.since) < unmetFor:
		return found{id: e.at.id}
	}
	return found{}
}

// find returns the index of an endpoint, or -1.
func (t *stickTable) find(at found, eps []*types.Endpoint) int {
	if !at.known() {
		return -1
	}
	for i, ep := range eps {
		if at.is(ep) {
			if at.load == nil {
				t.meet(ep)
			}
			return i
		}
	}
	return -1
}

// meet notes that an endpoint that peers have named is there.
func (t *stickTable) meet(ep *types.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !ep.Load.Retired() {
		t.names.meet(ep)
	}
}

// drop ends that id is at that endpoint, if it is.
func (t *stickTable) drop(id uint64, ep *types.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	switch {
	case e == nil || e.at == nil || e.at.ep == nil || e.at.ep.Load != ep.Load:
	case t.news.on: // peers may still say that it is there
		t.news.remove(e)
		e.at, e.sure, e.version = nil, false, versionOf(e.version>>32+1, nil, nil)
	default:
		t.remove(e)
	}
}

// forget removes all entries of an endpoint.
func (t *stickTable) forget(ep *types.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.names.byLoad[ep.Load]
	if at == nil {
		return
	}
	for _, l := range [...]*list.List[stickEntry]{&t.used, &t.heard} {
		for n := l.Head; n != nil; {
			e := n.Of
			n = n.Next
			if e.at == at {
				t.remove(e)
			}
		}
	}
	t.names.forget(ep.Load)
}

// makeRoom makes room for another entry that is used here. Caller must hold t.mu.
func (t *stickTable) makeRoom() {
	switch {
	case len(t.byID) < t.max:
	case t.nHeard > t.max/2:
		t.remove(t.heard.Tail.Of)
	default:
		t.remove(t.oldest())
	}
}

// oldest returns the least recently used entry of those used here and those heard of. Caller must hold
// t.mu.
func (t *stickTable) oldest() *stickEntry {
	used, heard := t.used.Tail, t.heard.Tail
	if used == nil || heard != nil && heard.Of.used.Before(used.Of.used) {
		return heard.Of
	}
	return used.Of
}

// Len returns the number of sessions and responses that are remembered.
func (t *stickTable) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

// remove removes an entry. Caller must hold t.mu.
func (t *stickTable) remove(e *stickEntry) {
	t.unlist(e)
	t.news.remove(e)
	delete(t.byID, e.id)
}

// unlist takes an entry out of the list that it is in. Caller must hold t.mu.
func (t *stickTable) unlist(e *stickEntry) {
	if e.hearsay {
		t.heard.Remove(&e.listed)
		e.hearsay = false
		t.nHeard--
		return
	}
	t.used.Remove(&e.listed)
}

// answerAt returns the endpoint of the response that req continues, or of the job or file that it is about, if it is known.
func (t *stickTable) answerAt(req *types.Request) found {
	if req.PreviousID == "" {
		return found{}
	}
	return t.get(keyOf(answerKind, req.FairnessID, req.PreviousID), req.Now)
}

// keepAnswer marks the response that req continues as used, if it is at ep, where req went.
func (t *stickTable) keepAnswer(req *types.Request, ep *types.Endpoint) {
	if at := t.answerAt(req); at.is(ep) {
		t.put(keyOf(answerKind, req.FairnessID, req.PreviousID), ep, req, false)
	}
}

// mostIDs bounds what is remembered of one answer.
const mostIDs = 16

// addAnswer adds what req has made at ep: a response, if it was completed, or a job with its files. A stream that was broken
// off here may be that of a response in the background, which goes on there.
func (t *stickTable) addAnswer(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	if req.Stream && !out.Retried && !out.Unsent {
		out.Cancelled = false
	}
	if !out.Served() || ep.Load == nil {
		return
	}
	if out.ResponseID != "" {
		t.addKept(out.ResponseID, req, ep, out.KeptUntil)
	}
	for _, id := range out.OtherIDs[:min(len(out.OtherIDs), mostIDs)] {
		t.addKept(id, req, ep, out.KeptUntil)
	}
}

func (t *stickTable) addKept(name string, req *types.Request, ep *types.Endpoint, until time.Time) {
	id := keyOf(answerKind, req.FairnessID, name)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.putLocked(id, ep, req, true)
	if e := t.byID[id]; e != nil && !until.IsZero() {
		if most := req.Now.Add(t.keep); until.After(most) {
			until = most
		}
		e.until = until
	}
}

// describeAnswer describes whether ep has the response.
func describeAnswer(at found, ep *types.Endpoint) string {
	if at.is(ep) {
		return "gave the answer that this continues"
	}
	return "does not have the answer that this continues"
}
