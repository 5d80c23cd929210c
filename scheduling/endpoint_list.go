package scheduling

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/slots"
	"github.com/inferpick/inferpick/types"
)

// EndpointList keeps the endpoints of a pool by their addresses, for gateways that get
// whole lists of servers from their own discovery and use no datastore: whoever is in the
// next list too keeps its ledger and all that was learned of it, who is not is forgotten.
// Make it with NewEndpointList. All methods may be called from any goroutine.
type EndpointList struct {
	schedulers []*Scheduler
	now        func() time.Time

	list  atomic.Pointer[[]*types.Endpoint] // never changed in place
	stale atomic.Bool                       // there are readings that are not in list

	mu sync.Mutex
	// guarded by mu
	slots     slots.Set
	order     []string // addresses
	byAddress map[string]*types.Endpoint
}

// NewEndpointList returns an empty list for the schedulers that decide among its
// endpoints: they are told to forget what has gone. The clock is that of the first.
func NewEndpointList(schedulers ...*Scheduler) *EndpointList {
	l := &EndpointList{schedulers: slices.Clone(schedulers), now: time.Now, byAddress: map[string]*types.Endpoint{}}
	if len(schedulers) > 0 {
		l.now = schedulers[0].profile.Now
	}
	l.list.Store(new([]*types.Endpoint))
	return l
}

// Endpoints returns the endpoints in the order in which Set got them, with their latest
// readings. It must not be modified. It is cheap, and meant to be called for each request.
func (l *EndpointList) Endpoints() []*types.Endpoint {
	if l.stale.Load() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.publishLocked()
	}
	return *l.list.Load()
}

// Set makes specs the whole list and returns it, or changes nothing if it returns an error:
// each needs an Address of its own. An empty ID is the Address. Of an address that was in
// the list before, Load, Slot and reading stay, and Models where the spec has none; whatever
// else the spec says is taken over. Load, Slot and Sent of specs are not read; Metrics are a
// reading as for Update if any of UpdatedAt, Waiting, Running and KVUsage is set.
//
// Endpoints that have gone are retired, and the schedulers forget them before Set returns;
// requests that are under way there end as usual. Should one come back it is a new one.
func (l *EndpointList) Set(specs []types.Endpoint) ([]*types.Endpoint, error) {
	next, err := checkAddresses(specs)
	if err != nil {
		return nil, err
	}
	forget := l.set(specs, next)
	l.forget(forget)
	return l.Endpoints(), nil
}

// set returns which endpoints are to be forgotten.
func (l *EndpointList) set(specs []types.Endpoint, next map[string]int) (forget []*types.Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for address, ep := range l.byAddress { // what goes frees its slot before what comes takes one
		if _, stays := next[address]; !stays {
			ep.Load.Retire()
			l.slots.Give(ep.Slot)
			delete(l.byAddress, address)
			forget = append(forget, ep)
		}
	}
	l.order = l.order[:0]
	for i := range specs {
		spec := &specs[i]
		ep, restarted := l.mergeLocked(spec)
		if restarted {
			forget = append(forget, ep)
		}
		l.byAddress[spec.Address] = ep
		l.order = append(l.order, spec.Address)
	}
	l.publishLocked()
	return forget
}

// mergeLocked returns what becomes of a spec. Caller must hold l.mu.
func (l *EndpointList) mergeLocked(spec *types.Endpoint) (ep *types.Endpoint, restarted bool) {
	merged := *spec
	if merged.ID == "" {
		merged.ID = merged.Address
	}
	if old := l.byAddress[spec.Address]; old != nil {
		merged.Load, merged.Slot, merged.Metrics, merged.Sent = old.Load, old.Slot, old.Metrics, old.Sent
		if merged.Models == nil {
			merged.Models = old.Models
		}
	} else {
		merged.Load, merged.Slot, merged.Metrics, merged.Sent = types.NewLoad(), l.slots.Take(), types.Metrics{}, types.Booking{}
	}
	if isReading(&spec.Metrics) {
		if next, restarted := merged.Next(spec.Metrics, l.now()); next != nil {
			return next, restarted
		}
	}
	return &merged, false
}

func isReading(m *types.Metrics) bool {
	return !m.UpdatedAt.IsZero() || m.Waiting.IsKnown() || m.Running.IsKnown() || m.KVUsage.IsKnown()
}

// Update takes in a reading of the endpoint at an address, and reports whether there is
// one: see types.Endpoint.Next. One without UpdatedAt is of now. After a restart the
// schedulers forget what the server had.
func (l *EndpointList) Update(address string, m types.Metrics) bool {
	l.mu.Lock()
	ep, ok := l.byAddress[address]
	next, restarted := ep, false
	if ok {
		if next, restarted = ep.Next(m, l.now()); next != nil {
			l.byAddress[address] = next
			l.stale.Store(true)
		}
	}
	l.mu.Unlock()
	if restarted {
		l.forget([]*types.Endpoint{next})
	}
	return ok
}

// publishLocked makes the list anew. Caller must hold l.mu.
func (l *EndpointList) publishLocked() {
	l.stale.Store(false)
	eps := make([]*types.Endpoint, len(l.order))
	for i, address := range l.order {
		eps[i] = l.byAddress[address]
	}
	l.list.Store(&eps)
}

func (l *EndpointList) forget(eps []*types.Endpoint) {
	for _, ep := range eps {
		for _, s := range l.schedulers {
			s.Forget(ep)
		}
	}
}

// checkAddresses returns the places of addresses in a list, or all that is wrong with them.
func checkAddresses(specs []types.Endpoint) (map[string]int, error) {
	at := make(map[string]int, len(specs))
	var errs []error
	for i := range specs {
		switch first, twice := at[specs[i].Address]; {
		case specs[i].Address == "":
			errs = append(errs, fmt.Errorf("scheduling: endpoint %d, ID %q: Address is empty, want host:port", i, specs[i].ID))
		case twice:
			errs = append(errs, fmt.Errorf("scheduling: endpoint %d: Address %q is that of endpoint %d too, want one of its own", i, specs[i].Address, first))
		default:
			at[specs[i].Address] = i
		}
	}
	return at, errors.Join(errs...)
}
