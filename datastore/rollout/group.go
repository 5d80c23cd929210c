package rollout

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/figures"
)

// This file is what gateways tell each other of their rollouts, in notes:
//
//	version     1 byte
//	name, id    of the gateway
//	settled     1 byte: it may lead
//	rollouts:   object, plan    8 bytes each, hashes
//	            leads           1 byte
//	            requests in flight of the stable target and of the canary
//	            state           JSON, with its length before it
//	            window          as AppendBinary writes it, with its length before it
//
// The newest note of a gateway counts. It may lack rollouts, if there are many: what was heard of them before
// goes on being used.

const (
	noteVersion = 1
	// maxGateway bounds the name of a gateway, in bytes.
	maxGateway = 256
	// noteRoom bounds a note, in bytes, and mostNoted the rollouts in it.
	noteRoom  = 16 << 10
	mostNoted = 1000
	// settling is how long a gateway that begins listens before it leads.
	settling = 3 * time.Second
	// insisting is how long one that led waits for another one to take its state over.
	insisting = 10 * time.Second
)

// group is this gateway among those whose notes it hears.
type group struct {
	name   string
	id     uint64 // which of that name
	expect bool   // there are to be notes

	mu sync.Mutex
	// guarded by mu
	peers   map[int]*peer
	first   time.Time // when it was asked who leads for the first time
	leading bool      // this gateway did when it was asked last
	turn    int       // which rollout is the first of the next note
}

// peer is another gateway.
type peer struct {
	name    string
	id      uint64
	settled bool
	of      map[objectKey]*heard
}

// objectKey is an object, as notes have it.
type objectKey uint64

func keyOf(o Object) objectKey {
	return objectKey(hashOf(fmt.Sprintf("%q %q %q %d", o.Kind, o.Name.Namespace, o.Name.Name, o.Rule)))
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// heard is what a peer has said of a rollout.
type heard struct {
	plan           uint64
	leads          bool
	stranger       bool // it led already when it was first heard of
	stable, canary int  // requests in flight
	state          []byte
	window         []byte
	fresh          bool // the window was not taken over yet
}

func newGroup(o Options) *group {
	return &group{name: o.Name, id: rand.Uint64(), expect: o.Peers, peers: map[int]*peer{}}
}

// least reports whether this gateway is the one of the least name among those that may lead.
func (g *group) least(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leading = g.leaderLocked(now) == nil && g.settledLocked(now)
	return g.leading
}

// settledLocked reports whether this gateway may lead: it has listened for a while, and knows who does.
func (g *group) settledLocked(now time.Time) bool {
	if !g.expect {
		return true
	}
	if g.first.IsZero() || now.Before(g.first) { // the clock was set back
		g.first = now
	}
	return now.Sub(g.first) >= settling
}

// leaderLocked returns the peer that leads, by its name; nil: this gateway does.
func (g *group) leaderLocked(now time.Time) *peer {
	var best *peer
	for _, p := range g.peers {
		// Who leads goes on until another one has listened; who does not waits for that one.
		if (p.settled || !g.leading) && (best == nil || p.before(best.name, best.id)) {
			best = p
		}
	}
	if best != nil && g.settledLocked(now) && !best.before(g.name, g.id) {
		return nil
	}
	return best
}

func (p *peer) before(name string, id uint64) bool {
	return cmp.Or(cmp.Compare(p.name, name), cmp.Compare(p.id, id)) < 0
}

// leader names the gateway that leads.
func (g *group) leader(now time.Time) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch p := g.leaderLocked(now); {
	case p != nil:
		return "gateway " + p.name
	case !g.settledLocked(now):
		return "again in a moment: this gateway has just begun, and listens who leads"
	}
	return "gateway " + g.name
}

// hear takes over a note.
func (g *group) hear(number int, note []byte) error {
	r := figures.NewReader(slices.Clone(note))
	if v := r.Byte(); v != noteVersion && r.Err() == nil {
		r.Failf("has version %d, want %d", v, noteVersion)
	}
	name, id := r.String("name of a gateway", maxGateway), r.Uint64()
	settled := r.Byte() == 1
	type one struct {
		key objectKey
		heard
	}
	var all []one
	for r.More() && len(all) < mostNoted {
		o := one{key: objectKey(r.Uint64())}
		o.plan, o.leads = r.Uint64(), r.Byte() == 1
		o.stable, o.canary = int(r.Count("requests in flight", math.MaxInt32)), int(r.Count("requests in flight", math.MaxInt32))
		o.state = r.Bytes(int(r.Count("length of a state", MaxState)))
		o.window = r.Bytes(int(r.Count("length of a window", noteRoom)))
		o.fresh = len(o.window) > 0
		all = append(all, o)
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("rollout: a note %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.peers[number]
	if p == nil || p.id != id {
		p = &peer{of: map[objectKey]*heard{}}
		g.peers[number] = p
	}
	p.name, p.id, p.settled = name, id, settled
	for _, o := range all {
		h := o.heard
		if had := p.of[o.key]; had != nil {
			h.stranger = had.stranger
			if len(h.window) == 0 {
				h.window, h.fresh = had.window, had.fresh
			}
		} else {
			if len(p.of) >= mostNoted {
				continue
			}
			h.stranger = h.leads
		}
		p.of[o.key] = &h
	}
	return nil
}

// lose forgets a peer.
func (g *group) lose(number int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.peers, number)
}

// names returns those of the peers, in order.
func (g *group) names() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for _, p := range g.peers {
		all = append(all, p.name)
	}
	slices.Sort(all)
	return all
}

// each calls f for what peers have said of a rollout with the same plan, in the order of who would lead.
func (g *group) each(r *rollout, f func(*peer, *heard)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*peer
	for _, p := range g.peers {
		if h := p.of[r.key]; h != nil && h.plan == r.hash {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *peer) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id)) })
	for _, p := range all {
		f(p, p.of[r.key])
	}
}

// windows returns what peers have seen and was not returned before.
func (g *group) windows(r *rollout, now time.Time) map[string]*Window {
	all := map[string]*Window{}
	g.each(r, func(p *peer, h *heard) {
		if !h.fresh {
			return
		}
		h.fresh = false
		if w, err := DecodeWindow(&r.plan, h.window, now); err == nil {
			all[fmt.Sprintf("%s#%x", p.name, p.id)] = w
		}
	})
	return all
}

// inFlight returns how many requests both targets have at the peers.
func (g *group) inFlight(r *rollout) map[string]int {
	n := map[string]int{}
	g.each(r, func(_ *peer, h *heard) {
		n[r.plan.Stable] += h.stable
		n[r.plan.Canary] += h.canary
	})
	return n
}

// said returns the state of the peer that leads; if none does, the newest.
func (g *group) said(r *rollout) (state State, leads, ok bool) {
	g.each(r, func(_ *peer, h *heard) {
		s, err := DecodeState(h.state)
		if err != nil || s.Plan != r.print {
			return
		}
		if !ok || h.leads && !leads || h.leads == leads && !leads && s.Seq > state.Seq {
			state, leads, ok = s, h.leads, true
		}
	})
	return state, leads, ok
}

// strangers returns the states of peers that led by themselves, as long as they do, and until settle is called.
func (g *group) strangers(r *rollout) (all []State) {
	g.each(r, func(_ *peer, h *heard) {
		if s, err := DecodeState(h.state); h.stranger && h.leads && err == nil && s.Plan == r.print {
			all = append(all, s)
		}
	})
	return all
}

// settle takes those that were strangers for peers as all others.
func (g *group) settle(r *rollout) {
	g.each(r, func(_ *peer, h *heard) { h.stranger = false })
}

// safer returns the one of two states of a plan from which traffic comes to the least harm: one that was aborted, or
// else the one with less for the canary. It is the same whichever comes first, but for states as safe as each other:
// then it is the first. Where the stable target may have been unloaded by then, the canary has won for good.
func safer(p *Plan, a, b State) State {
	if danger(p, &b) < danger(p, &a) {
		return b
	}
	return a
}

// danger orders states: the safest is the least.
func danger(p *Plan, s *State) int {
	won := s.Phase == Finishing || s.Phase == Done
	switch {
	case won && p.Load.Unload:
		return -1
	case s.Phase == Aborting || s.Phase == Failed:
		return 0
	}
	return 1 + int(s.Weight(p.Canary))
}

// note is what this gateway says of a rollout.
type note struct {
	key            objectKey
	plan           uint64
	leads          bool
	stable, canary int
	state          []byte
	window         []byte
}

// tell appends a note. Of more rollouts than there is room for, others come the next time.
func (g *group) tell(dst []byte, now time.Time, all []note) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	begin := len(dst)
	dst = append(dst, noteVersion)
	dst = figures.AppendString(dst, g.name)
	dst = binary.BigEndian.AppendUint64(dst, g.id)
	dst = append(dst, flag(g.settledLocked(now)))
	for i := range all {
		n := &all[(g.turn+i)%len(all)]
		if len(dst)-begin+64+len(n.state)+len(n.window) > noteRoom {
			g.turn = (g.turn + i) % len(all)
			return dst
		}
		dst = binary.BigEndian.AppendUint64(dst, uint64(n.key))
		dst = binary.BigEndian.AppendUint64(dst, n.plan)
		dst = append(dst, flag(n.leads))
		dst = binary.AppendUvarint(dst, uint64(max(n.stable, 0)))
		dst = binary.AppendUvarint(dst, uint64(max(n.canary, 0)))
		dst = append(binary.AppendUvarint(dst, uint64(len(n.state))), n.state...)
		dst = append(binary.AppendUvarint(dst, uint64(len(n.window))), n.window...)
	}
	return dst
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
