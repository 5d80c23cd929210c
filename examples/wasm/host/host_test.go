package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	"github.com/inferpick/inferpick/examples/wasm/host"
	"github.com/inferpick/inferpick/examples/wasm/picker"
)

const path = "/v1/chat/completions"

var (
	module []byte
	cache  wazero.CompilationCache
)

// TestMain builds the guest, which takes a minute where nothing is built yet.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "picker")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "picker.wasm")
		build := exec.Command("go", "build", "-buildmode=c-shared", "-o", file, "../guest")
		build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-buildvcs=false")
		if out, err := build.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("go build of the guest: %v\n%s", err, out))
		}
		if module, err = os.ReadFile(file); err != nil {
			panic(err)
		}
		if cache, err = wazero.NewCompilationCacheWithDir(filepath.Join(dir, "compiled")); err != nil {
			panic(err)
		}
		defer cache.Close(context.Background())
		return m.Run()
	}())
}

// clock is one that only the test moves.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time { return c.now }

func open(t testing.TB, o host.Options) *host.Guest {
	t.Helper()
	o.Cache = cache
	g, err := host.Open(context.Background(), module, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close(context.Background())) })
	return g
}

// readings are those of n servers, of which the later are the busier.
func readings(n int, at time.Time) []picker.Reading {
	all := make([]picker.Reading, n)
	for i := range all {
		waiting, running, usage := 0.0, float64(i), 0.1+float64(i%5)/10
		all[i] = picker.Reading{
			ID: fmt.Sprintf("pod-%d", i), Address: fmt.Sprintf("10.0.0.%d:8000", i),
			At: at, Waiting: &waiting, Running: &running, KVUsage: &usage,
		}
	}
	return all
}

func body(prompt string) []byte {
	text, err := json.Marshal(prompt)
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, `{"model":"tiny","messages":[{"role":"user","content":%s}]}`, text)
}

// In WebAssembly the same is decided as natively, over readings, first tokens and ends.
func TestSameAsNative(t *testing.T) {
	ctx, clock := t.Context(), newClock()
	g := open(t, host.Options{Seed: 7, Now: clock.Now})
	native := picker.New(7, clock.Now)
	var open []uint32
	used := map[int]int{}
	for i := range 400 {
		clock.now = clock.now.Add(20 * time.Millisecond)
		if i%10 == 0 {
			r := readings(8, clock.now)[i/200:] // one goes
			require.NoError(t, g.SetEndpoints(ctx, r))
			require.NoError(t, native.SetEndpoints(r))
		}
		request := body(strings.Repeat(fmt.Sprintf("conversation %d ", i%17), 200) + fmt.Sprint(i))
		table, err := g.Explain(ctx, path, request)
		require.NoError(t, err)
		wantTable, err := native.Explain(path, request)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(wantTable, table))
		choice, err := g.Schedule(ctx, path, request)
		require.NoError(t, err)
		want, err := native.Schedule(path, request)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(want, choice), "request %d", i)
		require.Len(t, choice.Fallbacks, 2)
		used[choice.Endpoint]++
		open = append(open, choice.Ticket)
		if len(open) > 10 {
			require.NoError(t, g.FirstToken(ctx, open[9]))
			native.FirstToken(open[9])
			end := picker.End{Ticket: open[0], Status: 200, CachedTokens: -1, OutputTokens: 100}
			require.NoError(t, g.Done(ctx, end))
			native.Done(end)
			open = open[1:]
		}
	}
	require.Greater(t, len(used), 4, "the choice hardly depends on anything: %v", used)
	require.Equal(t, len(open), native.Open())
}

// What is under way counts, until it is reported done; a server that fails is left alone.
func TestReports(t *testing.T) {
	ctx, clock := t.Context(), newClock()
	g := open(t, host.Options{Seed: 1, Now: clock.Now})
	two := readings(2, time.Time{}) // of which nothing was read
	require.NoError(t, g.SetEndpoints(ctx, two))
	counts := [2]int{}
	var tickets []uint32
	for i := range 10 {
		choice, err := g.Schedule(ctx, path, body(fmt.Sprintf("question %d", i)))
		require.NoError(t, err)
		counts[choice.Endpoint]++
		tickets = append(tickets, choice.Ticket)
	}
	require.Equal(t, [2]int{5, 5}, counts)
	for _, ticket := range tickets {
		require.NoError(t, g.Done(ctx, picker.End{Ticket: ticket, Status: 200}))
		require.NoError(t, g.Done(ctx, picker.End{Ticket: ticket, Status: 200})) // counts once
	}
	choice, err := g.Schedule(ctx, path, body("hello"))
	require.NoError(t, err)
	require.NoError(t, g.Done(ctx, picker.End{Ticket: choice.Ticket, Result: picker.Failed}))
	for i := range 10 {
		next, err := g.Schedule(ctx, path, body(fmt.Sprintf("question %d", i)))
		require.NoError(t, err)
		require.NotEqual(t, choice.Endpoint, next.Endpoint)
	}
	table, err := g.Explain(ctx, path, body("hello"))
	require.NoError(t, err)
	require.Contains(t, table, two[choice.Endpoint].ID)
	require.Contains(t, strings.ToLower(table), "ejection")
}

func TestErrors(t *testing.T) {
	ctx := t.Context()
	g := open(t, host.Options{})
	_, err := g.Schedule(ctx, path, body("hello"))
	require.ErrorContains(t, err, "no endpoint")
	require.NoError(t, g.SetEndpoints(ctx, readings(1, time.Now())))
	require.ErrorContains(t, g.SetEndpoints(ctx, append(readings(1, time.Now()), readings(1, time.Now())...)), "10.0.0.0:8000")
	_, err = g.Schedule(ctx, path, []byte(`{"model": 1}`))
	require.ErrorContains(t, err, "model")
	_, err = g.Schedule(ctx, path, nil)
	require.Error(t, err)
	require.NoError(t, g.FirstToken(ctx, 99))
	require.NoError(t, g.Done(ctx, picker.End{Ticket: 99}))
	_, err = g.Schedule(ctx, path, body("hello"))
	require.NoError(t, err, "it works after all that")
}

// Memory is bounded, whatever prompts come; and a guest may be called by many goroutines.
func TestMemory(t *testing.T) {
	const most = 48
	ctx := t.Context()
	_, err := host.Open(ctx, module, host.Options{MaxMemory: 1, Cache: cache})
	require.Error(t, err, "it does not begin with less than it needs")
	g := open(t, host.Options{MaxMemory: most})
	require.NoError(t, g.SetEndpoints(ctx, readings(10, time.Now())))
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 200 {
				prompt := strings.Repeat(fmt.Sprintf("%d of %d ", i, worker), 4000)
				choice, err := g.Schedule(ctx, path, body(prompt))
				if err == nil {
					err = g.Done(ctx, picker.End{Ticket: choice.Ticket, Status: 200})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, g.Memory(), most<<20)
	t.Logf("%d MiB after 800 prompts of 40 KB", g.Memory()>>20)
}

// BenchmarkWasm compares a decision in WebAssembly, and what it takes to get it over the
// border, with one made natively: go test -bench . ./host
func BenchmarkWasm(b *testing.B) {
	ctx := context.Background()
	request := body(strings.Repeat("0123456789abcdef", 2048))
	for _, n := range []int{10, 100} {
		b.Run(fmt.Sprintf("native/endpoints=%d", n), func(b *testing.B) {
			p := picker.New(1, time.Now)
			if err := p.SetEndpoints(readings(n, time.Now())); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				choice, err := p.Schedule(path, request)
				if err != nil {
					b.Fatal(err)
				}
				p.Done(picker.End{Ticket: choice.Ticket, Status: 200})
			}
		})
		b.Run(fmt.Sprintf("wasm/endpoints=%d", n), func(b *testing.B) {
			g := open(b, host.Options{Seed: 1})
			if err := g.SetEndpoints(ctx, readings(n, time.Now())); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				choice, err := g.Schedule(ctx, path, request)
				if err != nil {
					b.Fatal(err)
				}
				if err := g.Done(ctx, picker.End{Ticket: choice.Ticket, Status: 200}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
