package telemetry

import (
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// family describes a metric.
type family struct {
	name, help string
	kind       dto.MetricType
	labels     []string // in order of their names
	llmd       string   // what llm-d calls it, after llmdPrefix; empty: it has it not
	legacy     string   // what version 0.3 of the Inference Extension called it; empty: it had it not
}

// own is a metric that only we have.
func own(kind dto.MetricType, name, help string, labels ...string) family {
	return family{name: name, help: help, kind: kind, labels: labels}
}

// shared is a metric that the Inference Extension has, and llm-d by another name.
func shared(kind dto.MetricType, name, llmd, help string, labels ...string) family {
	return family{name: name, help: help, kind: kind, labels: labels, llmd: llmd}
}

// old is one that version 0.3 of the Inference Extension had, too.
func old(f family) family {
	f.legacy = legacyPrefix + strings.TrimPrefix(f.name, prefix)
	return f
}

// What the names of metrics of requests begin with, now and in version 0.3 of the
// Inference Extension.
const (
	prefix       = "inference_objective_"
	legacyPrefix = "inference_model_"
)

const (
	counter = dto.MetricType_COUNTER
	gauge   = dto.MetricType_GAUGE
	hist    = dto.MetricType_HISTOGRAM
)

// Sets of labels, each in the order of their names.
var (
	ofPair = []string{"model_name", "target_model_name"}
	ofUse  = []string{"model_name", "pool", "target_model_name"}
)

// Metrics of requests.
var (
	requests      = shared(counter, prefix+"request_total", "request_total", "Requests, those that were refused included.", "model_name", "priority", "target_model_name")
	requestErrors = old(shared(counter, prefix+"request_error_total", "request_error_total", "Requests that were refused or did not end well, by why.", "error_code", "model_name", "target_model_name"))
	running       = old(shared(gauge, prefix+"running_requests", "request_running", "Requests that were sent to an endpoint and are not done.", "model_name"))
	durations     = old(shared(hist, prefix+"request_duration_seconds", "request_duration_seconds", "Time from the decision to the end of the response, of requests that ended well.", ofPair...))
	requestSizes  = old(shared(hist, prefix+"request_sizes", "request_size_bytes", "Size of the bodies of requests, in bytes.", ofPair...))
	responseSizes = old(shared(hist, prefix+"response_sizes", "response_size_bytes", "Size of the bodies of responses that ended well, in bytes.", ofPair...))
	inputTokens   = old(shared(hist, prefix+"input_tokens", "request_input_tokens", "Tokens of the prompt, as the server reported them.", ofPair...))
	outputTokens  = old(shared(hist, prefix+"output_tokens", "request_output_tokens", "Tokens of the output, as the server reported them.", ofPair...))

	legacyRequests = own(counter, legacyPrefix+"request_total", requests.help, ofPair...)

	sloViolations = shared(counter, prefix+"request_slo_violation_total", "", "Streamed requests that came later than their SLO: the first token (ttft) or those after it (tpot).", "model_name", "target_model_name", "type")
	cachedTokens  = shared(hist, prefix+"prompt_cached_tokens", "request_cached_tokens", "Tokens of the prompt that were in the server's prefix cache, as it reported them.", ofPair...)
	ntpots        = shared(hist, prefix+"normalized_time_per_output_token_seconds", "request_ntpot_seconds", "Time from the decision to the end, divided by the tokens of the output.", ofPair...)
	ttfts         = shared(hist, prefix+"request_ttft_seconds", "request_ttft_seconds", "Time from the decision to the first token of streamed responses that ended well.", ofPair...)
	tpots         = shared(hist, prefix+"request_tpot_seconds", "request_streaming_tpot_seconds", "Mean time for each token after the first of streamed responses that ended well.", ofPair...)

	finishReasons = own(counter, "inferpick_finish_reasons_total", "Answers that ended well, by how the model ended them; those that do not say so are left out.", "model_name", "reason", "target_model_name")
)

// Metrics of decisions.
var (
	decisionTimes = shared(hist, "inference_extension_scheduler_e2e_duration_seconds", "scheduler_e2e_duration_seconds", "Time that a decision took.")
	decisions     = shared(counter, "inference_extension_scheduler_attempts_total", "scheduler_attempts_total", "Decisions, by the endpoint that was the first choice.", "namespace", "pod_name", "port", "status", "target_model_name")
	rewritten     = shared(counter, "inference_extension_model_rewrite_decisions_total", "model_rewrite_decisions_total", "Requests whose model an InferenceModelRewrite changed.", "model_name", "model_rewrite_name", "target_model")
	info          = shared(gauge, "inference_extension_info", "info", "1, with the build of the program.", "build_ref", "commit")

	retries  = own(counter, "inferpick_retries_total", "Requests that went on from one endpoint to another.", "pool")
	failures = own(counter, "inferpick_plugin_failures_total", "Errors of plugins.", "plugin", "pool", "stage")
	expired  = own(counter, "inferpick_bookings_expired_total", "Decisions that were never reported done. More than 0 is a mistake in the program.", "pool")
	refusals = own(counter, "inferpick_refused_requests_total", "Requests that were refused after their pool was known, by why.", "error_code", "pool")
)

// Metrics of requests whose prompt one endpoint may compute for another.
var (
	splitRequests    = own(counter, "inferpick_split_requests_total", "Requests that ended well and whose prompt another endpoint might have computed, by who did: another one (apart), the one that answered (alone), or that because others failed (fallback).", "pool", "prompt")
	prefills         = own(counter, "inferpick_prefills_total", "Requests to compute a prompt for another endpoint, by how they ended.", "outcome", "pool")
	prefillRetries   = own(counter, "inferpick_prefill_retries_total", "Requests to compute a prompt for another endpoint that were made because one for the same prompt had failed.", "pool")
	prefillDurations = own(hist, "inferpick_prefill_duration_seconds", "Time from the decision to the end of requests that computed a prompt for another endpoint.", "pool")
)

// Metrics of models.
var (
	modelInFlight   = own(gauge, "inferpick_model_in_flight_requests", "Requests that were sent to an endpoint and are not done.", ofUse...)
	modelPrompt     = own(counter, "inferpick_model_prompt_tokens_total", "Tokens of prompts, as servers reported them.", ofUse...)
	modelOutput     = own(counter, "inferpick_model_output_tokens_total", "Tokens of outputs, as servers reported them.", ofUse...)
	modelCached     = own(counter, "inferpick_model_cached_tokens_total", "Tokens of prompts that were in a server's prefix cache, as servers reported them.", ofUse...)
	modelOutputRate = own(gauge, "inferpick_model_output_tokens_per_second", "Tokens of outputs per second, of requests that are done, exponentially weighted over 30 s.", ofUse...)
)

// Metrics of pools.
var (
	averageKV      = shared(gauge, "inference_pool_average_kv_cache_utilization", "average_kv_cache_utilization", "Mean fraction of the KV cache in use, of the ready endpoints that said so lately.", "name")
	averageQueue   = shared(gauge, "inference_pool_average_queue_size", "average_queue_size", "Mean requests queued in the engine, of the ready endpoints that said so lately.", "name")
	averageRunning = shared(gauge, "inference_pool_average_running_requests", "average_running_requests", "Mean requests in the engine's batch, of the ready endpoints that said so lately.", "name")
	readyPods      = shared(gauge, "inference_pool_ready_pods", "ready_endpoints", "Endpoints that take new requests.", "name")
	podQueue       = shared(gauge, "inference_pool_per_pod_queue_size", "per_endpoint_queue_size", "Requests queued in the engine, if it said so lately.", "model_server_pod", "name")
	flowSaturation = shared(gauge, "inference_extension_flow_control_pool_saturation", "flow_control_pool_saturation", "Mean of how full the ready endpoints are; an endpoint of which nothing is known counts as full, and so does a pool with none.", "inference_pool")

	poolQueued     = own(gauge, "inferpick_pool_queued_requests", "Requests queued in the engines that said so lately.", "name")
	poolRunning    = own(gauge, "inferpick_pool_running_requests", "Requests in the batches of the engines that said so lately.", "name")
	poolInFlight   = own(gauge, "inferpick_pool_in_flight_requests", "Requests that this process sent to the pool's endpoints and that are not done.", "name")
	poolOwed       = own(gauge, "inferpick_pool_prefill_tokens_owed", "Tokens of prompts that this process sent to the pool's endpoints, not believed to be cached, with no first token yet.", "name")
	poolDenoise    = own(gauge, "inferpick_pool_denoise_tokens_owed", "Tokens of latents times passes of diffusion models, for the requests that this process sent to the pool's endpoints and that are not done.", "name")
	poolEndpoints  = own(gauge, "inferpick_pool_endpoints", "Endpoints by state.", "name", "state")
	poolSaturation = own(gauge, "inferpick_pool_saturation", "Mean of how full the ready endpoints are of which something is known.", "name")
)

// Metrics of admission control.
var (
	ofPriority      = []string{"pool", "priority"}
	ofQueuePriority = []string{"inference_pool", "priority"}

	queueDurations = shared(hist, "inference_extension_flow_control_request_queue_duration_seconds", "flow_control_request_queue_duration_seconds", "Time that requests waited to be let in, by what became of them; 0 of those that did not wait.", "fairness_id", "inference_pool", "model_name", "outcome", "priority", "target_model_name")
	queueSize      = shared(gauge, "inference_extension_flow_control_queue_size", "flow_control_queue_size", "Requests that wait to be let in.", ofQueuePriority...)
	queueBytes     = shared(gauge, "inference_extension_flow_control_queue_bytes", "flow_control_queue_bytes", "Size of the bodies of the requests that wait to be let in.", ofQueuePriority...)

	queueOldest         = own(gauge, "inferpick_admission_queue_oldest_seconds", "How long the request that waits the longest has; 0 if none waits.", ofPriority...)
	admissionWaiting    = own(gauge, "inferpick_admission_queued_requests", "Requests of all priorities that wait to be let in.", "pool")
	admissionRunning    = own(gauge, "inferpick_admission_running_requests", "Requests that were let in and have not ended.", ofPriority...)
	admissionTenants    = own(gauge, "inferpick_admission_tenants", "Tenants that are known.", ofPriority...)
	admissionRoom       = own(gauge, "inferpick_admission_endpoints_with_room", "Endpoints that have room for requests of the priority.", ofPriority...)
	admissionQueued     = own(counter, "inferpick_admission_queued_total", "Requests that had to wait.", ofPriority...)
	admissionDispatched = own(counter, "inferpick_admission_dispatched_total", "Requests that were let in, at once or after they had waited.", ofPriority...)
	admissionCancelled  = own(counter, "inferpick_admission_cancelled_total", "Requests that were given up while they waited.", ofPriority...)
	admissionRevoked    = own(counter, "inferpick_admission_revoked_total", "Requests that ran and were asked to end for the sake of others.", ofPriority...)
	admissionRefused    = own(counter, "inferpick_admission_refused_total", "Requests that were not let in, at once or after they had waited, by why.", "pool", "priority", "reason")
	admissionTokens     = own(counter, "inferpick_admission_weighted_tokens_total", "Weighted tokens that requests took, counted when they end: what tenants share by.", ofPriority...)
)

// Metrics of peers.
var (
	peers        = own(gauge, "inferpick_peers", "Gateways that this one shares what it knows with.")
	peerAge      = own(gauge, "inferpick_peer_age_seconds", "How long ago the newest message of a peer came.", "peer")
	peerRequests = own(gauge, "inferpick_peer_requests", "Requests that a peer has in flight at endpoints of this gateway, as it says.", "peer")

	sharingMessages = own(counter, "inferpick_sharing_messages_total", "Messages that peers were told, and that were heard of them.", "direction")
	sharingBytes    = own(counter, "inferpick_sharing_bytes_total", "Bytes of the messages that peers were told, and that were heard of them.", "direction")
	sharingIgnored  = own(counter, "inferpick_sharing_ignored_total", "What was ignored of messages, by why.", "reason")
	sharingFailures = own(counter, "inferpick_sharing_failures_total", "Messages that could not be sent (send), panics of what takes part in sharing (panic), and notes that became too long to be told (note).", "what")
)

// Metrics of rollouts.
var (
	rolloutPhase    = own(gauge, "inferpick_rollout_phase", "1 for the phase that a rollout is in, and 0 for the others.", "kind", "name", "phase")
	rolloutPaused   = own(gauge, "inferpick_rollout_paused", "1 while a rollout is paused.", "kind", "name")
	rolloutWeight   = own(gauge, "inferpick_rollout_weight", "Share of the traffic that a target of a rollout is to have, 0 to 1.", "kind", "name", "target")
	rolloutServers  = own(gauge, "inferpick_rollout_servers", "Servers by what is known of the new target there.", "kind", "name", "state")
	rolloutVerdicts = own(counter, "inferpick_rollout_verdicts_total", "Looks at a metric of a rollout by this gateway, by what it was thought of.", "kind", "metric", "name", "result")
)

// Metrics of autoscaling.
var (
	desiredReplicas = own(gauge, "inferpick_pool_desired_replicas", "Replicas that the pool should have.", "pool")
	termReplicas    = own(gauge, "inferpick_autoscale_term_replicas", "Replicas that one term of the recommendation asks for.", "pool", "term")
	poolBacklog     = own(gauge, "inferpick_pool_backlog_seconds", "Seconds that one replica takes to compute the prompts that wait and that are owed.", "pool")
	poolOldest      = own(gauge, "inferpick_pool_oldest_wait_seconds", "How long the request has waited that has the longest; 0 if none waits.", "pool")
	poolTokens      = own(gauge, "inferpick_pool_queued_tokens", "Prompt tokens of the requests that wait.", "pool")
	poolWork        = own(gauge, "inferpick_pool_arrival_work", "Seconds of one replica's work that come in a second.", "pool")

	ofModel       = []string{"model_name", "pool"}
	modelQueued   = own(gauge, "inferpick_model_queued_requests", "Requests that wait.", ofModel...)
	modelTokens   = own(gauge, "inferpick_model_queued_tokens", "Prompt tokens of the requests that wait.", ofModel...)
	modelOldest   = own(gauge, "inferpick_model_oldest_wait_seconds", "How long the request has waited that has the longest; 0 if none waits.", ofModel...)
	modelArrivals = own(gauge, "inferpick_model_arrivals_per_second", "Requests that come in a second, refused ones included.", ofModel...)
	modelWork     = own(gauge, "inferpick_model_arrival_work", "Seconds of one replica's work that come in a second.", ofModel...)
)
