// Package accounts keeps what gateways tell each other of what they charged: the accounts of this one, and what
// was heard of the others'. It has no lock and no clock: callers guard it, and instants are theirs.
package accounts

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/types"
)

// Bounds, but for that of the accounts.
const (
	// kept is for how long an account is kept that is not charged. Of what a peer said nothing counts any more
	// after heardTTL: one that has forgotten an account, and begins it anew, is not misunderstood.
	kept     = 10 * time.Minute
	heardTTL = 9 * time.Minute
	// lateCharged is how long ago an account was charged that is told again and again, and mostTold how many are.
	lateCharged = 10 * time.Second
	mostTold    = 4096
	// mostTotal is what a sum of charges may be: beyond it one more token makes no difference to a float64.
	mostTotal = 1 << 53
	// mostFall is how much a sum may fall at once, if by more than half: what falls further has begun anew.
	mostFall = 1 << 20
	// perAccount is for how many peers what they say of as many accounts as this gateway may have is kept.
	perAccount = 4
)

// Account is what this gateway has charged to something, since it started.
type Account struct {
	Key uint64
	// Of is what is charged; nil: nothing that is here any more.
	Of any
	// Requests and Tokens are the sums.
	Requests, Tokens float64
	// Elsewhere is the tokens that other gateways were heard to have charged.
	Elsewhere float64

	at      time.Duration // when it was charged last, or made
	round   uint64        // of the Book then
	dropped bool
	node    list.Node[Account]
}

// Dropped reports whether the account has made room for others: another is to be made.
func (a *Account) Dropped() bool { return a.dropped }

// Key returns the name of an account: the same in all gateways, and no client can choose names so that its usage
// is held against another.
func Key(kind string, parts ...string) uint64 {
	h := sha256.New()
	for _, s := range append([]string{kind}, parts...) {
		h.Write(binary.AppendUvarint(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// Book is all accounts. Make it with New.
type Book struct {
	most  int
	own   map[uint64]*Account
	used  list.List[Account] // the longest unused first
	round uint64

	peers map[int]*peer
	heard int // in all peers
	Counts
}

// Counts is what became of what peers said.
type Counts struct {
	// Heard is how many accounts peers have told of, again and again.
	Heard uint64
	// Wild is those that said what cannot be, which was ignored.
	Wild uint64
	// Cut is those that said more than was believed.
	Cut uint64
}

// peer is what one peer said, the longest ago first.
type peer struct {
	said map[uint64]*Said
	list list.List[Said]
}

// Said is what a peer said last of one account.
type Said struct {
	types.Account
	At time.Duration

	requests, tokens float64 // what was taken off here for it
	node             list.Node[Said]
}

// New returns a Book of at most so many accounts.
func New(most int) *Book {
	return &Book{most: most, round: 1, own: map[uint64]*Account{}, peers: map[int]*peer{}}
}

// SetMost changes how many accounts there may be.
func (b *Book) SetMost(most int) {
	b.most = most
	b.makeRoom(0)
}

// Len returns how many accounts there are.
func (b *Book) Len() int { return len(b.own) }

// Account returns an account, and makes it if it is new: that which was unused the longest makes room. It is
// charged for of.
func (b *Book) Account(key uint64, of any, now time.Duration) *Account {
	a := b.own[key]
	if a == nil {
		b.makeRoom(1)
		a = &Account{Key: key}
		b.own[key] = a
		b.touch(a, now)
	}
	a.Of = of
	return a
}

func (b *Book) makeRoom(n int) {
	for b.used.Head != nil && len(b.own)+n > b.most {
		b.drop(b.used.Head.Of)
	}
}

func (b *Book) drop(a *Account) {
	b.used.Remove(&a.node)
	delete(b.own, a.Key)
	a.dropped, a.Of = true, nil
}

func (b *Book) touch(a *Account, now time.Duration) {
	if a.node.Of != nil {
		b.used.Remove(&a.node)
	}
	a.at, a.round = now, b.round
	b.used.Push(a, &a.node)
}

// Charge adds to an account, or takes off. One that was dropped is left alone.
func (b *Book) Charge(a *Account, requests, tokens float64, now time.Duration) {
	if a.dropped {
		return
	}
	a.Requests = max(a.Requests+requests, 0) // a refund may be of before the account was made
	a.Tokens = max(a.Tokens+tokens, 0)
	b.touch(a, now)
}

// Tell calls tell for the accounts that were charged since the last call; or, if whole, for those of late, and
// those of which more says that peers should know though they were charged longer ago.
func (b *Book) Tell(whole bool, now time.Duration, more func(*Account) bool, tell func(*Account)) {
	for b.used.Head != nil && now-b.used.Head.Of.at > kept {
		b.drop(b.used.Head.Of)
	}
	n := 0
	for at := b.used.Tail; at != nil; at = at.Prev {
		a := at.Of
		if a.round != b.round && (!whole || n >= mostTold) {
			break
		}
		n++
		if (a.Requests > 0 || a.Tokens > 0) && (a.round == b.round || now-a.at <= lateCharged || more(a)) {
			tell(a)
		}
	}
	b.round++
}

// News is what a peer has charged since it was heard last.
type News struct {
	// Own is the account here; nil: there is none.
	Own              *Account
	Requests, Tokens float64
	// First is set where the peer was not heard of this account before, or is not known to have been: then
	// Requests and Tokens are all that it has charged since it started.
	First bool

	said *Said
}

// Took notes how much of it was taken off here.
func (n *News) Took(requests, tokens float64) { n.said.Took(requests, tokens) }

// Took notes how much was taken off here: the peer can give back no more.
func (s *Said) Took(requests, tokens float64) {
	s.requests = max(s.requests+requests, 0)
	s.tokens = max(s.tokens+tokens, 0)
}

// Hear takes what a peer says of an account. Of those that are not here only budgets are kept, for they may come
// to be. False: there is nothing new.
func (b *Book) Hear(from int, a types.Account, now time.Duration) (n News, ok bool) {
	b.Heard++
	if !sane(a) {
		b.Wild++
		return n, false
	}
	n = News{Own: b.own[a.Key], Requests: a.Requests, Tokens: a.Tokens, First: true}
	if n.Own == nil && math.IsNaN(a.RequestsLeft) && math.IsNaN(a.TokensLeft) {
		return n, false
	}
	if n.Own != nil && n.Own.Of == nil {
		n.Own = nil
	}
	s, known := b.said(from, a.Key)
	if known {
		b.peers[from].list.Remove(&s.node)
	}
	if known && now-s.At <= heardTTL && !beganAnew(&s.Account, &a) {
		n.Requests, n.Tokens, n.First = max(a.Requests-s.Requests, -s.requests), max(a.Tokens-s.Tokens, -s.tokens), false
	} else {
		s.requests, s.tokens = 0, 0
	}
	n.said, s.Account, s.At = s, a, now
	b.peers[from].list.Push(s, &s.node)
	return n, n.Own != nil
}

// sane reports whether an account may be what a peer has.
func sane(a types.Account) bool {
	return a.Requests >= 0 && a.Requests <= mostTotal && a.Tokens >= 0 && a.Tokens <= mostTotal
}

// beganAnew reports whether a sum has fallen further than corrections explain.
func beganAnew(was, is *types.Account) bool {
	fell := func(was, is float64) bool { return is < was/2 && was-is > mostFall }
	return fell(was.Requests, is.Requests) || fell(was.Tokens, is.Tokens)
}

// said returns where what a peer says of an account is kept, and whether it said something before. Of the peer that
// said the most what it said the longest ago makes room.
func (b *Book) said(from int, key uint64) (s *Said, known bool) {
	p := b.peers[from]
	if p == nil {
		p = &peer{said: map[uint64]*Said{}}
		b.peers[from] = p
	}
	s = p.said[key]
	if known = s != nil; !known {
		for b.heard >= perAccount*b.most {
			b.forgetOldest()
		}
		s = new(Said)
		p.said[key] = s
		b.heard++
	}
	return s, known
}

func (b *Book) forgetOldest() {
	var most *peer
	for _, p := range b.peers {
		if most == nil || len(p.said) > len(most.said) {
			most = p
		}
	}
	oldest := most.list.Head
	delete(most.said, oldest.Of.Key)
	most.list.Remove(oldest)
	b.heard--
}

// LosePeer forgets what a peer said.
func (b *Book) LosePeer(from int) {
	if p := b.peers[from]; p != nil {
		b.heard -= len(p.said)
		delete(b.peers, from)
	}
}

// Said calls f with what each peer said of an account, not too long ago, and how long ago.
func (b *Book) Said(key uint64, now time.Duration, f func(s *Said, age time.Duration)) {
	for _, p := range b.peers {
		if s := p.said[key]; s != nil && now-s.At <= heardTTL {
			f(s, now-s.At)
		}
	}
}
