package admission

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/accounts"
	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/types"
)

// This file is what gateways share of admission: what their budgets and tenants were charged, and what they have at
// endpoints. A Controller is a sharing.AccountPart and a sharing.LoadPart; that package is above this one.

// PeerStats is what a Controller knows of other gateways.
type PeerStats struct {
	// Alive is how many share with this one.
	Alive int
	// Accounts is how many budgets and tenants were charged here that they are told of.
	Accounts int
	// Heard is how often they have told of one. Of these Ignored said what cannot be, and Cut
	// took more than there was, which was not believed.
	Heard, Ignored, Cut uint64
}

// ShareAccounts calls tell for what was charged to budgets and tenants since the last call; or,
// if whole, of late. Nothing is kept for it before the first call of any method that is for
// sharing. tell may call any method.
// Calls of the methods that are for sharing must come one at a time.
func (c *Controller) ShareAccounts(whole bool, tell func(types.Account)) {
	for _, a := range c.accountsToTell(whole) {
		tell(a)
	}
}

func (c *Controller) accountsToTell(whole bool) []types.Account {
	d := c.lock()
	defer c.unlock()
	return d.tellAccounts(whole)
}

// HearAccount takes over what another gateway has charged. What is said of budgets and tenants
// that are not here makes none.
func (c *Controller) HearAccount(peer int, a types.Account) {
	d := c.lock()
	defer c.unlock()
	d.hearAccount(peer, a)
}

// LosePeer forgets another gateway. What it has charged stays charged.
func (c *Controller) LosePeer(peer int) {
	d := c.lock()
	defer c.unlock()
	d.shared.book.LosePeer(peer)
}

// PeersAlive is told how many other gateways there are.
func (c *Controller) PeersAlive(n int) {
	d := c.lock()
	defer c.unlock()
	s := d.shared
	s.begin(d.now)
	if s.alive = max(n, 0); s.tells {
		s.peers = s.alive
	}
}

// PeersChanged takes note that other gateways have more or less at endpoints (types.Load.Peers).
func (c *Controller) PeersChanged(eps []*types.Endpoint, _ time.Time) {
	d := c.lock()
	defer c.unlock()
	for _, ep := range eps {
		if x := d.cellOf(ep); x != nil {
			if d.detector.served != nil {
				d.measure(x)
			}
			d.later(x, news{})
		}
	}
	d.changed = true
}

// shared is what is kept for other gateways, and of them.
type shared struct {
	on     bool          // somebody asks
	since  time.Duration // it is
	book   *accounts.Book
	alive  int // other gateways
	tells  bool
	peers  int // those that accounts are shared with: none, if that is switched off
	epochs accounts.Epochs
	delay  time.Duration          // until peers have heard a message
	kept   map[keptKey]remembered // of a snapshot, until it is of use
	until  time.Duration          // it may be
}

// begin has accounts kept, from the first call on.
func (s *shared) begin(now time.Duration) {
	if !s.on {
		s.on, s.since = true, now
	}
}

// active reports whether accounts are of use.
func (s *shared) active(now time.Duration) bool {
	if s.kept != nil && now > s.until {
		s.kept = nil
	}
	return s.on || len(s.kept) > 0
}

// elsewhere notes that peers are told at an instant, and returns what is known of them.
func (s *shared) elsewhere(now time.Duration) fair.Elsewhere {
	passed := s.epochs.Tell(now)
	const late = 4 // times as long as is not known
	return fair.Elsewhere{
		Peers: s.peers, Epoch: s.epochs.At(now, s.delay),
		Kept: math.Exp(-passed.Seconds() / (late * s.epochs.Unknown(s.delay).Seconds())), Unknown: 1.0 / late,
	}
}

// ofAll says whose a budget is, if it is not only this gateway's.
func (s *shared) ofAll() string {
	if s.peers == 0 {
		return ""
	}
	return fmt.Sprintf(" of %d gateways together", s.peers+1)
}

// sharedMeter is what a meter has beside while its budget is shared.
type sharedMeter struct {
	*shared
	account          *accounts.Account
	requests, tokens accounts.Guard
	at               time.Duration // to which these are aged
	metRequests      accounts.Meeting
	metTokens        accounts.Meeting
	largest          float64 // tokens of one request here
}

// The kinds of accounts.
const (
	budgetAccount = "budget"
	tenantAccount = "tenant"
)

// keyOfMeter names a meter by whose it is: gateways that declare other bounds for the same, as while a change is
// rolled out, still have the same requests.
func keyOfMeter(m *meter) uint64 {
	return accounts.Key(budgetAccount, m.Tenant, m.Model, m.key.tenant, m.key.model)
}

func keyOfTenant(priority int, tenant string) uint64 {
	return accounts.Key(tenantAccount, strconv.Itoa(priority), tenant)
}

// use prepares a meter that is filled up to now to be charged.
func (s *shared) use(m *meter, now time.Duration) {
	if !s.active(now) {
		return
	}
	if m.shared == nil {
		m.shared = &sharedMeter{shared: s, at: now - 1} // it is aged next
	}
	if a := m.shared.account; a == nil || a.Dropped() {
		s.open(m, now)
	}
	m.age(now)
}

// open gives a meter an account. What live peers said of it is taken over: a gateway that knows nothing of a budget
// would give it out anew.
func (s *shared) open(m *meter, now time.Duration) {
	m.shared.account = s.book.Account(keyOfMeter(m), m, now)
	s.book.Said(m.shared.account.Key, now, func(said *accounts.Said, age time.Duration) {
		m.atMost(said.RequestsLeft, said.TokensLeft, age)
		said.Took(m.mostRequests()-m.requests, m.mostTokens()-m.tokens) // by it, or by others
	})
	s.recallMeter(m, now)
}

// atMost leaves no more in the buckets than was left some time ago; NaN: that is not known.
func (m *meter) atMost(requests, tokens float64, age time.Duration) {
	leastRequests, leastTokens := m.floors()
	if left := requests + age.Minutes()*m.RequestsPerMinute; left < m.requests {
		m.requests = max(left, min(m.requests, leastRequests))
	}
	if left := tokens + age.Minutes()*m.TokensPerMinute; left < m.tokens {
		m.tokens = max(left, min(m.tokens, leastTokens))
	}
}

// age has what was taken of late count less.
func (m *meter) age(now time.Duration) {
	s := m.shared
	if s.at == now {
		return
	}
	epoch, past := s.epochs.At(now, s.delay), (now - s.at).Seconds()
	s.at = now
	requests, tokens := m.buckets()
	s.requests.Age(epoch, past, &requests)
	s.tokens.Age(epoch, past, &tokens)
}

// buckets are the two of a meter.
func (m *meter) buckets() (requests, tokens accounts.Bucket) {
	s := m.shared
	b := accounts.Bucket{Peers: s.peers, Unknown: s.epochs.Unknown(s.delay).Seconds()}
	requests, tokens = b, b
	requests.Size, requests.PerSecond = m.mostRequests(), m.RequestsPerMinute/60
	tokens.Size, tokens.PerSecond = m.mostTokens(), m.TokensPerMinute/60
	return requests, tokens
}

// over is for how many minutes buckets are filled beyond what they hold: what a peer takes is heard some time later,
// in which a bucket that was full would have been filled again.
func (s *sharedMeter) over() float64 {
	if s == nil || s.peers == 0 {
		return 0
	}
	return s.epochs.Unknown(s.delay).Minutes() / 2
}

// wait returns when a bucket has enough beside what others take meanwhile.
func (s *sharedMeter) wait(g *accounts.Guard, have, want float64, b accounts.Bucket) time.Duration {
	if b.PerSecond == 0 || have-g.Others(want, &b) >= want {
		return 0
	}
	return s.epochs.Unknown(s.delay)
}

// take takes note of what was taken here.
func (s *sharedMeter) take(requests, tokens float64) {
	s.requests.Take(requests)
	s.tokens.Take(tokens)
	s.largest = max(s.largest, tokens)
	s.book.Charge(s.account, requests, tokens, s.at)
}

// floors are how low the buckets may be because of what a peer says: one burst, and a request of each gateway, for
// all may let one in at the same time.
func (m *meter) floors() (requests, tokens float64) {
	if m.shared == nil {
		return -m.mostRequests(), -m.mostTokens()
	}
	all := float64(m.shared.peers + 1)
	return -m.mostRequests() - all, -m.mostTokens() - all*m.shared.largest
}

// hear takes off what a peer has charged.
func (m *meter) hear(n *accounts.News, a types.Account, now time.Duration) (cut bool) {
	m.fill(now)
	m.age(now)
	s := m.shared
	if n.First {
		n.Requests, n.Tokens = m.meet(a, now)
	}
	leastRequests, leastTokens := m.floors()
	requests, cutRequests := accounts.Drop(m.requests, n.Requests, leastRequests)
	tokens, cutTokens := accounts.Drop(m.tokens, n.Tokens, leastTokens)
	if !n.First {
		s.requests.Hear(m.requests - requests)
		s.tokens.Hear(m.tokens - tokens)
	}
	n.Took(m.requests-requests, m.tokens-tokens)
	m.requests, m.tokens = requests, tokens
	return cutRequests && m.RequestsPerMinute > 0 || cutTokens && m.TokensPerMinute > 0
}

// justStarted is for how long a gateway has, and soon what flows in while gateways get to know each other.
const (
	justStarted = 5 * time.Second
	soon        = 2 * time.Second
)

// meet returns what a peer has taken that is not known, when it is heard for the first time.
func (m *meter) meet(a types.Account, now time.Duration) (requests, tokens float64) {
	s := m.shared
	isNew := now-s.since <= justStarted
	requests = s.metRequests.Take(accounts.Met{
		Taken: a.Requests, Left: a.RequestsLeft, Size: m.mostRequests(), Level: m.requests, Own: s.account.Requests, Fresh: s.requests.Fresh(), Soon: soon.Minutes() * m.RequestsPerMinute,
	}, isNew)
	tokens = s.metTokens.Take(accounts.Met{
		Taken: a.Tokens, Left: a.TokensLeft, Size: m.mostTokens(), Level: m.tokens, Own: s.account.Tokens, Fresh: s.tokens.Fresh(), Soon: soon.Minutes() * m.TokensPerMinute,
	}, isNew)
	return requests, tokens
}

// said is the account of a meter as peers are told of it.
func (m *meter) said(now time.Duration) (requestsLeft, tokensLeft float64) {
	m.fill(now)
	requestsLeft, tokensLeft = math.NaN(), math.NaN()
	if m.RequestsPerMinute > 0 {
		requestsLeft = min(m.requests, m.mostRequests())
	}
	if m.TokensPerMinute > 0 {
		tokensLeft = min(m.tokens, m.mostTokens())
	}
	return requestsLeft, tokensLeft
}

// accountOf returns the account of a ticket's tenant, nil if tenants do not count or nobody asks.
func (d *desk) accountOf(t *Ticket) *accounts.Account {
	s := d.shared
	if !s.active(d.now) || d.o.Fairness == FirstCome {
		return nil
	}
	f := t.item.Flow()
	a, _ := f.Of.(*accounts.Account)
	if a == nil || a.Dropped() {
		isNew := a == nil
		a = s.book.Account(keyOfTenant(f.Band().Priority, f.Tenant()), f, d.now)
		f.Of = a
		if isNew {
			d.recallTenant(f, a.Key)
		}
	}
	return a
}

// charge takes note of what a ticket's tenant was charged.
func (d *desk) charge(t *Ticket, requests, tokens float64) {
	if a := d.accountOf(t); a != nil {
		d.shared.book.Charge(a, requests, tokens, d.now)
	}
}

func (d *desk) tellAccounts(whole bool) (told []types.Account) {
	s := d.shared
	s.begin(d.now)
	s.tells, s.peers = true, s.alive
	d.queues.Settle(s.elsewhere(d.now))
	notFull := func(a *accounts.Account) bool {
		m, ok := a.Of.(*meter)
		if ok {
			m.fill(d.now)
		}
		return ok && !m.full()
	}
	s.book.Tell(whole, d.now, notFull, func(a *accounts.Account) {
		one := types.Account{Key: a.Key, Requests: a.Requests, Tokens: a.Tokens, RequestsLeft: math.NaN(), TokensLeft: math.NaN()}
		if m, ok := a.Of.(*meter); ok {
			one.RequestsLeft, one.TokensLeft = m.said(d.now)
		}
		told = append(told, one)
	})
	return told
}

func (d *desk) hearAccount(peer int, a types.Account) {
	s := d.shared
	s.begin(d.now)
	n, ok := s.book.Hear(peer, a, d.now)
	if !ok {
		return
	}
	cut := false
	switch of := n.Own.Of.(type) {
	case *meter:
		cut = of.hear(&n, a, d.now)
	case *fair.Flow:
		cut = d.hearTenant(of, &n)
	}
	if cut {
		s.book.Cut++
	}
}

const (
	// mostHeard bounds the weighted tokens that a tenant may be heard to have been served at a time.
	mostHeard = 1 << 20
	// mostFirst is up to how many requests all that a peer has let in is taken to be of late.
	mostFirst = 32
)

func (d *desk) hearTenant(f *fair.Flow, n *accounts.News) (cut bool) {
	if n.First && n.Requests > mostFirst {
		return false // what of it was of late is not known
	}
	tokens := min(max(n.Tokens, -mostHeard), mostHeard)
	cut = tokens != n.Tokens
	n.Took(n.Requests, tokens)
	d.queues.Hear(f, n.Requests, tokens)
	n.Own.Elsewhere += tokens
	infoOf(f.Band(), d.o.Bands).counts.Elsewhere += tokens
	return cut
}

// peerStats returns what is known of other gateways.
func (d *desk) peerStats() PeerStats {
	s := d.shared
	return PeerStats{Alive: s.alive, Accounts: s.book.Len(), Heard: s.book.Heard, Ignored: s.book.Wild, Cut: s.book.Cut}
}
