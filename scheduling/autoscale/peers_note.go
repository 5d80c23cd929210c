package autoscale

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/figures"
	"github.com/inferpick/inferpick/internal/guard"
)

// This file is the form of notes. What a gateway knows is its Own in JSON, compressed, in pages of a note each:
//
//	which it is of what the gateway has said, a number that grows (8 bytes), how many pages it has (1), flags (1),
//	and the page
//
// All pages of one number are one. No pages: it is too long.

// NotePeers is Peers that tell each other what they know, once a second, through package sharing: for gateways that
// share other things, too. Make it with NewNotePeers, hand it to Options.Peers, and have its Parts shared:
//
//	err := group.Set(sharing.Scope{Name: "autoscale", Parts: peers.Parts()})
//
// All gateways of the Group must do so: one that is heard and has no notes of this kind is missing.
//
// What a peer has said stands for NotePeersOptions.Keep if nothing newer comes, then it is missing. What one had that
// has gone counts less and less for as long.
type NotePeers struct {
	o     NotePeersOptions
	parts [notePages]notePart

	mu sync.Mutex
	// guarded by mu
	own    func() Own // nil: nobody asks yet
	looks  func()     // has recommendations made at once
	began  time.Time  // when something was to be told first
	alive  int        // peers
	book   book
	heard  map[int]*heardPages // by number of the peer
	made   time.Time           // when what is told was made
	number uint64
	pages  [][]byte
	soon   bool // it is to be made anew at once

	zip zipper // of whoever tells
}

// NotePeersOptions say how peers are told. The zero value is good.
type NotePeersOptions struct {
	// Every is how often what this gateway knows is told. Default 1 s.
	Every time.Duration
	// Keep is for how long what a peer said stands if it says nothing newer. Default DefaultKeepAnswers.
	Keep time.Duration
	// Gateways is how many there should be in all, if that is known, as of a Deployment: those that are not heard are
	// missing. Without it a part of them that is cut off from the others takes itself for all after Keep.
	Gateways func() int
	// Now is the clock; it is that of the Group. Default time.Now, which also takes its place where it panics.
	Now func() time.Time
}

const (
	notePages    = 16       // of a gateway
	mostPage     = 15 << 10 // sharing.MaxNote with room to spare
	noteHead     = 8 + 1 + 1
	mostInflated = 4 << 20

	// noteNeeds is the flag of what is told because something came for a pool that has no replicas.
	noteNeeds = 1
	// settling is for how long a gateway that begins waits for peers before it takes itself for the only one.
	settling = 3 * time.Second
)

// heardPages are the pages of one peer.
type heardPages struct {
	number uint64
	pages  [][]byte
	left   int
	flags  byte
	whole  []byte // all of them, not read yet; nil: none
	at     time.Time
}

// notePart is a sharing.NotePart.
type notePart struct {
	of   *NotePeers
	page int
}

// NewNotePeers returns NotePeers that have heard nothing. The error names the option that is wrong.
func NewNotePeers(o NotePeersOptions) (*NotePeers, error) {
	wrong := check.Checks{Package: "autoscale"}
	check.Default(&wrong, "Every", &o.Every, time.Second, 50*time.Millisecond, time.Minute)
	check.Default(&wrong, "Keep", &o.Keep, max(DefaultKeepAnswers, 3*o.Every), 2*o.Every, mostKeepAnswers)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	} else {
		o.Now = guard.Clock("NotePeersOptions.Now", o.Now, nil)
	}
	p := &NotePeers{o: o, book: newBook(o.Keep), heard: map[int]*heardPages{}, number: rand.Uint64() >> 1}
	for i := range p.parts {
		p.parts[i] = notePart{p, i}
	}
	return p, nil
}

// Parts returns what is to be shared: the same ones each time.
func (p *NotePeers) Parts() (parts []any) {
	for i := range p.parts {
		parts = append(parts, &p.parts[i])
	}
	return parts
}

func (p *NotePeers) bind(a *Autoscaler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own, p.looks, p.book.self = a.Own, a.lookSoon, a.gateway
}

func (p *NotePeers) tellSoon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.soon = true
}

// Ask implements Peers. It waits for nobody.
func (p *NotePeers) Ask(context.Context) (answers []Own, missing int, err error) {
	now := p.o.Now()
	expected := 0
	if p.o.Gateways != nil {
		if p := guard.Call("NotePeersOptions.Gateways", func() { expected = p.o.Gateways() - 1 }); p != nil {
			return nil, 0, fmt.Errorf("autoscale: %w", p)
		}
	}
	p.read()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.began.IsZero():
		return nil, 0, errors.New("autoscale: NotePeers.Parts are not shared by a Group that runs")
	case p.alive == 0 && now.Sub(p.began) < settling:
		expected = max(expected, 1)
	}
	answers, missing = p.book.answers(now)
	return answers, missing + max(max(p.alive, expected)-p.book.there(), 0), nil
}

// Peers returns what there is to say of each peer that has said something.
func (p *NotePeers) Peers() []PeerStatus {
	p.read()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.status(p.o.Now())
}

// read reads what has come.
func (p *NotePeers) read() {
	p.mu.Lock()
	whole := map[int]*heardPages{}
	for peer, h := range p.heard {
		if h.whole != nil {
			whole[peer] = &heardPages{number: h.number, whole: h.whole, at: h.at}
			h.whole = nil
		}
	}
	p.mu.Unlock()
	for peer, h := range whole {
		own, err := readNote(h.whole)
		p.mu.Lock()
		switch name := strconv.Itoa(peer); {
		case p.heard[peer] == nil: // it has gone meanwhile
		case err != nil:
			p.book.fails(name, err)
		default:
			p.book.says(name, own, h.at)
		}
		p.mu.Unlock()
	}
}

// readNote reads what a gateway has said.
func readNote(whole []byte) (Own, error) {
	data, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(whole)), mostInflated+1))
	switch {
	case err != nil:
		return Own{}, fmt.Errorf("autoscale: what a gateway says: %w", err)
	case len(data) > mostInflated:
		return Own{}, fmt.Errorf("autoscale: what a gateway says is larger than %d bytes", mostInflated)
	}
	return ParseOwn(data)
}

// zipper has memory for what a gateway says. It is for one goroutine.
type zipper struct {
	out bytes.Buffer
	w   *flate.Writer
}

// note returns what a gateway says, which is valid until the next call.
func (z *zipper) note(own Own) []byte {
	own.Version = ownVersion
	signals := make([]Signals, len(own.Signals))
	for i, s := range own.Signals {
		s.shorten()
		signals[i] = s
	}
	own.Signals = signals
	data, err := json.Marshal(own)
	if err != nil {
		return nil // no value of ours: Figures marshal whatever they are
	}
	if z.out.Reset(); z.w == nil {
		z.w, _ = flate.NewWriter(&z.out, flate.BestSpeed) // the level is one that there is
	}
	z.w.Reset(&z.out)
	_, _ = z.w.Write(data)
	_ = z.w.Close() // a Buffer takes everything
	return z.out.Bytes()
}

// shorten rounds figures to 6 digits, for others do not need more.
func (s *Signals) shorten() {
	for _, f := range s.figures() {
		*f.Figure = Figure(round(float64(*f.Figure)))
	}
	for _, v := range []*float64{&s.Speed.Token, &s.Speed.Step, &s.Speed.Sequence} {
		*v = round(*v)
	}
}

func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(v))))
	if r := math.Round(v*scale) / scale; !math.IsNaN(r) && !math.IsInf(r, 0) {
		return r
	}
	return v
}

// make makes what is told, if that is due.
func (p *NotePeers) make(now time.Time) {
	own, number, flags := p.due(now)
	if own == nil {
		return
	}
	pages := pagesOf(p.zip.note(own()), number, flags)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pages = pages
}

// due returns what tells what this gateway knows, and how it is to be marked; nil: what was made before will do.
func (p *NotePeers) due(now time.Time) (own func() Own, number uint64, flags byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		p.began = now
	}
	if !p.soon && !p.made.IsZero() && now.Sub(p.made) < p.o.Every && !now.Before(p.made) {
		return nil, 0, 0
	}
	if p.soon {
		flags = noteNeeds
	}
	p.soon, p.made = false, now
	p.number++
	return p.own, p.number, flags
}

// pagesOf cuts what a gateway says into pages.
func pagesOf(whole []byte, number uint64, flags byte) (pages [][]byte) {
	n := (len(whole) + mostPage - 1) / mostPage
	if n > notePages {
		n, whole = 0, nil
	}
	for i := range max(n, 1) {
		page := append(binary.BigEndian.AppendUint64(nil, number), byte(n), flags)
		pages = append(pages, append(page, whole[min(i*mostPage, len(whole)):min((i+1)*mostPage, len(whole))]...))
	}
	return pages
}

// NoteName implements sharing.NotePart.
func (n *notePart) NoteName() string { return fmt.Sprintf("autoscale/%d.%d", ownVersion, n.page) }

// AppendNote implements sharing.NotePart.
func (n *notePart) AppendNote(dst []byte, now time.Time) []byte {
	p := n.of
	if n.page == 0 { // it comes first
		p.make(now)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.page < len(p.pages) {
		dst = append(dst, p.pages[n.page]...)
	}
	return dst
}

// HearNote implements sharing.NotePart.
func (n *notePart) HearNote(peer int, note []byte, now time.Time) {
	if looks := n.of.hears(peer, n.page, note, now); looks != nil {
		looks()
	}
}

// hears takes over a page, and returns what is to be done at once, nil if nothing is.
func (p *NotePeers) hears(peer, page int, note []byte, now time.Time) (looks func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := figures.NewReader(note)
	number, of, flags := r.Uint64(), int(r.Byte()), r.Byte()
	if r.Err() != nil || of > notePages || page >= max(of, 1) {
		return nil // it says nothing, which it is known for after Keep
	}
	h := p.heard[peer]
	switch {
	case h == nil:
		h = &heardPages{}
		p.heard[peer] = h
		fallthrough
	case number > h.number:
		*h = heardPages{number: number, pages: make([][]byte, of), left: of, flags: flags, whole: h.whole, at: h.at}
	}
	switch {
	case number != h.number || of != len(h.pages):
		return nil
	case of == 0:
		p.book.fails(strconv.Itoa(peer), fmt.Errorf("autoscale: what it knows does not fit in %d notes", notePages))
		return nil
	case h.pages[page] != nil:
		return nil
	}
	h.pages[page] = append([]byte{}, note[noteHead:]...)
	if h.left--; h.left > 0 {
		return nil
	}
	h.whole, h.at = bytes.Join(h.pages, nil), now
	for i := range h.pages { // they are not needed, but for that they have come
		h.pages[i] = []byte{}
	}
	if h.flags&noteNeeds != 0 {
		return p.looks
	}
	return nil
}

// LosePeer implements sharing.NotePart.
func (n *notePart) LosePeer(peer int) {
	if n.page > 0 {
		return
	}
	p := n.of
	p.read()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.heard, peer)
	p.book.leaves(strconv.Itoa(peer))
}

// PeersAlive implements sharing.AlivePart.
func (n *notePart) PeersAlive(alive int) {
	p := n.of
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive = alive
}

var _ Peers = (*NotePeers)(nil)
