package sharing

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/figures"
)

// This file is the form of snapshots, which are what a gateway that begins is told by the one before it, or by a peer:
//
//	magic     4 bytes, the last of which is the version of the form
//	time      8 bytes, when it was made, in milliseconds of Unix
//	checksum  4 bytes, of all before it
//	sections: name of a scope, name of a part, which one of that name it is (1 byte),
//	          length (4), checksum of the section but for this (4), and what the part wrote
//
// In a snapshot for a peer a section without a name of a part goes before those of a scope: the keys of its endpoints
// in messages (8 bytes each), and the IDs that they have there. Fixed numbers are big-endian, names have their length as a uvarint before them, checksums are CRC-32C.

const (
	snapshotMagic  = "ipw\x01"
	snapshotHeader = len(snapshotMagic) + 8 + 4
	// mostPartName bounds the names of scopes and parts in a snapshot, in bytes.
	mostPartName = 1 << 10
	// mostSameName is how many parts of one name a scope may have.
	mostSameName = 255
	// futureSlack is by how much a snapshot may be of the future: a clock is set now and then.
	futureSlack = time.Second
	// claimFor is for how long what was restored waits for its scope to be added.
	claimFor = time.Minute
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of parts in Restored.
var (
	// ErrNoPart is that of what is in a snapshot and belongs to no part. It waits a minute for its scope.
	ErrNoPart = errors.New("there is no such part")
	// ErrNotKept is that of a part of which nothing is in the snapshot.
	ErrNotKept = errors.New("nothing of it was kept")
)

// Restored says what became of a snapshot.
type Restored struct {
	// Age is how long ago it was made.
	Age time.Duration
	// Parts are those of the snapshot, in its order, and then those of this gateway that are not in it.
	Parts []RestoredPart
}

// RestoredPart says what became of a part of a snapshot.
type RestoredPart struct {
	Scope, Name string
	Bytes       int
	Err         error // nil: it was taken over; else nothing has changed
}

// Taken returns how many parts were taken over.
func (r *Restored) Taken() (n int) {
	for _, p := range r.Parts {
		if p.Err == nil {
			n++
		}
	}
	return n
}

// keeping is what a Group needs for snapshots.
type keeping struct {
	// mu is held while a snapshot is made or restored, in which parts are called beside all that Group.turn guards.
	mu sync.Mutex
	// guarded by mu
	sizes map[partKey]int // what each part took last

	// guarded by Group.turn
	restored bool          // something was
	age      time.Duration // of the snapshot, when it was restored
	waiting  waiting
	pages    paging
}

// waiting is what was restored and is of no part yet.
type waiting struct {
	sections []keptSection
	made     time.Time // as the age of the snapshot has it
	until    time.Time
}

// partKey names a part in snapshots.
type partKey struct {
	scope, name string
	n           int // which of that name
}

// keptPart is a part with its name in snapshots.
type keptPart struct {
	partKey
	part SnapshotPart // nil: the names of the endpoints
	of   *scope
}

// mostNames bounds the endpoints of a scope in a snapshot for a peer.
const mostNames = 1 << 16

// appendNames appends the keys and the IDs of the endpoints of a scope, in so many bytes.
func (g *Group) appendNames(dst []byte, of *scope, room int) []byte {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.look(of)
	room += len(dst)
	for i, at := range of.places {
		if i == mostNames || len(at.ep.ID) > mostPartName || len(dst)+8+binary.MaxVarintLen16+len(at.ep.ID) > room {
			break
		}
		dst = figures.AppendString(binary.BigEndian.AppendUint64(dst, at.key), at.ep.ID)
	}
	return dst
}

// readNames returns what gives the endpoints of a peer the IDs that they have here.
func (g *Group) readNames(b []byte, of *scope) (func(string) string, error) {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.look(of)
	ids := map[string]string{}
	r := figures.NewReader(b)
	for n := 0; r.More() && n < mostNames; n++ {
		key, id := r.Uint64(), r.String("ID of an endpoint", mostPartName)
		if at := of.byKey[key]; at != nil {
			ids[id] = at.ep.ID
		}
	}
	return func(id string) string { return cmp.Or(ids[id], id) }, r.End()
}

// keptParts returns the parts that have snapshots, each once: one that is in several scopes is of the first. forPeers,
// it returns those that have some for peers, and before those of a scope a nil one, for its names.
func (g *Group) keptParts(forPeers bool) (all []keptPart) {
	g.turn.Lock()
	scopes := slices.Clone(g.scopes)
	g.turn.Unlock()
	seen := map[any]bool{}
	for _, s := range scopes {
		if len(s.Name) > mostPartName {
			continue
		}
		of := map[string]int{}
		for _, part := range s.parts.snapshots {
			if comparable := reflect.ValueOf(part).Comparable(); comparable && seen[part] || forPeers && !ofPeers(part) {
				continue
			} else if comparable {
				seen[part] = true
			}
			name := ""
			g.call(func() { name = part.SnapshotName() })
			if name == "" || len(name) > mostPartName || of[name] > mostSameName {
				continue
			}
			if forPeers && len(of) == 0 {
				all = append(all, keptPart{partKey: partKey{scope: s.Name}, of: s})
			}
			all = append(all, keptPart{partKey{s.Name, name, of[name]}, part, s})
			of[name]++
		}
	}
	return all
}

// AppendSnapshot appends a snapshot of all parts that have one, of at most Options.MaxSnapshot bytes: nothing if there
// are none. Parts are called beside all else that goes on.
func (g *Group) AppendSnapshot(dst []byte, now time.Time) []byte {
	return g.appendSnapshot(dst, g.o.MaxSnapshot, false, now)
}

// appendSnapshot appends a snapshot of all parts, or of those that have one for peers, in so many bytes.
func (g *Group) appendSnapshot(dst []byte, room int, forPeers bool, now time.Time) []byte {
	g.keeping.mu.Lock()
	defer g.keeping.mu.Unlock()
	parts := g.keptParts(forPeers)
	// Names go first, and then what took little the last time, so that what it leaves is for the others.
	slices.SortStableFunc(parts, func(a, b keptPart) int {
		return cmp.Or(cmp.Compare(min(len(a.name), 1), min(len(b.name), 1)), cmp.Compare(g.keeping.sizes[a.partKey], g.keeping.sizes[b.partKey]))
	})
	begin := len(dst)
	dst = append(dst, snapshotMagic...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(now.UnixMilli()))
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[begin:], castagnoli))
	for i, p := range parts {
		s := keptSection{partKey: p.partKey}
		most := (room-(len(dst)-begin))/(len(parts)-i) - s.size()
		if most <= 0 {
			continue
		}
		if p.part == nil {
			s.body = g.appendNames(nil, p.of, most)
		} else {
			g.call(func() { s.body = p.part.AppendSnapshot(nil, most, now) })
		}
		if len(s.body) > most {
			g.log("a part took more than its room for a snapshot", "", "part", p.name, "bytes", len(s.body), "room", most)
			continue
		}
		g.keeping.sizes[p.partKey] = len(s.body)
		if len(s.body) > 0 {
			dst = s.append(dst)
		}
	}
	if len(dst) == begin+snapshotHeader {
		return dst[:begin]
	}
	return dst
}

// keptSection is what a snapshot has of a part.
type keptSection struct {
	partKey
	body []byte
}

// size is how many bytes it takes without what the part wrote, at most.
func (s *keptSection) size() int {
	return 2*binary.MaxVarintLen16 + len(s.scope) + len(s.name) + 1 + 4 + 4
}

func (s *keptSection) append(dst []byte) []byte {
	begin := len(dst)
	dst = figures.AppendString(dst, s.scope)
	dst = figures.AppendString(dst, s.name)
	dst = append(dst, byte(s.n))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.body)))
	dst = binary.BigEndian.AppendUint32(dst, s.sum(dst[begin:]))
	return append(dst, s.body...)
}

// sum returns the checksum of a section, of which head is what goes before it.
func (s *keptSection) sum(head []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, s.body)
}

// readSection reads a section, at the beginning of b, and returns what is after it. wrong is what is wrong with what
// the part wrote; err, that nothing more can be read.
func readSection(b []byte) (s keptSection, rest []byte, wrong, err error) {
	r := figures.NewReader(b)
	s.scope = r.String("name of a scope", mostPartName)
	s.name = r.String("name of a part", mostPartName)
	s.n = int(r.Byte())
	n := r.Uint32()
	head := b[:len(b)-r.Len()]
	sum := r.Uint32()
	if uint64(n) > uint64(r.Len()) {
		r.Fail(figures.ErrCut)
	}
	s.body = r.Bytes(int(n))
	if r.Err() == nil && s.sum(head) != sum {
		wrong = errors.New("has a wrong checksum")
	}
	return s, b[len(b)-r.Len():], wrong, r.Err()
}

// Restore hands to each part what a snapshot has of it, before decisions are made or beside them. now is when. The
// error says why nothing of the snapshot is taken over; else Restored says what became of each part. The snapshot
// is kept for up to a minute, for parts of scopes that are added later.
func (g *Group) Restore(snapshot []byte, now time.Time) (Restored, error) {
	made, err := readHeader(snapshot, g.o.MaxSnapshot)
	if err != nil {
		return Restored{}, err
	}
	age := now.Sub(made)
	switch {
	case age < -futureSlack:
		return Restored{}, fmt.Errorf("sharing: the snapshot was made %v from now: one of the clocks is wrong", -age)
	case age > g.o.MaxSnapshotAge:
		return Restored{}, fmt.Errorf("sharing: the snapshot was made %v ago, want at most %v", age.Round(time.Second), g.o.MaxSnapshotAge)
	}
	return g.restore(snapshot, max(age, 0), now, false), nil
}

// readHeader returns when a snapshot was made.
func readHeader(snapshot []byte, most int) (made time.Time, err error) {
	switch n := len(snapshot); {
	case n > most:
		return made, fmt.Errorf("sharing: the snapshot has %d bytes, want at most %d", n, most)
	case n < snapshotHeader || string(snapshot[:3]) != snapshotMagic[:3]:
		return made, errors.New("sharing: this is no snapshot")
	case snapshot[3] != snapshotMagic[3]:
		return made, fmt.Errorf("sharing: the snapshot has version %d, want %d", snapshot[3], snapshotMagic[3])
	case crc32.Checksum(snapshot[:snapshotHeader-4], castagnoli) != binary.BigEndian.Uint32(snapshot[snapshotHeader-4:]):
		return made, errors.New("sharing: the snapshot has a wrong checksum")
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(snapshot[len(snapshotMagic):]))), nil
}

// restore takes over a snapshot of which the header is right. Of one of a peer, only what is as good for others is.
func (g *Group) restore(snapshot []byte, age time.Duration, now time.Time, ofPeer bool) (done Restored) {
	g.keeping.mu.Lock()
	defer g.keeping.mu.Unlock()
	done.Age = age
	parts := g.keptParts(ofPeer)
	names := map[string]func(string) string{}
	w := waiting{made: now.Add(-age), until: now.Add(claimFor)}
	for b := snapshot[snapshotHeader:]; len(b) > 0; {
		s, rest, wrong, err := readSection(b)
		if err != nil {
			done.Parts = append(done.Parts, RestoredPart{Scope: s.scope, Name: s.name, Err: err})
			break
		}
		b = rest
		i := slices.IndexFunc(parts, func(p keptPart) bool { return p.partKey == s.partKey })
		switch {
		case wrong != nil:
		case i < 0:
			wrong = ErrNoPart
			s.body = slices.Clone(s.body)
			w.sections = append(w.sections, s)
		case parts[i].part == nil:
			names[s.scope], wrong = g.readNames(s.body, parts[i].of)
		default:
			id := names[s.scope]
			if id == nil && ofPeer {
				id = func(id string) string { return id }
			}
			wrong = g.restorePart(parts[i].part, s.body, age, now, id)
		}
		if i >= 0 {
			parts = slices.Delete(parts, i, i+1)
		}
		if s.name != "" || wrong != nil {
			done.Parts = append(done.Parts, RestoredPart{s.scope, s.name, len(s.body), wrong})
		}
	}
	for _, p := range parts {
		if p.part == nil {
			continue
		}
		done.Parts = append(done.Parts, RestoredPart{Scope: p.scope, Name: p.name, Err: ErrNotKept})
	}
	g.turn.Lock()
	defer g.turn.Unlock()
	if done.Taken() > 0 {
		g.keeping.restored, g.keeping.age = true, age
	}
	if !ofPeer {
		g.keeping.waiting = w
	}
	return done
}

// restorePart hands a part what was kept of it: by a peer, if names say how that calls endpoints.
func (g *Group) restorePart(part SnapshotPart, body []byte, age time.Duration, now time.Time, names func(string) string) error {
	err := errors.New("it panicked")
	g.call(func() {
		if p, ok := part.(PeerSnapshotPart); ok && names != nil {
			err = p.RestoreFromPeer(body, names, now)
		} else {
			err = part.Restore(body, age, now)
		}
	})
	return err
}

// claim hands what was restored, and is of no part yet, to those that have been added since.
func (g *Group) claim(now time.Time) {
	k := &g.keeping
	g.turn.Lock()
	w := k.waiting
	if now.After(w.until) {
		k.waiting, w = waiting{}, waiting{}
	}
	g.turn.Unlock()
	if len(w.sections) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	parts := g.keptParts(false)
	left := slices.DeleteFunc(slices.Clone(w.sections), func(s keptSection) bool {
		i := slices.IndexFunc(parts, func(p keptPart) bool { return p.partKey == s.partKey })
		if i < 0 {
			return false
		}
		err := g.restorePart(parts[i].part, s.body, now.Sub(w.made), now, nil)
		g.o.Logger.Info("sharing: a part was restored", "scope", s.scope, "part", s.name, "error", err)
		return true
	})
	g.turn.Lock()
	defer g.turn.Unlock()
	if k.waiting.until.Equal(w.until) { // else there is another snapshot by now
		k.waiting.sections = left
	}
}
