// Package cluster runs real Kubernetes API servers for tests, and plays the kubelet: a pod is
// a simulated model server at an address of its own in 127.0.0.0/8, with the status that a
// kubelet would give it.
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }
//
//	func TestPool(t *testing.T) {
//		c := cluster.Shared(t)
//		ns := c.Namespace(t)
//		c.Apply(t, ns, pool)
//		pod := c.Pod(t, cluster.PodOptions{Namespace: ns, Labels: map[string]string{"app": "llama"}})
//		…
//		err := pod.Terminate(ctx, time.Second)
//	}
//
// A server takes 2 seconds of computing to start, and 400 MB, so tests that only need a
// namespace share one. Those that stop it, or change what is cluster-wide, Start their own.
//
// Tests are skipped where the program is not there; apiserver/build.sh builds it. There are no
// controllers: nobody makes pods of Deployments, EndpointSlices of Services or deletes what is
// in a namespace.
package cluster
