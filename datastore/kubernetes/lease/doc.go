// Package lease elects one of several processes by a Lease of Kubernetes (coordination.k8s.io/v1):
// the one that holds it leads until it ends or can no longer renew it.
//
//	err := lease.Elect(ctx, config, lease.Options{Namespace: "models", Name: "epp"}, func(ctx context.Context) {
//		// this one leads, until ctx is done
//	})
//
// Never do two lead at a time, whatever the clocks of their machines say: a holder counts from
// before it asked to renew and stops after Options.Renew, the others count from when they saw it
// renewed and wait for Options.Duration, which is longer; times that others have written are not
// looked at. A holder that was suspended, whose wall clock has therefore jumped ahead, stops at
// once. (Only where somebody deletes the Lease, a candidate that starts within Options.Retry of that
// may begin before the holder has noticed.) Candidates of client-go's leader election and those of this package can share a Lease.
//
// The file candidate.go decides, and knows no clock but the one it is told; elect.go waits and
// runs; api.go talks to the API server.
package lease
