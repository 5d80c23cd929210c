// Package rollouts keeps rollouts in a Kubernetes cluster: Home is the rollout.Home whose objects are InferenceModels
// and InferenceModelRewrites.
//
//	home, err := rollouts.New(config, source, rollouts.Options{Logger: logger})
//	…
//	go home.Run(ctx) // events and conditions
//	err = lease.Elect(ctx, config, lease.Options{Namespace: "models", Name: "epp"}, home.Lead)
//
// The targets' weights are in the object itself, the state of the rollout is in its annotation
// rollout.StateAnnotation, and one patch writes both, so that they are never apart. It names the version of the object
// that it was made for: whatever somebody else has written meanwhile, in whichever field, makes the server refuse it,
// and it is made anew from what is there then, or is a rollout.ErrConflict if that concerns the rollout.
//
// # One writer
//
// Only the process for which Lead runs writes; what is under way when it ends is cut off. That two believe to lead, as
// one may that was suspended between its last look at the clock and its patch, does no harm: each write replaces just
// what its writer has read, and every write changes that. So there is one line of writes, and none on it is lost or
// made in ignorance of the one before.
//
// An object that was deleted and made anew, even from a copy that has the annotations, has no state: the state is one
// of a uid, which UIDAnnotation holds.
//
// # Rights
//
//	inferencemodels, inferencemodelrewrites                  get, patch
//	inferencemodels/status, inferencemodelrewrites/status    patch   for the condition
//	events of events.k8s.io                                  create  for events
//
// in the groups that have them. A right that is missing is an error that names the verb and the resource (ErrForbidden);
// of those for conditions and events it is logged, once.
//
// # What people see
//
// The condition Rollout of the object's status: True while a rollout goes on, with its phase as the reason; Unknown
// while it is paused or holds; False when it has ended, as Done or Failed. The conditions of others stay as they are.
// Events on the object tell of what happens, at a bounded rate, and never of single verdicts.
//
// When somebody else has changed the weights, Editor says who: GitOps controllers do that if they are not told to
// leave them alone.
//
// The files weights.go, condition.go, editor.go and budget.go decide, and know neither clock nor network.
package rollouts
