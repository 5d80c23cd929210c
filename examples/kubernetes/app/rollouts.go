package app

import (
	"net/http"

	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
)

// rolls makes what keeps rollouts in the cluster and gets adapters onto servers, if Options.Rollouts says how.
func (g *Gateway) rolls(config *rest.Config) (*rollout.Options, error) {
	if g.o.Rollouts == "" {
		return nil, nil
	}
	client, err := loader.New(loader.Options{})
	if err != nil {
		return nil, err
	}
	o := &rollout.Options{}
	if o.Loader, err = client.Named(g.o.Rollouts); err != nil {
		return nil, err
	}
	if g.home, err = rollouts.New(config, g.source, rollouts.Options{Logger: g.o.Logger}); err != nil {
		return nil, err
	}
	o.Home, o.Leader, o.OnEvent = g.home, g.home.Leads, g.home.Event
	return o, nil
}

// rolloutsPage shows rollouts, and takes commands for them if Options.RolloutCommands says so.
func (g *Gateway) rolloutsPage() http.Handler {
	next := g.inference.Rollouts.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && !g.o.RolloutCommands {
			http.Error(w, "commands for rollouts are refused: whoever reaches this port could give them; -rollout-commands lets them", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
