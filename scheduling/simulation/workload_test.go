package simulation_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// take returns the first n jobs of a run, or fewer if there are no more.
func take(s simulation.Source, n int) []simulation.Job {
	var jobs []simulation.Job
	for len(jobs) < n {
		j, ok := s.Next()
		if !ok {
			break
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// everyKind is one valid Spec of each kind, none of it default where it can be helped.
func everyKind() []simulation.Spec {
	vary := &simulation.Vary{Kind: simulation.VarySine, Amplitude: 0.5, Period: 60}
	steps := &simulation.Vary{Kind: simulation.VarySteps, Steps: []simulation.Step{{At: 1, Factor: 3}, {At: 2.5, Factor: 0.5}}}
	table := simulation.Length{Kind: simulation.LengthInverseCDF, Points: [][2]float64{{0, 1}, {0.5, 10}, {1, 100}}}
	return []simulation.Spec{
		simulation.ShareGPT{Rate: 3, CV: 2, Vary: vary, Input: table},
		simulation.Bursty{Rate: 7, Vary: steps, Output: simulation.Length{Kind: simulation.LengthFixed, Tokens: 9}},
		simulation.SharedPrefix{Rate: 20, Groups: 5, SystemTokens: 64, Skew: 1},
		simulation.B2B{Customers: 3, Questions: 2},
		simulation.MultiLoRA{Adapters: 10, Skew: 1, Base: 0.25, Prefix: "a"},
		simulation.MultiLoRA{Shares: []float64{0.5, 0.25}},
		simulation.Agentic{Rate: 2, Turns: 3, Think: -1}, simulation.RAG{Corpus: 50, Chunks: 4, Skew: -1},
		simulation.ImageChat{Rate: 2, Turns: 4, Addresses: .2, MinPixels: 100_000, Think: -1}, simulation.ImageChat{Skew: -1, Pictures: 1, Repeat: .9},
		simulation.Diffusion{Rate: 2, Sizes: []simulation.Size{{Width: 512, Height: 768}}, Steps: []simulation.Choice{{Value: 4, Share: 2}, {Value: 8}}, Unsized: .5},
		simulation.Video{Rate: 1, Frames: []simulation.Choice{{Value: 17}}}, simulation.Transcription{Rate: 3, Median: 20, Unsized: .1},
		simulation.Embeddings{Rate: 4, Items: simulation.Length{Kind: simulation.LengthFixed, Tokens: 9}},
		&simulation.Mooncake{File: "testdata/mooncake.jsonl", Speed: 2, Loop: true},
		&simulation.Azure{File: "testdata/azure.csv", Minutes: simulation.OddMinutes, Loop: true},
		&simulation.LengthsCSV{File: "testdata/lengths.csv", Rate: 4, Shuffle: true},
		simulation.Criticality{
			Workload: simulation.SharedPrefix{Rate: 5},
			Classes:  []simulation.Class{{Name: "gold", Share: 1, Priority: 5, Tenants: 3, Skew: 1, Patience: 2}, {Share: 2}},
		},
		simulation.Mix{Parts: []simulation.Spec{
			simulation.Agentic{}, simulation.ShareGPT{Rate: 2},
			simulation.Criticality{Workload: simulation.Agentic{Rate: 3}},
		}},
	}
}

func kindOf(t testing.TB, s simulation.Spec) string {
	data, err := simulation.EncodeSpec(s)
	require.NoError(t, err)
	var k struct{ Kind string }
	require.NoError(t, json.Unmarshal(data, &k))
	return k.Kind
}

// Every source gives jobs in order that make sense, the same ones for the same
// seed and others for another.
func TestSourceContract(t *testing.T) {
	for _, spec := range everyKind() {
		t.Run(kindOf(t, spec), func(t *testing.T) {
			require.NoError(t, spec.Validate())
			play := func(seed uint64) []simulation.Job {
				src := spec.Start(seed)
				var jobs []simulation.Job
				var last time.Duration
				for i := range 400 {
					j, ok := src.Next()
					if !ok {
						t.Fatalf("no job %d", i)
					}
					if j.Arrival < last || j.Arrival < 0 {
						t.Fatalf("job %d arrives at %v, after one at %v", i, j.Arrival, last)
					}
					last = j.Arrival
					jobs = append(jobs, j)
					for next, ok := src.Done(&j, j.Arrival+time.Second, i%7 != 0); ok; next, ok = src.Done(&j, j.Arrival+time.Second, true) {
						if next.Arrival < j.Arrival+time.Second {
							t.Fatalf("a job that follows arrives at %v, before %v", next.Arrival, j.Arrival+time.Second)
						}
						j = next
						jobs = append(jobs, j)
					}
				}
				for i := range jobs {
					checkJob(t, &jobs[i])
					jobs[i].Tag = nil // may point into the source
				}
				return jobs
			}
			one, again, other := play(1), play(1), play(2)
			if !reflect.DeepEqual(one, again) {
				t.Error("two runs with the same seed differ")
			}
			require.False(t, reflect.DeepEqual(one, other), "runs with different seeds are equal")
		})
	}
}

func checkJob(t *testing.T, j *simulation.Job) {
	t.Helper()
	whole := j.Work.Kind == types.Pools || j.Work.Kind == types.Denoises
	if (j.Output < 1) != whole || len(j.Content) == 0 || (j.Work.Kind == types.Denoises) != j.Work.Denoise.Known() {
		t.Fatalf("job %+v has no output or no content", j)
	}
	for _, s := range j.Content {
		if s.ID == 0 || s.Tokens < 1 {
			t.Fatalf("job %+v has a segment %+v", j, s)
		}
	}
}

// A change of one parameter leaves the draws of the others as they were.
func TestStreamsAreIndependent(t *testing.T) {
	base := simulation.SharedPrefix{Rate: 10, Skew: 1}
	want := take(base.Start(3), 500)
	faster := base
	faster.Rate, faster.CV = 20, 3
	for i, j := range take(faster.Start(3), 500) {
		if !reflect.DeepEqual(j.Content, want[i].Content) || j.Output != want[i].Output {
			t.Fatalf("another rate changed job %d", i)
		}
	}
	longer := base
	longer.Question = simulation.Length{Kind: simulation.LengthLogNormal, Median: 900, Sigma: 1}
	for i, j := range take(longer.Start(3), 500) {
		if j.Arrival != want[i].Arrival || j.Output != want[i].Output || j.Content[0] != want[i].Content[0] {
			t.Fatalf("another length of questions changed job %d elsewhere", i)
		}
	}
	for i, j := range take(simulation.Criticality{Workload: base}.Start(3), 500) {
		if !reflect.DeepEqual(j.Content, want[i].Content) || j.Arrival != want[i].Arrival {
			t.Fatalf("classes changed job %d", i)
		}
	}
}

func TestUniqueContent(t *testing.T) {
	seen := map[uint64]string{}
	mark := func(id uint64, what string) {
		if was, ok := seen[id]; ok && was != what {
			t.Fatalf("ID %x is content of %s and of %s", id, was, what)
		}
		seen[id] = what
	}
	done := map[string]bool{"mix": true, "criticality": true} // their parts come alone
	for _, spec := range everyKind() {
		kind := kindOf(t, spec)
		if done[kind] {
			continue
		}
		done[kind] = true
		for i, j := range take(spec.Start(1), 2000) {
			if len(j.Content) == 1 && kind != "mooncake" && seen[j.Content[0].ID] != "" {
				t.Fatalf("%s: job %d repeats content", kind, i)
			}
			for k, s := range j.Content {
				place := kind
				if kind != "mooncake" && kind != "rag" {
					place += fmt.Sprint("/", k)
				}
				mark(s.ID, place)
			}
		}
	}
}

func TestSharedPrefixShares(t *testing.T) {
	for _, skew := range []float64{0, 1} {
		const n, groups = 200_000, 50
		count := map[uint64]int{}
		tokens, out := 0, 0
		for _, j := range take(simulation.SharedPrefix{Groups: groups, Skew: skew}.Start(1), n) {
			if len(j.Content) != 2 || j.Content[0].Tokens != 4096 {
				t.Fatalf("content %v", j.Content)
			}
			count[j.Content[0].ID]++
			tokens += j.Content[1].Tokens
			out += j.Output
		}
		require.Len(t, count, groups, "groups")
		var got []int
		for _, c := range count {
			got = append(got, c)
		}
		slices.Sort(got)
		slices.Reverse(got)
		sum := 0.0
		for i := range groups {
			sum += math.Pow(float64(i+1), -skew)
		}
		for i := range groups {
			want := n * math.Pow(float64(i+1), -skew) / sum
			// Order statistics of equal shares spread by some three standard deviations.
			if d := math.Abs(float64(got[i]) - want); d > 5*math.Sqrt(want) {
				t.Errorf("skew %v: group %d came %d times, want %.0f", skew, i, got[i], want)
			}
		}
		// Clipping at 1 lifts the means a little.
		if m := float64(tokens) / n; m < 256 || m > 260 {
			t.Errorf("questions have a mean of %v tokens, want 256 to 260", m)
		}
		if m := float64(out) / n; m < 200 || m > 203 {
			t.Errorf("outputs have a mean of %v tokens, want 200 to 203", m)
		}
	}
}

func TestB2B(t *testing.T) {
	systems, whole := map[uint64]string{}, map[[2]uint64]bool{}
	for _, j := range take(simulation.B2B{}.Start(1), 20_000) {
		if j.Content[0].Tokens != 6000 || j.Content[1].Tokens != 1200 || j.Output != 1000 {
			t.Fatalf("job %+v", j)
		}
		if was := systems[j.Content[0].ID]; was != "" && was != j.Tenant {
			t.Fatalf("%s has the system prompt of %s", j.Tenant, was)
		}
		systems[j.Content[0].ID] = j.Tenant
		whole[[2]uint64{j.Content[0].ID, j.Content[1].ID}] = true
	}
	if len(systems) != 150 || len(whole) != 750 {
		t.Errorf("%d system prompts and %d prompts, want 150 and 750", len(systems), len(whole))
	}
}

func TestMultiLoRAShares(t *testing.T) {
	const n = 200_000
	count := func(m simulation.MultiLoRA) map[string]float64 {
		c := map[string]float64{}
		for _, j := range take(m.Start(1), n) {
			c[j.Adapter] += 1.0 / n
		}
		return c
	}
	near := func(c map[string]float64, name string, want float64) {
		t.Helper()
		if d := math.Abs(c[name] - want); d > 5*math.Sqrt(want/n) {
			t.Errorf("%q has a share of %v, want %v", name, c[name], want)
		}
	}
	c := count(simulation.MultiLoRA{})
	near(c, "lora-0", 0.12)
	near(c, "lora-4", 0.12)
	near(c, "lora-5", 0.06)
	near(c, "lora-14", 0.02)
	require.Len(t, c, 15, "adapters")
	c = count(simulation.MultiLoRA{Shares: []float64{0.5, 0.2}, Prefix: "x"})
	near(c, "x-0", 0.5)
	near(c, "x-1", 0.2)
	near(c, "", 0.3)
	m := simulation.MultiLoRA{Adapters: 100, Skew: 1, Base: 0.1}
	c = count(m)
	near(c, "", 0.1)
	near(c, "lora-0", 0.9/5.187)
	near(c, "lora-99", 0.9/518.7)
	if got := m.Names(); len(got) != 100 || got[99] != "lora-99" {
		t.Errorf("names %v", got)
	}
}

func TestCriticality(t *testing.T) {
	const n = 100_000
	prio := map[int]float64{}
	for _, j := range take(simulation.Criticality{Workload: simulation.ShareGPT{}}.Start(1), n) {
		prio[j.Priority] += 1.0 / n
	}
	for p, want := range map[int]float64{types.PriorityCritical: 0.2, types.PriorityStandard: 0.5, types.PrioritySheddable: 0.3} {
		if math.Abs(prio[p]-want) > 0.01 {
			t.Errorf("priority %d has a share of %v, want %v", p, prio[p], want)
		}
	}

	src := simulation.Criticality{
		Workload: simulation.Agentic{Turns: 20},
		Classes: []simulation.Class{
			{Name: "gold", Share: 3, Priority: 7, Tenants: 2, Patience: 1.5},
			{Share: 1, Tenants: 2},
		},
	}.Start(1)
	gold := 0
	for range 1000 {
		j, _ := src.Next()
		if strings.HasPrefix(j.Tenant, "gold-") != (j.Priority == 7) || (j.Priority == 7) != (j.Patience == 1500*time.Millisecond) {
			t.Fatalf("job %+v is half of a class", j)
		}
		if j.Priority == 7 {
			gold++
		}
		if next, ok := src.Done(&j, j.Arrival, true); ok && (next.Tenant != j.Tenant || next.Priority != j.Priority || next.Patience != j.Patience) {
			t.Fatalf("turn %+v follows %+v", next, j)
		}
	}
	if gold < 700 || gold > 800 {
		t.Errorf("%d of 1000 jobs are gold, want about 750", gold)
	}
}

// Prompts of a session extend each other, and sessions do not depend on what
// happens to others.
func TestAgentic(t *testing.T) {
	spec := simulation.Agentic{Rate: 5}
	src := spec.Start(1)
	apps := map[uint64]bool{}
	turns, sessions := 0, 3000
	var thinks []float64
	for range sessions {
		j, ok := src.Next()
		if !ok || len(j.Content) != 2 || j.Content[0].Tokens != 3008 || j.Session == "" {
			t.Fatalf("first turn %+v", j)
		}
		apps[j.Content[0].ID] = true
		n := 1
		for {
			at := j.Arrival + 3*time.Second
			next, ok := src.Done(&j, at, true)
			if !ok {
				break
			}
			if n++; n > 40 {
				t.Fatal("more than 40 turns")
			}
			m := len(j.Content)
			if !slices.Equal(next.Content[:m], j.Content) || len(next.Content) != m+2 {
				t.Fatalf("%v does not extend %v", next.Content, j.Content)
			}
			if got, want := next.Content[m], (simulation.Segment{ID: j.OutputID, Tokens: j.Output}); got != want || j.OutputID == 0 {
				t.Fatalf("turn has %v where the output before was %v", got, want)
			}
			if next.Session != j.Session {
				t.Fatalf("session %q became %q", j.Session, next.Session)
			}
			if next.Prompt() > 131_072 {
				t.Fatalf("prompt of %d tokens", next.Prompt())
			}
			thinks = append(thinks, (next.Arrival - at).Seconds())
			j = next
		}
		turns += n
	}
	require.Len(t, apps, 6, "applications")
	// 1 + a rounded exponential with mean 9, cut at 40: 9.9.
	if mean := float64(turns) / float64(sessions); mean < 9.3 || mean > 10.4 {
		t.Errorf("%v turns a session, want about 9.9", mean)
	}
	slices.Sort(thinks)
	if m := thinks[len(thinks)/2]; m < 1.9 || m > 2.1 {
		t.Errorf("median think time %v s, want 2", m)
	}

	// In another order, and with some that fail, sessions stay as they are.
	a, b := spec.Start(9), spec.Start(9)
	first, second := take(a, 2), take(b, 2)
	a0, _ := a.Done(&first[0], time.Second, true)
	if _, ok := b.Done(&second[1], time.Hour, false); ok {
		t.Error("a session goes on after a turn that was not served")
	}
	b0, _ := b.Done(&second[0], time.Second, true)
	if !reflect.DeepEqual(a0, b0) {
		t.Errorf("a session is %+v or %+v, depending on another", a0, b0)
	}
}

func TestMix(t *testing.T) {
	mix := simulation.Mix{Parts: []simulation.Spec{
		simulation.ShareGPT{Rate: 30},
		simulation.Agentic{Rate: 10},
		simulation.ShareGPT{Rate: 60},
	}}
	if r := simulation.Rate(mix); r != 100 {
		t.Errorf("Rate = %v, want 100", r)
	}
	src := mix.Start(1)
	var last time.Duration
	agents, followed := 0, 0
	for range 20_000 {
		j, _ := src.Next()
		if j.Arrival < last {
			t.Fatal("out of order")
		}
		last = j.Arrival
		next, ok := src.Done(&j, j.Arrival, true)
		if ok && j.Session == "" {
			t.Fatal("a job without a session goes on")
		}
		if j.Session != "" {
			agents++
			if ok {
				followed++
				if next.Session != j.Session {
					t.Fatal("the turn is of another session")
				}
				src.Done(&next, next.Arrival, true)
			}
		}
	}
	if agents < 1850 || agents > 2150 || followed < agents*8/10 {
		t.Errorf("%d of 20000 jobs are agents', want 2000; %d go on", agents, followed)
	}
	if rate := 20_000 / last.Seconds(); rate < 97 || rate > 103 {
		t.Errorf("%v jobs per second, want 100", rate)
	}
}

func TestWithRate(t *testing.T) {
	for _, spec := range everyKind() {
		t.Run(kindOf(t, spec), func(t *testing.T) {
			before, _ := simulation.EncodeSpec(spec)
			for _, rate := range []float64{0.5, 2, 40} {
				s, err := simulation.WithRate(spec, rate)
				require.NoError(t, err)
				if got := simulation.Rate(s); math.Abs(got-rate) > 1e-6*rate {
					t.Errorf("Rate(WithRate(%v)) = %v", rate, got)
				}
				require.NoError(t, s.Validate())
			}
			if after, _ := simulation.EncodeSpec(spec); !bytes.Equal(before, after) {
				t.Errorf("WithRate changed its argument from %s to %s", before, after)
			}
			for _, rate := range []float64{0, -1, math.NaN(), math.Inf(1), 1e9} {
				if _, err := simulation.WithRate(spec, rate); err == nil {
					t.Errorf("WithRate(%v) is no error", rate)
				}
			}
		})
	}
}

func TestSourceMemoryPerJob(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, c := range []struct {
		spec simulation.Spec
		most float64
	}{
		{simulation.ShareGPT{}, 1}, {simulation.Bursty{}, 1}, {simulation.SharedPrefix{}, 1}, {simulation.B2B{}, 1},
		{simulation.MultiLoRA{}, 1}, {simulation.Agentic{}, 3},
		{simulation.Criticality{Workload: simulation.ShareGPT{}}, 1},
		{simulation.Mix{Parts: []simulation.Spec{simulation.ShareGPT{}, simulation.B2B{}}}, 1},
	} {
		src := c.spec.Start(1)
		if got := testing.AllocsPerRun(1000, func() { src.Next() }); got > c.most {
			t.Errorf("%T: %v allocations a job, want at most %v", c.spec, got, c.most)
		}
	}
}

func BenchmarkSource(b *testing.B) {
	for _, spec := range []simulation.Spec{
		simulation.ShareGPT{}, simulation.Bursty{}, simulation.SharedPrefix{Skew: 1}, simulation.B2B{}, simulation.MultiLoRA{},
		simulation.Agentic{}, simulation.Criticality{Workload: simulation.ShareGPT{}},
		simulation.ShareGPT{Vary: &simulation.Vary{Kind: simulation.VarySine, Amplitude: 0.9, Period: 60}},
	} {
		name := "kind=" + kindOf(b, spec)
		if s, ok := spec.(simulation.ShareGPT); ok && s.Vary != nil {
			name += "/vary=sine"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			src := spec.Start(1)
			for b.Loop() {
				if _, ok := src.Next(); !ok {
					b.Fatal("no more jobs")
				}
			}
		})
	}
}
