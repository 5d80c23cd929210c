package plugins

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/inferpick/inferpick/internal/ejection"
	"github.com/inferpick/inferpick/types"
)

// This file is what gateways tell each other of ejections: Ejection is a sharing.EjectionPart.

// names finds the endpoints that peers name. Of those that were not met it holds what was heard. Its lock
// is taken before that of Ejection.table.
type names struct {
	mu sync.Mutex
	places[*ejection.Server]
}

// forget notes that an endpoint has gone.
func (n *names) forget(load *types.Load) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.places.forget(load)
}

// ShareEjections calls tell for each endpoint that is ejected or on probation because requests of this
// gateway failed there. To be called more often than once a second: what peers heard longer than three
// seconds ago does not count any more.
func (f *Ejection) ShareEjections(now time.Time, tell func(types.Ejected)) {
	f.names.mu.Lock()
	f.names.tidy(now)
	f.unmet.Store(int64(f.names.unmet))
	f.names.mu.Unlock()
	for _, e := range f.found(now) {
		tell(e)
	}
}

// found returns what ShareEjections tells. It ends the wait for peers that have fallen silent.
func (f *Ejection) found(now time.Time) (all []types.Ejected) {
	if f.ejected.Load() == 0 {
		return nil
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	for _, s := range f.table.all() {
		if s != nil && s.Found() {
			f.apply(s, ejection.Input{Event: ejection.Quiet, Now: now})
			all = append(all, types.Ejected{Endpoint: s.id, Number: s.number, Refused: s.Refused, Left: s.Left(now)})
		}
	}
	return all
}

// HearEjection is told of an endpoint that a peer has ejected. It may put the endpoint on probation: see
// Ejection.
func (f *Ejection) HearEjection(peer int, e types.Ejected, now time.Time) {
	in := ejection.Input{Event: ejection.Told, Now: now, Peer: peer, Number: e.Number, Refused: e.Refused, Remaining: e.Left}
	ep := f.hear(e.Endpoint, in)
	if ep == nil {
		return
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.healthOf(ep); s != nil {
		f.apply(s, in)
	}
}

// hear returns the endpoint of that ID. If it was not met, hear keeps what was said and returns nil.
func (f *Ejection) hear(id string, in ejection.Input) *types.Endpoint {
	f.names.mu.Lock()
	defer f.names.mu.Unlock()
	p := f.names.named(id, in.Now)
	switch {
	case p == nil:
		return nil
	case p.ep != nil:
		return p.ep
	case p.value == nil:
		p.value = new(ejection.Server)
	}
	p.value.Apply(f.rules, in)
	f.unmet.Store(int64(f.names.unmet))
	return nil
}

// meet takes over what was heard of those of eps that no request was sent to yet.
func (f *Ejection) meet(eps ...*types.Endpoint) {
	var strangers []*types.Endpoint
	for _, ep := range eps {
		if f.stalls.lookup(ep) == nil && ep.Load != nil && !ep.Load.Retired() {
			strangers = append(strangers, ep)
		}
	}
	if len(strangers) == 0 {
		return
	}
	f.stalls.mu.Lock()
	f.stalls.enterAll(strangers, func(_ *types.Endpoint, s *stalls) { s.baseline = &f.baseline })
	f.stalls.mu.Unlock()
	for _, ep := range strangers {
		f.greet(ep)
	}
}

// greet takes over what was heard of an endpoint before it was met.
func (f *Ejection) greet(ep *types.Endpoint) {
	f.names.mu.Lock()
	defer f.names.mu.Unlock()
	if ep.Load.Retired() {
		return
	}
	p := f.names.meet(ep)
	f.unmet.Store(int64(f.names.unmet))
	if p.value != nil {
		f.takeOver(ep, *p.value)
		p.value = nil
	}
}

// takeOver begins with the state s of an endpoint, unless it has one.
func (f *Ejection) takeOver(ep *types.Endpoint, s ejection.Server) {
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if f.table.lookup(ep) != nil {
		return
	}
	h := f.healthOf(ep)
	if h == nil {
		return
	}
	next := f.ejections.Load() + 1
	h.Server = s
	if h.Found() {
		h.number = next
	} else {
		h.doubt = next
	}
	f.account(h)
	f.ejections.Store(next) // after account: see pick
}

// LosePeer forgets what a peer has said. An endpoint that is on probation for it stays so until it serves
// a request.
func (f *Ejection) LosePeer(peer int) {
	f.names.mu.Lock()
	defer f.names.mu.Unlock()
	for _, p := range f.names.byID {
		if p.value != nil {
			p.value.Lose(peer)
		}
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	for _, s := range f.table.all() {
		if s != nil {
			s.Lose(peer)
			f.account(s)
		}
	}
}

// luck returns a number in [0, 1), by which gateways try a dead server at different times.
func luck(req *types.Request) float64 {
	rand := req.Rand
	return rand.Float64()
}

// wsaRefused is the error of Windows for syscall.ECONNREFUSED. It is no error elsewhere.
const wsaRefused = syscall.Errno(10061)

// refused reports whether err says that the server was not there to be connected to.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaRefused)
}
