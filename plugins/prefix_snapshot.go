package plugins

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/inferpick/inferpick/internal/figures"
	"github.com/inferpick/inferpick/internal/hearsay"
	"github.com/inferpick/inferpick/internal/prefixindex"
)

// This file is a PrefixCache as a sharing.SnapshotPart. What is kept of the index are anchors, as they are told to
// other gateways, and what the sizes of caches were learned to be: see past for what becomes of it.
//
// The form of a snapshot: the size of blocks, whether tenants are kept apart, and what a block is hashed to; then the
// endpoints, each with its ID, the capacity as it was set, the part of it that is believed, and its anchors, the last
// used first.

// Bounds of what is read.
const (
	mostKept   = 1 << 16 // endpoints
	mostKeptID = 1 << 10 // bytes of an endpoint's ID
)

// keptCapacity is what was learned of the size of a cache: see prefixindex.Index.Learned.
type keptCapacity struct {
	set     int
	learned float64
}

// keptServer is what is kept of an endpoint. anchors are in the bytes that they were read of, if they were.
type keptServer struct {
	id string
	keptCapacity
	anchors []uint64
}

// SnapshotName implements sharing.SnapshotPart.
func (p *PrefixCache) SnapshotName() string { return "prefix/1" }

// AppendSnapshot implements sharing.SnapshotPart.
func (p *PrefixCache) AppendSnapshot(dst []byte, room int, now time.Time) []byte {
	if room -= prefixHead; room < 0 {
		return dst
	}
	kept := p.keep(room, now)
	dst = p.appendFit(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(kept)))
	for _, k := range kept {
		dst = figures.AppendString(dst, k.id)
		dst = binary.AppendUvarint(dst, uint64(k.set))
		dst = figures.AppendFloat(dst, k.learned)
		dst = binary.AppendUvarint(dst, uint64(len(k.anchors)))
		for _, a := range k.anchors {
			dst = binary.BigEndian.AppendUint64(dst, a)
		}
	}
	return dst
}

// prefixHead is how much goes before the endpoints.
const prefixHead = 4 + 1 + 8 + 4

// appendFit appends what must be the same for hashes to mean the same.
func (p *PrefixCache) appendFit(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.index.Options().BlockBytes))
	apart := byte(0)
	if p.isolate {
		apart = 1
	}
	dst = append(dst, apart)
	return binary.BigEndian.AppendUint64(dst, p.fingerprint())
}

// fingerprint is the hash of a block of zeros.
func (p *PrefixCache) fingerprint() uint64 {
	h := p.index.Hasher(prefixindex.Seed("snapshot"))
	return h.Append(nil, make([]byte, p.index.Options().BlockBytes))[0]
}

// keep returns what is to be kept, in about so many bytes: of each endpoint such a part of it as is of all, the last
// used first, and then what was heard and not asked for yet.
func (p *PrefixCache) keep(room int, now time.Time) []keptServer {
	var kept []keptServer
	var handles []prefixindex.Endpoint
	var held []int
	all := 0
	for _, s := range p.servers.all() {
		if s == nil || room < keptBytes(s.id) || len(s.id) > mostKeptID || len(kept) == mostKept {
			continue
		}
		room -= keptBytes(s.id)
		set, learned := p.index.Learned(s.handle)
		if set == 0 {
			continue // it goes just now
		}
		n, _ := p.index.Usage(s.handle)
		kept = append(kept, keptServer{id: s.id, keptCapacity: keptCapacity{set, learned}})
		handles, held = append(handles, s.handle), append(held, n)
		all += n
	}
	words := room / 8
	for i := range kept {
		most := 0
		if all > 0 {
			most = int(float64(words) * float64(held[i]) / float64(all))
		}
		kept[i].anchors = p.index.AppendAnchors(nil, handles[i], most)
		words -= len(kept[i].anchors)
		all -= held[i]
	}
	byID := make(map[string]int, len(kept))
	for i, k := range kept {
		byID[k.id] = i
	}
	w := keptWords{kept, byID, 8 * words}
	if o := p.past.Load(); o != nil {
		w.addPast(o)
	}
	if in := p.peers.in.Load(); in != nil {
		w.addHeard(in, now)
	}
	return w.kept
}

// keptBytes is what an endpoint takes in a snapshot at most, without its anchors.
func keptBytes(id string) int { return len(id) + 2 + 5 + 8 + 5 }

// keptWords adds what is known only by hearsay to what is kept, as far as there is room.
type keptWords struct {
	kept []keptServer
	byID map[string]int
	room int // bytes
}

// of returns the entry of an endpoint, which it adds if there is none; nil: there is no room.
func (w *keptWords) of(id string, capacity keptCapacity) *keptServer {
	i, there := w.byID[id]
	if !there {
		if w.room < keptBytes(id) || len(w.kept) == mostKept || len(id) > mostKeptID {
			return nil
		}
		w.room -= keptBytes(id)
		i = len(w.kept)
		w.byID[id] = i
		w.kept = append(w.kept, keptServer{id: id, keptCapacity: capacity})
	}
	return &w.kept[i]
}

func (w *keptWords) add(to *keptServer, anchors ...uint64) {
	anchors = anchors[:min(len(anchors), w.room/8)]
	w.room -= 8 * len(anchors)
	to.anchors = append(to.anchors, anchors...)
}

// addPast adds what was restored and not asked for yet.
func (w *keptWords) addPast(o *past) {
	for i, k := range o.kept {
		if anchors := o.unasked(i); len(anchors) > 0 {
			if to := w.of(k.id, k.keptCapacity); to != nil {
				w.add(to, anchors...)
			}
		}
	}
}

// addHeard adds what peers said and was not asked for yet, the last heard first.
func (w *keptWords) addHeard(in *placedIn, now time.Time) {
	in.mu.RLock()
	ids := make(map[uint32]string, len(in.numbers))
	for id, n := range in.numbers {
		ids[n] = id
	}
	in.mu.RUnlock()
	heard := in.table.Fresh(nil, in.since(now))
	slices.SortFunc(heard, func(a, b hearsay.Word) int { return cmp.Compare(a.Age, b.Age) })
	for _, word := range heard {
		if id, known := ids[word.Who]; known {
			if to := w.of(id, keptCapacity{}); to != nil {
				w.add(to, word.Hash)
			}
		}
	}
}

// Restore implements sharing.SnapshotPart.
func (p *PrefixCache) Restore(snapshot []byte, age time.Duration, now time.Time) error {
	r := figures.NewReader(snapshot)
	kept := p.readSnapshot(r)
	if err := r.End(); err != nil {
		return err
	}
	p.restore(kept, age, now)
	return nil
}

// readSnapshot reads what AppendSnapshot wrote.
func (p *PrefixCache) readSnapshot(r *figures.Reader) []keptServer {
	p.readFit(r)
	var kept []keptServer
	n := r.Uint32()
	if n > mostKept {
		r.Failf("has %d endpoints, want at most %d", n, mostKept)
	}
	for range min(n, mostKept) {
		if r.Err() != nil {
			return nil
		}
		k := keptServer{id: r.String("ID of an endpoint", mostKeptID)}
		k.set = int(r.Count("capacity of an endpoint", prefixindex.MaxCapacity))
		k.learned = r.Float("part of the capacity", 0, 1)
		k.anchors = make([]uint64, r.Items("number of anchors", uint64(r.Len()), 8))
		for i := range k.anchors {
			k.anchors[i] = r.Uint64()
		}
		kept = append(kept, k)
	}
	return kept
}

// readFit fails if hashes mean something else here.
func (p *PrefixCache) readFit(r *figures.Reader) {
	block, apart, fingerprint := r.Uint32(), r.Byte() != 0, r.Uint64()
	switch own := p.index.Options().BlockBytes; {
	case r.Err() != nil:
	case int(block) != own:
		r.Failf("has prompts in blocks of %d bytes, here they are of %d", block, own)
	case apart != p.isolate:
		r.Failf("keeps tenants apart: %t, here: %t", apart, p.isolate)
	case fingerprint != p.fingerprint():
		r.Failf("has other hashes")
	}
}

// RestoreFromPeer implements sharing.PeerSnapshotPart.
func (p *PrefixCache) RestoreFromPeer(snapshot []byte, id func(string) string, now time.Time) error {
	r := figures.NewReader(snapshot)
	kept := p.readSnapshot(r)
	if err := r.End(); err != nil {
		return err
	}
	p.restore(renamed(kept, id), 0, now)
	return nil
}

// renamed gives endpoints the IDs that they have here.
func renamed(kept []keptServer, id func(string) string) []keptServer {
	for i := range kept {
		kept[i].id = id(kept[i].id)
	}
	return kept
}
