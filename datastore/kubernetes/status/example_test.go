package status_test

import (
	"context"
	"log/slog"

	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
	"github.com/inferpick/inferpick/datastore/kubernetes/status"
)

// One of several gateways says which objects are in force.
func Example() {
	_ = func(ctx context.Context, config *rest.Config, source *kubernetes.Source, store *datastore.Store) error {
		writer, err := status.New(config, source, store, status.Options{Logger: slog.Default()})
		if err != nil {
			return err
		}
		return lease.Elect(ctx, config, lease.Options{Namespace: "models", Name: "my-gateway"}, writer.Run)
	}
	// Output:
}
