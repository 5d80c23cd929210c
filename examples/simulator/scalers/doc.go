// Package scalers has the ways to choose how many replicas a pool should have that scheduling/autoscale is compared
// with, as Scalers of scheduling/simulation: the HorizontalPodAutoscaler of Kubernetes and KEDA, exactly as they compute,
// and the laws that others have published on top of them, each with the parameters that it is shipped with and with
// behaviour that suits it better.
//
//	law, _ := scalers.ByName("queue+running")
//	config.Scaling.Scaler = law.Scaler(law.Shipped, scalers.World{Min: 1, Max: 20})
//
// HPA and KEDA are models of what those programs do, written from their documentation and their formulas.
package scalers
