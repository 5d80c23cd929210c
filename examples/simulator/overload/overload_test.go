package overload_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/inferpick/inferpick/examples/simulator/overload"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/stretchr/testify/require"
)

const chat = "chat, 64 places"

func run(t *testing.T, o overload.Options) (*overload.Result, string) {
	t.Helper()
	r, err := overload.Run(t.Context(), o)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, r.Write(&out))
	return r, out.String()
}

// In an overloaded fleet critical requests are served as if it were not, standard ones
// are told apart from sheddable ones, and no more is lost than without any control.
func TestOverload(t *testing.T) {
	if testing.Short() {
		t.Skip("plays six runs")
	}
	last := 0.0
	o := overload.Options{Quick: true, Only: []string{chat}, Progress: func(done float64, _ string) { last = done }}
	r, text := run(t, o)
	if last != 1 {
		t.Errorf("progress ended at %v", last)
	}
	rows := map[string]map[float64]overload.Row{}
	for _, row := range r.Scenarios[0].Rows {
		if rows[row.Control] == nil {
			rows[row.Control] = map[float64]overload.Row{}
		}
		rows[row.Control][row.Load] = row
	}
	none, reference, ours := rows["none"], rows["reference"], rows["inferpick"]
	if none[1.5].Throughput == 0 || reference[1.5].Throughput == 0 || ours[1.5].Throughput == 0 {
		t.Fatalf("not all controls were played:\n%s", text)
	}
	if a, b := ours[1.5].Classes[0].TTFT, ours[0.5].Classes[0].TTFT; a > 1.5*b {
		t.Errorf("critical TTFT p90 is %.3f s at 150 %% and %.3f s at 50 %%", a, b)
	}
	for _, load := range []float64{0.5, 1.5} {
		if a, b := ours[load].Goodput, none[load].Goodput; a < b {
			t.Errorf("goodput at %v is %v, without control %v", load, a, b)
		}
		if a, b := ours[load].Throughput, none[load].Throughput; a < 0.95*b {
			t.Errorf("throughput at %v is %v, without control %v", load, a, b)
		}
	}
	standard, sheddable := ours[1.5].Classes[1], ours[1.5].Classes[2]
	if standard.Served < sheddable.Served+0.2 {
		t.Errorf("%v of standard requests were served at 150 %%, %v of sheddable ones", standard.Served, sheddable.Served)
	}
	for _, want := range []string{chat, "reference", "inferpick", "150 %"} {
		require.Contains(t, text, want)
	}
	if _, again := run(t, overload.Options{Quick: true, Only: []string{chat}}); again != text {
		t.Errorf("a second time:\n%s\nthe first time:\n%s", again, text)
	}
}

func TestMoreControls(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("plays eight runs")
	}
	r, _ := run(t, overload.Options{Quick: true, Only: []string{chat}, More: map[string]func() admission.Options{
		"mine": func() admission.Options {
			return admission.Options{Detector: admission.Concurrency{Requests: 8}}
		},
	}})
	found := false
	for _, row := range r.Scenarios[0].Rows {
		found = found || row.Control == "mine" && row.Throughput > 0
	}
	require.True(t, found, "a control of one's own was not played")
}

func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := overload.Run(ctx, overload.Options{Quick: true}); err == nil {
		t.Error("Run with a context that is done gave no error")
	}
}

func TestBadTrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace.csv")
	for _, text := range []string{"", "req_time_s,client,prompt_tokens,output_tokens\n", "req_time_s,client,prompt_tokens,output_tokens\n1,a,x,2\n", "a,b\n1,2\n"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := overload.PlayFairness(t.Context(), overload.Options{VTC: file, Seeds: []uint64{1}}, 0.01)
		require.ErrorContains(t, err, file)
	}
}

// Tenants that all have requests waiting are served alike, however much one asks for; in
// order of arrival they are not.
func TestFairness(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("plays ten runs, each in one goroutine")
	}
	list, err := overload.PlayFairness(t.Context(), overload.Options{Seeds: []uint64{101}}, 0.15)
	require.NoError(t, err)
	for _, f := range list {
		first := f.Rows[0]
		for _, r := range f.Rows[1:3] {
			if r.Apart > r.Bound+r.Misjudged {
				t.Errorf("%s, %s: tenants are %.0f tokens apart, want at most %.0f and %.0f", f.Name, r.Control, r.Apart, r.Bound, r.Misjudged)
			}
			if r.Control == "virtual-tokens" && r.Apart > r.VTC {
				t.Errorf("%s: tenants are %.0f tokens apart, want at most VTC's %.0f", f.Name, r.Apart, r.VTC)
			}
			if first.Apart < 1.5*r.Apart {
				t.Errorf("%s: tenants are %.0f tokens apart in order of arrival, %.0f with %s: is there anything to be fair about?", f.Name, first.Apart, r.Apart, r.Control)
			}
		}
	}
	rows := list[0].Rows
	if vtc, alone := rows[1], rows[3]; vtc.WellBehaved > 1.6*alone.WellBehaved {
		t.Errorf("TTFT p90 of tenants within their share is %.3f s beside one that is not, %.3f s without", vtc.WellBehaved, alone.WellBehaved)
	}
}
