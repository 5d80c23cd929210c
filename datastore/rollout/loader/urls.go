package loader

import (
	"sync"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// URLs is for Options.URL: it returns the base URL of each endpoint of a store, as datastore.EndpointSpec.ServerURL
// says, and of others http://ADDRESS. It follows the store until stop is called.
func URLs(store interface {
	Watch(fn func(datastore.Event)) (stop func())
}) (of func(ep *types.Endpoint) string, stop func()) {
	var all sync.Map // URLs by *types.Load
	stop = store.Watch(func(ev datastore.Event) {
		if ev.Kind == datastore.Removed {
			all.Delete(ev.Endpoint.Load)
			return
		}
		all.Store(ev.Endpoint.Load, ev.Spec.ServerURL())
	})
	return func(ep *types.Endpoint) string {
		if known, ok := all.Load(ep.Load); ok {
			return known.(string)
		}
		return "http://" + ep.Address
	}, stop
}
