package kubernetes

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

func poolOf(name string, ports ...int32) *types.InferencePool {
	p := &types.InferencePool{ObjectMeta: types.ObjectMeta{Name: name, Namespace: "default"}}
	p.Spec.Selector.MatchLabels = map[string]string{"app": name}
	for _, n := range ports {
		p.Spec.TargetPorts = append(p.Spec.TargetPorts, types.Port{Number: n})
	}
	return p
}

func TestEndpoints(t *testing.T) {
	ready := func(ip string) *pod { return &pod{ip: ip, ready: true, labels: map[string]string{"app": "x"}} }
	with := func(p *pod, change func(*pod)) *pod { change(p); return p }
	for name, c := range map[string]struct {
		shape shape
		ports []int32
		pod   *pod
		want  []datastore.EndpointSpec
	}{
		"ready":     {pod: ready("10.0.0.1"), want: []datastore.EndpointSpec{{ID: "default/p-rank-0", Address: "10.0.0.1:8000"}}},
		"IPv6":      {pod: ready("fd00::1"), want: []datastore.EndpointSpec{{ID: "default/p-rank-0", Address: "[fd00::1]:8000"}}},
		"no IP yet": {pod: ready("")},
		"no IP":     {pod: ready("evil,host")},
		"not ready": {
			pod:  with(ready("10.0.0.1"), func(p *pod) { p.ready = false }),
			want: []datastore.EndpointSpec{{ID: "default/p-rank-0", Address: "10.0.0.1:8000", State: types.Draining}},
		},
		"terminating": {
			pod:  with(ready("10.0.0.1"), func(p *pod) { p.terminating = true }),
			want: []datastore.EndpointSpec{{ID: "default/p-rank-0", Address: "10.0.0.1:8000", State: types.Draining}},
		},
		"finished": {pod: with(ready("10.0.0.1"), func(p *pod) { p.finished = true })},
		"ranks": {
			ports: []int32{8000, 8002},
			pod:   ready("10.0.0.1"),
			want:  []datastore.EndpointSpec{{ID: "default/p-rank-0", Address: "10.0.0.1:8000"}, {ID: "default/p-rank-1", Address: "10.0.0.1:8002"}},
		},
		"active ports": {
			ports: []int32{8000, 8002, 8004},
			pod:   with(ready("10.0.0.1"), func(p *pod) { p.limited, p.active = true, "8004, 9000,x,,8000" }),
			want:  []datastore.EndpointSpec{{ID: "default/p-rank-0", Address: "10.0.0.1:8000"}, {ID: "default/p-rank-2", Address: "10.0.0.1:8004"}},
		},
		"no active port": {pod: with(ready("10.0.0.1"), func(p *pod) { p.limited = true })},
		"shape": {
			shape: shape{cluster: "east", metricsPort: 9100, template: datastore.EndpointSpec{
				Engine: "vllm", MetricsPath: "/m", State: types.Unhealthy, Labels: map[string]string{"gpu": "h100"},
			}},
			pod: ready("10.0.0.1"),
			want: []datastore.EndpointSpec{{
				ID: "east/default/p-rank-0", Address: "10.0.0.1:8000", Engine: "vllm", MetricsPath: "/m", MetricsAddress: ":9100",
				Labels: map[string]string{"app": "x", "gpu": "h100", "cluster": "east"},
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ports == nil {
				c.ports = []int32{8000}
			}
			for i := range c.want {
				if c.want[i].Labels == nil {
					c.want[i].Labels = map[string]string{"app": "x"}
				}
			}
			got := c.shape.endpoints(poolOf("x", c.ports...), map[string]*pod{"p": c.pod})
			require.Empty(t, cmp.Diff(c.want, got, cmpopts.IgnoreFields(datastore.EndpointSpec{}, "Attrs"), cmpopts.EquateEmpty()))
		})
	}
}

func TestDifference(t *testing.T) {
	list := func(ids ...string) (out []datastore.EndpointSpec) {
		for _, id := range ids {
			e := datastore.EndpointSpec{ID: strings.TrimSuffix(id, "!")}
			if id != e.ID {
				e.State = types.Draining
			}
			out = append(out, e)
		}
		return out
	}
	for _, c := range []struct{ old, next, set, gone []string }{
		{nil, nil, nil, nil},
		{nil, []string{"a", "b"}, []string{"a", "b"}, nil},
		{[]string{"a", "b"}, nil, nil, []string{"a", "b"}},
		{[]string{"a", "b", "c"}, []string{"a", "b!", "c"}, []string{"b!"}, nil},
		{[]string{"a", "b", "c"}, []string{"a", "c"}, nil, []string{"b"}},
		{[]string{"a", "c"}, []string{"a", "b", "c"}, []string{"b"}, nil},
		{[]string{"a", "b", "c", "d"}, []string{"a!", "c", "d!", "e"}, []string{"a!", "d!", "e"}, []string{"b"}},
		{[]string{"a", "b"}, []string{"b", "a"}, nil, nil},
	} {
		set, gone := difference(list(c.old...), list(c.next...))
		require.Equal(t, list(c.set...), set, "%v to %v", c.old, c.next)
		require.Equal(t, c.gone, gone, "%v to %v", c.old, c.next)
	}
}

// Endpoints are in the order of the pods' names.
func TestEndpointsOrder(t *testing.T) {
	got := shape{}.endpoints(poolOf("x", 1), map[string]*pod{"b": {ip: "::2", ready: true}, "c": {ip: "::3", ready: true}, "a": {ip: "::1", ready: true}})
	require.Len(t, got, 3)
	require.Equal(t, []string{"[::1]:1", "[::2]:1", "[::3]:1"}, []string{got[0].Address, got[1].Address, got[2].Address})
}

func TestPodsOfSlices(t *testing.T) {
	v4 := &endpointSlice{endpoints: []sliceEndpoint{
		{name: "a", ip: "10.0.0.1", ready: true, zone: "z"}, {name: "b", ip: "10.0.0.2"}, {name: "10.0.0.9", ip: "10.0.0.9", ready: true, terminating: true},
	}}
	later := &endpointSlice{endpoints: []sliceEndpoint{{name: "b", ip: "10.0.0.2", ready: true}, {name: "a", ip: "10.0.0.1"}}}
	v6 := &endpointSlice{ipv6: true, endpoints: []sliceEndpoint{{name: "a", ip: "fd00::1", ready: true}, {name: "six", ip: "fd00::6", ready: true}}}
	want := map[string]*pod{
		"a":        {ip: "10.0.0.1", ready: true, labels: map[string]string{zoneLabel: "z"}},
		"b":        {ip: "10.0.0.2", ready: true},
		"10.0.0.9": {ip: "10.0.0.9", ready: true, terminating: true},
		"six":      {ip: "fd00::6", ready: true},
	}
	require.Empty(t, cmp.Diff(want, podsOf([]*endpointSlice{v6, v4, later}), cmp.AllowUnexported(pod{})))
}

func TestPodWatches(t *testing.T) {
	for name, c := range map[string]struct {
		wanted  []string
		running map[string]bool
		want    []string
	}{
		"none":                              {nil, map[string]bool{"a": true}, nil},
		"one each":                          {[]string{"b", "a", "b"}, nil, []string{"a", "b"}},
		"as many as may be":                 {[]string{"a", "b", "c", "d"}, nil, []string{"a", "b", "c", "d"}},
		"too many":                          {[]string{"a", "b", "c", "d", "e"}, nil, []string{""}},
		"too many, until all are known":     {[]string{"a", "b", "c", "d", "e"}, map[string]bool{"a": true, "b": false, "x": true}, []string{"", "a", "b"}},
		"too many, all listing":             {[]string{"a", "b", "c", "d", "e"}, map[string]bool{"a": true, "": false}, []string{"", "a"}},
		"too many, all known":               {[]string{"a", "b", "c", "d", "e"}, map[string]bool{"a": true, "": true}, []string{""}},
		"one fewer again":                   {[]string{"a", "b", "c", "d"}, map[string]bool{"": true}, []string{""}},
		"much fewer":                        {[]string{"a", "b", "c"}, map[string]bool{"": true}, []string{"", "a", "b", "c"}},
		"much fewer, listing":               {[]string{"a", "b", "c"}, map[string]bool{"": true, "a": true, "b": true, "c": false}, []string{"", "a", "b", "c"}},
		"much fewer, known":                 {[]string{"a", "b", "c"}, map[string]bool{"": true, "a": true, "b": true, "c": true}, []string{"a", "b", "c"}},
		"fewer before all were ever listed": {[]string{"a", "b", "c", "d"}, map[string]bool{"": false, "a": true, "b": true, "c": true, "d": true}, []string{"a", "b", "c", "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, podWatches(c.wanted, c.running, 4))
		})
	}
}

func resourceOf(group, version, kind string) resource {
	return resource{schema.GroupVersionResource{Group: group, Version: version, Resource: kind + "s"}, kind}
}

var (
	v1Pools    = resourceOf(types.GroupGA, "v1", "InferencePool")
	alphaPools = resourceOf(types.GroupX, "v1alpha2", "InferencePool")
	xModels    = resourceOf(types.GroupX, "v1alpha2", "InferenceModel")
	xGoals     = resourceOf(types.GroupX, "v1alpha2", "InferenceObjective")
	llmdGoals  = resourceOf(types.GroupLLMD, "v1alpha2", "InferenceObjective")
	xRewrites  = resourceOf(types.GroupX, "v1alpha2", "InferenceModelRewrite")
)

func TestChoose(t *testing.T) {
	pods := resourceOf("", "v1", "Pod")
	beta := resourceOf(types.GroupGA, "v1beta9", "InferencePool")
	oldPools := resourceOf(types.GroupX, "v1alpha1", "InferencePool")
	llmdV1 := resourceOf(types.GroupLLMD, "v1", "InferenceObjective")
	got := choose([]resource{pods, oldPools, llmdGoals, xGoals, alphaPools, llmdV1, beta, v1Pools, xModels})
	require.Equal(t, []resource{v1Pools, alphaPools, xModels, xGoals, llmdGoals}, got, "each kind once for each group, by a version that can be read")
	require.Empty(t, choose([]resource{pods, beta}))
	require.ElementsMatch(t, assumed(), choose(assumed()))
}

func TestPresence(t *testing.T) {
	var p presence
	require.True(t, p.update(nil))
	require.True(t, p.known)
	require.True(t, p.update([]resource{v1Pools, xModels}))
	require.False(t, p.update([]resource{v1Pools, xModels}))
	require.True(t, p.update([]resource{xModels}), "in another order")
	require.ElementsMatch(t, []resource{v1Pools, xModels}, p.served, "missing once")
	p.update([]resource{v1Pools, xModels})
	p.update([]resource{v1Pools})
	require.ElementsMatch(t, []resource{v1Pools, xModels}, p.served, "missing once since")
	require.True(t, p.update([]resource{v1Pools}))
	require.Equal(t, []resource{v1Pools}, p.served)
}

// of returns a manifest of a resource that is valid unless err is set.
func of(r resource, o types.Object, err error) *manifest {
	m := &manifest{resource: r, name: o.Key(), object: o, err: err}
	if err != nil {
		m.object = nil
	}
	return m
}

func modelOf(name, pool string) *types.InferenceModel {
	m := &types.InferenceModel{ObjectMeta: types.ObjectMeta{Name: name, Namespace: "default"}}
	m.Spec.PoolRef.Name = pool
	return m
}

func TestMerge(t *testing.T) {
	labelled := poolOf("a", 1)
	labelled.Labels = map[string]string{"team": "x"}
	goal := func(name string, s types.InferenceObjectiveSpec) *types.InferenceObjective {
		return &types.InferenceObjective{ObjectMeta: types.ObjectMeta{Name: name, Namespace: "default"}, Spec: s}
	}
	everywhere := goal("everywhere", types.InferenceObjectiveSpec{PoolSelector: new(types.PoolSelector)})
	other := goal("other", types.InferenceObjectiveSpec{PoolRefs: []types.PoolRef{{Name: "b"}}})
	rewrite := &types.InferenceModelRewrite{ObjectMeta: types.ObjectMeta{Name: "r", Namespace: "default"}}
	rewrite.Spec.PoolRef.Name = "a"
	a, b, aAlpha := of(v1Pools, labelled, nil), of(v1Pools, poolOf("b", 2), nil), of(alphaPools, poolOf("a", 3), nil)
	broken := of(v1Pools, poolOf("a", 0), fmt.Errorf("broken"))
	ofA, ofB, later := of(xModels, modelOf("ofA", "a"), nil), of(xModels, modelOf("ofB", "b"), nil), of(xModels, modelOf("later", "c"), nil)
	everyX, everyLLMD := of(xGoals, everywhere, nil), of(llmdGoals, everywhere, nil)
	otherX, rewriteX := of(xGoals, other, nil), of(xRewrites, rewrite, nil)
	team, err := labels.Parse("team=x")
	require.NoError(t, err)

	for name, c := range map[string]struct {
		filter filter
		all    []*manifest
		want   []*manifest
	}{
		"v1 first":              {all: []*manifest{aAlpha, a, b}, want: []*manifest{a, b}},
		"what is left":          {all: []*manifest{aAlpha}, want: []*manifest{aAlpha}},
		"the valid one":         {all: []*manifest{broken, aAlpha}, want: []*manifest{aAlpha}},
		"none is valid":         {all: []*manifest{broken}},
		"declared comes last":   {all: []*manifest{declared(poolOf("a", 9)), aAlpha}, want: []*manifest{aAlpha}},
		"llm-d.ai first":        {all: []*manifest{everyX, everyLLMD}, want: []*manifest{everyLLMD}},
		"everything":            {all: []*manifest{a, b, ofA, ofB, later, everyX, otherX, rewriteX}, want: []*manifest{a, b, ofA, ofB, later, everyX, otherX, rewriteX}},
		"of pools by name":      {filter: filter{names: []types.NamespacedName{named("a"), named("c")}}, all: []*manifest{a, b, ofA, ofB, later, everyX, otherX, rewriteX}, want: []*manifest{a, ofA, later, everyX, rewriteX}},
		"of pools by labels":    {filter: filter{selector: team}, all: []*manifest{a, b, ofA, ofB, later, everyX, otherX, rewriteX}, want: []*manifest{a, ofA, everyX, rewriteX}},
		"hidden, though chosen": {filter: filter{selector: team}, all: []*manifest{of(v1Pools, poolOf("a", 4), nil), of(alphaPools, labelled, nil)}},
	} {
		t.Run(name, func(t *testing.T) {
			want := make(map[objectKey]*manifest)
			for _, m := range c.want {
				want[m.key()] = m
			}
			require.Equal(t, want, merge(c.all, c.filter))
		})
	}
}

// An invalid update leaves what was valid in force, for the same object.
func TestCarry(t *testing.T) {
	first := of(v1Pools, poolOf("a", 1), nil)
	first.uid = "1"
	bad := of(v1Pools, poolOf("a", 1), fmt.Errorf("broken"))
	bad.uid = "1"
	carried := bad.carry(first)
	require.Same(t, first.object, carried.object)
	require.Error(t, carried.err)
	require.Nil(t, bad.object)
	require.Nil(t, bad.carry(nil).object)
	bad.uid = "2"
	require.Nil(t, bad.carry(first).object, "another object of the same name")
	require.Same(t, first, first.carry(carried))
}

func TestRetry(t *testing.T) {
	status := func(code int, reason metav1.StatusReason, seconds int32) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Code: int32(code), Reason: reason, Details: &metav1.StatusDetails{RetryAfterSeconds: seconds}}}
	}
	gone := status(http.StatusGone, metav1.StatusReasonExpired, 0)
	no := status(http.StatusForbidden, metav1.StatusReasonForbidden, 0)
	missing := status(http.StatusNotFound, metav1.StatusReasonNotFound, 0)
	busy := status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, 90)
	broke := fmt.Errorf("%w: %w", errCut, io.ErrUnexpectedEOF)
	within := func(got, most time.Duration) {
		t.Helper()
		require.LessOrEqual(t, got, most)
		require.GreaterOrEqual(t, got, most*4/5-1)
	}
	fresh := func() *retry { return &retry{min: 30 * time.Second, max: 5 * time.Minute} }

	r := fresh()
	require.Zero(t, r.failed(gone), "a new list, at once")
	within(r.failed(gone), 1600*time.Millisecond)
	r = fresh()
	require.Less(t, r.failed(broke), firstWait)
	within(r.failed(io.EOF), 1600*time.Millisecond)
	r = fresh()
	for _, want := range []time.Duration{800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		within(r.failed(io.EOF), want*time.Millisecond)
	}
	require.Zero(t, r.failed(gone), "the server is back, and does not know where the watch was")
	within(r.failed(no), 30*time.Second)
	for _, want := range []time.Duration{60, 120, 240, 300, 300} {
		within(r.failed(no), want*time.Second)
	}
	within(r.failed(missing), 30*time.Second)
	r.succeeded()
	within(r.failed(io.EOF), 800*time.Millisecond)
	require.Equal(t, 90*time.Second, fresh().failed(busy))
}

func TestExplain(t *testing.T) {
	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", fmt.Errorf("no"))
	in := target{resource: pods, namespace: "prod"}
	for _, c := range []struct {
		err  error
		t    target
		want string
	}{
		{refused, in, "kubernetes: needs list and watch on pods in namespace prod: "},
		{refused, target{resource: v1Pools}, "kubernetes: needs list and watch on InferencePools.inference.networking.k8s.io in all namespaces (by a ClusterRole, or set Options.Namespaces): "},
		{apierrors.NewUnauthorized("who"), in, "kubernetes: the API server does not accept the credentials: who"},
		{apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, ""), in, "its CRD is not installed: pods"},
		{io.EOF, in, "kubernetes: pods in namespace prod: EOF"},
	} {
		err := explain(c.err, c.t)
		require.ErrorContains(t, err, c.want)
		require.ErrorIs(t, err, c.err)
	}
}
