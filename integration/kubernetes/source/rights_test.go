package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// needed are the rights of a source, one rule for each kind.
var needed = []cluster.Rule{
	rule("", "pods"),
	rule("inference.networking.k8s.io", "inferencepools"),
	rule("inference.networking.x-k8s.io", "inferencepools"),
	rule("inference.networking.x-k8s.io", "inferencemodels"),
	rule("inference.networking.x-k8s.io", "inferenceobjectives"),
	rule("llm-d.ai", "inferenceobjectives"),
	rule("inference.networking.x-k8s.io", "inferencemodelrewrites"),
	rule("llm-d.ai", "inferencemodelrewrites"),
}

func rule(group, resource string) cluster.Rule {
	return cluster.Rule{Groups: []string{group}, Resources: []string{resource}, Verbs: []string{"list", "watch"}}
}

// TestRights: a source needs these rights and no others. Without one of them it says which is
// missing, and all else works; once it is given, that works too.
func TestRights(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	c.InstallCRDs(t, crds.CRDs)
	ns := c.Namespace(t)
	c.Apply(t, ns, manifests)
	o := podOptions(ns)
	o.Silent = true
	c.Pod(t, o)

	for i := -1; i < len(needed); i++ { // -1: none is missing
		name, granted := "all", needed
		if i >= 0 {
			name = needed[i].Resources[0] + "." + needed[i].Groups[0]
			granted = slices.Delete(slices.Clone(needed), i, i+1)
		}
		t.Run("without "+name, func(t *testing.T) {
			t.Parallel()
			user := strings.Trim(ns+"-"+name, ".")
			c.Grant(t, ns, user, granted...)
			g := newGateway(t)
			source := g.follow(t, c.ConfigFor(user), quick(kubernetes.Options{Namespaces: []string{ns}}))
			if i >= 0 {
				missing := needed[i]
				cluster.Eventually(t, patience, func() error { return onlyMissing(source, missing, ns) })
				c.Grant(t, ns, user, needed...)
			}
			synced(t, source)
			cluster.Eventually(t, patience, func() error { return allUp(source) })
			g.has(t, ns, 1)
		})
	}
}

// onlyMissing returns nil if a source says that this right is missing, and no other.
func onlyMissing(source *kubernetes.Source, rule cluster.Rule, ns string) error {
	found := false
	for _, k := range source.Kinds() {
		if k.Resource != rule.Resources[0] || k.Group != rule.Groups[0] {
			if !k.Up {
				return fmt.Errorf("%s is down: %w", k.GroupVersionResource, k.Err)
			}
			continue
		}
		want := fmt.Sprintf("needs list and watch on %s in namespace %s", k.GroupResource(), ns)
		if k.Up || k.Err == nil || !strings.Contains(k.Err.Error(), want) {
			return fmt.Errorf("%s says %v, want %q", k.GroupVersionResource, k.Err, want)
		}
		found = true
	}
	if !found {
		return errors.New("nothing is said of " + rule.Resources[0])
	}
	return nil
}

// allUp returns nil if all is read that is there, and all is there.
func allUp(source *kubernetes.Source) error {
	kinds := source.Kinds()
	if len(kinds) != len(needed)+1 { // and discovery
		return fmt.Errorf("%d kinds, want %d", len(kinds), len(needed)+1)
	}
	for _, k := range kinds {
		if !k.Up {
			return fmt.Errorf("%s is down: %w", k.GroupVersionResource, k.Err)
		}
	}
	return nil
}

// TestServiceAccount: a source runs with the token of a pod.
func TestServiceAccount(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	c.InstallCRDs(t, crds.CRDs)
	ns := c.Namespace(t)
	c.Apply(t, ns, manifests)
	config := c.ServiceAccount(t, ns, "picker")
	c.Grant(t, ns, "system:serviceaccount:"+ns+":picker", needed...)
	g := newGateway(t)
	source := g.follow(t, config, quick(kubernetes.Options{Namespaces: []string{ns}}))
	synced(t, source)
	cluster.Eventually(t, patience, func() error { return allUp(source) })
	require.NotNil(t, g.endpoints(ns))
}
