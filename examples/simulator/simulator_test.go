package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

const profileJSON = `{
  "plugins": [{"type": "queue-scorer"}, {"type": "max-score-picker"}],
  "schedulingProfiles": [{"name": "queue", "plugins": [{"pluginRef": "queue-scorer"}, {"pluginRef": "max-score-picker"}]}]
}`

// file writes a file for a test and returns its path.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// small is a run of a second or less.
func small(more ...string) []string {
	return append([]string{"-workload", "sharegpt", "-policy", "random,least-req,classic-223", "-replicas", "2", "-duration", "10s", "-seeds", "2"}, more...)
}

func TestParseFlagsErrors(t *testing.T) {
	engineFile := file(t, "engine.json", "{\n\"MaxSeqs\": \"many\"}")
	unknownField := file(t, "unknown.json", `{"MaxSequences": 5}`)
	badProfile := file(t, "profile.json", `{"plugins": [{"type": "no-such-scorer"}]}`)
	spec := file(t, "spec.json", `{"kind": "shared-prefix", "groups": -4}`)
	trace := file(t, "trace.jsonl", "{\"timestamp\": 0, \"input_length\": 10, \"output_length\": 5, \"hash_ids\": [1]}\n{\"timestamp\": \"x\"}\n")
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"hello"}, `unexpected argument "hello"`},
		{[]string{"-nonsense"}, "nonsense"},
		{[]string{"-workload", "chatty"}, `-workload: "chatty" is unknown, want one of sharegpt`},
		{[]string{"-workload", "mooncake:"}, "names no file"},
		{[]string{"-workload", "mooncake:/no/such/trace"}, "/no/such/trace"},
		{[]string{"-workload", "mooncake:" + trace}, "trace.jsonl:2"},
		{[]string{"-workload", "file:" + spec}, "groups"},
		{[]string{"-policy", "fastest"}, `-policy: policies: unknown policy "fastest"`},
		{[]string{"-policy", ""}, "-policy"},
		{[]string{"-policy", "random,random"}, "twice"},
		{[]string{"-profile", "/no/such/profile.json"}, "-profile"},
		{[]string{"-profile", badProfile}, `no-such-scorer`},
		{[]string{"-engine", "abacus"}, `-engine: "abacus" is unknown; known are llama-2-7b-h100`},
		{[]string{"-engine", engineFile}, "engine.json:2:1: MaxSeqs is \"many\", want an integer"},
		{[]string{"-engine", unknownField}, "MaxSequences"},
		{[]string{"-replicas", "0"}, "-replicas is 0, want 1 to 1000"},
		{[]string{"-gateways", "-1"}, "-gateways is -1"},
		{[]string{"-share-loss", "1.1", "-share"}, "-share-loss is 1.1, want 0 to 1"},
		{[]string{"-share-delay", "-1s", "-share"}, "-share-delay is -1s, want 0s to 1m0s"},
		{[]string{"-share-every", "1ms", "-share"}, "-share-every is 1ms, want 10ms to 10s"},
		{[]string{"-share-jitter", "1h", "-share"}, "-share-jitter is 1h0m0s"},
		{[]string{"-share-jitter", "1s"}, "-share-jitter goes with -share, or with one of the policies default+sharing"},
		{[]string{"-gateways", "3", "-shares", "1,2"}, "-shares has 2 numbers, want one for each of the 3"},
		{[]string{"-gateways", "2", "-shares", "1,0"}, `-shares: "0", want numbers above 0`},
		{[]string{"-suite", "s.json", "-share"}, "-share does not go with -suite"},
		{[]string{"-clients", "-1"}, "-clients is -1"},
		{[]string{"-clients", "5", "-rate", "3"}, "-clients is a closed loop"},
		{[]string{"-scrape", "-1s"}, "-scrape is -1s"},
		{[]string{"-duration", "0"}, "-duration is 0s"},
		{[]string{"-duration", "1m", "-warmup", "1m"}, "-warmup is 1m0s"},
		{[]string{"-seeds", "0"}, "-seeds is 0"},
		{[]string{"-seed", "-1"}, "seed"},
		{[]string{"-rate", "0"}, `-rate: "0", want numbers above 0`},
		{[]string{"-rate", "5,,6"}, `-rate: ""`},
		{[]string{"-load", "0.5,NaN"}, `-load: "NaN"`},
		{[]string{"-load", "0.5,0.5"}, "-load: 0.5 is there twice"},
		{[]string{"-load", "0.5", "-rate", "3"}, "-load and -rate exclude each other"},
		{[]string{"-show", "dynamo", "-policy", "random"}, `-show is "dynamo", want one of the policies that are played: random`},
		{[]string{"-explain", "-3"}, "-explain is -3"},
		{[]string{"-json", "/no/such/dir/x.json"}, "there is no directory /no/such/dir"},
		{[]string{"-html", t.TempDir()}, "is a directory"},
		{[]string{"-json", "-", "-csv", "-"}, "stdout"},
		{[]string{"-anchors", "-rate", "3"}, "-rate does not go with -anchors"},
		{[]string{"-overload", "-rate", "3"}, "-rate does not go with -overload"},
		{[]string{"-admission", "x.json"}, "-admission is for -overload"},
		{[]string{"-overload", "-admission", "nothing.json"}, "-admission: open nothing.json"},
		{[]string{"-overload", "-admission", "testdata/bad-admission.json"}, `bands[0].ceiling`},
		{[]string{"-suite", "s.json", "-html", "x"}, "-html does not go with -suite"},
		{[]string{"-suite", "s.json", "-trace", "mooncake"}, `-trace: "mooncake", want NAME=FILE`},
		{[]string{"-prefill", "3", "-decode", "8", "-replicas", "10"}, "-prefill is 3 and -decode 8, want at least 0, and together at most the 10"},
		{[]string{"-prefill", "10", "-replicas", "10"}, "none would answer"},
		{[]string{"-decode", "10"}, "none would compute prompts for others"},
		{[]string{"-both", "-link", "0"}, "-link is 0"},
		{[]string{"-link", "100"}, "-link goes with -prefill, -decode or -both"},
		{[]string{"-suite", "s.json", "-prefill", "2"}, "-prefill does not go with -suite"},
		{[]string{"-quick"}, "-quick"},
		{[]string{"-svg", "x"}, "are for -suite"},
		{[]string{"-records", "x"}, "are for -suite"},
		{[]string{"-suite", "s.json", "-fresh", "default"}, "-fresh goes with -records"},
		{[]string{"-suite", "s.json", "-capacity", "mine"}, `-capacity is "mine", want suite or own`},
		{[]string{"-capacity", "own"}, "are for -suite"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, err := parseFlags(tt.args)
			if err == nil || errors.Is(err, pflag.ErrHelp) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("parseFlags(%q) = %v, want an error with %q", tt.args, err, tt.want)
			}
			var stdout, stderr bytes.Buffer
			if code := command(t.Context(), tt.args, &stdout, &stderr); code != exitUsage || stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), "simulator: ") {
				t.Errorf("command(%q) = %d, stdout %q, stderr %q", tt.args, code, &stdout, &stderr)
			}
		})
	}
}

func TestParseFlags(t *testing.T) {
	engineFile := file(t, "engine.json", `{"MaxSeqs": 7}`)
	profile := file(t, "mine.json", profileJSON)
	trace := file(t, "trace.jsonl", "{\"timestamp\": 0, \"input_length\": 10, \"output_length\": 5, \"hash_ids\": [1]}\n{\"timestamp\": 3000, \"input_length\": 10, \"output_length\": 5, \"hash_ids\": [1]}\n")
	tests := []struct {
		args  []string
		check func(config) bool
	}{
		{nil, func(c config) bool {
			return c.replicas == 10 && slices.Equal(c.loads, defaultLoads()) && c.html == defaultHTML && c.warmup == c.duration/4 &&
				slices.Equal(names(c.policies), defaultPolicies()) && c.spec.(simulation.SharedPrefix).Skew == 1
		}},
		{[]string{"-json"}, func(c config) bool { return c.json == "-" && c.html == "" }},
		{[]string{"-json", "-cpu"}, func(c config) bool { return c.json == "-" && c.cpu }},
		{[]string{"-json", "-"}, func(c config) bool { return c.json == "-" }},
		{[]string{"-json", "out.json", "-html", "x.html"}, func(c config) bool { return c.json == "out.json" && c.html == "x.html" }},
		{[]string{"-html", ""}, func(c config) bool { return c.html == "" && strings.Contains(c.command, "-html '' -seed 1") }},
		{[]string{"-gateways", "3", "-shares", "2,1,1", "-sticky", "-share", "-share-delay", "0s", "-share-loss", "0.1"}, func(c config) bool {
			return slices.Equal(c.shares, []float64{2, 1, 1}) && c.sticky && c.sharing.Delay < 0 && c.sharing.Lost == .1 && c.tells() && c.policies[0].Sharer != nil &&
				strings.HasSuffix(c.fleet(), ", 3 gateways with shares 2,1,1, each session at one, telling each other every 100ms, in 0s, 10 % lost, metrics read every 50ms")
		}},
		{[]string{"-policy", "default,default+sharing", "-share-jitter", "20ms"}, func(c config) bool {
			return c.policies[0].Sharer == nil && c.tells() && c.sharing.Jitter == 20*time.Millisecond
		}},
		{[]string{"-rate", "20, 5"}, func(c config) bool { return slices.Equal(c.rates, []float64{5, 20}) && c.loads == nil }},
		{[]string{"-seed", "7", "-seeds", "3"}, func(c config) bool { return slices.Equal(c.seeds, []uint64{7, 8, 9}) }},
		{[]string{"-engine", engine.Qwen3H100x2().Name}, func(c config) bool { return c.engine.Calibration.Name == engine.Qwen3H100x2().Name }},
		{[]string{"-engine", engineFile}, func(c config) bool { return c.engine.MaxSeqs == 7 }},
		{[]string{"-policy", "all"}, func(c config) bool { return len(c.policies) == len(policies.All()) }},
		{[]string{"-policy", "random", "-profile", profile}, func(c config) bool {
			return slices.Equal(names(c.policies), []string{"random", profile + "#queue"})
		}},
		{[]string{"-policy", "", "-profile", profile}, func(c config) bool { return len(c.policies) == 1 }},
		{[]string{"-workload", "mooncake:" + trace}, func(c config) bool { return c.loads == nil && c.rates == nil }},
		{[]string{"-prefill", "2", "-decode", "6", "-link", "100"}, func(c config) bool {
			base := c.baseConfig()
			return c.replicas == 8 && base.Fleet.Replicas[1].Role == "prefill" && base.Fleet.Replicas[2].Role == "decode" && base.Links.BytesPerSecond == 12.5e9
		}},
		{[]string{"-prefill", "1", "-replicas", "3"}, func(c config) bool {
			return c.replicas == 3 && c.baseConfig().Fleet.Replicas[2].Role == "prefill-decode"
		}},
		{[]string{"-both"}, func(c config) bool { return c.baseConfig().Fleet.Replicas[0].Role == "prefill-decode" }},
		{nil, func(c config) bool { return c.baseConfig().Fleet.Replicas[0].Role == "" }},
		{[]string{"-scrape", "0"}, func(c config) bool { return c.baseConfig().Scrape.Period < 0 }},
		{[]string{"-suite", "s.json", "-quick"}, func(c config) bool { return c.suite == "s.json" && c.quick && !c.own && c.seeds == nil }},
		{[]string{"-suite", "s.json", "-capacity", "own"}, func(c config) bool { return c.own }},
		{[]string{"-suite", "s.json", "-tuning", "-records", "r", "-fresh", "a,b"}, func(c config) bool {
			return c.tuning && c.records == "r" && slices.Equal(c.fresh, []string{"a", "b"})
		}},
	}
	for _, tt := range tests {
		c, err := parseFlags(tt.args)
		if err != nil || !tt.check(c) {
			t.Errorf("parseFlags(%q) = %+v, %v", tt.args, c, err)
		}
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := command(t.Context(), []string{"-h"}, &stdout, &stderr); code != exitOK || stderr.Len() > 0 {
		t.Errorf("-h = %d, stderr %q", code, &stderr)
	}
	for _, want := range append(workloadNames(), "-policy", "-suite", "lmetric", "llama-3.1-8b-h100") {
		require.Contains(t, stdout.String(), want)
	}
	for line := range strings.Lines(stdout.String()) {
		if len([]rune(strings.TrimSuffix(line, "\n"))) > 80 {
			t.Errorf("a line of -h is wider than 80 columns: %q", line)
		}
	}
}

// The same flags give the same bytes, on however many cores.
func TestOutputsAreDeterministic(t *testing.T) {
	play := func(procs int) (table, js, cs, page string) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		dir := t.TempDir()
		t.Chdir(dir)
		var stdout, stderr bytes.Buffer
		args := small("-rate", "4,8", "-json", "o.json", "-csv", "o.csv", "-html", "o.html")
		if code := command(t.Context(), args, &stdout, &stderr); code != exitOK {
			t.Fatalf("exit code %d: %s", code, &stderr)
		}
		read := func(name string) string {
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			return string(data)
		}
		return strings.ReplaceAll(stdout.String(), dir, ""), read("o.json"), read("o.csv"), read("o.html")
	}
	table, js, cs, page := play(1)
	table2, js2, cs2, page2 := play(4)
	if js != js2 {
		t.Errorf("the JSON differs between two runs:\n%s\n%s", js, js2)
	}
	if table != table2 || cs != cs2 || page != page2 {
		t.Error("the table, CSV or page differs between two runs")
	}

	t.Run("table", func(t *testing.T) {
		for _, want := range []string{"sharegpt: 2 x llama-3.1-8b-h100", "4 requests/s", "8 requests/s", "classic-223", "seeds 1 to 2", "±"} {
			require.Contains(t, table, want)
		}
	})
	t.Run("json", func(t *testing.T) {
		var reports []struct {
			Workload, Policy       string
			Seed                   uint64
			Rate                   float64
			Arrived, Completed     int
			TTFT, TPOT, NTPOT, E2E struct{ Mean, P50, P90, P99 float64 }
			Decision               *struct{}
		}
		require.NoError(t, json.Unmarshal([]byte(js), &reports))
		if len(reports) != 2*3*2 {
			t.Fatalf("%d reports, want 12", len(reports))
		}
		r := reports[7]
		if r.Policy != "random" || r.Seed != 2 || r.Rate != 8 || r.Workload != "sharegpt" || r.Completed != r.Arrived || r.Arrived == 0 {
			t.Errorf("report 7 = %+v, want random, seed 2, at 8 requests/s", r)
		}
		for _, d := range []struct{ Mean, P50, P90, P99 float64 }{r.TTFT, r.TPOT, r.NTPOT, r.E2E} {
			if !(d.Mean > 0 && d.P50 > 0 && d.P50 <= d.P90 && d.P90 <= d.P99) {
				t.Errorf("percentiles %+v are not in order", d)
			}
		}
		if r.Decision != nil {
			t.Error("decision times without -cpu")
		}
	})
	t.Run("csv", func(t *testing.T) {
		rows, err := csv.NewReader(strings.NewReader(cs)).ReadAll() // all of the same length
		if err != nil || len(rows) != 13 || rows[0][1] != "policy" || rows[1][1] != "random" || rows[12][2] != "2" {
			t.Errorf("CSV = %v, %v", rows, err)
		}
	})
	t.Run("page", func(t *testing.T) {
		count := parse(t, page)
		if count["svg"] != 6+2 || count["table"] < 6+2+2+1 {
			t.Errorf("the page has %d plots and %d tables", count["svg"], count["table"])
		}
		for _, want := range []string{"simulated", "-rate 4,8", "-seed 1", `class="chosen"`, "classic-223"} {
			require.Contains(t, page, want)
		}
		for _, not := range []string{"<script", "src=", "http://", "NaN", "+Inf"} {
			if strings.Contains(page, not) {
				t.Errorf("the page has %q", not)
			}
		}
	})
}

// parse checks that elements end in the order in which they began, and counts them.
func parse(t *testing.T, page string) map[string]int {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	count := map[string]int{}
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return count
		}
		require.NoError(t, err, "the page")
		if e, ok := tok.(xml.StartElement); ok {
			count[e.Name.Local]++
		}
	}
}

func TestJSONToStdoutIsJSONAlone(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := small("-rate", "5", "-policy", "random", "-json", "-cpu")
	if code := command(t.Context(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	var reports []record
	if err := json.Unmarshal(stdout.Bytes(), &reports); err != nil || len(reports) != 2 || reports[0].Decision == nil {
		t.Errorf("stdout = %s, %v; want 2 reports with decision times", &stdout, err)
	}
	require.Contains(t, stderr.String(), "decision")
}

func TestLoadIsAFractionOfCapacity(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := []string{"-workload", "sharegpt", "-policy", "least-req", "-replicas", "1", "-duration", "10s", "-seeds", "1", "-load", "0.5,1", "-json", "-"}
	cfg, err := parseFlags(args)
	require.NoError(t, err)
	cfg.core.capacity = func(_ context.Context, c simulation.Config) (float64, error) {
		if len(c.Fleet.Replicas) != 1 {
			t.Errorf("capacity is asked of %d replicas, want 1", len(c.Fleet.Replicas))
		}
		return 12, nil
	}
	if code := run(t.Context(), cfg, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	var reports []record
	if err := json.Unmarshal(stdout.Bytes(), &reports); err != nil || len(reports) != 2 {
		t.Fatalf("stdout = %s, %v", &stdout, err)
	}
	if reports[0].Load != 0.5 || reports[0].Rate != 6 || reports[1].Rate != 12 {
		t.Errorf("loads and rates = %v %v, %v; want 0.5 at 6 and 1 at 12", reports[0].Load, reports[0].Rate, reports[1].Rate)
	}
	require.Contains(t, stderr.String(), "12 requests/s")
}

// A trace ends; the capacity of a fleet for it does not depend on when.
func TestCapacityOfATrace(t *testing.T) {
	line := `{"timestamp": 1000, "input_length": 10, "output_length": 5, "hash_ids": [1]}` + "\n"
	trace := file(t, "trace.jsonl", strings.Replace(line, "1000", "0", 1)+line)
	for _, tt := range []struct {
		workload string
		want     bool
	}{{"mooncake:" + trace, true}, {"sharegpt", false}} {
		cfg, err := parseFlags([]string{"-workload", tt.workload, "-load", "1"})
		require.NoError(t, err)
		cfg.core.capacity = func(_ context.Context, c simulation.Config) (float64, error) {
			m, ok := c.Workload.(*simulation.Mooncake)
			if ok != tt.want || ok && !m.Loop {
				t.Errorf("capacity for %s is measured with %+v", tt.workload, c.Workload)
			}
			return 1, nil
		}
		if _, _, err := cfg.levels(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestNothingCountedIsSaid(t *testing.T) {
	trace := file(t, "trace.jsonl", `{"timestamp": 0, "input_length": 10, "output_length": 5, "hash_ids": [1]}`+"\n")
	var stdout, stderr bytes.Buffer
	args := []string{"-workload", "mooncake:" + trace, "-policy", "random,least-req", "-replicas", "1", "-warmup", "1m", "-html", filepath.Join(t.TempDir(), "o.html")}
	if code := command(t.Context(), args, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "no requests after -warmup") {
		t.Errorf("exit code %d, stderr %s, table:\n%s", code, &stderr, &stdout)
	}
}

func TestOverloadHasATableOfItsOwn(t *testing.T) {
	page := filepath.Join(t.TempDir(), "o.html")
	var stdout, stderr bytes.Buffer
	args := []string{"-workload", "sharegpt", "-policy", "random,least-req", "-replicas", "1", "-duration", "20s", "-seeds", "1", "-rate", "200", "-html", page}
	if code := command(t.Context(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	for _, want := range []string{"random !", "! overload", "1 of 1"} {
		require.Contains(t, stdout.String(), want)
	}
	data, err := os.ReadFile(page)
	if err != nil || !bytes.Contains(data, []byte(`id="h-over"`)) {
		t.Errorf("the page has no table of overload: %v", err)
	}
	parse(t, string(data))
}

// Where nothing has a first token, neither table nor page speaks of one.
func TestDiffusionHasNoFirstTokens(t *testing.T) {
	page := filepath.Join(t.TempDir(), "d.html")
	var stdout, stderr bytes.Buffer
	args := []string{"-workload", "diffusion", "-engine", "qwen-image-h100", "-policy", "least-req,llmd-diffusion", "-replicas", "2", "-duration", "10m", "-seeds", "1", "-rate", "0.06", "-html", page}
	if code := command(t.Context(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	require.Contains(t, stdout.String(), "2 x qwen-image-h100")
	require.Contains(t, stdout.String(), "latency p50 s")
	data, err := os.ReadFile(page)
	require.NoError(t, err)
	require.NotContains(t, stdout.String(), "TTFT")
	for _, text := range []string{"TTFT p50", "Time to first token, p", "the time to first token is lowest"} {
		require.False(t, bytes.Contains(data, []byte(text)), text)
	}
	parse(t, string(data))
	if code := command(t.Context(), append(args, "-both"), &stdout, &stderr); code != exitUsage {
		t.Errorf("exit code %d with -both", code)
	}
}

// A profile that is declared in a file is played as a policy, anew in each run.
func TestProfileIsPlayed(t *testing.T) {
	profile := file(t, "mine.json", profileJSON)
	var stdout, stderr bytes.Buffer
	args := small("-policy", "", "-profile", profile, "-rate", "5", "-json", "-")
	if code := command(t.Context(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	require.Contains(t, stdout.String(), profile+"#queue")
}

// What cannot be played is said once, with the first run it happened to, and the
// rest is written.
func TestFailedRuns(t *testing.T) {
	cfg, err := parseFlags(small("-rate", "5", "-json", "-"))
	require.NoError(t, err)
	real := cfg.core.run
	cfg.core.run = func(ctx context.Context, c simulation.Config) (*simulation.Report, error) {
		switch c.Policy.Name {
		case "least-req":
			return nil, errors.New("simulation: too long")
		case "random":
			if c.Seed == 2 {
				panic("a plugin's mistake")
			}
		}
		return real(ctx, c)
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), cfg, &stdout, &stderr); code != exitError {
		t.Errorf("exit code %d, want %d", code, exitError)
	}
	for _, want := range []string{"policy least-req, seed 1, 5 requests/s (and 1 more runs): simulation: too long", "policy random, seed 2", "a plugin's mistake"} {
		require.Contains(t, stderr.String(), want)
	}
	var reports []record
	if err := json.Unmarshal(stdout.Bytes(), &reports); err != nil || len(reports) != 3 {
		t.Errorf("%d reports, %v; want the 3 that were made", len(reports), err)
	}
}

// A fleet that cannot serve the workload at all is said to be impossible.
func TestImpossibleFleet(t *testing.T) {
	engineFile := file(t, "small.json", `{"Blocks": 10}`)
	var stdout, stderr bytes.Buffer
	args := []string{"-engine", engineFile, "-policy", "random", "-rate", "5", "-duration", "5s", "-html", ""}
	if code := command(t.Context(), args, &stdout, &stderr); code != exitError || !strings.Contains(stderr.String(), "impossible") {
		t.Errorf("exit code %d, stderr %s", code, &stderr)
	}
}

// After Ctrl-C what has ended is written.
func TestStopped(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cfg, err := parseFlags(small("-rate", "5", "-json", "-"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	real, played := cfg.core.run, 0
	cfg.core.run = func(ctx context.Context, c simulation.Config) (*simulation.Report, error) {
		if played++; played == 3 {
			cancel()
		}
		return real(ctx, c)
	}
	var stdout, stderr bytes.Buffer
	if code := run(ctx, cfg, &stdout, &stderr); code != exitError || !strings.Contains(stderr.String(), "stopped; 4 of 6 runs had not ended") {
		t.Errorf("exit code %d, stderr %s", code, &stderr)
	}
	var reports []record
	if err := json.Unmarshal(stdout.Bytes(), &reports); err != nil || len(reports) != 2 {
		t.Errorf("%d reports, %v; want the 2 that had ended", len(reports), err)
	}
}

func TestValueString(t *testing.T) {
	for _, tt := range []struct {
		v    value
		want string
	}{
		{value{0, 0, 1}, "0"}, {value{0.01234, 0, 1}, "0.012"}, {value{1.234, 0, 1}, "1.23"}, {value{12.34, 0, 1}, "12.3"},
		{value{123.4, 0, 1}, "123"}, {value{12345.6, 0, 1}, "12346"}, {value{12.34, 0.56, 3}, "12.3 ±0.6"}, {value{0, 0, 2}, "0 ±0"},
	} {
		require.Equal(t, tt.want, tt.v.String(), "%+v.String()", tt.v)
	}
}

func TestPercentDone(t *testing.T) {
	for part, want := range map[float64]string{0: "0 %", 0.25: "25 %, about 30s left", 1: "100 %, about 0s left"} {
		require.Equal(t, want, percentDone(part, 10*time.Second), "percentDone(%v)", part)
	}
}

// The page hides a policy by its color, so no two may have the same, nor that of
// the grid.
func TestColorsDiffer(t *testing.T) {
	seen := map[string]bool{hex(gridColor()): true, "#000000": true}
	for i := range 200 {
		if c := hex(colorOf(i)); seen[c] {
			t.Errorf("color %d, %s, is there twice", i, c)
		} else {
			seen[c] = true
		}
	}
}

func TestTimeTicks(t *testing.T) {
	var labels []string
	for _, tick := range (timeTicks{}).Ticks(0.02, 3) {
		labels = append(labels, tick.Label)
	}
	if got, want := strings.Join(labels, " "), "20 ms 50 ms 100 ms 200 ms 500 ms 1 s 2 s"; got != want {
		t.Errorf("ticks = %s, want %s", got, want)
	}
}
