// Package externalmetrics serves external.metrics.k8s.io/v1beta1: the metrics that a HorizontalPodAutoscaler of type
// External asks the API server of a cluster for, which asks who is registered for that API (an APIService).
//
//	GET /apis/external.metrics.k8s.io/v1beta1/namespaces/models/inferpick_desired?labelSelector=pool%3Dllama
//
// The name is that of a metric of package metric with inferpick_ before it, the namespace that of the pool. The
// selector has pool, which is required: the sum of all pools would be nobody's. It may have model, the public name of
// a model of the pool, where that can be the value of a label, and nothing else.
//
// A cluster has one provider of external metrics: where there is KEDA, a Prometheus adapter or another, it is that, and
// package keda is for who has KEDA.
//
// Who asks has to be the API server, by the certificate of its front proxy, or show a token of the cluster; and who
// they ask for has to have the right to list that resource, as the HorizontalPodAutoscaler's own account does
// everywhere. Errors are metav1.Status.
package externalmetrics
