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

// EndpointList keeps the endpoints of a pool by address, for gateways that get complete lists of
// servers from their own discovery and use no datastore. An endpoint that is in the next list too
// keeps its ledger and what was learned about it; others are forgotten. Create it with
// NewEndpointList. It is safe for concurrent use.
type EndpointList struct {
	schedulers []*Scheduler
	now        func() time.Time

	list  atomic.Pointer[[]*types.Endpoint] // never changed in place
	stale atomic.Bool                       // some readings are not in list

	mu sync.Mutex
	// guarded by mu
	slots     slots.Set
	order     []string // addresses
	byAddress map[string]*types.Endpoint
}

// NewEndpointList returns an empty list for the schedulers that use its endpoints. They forget
// endpoints that are removed. The clock is that of the first scheduler.
func NewEndpointList(schedulers ...*Scheduler) *EndpointList {
	l := &EndpointList{schedulers: slices.Clone(schedulers), now: time.Now, byAddress: map[string]*types.Endpoint{}}
	if len(schedulers) > 0 {
		l.now = schedulers[0].profile.Now
	}
	l.list.Store(new([]*types.Endpoint))
	return l
}

// Endpoints returns the endpoints in the order of Set, with their latest readings. The slice must not
// be modified. Endpoints is cheap: call it for each request.
func (l *EndpointList) Endpoints() []*types.Endpoint {
	if l.stale.Load() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.publishLocked()
	}
	return *l.list.Load()
}

// Set makes specs the complete list and returns it. If it returns an error nothing has changed: each
// spec needs a unique Address, and no Rank. ID defaults to Address, Roles to those of the label types.RoleLabel. An address that was in the list before keeps
// its Load, Slot and reading, and its Models if the spec has none; all other fields are replaced.
// Load, Slot and Sent of specs are ignored. Metrics are a reading as for Update if UpdatedAt,
// Waiting, Running or KVUsage is set.
//
// Endpoints no longer in the list are retired, and the schedulers forget them before Set returns.
// Their requests end as usual. An endpoint that comes back is a new one.
func (l *EndpointList) Set(specs []types.Endpoint) ([]*types.Endpoint, error) {
	next, err := checkAddresses(specs)
	if err != nil {
		return nil, err
	}
	forget := l.set(specs, next)
	l.forget(forget)
	return l.Endpoints(), nil
}

// set returns the endpoints to forget.
func (l *EndpointList) set(specs []types.Endpoint, next map[string]int) (forget []*types.Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for address, ep := range l.byAddress { // removed endpoints free their slots before new ones take them
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

// mergeLocked returns the endpoint for a spec. Caller must hold l.mu.
func (l *EndpointList) mergeLocked(spec *types.Endpoint) (ep *types.Endpoint, restarted bool) {
	merged := *spec
	if merged.ID == "" {
		merged.ID = merged.Address
	}
	if merged.Roles == 0 {
		merged.Roles, _ = types.ParseRoles(merged.Labels[types.RoleLabel])
	}
	if old := l.byAddress[spec.Address]; old != nil {
		merged.Load, merged.Slot, merged.Metrics, merged.Sent, merged.Told = old.Load, old.Slot, old.Metrics, old.Sent, old.Told
		if merged.Models == nil {
			merged.Models = old.Models
		}
	} else {
		merged.Load, merged.Slot, merged.Metrics, merged.Sent, merged.Told = types.NewLoad(), l.slots.Take(), types.Metrics{}, types.Booking{}, types.Booking{}
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

// Update stores a reading of the endpoint at an address, as types.Endpoint.Next does, and reports
// whether there is such an endpoint. If the server restarted, the schedulers forget it.
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

// publishLocked publishes a new list. Caller must hold l.mu.
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

// checkAddresses returns the positions of addresses in specs, or an error that lists all problems.
func checkAddresses(specs []types.Endpoint) (map[string]int, error) {
	at := make(map[string]int, len(specs))
	var errs []error
	for i := range specs {
		switch first, twice := at[specs[i].Address]; {
		case specs[i].Address == "":
			errs = append(errs, fmt.Errorf("scheduling: endpoint %d, ID %q: Address is empty, want host:port", i, specs[i].ID))
		case specs[i].Rank.IsSet():
			errs = append(errs, fmt.Errorf("scheduling: endpoint %d, Address %q: Rank is set, but a list has one endpoint for each address: want a datastore.Store for ranks", i, specs[i].Address))
		case twice:
			errs = append(errs, fmt.Errorf("scheduling: endpoint %d: Address %q is that of endpoint %d too, want one of its own", i, specs[i].Address, first))
		default:
			at[specs[i].Address] = i
		}
	}
	return at, errors.Join(errs...)
}
