package scaling

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/scalers"
	"github.com/inferpick/inferpick/internal/strictjson"
)

func laws(t *testing.T, names ...string) (all []scalers.Law) {
	t.Helper()
	for _, name := range names {
		l, err := scalers.ByName(name)
		require.NoError(t, err)
		l.Targets = nil // that which is shipped alone
		all = append(all, l)
	}
	return all
}

// The same again, to the last digit: once played, and once from the records.
func TestRunRepeats(t *testing.T) {
	s, err := Load("testdata/small.json")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "records")
	play := func(records bool) string {
		o := Options{Seeds: []uint64{3}, Laws: laws(t, "queue+running", "token backlog")}
		if records {
			o.Records, err = OpenRecords(file)
			require.NoError(t, err)
			defer o.Records.Close()
		}
		r, err := Run(context.Background(), s, o)
		require.NoError(t, err)
		require.Len(t, r.Cases, 2)
		for _, c := range r.Cases {
			require.Positive(t, c.Need)
			for _, l := range c.Laws {
				for _, p := range l.Points {
					require.Positive(t, p.Hours)
					require.LessOrEqual(t, p.Attainment, 1.)
					require.NotEmpty(t, p.Timeline)
				}
			}
		}
		require.Equal(t, 1., r.Cases[1].Laws[0].AsShipped().ColdStarts, "it begins with no replica")
		var b strings.Builder
		require.NoError(t, r.Write(&b))
		return b.String()
	}
	first := play(false)
	require.Contains(t, first, "queue+running")
	require.Equal(t, first, play(true))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotEmpty(t, data)
	require.Equal(t, first, play(true))
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, data, after, "nothing is played that was played")
}

func TestBadSuites(t *testing.T) {
	good, err := os.ReadFile("testdata/small.json")
	require.NoError(t, err)
	for _, c := range []struct{ old, new, want string }{
		{`"max": 8`, `"max": 0`, "max is 0"},
		{`"start": 2`, `"start": 0`, "start is 0"},
		{`"name": "on and off"`, `"name": "step"`, "name is"},
		{`"ttft": "3s", `, ``, "slo is missing"},
		{`"warmup": "3m"`, `"warmup": "30m"`, "warmup"},
		{`llama-3-70b-4xh100`, `x`, "unknown"},
		{`"kind": "sharegpt"`, `"kind": "x"`, `case "step"`},
		{`"seeds": [1, 2]`, `"seeds": []`, "seeds"},
		{`"cases": ["step"]`, `"cases": ["x"]`, "quick.cases"},
		{`"seeds": 1`, `"seeds": 3`, "quick.seeds"},
		{`"about"`, `"abaut"`, "abaut"},
	} {
		s := new(Suite)
		err := strictjson.Decode([]byte(strings.Replace(string(good), c.old, c.new, 1)), s, strictjson.Options{})
		if err == nil {
			err = s.check()
		}
		require.ErrorContains(t, err, c.want)
	}
	_, err = Load("testdata/nothing.json")
	require.ErrorContains(t, err, "nothing.json")
	_, err = Load("../suite/autoscaling.json")
	require.NoError(t, err, "the suite")
}

func TestBadRecords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "records")
	require.NoError(t, os.WriteFile(file, []byte("nonsense\n"), 0o600))
	_, err := OpenRecords(file)
	require.ErrorContains(t, err, file)
}
