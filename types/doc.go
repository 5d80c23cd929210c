// Package types holds the values that every other package of inferpick shares.
//
// In the order in which a reader meets them:
//
//   - [Request] is what a decision may depend on: the model, the spans of the
//     prompt inside the untouched body, priority, tenant, session, SLO.
//   - [Endpoint] is one reading of one model server. It is immutable once
//     published; a newer reading is another value. All readings of one server
//     share one [Load], the live ledger of what was sent there and has not
//     been seen to finish.
//   - [Metrics] is what the server reported. Each figure is a [Gauge], whose
//     zero value is "unknown", never 0: an endpoint that was never read must
//     not look idle.
//   - [Outcome] is how a request ended.
//   - [InferencePool], [InferenceModel], [InferenceObjective] and
//     [InferenceModelRewrite] are the Kubernetes manifests of the Gateway API
//     Inference Extension, with the same JSON fields, defaults and rules, and
//     without Kubernetes. [DecodeManifest] reads any of them.
//
// The package imports the standard library only, not net/http, and compiles
// for wasip1.
package types
