package mesh

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats say what a Transport has done since its start, and who its peers are now.
type Stats struct {
	// Peers are the addresses that it connects to, in their order.
	Peers []Peer
	// Connected counts those that it sends to, Incoming the connections on which it hears others.
	Connected, Incoming int
	// Excess counts the addresses that Options.MaxPeers leaves out.
	Excess uint64
	// Messages and their bytes that were sent, each once for each peer, and received.
	MessagesOut, BytesOut, MessagesIn, BytesIn uint64
	// Dropped counts messages that a peer's queue had no room for.
	Dropped uint64
	// Lost counts attempts to connect that failed, and connections to peers that ended.
	Lost uint64
	// Refused counts connections that were closed for what the other side did: it does not speak the protocol, has
	// no key or another one, is too slow to say who it is, or sends what it must not.
	Refused uint64
	// Throttled counts messages that were read later because of Options.MaxRate.
	Throttled uint64
	// Panics counts messages whose handle panicked.
	Panics uint64
}

// Peer is an address that a Transport connects to.
type Peer struct {
	Address string // host:port
	// Connected says that it is sent to.
	Connected bool
	// Known says that it needs no connection: it is this gateway itself, or one that is connected to by another
	// address.
	Known bool
	// Err is why there is no connection, nil if there is one or none was tried yet.
	Err error
	// Dropped counts messages for which its queue had no room.
	Dropped uint64
}

type counts struct {
	excess                                     atomic.Uint64
	messagesOut, bytesOut, messagesIn, bytesIn atomic.Uint64
	dropped, lost, refused, throttled, panics  atomic.Uint64
}

// Stats returns what t has done.
func (t *Transport) Stats() Stats {
	c := &t.counts
	s := Stats{
		Excess:      c.excess.Load(),
		MessagesOut: c.messagesOut.Load(), BytesOut: c.bytesOut.Load(),
		MessagesIn: c.messagesIn.Load(), BytesIn: c.bytesIn.Load(),
		Dropped: c.dropped.Load(), Lost: c.lost.Load(), Refused: c.refused.Load(), Throttled: c.throttled.Load(), Panics: c.panics.Load(),
	}
	t.mu.Lock()
	s.Incoming = t.known
	peers := make([]*peer, 0, len(t.peers))
	for _, p := range t.peers {
		peers = append(peers, p)
	}
	t.mu.Unlock()
	slices.SortFunc(peers, func(a, b *peer) int { return netip.AddrPort.Compare(a.addr, b.addr) })
	for _, p := range peers {
		state := p.state()
		s.Peers = append(s.Peers, state)
		if state.Connected {
			s.Connected++
		}
	}
	return s
}

// quiet lets each thing be told once a minute.
type quiet struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const (
	quietFor   = time.Minute
	quietThing = 1024 // things that are remembered; of more, none is told
)

// may reports whether a thing may be told.
func (q *quiet) may(thing string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if at, ok := q.last[thing]; ok && now.Sub(at) < quietFor {
		return false
	}
	if q.last == nil {
		q.last = map[string]time.Time{}
	}
	if len(q.last) >= quietThing {
		for k, at := range q.last {
			if now.Sub(at) >= quietFor {
				delete(q.last, k)
			}
		}
		if len(q.last) >= quietThing {
			return false
		}
	}
	q.last[thing] = now
	return true
}

// tell logs what happens at an address, each kind once a minute.
func (t *Transport) tell(level slog.Level, what, address string, err error) {
	if !t.opt.Logger.Enabled(context.Background(), level) || !t.told.may(what+" "+address, time.Now()) {
		return
	}
	attrs := []slog.Attr{slog.String("address", address)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	t.opt.Logger.LogAttrs(context.Background(), level, "mesh: "+what, attrs...)
}
