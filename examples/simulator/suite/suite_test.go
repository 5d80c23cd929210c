package suite_test

import (
	"context"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/examples/simulator/suite"
)

const small = `{
  "seeds": [1, 2], "duration": "15s", "capacity": "least-req", "bound": "least-req",
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
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := policies.ByName("random,least-req,classic-223")
	if err != nil {
		t.Fatal(err)
	}
	r, err := suite.Run(context.Background(), s, chosen, o)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r.Write(&out)
	return r, out.String()
}

func TestRun(t *testing.T) {
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
	if !r.Cases[1].Overloaded("") || r.Cases[0].Overloaded("") {
		t.Errorf("a third of the capacity is overload: %t; twice it is: %t", r.Cases[0].Overloaded(""), r.Cases[1].Overloaded(""))
	}
	for _, c := range r.Cases {
		for f := range suite.Figures() {
			best := math.Inf(1)
			for _, row := range c.Rows {
				if row.Err != nil {
					t.Fatalf("%s, %s: %v", c.Title(), row.Policy, row.Err)
				}
				if row.Policy != "least-req" { // the bound
					best = min(best, row.Ratio[f])
				}
			}
			if best < 0.999 || best > 1.001 {
				t.Errorf("%s: best ratio of %s is %v, want 1", c.Title(), suite.Figures()[f], best)
			}
		}
	}
	if b := r.Broken(); len(b) != 1 || !strings.Contains(b[0], "random") {
		t.Errorf("Broken() = %q, want that of random", b)
	}
	for _, want := range []string{"OVERLOAD", "SKIPPED", "REGRET over 2 cases", "REQUIREMENT BROKEN", "chat at 30 %", "own rate"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	if _, again := play(t, suite.Options{Workers: 1}); again != out {
		t.Error("one worker gives another table than several")
	}
}

func TestCancelled(t *testing.T) {
	s, err := suite.Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := suite.Run(ctx, s, policies.All(), suite.Options{}); err == nil {
		t.Error("Run of a cancelled context = nil error")
	}
}

// TestCommittedSuite: it loads, and what it names exists.
func TestCommittedSuite(t *testing.T) {
	s, err := suite.Load("suite.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{s.Capacity, s.Bound, s.Quick.Policies} {
		if _, err := policies.ByName(list); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	ok := `"seeds": [1], "duration": "1s", "capacity": "random"`
	scenario := func(s string) string { return `{` + ok + `, "scenarios": [{"name": "x", ` + s + `}]}` }
	chat := `"workload": {"kind": "sharegpt"}`
	for _, tt := range []struct{ name, data, want string }{
		{"empty", ``, "ends in the middle"},
		{"syntax", "{\n\"seeds\": [1\n}", "line 3"},
		{"unknown field", "{\n\"sedes\": []}", `"sedes"`},
		{"wrong type", `{"seeds": "1"}`, "seeds"},
		{"more", scenario(chat) + `{}`, "more after"},
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
	if err := os.WriteFile(file, []byte("{\n[]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := suite.Load(file); err == nil || !strings.Contains(err.Error(), "bad.json: line 2") {
		t.Errorf("Load of a bad file = %v, want its name and line", err)
	}
}
