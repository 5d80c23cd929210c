package rollout

import (
	"context"
	"errors"
	"slices"

	"github.com/inferpick/inferpick/types"
)

// Served is a Loader for adapters that somebody else brings onto servers: it loads nothing, and takes a
// server to have what it says it serves (types.Endpoint.Models), and, as long as nothing is known of
// that, anything.
type Served struct{}

var errNotServed = errors.New("rollout: it is not there, and there is no Loader to load it")

// Load implements Loader.
func (Served) Load(_ context.Context, ep *types.Endpoint, name, _ string) error {
	if ep.Models != nil && !slices.Contains(ep.Models, name) {
		return errNotServed
	}
	return nil
}

// Unload implements Loader. It leaves everything as it is.
func (Served) Unload(context.Context, *types.Endpoint, string) error { return nil }

// Loaded implements Loader.
func (Served) Loaded(_ context.Context, ep *types.Endpoint, name, _ string) (bool, error) {
	return ep.Models == nil || slices.Contains(ep.Models, name), nil
}

var _ Loader = Served{}
