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

// module is what was registered.
var module filter.Module

// Register says what Envoy loads. It is called once, by an init function.
func Register(m filter.Module) { module = m }
