package loader_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

func ExampleClient() {
	server, err := modelserver.Start(context.Background(), modelserver.Options{Models: []string{"base"}})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	c, err := loader.New(loader.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	ep := types.NewEndpoint("server-0", server.Address())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Println(c.Auto().Load(ctx, ep, "sql-v2", "/adapters/sql-v2"))
	fmt.Println(c.Auto().Loaded(ctx, ep, "sql-v2", "/adapters/sql-v2"))

	server.Fault("sql-v3", modelserver.AdapterFault{LoadFails: 404})
	err = c.Auto().Load(ctx, ep, "sql-v3", "/adapters/sql-v3")
	fmt.Println(errors.Is(err, loader.ErrNoSource))
	// Output:
	// <nil>
	// true <nil>
	// true
}

// Servers of a store are asked by the scheme that their metrics have, with a key.
func ExampleURLs() {
	run := func(ctx context.Context, store *datastore.Store, key string) error {
		urls, stop := loader.URLs(store) // http or https, as scrape asks
		defer stop()
		c, err := loader.New(loader.Options{URL: urls, Header: http.Header{"Authorization": {"Bearer " + key}}})
		if err != nil {
			return err
		}
		defer c.Close()
		options := rollout.Options{Store: store, Loader: c.Auto()}

		controller, err := rollout.New(options)
		if err != nil {
			return err
		}
		return controller.Run(ctx)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	fmt.Println(run(ctx, datastore.New(datastore.Options{}), "key"))
	// Output: <nil>
}
