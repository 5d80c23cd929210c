// Hooks that do nothing. Envoy does not load a module without them.
#include "abi.h"

#define HOOK(name) void envoy_dynamic_module_on_http_filter_##name

HOOK(stream_complete)(void *stream, uintptr_t self) {}
HOOK(downstream_above_write_buffer_high_watermark)(void *stream, uintptr_t self) {}
HOOK(downstream_below_write_buffer_low_watermark)(void *stream, uintptr_t self) {}

// Of requests that a module itself sends.
HOOK(http_callout_done)(void *stream, uintptr_t self, uint64_t id, int result, header *headers, size_t count, piece *chunks, size_t chunk_count) {}
HOOK(http_stream_headers)(void *stream, uintptr_t self, uint64_t id, header *headers, size_t count, bool end) {}
HOOK(http_stream_data)(void *stream, uintptr_t self, uint64_t id, const piece *chunks, size_t count, bool end) {}
HOOK(http_stream_trailers)(void *stream, uintptr_t self, uint64_t id, header *headers, size_t count) {}
HOOK(http_stream_complete)(void *stream, uintptr_t self, uint64_t id) {}
HOOK(http_stream_reset)(void *stream, uintptr_t self, uint64_t id, int reason) {}
