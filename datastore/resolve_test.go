package datastore_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestResolve(t *testing.T) {
	critical := model("critical", "llama", "critical", 1)
	critical.Spec.Criticality = types.Critical
	sheddable := model("sheddable", "llama", "sheddable", 1)
	sheddable.Spec.Criticality = types.Sheddable
	base := []types.Object{
		pool("llama"), pool("qwen"), critical, sheddable,
		model("chat-young", "llama", "chat", 2, "young", 0),
		model("chat-old", "llama", "chat", 1, "old", 0),
		model("chat-ageless", "llama", "chat", 0, "ageless", 0),
		model("tie-b", "llama", "tie", 5, "b", 0),
		model("tie-a", "llama", "tie", 5, "a", 0),
		model("both-llama", "llama", "both", 7, "in-llama", 0),
		model("both-qwen", "qwen", "both", 6, "in-qwen", 0),
		model("orphan", "gone", "orphan", 1),
		model("orphan-too", "gone", "rescued", 1),
		model("rescued", "qwen", "rescued", 9),
		objective("urgent", "llama", 7), objective("lowly", "llama", -3), objective("urgent-qwen", "qwen", 9),
		rewrite("young", "llama", 9, rule("young-exact", "rewritten"), rule("young-second", "rewritten")),
		rewrite("old", "llama", 8, rule("old-exact", "rewritten", "rewritten-too"), rule("never", "rewritten")),
		rewrite("chat", "qwen", 8, rule("generic-young")),
		rewrite("chat-older", "qwen", 7, rule("generic-old"), rule("exact-in-qwen", "only-rewrite")),
	}
	q := func(model string) datastore.Query { return datastore.Query{Model: model} }
	qwen := name("qwen")
	tests := []struct {
		name     string
		opt      datastore.Options
		query    datastore.Query
		pool     string
		target   string
		priority int
		source   datastore.Source
		err      error
	}{
		{name: "no targets", query: q("critical"), pool: "llama", target: "critical", priority: types.PriorityCritical, source: datastore.FromModel},
		{name: "sheddable", query: q("sheddable"), pool: "llama", target: "sheddable", priority: types.PrioritySheddable, source: datastore.FromModel},
		{name: "oldest wins, unset is standard", query: q("chat"), pool: "llama", target: "old", priority: types.PriorityStandard, source: datastore.FromModel},
		{name: "tie by name", query: q("tie"), pool: "llama", target: "a", source: datastore.FromModel},
		{name: "in two pools, none named: oldest", query: q("both"), pool: "qwen", target: "generic-old", source: datastore.FromRewrite},
		{name: "in two pools, one named", query: datastore.Query{Model: "both", Pool: llama}, pool: "llama", target: "in-llama", source: datastore.FromModel},
		{name: "pool without a namespace", query: datastore.Query{Model: "chat", Pool: types.NamespacedName{Name: "llama"}}, pool: "llama", target: "old", source: datastore.FromModel},
		{name: "pool does not exist", query: datastore.Query{Model: "chat", Pool: name("nil")}, err: datastore.ErrNoPool},
		{name: "pool of the model does not exist", query: q("orphan"), err: datastore.ErrNoPool},
		{name: "existing pool before one that does not", query: q("rescued"), pool: "qwen", target: "generic-old", source: datastore.FromRewrite},

		{name: "unknown, no default among two", query: q("unknown"), err: datastore.ErrUnknownModel},
		{name: "unknown, default", opt: datastore.Options{DefaultPool: types.NamespacedName{Name: "llama"}}, query: q("unknown"), pool: "llama", target: "unknown", source: datastore.FromRequest},
		{name: "unknown, default does not exist", opt: datastore.Options{DefaultPool: name("nil")}, query: q("unknown"), err: datastore.ErrNoPool},
		{name: "unknown, pool named", query: datastore.Query{Model: "unknown", Pool: llama}, pool: "llama", target: "unknown", source: datastore.FromRequest},
		{name: "unknown, refused", opt: datastore.Options{UnknownModels: datastore.Refuse, DefaultPool: llama}, query: q("unknown"), err: datastore.ErrUnknownModel},
		{name: "unknown, refused, no default", opt: datastore.Options{UnknownModels: datastore.Refuse}, query: q("unknown"), err: datastore.ErrUnknownModel},
		{name: "unknown, refused in the pool named", opt: datastore.Options{UnknownModels: datastore.Refuse}, query: datastore.Query{Model: "unknown", Pool: llama}, err: datastore.ErrUnknownModel},
		{name: "refused, header does not help", opt: datastore.Options{UnknownModels: datastore.Refuse}, query: datastore.Query{Model: "unknown", Pool: llama, Rewrite: "chat"}, err: datastore.ErrUnknownModel},
		{name: "known, refusing", opt: datastore.Options{UnknownModels: datastore.Refuse}, query: q("chat"), pool: "llama", target: "old", source: datastore.FromModel},
		{name: "rewritten, refusing", opt: datastore.Options{UnknownModels: datastore.Refuse}, query: q("rewritten-too"), pool: "llama", target: "old-exact", source: datastore.FromRewrite},
		{name: "no model", query: datastore.Query{Pool: llama}, pool: "llama", target: "", source: datastore.FromRequest},
		{name: "no model, refused", opt: datastore.Options{UnknownModels: datastore.Refuse}, query: datastore.Query{Pool: llama}, err: datastore.ErrUnknownModel},
		{name: "no model, but a header", query: datastore.Query{Pool: llama, Rewrite: "x"}, pool: "llama", target: "x", source: datastore.FromHeader},

		{name: "no model, a default", query: datastore.Query{Pool: qwen}, pool: "qwen", target: "generic-old", source: datastore.FromRewrite},
		{name: "no model, a default, no pool named", opt: datastore.Options{DefaultPool: qwen}, query: q(""), pool: "qwen", target: "generic-old", source: datastore.FromRewrite},
		{name: "no model, a default, refusing", opt: datastore.Options{UnknownModels: datastore.Refuse}, query: datastore.Query{Pool: qwen}, pool: "qwen", target: "generic-old", source: datastore.FromRewrite},
		{name: "no model, a default before a header", query: datastore.Query{Pool: qwen, Rewrite: "x"}, pool: "qwen", target: "generic-old", source: datastore.FromRewrite},
		{name: "no model, the default of another pool", opt: datastore.Options{DefaultPool: llama}, query: q(""), pool: "llama", target: "", source: datastore.FromRequest},
		{name: "no model, no pool", query: q(""), err: datastore.ErrUnknownModel},
		{name: "no model, an objective", query: datastore.Query{Pool: llama, Objective: "urgent"}, pool: "llama", target: "", priority: 7, source: datastore.FromRequest},

		{name: "rewrite: oldest, first rule", query: q("rewritten"), pool: "llama", target: "old-exact", source: datastore.FromRewrite},
		{name: "rewrite: exact before an older generic", query: q("only-rewrite"), pool: "qwen", target: "exact-in-qwen", source: datastore.FromRewrite},
		{name: "rewrite: oldest generic", query: datastore.Query{Model: "any", Pool: qwen}, pool: "qwen", target: "generic-old", source: datastore.FromRewrite},
		{name: "rewrite overrides header", query: datastore.Query{Model: "rewritten", Rewrite: "header"}, pool: "llama", target: "old-exact", source: datastore.FromRewrite},
		{name: "header overrides model", query: datastore.Query{Model: "chat", Rewrite: "header"}, pool: "llama", target: "header", source: datastore.FromHeader},
		{name: "header for an unknown model", query: datastore.Query{Model: "x", Pool: llama, Rewrite: "header"}, pool: "llama", target: "header", source: datastore.FromHeader},

		{name: "objective overrides criticality", query: datastore.Query{Model: "critical", Objective: "lowly"}, pool: "llama", target: "critical", priority: -3, source: datastore.FromModel},
		{name: "objective for an unknown model", query: datastore.Query{Model: "x", Pool: llama, Objective: "urgent"}, pool: "llama", target: "x", priority: 7, source: datastore.FromRequest},
		{name: "unknown objective", query: datastore.Query{Model: "critical", Objective: "nil"}, pool: "llama", target: "critical", priority: types.PriorityCritical, source: datastore.FromModel},
		{name: "objective of another pool", query: datastore.Query{Model: "critical", Objective: "urgent-qwen"}, pool: "llama", target: "critical", priority: types.PriorityCritical, source: datastore.FromModel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := datastore.New(tt.opt)
			// The order in which manifests arrive must not matter.
			objs := slices.Clone(base)
			rnd := types.NewRand(uint64(len(tt.name)))
			for i := len(objs) - 1; i > 0; i-- {
				j := rnd.IntN(i + 1)
				objs[i], objs[j] = objs[j], objs[i]
			}
			for _, o := range objs {
				must(t, s.Apply(o))
			}
			got, err := s.Snapshot().Resolve(tt.query)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("Resolve(%+v) = %+v, %v, want %v", tt.query, got, err, tt.err)
			}
			if err != nil {
				if !strings.HasPrefix(err.Error(), "datastore: ") {
					t.Errorf("error %q does not name the package", err)
				}
				return
			}
			if got.Pool.Name().Name != tt.pool || got.TargetModel != tt.target || got.Priority != tt.priority || got.Source != tt.source || got.Model != tt.query.Model {
				t.Errorf("Resolve(%+v) = pool %s, target %s, priority %d by %s; want %s, %s, %d by %s", tt.query,
					got.Pool.Name(), got.TargetModel, got.Priority, got.Source, tt.pool, tt.target, tt.priority, tt.source)
			}
			if (got.Source == datastore.FromRewrite) != (got.Rewrite != nil) {
				t.Errorf("Source %s, Rewrite %v", got.Source, got.Rewrite)
			}
		})
	}
}

func TestResolveWithoutManifests(t *testing.T) {
	s := datastore.New(datastore.Options{})
	if _, err := s.Snapshot().Resolve(datastore.Query{Model: "m"}); !errors.Is(err, datastore.ErrNoPool) {
		t.Errorf("Resolve in an empty store = %v, want ErrNoPool", err)
	}
	must(t, s.SetEndpoints(llama, specs(2)))
	r, err := s.Snapshot().Resolve(datastore.Query{Model: "m"})
	if err != nil || r.Pool.Name() != llama || r.TargetModel != "m" || r.Priority != 0 || len(r.Pool.Endpoints()) != 2 {
		t.Errorf("Resolve with one pool = %+v, %v", r, err)
	}
	if _, err := s.Snapshot().Resolve(datastore.Query{Model: strings.Repeat("x", 1<<20), Pool: name("nil")}); len(err.Error()) > 300 {
		t.Errorf("error has %d bytes: what a client sends must be shortened", len(err.Error()))
	}
}

func TestWinnerIsDeleted(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.Apply(pool("llama"), model("c", "llama", "chat", 3, "third", 0), model("a", "llama", "chat", 1, "first", 0), model("b", "llama", "chat", 2, "second", 0)))
	for _, want := range []struct{ object, target string }{{"a", "first"}, {"b", "second"}, {"c", "third"}} {
		r, err := s.Snapshot().Resolve(datastore.Query{Model: "chat", Pool: llama})
		if err != nil || r.TargetModel != want.target || r.InferenceModel.Name != want.object {
			t.Errorf("Resolve = %+v, %v, want %v", r, err, want)
		}
		s.Delete("InferenceModel", name(want.object))
	}
	if r, err := s.Snapshot().Resolve(datastore.Query{Model: "chat"}); err != nil || r.Source != datastore.FromRequest {
		t.Errorf("after the last is gone: %+v, %v", r, err)
	}
}

func TestNamespaces(t *testing.T) {
	s := datastore.New(datastore.Options{})
	other := pool("llama")
	other.Namespace = "other"
	m := model("m", "llama", "chat", 1, "in-other", 0)
	m.Namespace = "other"
	must(t, s.Apply(pool("llama"), other, m, model("m", "llama", "chat", 2, "in-default", 0)))
	for _, tt := range []struct {
		pool types.NamespacedName
		want string
	}{
		{llama, "in-default"},
		{types.NamespacedName{Namespace: "other", Name: "llama"}, "in-other"},
		{types.NamespacedName{}, "in-other"},
	} {
		r, err := s.Snapshot().Resolve(datastore.Query{Model: "chat", Pool: tt.pool})
		if err != nil || r.TargetModel != tt.want {
			t.Errorf("pool %q: target %q, %v, want %q", tt.pool, r.TargetModel, err, tt.want)
		}
	}
	c, _ := s.Status("InferenceModel", name("m"))
	if c[0].Status != types.ConditionTrue || !strings.Contains(c[0].Message, "other/llama") {
		t.Errorf("condition = %+v, want accepted and told where requests without a pool go", c[0])
	}
}

func TestModels(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.Apply(pool("a"), pool("b"), model("1", "a", "zebra", 5), model("2", "b", "zebra", 4), model("3", "gone", "gone", 1),
		model("4", "a", "ape", 3), rewrite("w", "a", 2, rule("t", "ape", "rewritten"), rule("u"))))
	want := []datastore.Model{{"ape", name("a"), at(3)}, {"rewritten", name("a"), at(2)}, {"zebra", name("b"), at(4)}}
	if got := s.Snapshot().Models(); !slices.Equal(got, want) {
		t.Errorf("Models = %v, want %v", got, want)
	}
}

func TestDraw(t *testing.T) {
	weighted := func(w ...int32) *types.InferenceModelRewrite {
		r := types.RewriteRule{}
		for i := range w {
			target := types.RewriteTarget{ModelRewrite: fmt.Sprint(i)}
			if w[i] != 0 {
				target.Weight = &w[i]
			}
			r.Targets = append(r.Targets, target)
		}
		return rewrite("w", "llama", 1, r)
	}
	tests := []struct {
		weights []int32 // 0: none
		want    []float64
	}{
		{[]int32{90, 10}, []float64{.9, .1}},
		{[]int32{0, 0, 0, 0}, []float64{.25, .25, .25, .25}},
		{[]int32{1, 1000000}, []float64{0, 1}},
		{[]int32{3, 0, 1}, []float64{.75, 0, .25}}, // a rewrite's target without a weight beside one with
		{[]int32{5}, []float64{1}},
	}
	const n = 40_000
	for _, tt := range tests {
		for _, sticky := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/sticky=%v", tt.weights, sticky), func(t *testing.T) {
				s := datastore.New(datastore.Options{StickySessions: sticky})
				must(t, s.Apply(pool("llama"), weighted(tt.weights...)))
				sn := s.Snapshot()
				count := make(map[string]int)
				rnd := types.NewRand(1)
				for i := range n {
					r, err := sn.Resolve(datastore.Query{Model: "m", SessionID: fmt.Sprintf("session-%d", i), Rand: &rnd})
					must(t, err)
					count[r.TargetModel]++
				}
				for i, want := range tt.want {
					got := float64(count[fmt.Sprint(i)]) / n
					if sigma := math.Sqrt(want * (1 - want) / n); math.Abs(got-want) > 5*sigma+2e-4 {
						t.Errorf("target %d drawn with %.4f, want %.4f", i, got, want)
					}
				}
			})
		}
	}
}

func TestDrawRepeats(t *testing.T) {
	s := datastore.New(datastore.Options{StickySessions: true})
	must(t, s.Apply(pool("llama"), model("m", "llama", "m", 1, "a", 50, "b", 50)))
	sn := s.Snapshot()
	one, two := types.NewRand(5), types.NewRand(5)
	for range 100 {
		a, _ := sn.Resolve(datastore.Query{Model: "m", Rand: &one})
		b, _ := sn.Resolve(datastore.Query{Model: "m", Rand: &two})
		if a.TargetModel != b.TargetModel {
			t.Fatal("the same seed drew two targets")
		}
	}
	count := make(map[string]bool)
	for range 100 { // no Rand, no session: drawn all the same
		r, err := sn.Resolve(datastore.Query{Model: "m"})
		must(t, err)
		count[r.TargetModel] = true
	}
	if len(count) != 2 {
		t.Errorf("100 draws without Rand gave %v", count)
	}
}

// A canary must not flip within a session, and a change of weights moves only
// the sessions that it must.
func TestStickySessions(t *testing.T) {
	const n = 20_000
	draw := func(targets ...any) []string {
		s := datastore.New(datastore.Options{StickySessions: true})
		must(t, s.Apply(pool("llama"), model("m", "llama", "m", 1, targets...)))
		out := make([]string, n)
		for i := range out {
			r, err := s.Snapshot().Resolve(datastore.Query{Model: "m", SessionID: fmt.Sprint("s", i)})
			must(t, err)
			out[i] = r.TargetModel
		}
		return out
	}
	moved := func(a, b []string) (float64, map[string]int) {
		count, to := 0, make(map[string]int)
		for i := range a {
			if a[i] != b[i] {
				count++
				to[b[i]]++
			}
		}
		return float64(count) / n, to
	}
	before := draw("stable", 90, "canary", 10)
	if got, _ := moved(before, draw("stable", 90, "canary", 10)); got != 0 {
		t.Errorf("another gateway moved %.3f of the sessions", got)
	}
	if got, _ := moved(before, draw("canary", 10, "stable", 90)); got != 0 {
		t.Errorf("another order moved %.3f of the sessions", got)
	}
	got, to := moved(before, draw("stable", 80, "canary", 20))
	if math.Abs(got-.1) > .01 || to["stable"] > 0 {
		t.Errorf("10%% to 20%% moved %.3f of the sessions, to %v; want .1, all to the canary", got, to)
	}
	// The public name counts: two models do not have the same canary users.
	s := datastore.New(datastore.Options{StickySessions: true})
	must(t, s.Apply(pool("llama"), model("x", "llama", "x", 1, "stable", 50, "canary", 50), model("y", "llama", "y", 1, "stable", 50, "canary", 50)))
	same := 0
	for i := range n {
		x, _ := s.Snapshot().Resolve(datastore.Query{Model: "x", SessionID: fmt.Sprint("s", i)})
		y, _ := s.Snapshot().Resolve(datastore.Query{Model: "y", SessionID: fmt.Sprint("s", i)})
		if x.TargetModel == y.TargetModel {
			same++
		}
	}
	if share := float64(same) / n; math.Abs(share-.5) > .03 {
		t.Errorf("%.3f of the sessions have the same target in two models, want half", share)
	}
}

// A Standard criticality that behaves as Sheddable.
func TestTrapStandardBehavesAsSheddable(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.Apply(pool("llama")))
	seen := make(map[int]types.Criticality)
	for _, c := range []types.Criticality{types.Critical, types.Standard, types.Sheddable} {
		m := model(strings.ToLower(string(c)), "llama", string(c), 1)
		m.Spec.Criticality = c
		must(t, s.Apply(m))
		r, err := s.Snapshot().Resolve(datastore.Query{Model: string(c)})
		must(t, err)
		if other, ok := seen[r.Priority]; ok {
			t.Errorf("%s has the priority of %s", c, other)
		}
		seen[r.Priority] = c
		if (r.Priority < 0) != (c == types.Sheddable) {
			t.Errorf("%s has priority %d: only Sheddable is below 0", c, r.Priority)
		}
	}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := datastore.New(datastore.Options{StickySessions: true})
	must(t, s.Apply(pool("llama"), model("m", "llama", "m", 1, "a", 50, "b", 50), rewrite("w", "llama", 1, rule("x", "w")), objective("o", "llama", 3)))
	must(t, s.SetEndpoints(llama, specs(100)))
	rnd := types.NewRand(1)
	for _, q := range []datastore.Query{
		{Model: "m", Rand: &rnd}, {Model: "m", SessionID: "s"}, {Model: "m"}, {Model: "w"}, {Model: "unknown"},
		{Model: "m", Pool: llama, Objective: "o", Rewrite: "r"},
	} {
		got := testing.AllocsPerRun(100, func() {
			r, err := s.Snapshot().Resolve(q)
			if err != nil || len(r.Pool.Endpoints()) != 100 {
				t.Fatal(err)
			}
		})
		if got != 0 {
			t.Errorf("Snapshot and Resolve(%+v): %v allocations, want 0", q, got)
		}
	}
	load := s.Snapshot().Pool(llama).Endpoints()[0].Load
	if got := testing.AllocsPerRun(100, func() { s.UpdateMetrics(load, types.Metrics{}) }); got > 1 {
		t.Errorf("UpdateMetrics: %v allocations, want 1", got)
	}
}

// TestObjectiveOfPools: an objective gives its priority in every pool that it names or
// selects, and in no other.
func TestObjectiveOfPools(t *testing.T) {
	gold := pool("gold")
	gold.Labels = map[string]string{"tier": "gold"}
	named := objective("named", "", 3)
	named.Spec.PoolRef = types.PoolRef{}
	named.Spec.PoolRefs = []types.PoolRef{{Name: "llama"}, {Name: "nil"}, {Name: "gold"}}
	selected := objective("selected", "", 4)
	selected.Spec.PoolRef = types.PoolRef{}
	selected.Spec.PoolSelector = &types.PoolSelector{MatchLabels: gold.Labels}
	none := objective("none", "", 5)
	none.Spec.PoolRef = types.PoolRef{}
	none.Spec.PoolSelector = &types.PoolSelector{MatchLabels: map[string]string{"tier": "tin"}}
	nowhere := objective("nowhere", "", 6)
	nowhere.Spec.PoolRef = types.PoolRef{}
	nowhere.Spec.PoolRefs = []types.PoolRef{{Name: "nil"}, {Name: "nil-too"}}

	s := datastore.New(datastore.Options{})
	must(t, s.Commit(datastore.Change{OnlyObjects: true, Objects: []types.Object{pool("llama"), pool("qwen"), gold, named, selected, none, nowhere}}))
	for _, tt := range []struct {
		objective, pool string
		want            int
	}{
		{"named", "llama", 3}, {"named", "gold", 3}, {"named", "qwen", 0},
		{"selected", "gold", 4}, {"selected", "llama", 0}, {"none", "gold", 0}, {"nowhere", "llama", 0},
	} {
		r, err := s.Snapshot().Resolve(datastore.Query{Model: "m", Pool: name(tt.pool), Objective: tt.objective})
		must(t, err)
		require.Equal(t, tt.want, r.Priority, "priority of %s in %s", tt.objective, tt.pool)
	}
	for n, want := range map[string]string{"named": "pool default/nil does not exist", "selected": "", "none": "no pool has the labels of spec.poolSelector", "nowhere": "no pool of spec.poolRefs exists"} {
		status, ok := s.Status("InferenceObjective", name(n))
		if !ok || status[0].Message != want {
			t.Errorf("status of %s: %+v, want message %q", n, status, want)
		}
	}
}
