// Package config reads what an endpoint picker is told to do: pools, models and
// endpoints, and how to schedule, in the shapes of Kubernetes but from files.
//
//	c, err := config.Load("/etc/inferpick", nil)
//	…
//	store := datastore.New(datastore.Options{})
//	err = store.Commit(c.Change)
//	for _, pool := range c.Pools() {
//		policy, err := c.Policy(pool, nil, nil)
//		profile, err := policy.Profile()
//		scheduler, err := scheduling.New(profile)
//		…
//	}
//
// A [Watcher] does it again for every change of the files; [Policy.Key] and
// [Policy.AdmissionKey] say which schedulers and options of admission control to keep. Where
// pools and the rest come from a cluster (Loader.PoolsElsewhere), a configuration has
// EndpointPickerConfigs alone.
//
// # Documents
//
// Files hold documents in YAML, between lines that begin with ---, or in JSON, one
// after the other. A document is an object or a List of objects. In YAML a name
// must not appear twice, and a label such as 1 or yes must be written in quotes: it
// is no string otherwise. The kinds are
//
//   - InferencePool, InferenceModel, InferenceObjective and InferenceModelRewrite, in the
//     versions of types.APIVersions: those of inference.networking.k8s.io, of
//     inference.networking.x-k8s.io, of llm-d.ai, and older ones. There must be a pool.
//   - StaticEndpoints (inferpick.io/v1alpha1): endpoints of a pool.
//   - EndpointPickerConfig (v1alpha1, v1alpha2 and v1 of inference.networking.x-k8s.io, of
//     llm-d.ai, config.x-k8s.io and others): the plugins that schedule, and who waits.
//
// Objects of other kinds are read over, and counted in [Config.Skipped]; but for one whose
// kind is one of these with a slip of the pen. Of an EndpointPickerConfig that is in the data
// of a ConfigMap is warned: it is not read from there. Names of fields are exact. One that is not
// known is in [Config.Warnings] with its place and the nearest that there is, and has no
// effect; with Loader.Strict it is an error. In metadata and status, fields may be there
// that are not known.
//
// # What is bad
//
// The objects of a configuration are of many people, and one that is bad does not stop the
// others. It is left out, with all that is wrong with it in [Config.Rejected]: file,
// document, line, field and rule, see [Error]. The rules are these:
//
//   - An object is taken whole or not at all. Of StaticEndpoints that are good in
//     themselves, single endpoints are left out that no pool can have.
//   - Of two objects of a kind with the same name, the second one is bad.
//   - A document, or a file, of which nothing can be read is left out like an object.
//   - An EndpointPickerConfig that is bad, or that looks like one and cannot be read, is an
//     error of Load: the policy would be another one than was meant, and at the start there
//     is time to mend it. So it is an error if there is no pool. One whose pool is left out
//     is left out with it.
//   - A Watcher keeps what was in force before in the place of what it leaves out: of an
//     object, its last good version; of what cannot be read, all that its file held and that
//     is not elsewhere. So an InferenceModel stays as it was if another modelName is written
//     into it, which cannot be changed. A pool whose EndpointPickerConfig is bad goes on with
//     the policy that it had; a pool that is new goes by the one for all pools or the default.
//   - A Watcher leaves everything as it is if no pool would be left, or if the files are too
//     large, or not there at all.
//
// What was kept or left out is logged once, and not again while it stays the same.
// [Loader.Inspect] looks at each object by itself, for files that are not to be put in force.
//
// # StaticEndpoints
//
//	apiVersion: inferpick.io/v1alpha1
//	kind: StaticEndpoints
//	metadata: {name: rack-1}
//	spec:
//	  poolRef: {name: llama}
//	  endpoints:
//	  - id: a
//	    address: 10.0.0.1:8000
//	    labels: {zone: "1"}
//	    state: ready                     # or draining, unhealthy
//	    engine: vllm
//	    capacity: {speed: 1, maxConcurrency: 256, kvTokens: 500000, costPerHour: 2.5}
//	    metrics: {address: ":9100", path: /metrics, scheme: http, disabled: false}
//
// Of an endpoint only address is required; see datastore.EndpointSpec. poolRef may
// have a namespace, which is otherwise that of metadata; the pool must exist.
// Without poolRef an endpoint belongs to every pool whose selector matches its
// labels, of the namespace in metadata if there is one; there must be such a pool.
// Several documents may add endpoints to a pool.
//
// # EndpointPickerConfig
//
// The format is that of the Inference Extension, so that its files can be used as
// they are:
//
//	apiVersion: inference.networking.x-k8s.io/v1alpha1
//	kind: EndpointPickerConfig
//	plugins:
//	- {type: queue-scorer}
//	- {type: kv-cache-utilization-scorer}
//	- {type: prefix-cache-scorer}
//	schedulingProfiles:
//	- name: default
//	  plugins:
//	  - {pluginRef: queue-scorer, weight: 2}
//	  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
//	  - {pluginRef: prefix-cache-scorer, weight: 3}
//
// With poolRef: {name: …} at the top the document is for that pool, in the
// namespace of metadata; without, for every pool that has none of its own. There may be
// several of those if one of them has no name, or the name default: the others are for
// pools that choose them, and any other that has a name, by the annotation
// inferpick.io/scheduling-profile. A pool
// without any, and a document that declares no plugins, have plugins.Default. A
// profile may have the further fields of
// plugins.ProfileConfig (fallbacks, metricsTTL, bookingTTL, outputTokens, seed);
// without one, all plugins that are declared make a profile, scorers with
// weight 1. Of several a profile handler chooses, see below.
//
// Types of plugins are those of the registry, and these:
//
//   - single-profile-handler, producers such as approx-prefix-cache-producer,
//     inflight-load-producer and token-producer, and the sources and extractors of models
//     are accepted, also where dataLayer refers to them, and have no effect: what they do is
//     done here in any case.
//   - metrics-data-source and core-metrics-extractor say how servers' metrics are read, see
//     below.
//   - utilization-detector is our shed-filter: queueDepthThreshold is maxQueue, and
//     kvCacheUtilThreshold is maxKVUsage. It sheds requests of negative priority
//     while no endpoint has room, and keeps no endpoint out otherwise.
//   - kv-cache-scorer is kv-cache-utilization-scorer, as it was called once.
//   - label-selector-filter, by-label-selector and by-label are label-filter; so are
//     decode-filter, prefill-filter and encode-filter, by the label llm-d.ai/role.
//   - active-request-filter is endpoint-attribute-filter by inFlightRequests. The attributes
//     of that and of endpoint-attribute-scorer are those of plugins.AttributeNames, also by
//     the names that llm-d and the engines give them, and customMetrics that are such a
//     figure; others are refused.
//   - decision-tree-filter takes the tree of version 0.5, with current, nextOnSuccess,
//     nextOnFailure and nextOnSuccessOrFailure.
//   - latency-scorer, predicted-latency-scorer, slo-aware-routing and slo-scorer are
//     latency-cost, which estimates what the predictor predicted, and needs no servers
//     beside. slo-headroom-tier-filter and predicted-latency-producer are parts of it: a
//     profile that has them and no latency-cost gets one. latency-slo-admitter is used by
//     every profile. The SLO is that of the request's headers.
//
// Types that need KV events (precise-prefix-cache-scorer) or the topology of servers
// (topology-affinity-filter), and p2p-source-producer, are refused by name.
//
// prefix-cache-scorer takes the parameters of the Inference Extension too.
// blockSizeTokens (4 bytes each), blockSize and hashBlockSize are blockBytes,
// rounded up to a multiple of 64; maxPrefixTokensToMatch and
// maxPrefixBlocksToMatch are maxPromptBlocks; lruCapacityPerServer is
// capacityBlocks. Figures in blocks are converted to blocks of ours. For
// low-queue-filter and lora-affinity-filter threshold, and for token-load-scorer
// queueThresholdTokens, are the names of their one parameter. A picker's
// maxNumOfEndpoints: n is fallbacks: n-1 of the profile. What else is accepted
// without effect is in [Config.Warnings].
//
// A profile gets what it lacks and is not to be without:
//
//   - healthy-filter, model-served-filter, previous-answer-filter and fresh-filter come
//     first, if it has none of them. The Inference Extension does not know them: there,
//     endpoints that do not serve are taken out of the pool by others.
//   - shed-filter comes last of the filters, if there is none, with the limits of
//     saturationDetector, which names a utilization-detector or has the thresholds
//     itself; or those of a plugin named utilization-detector; or else the
//     defaults, as there.
//   - max-score-picker, if it has no picker.
//
// An unknown type of plugin is always an error, which names the nearest.
//
// # Several profiles
//
// A profile handler, of which a document has at most one, says which of several profiles a
// request goes by. Ours is request-profile-handler:
//
//	plugins:
//	- type: request-profile-handler
//	  parameters:
//	    defaultProfile: interactive
//	    rules:
//	    - {profile: batch, maxPriority: -1}
//	    - {profile: long, models: [llama-128k], minPriority: 0}
//	    - {profile: batch, header: {name: x-workload, values: [nightly]}}
//
// The first rule that is for a request counts. All that a rule has must be so:
// minPriority and maxPriority, both included; models, of which one is the public name or
// the target's; and a header, whose values are compared as they are, and which without
// values must be there. Who sets that header chooses the profile. The profiles share what
// their plugins learn, and all hear of every request; metricsTTL, bookingTTL, outputTokens
// and seed are those of the default profile.
//
// header-profile-handler runs the profile that a header names (headerName, EPP-Profile by
// default), and otherwise defaultProfile, which is decode by default; there a name that no
// profile has is an error, and here it is as none. slo-aware-profile-handler runs slo where the header
// x-prediction-based-scheduling is true, and otherwise default. data-parallel-profile-handler
// and single-profile-handler have one profile.
//
// # Servers for single steps
//
// In disaggregated serving one server computes the prompt of a request (prefill) and another
// one answers (decode); a third may turn images and other media into embeddings (encode). The
// request goes to llm-d's side-car in front of the server that answers, and headers tell it whom
// to ask before: see package picker. What a server is for is what its label llm-d.ai/role says, or
// another that the picker is told (-role-label, Loader.RoleLabel); one without answers. The
// configuration is llm-d's:
//
//	plugins:
//	- {type: decode-filter}
//	- {type: prefill-filter}
//	- {type: prefix-cache-scorer}
//	- {type: queue-scorer}
//	- {type: prefix-based-pd-decider, parameters: {promptTokens: 256, nonCachedTokens: 512}}
//	- {type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}
//	schedulingProfiles:
//	- {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: prefix-cache-scorer}]}
//	- {name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: queue-scorer}]}
//
// It means this:
//
//   - The profile for decode chooses who answers. The decider for prefill says whether another
//     one computes the prompt, and the profile for prefill which. That becomes a
//     staged-splitter (plugins.Staged), which may also be declared as such; latency-cost
//     decides both at once, by what it costs, and needs no decider and no further profile.
//   - prefix-based-pd-decider: the prompt has promptTokens, and nonCachedTokens of them are not
//     cached where it is answered, by the index of prefixMatchInfoProducerName or the first that
//     there is. With nonCachedTokens 0 it never is so. always-disagg-pd-decider: always.
//     always-disagg-multimodal-decider: if there is an image, audio or another part that is no
//     text; for encode it or always-disagg-pd-decider is wanted.
//   - With stageOrder prefill-first every prompt is computed elsewhere, as there; the order
//     makes no further difference here.
//   - Of the encode profile all that its picker chooses (maxNumOfEndpoints) are named.
//   - Where a step has no server, or only those that are drained, unhealthy or not known to be
//     fresh, who answers does it. There, the request fails, or goes by profiles.fallback, which
//     has no effect here.
//   - pd-profile-handler is the same with other names. With threshold, or without it and
//     without a plugin prefix-based-pd-decider, it is as in the first versions of llm-d: threshold
//     bytes of prompt that are not cached, and 0 for always.
//   - disagg-headers-handler and prefill-header-handler have no effect: headers are written in
//     any case.
//   - disaggregatedset-rollout-screener is a revision-filter of all profiles: all parts of a
//     request are served by one revision, by revisionLabelKey. Each request draws its own among
//     the endpoints that may answer. Headers that name a revision are not read, nor set.
//   - primaryPort of data-parallel-profile-handler (8000 by default) and pd-profile-handler: a
//     request goes to that port of the server that is chosen, and a header says for which
//     endpoint it is. Without, and with primaryPort 0, it goes to the endpoint itself.
//
// A picker for the servers of one step alone, whose label says so (as llm-d has for its
// coordinator), is started with -role-label -.
//
// # What Envoy is told of usage
//
// A request-attribute-reporter has Envoy told of figures of a request's usage when its
// answer has ended, as dynamic metadata, by expressions of the Common Expression Language:
// numbers, + - * / %, comparisons, && || !, ?: and has(), over usage.prompt_tokens,
// usage.completion_tokens, usage.total_tokens and
// usage.prompt_tokens_details.cached_tokens. See [Policy.Reports].
//
// # Parsers
//
// parser, or parsers of requestHandler, refer to parsers. Requests are told apart by their
// path, whatever parsers are named: OpenAI's API, Anthropic's, vLLM's /inference/v1/generate
// and its gRPC service are read in any case. Only if all that are named are
// passthrough-parser, bodies are not looked at: see [Policy.Passthrough].
//
// Of featureGates, which =true and =false may follow, enableLegacyMetrics is handed on
// (Config.LegacyMetrics); dataLayer and prepareDataPlugins are so in any case; flowControl
// is below.
//
// # Metrics of servers
//
// scheme and path of a metrics-data-source hold for the endpoints of the pool that do not
// say it themselves. With https, certificates are verified unless insecureSkipVerify is
// true; there the default is that they are not. Of a core-metrics-extractor, the engine of an
// endpoint that does not say it itself is the value of its label engineLabelKey, or
// defaultEngine, and if there is neither it is found out from the page; engineConfigs are
// engines of one's own, or others in the place of those of package scrape. See
// [Policy.ServerMetrics].
//
//	plugins:
//	- type: metrics-data-source
//	  parameters: {scheme: https, path: /custom/metrics, insecureSkipVerify: true}
//	- type: core-metrics-extractor
//	  parameters:
//	    defaultEngine: mine
//	    engineConfigs:
//	    - {name: mine, queuedRequestsSpec: 'my_requests{state="waiting"}', kvUsageSpec: my_cache}
//
// # Flow control
//
// Without the gate flowControl requests never wait: they are scheduled as they come,
// and those of negative priority are shed while no endpoint has room. With it, they
// wait in the picker where there is no room, see [Policy.Admission] and package
// admission:
//
//	featureGates: [flowControl]
//	saturationDetector: {pluginRef: utilization-detector}
//	flowControl:
//	  maxBytes: 1Gi
//	  maxRequests: "1000"
//	  defaultRequestTTL: 30s
//	  priorityBands:
//	  - {priority: 100, maxRequests: "100", orderingPolicyRef: edf-ordering-policy}
//
// It means this:
//
//   - An entry of priorityBands is for one priority, and defaultPriorityBand for all
//     others, but for those below 0 if there is a defaultNegativePriorityBand; each priority
//     has a queue of its own, as there, and higher ones go first.
//   - maxBytes and maxRequests are quantities of Kubernetes. What is left out or 0 is the
//     default of admission.Options, as there is always a bound; so it is of
//     defaultRequestTTL: 30s, where requests may wait for ever there. noEndpointRequestTTL
//     is how long requests wait for a pool without endpoints.
//   - global-strict-fairness-policy, the default, is first-come, and
//     round-robin-fairness-policy is virtual-tokens: tenants have equal shares of tokens,
//     not of requests. fcfs-ordering-policy, the default, is fifo; edf-ordering-policy
//     and slo-deadline-ordering-policy are earliest-deadline, the deadline being that by
//     which the request must be let in. A policy holds for all bands; that two differ is
//     an error. static-usage-limit-policy's threshold is the ceiling of all bands.
//   - saturationDetector, here or in flowControl, says when an endpoint is full: a utilization-detector, or a
//     concurrency-detector, which counts the picker's own requests (or tokens, with
//     concurrencyMode: tokens). The mean of the pool does not matter here: there is room
//     while one endpoint that could serve the request has some. Where nothing is
//     declared it is admission.Default. In a profile a concurrency-detector leaves out
//     endpoints without a place, if others have one.
//   - Policies and detectors need not be declared in plugins if they have no parameters.
//
// What the Inference Extension has no words for is a section of our own, in the form of
// admission.Config; it opens the gate by itself and stands in the place of flowControl:
//
//	admission:
//	  bands:
//	  - {name: critical, priority: 100, maxWait: 1m, displace: true}
//	  - {name: standard, priority: 0, ceiling: 0.8, maxWait: 30s, floor: 0.05}
//	  - {name: sheddable, ceiling: 0.79, maxRequests: -1}
//	  tenants: {gold: {weight: 4}, silver: {weight: 1}}
//	  budgets: [{tenant: silver, tokensPerMinute: 100000}]
//	  waitForEndpoints: 2m
//
// Its revoke has no effect: Envoy cannot be told to end a request that is under way. In
// both forms the profile's metricsTTL and outputTokens hold as well, if there are any. How
// long a request may wait is bounded by Envoy too: see envoy.yaml.
//
// How many replicas are recommended is a section of our own as well, in the form of
// autoscale.Policy; it counts where the picker is started with autoscaling on:
//
//	autoscale: {min: 1, max: 8, toZero: true, idleAfter: 15m, ttft: 2s, startUp: 90s}
package config
