// Package epp is an endpoint picker as a process: configuration, store, scraper,
// scheduler, director and telemetry wired together behind the gRPC server that Envoy
// asks, with health, metrics, reloads and a drain. Command epp is its command line;
// the demo and the tests run it inside of themselves.
package epp
