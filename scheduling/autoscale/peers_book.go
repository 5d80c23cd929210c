package autoscale

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"
)

// book is what peers have said last. It has neither a lock nor a clock.
//
// A peer that does not answer is believed to be as it was, for as long as keep. After that what it has is not known,
// and it is missing. One that is a peer no more, fades away within as long: so that a sum never falls because someone was
// not heard.
type book struct {
	keep time.Duration
	self string // Own.Gateway of this gateway, which may be among its peers; empty: not known
	of   map[string]*peerPage
}

// peerPage is what one peer has said.
type peerPage struct {
	own  Own // without a Gateway: it has said nothing
	at   time.Time
	gone bool
	err  error
}

func newBook(keep time.Duration) book { return book{keep: keep, of: map[string]*peerPage{}} }

// page returns that of a peer, which there is.
func (b *book) page(peer string) *peerPage {
	p := b.of[peer]
	if p == nil {
		p = &peerPage{}
		b.of[peer] = p
	}
	p.gone = false
	return p
}

// says takes over what a peer has said.
func (b *book) says(peer string, own Own, now time.Time) {
	p := b.page(peer)
	p.own, p.at, p.err = own, now, nil
}

// fails takes over that a peer could not be asked, or understood.
func (b *book) fails(peer string, err error) { b.page(peer).err = err }

// leaves takes over that a peer is one no more.
func (b *book) leaves(peer string) {
	if p := b.of[peer]; p != nil {
		p.gone = true
	}
}

// only takes over who the peers are.
func (b *book) only(peers []string) {
	for peer, p := range b.of {
		p.gone = p.gone || !slices.Contains(peers, peer)
	}
}

// there returns how many peers there are of which something was heard, if only that it could not be understood.
func (b *book) there() (n int) {
	for _, p := range b.of {
		if !p.gone {
			n++
		}
	}
	return n
}

// answers returns what peers know, each once though it may have several addresses, and how many there are of which that
// is not known. It forgets who has been gone for long.
func (b *book) answers(now time.Time) (answers []Own, missing int) {
	newest := map[string]*peerPage{} // by gateway
	for peer, p := range b.of {
		if p.gone && now.Sub(p.at) >= b.keep {
			delete(b.of, peer)
			continue
		}
		if was := newest[p.own.Gateway]; was == nil || better(p, was) {
			newest[p.own.Gateway] = p
		}
	}
	for _, p := range b.of {
		if p.own.Gateway == "" && !p.gone {
			missing++
		}
	}
	delete(newest, "")
	delete(newest, b.self)
	for _, name := range slices.Sorted(maps.Keys(newest)) {
		switch p := newest[name]; {
		case p.gone:
			answers = append(answers, p.own.faded(1-min(max(now.Sub(p.at).Seconds(), 0)/b.keep.Seconds(), 1)))
		case now.Sub(p.at) > b.keep:
			missing++
		default:
			answers = append(answers, p.own)
		}
	}
	return answers, missing
}

// better reports whether p says more of its gateway than q.
func better(p, q *peerPage) bool {
	if p.gone != q.gone {
		return q.gone
	}
	return p.at.After(q.at)
}

// status returns what there is to say of each peer.
func (b *book) status(now time.Time) (all []PeerStatus) {
	for peer, p := range b.of {
		s := PeerStatus{Peer: peer, Gateway: p.own.Gateway, Gone: p.gone, Err: p.err}
		if s.Gateway != "" {
			s.Age = now.Sub(p.at)
		} else {
			s.Err = cmp.Or(s.Err, errSilent)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b PeerStatus) int { return cmp.Compare(a.Peer, b.Peer) })
	return all
}

var errSilent = errors.New("autoscale: it has not said anything")
