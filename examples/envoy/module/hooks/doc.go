// Package hooks is Envoy's interface for dynamic modules in Go, as far as it is needed: what Envoy calls, and
// what it is called for. It is C on one side, and package filter on the other. A program that
// registers a Module in an init function, and is built with -buildmode=c-shared, can be loaded by Envoy.
//
// It needs cgo, and a C compiler where it is built. The functions of Envoy are found when it loads the module: any other
// program that calls one ends.
//
// What is exported holds no lock while it calls Envoy, and lets no panic out.
package hooks

import "github.com/inferpick/inferpick/examples/envoy/module/filter"

// Module is what Envoy loads. Envoy calls it on its main thread.
type Module interface {
	// NewFilter makes a filter of Envoy's configuration: its filter_name, and its filter_config, which is JSON
	// where it was a Struct. With validate the configuration is only to be looked at. After an error
	// Envoy does not take the configuration, and goes on with the one it has.
	NewFilter(name string, config []byte, validate bool) (Filter, error)
	// NewRoute makes what a route's configuration says.
	NewRoute(name string, config []byte) (*filter.Settings, error)
}

// Filter is one filter of Envoy's configuration.
type Filter interface {
	// Stream returns the hooks of a new stream. Envoy calls it on its workers.
	Stream() Stream
	// Close is called on the main thread, after the last stream has ended.
	Close()
}

// Stream are the hooks of a stream: see filter.Stream.
type Stream interface {
	RequestHeaders(h filter.Host, end bool) filter.Status
	RequestBody(h filter.Host, end bool) filter.Status
	RequestTrailers(h filter.Host) filter.Status
	Woken(h filter.Host)
	ResponseHeaders(h filter.Host, end bool) filter.Status
	ResponseBody(h filter.Host, end bool) filter.Status
	ResponseTrailers(h filter.Host) filter.Status
	Destroy()
}

// module is what was registered.
var module Module

// Register says what Envoy loads. It is called once, by an init function.
func Register(m Module) { module = m }
