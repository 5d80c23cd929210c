package sharing

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// This file is how a gateway that begins is told by a peer what that knows:
//
//	want: of whom (16 bytes), number of the question (8), how many pages are missing, and which; none: all
//	page: for whom (16), number of the question (8), size of the snapshot, number of the page, and pageSize bytes
//	      of it, or what is left; a size of 0: there is nothing to tell
//
// All hear all of it, and pass over what is not for them. What is asked for and does not come is asked for again. Who
// asks does not trust: a snapshot has its bounds, its checksums, and parts that check what they read.

// Bounds of telling snapshots.
const (
	// pageSize leaves room for what else is in a message.
	pageSize = 60 << 10
	// youngFor is for how long a gateway is one that begins: it may ask, and has nothing to tell.
	youngFor = 5 * time.Second
	// mostTries is how often a gateway asks, mostAgain how often for pages that are missing, and mostAsking for how
	// long it waits for all of them.
	mostTries  = 3
	mostAgain  = 3
	mostAsking = 2 * time.Second
	// patience is for how long nothing may come, if telling by Options.Every and MaxRate does not take longer.
	patience = 300 * time.Millisecond
	// mostAskers is how many are told at the same time.
	mostAskers = 4
	// remade is how old a snapshot may be that somebody is told who asks, and keptPages how long the pages of who
	// asked are kept.
	remade    = time.Second
	keptPages = 3 * time.Second
	// sendFor is within which time what is told can be sent, at half of Options.MaxRate.
	sendFor = 1500 * time.Millisecond
)

// paging is both sides of it. It is guarded by Group.turn.
type paging struct {
	asker
	giver
}

// asker is a gateway that begins.
type asker struct {
	began time.Time // when this gateway told something for the first time; zero: it has not
	done  bool      // it has a snapshot, or has given up

	tries int
	asked []origin
	// Of the question that is open, if any is.
	open   bool
	of     origin
	id     uint64
	at     time.Time // when it was asked
	news   time.Time // when a page came last that was missing; or when it was asked again
	again  int
	size   int      // of the snapshot; 0: no page came
	pages  [][]byte // nil: missing
	missed int
	name   string // of the peer, for people
	whole  []byte // all of it; nil: some is missing
}

// young reports whether this gateway begins.
func (a *asker) young(now time.Time) bool { return a.began.IsZero() || now.Sub(a.began) < youngFor }

// next says what is to be asked now, of peers that are alive, the first heard first; nil: nothing. wait is for how
// long nothing may come.
func (a *asker) next(now time.Time, peers []*peer, wait time.Duration) *want {
	if a.began.IsZero() {
		a.began = now
	}
	if a.done || a.whole != nil {
		return nil
	}
	if a.open {
		switch {
		case now.Sub(a.at) > mostAsking, a.size == 0 && now.Sub(a.at) >= wait, a.again == mostAgain && now.Sub(a.news) >= wait:
			a.close()
		case a.size > 0 && now.Sub(a.news) >= wait:
			a.again++
			a.news = now
			return &want{a.of, a.id, a.missing()}
		default:
			return nil
		}
	}
	if a.tries == mostTries || !a.young(now) {
		a.done = true
		return nil
	}
	whom := a.choose(peers)
	if whom == nil {
		return nil
	}
	a.tries++
	a.asked = append(a.asked, whom.origin)
	a.open, a.of, a.id, a.at, a.news, a.again, a.name = true, whom.origin, rand.Uint64(), now, now, 0, cmp.Or(whom.name, whom.from)
	return &want{a.of, a.id, nil}
}

// choose returns the peer that was asked the fewest times, the first of them; nil: there is none.
func (a *asker) choose(peers []*peer) (best *peer) {
	least := mostTries
	for _, p := range peers {
		n := 0
		for _, o := range a.asked {
			if o == p.origin {
				n++
			}
		}
		if n < least {
			best, least = p, n
		}
	}
	return best
}

// close ends a question without an answer.
func (a *asker) close() { a.open, a.size, a.pages = false, 0, nil }

func (a *asker) missing() (pages []int) {
	for i, p := range a.pages {
		if p == nil {
			pages = append(pages, i)
		}
	}
	return pages
}

// hears takes over a page from a peer; what is no answer to the question is passed over. most bounds a snapshot.
func (a *asker) hears(from origin, p page, most int, now time.Time) error {
	switch {
	case !a.open || a.whole != nil || from != a.of || p.id != a.id:
		return nil
	case p.size == 0:
		a.close()
		return nil
	case p.size > most:
		a.close()
		return fmt.Errorf("has a snapshot of %d bytes, want at most %d", p.size, most)
	case a.size == 0:
		a.size, a.pages = p.size, make([][]byte, pagesOf(p.size))
		a.missed = len(a.pages)
	case p.size != a.size: // it is another one
		return nil
	}
	begin, end := bounds(p.number, p.size)
	if p.number >= len(a.pages) || len(p.data) != end-begin {
		return errors.New("has a page of a wrong size")
	}
	if a.pages[p.number] != nil {
		return nil
	}
	a.pages[p.number] = slices.Clone(p.data)
	a.news = now
	if a.missed--; a.missed == 0 {
		a.whole = slices.Concat(a.pages...)
		a.close()
	}
	return nil
}

// take returns the snapshot that has come, if one has, and from whom: once.
func (a *asker) take() (snapshot []byte, name string) {
	if a.whole == nil {
		return nil, ""
	}
	snapshot, a.whole, a.done = a.whole, nil, true
	return snapshot, a.name
}

// pagesOf is how many pages a snapshot has.
func pagesOf(size int) int { return (size + pageSize - 1) / pageSize }

// bounds are where a page begins and ends.
func bounds(number, size int) (begin, end int) {
	return min(number*pageSize, size), min((number+1)*pageSize, size)
}

// giver is a gateway that is asked.
type giver struct {
	snapshot []byte    // made last; nil: none is kept
	made     time.Time // when
	asking   []asking
	left     float64 // bytes that may be sent
	told     time.Time
}

// asking is somebody who asked.
type asking struct {
	origin
	id       uint64
	snapshot []byte // nil: it is yet to be made
	pages    []int  // to be told
	nothing  bool   // there is nothing to be told
	told     bool   // that
	at       time.Time
}

// hears takes over a question of a peer.
func (v *giver) hears(from origin, w want, seasoned bool, now time.Time) {
	i := slices.IndexFunc(v.asking, func(a asking) bool { return a.origin == from })
	if i >= 0 && v.asking[i].id == w.id { // asked again
		a := &v.asking[i]
		if pages := pagesOf(len(a.snapshot)); len(a.pages) == 0 && pages > 0 {
			a.at = now
			a.pages = slices.DeleteFunc(slices.Clone(w.missing), func(n int) bool { return n >= pages })
			a.pages = a.pages[:min(len(a.pages), pages)]
		}
		return
	}
	a := asking{origin: from, id: w.id, nothing: !seasoned, at: now}
	switch {
	case i >= 0:
		v.asking[i] = a
	case len(v.asking) < mostAskers:
		v.asking = append(v.asking, a)
	}
}

// forget lets go of what nobody asks for any more.
func (v *giver) forget(now time.Time) {
	v.asking = slices.DeleteFunc(v.asking, func(a asking) bool { return now.Sub(a.at) > keptPages })
	if len(v.asking) == 0 && now.Sub(v.made) > remade {
		v.snapshot = nil
	}
}

// needs reports whether a snapshot is to be made for somebody who asked.
func (v *giver) needs(now time.Time) bool {
	wanted := slices.ContainsFunc(v.asking, func(a asking) bool { return a.snapshot == nil && !a.nothing })
	return wanted && (v.snapshot == nil || now.Sub(v.made) > remade)
}

// has hands the snapshot of now to those who asked for one.
func (v *giver) has(snapshot []byte, made time.Time) {
	v.snapshot, v.made = snapshot, made
	v.hand()
}

// hand gives those who have none the snapshot that was made.
func (v *giver) hand() {
	for i := range v.asking {
		a := &v.asking[i]
		if a.snapshot != nil || a.nothing || v.snapshot == nil {
			continue
		}
		if a.nothing = len(v.snapshot) == 0; !a.nothing {
			a.snapshot = v.snapshot
			for n := range pagesOf(len(a.snapshot)) {
				a.pages = append(a.pages, n)
			}
		}
	}
}

// tell calls send for each page that is to be sent now, at so many bytes in a second.
func (v *giver) tell(rate float64, now time.Time, send func(to origin, p page)) {
	v.left = min(v.left+max(now.Sub(v.told).Seconds(), 0)*rate, max(rate/5, pageSize))
	v.told = now
	for i := range v.asking {
		a := &v.asking[i]
		if a.nothing && !a.told {
			a.told = true
			send(a.origin, page{id: a.id})
		}
		for ; len(a.pages) > 0 && v.left >= pageSize; a.pages = a.pages[1:] {
			begin, end := bounds(a.pages[0], len(a.snapshot))
			v.left -= float64(end - begin)
			send(a.origin, page{a.id, len(a.snapshot), a.pages[0], a.snapshot[begin:end]})
			a.at = now
		}
	}
}

// want asks a peer for a snapshot, or for the pages of it that are missing.
type want struct {
	of      origin
	id      uint64
	missing []int
}

// mostPages is how many pages a snapshot may have.
const mostPages = (LimitMaxSnapshot + pageSize - 1) / pageSize

func (w *want) size() int { return len(w.of) + 8 + binary.MaxVarintLen16*(1+len(w.missing)) }

func (w *want) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, w.of[:]...), w.id)
	dst = binary.AppendUvarint(dst, uint64(len(w.missing)))
	for _, n := range w.missing {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return dst
}

func (r reader) want() (w want) {
	copy(w.of[:], r.Bytes(len(w.of)))
	w.id = r.Uint64()
	for range r.Count("pages", mostPages) {
		w.missing = append(w.missing, int(r.Count("pages", mostPages)))
		if r.Err() != nil {
			break
		}
	}
	return w
}

// page is a page of a snapshot.
type page struct {
	id     uint64
	size   int // of the snapshot; 0: there is none
	number int
	data   []byte
}

const pageHead = 16 + 8 + 3*binary.MaxVarintLen32

func (p *page) append(dst []byte, to origin) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, to[:]...), p.id)
	dst = binary.AppendUvarint(dst, uint64(p.size))
	dst = binary.AppendUvarint(dst, uint64(p.number))
	dst = binary.AppendUvarint(dst, uint64(len(p.data)))
	return append(dst, p.data...)
}

// page reads the rest of a page that begins with for whom it is.
func (r reader) page() (p page) {
	p.id = r.Uint64()
	p.size, p.number = int(r.Count("size of the snapshot", LimitMaxSnapshot)), int(r.Count("pages", mostPages))
	p.data = r.Bytes(int(r.Count("size of the page", pageSize)))
	return p
}

// ofPeers reports whether what a peer knows is as good for a part.
func ofPeers(p SnapshotPart) bool {
	_, ok := p.(PeerSnapshotPart)
	return ok
}

// pass makes the snapshot that a peer asked for, and restores the one that a peer told: what takes longer than others
// can wait for g.turn.
func (g *Group) pass(now time.Time) {
	k := &g.keeping
	g.turn.Lock()
	k.pages.forget(now)
	needs := k.pages.needs(now)
	snapshot, name := k.pages.take()
	g.turn.Unlock()
	if needs {
		room := min(g.o.MaxSnapshot, int(sendFor.Seconds()*g.pageRate()))
		made := g.appendSnapshot([]byte{}, room, true, now)
		g.turn.Lock()
		k.pages.has(made, now)
		g.turn.Unlock()
	}
	if snapshot != nil && !g.restoreFrom(name, snapshot, now) {
		g.turn.Lock()
		k.pages.done = false // perhaps another peer has a better one
		g.turn.Unlock()
	}
}

// pageRate is how many bytes of snapshots are sent in a second.
func (g *Group) pageRate() float64 { return float64(g.o.MaxRate) / 2 }

// restoreFrom takes over the snapshot of a peer, whatever its clock says, and reports whether anything was of use.
func (g *Group) restoreFrom(name string, snapshot []byte, now time.Time) bool {
	if _, err := readHeader(snapshot, g.o.MaxSnapshot); err != nil {
		g.o.Logger.Warn("sharing: the snapshot of a peer was not restored", "peer", name, "error", err)
		return false
	}
	done := g.restore(snapshot, 0, now, true)
	g.tellRestored(&done, "the snapshot of peer "+name)
	return done.Taken() > 0
}

// tellSnapshots asks for a snapshot, and tells what others asked for. Caller must hold g.turn.
func (g *Group) tellSnapshots(w *writer, now time.Time) {
	k := &g.keeping.pages
	if !g.o.Without.Snapshots {
		if q := k.next(now, g.askable(), g.patience()); q != nil {
			w.begin(kindWant, 0)
			w.end(q.append(w.item(q.size())))
		}
	}
	k.hand()
	k.tell(g.pageRate(), now, func(to origin, p page) {
		w.begin(kindPage, 0)
		w.end(p.append(w.item(pageHead+len(p.data)), to))
	})
}

// patience is for how long nothing may come that was asked for.
func (g *Group) patience() time.Duration {
	perPage := time.Duration(pageSize / g.pageRate() * float64(time.Second))
	return max(patience, 4*g.o.Every, 3*perPage)
}

// askable returns the peers that can be asked for a snapshot, the first heard first: none if it would be of no use.
// Caller must hold g.turn.
func (g *Group) askable() []*peer {
	k := &g.keeping
	if k.restored && k.age <= 3*g.o.SaveEvery || k.pages.done {
		return nil
	}
	if !slices.ContainsFunc(g.scopes, func(s *scope) bool { return slices.ContainsFunc(s.parts.snapshots, ofPeers) }) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.peers.list)
}

// hearWant takes over that a peer asks for a snapshot.
func (g *Group) hearWant(from *peer, r reader, now time.Time) error {
	w := r.want()
	if err := r.Err(); err != nil || w.of != g.origin || g.o.Without.Snapshots {
		return err
	}
	k := &g.keeping
	k.pages.giver.hears(from.origin, w, k.restored || !k.pages.young(now), now)
	return nil
}

// hearPage takes over a page of a snapshot.
func (g *Group) hearPage(from *peer, r reader, now time.Time) error {
	if to := r.Bytes(len(g.origin)); r.Err() != nil || !bytes.Equal(to, g.origin[:]) {
		return r.Err()
	}
	p := r.page()
	if err := r.Err(); err != nil {
		return err
	}
	return g.keeping.pages.asker.hears(from.origin, p, g.o.MaxSnapshot, now)
}
