//go:build linux || darwin

package hooks

/*
#cgo linux LDFLAGS: -Wl,--unresolved-symbols=ignore-all
#cgo darwin LDFLAGS: -Wl,-undefined,dynamic_lookup
#include "abi.h"
*/
import "C"

import (
	"fmt"
	"log/slog"
	"runtime/cgo"
	"runtime/debug"
	"unsafe"

	"github.com/inferpick/inferpick/examples/envoy/module/filter"
)

// This file is what Envoy calls; what does nothing is in empty.c.

// version is that of the interface. Envoy warns of one that is not its own, and goes on.
var version = C.CString("v0.2.0")

//export envoy_dynamic_module_on_program_init
func envoy_dynamic_module_on_program_init() *C.char { return version }

// stopped is what a hook of a stream returns if it panics.
const stopped = C.int(filter.StopIteration)

// recovered ends a panic that a hook has let out: it would be Envoy's end.
func recovered(hook string) {
	if v := recover(); v != nil {
		panicked(hook, v)
	}
}

// reset is recovered for hooks of a stream, which must not go on then: nobody knows what it would be sent as.
func reset(hook string, stream unsafe.Pointer, status *C.int) {
	if v := recover(); v != nil {
		panicked(hook, v)
		*status = stopped
		host{stream}.Reset()
	}
}

func panicked(hook string, v any) {
	logLine(slog.LevelError, fmt.Sprintf("panic in the hook %s: %v\n%s", hook, v, debug.Stack()))
}

//export envoy_dynamic_module_on_http_filter_config_new
func envoy_dynamic_module_on_http_filter_config_new(envoy unsafe.Pointer, name, config C.piece) (c C.uintptr_t) {
	defer recovered("http_filter_config_new")
	f, err := module.NewFilter(copied(name), []byte(copied(config)), bool(C.envoy_dynamic_module_callback_is_validation_mode()))
	if err != nil {
		logLine(slog.LevelError, err.Error())
		return 0
	}
	return C.uintptr_t(cgo.NewHandle(f))
}

//export envoy_dynamic_module_on_http_filter_config_destroy
func envoy_dynamic_module_on_http_filter_config_destroy(c C.uintptr_t) {
	defer recovered("http_filter_config_destroy")
	defer cgo.Handle(c).Delete()
	cgo.Handle(c).Value().(filter.Factory).Close()
}

//export envoy_dynamic_module_on_http_filter_per_route_config_new
func envoy_dynamic_module_on_http_filter_per_route_config_new(name, config C.piece) (c C.uintptr_t) {
	defer recovered("http_filter_per_route_config_new")
	route, err := module.NewRoute(copied(name), []byte(copied(config)))
	if err != nil {
		logLine(slog.LevelError, err.Error())
		return 0
	}
	return C.uintptr_t(cgo.NewHandle(route))
}

//export envoy_dynamic_module_on_http_filter_per_route_config_destroy
func envoy_dynamic_module_on_http_filter_per_route_config_destroy(c C.uintptr_t) {
	defer recovered("http_filter_per_route_config_destroy")
	cgo.Handle(c).Delete()
}

//export envoy_dynamic_module_on_http_filter_new
func envoy_dynamic_module_on_http_filter_new(c C.uintptr_t, stream unsafe.Pointer) (s C.uintptr_t) {
	defer recovered("http_filter_new")
	return C.uintptr_t(cgo.NewHandle(cgo.Handle(c).Value().(filter.Factory).NewStream()))
}

// of returns the hooks of a stream.
func of(s C.uintptr_t) filter.Hooks { return cgo.Handle(s).Value().(filter.Hooks) }

//export envoy_dynamic_module_on_http_filter_request_headers
func envoy_dynamic_module_on_http_filter_request_headers(stream unsafe.Pointer, s C.uintptr_t, end C.bool) (status C.int) {
	defer reset("http_filter_request_headers", stream, &status)
	return C.int(of(s).RequestHeaders(host{stream}, bool(end)))
}

//export envoy_dynamic_module_on_http_filter_request_body
func envoy_dynamic_module_on_http_filter_request_body(stream unsafe.Pointer, s C.uintptr_t, end C.bool) (status C.int) {
	defer reset("http_filter_request_body", stream, &status)
	return C.int(of(s).RequestBody(host{stream}, bool(end)))
}

//export envoy_dynamic_module_on_http_filter_request_trailers
func envoy_dynamic_module_on_http_filter_request_trailers(stream unsafe.Pointer, s C.uintptr_t) (status C.int) {
	defer reset("http_filter_request_trailers", stream, &status)
	return C.int(of(s).RequestTrailers(host{stream}))
}

//export envoy_dynamic_module_on_http_filter_scheduled
func envoy_dynamic_module_on_http_filter_scheduled(stream unsafe.Pointer, s C.uintptr_t, event C.uint64_t) {
	var status C.int
	defer reset("http_filter_scheduled", stream, &status)
	of(s).Woken(host{stream})
}

//export envoy_dynamic_module_on_http_filter_response_headers
func envoy_dynamic_module_on_http_filter_response_headers(stream unsafe.Pointer, s C.uintptr_t, end C.bool) (status C.int) {
	defer reset("http_filter_response_headers", stream, &status)
	return C.int(of(s).ResponseHeaders(host{stream}, bool(end)))
}

//export envoy_dynamic_module_on_http_filter_response_body
func envoy_dynamic_module_on_http_filter_response_body(stream unsafe.Pointer, s C.uintptr_t, end C.bool) (status C.int) {
	defer reset("http_filter_response_body", stream, &status)
	return C.int(of(s).ResponseBody(host{stream}, bool(end)))
}

//export envoy_dynamic_module_on_http_filter_response_trailers
func envoy_dynamic_module_on_http_filter_response_trailers(stream unsafe.Pointer, s C.uintptr_t) (status C.int) {
	defer reset("http_filter_response_trailers", stream, &status)
	return C.int(of(s).ResponseTrailers(host{stream}))
}

//export envoy_dynamic_module_on_http_filter_destroy
func envoy_dynamic_module_on_http_filter_destroy(s C.uintptr_t) {
	defer recovered("http_filter_destroy")
	defer cgo.Handle(s).Delete()
	of(s).Destroy()
}

var _ filter.Host = host{}
