package gateway

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// This file is what a Gateway shares with its peers: in one scope all endpoints and what the scheduler's plugins
// and rollouts know, and in one for each pool what its admission control has charged. Pools have other names than that scope.

const schedulerScope = "all pools"

// admissionsEvery is how often is looked for admission controls that have come or gone: the director makes that of
// a pool with the first request for it.
const admissionsEvery = 100 * time.Millisecond

// join makes the Group, if there is to be one.
func (g *Gateway) join(o Options) (err error) {
	if o.Sharing == nil {
		return nil
	}
	options := *o.Sharing
	if options.Transport == nil && options.Store == nil {
		return errors.New("gateway: Options.Sharing has neither a Transport, without which nobody is told or heard, nor a Store for a warm start")
	}
	options.Logger = cmp.Or(options.Logger, o.Logger)
	options.Name = nameOf(o) // peers tell gateways without a name by their addresses
	g.Sharing, err = sharing.New(options)
	g.wire = options.Transport
	return err
}

// nameOf returns what this gateway is called among its peers.
func nameOf(o Options) string {
	if o.Sharing != nil && o.Sharing.Name != "" {
		return o.Sharing.Name
	}
	name, _ := os.Hostname()
	return name
}

// shareDecisions shares what the scheduler knows, and begins with what the gateway before this one knew.
func (g *Gateway) shareDecisions(p scheduling.Profile) error {
	if g.Sharing == nil {
		return nil
	}
	parts := sharing.PartsOf(p)
	if g.Rollouts != nil {
		parts = append(parts, g.Rollouts)
	}
	if err := g.Sharing.Add(sharing.Scope{Name: schedulerScope, Endpoints: g.endpoints, Parts: parts}); err != nil {
		return err
	}
	_, _ = g.Sharing.Warm(context.Background()) // what is wrong the logger is told
	return nil
}

// endpoints returns those of all pools.
func (g *Gateway) endpoints() (all []*types.Endpoint) {
	pools := g.Store.Snapshot().Pools()
	if len(pools) == 1 {
		return pools[0].Endpoints()
	}
	for _, pool := range pools {
		all = append(all, pool.Endpoints()...)
	}
	return all
}

// shareAdmissions shares the admission control of each pool that has one, until ctx is done.
func (g *Gateway) shareAdmissions(ctx context.Context) {
	tick := time.NewTicker(admissionsEvery)
	defer tick.Stop()
	for {
		var scopes []sharing.Scope
		for pool, c := range g.Director.Admissions() {
			scopes = append(scopes, sharing.Scope{Name: pool.String(), Parts: []any{c}})
		}
		g.Sharing.Keep(scopes...) // they have names, so there is no error
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
