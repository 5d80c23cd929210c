package filter

// What Envoy loads: package hooks calls it.

// Module is what Envoy loads. Envoy calls it on its main thread.
type Module interface {
	// NewFilter makes a filter of Envoy's configuration: its filter_name, and its filter_config, which is JSON
	// where it was a Struct. With validate the configuration is only to be looked at. After an error
	// Envoy does not take the configuration, and goes on with the one it has.
	NewFilter(name string, config []byte, validate bool) (Factory, error)
	// NewRoute makes what a route's configuration says.
	NewRoute(name string, config []byte) (*Settings, error)
}

// Factory is one filter of Envoy's configuration.
type Factory interface {
	// NewStream returns the hooks of a new stream. Envoy calls it on its workers.
	NewStream() Hooks
	// Close is called on the main thread, after the last stream has ended.
	Close()
}

// Hooks are those of a stream: see Stream.
type Hooks interface {
	RequestHeaders(h Host, end bool) Status
	RequestBody(h Host, end bool) Status
	RequestTrailers(h Host) Status
	Woken(h Host)
	ResponseHeaders(h Host, end bool) Status
	ResponseBody(h Host, end bool) Status
	ResponseTrailers(h Host) Status
	Destroy()
}
