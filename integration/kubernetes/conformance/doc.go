// Package conformance has the cases by which the Gateway API Inference Extension judges
// gateways, restated: examples/kubernetes against a real API server, with echo servers on
// 127.0.0.0/8 for pods, and for the cases that are about pickers the picker of examples/envoy.
// docs/kubernetes-conformance.md says which case is where.
package conformance
