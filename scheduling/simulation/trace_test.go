package simulation_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/stretchr/testify/require"
)

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// all returns every job of a source that ends.
func all(t testing.TB, s simulation.Spec, seed uint64) []simulation.Job {
	t.Helper()
	require.NoError(t, s.Validate())
	jobs := take(s.Start(seed), 100_000)
	if len(jobs) == 100_000 {
		t.Fatal("the source does not end")
	}
	return jobs
}

func prompts(jobs []simulation.Job) []int {
	var p []int
	for _, j := range jobs {
		p = append(p, j.Prompt())
	}
	return p
}

func TestMooncakeContent(t *testing.T) {
	m := &simulation.Mooncake{File: "testdata/mooncake.jsonl", Tick: -1}
	jobs := all(t, m, 1)
	if got, want := prompts(jobs), []int{1100, 512, 1536, 100, 600, 300}; !slices.Equal(got, want) {
		t.Fatalf("prompts of %v tokens, want %v", got, want)
	}
	a, b, c := jobs[0].Content, jobs[1].Content, jobs[2].Content
	if len(a) != 3 || a[0].Tokens != 512 || a[1].Tokens != 512 || a[2].Tokens != 76 {
		t.Errorf("blocks %v", a)
	}
	if a[0].ID != b[0].ID || a[0].ID != c[0].ID || a[1].ID != c[1].ID || a[2].ID == c[2].ID {
		t.Errorf("%v, %v and %v do not share what their hash_ids do", a, b, c)
	}
	var arrivals []time.Duration
	for _, j := range jobs {
		arrivals = append(arrivals, j.Arrival)
	}
	want := []time.Duration{0, 2, 5999, 63000, 66000, 121000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !slices.Equal(arrivals, want) {
		t.Errorf("arrivals %v, want %v", arrivals, want)
	}
	if jobs[0].Output != 20 || jobs[1].Output != 1 {
		t.Errorf("outputs %d and %d, want 20 and, for none, 1", jobs[0].Output, jobs[1].Output)
	}
}

func TestMooncakeTicks(t *testing.T) {
	path := writeFile(t, strings.Repeat(`{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1]}`+"\n", 300)+
		strings.Repeat(`{"timestamp": 2999, "input_length": 2, "output_length": 1, "hash_ids": [1]}`+"\n", 300)+
		strings.Repeat(`{"timestamp": 6001, "input_length": 3, "output_length": 1, "hash_ids": [1]}`+"\n", 300))
	jobs := all(t, &simulation.Mooncake{File: path}, 1)
	sum := 0.0
	for i, j := range jobs {
		if tick := j.Arrival / (3 * time.Second); int(tick) != i/300 || j.Prompt() != i/300+1 {
			t.Fatalf("job %d, of tick %d, arrives at %v", i, j.Prompt()-1, j.Arrival)
		}
		sum += (j.Arrival % (3 * time.Second)).Seconds() / 900
		if i > 0 && j.Arrival-jobs[i-1].Arrival > 200*time.Millisecond {
			t.Errorf("a gap of %v", j.Arrival-jobs[i-1].Arrival)
		}
	}
	if sum < 1.4 || sum > 1.6 {
		t.Errorf("jobs arrive %v s into their tick on average, want 1.5", sum)
	}
	if r := simulation.Rate(&simulation.Mooncake{File: path}); math.Abs(r-100) > 1e-9 {
		t.Errorf("Rate = %v, want 100", r)
	}
	// Another window does not move what it has in common with the whole.
	part := all(t, &simulation.Mooncake{File: path, From: 4, To: 7}, 1)
	var want []time.Duration
	for _, j := range jobs {
		if j.Arrival >= 4*time.Second && j.Arrival < 7*time.Second {
			want = append(want, j.Arrival-4*time.Second)
		}
	}
	var got []time.Duration
	for _, j := range part {
		got = append(got, j.Arrival)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d jobs in the window, want %d at the same times", len(got), len(want))
	}
}

func TestReplay(t *testing.T) {
	const file = "testdata/azure.csv" // at 0, 1.5, 90.25 and 130.0000001 s
	for _, c := range []struct {
		name string
		spec *simulation.Azure
		want []float64 // arrivals, seconds
		in   []int
	}{
		{"whole", &simulation.Azure{File: file}, []float64{0, 1.5, 90.25, 130.0000001}, []int{100, 200, 300, 400}},
		{"fast", &simulation.Azure{File: file, Speed: 2}, []float64{0, 0.75, 45.125, 65.00000005}, []int{100, 200, 300, 400}},
		{"window", &simulation.Azure{File: file, From: 1, To: 100}, []float64{0.5, 89.25}, []int{200, 300}},
		{"even", &simulation.Azure{File: file, Minutes: simulation.EvenMinutes}, []float64{0, 1.5, 70.0000001}, []int{100, 200, 400}},
		{"odd", &simulation.Azure{File: file, Minutes: simulation.OddMinutes}, []float64{30.25}, []int{300}},
		{"odd window", &simulation.Azure{File: file, Minutes: simulation.OddMinutes, From: 80, Speed: 0.5}, []float64{20.5}, []int{300}},
	} {
		t.Run(c.name, func(t *testing.T) {
			jobs := all(t, c.spec, 1)
			if got := prompts(jobs); !slices.Equal(got, c.in) {
				t.Fatalf("prompts %v, want %v", got, c.in)
			}
			for i, j := range jobs {
				if math.Abs(j.Arrival.Seconds()-c.want[i]) > 2e-9 {
					t.Errorf("job %d arrives at %v, want %v s", i, j.Arrival, c.want[i])
				}
			}
		})
	}
	// Both halves together are the whole.
	n := 0
	for _, minutes := range []string{simulation.EvenMinutes, simulation.OddMinutes} {
		n += len(all(t, &simulation.Azure{File: file, Minutes: minutes}, 1))
	}
	if n != 4 {
		t.Errorf("the halves have %d records, want 4", n)
	}
}

func TestReplayLoop(t *testing.T) {
	spec := &simulation.Azure{File: "testdata/azure.csv", Loop: true, Speed: 4}
	require.NoError(t, spec.Validate())
	jobs := take(spec.Start(1), 4000)
	ids := map[uint64]bool{}
	for i, j := range jobs {
		if ids[j.Content[0].ID] || i > 0 && j.Arrival < jobs[i-1].Arrival || j.Prompt() != 100*(i%4+1) {
			t.Fatalf("job %d is %+v", i, j)
		}
		ids[j.Content[0].ID] = true
	}
	if got, want := 4000/jobs[3999].Arrival.Seconds(), simulation.Rate(spec); math.Abs(got/want-1) > 0.01 {
		t.Errorf("%v jobs per second, but Rate is %v", got, want)
	}
	// Laps of a Mooncake share within themselves and not with each other.
	m := &simulation.Mooncake{File: "testdata/mooncake.jsonl", Loop: true}
	seen := map[uint64]int{}
	for i, j := range take(m.Start(1), 600) {
		if lap, ok := seen[j.Content[0].ID]; ok && lap != i/6 {
			t.Fatalf("job %d shares content with lap %d", i, lap)
		}
		seen[j.Content[0].ID] = i / 6
	}
	// A window so short that the spread empties most laps still ends or goes on.
	short := &simulation.Mooncake{File: "testdata/mooncake.jsonl", Loop: true, To: 0.001}
	require.NoError(t, short.Validate())
	take(short.Start(1), 5)
}

func TestTraceSortsLines(t *testing.T) {
	path := writeFile(t, `{"timestamp": 9000, "input_length": 600, "output_length": 2, "hash_ids": [3, 4]}
{"timestamp": 3000, "input_length": 5, "output_length": 1, "hash_ids": [5]}
`)
	jobs := all(t, &simulation.Mooncake{File: path, Tick: -1}, 1)
	if !slices.Equal(prompts(jobs), []int{5, 600}) || jobs[0].Arrival != 0 || jobs[1].Arrival != 6*time.Second || len(jobs[1].Content) != 2 {
		t.Errorf("jobs %+v", jobs)
	}
}

func TestLengthsCSV(t *testing.T) {
	spec := &simulation.LengthsCSV{File: "testdata/lengths.csv", Rate: 100}
	require.NoError(t, spec.Validate())
	for i, j := range take(spec.Start(1), 10) {
		if j.Prompt() != 10*(i%3+1) || j.Output != i%3+1 {
			t.Errorf("job %d is %+v", i, j)
		}
	}
	count := map[int]int{}
	for _, j := range take((&simulation.LengthsCSV{File: spec.File, Shuffle: true}).Start(1), 9000) {
		count[j.Prompt()]++
	}
	for _, p := range []int{10, 20, 30} {
		if count[p] < 2750 || count[p] > 3250 {
			t.Errorf("%d of 9000 prompts have %d tokens, want a third", count[p], p)
		}
	}
}

func TestTraceErrors(t *testing.T) {
	const good = `{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": [5]}` + "\n"
	for _, c := range []struct {
		kind, text, want string
	}{
		{"mooncake", "", ": no records"},
		{"mooncake", good + "{", ":2:2: the document ends in the middle of a JSON value"},
		{"mooncake", good + "\n[]", ":3:1: the document is [], want an object"},
		{"mooncake", `{"input_length": 5, "output_length": 1, "hash_ids": [5]}`, ":1: timestamp is missing"},
		{"mooncake", `{"timestamp": 1, "output_length": 1, "hash_ids": [5]}`, ":1: input_length is missing"},
		{"mooncake", `{"timestamp": 1, "input_length": 1, "hash_ids": [5]}`, ":1: output_length is missing"},
		{"mooncake", `{"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": [5]}`, ":1: timestamp is -1"},
		{"mooncake", `{"timestamp": 1, "input_length": 0, "output_length": 1, "hash_ids": []}`, ":1: input_length is 0"},
		{"mooncake", `{"timestamp": 1, "input_length": "1", "output_length": 1, "hash_ids": []}`, `:1:18: input_length is "1", want an integer`},
		{"mooncake", `{"timestamp": 1, "input_length": 1, "output_length": -1, "hash_ids": [1]}`, ":1: output_length is -1"},
		{"mooncake", `{"timestamp": 1, "input_length": 513, "output_length": 1, "hash_ids": [1]}`, ":1: hash_ids has 1 entries, want 2"},
		{"mooncake", `{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [-1]}`, ":1:70: hash_ids[0] is -1, want an integer from 0 to 18446744073709551615"},
		{"mooncake", strings.Repeat(" ", 5<<20), ":1: longer than"},
		{"azure", "", ": no records"},
		{"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n", ": no records"},
		{"azure", "TIMESTAMP,ContextTokens\n", ":1: column GeneratedTokens is missing"},
		{"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", ":2: TIMESTAMP is \"yesterday\""},
		{"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,x,1\n", ":2: ContextTokens is \"x\", want a whole number"},
		{"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,1,-1\n", ":2: GeneratedTokens is -1"},
		{"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,1\n", ":2: wrong number of fields"},
		{"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,1,1\n1824-01-01 00:00:00,1,1\n", ":3: TIMESTAMP is \"1824-01-01 00:00:00\", more than"},
		{"lengths", "", ": no records"},
		{"lengths", "1,2\n3,x\n", ":2: column 2 (tokens out) is \"x\""},
		{"lengths", "in,out\n0,1\n", ":2: column 1 (tokens in) is 0"},
		{"lengths", "in1,out\n", ":1: column 1 (tokens in) is \"in1\""},
		{"lengths", "1,2,3\n", ":1: wrong number of fields"},
	} {
		path := writeFile(t, c.text)
		var spec simulation.Spec
		switch c.kind {
		case "mooncake":
			spec = &simulation.Mooncake{File: path}
		case "azure":
			spec = &simulation.Azure{File: path}
		case "lengths":
			spec = &simulation.LengthsCSV{File: path}
		}
		wantError(t, spec.Validate(), "simulation: "+c.kind+": "+path+c.want)
	}
	if err := (&simulation.Azure{File: "testdata/none"}).Validate(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v is not os.ErrNotExist", err)
	}
}

// A trace is read once, then runs share it, also from several goroutines and at
// other rates.
func TestTraceIsReadOnce(t *testing.T) {
	data, err := os.ReadFile("testdata/mooncake.jsonl")
	require.NoError(t, err)
	path := writeFile(t, string(data))
	m := &simulation.Mooncake{File: path, Loop: true}
	require.NoError(t, m.Validate())
	require.NoError(t, os.Remove(path))
	faster, err := simulation.WithRate(m, 50)
	require.NoError(t, err)
	want := take(m.Start(1), 100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := take(m.Start(1), 100); !reflect.DeepEqual(got, want) {
				t.Error("runs differ")
			}
			jobs := take(faster.Start(1), 100)
			if r := simulation.Rate(faster); math.Abs(r-50) > 1e-9 || len(jobs) != 100 {
				t.Errorf("%d jobs at rate %v", len(jobs), r)
			}
		})
	}
	wg.Wait()
}

// publicTrace returns the path of a public trace, which is no part of the module.
func publicTrace(t *testing.T, parts ...string) string {
	dir := os.Getenv("INFERPICK_TRACES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "traces")
	}
	path := filepath.Join(append([]string{dir}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no trace there (INFERPICK_TRACES names the folder): %v", err)
	}
	return path
}

func TestPublicMooncake(t *testing.T) {
	m := &simulation.Mooncake{File: publicTrace(t, "mooncake", "conversation_trace.jsonl")}
	jobs := all(t, m, 1)
	require.Len(t, jobs, 12_031, "jobs")
	if r := simulation.Rate(m); math.Abs(r-3.40) > 0.01 {
		t.Errorf("%v jobs per second, want 3.40", r)
	}
	in, out, hit := 0.0, 0.0, 0.0
	seen := map[uint64]bool{}
	var gaps []float64
	for i, j := range jobs {
		in, out = in+float64(j.Prompt()), out+float64(j.Output)
		known := true
		for _, s := range j.Content {
			if known = known && seen[s.ID]; known {
				hit += float64(s.Tokens)
			}
			seen[s.ID] = true
		}
		if i > 0 {
			gaps = append(gaps, (j.Arrival - jobs[i-1].Arrival).Seconds())
		}
	}
	if m := in / 12_031; math.Abs(m-12_035) > 1 {
		t.Errorf("prompts have a mean of %v tokens, want 12035", m)
	}
	if m := out / 12_031; math.Abs(m-343) > 1 {
		t.Errorf("outputs have a mean of %v tokens, want 343", m)
	}
	if h := hit / in; h < 0.36 || h > 0.38 {
		t.Errorf("an endless cache has %v of the tokens, want 0.374", h)
	}
	if cv := cvOf(gaps); cv < 0.9 || cv > 1.2 {
		t.Errorf("gaps have a cv of %v: bursts where ticks were", cv)
	}
	even := all(t, &simulation.Mooncake{File: m.File, Minutes: simulation.EvenMinutes}, 1)
	odd := all(t, &simulation.Mooncake{File: m.File, Minutes: simulation.OddMinutes}, 1)
	if len(even)+len(odd) != 12_031 || len(even) < 5500 || len(odd) < 5500 {
		t.Errorf("%d jobs in even and %d in odd minutes", len(even), len(odd))
	}
}

func TestPublicAzure(t *testing.T) {
	a := &simulation.Azure{File: publicTrace(t, "azure-2023", "AzureLLMInferenceTrace_conv.csv")}
	jobs := all(t, a, 1)
	require.Len(t, jobs, 19_366, "jobs")
	if r := simulation.Rate(a); math.Abs(r-5.53) > 0.01 {
		t.Errorf("%v jobs per second, want 5.53", r)
	}
	var gaps, in []float64
	for i, j := range jobs {
		in = append(in, float64(j.Prompt()))
		if i > 0 {
			gaps = append(gaps, (j.Arrival - jobs[i-1].Arrival).Seconds())
		}
	}
	if cv := cvOf(gaps); math.Abs(cv-1.09) > 0.01 {
		t.Errorf("gaps have a cv of %v, want 1.09", cv)
	}
	slices.Sort(in)
	if p50, p90 := in[len(in)/2], in[len(in)*9/10]; math.Abs(p50-1020) > 2 || math.Abs(p90-2735) > 5 {
		t.Errorf("prompts have percentiles %v and %v, want 1020 and 2735", p50, p90)
	}
}

func cvOf(v []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, x := range v {
		sum, squares = sum+x, squares+x*x
	}
	mean := sum / float64(len(v))
	return math.Sqrt(squares/float64(len(v))-mean*mean) / mean
}
