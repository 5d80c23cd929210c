package simulation_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/stretchr/testify/require"
)

func TestSpecRoundTrip(t *testing.T) {
	var kinds []string
	for _, spec := range everyKind() {
		data, err := simulation.EncodeSpec(spec)
		require.NoError(t, err)
		got, err := simulation.DecodeSpec(data)
		require.NoError(t, err, "DecodeSpec(%s)", data)
		if reflect.ValueOf(spec).Kind() != reflect.Pointer && !reflect.DeepEqual(got, spec) {
			t.Errorf("DecodeSpec(%s) = %+v, want %+v", data, got, spec)
		}
		again, err := simulation.EncodeSpec(got)
		if err != nil || string(again) != string(data) {
			t.Errorf("encoded again: %s, %v, want %s", again, err, data)
		}
		if a, b := take(spec.Start(5), 50), take(got.Start(5), 50); !reflect.DeepEqual(untagged(a), untagged(b)) {
			t.Errorf("%s: decoded, it makes other jobs", data)
		}
		kinds = append(kinds, kindOf(t, spec))
	}
	for _, k := range simulation.Kinds() {
		if !slices.Contains(kinds, k) {
			t.Errorf("kind %q is not tested", k)
		}
	}
	// A pointer to a Spec is one too.
	if data, err := simulation.EncodeSpec(&simulation.B2B{Questions: 4}); err != nil || string(data) != `{"kind":"b2b","questions":4}` {
		t.Errorf("EncodeSpec of a pointer = %s, %v", data, err)
	}
}

func untagged(jobs []simulation.Job) []simulation.Job {
	for i := range jobs {
		jobs[i].Tag = nil
	}
	return jobs
}

func TestDecodeSpecErrors(t *testing.T) {
	deep := strings.Repeat(`{"kind":"mix","parts":[`, 20) + `{"kind":"b2b"}` + strings.Repeat(`]}`, 20)
	for _, c := range [][]string{
		{``, "line 1, column 1: the document is empty, want a JSON object"},
		{`{`, "line 1, column 2: the document ends in the middle"},
		{`null`, "line 1, column 1: kind is missing"},
		{`[]`, "the document is [], want an object"},
		{`{}`, "kind is missing, want one of sharegpt, bursty, shared-prefix"},
		{`{"kind": 3}`, "kind is 3, want a string"},
		{`{"kind": "chat"}`, `kind is "chat", which is unknown; known are sharegpt`, "mooncake"},
		{`{"kind": "sharegpt", "rat": 3}`, "line 1, column 22: rat is not a field; the nearest is rate"},
		{`{"kind": "sharegpt", "rate": "3"}`, `line 1, column 22: rate is "3", want a number`},
		{`{"kind": "sharegpt", "input": {"kind": "fixed", "tokens": 1.5}}`, "line 1, column 49: input.tokens is 1.5, want an integer"},
		{`{"kind": "sharegpt", "rate": 3, "rate": 4}`, "line 1, column 33: rate is there twice, first at line 1, column 22"},
		{`{"kind": "sharegpt"} {}`, "after top-level value"},
		{`{"kind": "mix", "parts": [{"kind": "b2b"}, {"kind": "b2c"}]}`, `line 1, column 45: parts[1].kind is "b2c", which is unknown; the nearest is b2b`},
		{`{"kind": "mix", "parts": [], "x": 1}`, "line 1, column 30: x is not a field; known are parts"},
		{`{"kind": "criticality"}`, "line 1, column 1: workload is missing"},
		{`{"kind": "criticality", "workload": {"kind": "agentic", "turns": []}}`, "line 1, column 57: workload.turns is [], want a number"},
		{`{"kind": "criticality", "workload": null}`, "line 1, column 25: workload.kind is missing"},
		{deep, "more than 8 workloads inside each other"},
	} {
		s, err := simulation.DecodeSpec([]byte(c[0]))
		if err == nil {
			t.Errorf("DecodeSpec(%s) = %+v, want an error", c[0], s)
			continue
		}
		wantError(t, err, c[1:]...)
	}
	_, err := simulation.DecodeSpec([]byte(`{"kind": "mix", "parts": [{"kind": "?"}]}`))
	require.ErrorIs(t, err, simulation.ErrUnknownKind)
}

func TestValidateErrors(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		spec simulation.Spec
		want string
	}{
		{simulation.ShareGPT{Rate: -1}, "sharegpt: rate is -1"},
		{simulation.ShareGPT{CV: nan}, "sharegpt: cv is NaN"},
		{simulation.ShareGPT{Output: simulation.Length{Kind: "fixed"}}, "sharegpt: output: tokens"},
		{simulation.Bursty{Rate: nan}, "bursty: rate is NaN"},
		{simulation.SharedPrefix{Groups: -1}, "shared-prefix: groups is -1, want 1 to 1000000"},
		{simulation.SharedPrefix{SystemTokens: -1}, "shared-prefix: system_tokens is -1"},
		{simulation.SharedPrefix{Skew: nan}, "shared-prefix: skew is NaN"},
		{simulation.SharedPrefix{Question: simulation.Length{Kind: "x"}}, "shared-prefix: question: kind"},
		{simulation.B2B{Customers: 1e9}, "b2b: customers is 1000000000"},
		{simulation.B2B{Questions: -1}, "b2b: questions is -1"},
		{simulation.B2B{QuestionTokens: -1}, "b2b: question_tokens is -1"},
		{simulation.B2B{Vary: &simulation.Vary{Kind: "x"}}, "b2b: vary: kind is \"x\", want steps, sine or ramps"},
		{simulation.MultiLoRA{Shares: []float64{0.7, 0.7}}, "multi-lora: shares add up to 1.4"},
		{simulation.MultiLoRA{Shares: []float64{0, nan}}, "multi-lora: shares[1] is NaN"},
		{simulation.MultiLoRA{Adapters: 3, Shares: []float64{0}}, "multi-lora: adapters is 3 and shares has 1"},
		{simulation.MultiLoRA{Skew: 1}, "multi-lora: skew is 1 and base 0 without adapters"},
		{simulation.MultiLoRA{Adapters: 1, Base: 2}, "multi-lora: base is 2"},
		{simulation.Agentic{Turns: nan}, "agentic: turns is NaN"},
		{simulation.Agentic{MaxTurns: -1}, "agentic: max_turns is -1"},
		{simulation.Agentic{MaxPrompt: -1}, "agentic: max_prompt is -1"},
		{simulation.Agentic{Apps: -1}, "agentic: apps is -1"},
		{simulation.Agentic{Think: 1e9}, "agentic: think_s is 1e+09"},
		{simulation.Agentic{ThinkSigma: 9}, "agentic: think_sigma is 9"},
		{simulation.Agentic{Tool: simulation.Length{Kind: "fixed"}}, "agentic: tool: tokens"},
		{simulation.Criticality{}, "criticality: workload is missing"},
		{simulation.Criticality{Workload: simulation.B2B{Rate: -1}}, "criticality: workload: b2b: rate is -1"},
		{simulation.Criticality{Workload: simulation.B2B{}, Classes: []simulation.Class{{}}}, "criticality: classes[0]: share is 0"},
		{simulation.Criticality{Workload: simulation.B2B{}, Classes: []simulation.Class{{Share: 1, Tenants: -1}}}, "criticality: classes[0]: tenants is -1"},
		{simulation.Mix{}, "mix: number of parts is 0"},
		{simulation.Mix{Parts: []simulation.Spec{nil}}, "mix: parts[0] is missing"},
		{simulation.Mix{Parts: []simulation.Spec{simulation.B2B{}, simulation.Mix{}}}, "mix: parts[1]: mix: number of parts"},
		{&simulation.Mooncake{}, "mooncake: file is missing"},
		{&simulation.Mooncake{File: "testdata/none"}, "mooncake: file: stat testdata/none"},
		{&simulation.Mooncake{File: "testdata"}, "mooncake: file: testdata: not a regular file"},
		{&simulation.Mooncake{File: "x", Speed: -1}, "mooncake: speed is -1"},
		{&simulation.Mooncake{File: "x", From: nan}, "mooncake: from_s is NaN"},
		{&simulation.Mooncake{File: "x", Tick: nan}, "mooncake: tick_s is NaN"},
		{&simulation.Mooncake{File: "x", From: 5, To: 4}, "mooncake: to_s is 4"},
		{&simulation.Mooncake{File: "x", Minutes: "all"}, "mooncake: minutes is \"all\""},
		{&simulation.Mooncake{File: "x", MaxLines: -1}, "mooncake: max_lines is -1"},
		{&simulation.Mooncake{File: "testdata/mooncake.jsonl", MaxLines: 3}, "mooncake: testdata/mooncake.jsonl: more than 3 lines"},
		{&simulation.Mooncake{File: "testdata/mooncake.jsonl", From: 1000}, "mooncake: no records from 1000 s"},
		{&simulation.Azure{File: "testdata/azure.csv", From: 2, To: 30}, "azure: no records from 2 s to 30 s"},
		{&simulation.Azure{File: "testdata/mooncake.jsonl"}, "azure: testdata/mooncake.jsonl:1: "},
		{&simulation.LengthsCSV{}, "lengths: file is missing"},
		{&simulation.LengthsCSV{File: "x", Rate: -2}, "lengths: rate is -2"},
		{&simulation.LengthsCSV{File: "testdata/azure.csv"}, "lengths: testdata/azure.csv:1: wrong number of fields"},
	} {
		wantError(t, c.spec.Validate(), "simulation: ", c.want)
		// A run of it has no jobs, and no panic.
		src := c.spec.Start(1)
		if _, ok := src.Next(); ok {
			t.Errorf("%+v makes a job", c.spec)
		}
		if e, ok := src.(interface{ Err() error }); !ok || e.Err() == nil {
			t.Errorf("%T does not say why it makes no jobs", c.spec)
		}
		src.Done(&simulation.Job{}, 0, true)
	}
}

// foreign is a Spec from elsewhere.
type foreign struct{ simulation.Source }

func (foreign) Validate() error                  { return nil }
func (f foreign) Start(uint64) simulation.Source { return f.Source }

func TestForeignSpec(t *testing.T) {
	if r := simulation.Rate(foreign{}); r != 0 {
		t.Errorf("Rate = %v", r)
	}
	if _, err := simulation.WithRate(foreign{}, 3); !errors.Is(err, simulation.ErrNoRate) {
		t.Errorf("WithRate: %v, want ErrNoRate", err)
	}
	mix := simulation.Mix{Parts: []simulation.Spec{foreign{}, simulation.B2B{}}}
	if _, err := simulation.WithRate(mix, 3); !errors.Is(err, simulation.ErrNoRate) {
		t.Errorf("WithRate: %v, want ErrNoRate", err)
	}
	if _, err := simulation.WithRate(simulation.Criticality{Workload: foreign{}}, 3); !errors.Is(err, simulation.ErrNoRate) {
		t.Errorf("WithRate: %v, want ErrNoRate", err)
	}
	for _, s := range []simulation.Spec{foreign{}, mix, nil, (*simulation.Mooncake)(nil)} {
		if _, err := simulation.EncodeSpec(s); !errors.Is(err, simulation.ErrUnknownKind) {
			t.Errorf("EncodeSpec(%T): %v, want ErrUnknownKind", s, err)
		}
	}
}

func TestSpecFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	s, err := simulation.SpecFile(write("good.json", `{"kind": "b2b", "rate": 3}`))
	if err != nil || !reflect.DeepEqual(s, simulation.B2B{Rate: 3}) {
		t.Errorf("SpecFile = %+v, %v", s, err)
	}
	_, err = simulation.SpecFile(write("bad.json", `{"kind": "b2b", "rate": -3}`))
	wantError(t, err, "bad.json: b2b: rate is -3")
	_, err = simulation.SpecFile(write("worse.json", `{"kind": "b2b", "speed": 3}`))
	wantError(t, err, "worse.json: workload: line 1, column 17: speed is not a field; known are rate")
	_, err = simulation.SpecFile(dir)
	wantError(t, err, "not a regular file")
	_, err = simulation.SpecFile(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// What decodes is written as JSON that decodes to the same; what is valid makes
// jobs that make sense.
func FuzzDecodeSpec(f *testing.F) {
	for _, spec := range everyKind() {
		data, err := simulation.EncodeSpec(spec)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := simulation.DecodeSpec(data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "simulation: ") {
				t.Errorf("error %q", err)
			}
			return
		}
		one, err := simulation.EncodeSpec(s)
		require.NoError(t, err, "EncodeSpec after DecodeSpec(%q)", data)
		again, err := simulation.DecodeSpec(one)
		require.NoError(t, err, "DecodeSpec(%s)", one)
		if two, err := simulation.EncodeSpec(again); err != nil || string(one) != string(two) {
			t.Fatalf("%s became %s, %v", one, two, err)
		}
		if strings.Contains(string(one), `"file":`) || s.Validate() != nil {
			return
		}
		src := s.Start(1)
		var last time.Duration
		for range 20 {
			j, ok := src.Next()
			if !ok {
				break
			}
			checkJob(t, &j)
			if j.Arrival < last {
				t.Fatalf("%s: arrival at %v after %v", one, j.Arrival, last)
			}
			last = j.Arrival
			if next, ok := src.Done(&j, last, true); ok {
				checkJob(t, &next)
			}
		}
	})
}
