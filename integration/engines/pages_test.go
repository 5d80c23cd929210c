package engines_test

import (
	"slices"
	"testing"

	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/integration/engines/vllm"
)

// The pages of a real engine, idle, with a full batch and a queue, asleep and with adapters.
func TestPages(t *testing.T) {
	named := exchanges(t)
	for _, tt := range []struct {
		name             string
		running, waiting float64
		awake            float64
		adapters         float64 // most of them; -1: unknown
		loaded           []string
	}{
		{"metrics-idle", 0, 0, 1, -1, nil},
		{"metrics-busy", vllm.Places, 5, 1, -1, nil},
		{"metrics-asleep", 0, 0, 0, -1, nil},
		{"metrics-adapter", 0, 0, 1, 2, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, page, err := named[tt.name].HTTPResponse()
			if err != nil {
				t.Fatal(err)
			}
			parser, err := scrape.NewParser(nil)
			if err != nil {
				t.Fatal(err)
			}
			m, engine, err := parser.Parse(page, "")
			if err != nil || engine != "vllm" {
				t.Fatalf("engine %q, %v", engine, err)
			}
			for _, f := range []struct {
				what      string
				got, want float64
			}{
				{"running", m.Running.Or(-1), tt.running},
				{"waiting", m.Waiting.Or(-1), tt.waiting},
				{"awake", m.Awake.Or(-1), tt.awake},
				{"adapters", m.MaxAdapters.Or(-1), tt.adapters},
				{"block size", m.BlockSize.Or(-1), vllm.BlockSize},
				{"blocks", m.NumBlocks.Or(-1), vllm.Blocks},
			} {
				if f.got != f.want {
					t.Errorf("%s = %g, want %g", f.what, f.got, f.want)
				}
			}
			if kv := m.KVUsage.Or(-1); kv < 0 || kv > 1 || (kv > 0) != (tt.running > 0) {
				t.Errorf("KV usage = %g with %g running", kv, tt.running)
			}
			if !m.StartedAt.IsKnown() {
				t.Error("start of the process is unknown")
			}
			if !slices.Equal(m.RunningAdapters, tt.loaded) {
				t.Errorf("running adapters = %q, want %q", m.RunningAdapters, tt.loaded)
			}
		})
	}
}
