package rollout

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/inferpick/inferpick/types"
)

// This file is what every request passes: who counts it, and which servers it may go to.

// traffic is what requests look at. It is not changed once it is in Controller.traffic.
type traffic struct {
	targets map[string]*target
}

// target is a target model that rollouts are about.
type target struct {
	inFlight *inFlight
	stableOf []*rollout
	canaryOf []*rollout
}

// inFlight counts the requests of one target. It stays the same as long as there is a rollout of the
// target, so that a request which has begun ends where it was counted.
type inFlight struct{ n atomic.Int64 }

// members are the servers of a pool by their slots. Who is in a slot is to be checked by its Load.
type members []*member

func (m members) of(ep *types.Endpoint) *member {
	if int(ep.Slot) >= len(m) {
		return nil
	}
	if s := m[ep.Slot]; s != nil && s.load == ep.Load {
		return s
	}
	return nil
}

// watched returns a target, nil if no rollout is about it.
func (c *Controller) watched(name string) *target {
	t := c.traffic.Load()
	if t == nil {
		return nil
	}
	return t.targets[name]
}

// Scheduled counts a request that was sent to a server: see scheduling.Hooks. It costs next to
// nothing while there is no rollout, and allocates nothing.
func (c *Controller) Scheduled(req *types.Request) {
	if t := c.watched(req.Target()); t != nil {
		t.inFlight.n.Add(1)
		c.key.Set(&req.Attrs, t.inFlight)
	}
}

// Retried judges an attempt of a request that goes on elsewhere, and Finished the end of one. ep is the
// server, and o what became of it there.
func (c *Controller) Retried(req *types.Request, ep *types.Endpoint, o types.Outcome) {
	if t := c.watched(req.Target()); t != nil {
		t.observe(req, ep, o)
	}
}

// Finished is told of the end of each request that Scheduled was told of.
func (c *Controller) Finished(req *types.Request, ep *types.Endpoint, o types.Outcome) {
	if c.traffic.Load() == nil {
		return
	}
	if counted, ok := c.key.Get(&req.Attrs); ok && counted != nil {
		counted.n.Add(-1)
		c.key.Set(&req.Attrs, nil)
	}
	if t := c.watched(req.Target()); t != nil {
		t.observe(req, ep, o)
	}
}

// observe tells the rollouts that a request belongs to: one of another model, or another pool, may have
// the same target.
func (t *target) observe(req *types.Request, ep *types.Endpoint, o types.Outcome) {
	if ep == nil {
		return
	}
	if o.Status == http.StatusNotFound {
		for _, r := range t.canaryOf {
			r.doubt(ep)
		}
	}
	s, ok := SampleOf(req, o)
	if !ok {
		return
	}
	for _, r := range t.stableOf {
		r.observe(req, ep, s)
	}
	for _, r := range t.canaryOf {
		r.observe(req, ep, s)
	}
}

// Gate lets requests for a canary go only to servers that are known to have it. It is a filter, as
// scheduling.Filter has it, and costs requests for other models one look into a map, or less.
type Gate struct{ c *Controller }

// Gate returns the filter of the rollouts.
func (c *Controller) Gate() Gate { return Gate{c} }

// Idle reports whether Filter would keep all endpoints, whatever they are.
func (g Gate) Idle(req *types.Request) bool {
	t := g.c.watched(req.Target())
	return t == nil || len(t.canaryOf) == 0
}

// Filter strikes out the servers of which it is not known that they have the target. If nobody has it
// none is left, and the rollout takes the traffic back.
func (g Gate) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	t := g.c.watched(req.Target())
	if t == nil {
		return nil
	}
	for _, r := range t.canaryOf {
		r.strike(eps, keep)
	}
	return nil
}

// Match reports whether Filter keeps ep for requests for a target.
func (g Gate) Match(name string, ep *types.Endpoint) bool {
	t := g.c.watched(name)
	if t == nil {
		return true
	}
	eps, keep := [1]*types.Endpoint{ep}, [1]bool{true}
	for _, r := range t.canaryOf {
		r.strike(eps[:], keep[:])
	}
	return keep[0]
}

// strike strikes out those of the rollout's pool that have not got the canary.
func (r *rollout) strike(eps []*types.Endpoint, keep []bool) {
	list := *r.members.Load()
	if !r.leading.Load() && !slices.ContainsFunc(list, func(s *member) bool { return s != nil && s.open.Load() }) {
		return // the gateway that leads gives the canary traffic, so it has made sure; here nobody was asked since
	}
	unknown := -1 // one that is no member: of another pool, or so new that nobody has asked it
	for i, ep := range eps {
		switch s := list.of(ep); {
		case s == nil:
			unknown = i
		case !s.open.Load():
			keep[i] = false
		}
	}
	if unknown < 0 || !r.inPool(eps[unknown]) {
		return
	}
	for i, ep := range eps {
		if list.of(ep) == nil {
			keep[i] = false
		}
	}
}

// inPool reports whether an endpoint is of the rollout's pool. It takes long, and is seldom asked.
func (r *rollout) inPool(ep *types.Endpoint) bool {
	p := r.c.o.Store.Snapshot().Pool(r.pool)
	return p != nil && slices.ContainsFunc(p.Endpoints(), func(other *types.Endpoint) bool { return other.Load == ep.Load })
}

// doubt has a server asked at once whether it has the canary: it has answered as one that has not.
func (r *rollout) doubt(ep *types.Endpoint) {
	if s := r.members.Load().of(ep); s != nil && r.servers.doubt(s) {
		r.kick()
	}
}

// list adds the canary to what the store knows that a server serves, if that is known: the list is from before it was
// loaded, and who goes by it would send all requests to the few servers that were asked since.
func (r *rollout) list(load *types.Load) {
	for _, ep := range r.endpoints() {
		if ep.Load == load && ep.Models != nil && !slices.Contains(ep.Models, r.plan.Canary) {
			r.c.o.Store.SetModels(load, append(slices.Clone(ep.Models), r.plan.Canary))
		}
	}
}

// observe takes a sample of the rollout's own requests.
func (r *rollout) observe(req *types.Request, ep *types.Endpoint, s Sample) {
	if len(r.names) > 0 && !slices.Contains(r.names, req.Model) || r.members.Load().of(ep) == nil {
		return
	}
	urgent := false
	r.mu.Lock()
	switch {
	case r.machine != nil:
		urgent = r.machine.Observe(s)
	case r.window != nil:
		r.window.Observe(s)
	}
	r.mu.Unlock()
	if urgent {
		r.kick()
	}
}

// retargetLocked makes traffic of the rollouts that there are. Caller must hold c.mu.
func (c *Controller) retargetLocked() {
	if len(c.rollouts) == 0 {
		c.traffic.Store(nil)
		clear(c.inFlight)
		return
	}
	t := &traffic{targets: map[string]*target{}}
	get := func(name string) *target {
		one := t.targets[name]
		if one == nil {
			if c.inFlight[name] == nil {
				c.inFlight[name] = new(inFlight)
			}
			one = &target{inFlight: c.inFlight[name]}
			t.targets[name] = one
		}
		return one
	}
	for _, r := range c.rollouts {
		if r.live() {
			stable, canary := get(r.plan.Stable), get(r.plan.Canary)
			stable.stableOf = append(stable.stableOf, r)
			canary.canaryOf = append(canary.canaryOf, r)
		}
	}
	for name := range c.inFlight {
		if t.targets[name] == nil {
			delete(c.inFlight, name)
		}
	}
	c.traffic.Store(t)
}
