// Package metric answers autoscalers that ask for one figure by its name, as KEDA does and the HorizontalPodAutoscaler.
//
// All metrics are sums over the pool, which such an autoscaler divides by a target for one replica (AverageValue, what
// both do by default): replicas = ceil(value / target). So the part of the KV cache that is in use, which is a mean of
// the servers, is told as whole servers' worth: 4 servers at 60 % are 2.4, which with a target of 0.8 are 3 replicas.
//
//	desired         replicas, as recommended; its target is 1, or how many endpoints a pod has
//	queued          requests that wait to be let in, or for an endpoint
//	queuedTokens    of their prompts
//	backlogSeconds  of one replica's work that are queued and owed
//	running         requests at servers
//	kv              KV caches in use, in whole servers' worth
//	saturation      of servers, as admission control has it, in whole servers' worth
//
// What is not known is an error and never 0, and so is a sum of which a part is missing: an autoscaler that is told
// nothing leaves things as they are, one that is told too little removes servers.
package metric
