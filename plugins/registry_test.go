package plugins_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// classicJSON declares Classic.
const classicJSON = `{
	"plugins": [
		{"type": "healthy-filter"},
		{"type": "fresh-filter"},
		{"type": "shed-filter"},
		{"type": "queue-scorer"},
		{"type": "kv-cache-utilization-scorer"},
		{"type": "prefix-cache-scorer"},
		{"type": "max-score-picker"}
	],
	"schedulingProfiles": [{
		"name": "classic",
		"plugins": [
			{"pluginRef": "healthy-filter"},
			{"pluginRef": "fresh-filter"},
			{"pluginRef": "shed-filter"},
			{"pluginRef": "queue-scorer", "weight": 2},
			{"pluginRef": "kv-cache-utilization-scorer", "weight": 2},
			{"pluginRef": "prefix-cache-scorer", "weight": 3},
			{"pluginRef": "max-score-picker"}
		],
		"fallbacks": 2,
		"seed": 1
	}]
}`

// TestRegistryLoad declares what Classic is wired to, and gets the same decisions.
func TestRegistryLoad(t *testing.T) {
	profiles, err := plugins.NewRegistry().Load([]byte(classicJSON))
	require.NoError(t, err)
	wired := plugins.Classic()
	wired.Seed = 1
	a, b := mustNew(t, profiles["classic"]), mustNew(t, wired)
	fleetA, fleetB := schedulingtest.Fleet(20), schedulingtest.Fleet(20)
	for i := range 200 {
		prompt := text(i%9, 3000)
		da, db := mustSchedule(t, a, schedulingtest.Request(prompt), fleetA), mustSchedule(t, b, schedulingtest.Request(prompt), fleetB)
		if da.Endpoint.ID != db.Endpoint.ID || len(da.Fallbacks) != 2 || da.Fallbacks[1].ID != db.Fallbacks[1].ID {
			t.Fatalf("request %d: declared goes to %s, wired to %s", i, da.Endpoint.ID, db.Endpoint.ID)
		}
	}
}

func TestRegistryLoadFields(t *testing.T) {
	profiles, err := plugins.NewRegistry().Load([]byte(`{
		"plugins": [
			{"type": "max-score-picker", "name": "pick"},
			{"type": "token-load-scorer", "name": "big", "parameters": {"threshold": 1e6}},
			{"type": "token-load-scorer", "name": "small", "parameters": {"threshold": 500}},
			{"type": "label-filter", "parameters": {"match": {"zone": "a"}}},
			{"type": "capacity-filter", "parameters": {"maxQueue": 3, "maxKVUsage": 0.5}},
			{"type": "shed-filter", "parameters": {"maxQueue": 4, "hardQueue": 40}},
			{"type": "low-queue-filter", "parameters": {"below": 9}},
			{"type": "lora-affinity-filter", "parameters": {"affinity": 0.5}},
			{"type": "session-affinity-scorer", "parameters": {"maxSessions": 2, "ttl": "90s"}}
		],
		"schedulingProfiles": [
			{"name": "all", "metricsTTL": "500ms", "bookingTTL": "1h", "outputTokens": 77, "fallbacks": 8, "seed": 18446744073709551615,
			 "plugins": [{"pluginRef": "label-filter"}, {"pluginRef": "capacity-filter"}, {"pluginRef": "shed-filter"}, {"pluginRef": "low-queue-filter"},
				{"pluginRef": "lora-affinity-filter"}, {"pluginRef": "big", "weight": 0.25}, {"pluginRef": "pick"}, {"pluginRef": "small"},
				{"pluginRef": "session-affinity-scorer", "weight": 0}]},
			{"name": "bare", "plugins": [{"pluginRef": "pick"}]}
		]}`))
	require.NoError(t, err)
	p := profiles["all"]
	wantFilters := []scheduling.Named{
		{Name: "label-filter", Filter: plugins.Labels{Match: map[string]string{"zone": "a"}}},
		{Name: "capacity-filter", Filter: plugins.HasCapacity{Room: plugins.Room{MaxQueue: 3, MaxKVUsage: .5}}},
		{Name: "shed-filter", Filter: plugins.Shed{Room: plugins.Room{MaxQueue: 4}, HardQueue: 40}},
		{Name: "low-queue-filter", Filter: plugins.LowQueue{Below: 9}},
		{Name: "lora-affinity-filter", Filter: plugins.LoRASoftAffinity{Affinity: .5}},
	}
	if got, want := fmt.Sprintf("%+v", p.Filters), fmt.Sprintf("%+v", wantFilters); got != want {
		t.Errorf("Filters = %s, want %s", got, want)
	}
	if len(p.Scorers) != 3 || p.Scorers[0] != (scheduling.Weighted{Name: "big", Scorer: plugins.TokenLoad{Threshold: 1e6}, Weight: .25}) ||
		p.Scorers[1] != (scheduling.Weighted{Name: "small", Scorer: plugins.TokenLoad{Threshold: 500}, Weight: 1}) ||
		p.Scorers[2].Weight != 0 {
		t.Errorf("Scorers = %+v", p.Scorers)
	}
	if p.Picker != (plugins.MaxScore{}) || p.MetricsTTL != 500*time.Millisecond || p.BookingTTL != time.Hour || p.OutputTokens != 77 || p.Fallbacks != 8 || p.Seed != 1<<64-1 {
		t.Errorf("profile = %+v", p)
	}
	sessions, eps := p.Scorers[2].Scorer.(*plugins.SessionAffinity), idle(1)
	for i := range 3 {
		sessions.Picked(turn(fmt.Sprint(i), 0), eps[0])
	}
	if got := schedulingtest.Score(t, sessions, turn("2", 91*time.Second), eps...); sessions.Len() != 2 || got[0] == got[0] {
		t.Errorf("%d sessions are kept, want 2 for at most 90 s: %v", sessions.Len(), got)
	}
	if p := profiles["bare"]; p.MetricsTTL != 0 || p.Fallbacks != 0 || len(p.Filters)+len(p.Scorers) != 0 {
		t.Errorf("what is not declared is left to scheduling.New: %+v", p)
	}
}

// declare returns a Config with the given plugins and profiles.
func declare(plugins, profiles string) string {
	return `{"plugins": [` + plugins + `], "schedulingProfiles": [` + profiles + `]}`
}

func TestRegistryLoadErrors(t *testing.T) {
	const pick, queue = `{"type": "max-score-picker", "name": "pick"}`, `{"type": "queue-scorer", "name": "queue"}`
	const ok = `{"name": "p", "plugins": [{"pluginRef": "pick"}]}`
	profile := func(more string) string { return `{"name": "p", "plugins": [{"pluginRef": "pick"}]` + more + `}` }
	uses := func(refs string) string { return `{"name": "p", "plugins": [` + refs + `]}` }
	with := func(plugin string) string { return declare(pick+", "+plugin, ok) }
	tests := []struct {
		name string
		data string
		want []string
	}{
		{"empty", ``, []string{"is empty"}},
		{"null", `null`, []string{"schedulingProfiles is empty"}},
		{"no profiles", declare(pick, ""), []string{"schedulingProfiles is empty, want at least one"}},
		{"syntax", "{\n\t\"plugins\": [\n\t\t{\"type\": \"queue-scorer\",}\n\t]\n}", []string{"line 3, column 27", "invalid character '}'"}},
		{"syntax at once", `x`, []string{"line 1, column 1"}},
		{"cut short", `{"plugins": [`, []string{"ends in the middle"}},
		{"wrong kind", "{\n\"plugins\": 7}", []string{"line 2, column 1: plugins is 7, want a list"}},
		{"trailing data", declare(pick, ok) + ` {}`, []string{"line 1, column 136: the document is no JSON: ", "after top-level value"}},
		{"trailing rubbish", declare(pick, ok) + ` x`, []string{"line 1, column 136: the document is no JSON: ", "after top-level value"}},
		{"unknown field", `{"plugins": [], "schedulingProfiles": [], "featureGates": []}`, []string{"line 1, column 43: featureGates is not a field; known are plugins, schedulingProfiles, admission"}},
		{"unknown field of a plugin", with(`{"type": "queue-scorer", "weight": 2}`), []string{"line 1, column 85: plugins[1].weight is not a field; known are type, name, parameters"}},
		{"unknown field of a profile", declare(pick, profile(`, "pick": 1`)), []string{"schedulingProfiles[0].pick is not a field; known are name, plugins,"}},
		{"unknown field of a reference", declare(pick, uses(`{"pluginRef": "pick", "name": "x"}`)), []string{"schedulingProfiles[0].plugins[0].name is not a field; known are pluginRef, weight"}},

		{"unknown type", with(`{"type": "queue-scorrer"}`), []string{`line 1, column 61: plugins[1].type is "queue-scorrer", which is unknown; the nearest is queue-scorer`}},
		{"unlike any type", with(`{"type": "sorter"}`), []string{`plugins[1].type is "sorter", which is unknown; known are`, "queue-scorer", "max-score-picker", "v0.3-decision-tree-filter"}},
		{"no type", with(`{"name": "x"}`), []string{`plugins[1].type is "", which is unknown; known are active-request-scorer, `}},
		{"unknown parameter", with(`{"type": "shed-filter", "parameters": {"maxQueu": 4}}`), []string{"plugins[1].parameters.maxQueu is not a field"}},
		{"parameters of a plugin without", with(`{"type": "queue-scorer", "parameters": {"a": 1}}`), []string{"plugins[1].parameters.a is not a field"}},
		{"parameters of a picker without", with(`{"type": "round-robin-picker", "parameters": {"a": 1}}`), []string{"plugins[1].parameters.a is not a field"}},
		{"parameters of the tree", with(`{"type": "v0.3-decision-tree-filter", "parameters": {"a": 1}}`), []string{"plugins[1].parameters.a is not a field"}},
		{"parameters of the prefix cache", with(`{"type": "prefix-cache-scorer", "parameters": {"blockSize": 64}}`), []string{"plugins[1].parameters.blockSize is not a field"}},
		{"parameters of the sessions", with(`{"type": "session-affinity-scorer", "parameters": {"TTLs": "1s"}}`), []string{"plugins[1].parameters.TTLs is not a field"}},
		{"parameters of a wrong kind", with(`{"type": "shed-filter", "parameters": {"maxQueue": "four"}}`), []string{`line 1, column 99: plugins[1].parameters.maxQueue is "four", want a number`}},
		{"parameters that are no object", with(`{"type": "queue-scorer", "parameters": [1]}`), []string{"line 1, column 85: plugins[1].parameters is [1], want an object"}},
		{"parameter out of range: maxQueue", with(`{"type": "capacity-filter", "parameters": {"maxQueue": -1}}`), []string{"line 1, column 103: plugins[1].parameters.maxQueue is -1, want at least 0"}},
		{"parameter out of range: maxKVUsage", with(`{"type": "shed-filter", "parameters": {"maxKVUsage": 80}}`), []string{"maxKVUsage is 80, want 0 to 1"}},
		{"parameter out of range: hardQueue", with(`{"type": "shed-filter", "parameters": {"hardQueue": -2}}`), []string{"hardQueue is -2"}},
		{"parameter out of range: below", with(`{"type": "low-queue-filter", "parameters": {"below": -3}}`), []string{"below is -3"}},
		{"parameter out of range: affinity", with(`{"type": "lora-affinity-filter", "parameters": {"affinity": 1.5}}`), []string{"affinity is 1.5"}},
		{"parameter out of range: threshold", with(`{"type": "token-load-scorer", "parameters": {"threshold": -4}}`), []string{"threshold is -4"}},
		{"parameter out of range: blockBytes", with(`{"type": "prefix-cache-scorer", "parameters": {"blockBytes": 65}}`), []string{"line 1, column 107: plugins[1].parameters.blockBytes is 65, want a multiple of 64"}},
		{"parameter out of range: maxSessions", with(`{"type": "session-affinity-scorer", "parameters": {"maxSessions": -5}}`), []string{"plugins[1].parameters.maxSessions is -5, want 1 to 16777216, or 0 for the default 65536"}},
		{"bad ttl", with(`{"type": "session-affinity-scorer", "parameters": {"ttl": "soon"}}`), []string{`plugins[1].parameters.ttl is "soon", want a duration above 0`}},
		{"negative ttl", with(`{"type": "session-affinity-scorer", "parameters": {"ttl": "-5s"}}`), []string{`plugins[1].parameters.ttl is "-5s", want a duration above 0`}},
		{"ejection: unknown parameter", with(`{"type": "ejection-filter", "parameters": {"failure": 2}}`), []string{"plugins[1].parameters.failure is not a field"}},
		{"ejection: failures", with(`{"type": "ejection-filter", "parameters": {"failures": -1}}`), []string{"plugins[1].parameters.failures is -1, want 1 to 1000"}},
		{"ejection: base", with(`{"type": "ejection-filter", "parameters": {"base": "soon"}}`), []string{`plugins[1].parameters.base is "soon", want a duration above 0 such as "300ms"`}},
		{"ejection: base of 0", with(`{"type": "ejection-filter", "parameters": {"base": "0s"}}`), []string{`base is "0s", want a duration above 0`}},
		{"ejection: base without a unit", with(`{"type": "ejection-filter", "parameters": {"base": 5}}`), []string{"plugins[1].parameters.base is 5, want"}},
		{"ejection: max", with(`{"type": "ejection-filter", "parameters": {"max": "-1m"}}`), []string{`max is "-1m", want a duration above 0`}},
		{"ejection: max below base", with(`{"type": "ejection-filter", "parameters": {"base": "3s", "max": "2s"}}`), []string{"plugins[1].parameters.max is 2s, want at least base, which is 3s"}},
		{"cost: engine", with(`{"type": "latency-cost", "parameters": {"home": -1, "engine": {"token": -1}}}`), []string{
			"line 1, column 100: plugins[1].parameters.home is -1, want above 0, or 0 for the default 2", "line 1, column 123: plugins[1].parameters.engine.token is -1, want above 0"}},
		{"ttl without a unit", with(`{"type": "session-affinity-scorer", "parameters": {"ttl": 5}}`), []string{`plugins[1].parameters.ttl is 5, want a duration above 0 such as "300ms" or "5s"`}},

		{"a plugin name twice", declare(pick+`, {"type": "queue-scorer", "name": "pick"}`, ok), []string{`plugins[1].name is "pick", which is used twice`}},
		{"a plugin type twice without a name", declare(pick+", "+queue+`, {"type": "queue-scorer"}, {"type": "queue-scorer"}`, ok), []string{`plugins[3].name is "queue-scorer", which is used twice`}},
		{"a profile name twice", declare(pick, ok+", "+ok), []string{`schedulingProfiles[1].name is "p", which is used twice`}},
		{"a profile without a name", declare(pick, `{"plugins": [{"pluginRef": "pick"}]}`), []string{"schedulingProfiles[0].name is required"}},
		{"a plugin twice in a profile", declare(pick+", "+queue, uses(`{"pluginRef": "queue"}, {"pluginRef": "pick"}, {"pluginRef": "queue"}`)), []string{`schedulingProfiles[0].plugins[2].pluginRef is "queue", which is used twice`}},
		{"a plugin that is not declared", declare(pick, uses(`{"pluginRef": "queue"}`)), []string{`schedulingProfiles[0].plugins[0].pluginRef is "queue", which is unknown; known are pick`}},
		{"two pickers", declare(pick+`, {"type": "random-picker"}`, uses(`{"pluginRef": "pick"}, {"pluginRef": "random-picker"}`)), []string{`plugins[1].pluginRef is "random-picker", which is a second picker`}},
		{"no picker", declare(queue, uses(`{"pluginRef": "queue"}`)), []string{"schedulingProfiles[0]", "no Picker"}},
		{"an empty profile", declare(pick, `{"name": "p"}`), []string{"no Picker"}},
		{"a weight on a picker", declare(pick, uses(`{"pluginRef": "pick", "weight": 1}`)), []string{`schedulingProfiles[0].plugins[0].weight is for scorers, which "pick" is not`}},
		{"a weight on a filter", declare(pick+`, {"type": "healthy-filter"}`, uses(`{"pluginRef": "healthy-filter", "weight": 1}, {"pluginRef": "pick"}`)), []string{`weight is for scorers, which "healthy-filter" is not`}},
		{"a negative weight", declare(pick+", "+queue, uses(`{"pluginRef": "queue", "weight": -1}, {"pluginRef": "pick"}`)), []string{"schedulingProfiles[0]", `"queue" has weight -1`}},
		{"metricsTTL", declare(pick, profile(`, "metricsTTL": "5"`)), []string{`schedulingProfiles[0].metricsTTL is "5", want a duration`}},
		{"metricsTTL of 0", declare(pick, profile(`, "metricsTTL": "0s"`)), []string{`metricsTTL is "0s", want a duration above 0`}},
		{"bookingTTL", declare(pick, profile(`, "bookingTTL": "-1m"`)), []string{`schedulingProfiles[0].bookingTTL is "-1m", want a duration`}},
		{"a duration that is a number", declare(pick, profile(`, "bookingTTL": 60`)), []string{"bookingTTL is 60, want a duration"}},
		{"fallbacks", declare(pick, profile(`, "fallbacks": 9`)), []string{"schedulingProfiles[0]", "Fallbacks is 9, want 0 to 8"}},
		{"outputTokens", declare(pick, profile(`, "outputTokens": -1`)), []string{"OutputTokens is -1"}},
		{"seed", declare(pick, profile(`, "seed": -1`)), []string{"seed is -1, want an integer from 0 to 18446744073709551615"}},

		{"all at once", declare(`{"type": "nonsense"}, `+queue, `{"plugins": [{"pluginRef": "nowhere"}, {"pluginRef": "nonsense"}]}`), []string{
			`plugins[0].type is "nonsense"`, "schedulingProfiles[0].name is required", `schedulingProfiles[0].plugins[0].pluginRef is "nowhere"`,
		}},
		{"all at once, of the form", declare(`{"typ": "nonsense"}, `+queue, `{"plugins": [{"pluginRef": 1}, {"pluginRef": "queue", "weight": "2"}], "metricsTTL": "x"}`), []string{
			"plugins[0].typ is not a field; the nearest is type", "schedulingProfiles[0].plugins[0].pluginRef is 1, want a string", `schedulingProfiles[0].plugins[1].weight is "2", want a number`, `schedulingProfiles[0].metricsTTL is "x"`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			profiles, err := plugins.NewRegistry().Load([]byte(tt.data))
			if err == nil || profiles != nil {
				t.Fatalf("Load = %v, %v, want an error", profiles, err)
			}
			for _, want := range append(tt.want, "plugins: profiles: ") {
				require.Contains(t, err.Error(), want)
			}
		})
	}
}

// TestRegistryUnknownTypeIsReportedOnce: a reference to a plugin that could not be
// made is not a second error.
func TestRegistryUnknownTypeIsReportedOnce(t *testing.T) {
	_, err := plugins.NewRegistry().Load([]byte(declare(
		`{"type": "max-score-picker"}, {"type": "nonsense", "name": "n"}`,
		`{"name": "p", "plugins": [{"pluginRef": "n", "weight": 2}, {"pluginRef": "max-score-picker"}]}`)))
	if err == nil || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("Load: %v, want one error", err)
	}
}

// TestRegistryProfilesShareAPlugin: what one profile learned the other knows; and
// another Load shares nothing with it.
func TestRegistryProfilesShareAPlugin(t *testing.T) {
	const data = `{
		"plugins": [{"type": "prefix-cache-scorer"}, {"type": "max-score-picker"}, {"type": "round-robin-picker"}],
		"schedulingProfiles": [
			{"name": "a", "plugins": [{"pluginRef": "prefix-cache-scorer"}, {"pluginRef": "max-score-picker"}]},
			{"name": "b", "plugins": [{"pluginRef": "prefix-cache-scorer", "weight": 3}, {"pluginRef": "round-robin-picker"}]}]}`
	r := plugins.NewRegistry()
	load := func() map[string]scheduling.Profile {
		profiles, err := r.Load([]byte(data))
		require.NoError(t, err)
		return profiles
	}
	one, two := load(), load()
	if one["a"].Scorers[0].Scorer != one["b"].Scorers[0].Scorer {
		t.Error("two profiles of one declaration do not share the prefix cache they both name")
	}
	if one["a"].Scorers[0].Scorer == two["a"].Scorers[0].Scorer || one["b"].Picker == two["b"].Picker {
		t.Error("two Loads share a plugin that has state")
	}
	eps := idle(8)
	d := mustSchedule(t, mustNew(t, one["a"]), blocks("x", 4), eps)
	ex, err := mustNew(t, one["b"]).Explain(ctx, blocks("x", 4), eps)
	require.NoError(t, err)
	for _, c := range ex.Candidates {
		if want := c.Endpoint == d.Endpoint; (c.Total == 3) != want {
			t.Errorf("profile b gives %s %v; profile a sent the prompt to %s", c.ID, c.Total, d.Endpoint.ID)
		}
	}
}

// gate is a filter and a scorer in one.
type gate struct{ plugins.Healthy }

func (gate) Score(_ context.Context, _ *types.Request, _ []*types.Endpoint, scores []float64) error {
	for i := range scores {
		scores[i] = .5
	}
	return nil
}

func TestRegistryRegister(t *testing.T) {
	r, other := plugins.NewRegistry(), plugins.NewRegistry()
	var got json.RawMessage
	r.Register("acme-gate", func(p json.RawMessage) (any, error) {
		got = p
		c := struct {
			Level int `json:"level"`
		}{Level: 7}
		if err := plugins.Parameters(p, &c); err != nil {
			return nil, err
		}
		if c.Level < 0 {
			return nil, errors.New("level is below 0")
		}
		return gate{}, nil
	})
	r.Register("acme-nothing", func(json.RawMessage) (any, error) { return struct{}{}, nil })
	r.Register("acme-nil", func(json.RawMessage) (any, error) { return nil, nil })
	if !slices.Contains(r.Types(), "acme-gate") || slices.Contains(other.Types(), "acme-gate") {
		t.Errorf("Types of the two registries: %v, %v", r.Types(), other.Types())
	}
	if !slices.IsSorted(r.Types()) {
		t.Errorf("Types are not sorted: %v", r.Types())
	}
	load := func(plugin string) (map[string]scheduling.Profile, error) {
		return r.Load([]byte(declare(plugin+`, {"type": "random-picker"}`, `{"name": "p", "plugins": [{"pluginRef": "mine", "weight": 2}, {"pluginRef": "random-picker"}]}`)))
	}
	profiles, err := load(`{"type": "acme-gate", "name": "mine", "parameters": {"level": 1}}`)
	require.NoError(t, err)
	if p := profiles["p"]; len(p.Filters) != 1 || p.Filters[0].Name != "mine" || len(p.Scorers) != 1 || p.Scorers[0].Name != "mine" || p.Scorers[0].Weight != 2 {
		t.Errorf("a plugin of two roles is wired as %+v and %+v", p.Filters, p.Scorers)
	}
	if string(got) != `{"level": 1}` {
		t.Errorf("the factory got %s", got)
	}
	if _, err := load(`{"type": "acme-gate", "name": "mine"}`); err != nil || got != nil {
		t.Errorf("without parameters the factory got %q: %v", got, err)
	}
	for plugin, want := range map[string]string{
		`{"type": "acme-gate", "name": "mine", "parameters": {"level": -1}}`: "plugins[0].parameters: level is below 0",
		`{"type": "acme-gate", "name": "mine", "parameters": {"lewel": 1}}`:  "plugins[0].parameters.lewel is not a field; the nearest is level",
		`{"type": "acme-nothing", "name": "mine"}`:                           `is "acme-nothing", whose factory returned a struct {}, which is no Filter, Scorer, Coster, Splitter or Picker`,
		`{"type": "acme-nil", "name": "mine"}`:                               `which is no Filter, Scorer, Coster, Splitter or Picker`,
	} {
		if _, err := load(plugin); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load of %s: %v, want %q", plugin, err, want)
		}
	}
	factory := func(json.RawMessage) (any, error) { return gate{}, nil }
	for name, call := range map[string]func(){
		"twice":        func() { r.Register("acme-gate", factory) },
		"as ours":      func() { r.Register("queue-scorer", factory) },
		"without name": func() { r.Register("", factory) },
		"nil":          func() { r.Register("acme-2", nil) },
	} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.HasPrefix(fmt.Sprint(v), "plugins: ") {
					t.Errorf("Register %s: panic %v, want one that says why", name, v)
				}
			}()
			call()
		}()
	}
}

// TestRegistryBuild: a Config made in Go is checked like one that was loaded.
func TestRegistryBuild(t *testing.T) {
	weight := 2.5
	c := plugins.Config{
		Plugins: []plugins.PluginConfig{{Type: "queue-scorer"}, {Type: "max-score-picker"}},
		Profiles: []plugins.ProfileConfig{{Name: "p", Plugins: []plugins.PluginRef{
			{PluginRef: "queue-scorer", Weight: &weight}, {PluginRef: "max-score-picker"},
		}}},
	}
	data, err := json.Marshal(c)
	require.NoError(t, err)
	built, err := plugins.NewRegistry().Build(c)
	if err != nil || built["p"].Scorers[0].Weight != 2.5 {
		t.Fatalf("Build = %+v, %v", built, err)
	}
	if loaded, err := plugins.NewRegistry().Load(data); err != nil || loaded["p"].Scorers[0] != built["p"].Scorers[0] {
		t.Errorf("Load of the marshalled Config = %+v, %v", loaded, err)
	}
	if _, err := plugins.NewRegistry().Build(plugins.Config{}); err == nil {
		t.Error("an empty Config builds")
	}
}

// FuzzRegistryLoad: no input makes Load panic, and every profile that loads can be
// scheduled with.
func FuzzRegistryLoad(f *testing.F) {
	f.Add([]byte(classicJSON))
	for _, name := range plugins.NewRegistry().Types() {
		f.Add([]byte(declare(`{"type": "`+name+`"}, {"type": "max-score-picker", "name": "pick"}`,
			`{"name": "p", "fallbacks": 3, "plugins": [{"pluginRef": "`+name+`"}, {"pluginRef": "pick"}]}`)))
	}
	for _, parameters := range []string{
		`"label-filter", "parameters": {"match": {"zone": "a"}}`,
		`"shed-filter", "parameters": {"maxQueue": 1, "maxKVUsage": 0.1, "hardQueue": 2}`,
		`"prefix-cache-scorer", "parameters": {"blockBytes": 64, "maxBytes": 1048576, "maxPromptBlocks": 3, "capacityBlocks": 5, "bytesPerToken": 0.5}`,
		`"session-affinity-scorer", "parameters": {"maxSessions": 1, "ttl": "1ns"}`,
		`"ejection-filter", "parameters": {"failures": 1, "base": "1ns", "max": "1h", "failClosed": true}`,
		`"token-load-scorer", "parameters": {"threshold": 1e-300}`,
	} {
		f.Add([]byte(declare(`{"type": `+parameters+`, "name": "x"}, {"type": "weighted-random-picker"}`,
			`{"name": "p", "metricsTTL": "1ms", "bookingTTL": "1ns", "outputTokens": 1, "plugins": [{"pluginRef": "x"}, {"pluginRef": "weighted-random-picker"}]}`)))
	}
	f.Add([]byte(`{"plugins": [{"type": "queue-scorer",}]}`))
	eps := schedulingtest.Fleet(9)
	f.Fuzz(func(t *testing.T, data []byte) {
		profiles, err := plugins.NewRegistry().Load(data)
		if err != nil {
			if profiles != nil || !strings.HasPrefix(err.Error(), "plugins: profiles: ") {
				t.Errorf("Load = %v, %v", profiles, err)
			}
			return
		}
		for name, p := range profiles {
			s, err := scheduling.New(p)
			require.NoError(t, err, "profile %q loads, but New says", name)
			for i, priority := range []int{types.PriorityCritical, types.PriorityStandard, types.PrioritySheddable} {
				before := eps[0].Load.Requests()
				req := schedulingtest.Request(text(i%2, 2000))
				req.Priority = priority
				d, err := s.Schedule(ctx, req, eps)
				if err != nil {
					if !errors.Is(err, scheduling.ErrSaturated) && !errors.Is(err, scheduling.ErrNoEndpoint) {
						t.Errorf("profile %q: Schedule: %v", name, err)
					}
					continue
				}
				if len(d.Fallbacks) > 0 {
					d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
				}
				d.FirstToken()
				d.Done(types.Outcome{Status: 200, Usage: usage(500, 100)})
				if eps[0].Load.Requests() != before || s.Open() != 0 {
					t.Errorf("profile %q leaves %d bookings open", name, s.Open())
				}
			}
		}
	})
}
