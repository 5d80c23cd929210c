// Package kubernetes keeps a datastore.Store in sync with a Kubernetes cluster: InferencePools,
// InferenceModels, InferenceObjectives, InferenceModelRewrites, and as endpoints the pods of the
// pools.
package kubernetes
