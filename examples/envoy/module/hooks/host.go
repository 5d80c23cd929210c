//go:build linux || darwin

package hooks

/*
#cgo noescape envoy_dynamic_module_callback_http_get_headers
#cgo nocallback envoy_dynamic_module_callback_http_get_headers
#cgo nocallback envoy_dynamic_module_callback_http_get_headers_size
#cgo noescape envoy_dynamic_module_callback_http_set_header
#cgo nocallback envoy_dynamic_module_callback_http_set_header
#cgo nocallback envoy_dynamic_module_callback_http_get_body_chunks_size
#cgo noescape envoy_dynamic_module_callback_http_get_body_chunks
#cgo nocallback envoy_dynamic_module_callback_http_get_body_chunks
#cgo noescape envoy_dynamic_module_callback_http_append_body
#cgo nocallback envoy_dynamic_module_callback_http_append_body
#cgo nocallback envoy_dynamic_module_callback_http_drain_body
#cgo noescape envoy_dynamic_module_callback_http_get_metadata_string
#cgo nocallback envoy_dynamic_module_callback_http_get_metadata_string
#cgo noescape envoy_dynamic_module_callback_http_set_dynamic_metadata_string
#cgo nocallback envoy_dynamic_module_callback_http_set_dynamic_metadata_string
#cgo nocallback envoy_dynamic_module_callback_get_most_specific_route_config
#cgo nocallback envoy_dynamic_module_callback_http_filter_scheduler_new
#cgo nocallback envoy_dynamic_module_callback_http_filter_scheduler_commit
#cgo nocallback envoy_dynamic_module_callback_http_filter_scheduler_delete
#include <stdlib.h>
#include "abi.h"
*/
import "C"

import (
	"reflect"
	"runtime/cgo"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
)

// host is Envoy, for one stream.
type host struct{ stream unsafe.Pointer }

// dynamic is the source of metadata that filters write.
const dynamic = 0

// localReset is why Envoy resets a stream.
const localReset = 0

// given is s for the time of a call.
func given(s string) C.piece {
	return C.piece{data: (*C.char)(unsafe.Pointer(unsafe.StringData(s))), size: C.size_t(len(s))}
}

// copied is what Envoy has given.
func copied(p C.piece) string { return C.GoStringN(p.data, C.int(p.size)) }

// seen is Envoy's memory, as long as that is there.
func seen(p C.piece) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p.data)), int(p.size)) }

// Fields implements filter.Host.
func (h host) Fields(m filter.Map) exchange.Fields {
	n := int(C.envoy_dynamic_module_callback_http_get_headers_size(h.stream, C.int(m)))
	if n == 0 {
		return func(func(key, value string) bool) {}
	}
	all := make([]C.header, n)
	if !C.envoy_dynamic_module_callback_http_get_headers(h.stream, C.int(m), &all[0]) {
		all = nil
	}
	// The names are one string, as nobody keeps them; somebody may keep a value, and not all of the others with it.
	var names strings.Builder
	for _, one := range all {
		names.Write(seen(C.piece{data: one.key, size: one.key_size}))
	}
	fields := make([][2]string, len(all))
	rest := names.String()
	for i, one := range all {
		fields[i] = [2]string{rest[:one.key_size], copied(C.piece{data: one.value, size: one.value_size})}
		rest = rest[one.key_size:]
	}
	return func(yield func(key, value string) bool) {
		for _, f := range fields {
			if !yield(f[0], f[1]) {
				return
			}
		}
	}
}

// Set implements filter.Host.
func (h host) Set(m filter.Map, name, value string) {
	C.envoy_dynamic_module_callback_http_set_header(h.stream, C.int(m), given(name), given(value))
}

// Remove implements filter.Host.
func (h host) Remove(m filter.Map, name string) { h.Set(m, name, "") }

// Pieces implements filter.Host.
func (h host) Pieces(b filter.Body) [][]byte {
	n := int(C.envoy_dynamic_module_callback_http_get_body_chunks_size(h.stream, C.int(b)))
	if n == 0 {
		return nil
	}
	all := make([]C.piece, n)
	if !C.envoy_dynamic_module_callback_http_get_body_chunks(h.stream, C.int(b), &all[0]) {
		return nil
	}
	pieces := make([][]byte, n)
	for i, p := range all {
		pieces[i] = seen(p)
	}
	return pieces
}

// Append implements filter.Host.
func (h host) Append(b filter.Body, piece []byte) {
	if len(piece) > 0 {
		C.envoy_dynamic_module_callback_http_append_body(h.stream, C.int(b), given(unsafe.String(&piece[0], len(piece))))
	}
}

// Drain implements filter.Host.
func (h host) Drain(b filter.Body, n int) {
	if n > 0 {
		C.envoy_dynamic_module_callback_http_drain_body(h.stream, C.int(b), C.size_t(n))
	}
}

// Metadata implements filter.Host.
func (h host) Metadata(namespace, key string) (values []string, ok bool) {
	// Envoy does not say of what kind a value is, and to ask for another is an error in its log. So it is asked
	// first for what there was the last time.
	_, list := listed.Load(key)
	if values, ok = h.metadata(namespace, key, list); ok {
		return values, true
	}
	if !h.hasMetadata(namespace, key) {
		return nil, false
	}
	if values, ok = h.metadata(namespace, key, !list); !ok {
		return nil, true
	}
	if list {
		listed.Delete(key)
	} else {
		listed.Store(key, nil)
	}
	return values, true
}

// listed are the keys, of the few that are asked for, that had a list.
var listed sync.Map

// metadata returns what there is if it is of a kind: a list, or a string.
func (h host) metadata(namespace, key string, list bool) (values []string, ok bool) {
	var p C.piece
	if !list {
		if !C.envoy_dynamic_module_callback_http_get_metadata_string(h.stream, dynamic, given(namespace), given(key), &p) {
			return nil, false
		}
		return []string{copied(p)}, true
	}
	var n C.size_t
	if !C.envoy_dynamic_module_callback_http_get_metadata_list_size(h.stream, dynamic, given(namespace), given(key), &n) {
		return nil, false
	}
	for i := range n {
		if C.envoy_dynamic_module_callback_http_get_metadata_list_string(h.stream, dynamic, given(namespace), given(key), i, &p) {
			values = append(values, copied(p))
		}
	}
	return values, true
}

// hasMetadata reports whether there is something.
func (h host) hasMetadata(namespace, key string) bool {
	n := C.envoy_dynamic_module_callback_http_get_metadata_keys_count(h.stream, dynamic, given(namespace))
	if n == 0 {
		return false
	}
	keys := make([]C.piece, n)
	if !C.envoy_dynamic_module_callback_http_get_metadata_keys(h.stream, dynamic, given(namespace), &keys[0]) {
		return false
	}
	return slices.ContainsFunc(keys, func(k C.piece) bool { return string(seen(k)) == key })
}

// SetMetadata implements filter.Host.
func (h host) SetMetadata(namespace, key string, value any) {
	number := func(v float64) {
		C.envoy_dynamic_module_callback_http_set_dynamic_metadata_number(h.stream, given(namespace), given(key), C.double(v))
	}
	switch v := reflect.ValueOf(value); {
	case v.Kind() == reflect.String:
		C.envoy_dynamic_module_callback_http_set_dynamic_metadata_string(h.stream, given(namespace), given(key), given(v.String()))
	case v.Kind() == reflect.Bool:
		C.envoy_dynamic_module_callback_http_set_dynamic_metadata_bool(h.stream, given(namespace), given(key), C.bool(v.Bool()))
	case v.CanInt():
		number(float64(v.Int()))
	case v.CanUint():
		number(float64(v.Uint()))
	case v.CanFloat():
		number(v.Float())
	}
}

// Route implements filter.Host.
func (h host) Route() *filter.Settings {
	c := C.envoy_dynamic_module_callback_get_most_specific_route_config(h.stream)
	if c == 0 {
		return nil
	}
	return cgo.Handle(c).Value().(*filter.Settings)
}

// Respond implements filter.Host.
func (h host) Respond(a *exchange.Answer) {
	var text strings.Builder
	var ends []int // in text, of names and values in turns
	for name, value := range a.Fields() {
		text.WriteString(name)
		ends = append(ends, text.Len())
		text.WriteString(value)
		ends = append(ends, text.Len())
	}
	// An array of pointers must not be Go's, and neither may what they point to.
	n := len(ends) / 2
	headers := (*C.header)(C.calloc(C.size_t(n+1), C.sizeof_header))
	defer C.free(unsafe.Pointer(headers))
	start := C.CString(text.String())
	defer C.free(unsafe.Pointer(start))
	at := 0
	next := func(end int) (*C.char, C.size_t) {
		p, size := (*C.char)(unsafe.Add(unsafe.Pointer(start), at)), C.size_t(end-at)
		at = end
		return p, size
	}
	for i := range unsafe.Slice(headers, n) {
		one := (*C.header)(unsafe.Add(unsafe.Pointer(headers), i*C.sizeof_header))
		one.key, one.key_size = next(ends[2*i])
		one.value, one.value_size = next(ends[2*i+1])
	}
	C.envoy_dynamic_module_callback_http_send_response(h.stream, C.uint32_t(a.Status), headers, C.size_t(n), given(string(a.Body)), given(a.Details))
}

// Go implements filter.Host.
func (h host) Go() { C.envoy_dynamic_module_callback_http_filter_continue_decoding(h.stream) }

// Reset implements filter.Host.
func (h host) Reset() {
	C.envoy_dynamic_module_callback_http_filter_reset_stream(h.stream, localReset, given("inferpick_reset"))
}

// Waker implements filter.Host.
func (h host) Waker() filter.Waker {
	return waker{C.envoy_dynamic_module_callback_http_filter_scheduler_new(h.stream)}
}

// waker is a scheduler of Envoy's for one stream.
type waker struct{ scheduler unsafe.Pointer }

// Wake implements filter.Waker.
func (w waker) Wake() { C.envoy_dynamic_module_callback_http_filter_scheduler_commit(w.scheduler, 0) }

// Release implements filter.Waker.
func (w waker) Release() { C.envoy_dynamic_module_callback_http_filter_scheduler_delete(w.scheduler) }
