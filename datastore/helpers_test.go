package datastore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var llama = types.NamespacedName{Namespace: "default", Name: "llama"}

func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

func name(n string) types.NamespacedName {
	return types.NamespacedName{Namespace: types.DefaultNamespace, Name: n}
}

func pool(n string) *types.InferencePool {
	return &types.InferencePool{
		ObjectMeta: types.ObjectMeta{Name: n},
		Spec: types.InferencePoolSpec{
			Selector:    types.LabelSelector{MatchLabels: map[string]string{"app": n}},
			TargetPorts: []types.Port{{Number: 8000}},
		},
	}
}

// model returns an InferenceModel of the pool; targets are alternately names and
// weights, weight 0 for none.
func model(n, poolName, modelName string, created int64, targets ...any) *types.InferenceModel {
	m := &types.InferenceModel{
		ObjectMeta: types.ObjectMeta{Name: n},
		Spec:       types.InferenceModelSpec{ModelName: modelName, PoolRef: types.PoolRef{Name: poolName}},
	}
	if created != 0 {
		m.CreationTimestamp = at(created)
	}
	for i := 0; i < len(targets); i += 2 {
		t := types.TargetModel{Name: targets[i].(string)}
		if w := int32(targets[i+1].(int)); w != 0 {
			t.Weight = &w
		}
		m.Spec.TargetModels = append(m.Spec.TargetModels, t)
	}
	return m
}

func rewrite(n, poolName string, created int64, rules ...types.RewriteRule) *types.InferenceModelRewrite {
	w := &types.InferenceModelRewrite{
		ObjectMeta: types.ObjectMeta{Name: n, CreationTimestamp: at(created)},
		Spec:       types.InferenceModelRewriteSpec{PoolRef: types.PoolRef{Name: poolName}, Rules: rules},
	}
	return w
}

// rule rewrites the models to target; no models: every one.
func rule(target string, models ...string) types.RewriteRule {
	r := types.RewriteRule{Targets: []types.RewriteTarget{{ModelRewrite: target}}}
	for _, m := range models {
		r.Matches = append(r.Matches, types.RewriteMatch{Model: types.ModelMatch{Value: m}})
	}
	return r
}

func objective(n, poolName string, priority int) *types.InferenceObjective {
	return &types.InferenceObjective{
		ObjectMeta: types.ObjectMeta{Name: n},
		Spec:       types.InferenceObjectiveSpec{Priority: &priority, PoolRef: types.PoolRef{Name: poolName}},
	}
}

func specs(n int) []datastore.EndpointSpec {
	out := make([]datastore.EndpointSpec, n)
	for i := range out {
		out[i] = datastore.EndpointSpec{ID: fmt.Sprintf("e%d", i), Address: fmt.Sprintf("10.0.%d.%d:8000", i/250, i%250+1)}
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	require.NoError(t, err)
}

// endpoints returns the endpoints of a pool, and checks what holds for every
// store: slots are dense and different, ledgers too, no pool holds an ID twice.
func endpoints(t testing.TB, s *datastore.Store, pool types.NamespacedName) []*types.Endpoint {
	t.Helper()
	sn := s.Snapshot()
	var slots []uint32
	loads := make(map[*types.Load]bool)
	for _, p := range sn.Pools() {
		ids := make(map[string]bool)
		for _, e := range p.Endpoints() {
			if loads[e.Load] || ids[e.ID] {
				t.Fatalf("endpoint %s of pool %s is there twice", e.ID, p.Name())
			}
			loads[e.Load], ids[e.ID] = true, true
			slots = append(slots, e.Slot)
		}
	}
	slices.Sort(slots)
	if len(slices.Compact(slices.Clone(slots))) != len(slots) {
		t.Fatalf("slots %v are not unique", slots)
	}
	p := sn.Pool(pool)
	if p == nil {
		return nil
	}
	return p.Endpoints()
}

func ids(eps []*types.Endpoint) []string {
	out := []string{}
	for _, e := range eps {
		out = append(out, e.ID)
	}
	return out
}
