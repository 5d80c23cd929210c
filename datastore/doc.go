// Package datastore holds what a gateway knows: pools, models and endpoints,
// and what the endpoints reported last.
//
// A [Store] is fed from any side and in any order: manifests with [Store.Apply],
// endpoints with [Store.SetEndpoints], readings with [Store.UpdateMetrics]. It
// is read through a [Snapshot]: one atomic load, immutable, of one moment. Its
// [Snapshot.Resolve] turns the model that a client asked for into a pool, the
// name that the servers know, and a priority:
//
//	store := datastore.New(datastore.Options{})
//	store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{
//		{Address: "10.0.0.1:8000"}, {Address: "10.0.0.2:8000"},
//	})
//	r, err := store.Snapshot().Resolve(datastore.Query{Model: "llama-3"})
//	endpoints := r.Pool.Endpoints()
//
// A change of manifests or endpoints is one step to readers: they see all of it
// or nothing, and they see it from the moment the call returns. Several changes
// are made one step by [Store.Commit]. Readings are published by readers, at
// most one microsecond late for each endpoint in the store, see
// [Options.Coalesce]; nobody waits for that.
//
// A [FileSource] keeps a Store in step with a file, a [DNSSource] with a name in
// DNS. A source of one's own gives its endpoints again when a pool that was deleted is
// made anew, see [Store.WatchPools]. The scrape package below this one reads the servers'
// metrics and the names of their models, which [Snapshot.Models] lists beside those of
// manifests.
package datastore
