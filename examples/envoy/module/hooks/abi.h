// What this module uses of Envoy's interface for dynamic modules: types, and functions that Envoy's
// binary exports. What it was compiled with is not part of the interface; the names and layouts are.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A piece of memory, given by value: Envoy's, until the hook returns, or the module's.
typedef struct {
	const char *data;
	size_t size;
} piece;

typedef struct {
	const char *key;
	size_t key_size;
	const char *value;
	size_t value_size;
} header;

#define CALLBACK(name) envoy_dynamic_module_callback_##name

// Any thread.
void CALLBACK(log)(int level, piece message);
bool CALLBACK(log_enabled)(int level);
bool CALLBACK(is_validation_mode)(void);
void CALLBACK(http_filter_scheduler_commit)(void *scheduler, uint64_t event);
void CALLBACK(http_filter_scheduler_delete)(void *scheduler);

// The worker of the stream, in a hook.
size_t CALLBACK(http_get_headers_size)(void *stream, int map);
bool CALLBACK(http_get_headers)(void *stream, int map, header *into);
bool CALLBACK(http_set_header)(void *stream, int map, piece key, piece value);
size_t CALLBACK(http_get_body_chunks_size)(void *stream, int body);
bool CALLBACK(http_get_body_chunks)(void *stream, int body, piece *into);
bool CALLBACK(http_append_body)(void *stream, int body, piece data);
bool CALLBACK(http_drain_body)(void *stream, int body, size_t size);
void CALLBACK(http_send_response)(void *stream, uint32_t status, header *headers, size_t count, piece body, piece details);
bool CALLBACK(http_get_metadata_string)(void *stream, int source, piece space, piece key, piece *into);
size_t CALLBACK(http_get_metadata_keys_count)(void *stream, int source, piece space);
bool CALLBACK(http_get_metadata_keys)(void *stream, int source, piece space, piece *into);
bool CALLBACK(http_get_metadata_list_size)(void *stream, int source, piece space, piece key, size_t *into);
bool CALLBACK(http_get_metadata_list_string)(void *stream, int source, piece space, piece key, size_t index, piece *into);
void CALLBACK(http_set_dynamic_metadata_string)(void *stream, piece space, piece key, piece value);
void CALLBACK(http_set_dynamic_metadata_number)(void *stream, piece space, piece key, double value);
void CALLBACK(http_set_dynamic_metadata_bool)(void *stream, piece space, piece key, bool value);
uintptr_t CALLBACK(get_most_specific_route_config)(void *stream);
void *CALLBACK(http_filter_scheduler_new)(void *stream);
void CALLBACK(http_filter_continue_decoding)(void *stream);
void CALLBACK(http_filter_reset_stream)(void *stream, int reason, piece details);
