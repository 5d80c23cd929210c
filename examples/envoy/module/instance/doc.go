// Package instance keeps the pickers of a process that Envoy has loaded. A picker outlives the configurations of
// Envoy that name it: prefix index, bookings, queues and whatever else it has learned stay while listeners and
// routes change, and its own files are read again when they do, as those of a picker in a process of its own.
//
// # Configuration
//
// A filter's filter_name is the picker's. Its filter_config is a google.protobuf.Struct of the flags of
// command epp by name, without those for what is Envoy's own here (package flags says which, and why); and
//
//	pool: NAMESPACE/NAME      # of every request that comes this way (default: the one that serves the model)
//	destinations: all         # or a number: how many endpoints Envoy is told of, for retries (default 1)
//
// A route can have the last two for itself, by a DynamicModuleFilterPerRoute of the same filter_name.
//
// Filters of the same name share a picker. The first one's flags count; another that says something else is
// refused, as it would have to throw away what the picker knows: restart Envoy for that, or give it another
// name. pool and destinations may change at any time.
package instance
