// Package keda is an external scaler for KEDA inside a gateway: KEDA asks it over gRPC how many replicas of a pool there
// should be, and is told at once when a request waits for a pool that has none.
//
// It is a module of its own because it needs gRPC. A gateway registers a [Server] at a gRPC server of its own:
//
//	scaler, err := keda.New(keda.Options{Source: autoscaler})
//	…
//	scaler.Register(server)
//	defer scaler.Close()
//
// and a ScaledObject has a trigger of type external-push, or external:
//
//	triggers:
//	- type: external-push
//	  metadata:
//	    scalerAddress: llama-epp.models:9005
//	    pool: llama
//
// The metadata, all text, beside what KEDA itself reads:
//
//	pool              of which the Deployment is the servers; required
//	namespace         of the pool; default that of the ScaledObject
//	metric            one of package metric; default desired, which weighs all others
//	target            value for one replica; default 1 for desired, required for the others
//	model             public name: only what is for that model, of metrics that there are of models
//	activationTarget  there are to be replicas while the metric is above it, or something runs; default: while the
//	                  Autoscaler recommends any, or, of a model, something is queued or runs or came within a minute
//
// What KEDA cannot see is an error of its own, so that it changes nothing: INVALID_ARGUMENT with all that is wrong with
// the metadata, NOT_FOUND for a pool or a model that there is not, UNAVAILABLE for a figure that is not known, or of
// which another gateway's part is missing.
//
// All metrics are sums over the pool: metricType of the trigger has to be AverageValue, which is the default.
//
// Package externalscaler has KEDA's messages. A program cannot link it together with KEDA's own, as both register the
// same names with package protobuf.
package keda
