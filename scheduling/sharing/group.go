package sharing

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	mathrand "math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/types"
)

// Group is this gateway among its peers. Make it with New, Add what is to be shared, and Run it; or, without a
// Transport, call Tell and Hear. All methods may be called from any goroutine.
type Group struct {
	o      Options
	panics *guard.Teller

	running atomic.Bool
	receive sync.Once // of the Transport

	telling sync.Mutex // held by Tell; taken before turn
	outbox  outbox     // guarded by telling

	// turn is held while something is read or written, in which parts are called, but not while it is sent.
	turn sync.Mutex
	// guarded by turn
	origin  origin
	scopes  []*scope
	kept    []string  // scopes of the last Keep
	now     time.Time // of the last Tell or Hear
	writer  writer
	mac     hash.Hash // nil: no key
	whole   time.Time // when all was told last
	alive   int       // peers, as parts were told
	changed []*types.Endpoint

	keeping keeping

	mu sync.Mutex
	// guarded by mu
	peers  peers
	counts groupCounts
	logged map[string]time.Time // what was logged, and when
}

type groupCounts struct {
	messages, bytes uint64 // told
	broken, versions, unsigned, unknown,
	failed uint64 // Broadcasts
	panics           uint64
	notes, longNotes uint64 // of names that are not known; too long
}

// New returns a Group that shares nothing yet. The error says which option is wrong.
func New(o Options) (*Group, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Group{o: o, panics: guardlog.Teller(o.Logger, "sharing"), peers: peers{of: map[origin]*peer{}}, logged: map[string]time.Time{}}
	g.keeping.sizes = map[partKey]int{}
	if len(o.Key) > 0 {
		g.mac = hmac.New(sha256.New, o.Key)
	}
	g.writer = writer{mac: g.mac, send: g.outbox.add}
	g.reborn()
	return g, nil
}

// ErrRunning is the error of Run beside another Run.
var ErrRunning = errors.New("sharing: the Group runs already")

// Run tells peers, and hears them, until ctx is done; then it says that it leaves. Meanwhile, and then, it saves
// snapshots, if there is an Options.Store. It returns nil, or an error: there is neither a Transport nor a Store, or
// ErrRunning. It does not close the Transport. It may be called again when it has returned; peers then take it for
// another gateway.
func (g *Group) Run(ctx context.Context) error {
	t := g.o.Transport
	if t == nil && g.o.Store == nil {
		return errors.New("sharing: Run without a Transport")
	}
	if !g.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer g.running.Store(false)
	var saving sync.WaitGroup
	defer saving.Wait()
	if g.o.Store != nil {
		saving.Go(func() { g.panics.Loop(ctx, "saving", func() { g.keep(ctx) }) })
	}
	if t == nil {
		g.panics.Loop(ctx, "Run", func() { g.alone(ctx) })
		return nil
	}
	g.receive.Do(func() {
		g.panics.Call("Transport.Receive", func() {
			t.Receive(func(from string, msg []byte) {
				if g.running.Load() {
					g.Hear(from, msg, time.Now())
				}
			})
		})
	})
	g.panics.Loop(ctx, "Run", func() { g.speak(ctx) })
	return nil
}

// speak tells peers until ctx is done, and then that this gateway leaves.
func (g *Group) speak(ctx context.Context) {
	send := func(ctx context.Context) func([]byte) {
		return func(msg []byte) {
			if err := g.panics.Try("Transport.Broadcast", func() error { return g.o.Transport.Broadcast(ctx, msg) }); err != nil {
				g.count(func(c *groupCounts) { c.failed++ })
				g.log("a message could not be sent", "", "error", err)
			}
		}
	}
	for {
		wait := time.Duration(float64(g.o.Every) * (.9 + .2*mathrand.Float64())) // so that peers do not all speak at once
		select {
		case <-ctx.Done():
			last, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer stop()
			g.leave(send(last))
			return
		case <-time.After(wait):
		}
		some, stop := context.WithTimeout(ctx, g.o.Every)
		g.Tell(time.Now(), send(some))
		stop()
	}
}

// alone is Run without a Transport.
func (g *Group) alone(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(g.o.Every):
			g.claim(time.Now())
		}
	}
}

// Tell hands to send what peers are to be told now, in messages of at most MaxMessage bytes, which are valid
// during the call only. It is to be called each Options.Every; Run does.
func (g *Group) Tell(now time.Time, send func(msg []byte)) {
	g.claim(now)
	g.pass(now)
	g.write(send, func(w *writer) {
		g.now = now
		g.expire(now)
		if whole := now.Sub(g.whole) >= g.o.Whole; whole {
			g.whole = now
			g.hello(w, kindHello)
			g.tell(w, true, now)
		} else {
			g.tell(w, false, now)
		}
		g.tellSnapshots(w, now)
		if len(w.buf) == 0 { // silence would be taken for the end
			g.hello(w, kindHello)
		}
	})
}

// leave tells peers that this gateway ends. What it tells from then on is another's.
func (g *Group) leave(send func([]byte)) {
	g.write(send, func(w *writer) { g.hello(w, kindLeave) })
	g.turn.Lock()
	defer g.turn.Unlock()
	g.reborn()
}

// reborn makes this gateway another one for its peers. Caller must hold g.turn.
func (g *Group) reborn() {
	rand.Read(g.origin[:])
	g.writer.origin, g.whole = g.origin, time.Time{}
}

// write sends what fill writes, when it has been written: whoever hears it may tell something in turn.
func (g *Group) write(send func([]byte), fill func(*writer)) {
	g.telling.Lock()
	defer g.telling.Unlock()
	g.outbox.n = 0
	func() {
		g.turn.Lock()
		defer g.turn.Unlock()
		w := &g.writer
		w.tick++
		w.buf, w.at = w.buf[:0], 0
		fill(w)
		w.flush()
	}()
	for _, msg := range g.outbox.messages[:g.outbox.n] {
		g.count(func(c *groupCounts) { c.messages++; c.bytes += uint64(len(msg)) })
		send(msg)
	}
	g.outbox.trim()
}

// outbox is messages that were written, with memory for the next.
type outbox struct {
	messages [][]byte
	n        int // those that are to be sent
}

func (o *outbox) add(msg []byte) {
	if o.n == len(o.messages) {
		o.messages = append(o.messages, nil)
	}
	o.messages[o.n] = append(o.messages[o.n][:0], msg...)
	o.n++
}

// trim gives back the memory of an exceptional amount.
func (o *outbox) trim() {
	const few = 4
	if len(o.messages) > few {
		clear(o.messages[few:])
		o.messages = o.messages[:few]
	}
}

// hello writes the name of this gateway.
func (g *Group) hello(w *writer, k kind) {
	w.begin(k, 0)
	w.end(append(binary.AppendUvarint(w.item(len(g.o.Name)+2), uint64(len(g.o.Name))), g.o.Name...))
}

// tell writes what has changed, or all of it. Caller must hold g.turn.
func (g *Group) tell(w *writer, whole bool, now time.Time) {
	for _, s := range g.scopes {
		g.look(s)
		if whole {
			s.doubt()
		}
		if !g.o.Without.Load {
			g.tellLoads(w, s, whole, now)
		}
		if !g.o.Without.Placements {
			g.tellPlacements(w, s)
		}
		if !g.o.Without.Ejections {
			g.tellEjections(w, s, now)
		}
		if !g.o.Without.Bindings {
			g.tellBindings(w, s, now)
		}
		if !g.o.Without.Accounts {
			g.tellAccounts(w, s, whole)
		}
		if !g.o.Without.Notes {
			g.tellNotes(w, s, whole, now)
		}
	}
}

// expire lets go of peers that have gone, and of what they had. Caller must hold g.turn.
func (g *Group) expire(now time.Time) {
	for {
		g.mu.Lock()
		gone := g.peers.expire(now, g.o.TTL)
		alive := len(g.peers.list)
		g.mu.Unlock()
		if gone == nil {
			break
		}
		g.o.Logger.Info("sharing: a peer has gone", "peer", gone.name, "from", gone.from, "left", gone.left)
		for _, s := range g.scopes {
			g.lose(s, gone)
		}
		g.alivePeers(alive)
	}
	for _, s := range g.scopes {
		g.expireNotes(s, now)
		g.settle(s, now)
	}
}

// lose tells the parts of a scope that a peer has gone.
func (g *Group) lose(s *scope, gone *peer) {
	for _, part := range s.parts.ejections {
		g.call(func() { part.LosePeer(gone.number) })
	}
	for _, part := range s.parts.accounts {
		g.call(func() { part.LosePeer(gone.number) })
	}
	g.loseNotes(s, gone)
	s.doubt()
}

// settle takes over what peers have at the endpoints of a scope, and tells the parts of all scopes: another one may
// have the parts that are about them.
func (g *Group) settle(s *scope, now time.Time) {
	g.changed = s.settle(now, g.o.TTL, g.changed[:0])
	if len(g.changed) == 0 {
		return
	}
	for _, other := range g.scopes {
		g.tellChanged(other, g.changed, now)
	}
	clear(g.changed)
}

// alivePeers tells the parts that want to know how many peers there are.
func (g *Group) alivePeers(n int) {
	g.alive = n
	for _, s := range g.scopes {
		g.tellAlive(s, n)
	}
}

func (g *Group) tellAlive(s *scope, n int) {
	for _, part := range s.parts.alive {
		g.call(func() { part.PeersAlive(n) })
	}
}

// call calls a part, which may panic.
func (g *Group) call(f func()) {
	defer func() {
		if v := recover(); v != nil {
			g.count(func(c *groupCounts) { c.panics++ })
			g.log("a part panicked", "", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	f()
}

func (g *Group) count(f func(*groupCounts)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.counts)
}

const logEvery = time.Minute

// log warns of something, of each kind and origin once a minute.
func (g *Group) log(what, from string, args ...any) {
	host, _, _ := strings.Cut(from, ":")
	key, now := what+" "+host, time.Now()
	g.mu.Lock()
	due := now.Sub(g.logged[key]) >= logEvery
	if due {
		if len(g.logged) >= LimitMaxPeers {
			clear(g.logged)
		}
		g.logged[key] = now
	}
	g.mu.Unlock()
	if due {
		g.o.Logger.Warn("sharing: "+what, append(args, "from", from)...)
	}
}
