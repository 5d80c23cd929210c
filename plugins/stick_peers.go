package plugins

import (
	"time"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/types"
)

// This file is what gateways tell each other of sessions and responses: plugins with a stickTable are
// sharing.BindingParts.
//
// An entry has a version: how often it moved to another endpoint, and a random number. Of two entries of
// the same key all gateways keep the one of the higher version, whatever the order in which they hear of
// them, so they end up with the same: a session that moved stays where it went, and of two gateways that
// bind a new session at the same time one yields. A gateway that is told of a lower version than it has
// tells its own again.

// DefaultMaxUntold is the default of SessionOptions.MaxUntold and AnswerOptions.MaxUntold.
const DefaultMaxUntold = 4096

const (
	// An entry is told tellTimes times, as messages may be lost.
	tellTimes = 2
	// tellAgain is how long after it was told an entry in use is told again, if that is less than a quarter
	// of its time to live.
	tellAgain = 30 * time.Second
	// correctAfter is how long after it was told an entry is told again to peers who have an older version.
	correctAfter = time.Second
)

// versionOf returns the version of an entry that moved so often, now by req. at is nil if it is nowhere.
func versionOf(moves uint64, at *seat, req *types.Request) uint64 {
	moves = min(moves, 1<<32-1) << 32
	if at == nil {
		return moves
	}
	rand := req.Rand
	mixed := types.NewRand(rand.Uint64() ^ nameHash(at.id))
	return moves | mixed.Uint64()>>32
}

// nameHash tells endpoints apart where requests of several gateways have the same randomness: FNV-1a.
func nameHash(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h
}

// news are the entries that peers are to be told of, the oldest one first. The zero value is off, and
// keeps none.
type news struct {
	on      bool
	list    list.List[stickEntry]
	n       int
	dropped uint64
	telling []types.Binding
}

// add adds an entry. If there are too many the oldest one is dropped.
func (w *news) add(e *stickEntry, most int) {
	e.tells = tellTimes
	if e.queued.Of != nil {
		return
	}
	if w.n >= most {
		w.remove(w.list.Head.Of)
		w.dropped++
	}
	w.list.Push(e, &e.queued)
	w.n++
}

// remove removes an entry, if it is there.
func (w *news) remove(e *stickEntry) {
	if e.queued.Of != nil {
		w.list.Remove(&e.queued)
		w.n--
	}
}

// announce has peers told of an entry, if it was not within that time, which is bounded by the time to
// live. Caller must hold t.mu.
func (t *stickTable) announce(e *stickEntry, now time.Time, unless time.Duration) {
	if unless = min(unless, t.ttl/4); !t.news.on || e.at == nil || unless > 0 && now.UnixNano()-e.told < int64(unless) {
		return
	}
	e.told = now.UnixNano()
	t.news.add(e, t.maxUntold)
}

// ShareBindings calls tell for what was bound, moved, or used again since the last call, each in two
// consecutive calls. Nothing is kept for it before the first call.
func (t *stickTable) ShareBindings(now time.Time, tell func(types.Binding)) {
	for _, b := range t.untold(now) {
		tell(b)
	}
}

// untold returns what ShareBindings tells, valid until the next call.
func (t *stickTable) untold(now time.Time) []types.Binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &t.news
	w.on = true
	t.names.tidy(now)
	w.telling = w.telling[:0]
	for n := w.list.Head; n != nil; {
		e := n.Of
		n = n.Next
		w.telling = append(w.telling, types.Binding{Key: e.id, Endpoint: e.at.id, Age: max(now.Sub(e.lastUse(now, t.ttl)), 0), Version: e.version})
		if e.tells--; e.tells == 0 {
			w.remove(e)
		}
	}
	return w.telling
}

// Untold returns how many entries peers were not told of, since there were too many at a time.
func (t *stickTable) Untold() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.news.dropped
}

// HearBinding is told of a binding of a peer.
func (t *stickTable) HearBinding(b types.Binding, now time.Time) {
	if !t.kinds.has(b.Key) || b.Age > t.ttl {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.names.named(b.Endpoint, now)
	if at == nil || at.ep != nil && at.ep.Load.Retired() {
		return
	}
	used := now.Add(-max(b.Age, 0))
	switch e := t.byID[b.Key]; {
	case e == nil:
		t.addHeard(b, at, used)
	case e.at == at:
		e.version = max(e.version, b.Version)
		t.renew(e, used)
	case !t.expired(e, now) && !yields(e, b):
		t.announce(e, now, correctAfter)
	default:
		t.news.remove(e)
		e.at, e.sure, e.version, e.until = at, false, b.Version, time.Time{}
		t.renew(e, used)
	}
}

// yields reports whether an entry is to be what a peer says.
func yields(e *stickEntry, b types.Binding) bool {
	switch {
	case e.sure:
		return false
	case e.at == nil:
		return b.Version >= e.version
	case b.Version == e.version:
		return b.Endpoint > e.at.id
	}
	return b.Version > e.version
}

// addHeard adds an entry of a peer. Such entries never take more than half of the table from those used
// here. Caller must hold t.mu.
func (t *stickTable) addHeard(b types.Binding, at *seat, used time.Time) {
	if len(t.byID) >= t.max {
		switch {
		case t.nHeard < t.max/2:
			t.remove(t.oldest())
		case t.nHeard > 0:
			t.remove(t.heard.Tail.Of)
		default:
			return
		}
	}
	e := &stickEntry{id: b.Key, at: at, used: used, version: b.Version, hearsay: true}
	t.byID[b.Key] = e
	t.heard.PushFront(e, &e.listed)
	t.nHeard++
}

// renew notes that a peer used an entry at that time. Caller must hold t.mu.
func (t *stickTable) renew(e *stickEntry, used time.Time) {
	if !used.After(e.used) {
		return
	}
	e.used = used
	l := &t.used
	if e.hearsay {
		l = &t.heard
	}
	l.Remove(&e.listed)
	l.PushFront(e, &e.listed)
}
