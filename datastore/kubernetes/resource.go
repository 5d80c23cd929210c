package kubernetes

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/types"
)

// resource is a kind as one group and version of the API serves it.
type resource struct {
	schema.GroupVersionResource
	kind string
}

func (r resource) String() string { return r.GroupResource().String() }

var (
	pods           = resource{schema.GroupVersionResource{Version: "v1", Resource: "pods"}, "Pod"}
	endpointSlices = resource{schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, "EndpointSlice"}
)

// kindPool is the kind that is required; the others are optional.
const kindPool = "InferencePool"

// kindResources are a kind of manifests, and the resources that are tried where the server does
// not say which it has, the preferred one first.
type kindResources struct {
	kind    string
	assumed []schema.GroupVersionResource
}

var kinds = []kindResources{
	{kindPool, []schema.GroupVersionResource{
		{Group: types.GroupGA, Version: "v1", Resource: "inferencepools"},
		{Group: types.GroupX, Version: "v1alpha2", Resource: "inferencepools"},
	}},
	{"InferenceModel", []schema.GroupVersionResource{
		{Group: types.GroupX, Version: "v1alpha2", Resource: "inferencemodels"},
	}},
	{"InferenceObjective", []schema.GroupVersionResource{
		{Group: types.GroupLLMD, Version: "v1alpha2", Resource: "inferenceobjectives"},
		{Group: types.GroupX, Version: "v1alpha2", Resource: "inferenceobjectives"},
	}},
	{"InferenceModelRewrite", []schema.GroupVersionResource{
		{Group: types.GroupLLMD, Version: "v1alpha2", Resource: "inferencemodelrewrites"},
		{Group: types.GroupX, Version: "v1alpha2", Resource: "inferencemodelrewrites"},
	}},
}

func kindIndex(kind string) int {
	return slices.IndexFunc(kinds, func(k kindResources) bool { return k.kind == kind })
}

// assumed returns all resources of kinds.
func assumed() []resource {
	var out []resource
	for _, k := range kinds {
		for _, gvr := range k.assumed {
			out = append(out, resource{gvr, k.kind})
		}
	}
	return out
}

// wanted reports whether the resources of a group's version may be of interest.
func wanted(gv schema.GroupVersion) bool {
	return slices.ContainsFunc(kinds, func(k kindResources) bool {
		return slices.Contains(types.APIVersions(k.kind), gv.String())
	})
}

// choose returns the resources to read of all that a server serves: of each kind and group one
// version, as all versions of a group show the same objects.
func choose(served []resource) []resource {
	var out []resource
	for _, k := range kinds {
		groups := make(map[string]bool)
		for _, version := range types.APIVersions(k.kind) {
			for _, r := range served {
				if r.kind == k.kind && r.GroupVersion().String() == version && !groups[r.Group] {
					groups[r.Group] = true
					out = append(out, r)
				}
			}
		}
	}
	return out
}

// compareResources orders the resources of a kind by precedence: the group that the kind has
// moved to comes first, v1 of pools before v1alpha2. Objects of the same name hide those that
// come later.
func compareResources(a, b resource) int {
	groups := []string{types.GroupGA, types.GroupLLMD, types.GroupX}
	rank := func(r resource) int {
		if i := slices.Index(groups, r.Group); i >= 0 {
			return i
		}
		return len(groups)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.String(), b.String()))
}
