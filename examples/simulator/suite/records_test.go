package suite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/examples/simulator/suite"
	"github.com/stretchr/testify/require"
)

// A suite that was played before gives the same table without playing anything, but
// for the policies that are to be fresh.
func TestRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("many simulated runs")
	}
	path := filepath.Join(t.TempDir(), "runs.jsonl")
	with := func(fresh ...string) (table string, lines int) {
		t.Helper()
		records, err := suite.OpenRecords(path, fresh)
		require.NoError(t, err)
		_, table = play(t, suite.Options{Records: records})
		require.NoError(t, records.Close())
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		return table, strings.Count(string(data), "\n")
	}
	_, plain := play(t, suite.Options{})
	first, played := with()
	if first != plain {
		t.Errorf("with records the table is another:\n%s\nwithout:\n%s", first, plain)
	}
	// One capacity, and three cases of three policies with two seeds.
	if played != 1+3*3*2 {
		t.Errorf("%d runs were recorded, want 19", played)
	}
	again, after := with()
	if again != plain || after != played {
		t.Errorf("the second time %d runs were played, and the table is the same: %t", after-played, again == plain)
	}
	if again, after := with("random"); again != plain || after != played+3*2 {
		t.Errorf("with one policy fresh %d runs were played, and the table is the same: %t, want 6 and true", after-played, again == plain)
	}
}

func TestRecordsErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "runs.jsonl")
	require.NoError(t, os.WriteFile(path, []byte("{}\n{\"case\": 3}\n"), 0o644))
	if _, err := suite.OpenRecords(path, nil); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("OpenRecords of a bad line = %v, want its number", err)
	}
	if _, err := suite.OpenRecords(dir, nil); err == nil {
		t.Error("OpenRecords of a folder = nil error")
	}
}

func TestTuningNeedsSeeds(t *testing.T) {
	s, err := suite.Parse([]byte(small))
	require.NoError(t, err)
	chosen := policiesOf(t, "random")
	if _, err := suite.Run(t.Context(), s, chosen, suite.Options{Tuning: true}); err == nil || !strings.Contains(err.Error(), "tuning.seeds") {
		t.Errorf("Run = %v, want an error that names tuning.seeds", err)
	}
}
