package suite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/examples/simulator/suite"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/stretchr/testify/require"
)

const small = `{
  "seeds": [1, 2], "duration": "15s", "capacity": "least-req",
  "scenarios": [
    {"name": "chat", "workload": {"kind": "sharegpt", "output": {"kind": "fixed", "tokens": 20}}, "loads": [0.3, 2], "fleet": {"replicas": 2, "speeds": [1, 2]}},
    {"name": "own rate", "workload": {"kind": "shared-prefix", "groups": 5, "rate": 5, "output": {"kind": "fixed", "tokens": 20}}, "scrape": "never", "gateways": 2},
    {"name": "trace", "workload": {"kind": "mooncake"}, "trace": "mooncake"}
  ],
  "require": [{"policy": "random", "figure": "e2e", "worst": 0.5}, {"policy": "absent", "figure": "e2e", "worst": 0.5}]
}`

func play(t *testing.T, o suite.Options) (*suite.Result, string) {
	t.Helper()
	s, err := suite.Parse([]byte(small))
	require.NoError(t, err)
	r, err := suite.Run(context.Background(), s, policiesOf(t, "random,least-req,classic-223"), o)
	require.NoError(t, err)
	var out strings.Builder
	r.Write(&out)
	return r, out.String()
}

func policiesOf(t *testing.T, list string) []simulation.Policy {
	t.Helper()
	chosen, err := policies.ByName(list)
	require.NoError(t, err)
	return chosen
}

func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long with the race detector; TestOwnCapacity and TestNoise run suites, too")
	}
	last := 0.0
	r, out := play(t, suite.Options{Progress: func(done float64, _ string) {
		if done < last || done > 1 {
			t.Errorf("progress went from %v to %v", last, done)
		}
		last = done
	}})
	if last < 0.999 || last > 1.001 {
		t.Errorf("progress ended at %v", last)
	}
	if len(r.Cases) != 3 || len(r.Skipped) != 1 || !strings.Contains(out, "trace") {
		t.Fatalf("%d cases, skipped %q, want 3 and the trace", len(r.Cases), r.Skipped)
	}
	if !r.Cases[1].Overloaded() || r.Cases[0].Overloaded() {
		t.Errorf("a third of the capacity is overload: %t; twice it is: %t", r.Cases[0].Overloaded(), r.Cases[1].Overloaded())
	}
	for _, c := range r.Cases {
		for f := range suite.Figures() {
			best := math.Inf(1)
			for _, row := range c.Rows {
				require.NoError(t, row.Err, "%s, %s", c.Title(), row.Policy)
				best = min(best, row.Ratio[f])
			}
			if best < 0.999 || best > 1.001 {
				t.Errorf("%s: best ratio of %s is %v, want 1", c.Title(), suite.Figures()[f], best)
			}
		}
	}
	if b := r.Broken(); len(b) != 1 || !strings.Contains(b[0], "random") {
		t.Errorf("Broken() = %q, want that of random", b)
	}
	for _, e := range r.Excesses() {
		require.GreaterOrEqual(t, e.Cases, 1, e.Policy)
		for f := range e.Mean {
			require.GreaterOrEqual(t, e.Mean[f], .999, "%s is below what none can be", e.Policy)
			require.LessOrEqual(t, e.Mean[f], e.Worst[f]*1.0001)
		}
	}
	require.NotContains(t, out, "CAPACITY")
	for _, want := range []string{"ABOVE THE BOUND", "at least", "what the fleet can do under least-req", "OVERLOAD", "SKIPPED", "REGRET over 2 cases", "REQUIREMENT BROKEN", "chat at 30 %", "own rate"} {
		require.Contains(t, out, want)
	}
	if _, again := play(t, suite.Options{Workers: 1}); again != out {
		t.Error("one worker gives another table than several")
	}
}

func TestCancelled(t *testing.T) {
	s, err := suite.Parse([]byte(small))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := suite.Run(ctx, s, policies.All(), suite.Options{}); err == nil {
		t.Error("Run of a cancelled context = nil error")
	}
}

// TestCommittedSuites: they load, and what they name exists.
func TestCommittedSuites(t *testing.T) {
	for _, file := range []string{"suite.json", "robust.json", "kv-events.json", "sharing.json"} {
		s, err := suite.Load(file)
		require.NoError(t, err)
		for _, list := range []string{s.Capacity, s.Quick.Policies} {
			if _, err := policies.ByName(list); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// TestCommittedNoise: each case with noise is there without it, to compare with.
func TestCommittedNoise(t *testing.T) {
	s, err := suite.Load("robust.json")
	require.NoError(t, err)
	noisy := 0
	for _, c := range s.Scenarios {
		if c.Fleet.Noise == (suite.Noise{}) {
			continue
		}
		noisy++
		if !slices.ContainsFunc(s.Scenarios, func(quiet suite.Scenario) bool {
			return quiet.Name+", noise" == c.Name && quiet.Fleet.Noise == suite.Noise{} &&
				string(quiet.Workload) == string(c.Workload) && slices.Equal(quiet.Loads, c.Loads) && quiet.Duration == c.Duration
		}) {
			t.Errorf("%q is not there without noise", c.Name)
		}
	}
	require.Equal(t, 3, noisy, "cases have noise")
}

// TestNoise: the noisy fleet gets the jobs of the quiet one at the same rate, from one
// measurement whichever comes first, and serves them otherwise. Records are found
// again, and those of quiet fleets are called what they were called before there was
// noise: files of them are kept.
func TestNoise(t *testing.T) {
	const (
		chat  = `{"kind": "sharegpt", "output": {"kind": "fixed", "tokens": 20}}`
		fleet = `"fleet": {"replicas": 2, "speeds": [0.5, 1]`
		noise = `"noise": {"spread": 0.25, "stall_every": 50, "stall": "200ms"}`
	)
	s, err := suite.Parse([]byte(`{
	  "seeds": [1], "duration": "10s", "capacity": "least-req",
	  "scenarios": [
	    {"name": "noisy", "workload": ` + chat + `, "loads": [0.5], ` + fleet + `, ` + noise + `}},
	    {"name": "quiet", "workload": ` + chat + `, "loads": [0.5], ` + fleet + `}},
	    {"name": "no noise", "workload": ` + chat + `, ` + fleet + `, "noise": {}}},
	    {"name": "default", "workload": ` + chat + `}
	  ]}`))
	require.NoError(t, err)
	chosen, err := policies.ByName("least-req")
	require.NoError(t, err)
	file := t.TempDir() + "/records"
	run := func() (*suite.Result, []string) {
		t.Helper()
		records, err := suite.OpenRecords(file, nil)
		require.NoError(t, err)
		defer records.Close()
		r, err := suite.Run(context.Background(), s, chosen, suite.Options{Capacity: chosen[0], Workers: 1, Records: records})
		require.NoError(t, err)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var keys []string
		for line := range strings.Lines(string(data)) {
			var rec suite.Record
			require.NoError(t, json.Unmarshal([]byte(line), &rec))
			keys = append(keys, rec.Policy+": "+rec.Case)
		}
		return r, keys
	}
	r, keys := run()
	noisy, quiet := r.Cases[0], r.Cases[1]
	if noisy.Rate != quiet.Rate || noisy.Capacity != quiet.Capacity || quiet.Rate == 0 {
		t.Errorf("with noise %v of %v jobs per second, without %v of %v", noisy.Rate, noisy.Capacity, quiet.Rate, quiet.Capacity)
	}
	for f, name := range suite.Figures() {
		if a, b := noisy.Rows[0].P90[f], quiet.Rows[0].P90[f]; !(a > b) {
			t.Errorf("%s: %v with noise, %v without", name, a, b)
		}
	}
	const speeds = " | {Replicas:2 Engine: Speeds:[0.5 1]}"
	rate := fmt.Sprintf(" | %.6g/s", quiet.Rate)
	want := []string{
		"capacity of least-req: " + chat + " | 0/s" + speeds + " | scrape 0s | 1 gateways | 10s",
		"least-req: " + chat + rate + speeds + " noise 0.25, 200ms every 50 steps | scrape 0s | 1 gateways | 10s",
		"least-req: " + chat + rate + speeds + " | scrape 0s | 1 gateways | 10s",
		"least-req: " + chat + " | 0/s" + speeds + " | scrape 0s | 1 gateways | 10s",
		"least-req: " + chat + " | 0/s | {Replicas:10 Engine: Speeds:[]} | scrape 0s | 1 gateways | 10s",
	}
	if !slices.Equal(keys, want) {
		t.Errorf("records of\n%s\nwant\n%s", strings.Join(keys, "\n"), strings.Join(want, "\n"))
	}
	again, keys := run()
	if !slices.Equal(keys, want) || !reflect.DeepEqual(again.Cases, r.Cases) {
		t.Errorf("with the records there are %d, want %d, and the same cases", len(keys), len(want))
	}
}

func TestLoadErrors(t *testing.T) {
	ok := `"seeds": [1], "duration": "1s", "capacity": "random"`
	scenario := func(s string) string { return `{` + ok + `, "scenarios": [{"name": "x", ` + s + `}]}` }
	chat := `"workload": {"kind": "sharegpt"}`
	for _, tt := range []struct{ name, data, want string }{
		{"empty", ``, "line 1, column 1: the document is empty"},
		{"syntax", "{\n\"seeds\": [1\n}", "line 3"},
		{"unknown field", "{\n\"sedes\": []}", "line 2, column 1: sedes is not a field; the nearest is seeds"},
		{"wrong type", `{"seeds": "1"}`, "seeds"},
		{"more", scenario(chat) + `{}`, "after top-level value"},
		{"no seeds", `{"duration": "1s"}`, "seeds"},
		{"no duration", `{"seeds": [1]}`, "duration"},
		{"bad duration", `{"seeds": [1], "duration": 5}`, "90s"},
		{"negative duration", `{"seeds": [1], "duration": "-5s"}`, "90s"},
		{"no scenarios", `{` + ok + `}`, "scenarios"},
		{"two of a name", `{` + ok + `, "scenarios": [{"name": "x", ` + chat + `}, {"name": "x", ` + chat + `}]}`, "scenarios[1]"},
		{"no workload", scenario(`"loads": [1]`), "workload is missing"},
		{"unknown kind", scenario(`"workload": {"kind": "what"}`), "what"},
		{"unknown field of the workload", scenario(`"workload": {"kind": "sharegpt", "rat": 1}`), "rat"},
		{"bad value of the workload", scenario(`"workload": {"kind": "sharegpt", "cv": 1000}`), "cv"},
		{"engine", scenario(chat + `, "fleet": {"engine": "x"}`), "fleet.engine"},
		{"speed", scenario(chat + `, "fleet": {"speeds": [0]}`), "fleet.speeds"},
		{"field of noise", scenario(chat + `, "fleet": {"noise": {"sprad": 1}}`), "sprad"},
		{"type of noise", scenario(chat + `, "fleet": {"noise": {"spread": "1"}}`), "noise.spread"},
		{"spread", scenario(chat + `, "fleet": {"noise": {"spread": 2.5}}`), "fleet.noise.spread is 2.5"},
		{"negative spread", scenario(chat + `, "fleet": {"noise": {"spread": -0.1}}`), "fleet.noise.spread is -0.1"},
		{"stall_every", scenario(chat + `, "fleet": {"noise": {"stall_every": -1}}`), "fleet.noise.stall_every is -1"},
		{"no stall_every", scenario(chat + `, "fleet": {"noise": {"stall": "1s"}}`), "fleet.noise.stall_every is missing"},
		{"stall", scenario(chat + `, "fleet": {"noise": {"stall_every": 9, "stall": "2m"}}`), "fleet.noise.stall is 2m"},
		{"stall that is never", scenario(chat + `, "fleet": {"noise": {"stall_every": 9, "stall": "never"}}`), "fleet.noise.stall is"},
		{"no stall", scenario(chat + `, "fleet": {"noise": {"stall_every": 9}}`), "fleet.noise.stall is missing"},
		{"all events lost", scenario(chat + `, "world": {"events": {"lost": 1}}`), "world.events.lost is 1"},
		{"load", scenario(chat + `, "loads": [0]`), "loads"},
		{"figure", `{` + ok + `, "scenarios": [{"name": "x", ` + chat + `}], "require": [{"policy": "p", "figure": "x", "worst": 1}]}`, "require[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := suite.Parse([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse = %v, want an error about %q", err, tt.want)
			}
		})
	}
	if _, err := suite.Load("absent.json"); err == nil || !strings.Contains(err.Error(), "absent.json") {
		t.Errorf("Load of a file that is not there = %v", err)
	}
	file := t.TempDir() + "/bad.json"
	require.NoError(t, os.WriteFile(file, []byte("{\n[]}"), 0o600))
	if _, err := suite.Load(file); err == nil || !strings.Contains(err.Error(), "bad.json: line 2") {
		t.Errorf("Load of a bad file = %v, want its name and line", err)
	}
}
