package plugins

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// This file is what plugins with a stickTable keep over a restart: they are sharing.SnapshotParts.

// SnapshotName returns the name of the snapshot.
func (t *stickTable) SnapshotName() string { return t.name + "/1" }

// stickKept is an entry that is kept.
type stickKept struct {
	id, version uint64
	at          string
	age         time.Duration
}

const leastKept = 8 + 1 + 1 + 1 // bytes of an entry

// AppendSnapshot appends the entries, in at most room bytes: those used here before those heard of, the
// most recently used ones first.
func (t *stickTable) AppendSnapshot(dst []byte, room int, now time.Time) []byte {
	const count = binary.MaxVarintLen32
	if room < count+sumBytes {
		return dst
	}
	n := len(dst)
	room -= count + sumBytes
	var entries []byte
	kept := 0
	seats := map[string]uint64{}
	for _, k := range t.latest(room/leastKept, now) {
		next := appendStick(entries, k, seats)
		if len(next) > room {
			break
		}
		entries, kept = next, kept+1
		if _, ok := seats[k.at]; !ok {
			seats[k.at] = uint64(len(seats) + 1)
		}
	}
	dst = append(binary.AppendUvarint(dst, uint64(kept)), entries...)
	return sealSnapshot(dst, n, t.SnapshotName())
}

// latest returns at most that many entries that are still valid, the most recently used ones of each list
// first. Some may be in it twice.
func (t *stickTable) latest(most int, now time.Time) []stickKept {
	used := t.latestOf(&t.used, most, now)
	return append(used, t.latestOf(&t.heard, most-len(used), now)...)
}

// inOneGo is how many entries are looked at while decisions wait.
const inOneGo = 1024

// latestOf returns those of a list. It begins with the least recently used one, since those that are used
// meanwhile come to the front.
func (t *stickTable) latestOf(l *list.List[stickEntry], most int, now time.Time) []stickKept {
	var all []stickKept
	var at mark
	for n := t.Len(); len(all) <= 2*n; {
		if all, at = t.someOf(l, inOneGo, at, all, now); at.next == nil {
			break
		}
	}
	if at.next != nil { // they are used faster than they are looked at
		all, _ = t.someOf(l, LimitMaxSessions, at, all, now)
	}
	slices.Reverse(all)
	return all[:min(len(all), most)]
}

// mark is the next entry to look at. If it was used or removed meanwhile, its time tells where it was.
type mark struct {
	next *stickEntry
	used time.Time
}

// someOf appends the next entries of a list.
func (t *stickTable) someOf(l *list.List[stickEntry], most int, at mark, all []stickKept, now time.Time) ([]stickKept, mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := l.Tail
	if e := at.next; e != nil && e.listed.Of != nil && e.hearsay == (l == &t.heard) && e.used.Equal(at.used) {
		n = &e.listed
	}
	for n != nil && n.Of.used.Before(at.used) {
		n = n.Prev
	}
	for i := 0; i < most && n != nil; i++ {
		if e := n.Of; e.at != nil && !t.expired(e, now) {
			all = append(all, stickKept{e.id, e.version, e.at.id, now.Sub(e.lastUse(now, t.ttl))})
		}
		n = n.Prev
	}
	if n == nil {
		return all, mark{}
	}
	return all, mark{n.Of, n.Of.used}
}

// appendStick appends an entry. Its endpoint is a number, or 0 and its ID if it is the next one.
func appendStick(dst []byte, k stickKept, seats map[string]uint64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, k.id)
	seat := seats[k.at]
	if dst = binary.AppendUvarint(dst, seat); seat == 0 {
		dst = appendText(dst, k.at)
	}
	return binary.AppendUvarint(appendSpan(dst, k.age), k.version)
}

// Restore takes over a snapshot. What is in the table already stays. Endpoints that are not met within ten
// minutes are forgotten.
func (t *stickTable) Restore(snapshot []byte, age time.Duration, now time.Time) error {
	all, err := readStick(openSnapshot(t.SnapshotName(), snapshot), t.kinds)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(all, inOneGo) {
		t.restore(some, age, now)
	}
	return nil
}

// restore adds entries that were kept.
func (t *stickTable) restore(all []stickKept, age time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range all {
		k.age += max(age, 0)
		if t.byID[k.id] != nil || k.age > t.ttl {
			continue
		}
		if len(t.byID) >= t.max {
			return
		}
		if at := t.names.named(k.at, now); at != nil && (at.ep == nil || !at.ep.Load.Retired()) {
			e := &stickEntry{id: k.id, at: at, used: now.Add(-k.age), version: k.version}
			t.byID[k.id] = e
			t.used.Push(e, &e.listed)
		}
	}
}

func readStick(r snapshotReader, allowed kinds) (all []stickKept, err error) {
	var seats []string
	for range r.Count("number of entries", LimitMaxSessions) {
		k := stickKept{id: r.Uint64()}
		switch seat := r.Count("endpoint", uint64(len(seats))); {
		case seat > 0:
			k.at = seats[seat-1]
		case r.Err() == nil:
			k.at = r.text("ID")
			seats = append(seats, k.at)
		}
		k.age, k.version = r.span("age"), r.Count("version", 1<<64-1)
		if r.Err() == nil && !allowed.has(k.id) {
			r.Failf("key %x is of another kind", k.id)
		}
		if r.Err() != nil {
			return nil, r.end()
		}
		all = append(all, k)
	}
	return all, r.end()
}
