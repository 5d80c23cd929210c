package datastore_test

import (
	"slices"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// listed returns the names in ModelsOf(pool), and checks that Model finds just those.
func listed(t *testing.T, s *datastore.Store, pool types.NamespacedName, candidates ...string) []string {
	t.Helper()
	sn := s.Snapshot()
	got := []string{}
	for _, m := range sn.ModelsOf(pool) {
		got = append(got, m.Name)
	}
	for _, name := range append(candidates, got...) {
		m, ok := sn.Model(pool, name)
		if ok != slices.Contains(got, name) || ok && m.Name != name {
			t.Errorf("Model(%s, %q) = %+v, %v; the list is %q", pool, name, m, ok, got)
		}
	}
	return got
}

// A name is listed if a request for it would be sent on.
func TestModelsThatServersServe(t *testing.T) {
	none := types.NamespacedName{}
	manifests := []types.Object{pool("a"), pool("b"), model("1", "a", "chat", 1, "base", 0), model("2", "gone", "orphan", 1), rewrite("w", "b", 1, rule("base", "alias"))}
	for _, tt := range []struct {
		name    string
		opt     datastore.Options
		objects []types.Object
		pool    types.NamespacedName
		want    []string
	}{
		{"no manifests, one default", datastore.Options{DefaultPool: name("a")}, nil, none, []string{"ad-1", "base", "orphan"}},
		{"no manifests, one pool asked", datastore.Options{}, nil, name("a"), []string{"ad-1", "base", "orphan"}},
		{"no manifests, the other asked", datastore.Options{}, nil, name("b"), []string{"other"}},
		{"no manifests, none to send it to", datastore.Options{}, nil, none, []string{}},
		{"no manifests, refusing", datastore.Options{UnknownModels: datastore.Refuse}, nil, name("a"), []string{}},
		{"no such pool", datastore.Options{}, nil, name("nil"), []string{}},
		{"manifests beside", datastore.Options{}, manifests, name("a"), []string{"ad-1", "base", "chat", "orphan"}},
		{"a rewrite beside", datastore.Options{}, manifests, name("b"), []string{"alias", "other"}},
		{"manifests and no pool", datastore.Options{}, manifests, none, []string{"alias", "chat"}},
		{"manifests and a default", datastore.Options{DefaultPool: name("a")}, manifests, none, []string{"ad-1", "alias", "base", "chat"}},
		{"manifests, refusing", datastore.Options{UnknownModels: datastore.Refuse}, manifests, none, []string{"alias", "chat"}},
		{"manifests of one pool, refusing", datastore.Options{UnknownModels: datastore.Refuse}, manifests, name("a"), []string{"chat"}},
		{"manifests of the other pool, refusing", datastore.Options{UnknownModels: datastore.Refuse}, manifests, name("b"), []string{"alias"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := datastore.New(tt.opt)
			must(t, s.Apply(tt.objects...))
			must(t, s.SetEndpoints(name("a"), specs(4)))
			must(t, s.SetEndpoints(name("b"), specs(1)))
			a := endpoints(t, s, name("a"))
			s.SetModels(a[0].Load, []string{"base", "ad-1", "base", ""})
			s.SetModels(a[1].Load, []string{"orphan"})
			s.SetModels(a[2].Load, []string{"drained"})
			s.SetState(a[2].Load, types.Draining)
			s.SetModels(endpoints(t, s, name("b"))[0].Load, []string{"other"})
			got := listed(t, s, tt.pool, "base", "ad-1", "orphan", "chat", "alias", "other", "drained", "")
			if !slices.Equal(got, tt.want) {
				t.Errorf("models %q, want %q", got, tt.want)
			}
			for _, name := range got {
				if _, err := s.Snapshot().Resolve(datastore.Query{Model: name, Pool: tt.pool}); err != nil {
					t.Errorf("%q is listed: %v", name, err)
				}
			}
		})
	}
}

// The list follows every change of names, and a snapshot keeps its own.
func TestModelsFollow(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(2)))
	one, two := endpoints(t, s, llama)[0].Load, endpoints(t, s, llama)[1].Load
	steps := []struct {
		name   string
		change func()
		want   []string
	}{
		{"not known", func() {}, []string{}},
		{"one says", func() { s.SetModels(one, []string{"m"}) }, []string{"m"}},
		{"a reading", func() { s.UpdateMetrics(one, types.Metrics{StartedAt: types.Known(100)}) }, []string{"m"}},
		{"the other says more", func() { s.SetModels(two, []string{"n", "m"}) }, []string{"m", "n"}},
		{"one drains", func() { s.SetState(two, types.Draining) }, []string{"m"}},
		{"and is back", func() { s.SetState(two, types.Ready) }, []string{"m", "n"}},
		{"a model is made", func() { must(t, s.Apply(pool("llama"), model("x", "llama", "x", 1))) }, []string{"m", "n", "x"}},
		{"another spec", func() {
			list := specs(2)
			list[1].Labels = map[string]string{"a": "b"}
			must(t, s.SetEndpoints(llama, list))
		}, []string{"m", "n", "x"}},
		{"one starts anew", func() { s.UpdateMetrics(one, types.Metrics{StartedAt: types.Known(200)}) }, []string{"m", "n", "x"}},
		{"the other is not known", func() { s.SetModels(two, nil) }, []string{"x"}},
		{"one serves nothing", func() { s.SetModels(one, []string{}) }, []string{"x"}},
		{"a model goes", func() { s.Delete("InferenceModel", name("x")) }, []string{}},
		{"one says again", func() { s.SetModels(one, []string{"m"}) }, []string{"m"}},
		{"it goes", func() { s.RemoveEndpoint(llama, "e0") }, []string{}},
	}
	for _, step := range steps {
		before := listed(t, s, llama)
		old := s.Snapshot()
		step.change()
		if got := listed(t, s, llama); !slices.Equal(got, step.want) {
			t.Errorf("%s: models %q, want %q", step.name, got, step.want)
		}
		if got := listed(t, s, types.NamespacedName{}); !slices.Equal(got, step.want) {
			t.Errorf("%s: models of no pool %q, want %q", step.name, got, step.want)
		}
		if len(old.ModelsOf(llama)) != len(before) {
			t.Errorf("%s: the snapshot before it has changed", step.name)
		}
	}
	require.False(t, s.SetModels(one, []string{"m"}), "SetModels of an endpoint that has gone = true")
}

func TestSetModels(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(1)))
	load := endpoints(t, s, llama)[0].Load
	told := 0
	defer s.WatchReadings(func(types.NamespacedName, *types.Endpoint) { told++ })()
	get := func() []string { return endpoints(t, s, llama)[0].Models }
	if get() != nil {
		t.Errorf("at the start Models = %q, want nil: not known", get())
	}

	mine := []string{"b", "a", "b"}
	s.SetModels(load, mine)
	mine[0] = "changed"
	if got := get(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Models = %q, want a sorted copy", got)
	}
	published := s.Snapshot()
	s.SetModels(load, []string{"b", "a"})
	if s.Snapshot() != published || told != 1 {
		t.Errorf("a list that is there already was published, %d told", told)
	}
	s.SetModels(load, []string{})
	if got := get(); got == nil || len(got) != 0 {
		t.Errorf("Models = %#v, want none, which is not the same as unknown", got)
	}
	s.SetModels(load, nil)
	if get() != nil || told != 3 {
		t.Errorf("Models = %#v, want unknown; %d told, want 3", get(), told)
	}

	s.SetModels(load, []string{"a"})
	s.UpdateMetrics(load, types.Metrics{StartedAt: types.Known(100)})
	must(t, s.SetEndpoints(llama, []datastore.EndpointSpec{{ID: "e0", Address: specs(1)[0].Address, Engine: "vllm"}}))
	if got := get(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("after a reading and a new spec Models = %q, want them kept", got)
	}
	s.UpdateMetrics(load, types.Metrics{StartedAt: types.Known(200)})
	if get() != nil {
		t.Errorf("after a restart Models = %q, want unknown", get())
	}
}

// Readings do not make the list anew.
func TestModelsAreMadeOncePerChange(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.SetEndpoints(llama, specs(10)))
	for _, e := range endpoints(t, s, llama) {
		s.SetModels(e.Load, []string{"a", "b"})
	}
	load := endpoints(t, s, llama)[0].Load
	first := s.Snapshot().Models()
	s.UpdateMetrics(load, types.Metrics{Waiting: types.Known(1)})
	if again := s.Snapshot().Models(); &again[0] != &first[0] {
		t.Error("a reading made a new list of models")
	}
}
