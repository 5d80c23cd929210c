package scrape

import (
	"encoding/json"
	"errors"
	"github.com/stretchr/testify/require"
	"os"
	"path/filepath"
	"testing"
)

// FuzzModels: what is taken for a list of models is one, within the bounds. It is in the
// package, as what a Scraper does beside reading it differs from run to run.
func FuzzModels(f *testing.F) {
	for _, file := range []string{"v1_models.json", "v1_models_lora.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"data":[{"id":"\ud800"},{"id":"a"},{"id":"a"}]}`))
	f.Add([]byte(`{"data":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		names, err := parseModels(body)
		if (err == nil) != (names != nil) || err != nil && !errors.Is(err, ErrNoModels) || len(names) > maxModels {
			t.Fatalf("%d names, %v", len(names), err)
		}
		for _, name := range names {
			if name == "" || len(name) > maxModelName {
				t.Errorf("a name of %d bytes", len(name))
			}
		}
		var any map[string]json.RawMessage
		if err == nil && json.Unmarshal(body, &any) != nil {
			t.Errorf("%q is taken for a list", body)
		}
	})
}
