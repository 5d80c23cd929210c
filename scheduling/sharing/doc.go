// Package sharing makes several gateways in front of the same servers act as one. Each tells its peers what
// it has sent where, what servers it found dead, and what its tenants have used, and takes over what they tell.
//
//	group, err := sharing.New(sharing.Options{Transport: transport})
//	…
//	err = group.Add(sharing.Scope{Name: "pool", Endpoints: endpoints, Parts: sharing.PartsOf(profile)})
//	go group.Run(ctx)
//
// A Transport carries messages. It may lose them, deliver them twice, late, or in another order: every message
// is state, not an event, and the newest of each figure counts. Nothing waits for a peer: decisions are made
// with what has been heard, and without peers as they would be without this package.
package sharing
