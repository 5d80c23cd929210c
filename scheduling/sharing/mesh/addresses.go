package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
)

// follow looks up the addresses of a target that is a name, again and again.
func (t *Transport) follow(i int) {
	o := &t.opt
	name := t.targets[i].host
	for failures := 0; ; {
		wait := o.LookupInterval
		addrs, err := t.lookup(name)
		switch {
		case t.live.Err() != nil:
			return
		case err != nil:
			// Those that were found before stay: a name server that is gone is no reason to be silent.
			failures++
			wait = min(wait, backoff(failures, o.MinBackoff, wait, 0))
			t.tell(slog.LevelWarn, "a lookup of peers failed", name, err)
		default:
			failures = 0
			t.find(i, addrs)
		}
		if !sleep(t.live, wait) {
			return
		}
	}
}

// lookup returns the addresses of a name, of which there is at least one.
func (t *Transport) lookup(name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(t.live, t.opt.HandshakeTimeout)
	defer cancel()
	var addrs []netip.Addr
	err := t.panics.Try("Options.Resolver", func() (err error) {
		addrs, err = t.opt.Resolver.LookupNetIP(ctx, "ip", name)
		return err
	})
	if err != nil {
		return nil, err
	}
	var usable []netip.Addr
	for _, a := range addrs {
		if a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() {
			usable = append(usable, a.Unmap())
		}
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("it has no addresses that can be connected to")
	}
	slices.SortFunc(usable, netip.Addr.Compare)
	return slices.Compact(usable), nil
}

// find takes over the addresses of a target.
func (t *Transport) find(i int, addrs []netip.Addr) {
	places := make([]netip.AddrPort, len(addrs))
	for k, a := range addrs {
		places[k] = netip.AddrPortFrom(a, t.targets[i].port)
	}
	more := t.connectTo(i, places)
	t.counts.excess.Store(uint64(more))
	if more > 0 {
		t.tell(slog.LevelWarn, "a name has more peers than Options.MaxPeers lets in", t.targets[i].host, nil)
	}
}

// connectTo connects to the addresses of a target that are new, and ends the connections to those that are gone. It
// returns how many there are too many.
func (t *Transport) connectTo(i int, places []netip.AddrPort) (more int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0
	}
	t.found[i] = places
	wanted, more := choose(t.found, t.opt.MaxPeers)
	for addr, p := range t.peers {
		if _, ok := wanted[addr]; !ok {
			p.cancel()
			delete(t.peers, addr)
		}
	}
	for addr, of := range wanted {
		if t.peers[addr] == nil {
			p := t.newPeer(t.targets[of].host, addr)
			t.peers[addr] = p
			t.running.Go(func() { t.panics.Loop(p.ctx, "a peer", p.run) })
		}
	}
	return more
}

// choose returns the addresses to connect to, each with the index of the list that has it first: the first ones of the
// first lists, at most a number of them, and how many more there are.
func choose(lists [][]netip.AddrPort, most int) (chosen map[netip.AddrPort]int, more int) {
	chosen = map[netip.AddrPort]int{}
	left := map[netip.AddrPort]bool{}
	for i, list := range lists {
		for _, addr := range list {
			_, known := chosen[addr]
			switch {
			case known:
			case len(chosen) < most:
				chosen[addr] = i
			default:
				left[addr] = true
			}
		}
	}
	return chosen, len(left)
}
