// Package crds holds the CustomResourceDefinitions of the inference API, for clusters that
// have none: all groups and versions that package kubernetes reads. Objects that pass those
// of the Gateway API inference extension and of llm-d, at their latest versions, pass these.
//
// Definitions that a cluster already has are better left alone: they may be older than these,
// or newer, and both are read.
package crds

import "embed"

// CRDs has a file for each definition: GROUP_PLURAL.yaml.
//
//go:embed *.yaml
var CRDs embed.FS
