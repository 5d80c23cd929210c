package config_test

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

func ExampleLoad() {
	c, err := config.Load("testdata/cluster", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, pool := range c.Pools() {
		policy, err := c.Policy(pool, nil, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		profile, err := policy.Profile()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %d endpoints, %d filters, %d scorers, %d costs\n", pool,
			len(c.Change.Endpoints[pool]), len(profile.Filters), len(profile.Scorers), len(profile.Costs))
	}
	// Output:
	// default/llama: 3 endpoints, 6 filters, 0 scorers, 1 costs
	// lab/mistral: 1 endpoints, 5 filters, 1 scorers, 0 costs
}

// A reload keeps the schedulers of pools whose profile is declared as before.
func ExampleWatcher() {
	type entry struct {
		policy    *config.Policy
		scheduler *scheduling.Scheduler
	}
	store := datastore.New(datastore.Options{})
	inForce := map[types.NamespacedName]entry{}

	w := config.NewWatcher("testdata/cluster", config.WatchOptions{Apply: func(c *config.Config) error {
		next := map[types.NamespacedName]entry{}
		for _, pool := range c.Pools() {
			e := inForce[pool]
			policy, err := c.Policy(pool, nil, e.policy) // annotations left out
			if err != nil {
				return err
			}
			if e.policy == nil || e.policy.Key() != policy.Key() {
				profile, err := policy.Profile()
				if err != nil {
					return err
				}
				if e.scheduler, err = scheduling.New(profile); err != nil {
					return err
				}
			}
			e.policy = policy
			next[pool] = e
		}
		if err := store.Commit(c.Change); err != nil {
			return err
		}
		inForce = next
		return nil
	}})
	if err := w.Load(); err != nil { // before it starts
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the example ends here
	fmt.Println(len(inForce), "schedulers,", w.Run(ctx))
	// Output: 2 schedulers, <nil>
}
