// Package samplepool is a picker's configuration for tests and measurements: one pool,
// llama, whose servers report nothing, and one model, chat, which they know as llama-8b.
package samplepool

import (
	"fmt"
	"strings"
)

// YAML returns the configuration for servers at addresses, ip:port, and further
// documents.
func YAML(addresses []string, documents ...string) string {
	var b strings.Builder
	b.WriteString(`apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, criticality: Critical, poolRef: {name: llama}, targetModels: [{name: llama-8b}]}
---
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: sample}
spec:
  poolRef: {name: llama}
  endpoints: [`)
	for _, a := range addresses {
		fmt.Fprintf(&b, "{address: %q, metrics: {disabled: true}}, ", a)
	}
	b.WriteString("]\n")
	for _, d := range documents {
		b.WriteString("---\n" + d)
	}
	return b.String()
}
