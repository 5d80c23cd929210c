package datastore_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestSetEndpointsKeepsWhatStays(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(4)))
	before := endpoints(t, s, llama)
	require.True(t, s.UpdateMetrics(before[1].Load, types.Metrics{UpdatedAt: at(1), Waiting: types.Known(7)}), "UpdateMetrics = false for an endpoint that is there")

	next := specs(4)
	next = append(next[1:], datastore.EndpointSpec{ID: "new", Address: "10.1.0.1:8000"})
	next[1].Address = "10.2.0.1:8000"                 // e2 moved: another server
	next[2].Labels = map[string]string{"zone": "far"} // e3 has other labels
	must(t, s.SetEndpoints(llama, next))
	after := endpoints(t, s, llama)

	if got, want := ids(after), []string{"e1", "e2", "e3", "new"}; !slices.Equal(got, want) {
		t.Fatalf("endpoints = %v, want %v", got, want)
	}
	if after[0].Load != before[1].Load || after[0].Slot != before[1].Slot || after[0].Metrics.Waiting.Or(-1) != 7 {
		t.Errorf("e1 lost its ledger, slot or reading: %+v", after[0])
	}
	if after[1].Load == before[2].Load {
		t.Error("e2 has another address, but the old ledger")
	}
	if after[2].Load != before[3].Load || after[2].Labels["zone"] != "far" {
		t.Errorf("e3 did not keep its ledger or take the labels: %+v", after[2])
	}
	if after[1].Metrics.UpdatedAt.IsZero() != true || after[3].Metrics.Waiting.IsKnown() {
		t.Error("a new endpoint has a reading")
	}
	require.False(t, s.UpdateMetrics(before[0].Load, types.Metrics{}), "UpdateMetrics = true for an endpoint that has gone")
	require.False(t, s.SetState(before[0].Load, types.Draining), "SetState = true for an endpoint that has gone")
	var slots []uint32
	for _, e := range after {
		slots = append(slots, e.Slot)
	}
	slices.Sort(slots)
	if want := []uint32{0, 1, 2, 3}; !slices.Equal(slots, want) {
		t.Errorf("slots = %v, want %v: those that were freed are used again", slots, want)
	}
	require.False(t, before[1].Metrics.Waiting.IsKnown(), "a reading that was published has changed")
}

func TestEndpointErrors(t *testing.T) {
	ok := datastore.EndpointSpec{Address: "10.0.0.1:8000"}
	with := func(change func(*datastore.EndpointSpec)) datastore.EndpointSpec {
		spec := ok
		change(&spec)
		return spec
	}
	tests := []struct {
		name  string
		specs []datastore.EndpointSpec
		want  string
	}{
		{"no address", []datastore.EndpointSpec{{ID: "a"}}, `endpoint 0, "a": address is "", want host:port`},
		{"no port", []datastore.EndpointSpec{{Address: "10.0.0.1"}}, `address is "10.0.0.1", want host:port`},
		{"port 0", []datastore.EndpointSpec{{Address: "10.0.0.1:0"}}, `address is "10.0.0.1:0", want a port from 1 to 65535`},
		{"bare IPv6", []datastore.EndpointSpec{{Address: "fe80::1:80"}}, `address is "fe80::1:80", want host:port`},
		{"a list of addresses", []datastore.EndpointSpec{{Address: "a:1,b:2"}}, `address is "a:1,b:2", want host:port`},
		{"line break", []datastore.EndpointSpec{{Address: "a\r\nx:1"}}, `address is "a\r\nx:1", want host:port`},
		{"URL", []datastore.EndpointSpec{{Address: "http://a:1"}}, `address is "http://a:1", want host:port`},
		{"twice", []datastore.EndpointSpec{ok, ok}, `endpoint 1: id "10.0.0.1:8000" is that of endpoint 0 too`},
		{"metrics port", []datastore.EndpointSpec{with(func(s *datastore.EndpointSpec) { s.MetricsAddress = ":0" })}, `metrics.address is "host:0", want a port`},
		{"metrics address", []datastore.EndpointSpec{with(func(s *datastore.EndpointSpec) { s.MetricsAddress = "x" })}, `metrics.address is "x", want host:port`},
		{"metrics path", []datastore.EndpointSpec{with(func(s *datastore.EndpointSpec) { s.MetricsPath = "metrics" })}, `metrics.path is "metrics", want / and then`},
		{"metrics scheme", []datastore.EndpointSpec{with(func(s *datastore.EndpointSpec) { s.MetricsScheme = "ftp" })}, `metrics.scheme is "ftp", want one of http, https`},
		{"state", []datastore.EndpointSpec{with(func(s *datastore.EndpointSpec) { s.State = 9 })}, "state is 9, want ready, draining or unhealthy"},
		{"capacity", []datastore.EndpointSpec{with(func(s *datastore.EndpointSpec) { s.Capacity.Speed = -1 })}, "capacity.speed is -1, want at least 0"},
		{"long id", []datastore.EndpointSpec{with(func(s *datastore.EndpointSpec) { s.ID = strings.Repeat("x", 513) })}, "id has 513 bytes, want at most 512"},
		{"too many", specs(5), "limit reached: 5 endpoints, Options.MaxEndpoints is 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := datastore.New(datastore.Options{MaxEndpoints: 4})
			must(t, s.SetEndpoints(llama, specs(2)))
			before := endpoints(t, s, llama)
			err := s.SetEndpoints(llama, tt.specs)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "datastore: ") {
				t.Errorf("SetEndpoints = %v, want an error with %q", err, tt.want)
			}
			if !slices.Equal(endpoints(t, s, llama), before) {
				t.Error("a list that was refused changed something")
			}
		})
	}
	s := datastore.New(datastore.Options{MaxEndpoints: 1})
	must(t, s.UpsertEndpoint(llama, ok))
	must(t, s.UpsertEndpoint(llama, ok))
	if err := s.UpsertEndpoint(llama, datastore.EndpointSpec{Address: "10.0.0.2:1"}); !errors.Is(err, datastore.ErrLimit) {
		t.Errorf("UpsertEndpoint beyond the limit = %v, want ErrLimit", err)
	}
	if err := s.SetEndpoints(types.NamespacedName{}, nil); err == nil {
		t.Error("SetEndpoints of a pool without a name = nil")
	}
}

func TestDeclaredPoolsOnly(t *testing.T) {
	s := datastore.New(datastore.Options{DeclaredPoolsOnly: true})
	if err := s.SetEndpoints(llama, specs(1)); !errors.Is(err, datastore.ErrNoPool) {
		t.Errorf("SetEndpoints = %v, want ErrNoPool", err)
	}
	if err := s.UpsertEndpoint(llama, specs(1)[0]); !errors.Is(err, datastore.ErrNoPool) {
		t.Errorf("UpsertEndpoint = %v, want ErrNoPool", err)
	}
	must(t, s.Commit(datastore.Change{
		Objects:   []types.Object{pool("llama")},
		Endpoints: map[types.NamespacedName][]datastore.EndpointSpec{llama: specs(1)},
	}))
	must(t, s.UpsertEndpoint(llama, specs(2)[1]))
	err := s.Commit(datastore.Change{OnlyObjects: true, Endpoints: map[types.NamespacedName][]datastore.EndpointSpec{llama: nil}})
	require.ErrorIs(t, err, datastore.ErrNoPool)
}

func TestUpsertAndRemove(t *testing.T) {
	s := datastore.New(datastore.Options{})
	for _, spec := range specs(3) {
		must(t, s.UpsertEndpoint(types.NamespacedName{Name: "llama"}, spec))
	}
	first := endpoints(t, s, llama)
	if !s.RemoveEndpoint(llama, "e1") || s.RemoveEndpoint(llama, "e1") || s.RemoveEndpoint(name("other"), "e0") {
		t.Error("RemoveEndpoint should be true once, for what is there")
	}
	must(t, s.UpsertEndpoint(llama, datastore.EndpointSpec{ID: "e2", Address: "10.9.9.9:1"}))
	must(t, s.UpsertEndpoint(llama, datastore.EndpointSpec{ID: "e0", Address: first[0].Address, Engine: "vllm"}))
	eps := endpoints(t, s, llama)
	if got, want := ids(eps), []string{"e0", "e2"}; !slices.Equal(got, want) {
		t.Fatalf("endpoints = %v, want %v", got, want)
	}
	if eps[0].Load != first[0].Load || eps[1].Load == first[2].Load {
		t.Error("the ledger goes with ID and Address")
	}
	// The same ID in another pool is another endpoint.
	must(t, s.UpsertEndpoint(name("b"), specs(1)[0]))
	if other := endpoints(t, s, name("b")); other[0].Load == eps[0].Load || other[0].Slot == eps[0].Slot {
		t.Error("endpoints of two pools share a ledger or slot")
	}
}

func TestState(t *testing.T) {
	s := datastore.New(datastore.Options{Now: func() time.Time { return at(0) }})
	list := specs(200) // large enough for readings to wait; a state does not
	must(t, s.SetEndpoints(llama, list))
	e := endpoints(t, s, llama)[3]
	state := func() types.State { return endpoints(t, s, llama)[3].State }

	if !s.SetState(e.Load, types.Unhealthy) || state() != types.Unhealthy {
		t.Errorf("state = %v, want unhealthy", state())
	}
	must(t, s.SetEndpoints(llama, list))
	if state() != types.Unhealthy {
		t.Error("the same specs undid SetState")
	}
	list[3].State = types.Draining
	must(t, s.SetEndpoints(llama, list))
	require.Equal(t, types.Draining, state(), "state")
}

func TestUpdateMetrics(t *testing.T) {
	now := at(100)
	s := datastore.New(datastore.Options{Now: func() time.Time { return now }})
	must(t, s.SetEndpoints(llama, specs(1)))
	load := endpoints(t, s, llama)[0].Load
	get := func() types.Metrics { return endpoints(t, s, llama)[0].Metrics }

	s.UpdateMetrics(load, types.Metrics{Waiting: types.Known(1), StartedAt: types.Known(50)})
	if m := get(); !m.UpdatedAt.Equal(now) || m.Waiting.Or(-1) != 1 {
		t.Errorf("reading without a time = %+v, want one of now", m)
	}
	s.UpdateMetrics(load, types.Metrics{UpdatedAt: at(99), Waiting: types.Known(2)})
	if m := get(); m.Waiting.Or(-1) != 1 {
		t.Error("an older reading replaced a newer one")
	}
	s.UpdateMetrics(load, types.Metrics{UpdatedAt: at(101)})
	if m := get(); m.Waiting.IsKnown() || m.StartedAt.Or(-1) != 50 {
		t.Errorf("reading = %+v, want Waiting unknown and StartedAt kept", m)
	}
}

// A reading of another clock is of now, and lives no longer than others.
func TestReadingsFromTheFuture(t *testing.T) {
	reading := func(at time.Time, waiting float64) types.Metrics {
		return types.Metrics{UpdatedAt: at, Waiting: types.Known(waiting)}
	}
	for _, tt := range []struct {
		name  string
		ahead time.Duration
		want  time.Duration // from now
	}{
		{"an hour", time.Hour, 0},
		{"as far as can be", 1<<63 - 1, 0},
		{"a bit more than a second", 1001 * time.Millisecond, 0},
		{"a few milliseconds", 5 * time.Millisecond, 5 * time.Millisecond},
		{"the past", -time.Second, -time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := at(1000)
			s := datastore.New(datastore.Options{Now: func() time.Time { return now }})
			must(t, s.SetEndpoints(llama, specs(1)))
			load := endpoints(t, s, llama)[0].Load
			get := func() types.Metrics { return endpoints(t, s, llama)[0].Metrics }
			s.UpdateMetrics(load, reading(now.Add(tt.ahead), 7))
			if m := get(); m.Waiting.Or(-1) != 7 || !m.UpdatedAt.Equal(now.Add(tt.want)) {
				t.Errorf("reading %+v, want one of now%+v", m, tt.want)
			}
			now = now.Add(50 * time.Millisecond)
			s.UpdateMetrics(load, reading(now, 8))
			if m := get(); m.Waiting.Or(-1) != 8 || !m.UpdatedAt.Equal(now) {
				t.Errorf("reading %+v: a true one did not come through", m)
			}
		})
	}

	t.Run("clock set back", func(t *testing.T) {
		now := at(10_000)
		s := datastore.New(datastore.Options{Now: func() time.Time { return now }})
		must(t, s.SetEndpoints(llama, specs(1)))
		load := endpoints(t, s, llama)[0].Load
		s.UpdateMetrics(load, reading(now, 1))
		now = at(1_000)
		s.UpdateMetrics(load, reading(now, 2))
		s.UpdateMetrics(load, reading(now.Add(-time.Second), 3))
		if m := endpoints(t, s, llama)[0].Metrics; m.Waiting.Or(-1) != 2 || !m.UpdatedAt.Equal(now) {
			t.Errorf("reading %+v, want the first of the time that is now", m)
		}
	})
}

// What a feeder of one's own gives is as good as what a page says.
func TestReadingsWithoutSense(t *testing.T) {
	for _, v := range []float64{-1, math.NaN(), math.Inf(1), math.Inf(-1), 1e308, -0.001} {
		s := datastore.New(datastore.Options{})
		must(t, s.SetEndpoints(llama, specs(1)))
		g := types.Known(v)
		s.UpdateMetrics(endpoints(t, s, llama)[0].Load, types.Metrics{
			Waiting: g, Running: g, KVUsage: g, MaxAdapters: g, BlockSize: g, NumBlocks: g, StartedAt: g, Awake: g})
		m := endpoints(t, s, llama)[0].Metrics
		for i, g := range []types.Gauge{m.Waiting, m.Running, m.KVUsage, m.MaxAdapters, m.BlockSize, m.NumBlocks, m.StartedAt, m.Awake} {
			if g.IsKnown() {
				t.Errorf("figure %d of %v is %v, want unknown", i, v, g.OrNaN())
			}
		}
	}
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(1)))
	s.UpdateMetrics(endpoints(t, s, llama)[0].Load, types.Metrics{KVUsage: types.Known(37.5), BlockSize: types.Known(0), NumBlocks: types.Known(0), Waiting: types.Known(0)})
	m := endpoints(t, s, llama)[0].Metrics
	if m.KVUsage.IsKnown() || m.BlockSize.IsKnown() || m.NumBlocks.IsKnown() || !m.Waiting.IsKnown() {
		t.Errorf("reading %+v, want nothing but Waiting", m)
	}
}

// Large stores publish readings at most once in a window, small ones at once,
// and nothing is left unpublished.
func TestCoalesce(t *testing.T) {
	tests := []struct {
		endpoints int
		coalesce  time.Duration
		window    time.Duration
	}{
		{100, 0, 0},
		{1000, 0, time.Millisecond},
		{1000, 10 * time.Microsecond, 10 * time.Millisecond},
		{1000, -1, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("endpoints=%d/coalesce=%v", tt.endpoints, tt.coalesce), func(t *testing.T) {
			now := at(0)
			s := datastore.New(datastore.Options{Now: func() time.Time { return now }, Coalesce: tt.coalesce})
			must(t, s.SetEndpoints(llama, specs(tt.endpoints)))
			load := endpoints(t, s, llama)[5].Load
			seen := func() float64 { return s.Snapshot().Pool(llama).Endpoints()[5].Metrics.Waiting.Or(-1) }

			s.UpdateMetrics(load, types.Metrics{UpdatedAt: now, Waiting: types.Known(1)})
			if got := seen(); got != 1 {
				t.Fatalf("first reading: Waiting = %v, want 1", got)
			}
			s.UpdateMetrics(load, types.Metrics{UpdatedAt: now, Waiting: types.Known(2)})
			if got := seen(); (got == 2) != (tt.window == 0) {
				t.Errorf("second reading at once: Waiting = %v, window %v", got, tt.window)
			}
			now = now.Add(tt.window - 1)
			if got := seen(); tt.window > 0 && got != 1 {
				t.Errorf("before the window is over: Waiting = %v, want 1", got)
			}
			now = now.Add(1)
			if got := seen(); got != 2 {
				t.Errorf("after the window: Waiting = %v, want 2", got)
			}
		})
	}
}

func TestApplyAllOrNothing(t *testing.T) {
	s := datastore.New(datastore.Options{MaxObjects: 3})
	must(t, s.Apply(pool("llama"), model("chat", "llama", "chat", 1)))
	before := s.Snapshot()

	bad := model("bad", "llama", "bad", 1, "t", 5)
	*bad.Spec.TargetModels[0].Weight = 0
	tests := []struct {
		name string
		objs []types.Object
		want string
	}{
		{"invalid", []types.Object{pool("b"), bad}, "InferenceModel default/bad: spec.targetModels[0].weight"},
		{"immutable", []types.Object{pool("b"), model("chat", "llama", "other", 1)}, "spec.modelName is immutable"},
		{"twice", []types.Object{pool("b"), pool("b")}, "InferencePool default/b is there twice"},
		{"nil", []types.Object{pool("b"), nil}, "object 1 is nil"},
		{"too many", []types.Object{pool("b"), pool("c")}, "limit reached: 4 manifests, Options.MaxObjects is 3"},
	}
	for _, tt := range tests {
		err := s.Apply(tt.objs...)
		require.ErrorContains(t, err, tt.want)
		if s.Snapshot() != before {
			t.Errorf("%s: something was published", tt.name)
		}
	}
	// An object with another creation time was deleted and made anew.
	must(t, s.Apply(model("chat", "llama", "other", 2)))
	// A whole new set is not an update.
	must(t, s.Replace([]types.Object{pool("llama"), model("chat", "llama", "third", 2)}))
	if got := s.Snapshot().Models(); len(got) != 1 || got[0].Name != "third" {
		t.Errorf("Models = %v, want third", got)
	}
}

func TestStoreKeepsCopies(t *testing.T) {
	s := datastore.New(datastore.Options{})
	p, m := pool("llama"), model("chat", "llama", "chat", 1, "a", 1)
	spec := datastore.EndpointSpec{Address: "a:1", Labels: map[string]string{"k": "v"}}
	must(t, s.Apply(p, m))
	must(t, s.UpsertEndpoint(llama, spec))
	m.Spec.TargetModels[0].Name = "changed"
	p.Spec.Selector.MatchLabels["app"] = "changed"
	spec.Labels["k"] = "changed"

	if got := s.Object("InferenceModel", name("chat")).(*types.InferenceModel).Spec.TargetModels[0].Name; got != "a" {
		t.Errorf("target = %q: the store shares the caller's object", got)
	}
	sn := s.Snapshot()
	if got := sn.Pool(llama).Manifest().Spec.Selector.MatchLabels["app"]; got != "llama" {
		t.Errorf("selector = %q: the store shares the caller's map", got)
	}
	if got := sn.Pool(llama).Endpoints()[0].Labels["k"]; got != "v" {
		t.Errorf("label = %q: the store shares the caller's map", got)
	}
	if m.Namespace != "" {
		t.Error("Apply filled defaults into the caller's object")
	}
	if s.Object("InferenceModel", name("none")) != nil {
		t.Error("Object of what is not there should be nil")
	}
}

func TestReplaceAndDelete(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.Apply(pool("a"), pool("b"), model("m", "a", "m", 1)))
	for _, p := range []string{"a", "b", "plain"} {
		must(t, s.SetEndpoints(name(p), specs(2)))
	}
	kept := endpoints(t, s, name("a"))

	must(t, s.Replace([]types.Object{pool("a")}))
	sn := s.Snapshot()
	if sn.Pool(name("b")) != nil || len(sn.Models()) != 0 {
		t.Error("what is not in the set stayed")
	}
	if !slices.Equal(endpoints(t, s, name("a")), kept) {
		t.Error("a pool that stays lost its endpoints")
	}
	if len(endpoints(t, s, name("plain"))) != 2 {
		t.Error("a pool that never had a manifest went")
	}
	if !s.Delete("InferencePool", types.NamespacedName{Name: "plain"}) || s.Delete("InferencePool", name("plain")) {
		t.Error("Delete should be true once")
	}
	require.False(t, s.Delete("InferenceModel", name("a")), "Delete of another kind = true")
	require.Len(t, s.Snapshot().Pools(), 1, "pools")
	must(t, s.SetEndpoints(name("a"), nil))
	if p := s.Snapshot().Pool(name("a")); p == nil || len(p.Endpoints()) != 0 {
		t.Error("an empty pool should stay")
	}
}

// TestStatusSaysWhatHasNoEffect: rewrites that older ones leave nothing are not accepted, and
// what has no effect in others, and in objectives, is told.
func TestStatusSaysWhatHasNoEffect(t *testing.T) {
	s := datastore.New(datastore.Options{})
	several := objective("several", "", 1)
	several.Spec.PoolRef = types.PoolRef{}
	several.Spec.PoolRefs = []types.PoolRef{{Name: "p"}, {Name: "q"}}
	require.NoError(t, s.Apply(pool("p"), several,
		rewrite("first", "p", 1, rule("x", "a", "b"), rule("y", "a")),
		rewrite("second", "p", 2, rule("x", "b"), rule("y")),
		rewrite("third", "p", 3, rule("x", "a"), rule("y")),
	))
	got := make(map[string]string)
	for kind, names := range map[string][]string{"InferenceModelRewrite": {"first", "second", "third"}, "InferenceObjective": {"several"}} {
		for _, n := range names {
			c, ok := s.Status(kind, name(n))
			require.True(t, ok)
			got[n] = fmt.Sprint(c[0].Status, " ", c[0].Reason, " ", c[0].Message)
		}
	}
	require.Equal(t, map[string]string{
		"first":   `True Accepted rule 1: model name "a": rule 0 goes before`,
		"second":  `True Accepted rule 0: model name "b": rewrite default/first goes before, which is older`,
		"third":   `False ModelNameInUse rule 0: model name "a": rewrite default/first goes before, which is older; rule 1: all models: rewrite default/second goes before, which is older`,
		"several": "True Accepted pool default/q does not exist",
	}, got)
}

func TestStatus(t *testing.T) {
	now := at(1000)
	var log bytes.Buffer
	s := datastore.New(datastore.Options{Now: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	status := func(kind, n string) string {
		c, ok := s.Status(kind, types.NamespacedName{Name: n})
		if !ok {
			return "none"
		}
		return fmt.Sprintf("%s %s %s %d", c[0].Type, c[0].Status, c[0].Reason, c[0].LastTransitionTime.Unix())
	}
	check := func(kind, n, want string) {
		t.Helper()
		if got := status(kind, n); got != want {
			t.Errorf("status of %s %s = %q, want %q", kind, n, got, want)
		}
	}

	must(t, s.Apply(model("young", "llama", "chat", 2), objective("o", "llama", 1)))
	check("InferenceModel", "young", "Accepted Unknown Pending 1000")
	check("InferenceObjective", "o", "Accepted Unknown Pending 1000")
	check("InferenceModel", "other", "none")

	now = at(2000)
	must(t, s.Apply(pool("llama")))
	check("InferencePool", "llama", "Accepted True Accepted 2000")
	check("InferenceModel", "young", "Accepted True Accepted 2000")

	now = at(3000)
	must(t, s.Apply(model("old", "llama", "chat", 1), rewrite("w", "llama", 1)))
	check("InferenceModel", "young", "Accepted False ModelNameInUse 3000")
	check("InferenceModel", "old", "Accepted True Accepted 3000")
	check("InferenceModelRewrite", "w", "Accepted True Accepted 3000")
	check("InferencePool", "llama", "Accepted True Accepted 2000") // no transition

	now = at(4000)
	s.Delete("InferenceModel", name("old"))
	check("InferenceModel", "young", "Accepted True Accepted 4000")

	if got := strings.Count(log.String(), "not in force"); got != 3 {
		t.Errorf("%d lines in the log, want 3:\n%s", got, log.String())
	}
}

func TestWatch(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(2)))
	var got []string
	stop := s.Watch(func(ev datastore.Event) {
		got = append(got, fmt.Sprintf("%s %s/%s %s", ev.Kind, ev.Pool.Name, ev.Endpoint.ID, ev.Spec.Engine))
		if ev.Spec.ID != ev.Endpoint.ID || ev.Spec.Address != ev.Endpoint.Address {
			t.Errorf("spec %+v is not that of endpoint %+v", ev.Spec, ev.Endpoint)
		}
	})
	expect := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: events %q, want %q", what, got, want)
		}
		got = nil
	}
	expect("Watch", "added llama/e0 ", "added llama/e1 ")

	must(t, s.SetEndpoints(llama, specs(2)))
	expect("the same list")

	next := specs(3)[1:]
	next[0].Engine = "vllm"
	must(t, s.SetEndpoints(llama, next))
	expect("another list", "removed llama/e0 ", "changed llama/e1 vllm", "added llama/e2 ")

	load := endpoints(t, s, llama)[0].Load
	s.SetState(load, types.Draining)
	s.SetState(load, types.Draining)
	expect("SetState", "changed llama/e1 vllm")

	s.UpdateMetrics(load, types.Metrics{UpdatedAt: at(1), StartedAt: types.Known(500)})
	s.UpdateMetrics(load, types.Metrics{UpdatedAt: at(2), StartedAt: types.Known(500.5)})
	s.UpdateMetrics(load, types.Metrics{UpdatedAt: at(3)})
	expect("readings of one process")
	s.UpdateMetrics(load, types.Metrics{UpdatedAt: at(4), StartedAt: types.Known(600)})
	expect("reading of another process", "restarted llama/e1 vllm")

	must(t, s.UpsertEndpoint(llama, datastore.EndpointSpec{ID: "e2", Address: "moved:1"}))
	expect("another address", "removed llama/e2 ", "added llama/e2 ")

	s.Delete("InferencePool", llama)
	expect("Delete", "removed llama/e1 vllm", "removed llama/e2 ")

	stop()
	stop()
	must(t, s.SetEndpoints(llama, specs(1)))
	expect("after stop")
}

// A callback may change the store: what it changes is told after it returned.
func TestWatchMayWrite(t *testing.T) {
	s := datastore.New(datastore.Options{})
	var got []string
	inside := false
	stop := s.Watch(func(ev datastore.Event) {
		if inside {
			t.Error("called while a call is under way")
		}
		inside = true
		defer func() { inside = false }()
		got = append(got, ev.Kind.String()+" "+ev.Endpoint.ID)
		if s.Snapshot().Pool(llama) == nil {
			t.Error("an event before the change can be seen")
		}
		if ev.Kind == datastore.Added && ev.Endpoint.ID == "e0" {
			s.SetState(ev.Endpoint.Load, types.Unhealthy)
			must(t, s.UpsertEndpoint(llama, specs(2)[1]))
			s.RemoveEndpoint(llama, "e0")
		}
	})
	defer stop()
	must(t, s.SetEndpoints(llama, specs(1)))
	if want := []string{"added e0", "changed e0", "added e1", "removed e0"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// stop waits for a call that is under way.
func TestWatchStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := datastore.New(datastore.Options{})
		release := make(chan struct{})
		stop := s.Watch(func(datastore.Event) { <-release })
		go func() { _ = s.SetEndpoints(llama, specs(3)) }()
		synctest.Wait()
		var stopped atomic.Bool
		go func() {
			stop()
			stopped.Store(true)
		}()
		synctest.Wait()
		require.False(t, stopped.Load(), "stop returned while a call was under way")
		close(release)
		synctest.Wait()
		require.True(t, stopped.Load(), "stop did not return after the call")
	})
}

// Whatever changes, a reader sees all of a change or nothing of it.
func TestReadersSeeWholeChanges(t *testing.T) {
	s := datastore.New(datastore.Options{Coalesce: time.Microsecond / 10})
	// In version v both models go to target v, and the pool has endpoints that
	// are all called after v. In odd versions the models have changed pools.
	change := func(v int) datastore.Change {
		x, y := "a", "b"
		if v%2 == 1 {
			x, y = y, x
		}
		list := make([]datastore.EndpointSpec, 200)
		for i := range list {
			list[i] = datastore.EndpointSpec{ID: fmt.Sprintf("v%d-%d", v, i), Address: "a:1"}
		}
		target := fmt.Sprintf("v%d", v)
		return datastore.Change{
			OnlyObjects: true,
			Objects:     []types.Object{pool("a"), pool("b"), model("x", x, "x", 1, target, 1), model("y", y, "y", 1, target, 1)},
			Endpoints:   map[types.NamespacedName][]datastore.EndpointSpec{name("a"): list, name("b"): list[:3]},
		}
	}
	must(t, s.Commit(change(0)))
	var (
		done atomic.Bool
		wg   sync.WaitGroup
	)
	for range 3 {
		wg.Go(func() {
			for !done.Load() {
				sn := s.Snapshot()
				x, err := sn.Resolve(datastore.Query{Model: "x"})
				if err != nil {
					t.Error(err)
					return
				}
				y, err := sn.Resolve(datastore.Query{Model: "y"})
				if err != nil {
					t.Error(err)
					return
				}
				if x.TargetModel != y.TargetModel || x.Pool == y.Pool {
					t.Errorf("half a change: x to %s in %s, y to %s in %s", x.TargetModel, x.Pool.Name(), y.TargetModel, y.Pool.Name())
					return
				}
				for _, p := range []*datastore.Pool{x.Pool, y.Pool} {
					for _, e := range p.Endpoints() {
						if !strings.HasPrefix(e.ID, x.TargetModel+"-") {
							t.Errorf("endpoint %s with models of %s", e.ID, x.TargetModel)
							return
						}
					}
				}
			}
		})
	}
	for range 2 { // readings and states
		wg.Go(func() {
			for i := 0; !done.Load(); i++ {
				eps := s.Snapshot().Pool(name("a")).Endpoints()
				e := eps[i%len(eps)]
				s.UpdateMetrics(e.Load, types.Metrics{Waiting: types.Known(float64(i)), StartedAt: types.Known(float64(i))})
				if i%16 == 0 {
					s.SetState(e.Load, types.State(i/16%3))
				}
			}
		})
	}
	wg.Go(func() { // watchers come and go
		for !done.Load() {
			live := make(map[*types.Load]bool)
			stop := s.Watch(func(ev datastore.Event) {
				switch ev.Kind {
				case datastore.Added:
					if live[ev.Endpoint.Load] {
						t.Error("added twice")
					}
					live[ev.Endpoint.Load] = true
				case datastore.Removed:
					if !live[ev.Endpoint.Load] {
						t.Error("removed, but was not there")
					}
					delete(live, ev.Endpoint.Load)
				default:
					if !live[ev.Endpoint.Load] {
						t.Errorf("%v, but is not there", ev.Kind)
					}
				}
			})
			runtime.Gosched()
			stop()
		}
	})
	changes := 200
	if testing.Short() {
		changes = 60
	}
	for v := range changes {
		must(t, s.Commit(change(v)))
	}
	done.Store(true)
	wg.Wait()
}

// Every reading is published in the end, whoever races with whom.
func TestNoReadingIsLost(t *testing.T) {
	const n = 300
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(n)))
	eps := endpoints(t, s, llama)
	base := time.Now()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for round := 1; round <= 20; round++ {
				for i := w; i < n; i += 4 {
					s.UpdateMetrics(eps[i].Load, types.Metrics{UpdatedAt: base.Add(time.Duration(round)), Waiting: types.Known(float64(round))})
				}
				s.Snapshot()
			}
		})
	}
	wg.Go(func() {
		for i := range 100 {
			s.SetState(eps[i].Load, types.Draining)
		}
	})
	wg.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for {
		stale := 0
		for i, e := range s.Snapshot().Pool(llama).Endpoints() {
			if e.Metrics.Waiting.Or(0) != 20 || (i < 100) != (e.State == types.Draining) {
				stale++
			}
		}
		if stale == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d endpoints never got their last reading", stale)
		}
		runtime.Gosched()
	}
}

// A prefix entry that outlives its endpoint starts with an endpoint that comes
// back under its old identity.
func TestTrapEndpointComesBackWithOldIdentity(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(1)))
	before := endpoints(t, s, llama)[0]
	s.UpdateMetrics(before.Load, types.Metrics{Waiting: types.Known(1)})
	s.RemoveEndpoint(llama, "e0")
	must(t, s.SetEndpoints(llama, specs(1)))
	after := endpoints(t, s, llama)[0]
	if after.Load == before.Load || after.Metrics.Waiting.IsKnown() {
		t.Error("an endpoint that went and came back has its old ledger or reading")
	}
}

// A new endpoint with zeros that wins everything: it has to know nothing.
func TestTrapNewEndpointWithZeros(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(1)))
	if m := endpoints(t, s, llama)[0].Metrics; !reflect.DeepEqual(m, types.Metrics{}) || m.Waiting.IsKnown() || m.KVUsage.IsKnown() {
		t.Errorf("reading of a new endpoint = %+v, want all unknown", m)
	}
}

// Another port of the same host, as Triton has it.
func TestMetricsPortOfTheSameHost(t *testing.T) {
	s := datastore.New(datastore.Options{})
	err := s.SetEndpoints(types.NamespacedName{Name: "p"}, []datastore.EndpointSpec{{Address: "10.0.0.1:8000", MetricsAddress: ":8002"}})
	require.NoError(t, err)
}
