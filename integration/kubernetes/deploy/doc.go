// Package deploy has no code: its tests render the Helm chart and the kustomize manifests of
// the endpoint picker (examples/envoy/deploy), build what its Dockerfile builds, and run what
// was rendered against a real API server.
package deploy
