package admission_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// gateways are Controllers that share, over a network that delays, loses, repeats and reorders messages. Like a
// sharing.Group it passes over what is older than what was heard of the same gateway.
type gateways struct {
	t     *testing.T
	clock *fakeClock
	rnd   *rand.Rand // what comes
	net   *rand.Rand // what becomes of messages
	all   []*gateway

	every, whole, delay time.Duration
	lost, repeated      float64 // parts of the messages
	cut                 func(from, to int) bool
	onTheWay            []message
}

type gateway struct {
	*admission.Controller
	ep    *types.Endpoint
	tick  uint64
	next  time.Duration // when it tells peers
	whole time.Duration // when it told all
	heard map[int]uint64
}

type message struct {
	at       time.Duration
	from, to int
	tick     uint64
	accounts []types.Account
}

var epoch = newClock().now

func (g *gateways) now() time.Duration { return g.clock.now.Sub(epoch) }

func newGateways(t *testing.T, n int, seed uint64, o func(i int) admission.Options) *gateways {
	t.Helper()
	g := &gateways{t: t, clock: newClock(), rnd: rand.New(rand.NewPCG(seed, 5)), net: rand.New(rand.NewPCG(seed, 6)), every: 100 * time.Millisecond, whole: time.Second, delay: 100 * time.Millisecond, lost: 0.01, repeated: 0.01}
	for i := range n {
		o := o(i)
		o.Clock = g.clock
		c, err := admission.New(o)
		require.NoError(t, err)
		w := &gateway{Controller: c, ep: types.NewEndpoint(fmt.Sprintf("e%d", i), "10.0.0.1:8000"), heard: map[int]uint64{}, next: time.Duration(i) * g.every / time.Duration(n)}
		c.Put(w.ep)
		g.all = append(g.all, w)
	}
	return g
}

// connect tells all how many peers they have.
func (g *gateways) connect() {
	for _, w := range g.all {
		w.PeersAlive(len(g.all) - 1)
	}
}

// pass lets time pass, in which gateways tell and hear.
func (g *gateways) pass(d time.Duration) {
	for end := g.now() + d; g.now() < end; {
		g.clock.pass(min(end-g.now(), 10*time.Millisecond))
		for i, w := range g.all {
			if g.now() >= w.next {
				g.tell(i, w)
			}
		}
		g.deliver()
	}
}

func (g *gateways) tell(i int, w *gateway) {
	w.next = g.now() + time.Duration(float64(g.every)*(0.9+0.2*g.net.Float64()))
	w.tick++
	m := message{from: i, tick: w.tick}
	whole := g.now()-w.whole >= g.whole
	if whole {
		w.whole = g.now()
	}
	w.ShareAccounts(whole, func(a types.Account) { m.accounts = append(m.accounts, a) })
	for to := range g.all {
		if to == i || g.net.Float64() < g.lost || g.cut != nil && g.cut(i, to) {
			continue
		}
		m.to = to
		for n := 1; n == 1 || g.net.Float64() < g.repeated; n++ {
			m.at = g.now() + time.Duration(float64(g.delay)*(0.5+g.net.Float64()))
			g.onTheWay = append(g.onTheWay, m)
		}
	}
}

func (g *gateways) deliver() {
	g.onTheWay = slices.DeleteFunc(g.onTheWay, func(m message) bool {
		if m.at > g.now() {
			return false
		}
		w := g.all[m.to]
		if m.tick >= w.heard[m.from] {
			w.heard[m.from] = m.tick
			for _, a := range m.accounts {
				w.HearAccount(m.from+1, a)
			}
		}
		return true
	})
}

func (g *gateways) check() {
	g.t.Helper()
	for _, w := range g.all {
		require.NoError(g.t, w.CheckInvariants(true))
	}
}
