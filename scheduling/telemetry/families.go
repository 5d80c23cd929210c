package telemetry

import dto "github.com/prometheus/client_model/go"

// family describes a metric.
type family struct {
	name, help string
	kind       dto.MetricType
	labels     []string // in order of their names
}

const (
	counter = dto.MetricType_COUNTER
	gauge   = dto.MetricType_GAUGE
	hist    = dto.MetricType_HISTOGRAM
)

// Sets of labels, each in the order of their names.
var (
	ofPair     = []string{"model_name", "target_model_name"}
	ofUse      = []string{"model_name", "pool", "target_model_name"}
	ofModel    = []string{"model_name"}
	ofPool     = []string{"pool"}
	ofPoolName = []string{"name"}
)

// Metrics of requests. What the names begin with is left out: they are exported
// under one or two beginnings.
var (
	requests      = family{"request_total", "Requests, those that were refused included.", counter, []string{"model_name", "priority", "target_model_name"}}
	requestErrors = family{"request_error_total", "Requests that were refused or did not end well, by why.", counter, []string{"error_code", "model_name", "target_model_name"}}
	running       = family{"running_requests", "Requests that were sent to an endpoint and are not done.", gauge, ofModel}
	durations     = family{"request_duration_seconds", "Time from the decision to the end of the response, of requests that ended well.", hist, ofPair}
	requestSizes  = family{"request_sizes", "Size of the bodies of requests, in bytes.", hist, ofPair}
	responseSizes = family{"response_sizes", "Size of the bodies of responses that ended well, in bytes.", hist, ofPair}
	inputTokens   = family{"input_tokens", "Tokens of the prompt, as the server reported them.", hist, ofPair}
	outputTokens  = family{"output_tokens", "Tokens of the output, as the server reported them.", hist, ofPair}

	legacyRequests = family{requests.name, requests.help, counter, ofPair}

	sloViolations = family{"request_slo_violation_total", "Streamed requests that came later than their SLO: the first token (ttft) or those after it (tpot).", counter, []string{"model_name", "target_model_name", "type"}}
	cachedTokens  = family{"prompt_cached_tokens", "Tokens of the prompt that were in the server's prefix cache, as it reported them.", hist, ofPair}
	ntpots        = family{"normalized_time_per_output_token_seconds", "Time from the decision to the end, divided by the tokens of the output.", hist, ofPair}
	ttfts         = family{"request_ttft_seconds", "Time from the decision to the first token of streamed responses that ended well.", hist, ofPair}
	tpots         = family{"request_tpot_seconds", "Mean time for each token after the first of streamed responses that ended well.", hist, ofPair}
)

// Metrics of decisions.
var (
	decisionTimes = family{"inference_extension_scheduler_e2e_duration_seconds", "Time that a decision took.", hist, nil}
	decisions     = family{"inference_extension_scheduler_attempts_total", "Decisions, by the endpoint that was the first choice.", counter, []string{"namespace", "pod_name", "port", "status", "target_model_name"}}
	rewritten     = family{"inference_extension_model_rewrite_decisions_total", "Requests whose model an InferenceModelRewrite changed.", counter, []string{"model_name", "model_rewrite_name", "target_model"}}
	info          = family{"inference_extension_info", "1, with the build of the program.", gauge, []string{"build_ref", "commit"}}

	retries  = family{"inferpick_retries_total", "Requests that went on from one endpoint to another.", counter, ofPool}
	failures = family{"inferpick_plugin_failures_total", "Errors of plugins.", counter, []string{"plugin", "pool", "stage"}}
	expired  = family{"inferpick_bookings_expired_total", "Decisions that were never reported done. More than 0 is a mistake in the program.", counter, ofPool}
	refusals = family{"inferpick_refused_requests_total", "Requests that were refused after their pool was known, by why.", counter, []string{"error_code", "pool"}}
)

// Metrics of models.
var (
	modelInFlight   = family{"inferpick_model_in_flight_requests", "Requests that were sent to an endpoint and are not done.", gauge, ofUse}
	modelPrompt     = family{"inferpick_model_prompt_tokens_total", "Tokens of prompts, as servers reported them.", counter, ofUse}
	modelOutput     = family{"inferpick_model_output_tokens_total", "Tokens of outputs, as servers reported them.", counter, ofUse}
	modelCached     = family{"inferpick_model_cached_tokens_total", "Tokens of prompts that were in a server's prefix cache, as servers reported them.", counter, ofUse}
	modelOutputRate = family{"inferpick_model_output_tokens_per_second", "Tokens of outputs per second, of requests that are done, exponentially weighted over 30 s.", gauge, ofUse}
)

// Metrics of pools.
var (
	averageKV      = family{"inference_pool_average_kv_cache_utilization", "Mean fraction of the KV cache in use, of the ready endpoints that said so lately.", gauge, ofPoolName}
	averageQueue   = family{"inference_pool_average_queue_size", "Mean requests queued in the engine, of the ready endpoints that said so lately.", gauge, ofPoolName}
	averageRunning = family{"inference_pool_average_running_requests", "Mean requests in the engine's batch, of the ready endpoints that said so lately.", gauge, ofPoolName}
	readyPods      = family{"inference_pool_ready_pods", "Endpoints that take new requests.", gauge, ofPoolName}
	podQueue       = family{"inference_pool_per_pod_queue_size", "Requests queued in the engine, if it said so lately.", gauge, []string{"model_server_pod", "name"}}
	flowSaturation = family{"inference_extension_flow_control_pool_saturation", "Mean of how full the ready endpoints are; an endpoint of which nothing is known counts as full, and so does a pool with none.", gauge, []string{"inference_pool"}}

	poolQueued     = family{"inferpick_pool_queued_requests", "Requests queued in the engines that said so lately.", gauge, ofPoolName}
	poolRunning    = family{"inferpick_pool_running_requests", "Requests in the batches of the engines that said so lately.", gauge, ofPoolName}
	poolInFlight   = family{"inferpick_pool_in_flight_requests", "Requests that this process sent to the pool's endpoints and that are not done.", gauge, ofPoolName}
	poolOwed       = family{"inferpick_pool_prefill_tokens_owed", "Tokens of prompts that this process sent to the pool's endpoints, not believed to be cached, with no first token yet.", gauge, ofPoolName}
	poolEndpoints  = family{"inferpick_pool_endpoints", "Endpoints by state.", gauge, []string{"name", "state"}}
	poolSaturation = family{"inferpick_pool_saturation", "Mean of how full the ready endpoints are of which something is known.", gauge, ofPoolName}
)

// Metrics of admission control.
var (
	ofPriority      = []string{"pool", "priority"}
	ofQueuePriority = []string{"inference_pool", "priority"}

	queueDurations = family{"inference_extension_flow_control_request_queue_duration_seconds", "Time that requests waited to be let in, by what became of them; 0 of those that did not wait.", hist, []string{"fairness_id", "inference_pool", "model_name", "outcome", "priority", "target_model_name"}}
	queueSize      = family{"inference_extension_flow_control_queue_size", "Requests that wait to be let in.", gauge, ofQueuePriority}
	queueBytes     = family{"inference_extension_flow_control_queue_bytes", "Size of the bodies of the requests that wait to be let in.", gauge, ofQueuePriority}

	queueOldest         = family{"inferpick_admission_queue_oldest_seconds", "How long the request that waits the longest has; 0 if none waits.", gauge, ofPriority}
	admissionWaiting    = family{"inferpick_admission_queued_requests", "Requests of all priorities that wait to be let in.", gauge, ofPool}
	admissionRunning    = family{"inferpick_admission_running_requests", "Requests that were let in and have not ended.", gauge, ofPriority}
	admissionTenants    = family{"inferpick_admission_tenants", "Tenants that are known.", gauge, ofPriority}
	admissionRoom       = family{"inferpick_admission_endpoints_with_room", "Endpoints that have room for requests of the priority.", gauge, ofPriority}
	admissionQueued     = family{"inferpick_admission_queued_total", "Requests that had to wait.", counter, ofPriority}
	admissionDispatched = family{"inferpick_admission_dispatched_total", "Requests that were let in, at once or after they had waited.", counter, ofPriority}
	admissionCancelled  = family{"inferpick_admission_cancelled_total", "Requests that were given up while they waited.", counter, ofPriority}
	admissionRevoked    = family{"inferpick_admission_revoked_total", "Requests that ran and were asked to end for the sake of others.", counter, ofPriority}
	admissionRefused    = family{"inferpick_admission_refused_total", "Requests that were not let in, at once or after they had waited, by why.", counter, []string{"pool", "priority", "reason"}}
	admissionTokens     = family{"inferpick_admission_weighted_tokens_total", "Weighted tokens that requests took, counted when they end: what tenants share by.", counter, ofPriority}
)
