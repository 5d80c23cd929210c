// Package config reads what an endpoint picker is told to do: pools, models and
// endpoints, and how to schedule, in the shapes of Kubernetes but from files.
//
//	c, err := config.Load("/etc/inferpick", nil)
//	…
//	store := datastore.New(datastore.Options{})
//	err = store.Commit(c.Change)
//	for _, pool := range c.Pools() {
//		profile, err := c.Profile(pool)
//		scheduler, err := scheduling.New(profile)
//		…
//	}
//
// A [Watcher] does it again for every change of the files, whole or not at all;
// [Config.ProfileKey] and [Config.AdmissionKey] say which schedulers and options of
// admission control to keep.
//
// # Documents
//
// Files hold documents in YAML, between lines that begin with ---, or in JSON, one
// after the other. A document is an object or a List of objects. In YAML a name
// must not appear twice, and a label such as 1 or yes must be written in quotes: it
// is no string otherwise. The kinds are
//
//   - InferencePool (inference.networking.k8s.io/v1 and, of the group
//     inference.networking.x-k8s.io, v1alpha2), InferenceModel, InferenceObjective
//     and InferenceModelRewrite (inference.networking.x-k8s.io/v1alpha2): see
//     package types. There must be a pool.
//   - StaticEndpoints (inferpick.io/v1alpha1): endpoints of a pool.
//   - EndpointPickerConfig (inference.networking.x-k8s.io/v1alpha1 or
//     config.x-k8s.io/v1alpha1): the plugins that schedule, and who waits.
//
// Two objects of a kind must not have the same name. All that is wrong is reported
// at once, with file, document and line: see [Error]. Names of fields are exact,
// and unknown ones are errors but in metadata and status.
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
// namespace of metadata; without, for every pool that has none of its own. A pool
// without any, and a document that declares no plugins, have plugins.Default. A
// document has at most one profile, which may have the further fields of
// plugins.ProfileConfig (fallbacks, metricsTTL, bookingTTL, outputTokens, seed);
// without one, all plugins that are declared make a profile, scorers with
// weight 1.
//
// Types of plugins are those of the registry, and these:
//
//   - single-profile-handler, openai-parser, metrics-data-source,
//     core-metrics-extractor, approx-prefix-cache-producer and
//     inflight-load-producer are accepted, also where dataLayer and parser refer to
//     them, and have no effect: what they do is done here in any case.
//   - utilization-detector is our shed-filter: queueDepthThreshold is maxQueue, and
//     kvCacheUtilThreshold is maxKVUsage. It sheds requests of negative priority
//     while no endpoint has room, and keeps no endpoint out otherwise.
//   - kv-cache-scorer is kv-cache-utilization-scorer, as it was called once.
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
// Of featureGates, enableLegacyMetrics is handed on (Config.LegacyMetrics);
// dataLayer and prepareDataPlugins are so in any case; flowControl is the following.
//
// # Flow control
//
// Without the gate flowControl requests never wait: they are scheduled as they come,
// and those of negative priority are shed while no endpoint has room. With it, they
// wait in the picker where there is no room, see [Config.Admission] and package
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
//     others; each priority has a queue of its own, as there, and higher ones go first.
//   - maxBytes and maxRequests are quantities of Kubernetes. What is left out or 0 is the
//     default of admission.Options, as there is always a bound; so it is of
//     defaultRequestTTL: 30s, where requests may wait for ever there.
//   - global-strict-fairness-policy, the default, is first-come, and
//     round-robin-fairness-policy is virtual-tokens: tenants have equal shares of tokens,
//     not of requests. fcfs-ordering-policy, the default, is fifo; edf-ordering-policy
//     and slo-deadline-ordering-policy are earliest-deadline, the deadline being that by
//     which the request must be let in. A policy holds for all bands; that two differ is
//     an error. static-usage-limit-policy's threshold is the ceiling of all bands.
//   - saturationDetector says when an endpoint is full: a utilization-detector, or a
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
package config
