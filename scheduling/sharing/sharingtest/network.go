package sharingtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/heap"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// Link is what happens to messages on the way from one member of a Network to another. The zero value delivers
// each once, in order and without delay.
type Link struct {
	// Delay is how long a message is on the way at least.
	Delay time.Duration
	// Jitter is how much longer it may be, at random: messages overtake each other.
	Jitter time.Duration
	// Loss is the part of messages that get lost, 0 to 1.
	Loss float64
	// Duplicates is the part of messages that come twice, 0 to 1.
	Duplicates float64
}

// NetworkOptions say what a Network is like. The zero value loses nothing.
type NetworkOptions struct {
	// Link is what all ways between two members are like.
	Link Link
	// Seed decides what happens to which message. The n-th message from one member to another meets the same
	// fate in each network of the same seed, whatever the others do.
	Seed uint64
	// Echo delivers messages to who sent them, too.
	Echo bool
	// Queue is how many bytes wait for a member whose handle is slow; the oldest go first. Messages on the way
	// count, too. Default 4 MiB.
	Queue int
	// AfterFunc calls f when d has passed, never at once, in a simulated world. Messages are then delivered by
	// who calls f, one after the other, and Close waits for nobody. Nil: real time, or that of a bubble of
	// testing/synctest, and each member has a goroutine from Receive to Close.
	AfterFunc func(d time.Duration, f func())
}

// Traffic counts messages.
type Traffic struct {
	// Sent and SentBytes are what was broadcast, each message once.
	Sent, SentBytes uint64
	// Heard and HeardBytes are what was delivered.
	Heard, HeardBytes uint64
	// Lost counts messages that did not arrive, because of Link.Loss or of a cut.
	Lost uint64
	// Duplicated counts messages that were to arrive twice.
	Duplicated uint64
	// Dropped counts messages that waited for a slow member when there was no room.
	Dropped uint64
	// Panics counts calls of handle that panicked.
	Panics uint64
}

func (t *Traffic) add(o Traffic) {
	t.Sent += o.Sent
	t.SentBytes += o.SentBytes
	t.Heard += o.Heard
	t.HeardBytes += o.HeardBytes
	t.Lost += o.Lost
	t.Duplicated += o.Duplicated
	t.Dropped += o.Dropped
	t.Panics += o.Panics
}

// Network is a network in memory, of which each Member is a sharing.Transport. All methods may be called by any
// goroutine.
type Network struct {
	opt NetworkOptions

	mu       sync.Mutex
	link     Link
	seq      uint64
	members  []*Member
	ways     map[way]*types.Rand
	cuts     map[way]bool
	isolated map[string]bool
	traffic  map[string]*Traffic
}

// way is from one member to another.
type way struct{ from, to string }

// NewNetwork returns a network without members.
func NewNetwork(o NetworkOptions) *Network {
	if o.Queue <= 0 {
		o.Queue = 4 << 20
	}
	return &Network{opt: o, link: o.Link, ways: map[way]*types.Rand{}, cuts: map[way]bool{}, isolated: map[string]bool{}, traffic: map[string]*Traffic{}}
}

// Open returns a new member. Members of one name stand at the same place of the network, and are apart otherwise.
func (n *Network) Open(name string) *Member {
	m := &Member{net: n, name: name, wake: make(chan struct{}, 1), closing: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members = append(n.members, m)
	n.trafficLocked(name)
	return m
}

// SetLink changes what all ways are like, for what is sent from now on.
func (n *Network) SetLink(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = l
}

// Cut keeps two members from hearing each other until Heal. Messages on the way are lost, too.
func (n *Network) Cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[way{a, b}], n.cuts[way{b, a}] = true, true
}

// Isolate cuts a member off from all others until Heal.
func (n *Network) Isolate(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isolated[name] = true
}

// Heal ends all cuts.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	clear(n.isolated)
}

// Traffic returns what a member has sent, and what became of what was sent to it.
func (n *Network) Traffic(name string) Traffic {
	n.mu.Lock()
	defer n.mu.Unlock()
	return *n.trafficLocked(name)
}

// Total returns the traffic of all members.
func (n *Network) Total() (sum Traffic) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.traffic {
		sum.add(*t)
	}
	return sum
}

func (n *Network) trafficLocked(name string) *Traffic {
	t := n.traffic[name]
	if t == nil {
		t = new(Traffic)
		n.traffic[name] = t
	}
	return t
}

func (n *Network) cutLocked(w way) bool {
	return n.cuts[w] || w.from != w.to && (n.isolated[w.from] || n.isolated[w.to])
}

// fateLocked returns the delays of the copies of a message that arrive. It draws as much for each message, so that
// the fate of those that follow is the same whatever the link is like.
func (n *Network) fateLocked(w way) (delays []time.Duration) {
	r := n.ways[w]
	if r == nil {
		h := fnv.New64a()
		fmt.Fprintf(h, "%q%q", w.from, w.to)
		seeded := types.NewRand(n.opt.Seed ^ h.Sum64())
		r = &seeded
		n.ways[w] = r
	}
	lost, twice, first, second := r.Float64(), r.Float64(), r.Float64(), r.Float64()
	t := n.trafficLocked(w.to)
	if lost < n.link.Loss || n.cutLocked(w) {
		t.Lost++
		return nil
	}
	delay := func(part float64) time.Duration { return n.link.Delay + time.Duration(part*float64(n.link.Jitter)) }
	delays = append(delays, delay(first))
	if twice < n.link.Duplicates {
		t.Duplicated++
		delays = append(delays, delay(second))
	}
	return delays
}

// Member is a sharing.Transport over a Network.
type Member struct {
	net     *Network
	name    string
	wake    chan struct{} // something was put into pending
	closing chan struct{}
	running sync.WaitGroup // the goroutine that calls handle

	// guarded by net.mu
	handle  func(from string, msg []byte)
	closed  bool
	pending heap.Heap[delivery] // by time; unused in a simulated world
	bytes   int                 // in pending
}

// delivery is a message on the way to a member. It has the memory of its own.
type delivery struct {
	way  way
	at   time.Time
	msg  []byte
	seq  uint64
	slot int
}

// overhead is what a delivery takes beside its message, in bytes.
const overhead = 128

// Name returns the name that the member was opened with.
func (m *Member) Name() string { return m.name }

// Receive says who hears the messages that come from now on. It panics if it is called again.
func (m *Member) Receive(handle func(from string, msg []byte)) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	if m.handle != nil {
		panic("sharingtest: Receive is called twice")
	}
	m.handle = handle
	if m.net.opt.AfterFunc == nil && !m.closed {
		m.running.Go(m.run)
	}
}

var errClosed = errors.New("sharingtest: the transport is closed")

// Broadcast sends a message to all other members.
func (m *Member) Broadcast(ctx context.Context, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sharingtest: not sent: %w", err)
	}
	if len(msg) > sharing.MaxMessage {
		return fmt.Errorf("sharingtest: a message has %d bytes, want %d at most", len(msg), sharing.MaxMessage)
	}
	n := m.net
	n.mu.Lock()
	if m.closed {
		n.mu.Unlock()
		return errClosed
	}
	t := n.trafficLocked(m.name)
	t.Sent++
	t.SentBytes += uint64(len(msg))
	var planned []func() // what a simulated world is to do, which is told without the lock
	for _, to := range n.members {
		if to == m && !n.opt.Echo || to.handle == nil {
			continue
		}
		for _, delay := range n.fateLocked(way{m.name, to.name}) {
			n.seq++
			d := &delivery{way: way{m.name, to.name}, msg: bytes.Clone(msg), seq: n.seq}
			if n.opt.AfterFunc != nil {
				planned = append(planned, func() { n.opt.AfterFunc(delay, func() { to.deliver(d) }) })
				continue
			}
			d.at = time.Now().Add(delay)
			to.keepLocked(d)
		}
	}
	n.mu.Unlock()
	for _, plan := range planned {
		plan()
	}
	return nil
}

// keepLocked puts a delivery among those that are pending, and drops the oldest for which there is no room. Caller
// must hold net.mu.
func (m *Member) keepLocked(d *delivery) {
	m.pending.Push(heap.Item[delivery]{Key: d.at.UnixNano(), Seq: d.seq, At: &d.slot, Of: d})
	m.bytes += len(d.msg) + overhead
	for m.bytes > m.net.opt.Queue && len(m.pending) > 1 {
		m.popLocked()
		m.net.trafficLocked(m.name).Dropped++
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Member) popLocked() *delivery {
	d := m.pending[0].Of
	m.pending.Remove(0)
	m.bytes -= len(d.msg) + overhead
	return d
}

// run delivers what is due until the member is closed.
func (m *Member) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		d, wait := m.due(time.Now())
		if d != nil {
			m.deliver(d)
			continue
		}
		timer.Reset(wait)
		select {
		case <-m.closing:
			return
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// due returns the first delivery if it is due, and else how long until then.
func (m *Member) due(now time.Time) (*delivery, time.Duration) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	if len(m.pending) == 0 || m.closed {
		return nil, time.Hour
	}
	if wait := m.pending[0].Of.at.Sub(now); wait > 0 {
		return nil, wait
	}
	return m.popLocked(), 0
}

// deliver calls handle, unless the message is lost in the last moment.
func (m *Member) deliver(d *delivery) {
	handle := m.arrives(d)
	if handle == nil {
		return
	}
	defer func() {
		// Who keeps the message is to find out.
		for i := range d.msg {
			d.msg[i] = 0xdb
		}
		if recover() != nil {
			m.net.mu.Lock()
			defer m.net.mu.Unlock()
			m.net.trafficLocked(m.name).Panics++
		}
	}()
	handle(d.way.from, d.msg)
}

// arrives counts a message that arrives, and returns who is to hear it: nobody if it got lost.
func (m *Member) arrives(d *delivery) func(from string, msg []byte) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	t := m.net.trafficLocked(m.name)
	if m.closed || m.net.cutLocked(d.way) {
		t.Lost++
		return nil
	}
	t.Heard++
	t.HeardBytes += uint64(len(d.msg))
	return m.handle
}

// Close takes the member out of the network, and waits for handle.
func (m *Member) Close() error {
	n := m.net
	n.mu.Lock()
	if !m.closed {
		m.closed = true
		n.members = slices.DeleteFunc(slices.Clone(n.members), func(o *Member) bool { return o == m })
		m.pending, m.bytes = nil, 0
		close(m.closing)
	}
	n.mu.Unlock()
	m.running.Wait()
	return nil
}

var _ sharing.Transport = (*Member)(nil)
