// Package types defines the values shared by all packages of inferpick.
//
//   - [Request] is what a decision may depend on: the model, the spans of the prompt inside
//     the unmodified body, priority, tenant, session and SLO.
//   - [Endpoint] is one reading of one model server. It is immutable once published; a newer
//     reading is another value. All readings of a server share one [Load], the live ledger
//     of requests that were sent there and have not finished.
//   - [Metrics] is what the server reported. Each value is a [Gauge], whose zero value means
//     "unknown", not 0: an endpoint that was never read must not look idle.
//   - [Outcome] is how a request ended.
//   - [InferencePool], [InferenceModel], [InferenceObjective] and [InferenceModelRewrite]
//     are the manifests of the Gateway API Inference Extension, with the same JSON fields,
//     defaults and validation rules, but no dependency on Kubernetes. [DecodeManifest] reads
//     any of them.
//
// The package imports only the standard library, without net/http, and compiles for wasip1.
package types
