// Package telemetry exports what schedulers do, and what pools are like, as
// Prometheus metrics. It has no registry, no globals and no goroutine: it counts by
// atomic additions in the hooks of a Scheduler. Metrics is a prometheus.Gatherer, so
// that a program with a registry serves both as one page, and has a Handler for a
// program without.
//
//	m, err := telemetry.New(telemetry.Options{Pools: pools})
//	profile.Hooks = m.Hooks(pool, profile.Hooks) // of each pool's scheduler
//	options.OnRefused = func(req *types.Request, pool types.NamespacedName, err *director.Error) {
//		m.Refused(req, pool, err.Code, err.Status)
//	}
//	o.Hooks = m.AdmissionHooks(pool, *o) // of each pool's admission control, if it has one
//	http.Handle("GET /metrics", m.Handler())
//
// or, beside a registry of client_golang:
//
//	prometheus.Gatherers{m, registry}
//
// # Names of the Inference Extension
//
// These are the names, labels and bounds of buckets that its endpoint picker has
// in version 1.5, so that dashboards and autoscalers made for it go on working.
// Those of requests begin with inference_objective_; with Options.LegacyNames the
// ones marked * are there as inference_model_ too, without the priority.
//
//	request_total{model_name,target_model_name,priority} *
//	request_error_total{model_name,target_model_name,error_code} *
//	request_slo_violation_total{model_name,target_model_name,type}
//	running_requests{model_name} *
//	request_duration_seconds{model_name,target_model_name} *
//	request_sizes, response_sizes, input_tokens, output_tokens: the same labels *
//	prompt_cached_tokens, normalized_time_per_output_token_seconds,
//	request_ttft_seconds, request_tpot_seconds: the same labels
//
//	inference_pool_average_kv_cache_utilization{name}
//	inference_pool_average_queue_size{name}
//	inference_pool_average_running_requests{name}
//	inference_pool_ready_pods{name}
//	inference_pool_per_pod_queue_size{name,model_server_pod}
//
//	inference_extension_scheduler_e2e_duration_seconds
//	inference_extension_scheduler_attempts_total{status,target_model_name,pod_name,namespace,port}
//	inference_extension_flow_control_pool_saturation{inference_pool}
//	inference_extension_flow_control_queue_size{inference_pool,priority}
//	inference_extension_flow_control_queue_bytes{inference_pool,priority}
//	inference_extension_flow_control_request_queue_duration_seconds{fairness_id,priority,
//		outcome,inference_pool,model_name,target_model_name}
//	inference_extension_model_rewrite_decisions_total{model_rewrite_name,model_name,target_model}
//	inference_extension_info{commit,build_ref}
//
// Some say more than they do there:
//
//   - request_total counts every request once, when it is sent or refused; there
//     it leaves out the refused, so that errors can outnumber requests.
//   - Durations, sizes of responses and tokens are of requests that ended well:
//     with no error, a status below 400, and the client still there. Requests
//     that fail at once do not make a pool look quick.
//   - Times to the first token and per token are of streamed responses: the first
//     byte of another comes with its last. So are the violations of an SLO. One
//     for the time to the first token is also a request that ended without one
//     after that time.
//   - Averages are over the ready endpoints that reported the figure within
//     Options.MetricsTTL. What is not known is not 0: an average of nothing is
//     not exported. In flow_control_pool_saturation an endpoint of which nothing
//     is known counts as full, as it does there; inferpick_pool_saturation leaves
//     it out. Of a pool with admission control it is what that goes by instead, 0 to
//     1, unless nothing is known to it.
//   - Queues are told apart by pool and priority alone: tenants and models in them
//     come and go with the requests that wait. Queue durations have those labels.
//     Theirs are 0 of requests that did not have to wait, so that their counts are
//     all requests that came to the admission control.
//   - fairness_id is empty for requests without a tenant and "other" for tenants
//     that the admission control's options do not name: who they are clients say.
//   - outcome is Dispatched; RejectedCapacity (no room, and none in the queue) or
//     RejectedOther (a budget, no endpoint, the end of the process) of those that
//     were refused at once; EvictedTTL, EvictedContextCancelled (the client went
//     away) or EvictedOther (displaced, the endpoints went) of those that waited.
//     Why exactly inferpick_admission_refused_total says.
//   - The bound of tokens is 32768 where there it is 32778, sizes have every
//     second bound, decisions have bounds below 100 µs, and queue durations two
//     above a minute.
//
// The label error_code is cancelled (the client went away), timeout, connection
// (no response began), cut_off (one began and did not end), expired (never
// reported done), upstream_ and the status that the endpoint answered with or its
// class (upstream_429, upstream_5xx), or the code that Refused was given.
//
// What is not provided: request_predicted_… and …_prediction_duration_seconds,
// because no latency is predicted by a model that is trained elsewhere, and
// inference_request_metric, which has the last request's figures as a gauge;
// plugin_duration_seconds, because hooks do not time plugins: a whole decision
// takes microseconds; prefix_indexer_…, because what servers report of their caches
// (prompt_cached_tokens) is the truth of which those are an estimate; and of
// flow_control_… the dispatch_cycle_duration_seconds and
// request_enqueue_duration_seconds, because there is no cycle here: requests are let
// in by whatever makes room for them, and take microseconds to enqueue.
//
// # Names of llm-d
//
// With Options.Names they are, in place of those above or beside them, those that llm-d's
// picker has in version 0.10, with the same figures. Labels are as above but for those in
// braces; fairness_id, which most have there, none has here, as clients make tenants up.
//
//	llm_d_epp_request_total, request_error_total, request_duration_seconds
//	llm_d_epp_request_size_bytes, response_size_bytes       request_sizes, response_sizes
//	llm_d_epp_request_input_tokens, request_output_tokens   input_tokens, output_tokens
//	llm_d_epp_request_cached_tokens                         prompt_cached_tokens
//	llm_d_epp_request_running                               running_requests
//	llm_d_epp_request_ntpot_seconds                         normalized_time_per_output_token_seconds
//	llm_d_epp_request_ttft_seconds{streaming="true"}
//	llm_d_epp_request_streaming_tpot_seconds                request_tpot_seconds
//	llm_d_epp_average_kv_cache_utilization, average_queue_size, average_running_requests
//	llm_d_epp_ready_endpoints                               ready_pods
//	llm_d_epp_per_endpoint_queue_size{model_server_endpoint}   per_pod_queue_size{model_server_pod}
//	llm_d_epp_scheduler_e2e_duration_seconds, model_rewrite_decisions_total, info
//	llm_d_epp_scheduler_attempts_total{endpoint_name}       {pod_name}
//	llm_d_epp_flow_control_…                                inference_extension_flow_control_…
//
// request_slo_violation_total has no name there and keeps that of the Inference Extension.
//
// # Names of our own
//
// By pool, for autoscalers. Queued and running are sums of what the engines say,
// with those of other gateways; in flight and owed are what this process sent,
// known at once and added up over processes:
//
//	inferpick_pool_queued_requests{name}
//	inferpick_pool_running_requests{name}
//	inferpick_pool_in_flight_requests{name}
//	inferpick_pool_prefill_tokens_owed{name}
//	inferpick_pool_denoise_tokens_owed{name}
//	inferpick_pool_endpoints{name,state}  state: ready, draining, unhealthy
//	inferpick_pool_saturation{name}       mean of max(queue/QueueThreshold, KV usage/KVThreshold)
//	inferpick_refused_requests_total{pool,error_code}
//	inferpick_retries_total{pool}
//	inferpick_plugin_failures_total{pool,stage,plugin}
//	inferpick_bookings_expired_total{pool}
//
// Of pools where one endpoint may compute a prompt for another one that answers, of
// requests that their data plane can split (types.Request.Split). A prompt is computed
// apart, or alone by the endpoint that answers, or as a fallback by that because others
// failed. Prefills are the requests for prompts alone; cancelled are also those that the
// data plane did not report before the answer had ended:
//
//	inferpick_split_requests_total{pool,prompt}   prompt: apart, alone, fallback
//	inferpick_prefills_total{pool,outcome}        outcome: served, failed, cancelled
//	inferpick_prefill_retries_total{pool}
//	inferpick_prefill_duration_seconds{pool}      of those that were served
//
// Times to the first token have the computing of prompts in them, wherever that is, and
// inferpick_retries_total has the fallbacks.
//
// Of pools with admission control, for autoscalers: what waits and for how long already
// says that there are too few servers before anything fails, and those with room tell
// whether it is for want of servers that it waits. A priority is there once a
// request of it has come.
//
//	inferpick_admission_queued_requests{pool}
//	inferpick_admission_queue_oldest_seconds{pool,priority}
//	inferpick_admission_running_requests{pool,priority}
//	inferpick_admission_endpoints_with_room{pool,priority}
//	inferpick_admission_tenants{pool,priority}
//
// And what became of requests. Queued are those that had to wait; dispatched those that
// were let in, at once or later; refused all that were not, by admission.Reason;
// cancelled those that were given up while they waited; revoked those that ran and were
// asked to end. Weighted tokens are what tenants share by, weighted by InputWeight and
// OutputWeight of admission.Tuning, counted when requests end and as they were really used:
//
//	inferpick_admission_queued_total{pool,priority}
//	inferpick_admission_dispatched_total{pool,priority}
//	inferpick_admission_refused_total{pool,priority,reason}
//	inferpick_admission_cancelled_total{pool,priority}
//	inferpick_admission_revoked_total{pool,priority}
//	inferpick_admission_weighted_tokens_total{pool,priority}
//
// By model, target and pool. Tokens are those that servers reported, however the
// request ended; where they report no cached tokens none are counted:
//
//	inferpick_model_in_flight_requests{model_name,target_model_name,pool}
//	inferpick_model_prompt_tokens_total{…}
//	inferpick_model_output_tokens_total{…}
//	inferpick_model_cached_tokens_total{…}
//	inferpick_model_output_tokens_per_second{…}
//
// The last is the sum, over all requests that are done, of
//
//	tokens/30 s * exp(-age/30 s)
//
// with the time since the request was done as its age. Its mean is the true rate,
// and it halves every 21 s when nothing comes.
//
// By model and target, how the model ended its answers (types.Outcome.Finish), of those that ended
// well and said so; shares that move after a change of model are worth a look:
//
//	inferpick_finish_reasons_total{model_name,target_model_name,reason}   reason: stop, length, filter, tools, other
//
// Of pools that are scaled (package autoscale), for autoscalers and people. They are of all gateways together, so
// that each exports the same: take one or the largest, not the sum. Terms are demand, backlog, kv, concurrency and
// slo; of what is not known there is no series. Models are those that have series of their own, and other:
//
//	inferpick_pool_desired_replicas{pool}
//	inferpick_autoscale_term_replicas{pool,term}
//	inferpick_pool_backlog_seconds{pool}
//	inferpick_pool_arrival_work{pool}
//	inferpick_pool_oldest_wait_seconds{pool}
//	inferpick_pool_queued_tokens{pool}
//	inferpick_model_queued_requests{model_name,pool}
//	inferpick_model_queued_tokens{…}
//	inferpick_model_oldest_wait_seconds{…}
//	inferpick_model_arrivals_per_second{…}
//	inferpick_model_arrival_work{…}
//
// Of gateways that share what they know (package sharing). Those of one name are one peer here.
// Told and heard are messages of this gateway and of its peers, ignored ones included; reasons are the
// fields of sharing.Ignored:
//
//	inferpick_peers
//	inferpick_peer_age_seconds{peer}
//	inferpick_peer_requests{peer}
//	inferpick_sharing_messages_total{direction}   direction: told, heard
//	inferpick_sharing_bytes_total{direction}
//	inferpick_sharing_ignored_total{reason}       old, flooded, broken, version, unsigned, refused, elsewhere, note, unknown
//	inferpick_sharing_failures_total{what}        send, panic, note
//
// Of rollouts (package rollout), by the kind and the name of their manifest. The phases are Loading, Stepping, Aborting,
// Finishing, Failed and Done; servers are loaded, loading, failed, missing or unknown; results are those of a
// rollout.Verdict, counted by the gateway that judges each time it looks. There are as many as
// rollout.Options.MaxRollouts:
//
//	inferpick_rollout_phase{kind,name,phase}
//	inferpick_rollout_paused{kind,name}
//	inferpick_rollout_weight{kind,name,target}
//	inferpick_rollout_servers{kind,name,state}
//	inferpick_rollout_verdicts_total{kind,name,metric,result}
//
// # Labels
//
// A pool is called by its name, with namespace/ before it unless that is
// "default". An endpoint's namespace is what its ID has before the last slash, its
// pod the rest, its port the end of its address. Names are cut to 256 bytes, and
// U+FFFD stands for what is no UTF-8.
//
// What clients can make up, and what comes and goes, is bounded: see Options. An endpoint
// whose Load is retired is exported once more and then forgotten. Peers, which choose their names, are
// as many as sharing.Options.MaxPeers. Beyond 32 priorities of a
// model or a pool, and 256 plugins of a pool that failed, it is "other"; gauges of queues have
// as many priorities as the admission control has queues. Series of models and pools stay
// until the process ends.
package telemetry
