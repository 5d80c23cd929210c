// Package kubernetes keeps a datastore.Store in sync with a Kubernetes cluster: InferencePools,
// InferenceModels, InferenceObjectives, InferenceModelRewrites, and as endpoints the pods of the
// pools.
//
//	config, err := rest.InClusterConfig()
//	if err != nil {
//		return err
//	}
//	source, err := kubernetes.New(config, kubernetes.Options{Logger: logger})
//	if err != nil {
//		return err
//	}
//	go source.Run(ctx, store)
//	<-source.Synced()
//
// It only reads: list and watch of those kinds and of pods are all the rights it needs. What it
// finds out about the objects it tells by Objects, and the state of its watches by Kinds, for
// others to write into status and metrics.
//
// # Pools
//
// All groups and versions that types.APIVersions lists are read side by side. Of objects of the
// same kind, namespace and name in several groups one is in force: that of
// inference.networking.k8s.io before llm-d.ai before inference.networking.x-k8s.io, so that v1 of
// a pool comes before v1alpha2. When it goes, the next one is.
//
// Options.Pools and Options.PoolSelector limit a source to some pools. Objects that belong to
// other pools only are then none of its business, and it does not report them either.
//
// # Endpoints
//
// Each pod that a pool selects has an endpoint for each of the pool's target ports, with the ID
// NAMESPACE/POD-rank-INDEX, where the index is that of the port, and the pod's labels. Of a pod
// with several addresses it is the first. The annotation llm-d.ai/active-ports, or
// inference.networking.k8s.io/active-ports, limits the ports to those it lists, none if it is
// empty. A pod that is not ready or is being deleted is draining: it finishes what it has and
// gets no new requests. One that has ended, is gone, or is no longer selected has no endpoints.
//
// The server selects: there is one watch of pods for each selector of a pool, so that only pods
// of pools cross the network, and of these only the few fields above are kept. Beyond
// Options.MaxPodWatches in a namespace all its pods are read by one watch instead.
//
// # When something fails
//
// The source never gives up, and never makes less of what it knows because something failed.
//
//   - The API server is away, slow or overloaded: what is known stays in force. The source tries
//     again after 0.8 s to 30 s, or when the server says, and goes on from where it was. That a
//     server which was away is back is noticed within 5 s.
//   - A kind is not there, or reading it is forbidden: it is logged once, Kinds says what is
//     missing, and it is tried again after 30 s to 5 min. Which kinds there are is asked every
//     30 s. The other kinds work.
//   - A watch ends, or the server has forgotten the past: objects go only by a list that was
//     read to its end.
//   - An object breaks a rule, as old CRDs let in: Objects says which, it is logged once, and the
//     rest is in force. After an update that is not valid the version before stays in force.
//   - Others delete from the store what the source has put there: it puts that back.
//
// A deleted CRD is no failure: the objects are gone, and so are their pools, here too. But it
// takes the server's events for that, or two of its answers, 30 s apart, that it does not serve
// the kind: a proxy may say so once. What a server that is starting does not list yet is not
// taken for removed at all.
package kubernetes
