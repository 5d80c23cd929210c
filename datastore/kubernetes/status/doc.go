// Package status writes into the cluster which InferenceModels, InferenceObjectives and
// InferenceModelRewrites are in force, and why the others are not: the condition Accepted of
// their status.
//
//	writer, err := status.New(config, source, store, status.Options{})
//	…
//	err = lease.Elect(ctx, config, lease.Options{Namespace: "models", Name: "epp"}, writer.Run)
//
// Several gateways that read the same objects would write the same; package lease lets one of
// them do it. The right to patch the resources inferencemodels/status,
// inferenceobjectives/status and inferencemodelrewrites/status is needed; where it is missing,
// that is logged and tried again later.
//
// # What is written
//
//	True     Accepted         in force
//	False    ModelNameInUse   an older object of the pool is for the same models
//	False    Invalid          it breaks a rule that an old CRD does not check; the message says which
//	False    Shadowed         an object of the name in another API group is in force
//	False    LimitReached     a limit of the store is exceeded
//	Unknown  Pending          its pool does not exist
//
// The conditions of others stay as they are; but the Ready/Pending of the Unix epoch that the CRDs
// of models and objectives put there by default is dropped, as nobody ever answers it. The status
// of pools is for gateways, and never written.
//
// A status is written only if it changes, from the version of the object that was seen, so that
// nothing is overwritten that somebody else has written meanwhile; at most Options.Rate times a
// second, and less and less often where another program keeps writing something else.
//
// The file decide.go says what is to be written, plan.go when; both know no clock but the one they
// are told. writer.go writes.
package status
