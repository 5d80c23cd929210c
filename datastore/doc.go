// Package datastore holds a gateway's pools, models and endpoints, with the latest metrics of
// each endpoint.
//
// A [Store] takes manifests with [Store.Apply], endpoints with [Store.SetEndpoints] and
// readings with [Store.UpdateMetrics], in any order. It is read through a [Snapshot], which
// is immutable and costs one atomic load. [Snapshot.Resolve] turns the model that a client
// asked for into a pool, the model name that the servers know, and a priority:
//
//	store := datastore.New(datastore.Options{})
//	store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{
//		{Address: "10.0.0.1:8000"}, {Address: "10.0.0.2:8000"},
//	})
//	r, err := store.Snapshot().Resolve(datastore.Query{Model: "llama-3"})
//	endpoints := r.Pool.Endpoints()
//
// Changes of manifests and endpoints are atomic and visible once the call returns;
// [Store.Commit] makes several changes one. Readings become visible at most one microsecond
// late per endpoint in the store, see [Options.Coalesce], without anyone waiting for it.
//
// A [FileSource] keeps a Store in sync with a file, a [DNSSource] with a DNS name. Other
// sources must set their endpoints again when a deleted pool is created anew, see
// [Store.WatchPools]. Package scrape reads the servers' metrics and the names of their models,
// which [Snapshot.Models] lists with those of manifests.
package datastore
