package policies

import (
	"sync"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// adapters counts which LoRA adapters the requests of this gateway are for, at each
// endpoint, until they end. It is a scheduling.Tracker.
type adapters struct {
	key *types.Key[*adapterUse]

	mu sync.Mutex
	// guarded by mu, with what the values point to
	servers map[*types.Load]map[string]int
}

// adapterUse is the account that a request in flight is in.
type adapterUse struct{ of map[string]int }

func newAdapters() *adapters {
	return &adapters{key: types.NewKey[*adapterUse]("adapter in use"), servers: map[*types.Load]map[string]int{}}
}

// At tells whether the request's adapter is in use at ep, by requests of this gateway or
// by the last report, and if not, whether there is a slot for it. A request for the base
// model needs none, and of an endpoint that does not report adapters nothing is known:
// both are taken for in use.
func (a *adapters) At(req *types.Request, ep *types.Endpoint) (inUse, slotFree bool) {
	name, slots := req.TargetModel, ep.MaxAdapters(req)
	if name == "" || slots != slots {
		return true, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	own := a.servers[ep.Load]
	used := len(own)
	inUse = own[name] > 0
	for _, reported := range [][]string{ep.Metrics.RunningAdapters, ep.Metrics.WaitingAdapters} {
		for _, other := range reported {
			inUse = inUse || other == name
			if own[other] == 0 {
				used++
			}
		}
	}
	return inUse, inUse || float64(used) < slots
}

// Picked implements scheduling.Tracker.
func (a *adapters) Picked(req *types.Request, ep *types.Endpoint) {
	if req.TargetModel == "" || ep.Load == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	own := a.servers[ep.Load]
	if own == nil {
		own = map[string]int{}
		if !ep.Load.Retired() {
			a.servers[ep.Load] = own
		}
	}
	own[req.TargetModel]++
	a.key.Set(&req.Attrs, &adapterUse{own})
}

// FirstToken implements scheduling.Tracker.
func (a *adapters) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker.
func (a *adapters) Finished(req *types.Request, _ *types.Endpoint, _ types.Outcome) {
	use, ok := a.key.Get(&req.Attrs)
	if !ok || use.of == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if use.of[req.TargetModel]--; use.of[req.TargetModel] == 0 {
		delete(use.of, req.TargetModel)
	}
	use.of = nil
}

// Forget implements scheduling.Forgetter. Requests still in flight leave the old account.
func (a *adapters) Forget(ep *types.Endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.servers, ep.Load)
}

var (
	_ scheduling.Tracker   = (*adapters)(nil)
	_ scheduling.Forgetter = (*adapters)(nil)
)
