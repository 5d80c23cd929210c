package kubernetes

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/inferpick/inferpick/types"
)

// manifestTargets returns what to watch of the resources that a server has.
func manifestTargets(served []resource, o *Options) []target {
	namespaces := o.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	var out []target
	for _, r := range served {
		for _, namespace := range namespaces {
			t := target{resource: r, namespace: namespace}
			if r.kind == kindPool {
				t.labels = o.PoolSelector
				t.fields = onlyName(o.Pools, namespace)
			}
			out = append(out, t)
		}
	}
	return out
}

// onlyName returns a field selector for the pool that is read in a namespace, if it is one.
func onlyName(pools []types.NamespacedName, namespace string) string {
	found := ""
	for _, pool := range pools {
		if pool.Namespace == namespace {
			if found != "" {
				return ""
			}
			found = "metadata.name=" + pool.Name
		}
	}
	return found
}

// selector returns the label selector of a pool as the API takes it.
func selector(pool *types.InferencePool) string {
	return labels.SelectorFromSet(pool.Spec.Selector.MatchLabels).String()
}

// podWatches returns the selectors of the watches of pods that a namespace should have: those of
// its pools, up to a number; beyond that only one, "", for all pods. running are the watches
// that there are, and whether each has read its list. Those that are to go stay until those that
// replace them have, and pools have to become a quarter fewer before the watch of all is given
// up again.
func podWatches(wanted []string, running map[string]bool, most int) []string {
	wanted = slices.Compact(slices.Sorted(slices.Values(wanted)))
	if len(wanted) == 0 {
		return nil
	}
	allSynced, all := running[""]
	if allSynced && len(wanted) > most*3/4 {
		return []string{""}
	}
	if len(wanted) > most {
		out := []string{""}
		for _, s := range wanted {
			if _, ok := running[s]; ok {
				out = append(out, s)
			}
		}
		return out
	}
	if all && slices.ContainsFunc(wanted, func(s string) bool { return !running[s] }) {
		return append([]string{""}, wanted...)
	}
	return wanted
}

// changes returns what to start and what to stop, given what runs and what should.
func changes[K comparable, V any](running map[K]V, want []K) (start, stop []K) {
	wanted := make(map[K]bool, len(want))
	for _, k := range want {
		wanted[k] = true
		if _, ok := running[k]; !ok {
			start = append(start, k)
		}
	}
	for k := range running {
		if !wanted[k] {
			stop = append(stop, k)
		}
	}
	return start, stop
}
