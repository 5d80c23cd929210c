package promtext_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/promtext"
)

// quirk matches what expfmt accepts by oversight and nothing writes: a quote in
// the middle of a name, as in fo"o", and braces without a metric name in them,
// which it takes for one more sample of the metric before.
var quirk = regexp.MustCompile(`(?m)^[ \t]*[a-zA-Z0-9_:]*"|[,{][ \t]*[a-zA-Z0-9_]+"|^[ \t]*\{[ \t]*(\}|[^,}]*=)`)

// oracle returns the samples of the page by metric name, in order, as expfmt
// reads them: labels, value, timestamp. ok is false if expfmt refuses the page
// or panics.
// The samples of histograms and summaries are left out, as expfmt merges them;
// their names are in merged.
func oracle(page []byte) (samples map[string][]string, merged []string, ok bool) {
	defer func() {
		if recover() != nil { // braces without a name, which this version trips over
			ok = false
		}
	}()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return nil, nil, false
	}
	samples = map[string][]string{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			var v float64
			switch family.GetType().String() {
			case "COUNTER":
				v = m.GetCounter().GetValue()
			case "GAUGE":
				v = m.GetGauge().GetValue()
			case "UNTYPED":
				v = m.GetUntyped().GetValue()
			default:
				merged = append(merged, name)
				continue
			}
			var b strings.Builder
			for _, l := range m.GetLabel() {
				fmt.Fprintf(&b, "%q=%q,", l.GetName(), l.GetValue())
			}
			fmt.Fprintf(&b, " %v", v)
			if m.TimestampMs != nil {
				fmt.Fprintf(&b, " @%d", m.GetTimestampMs())
			}
			samples[name] = append(samples[name], b.String())
		}
	}
	return samples, merged, true
}

// compare scans the page for every name that expfmt found in it, and for some
// that it did not.
func compare(t *testing.T, page []byte) {
	t.Helper()
	want, merged, ok := oracle(page)
	names := []string{"vllm:num_requests_waiting", "up", "a"}
	for name := range want {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	set := promtext.NewSet(names...)
	var s promtext.Scanner
	s.Reset(set, page)
	got := map[string][]string{}
	for s.Next() {
		var b strings.Builder
		for l := s.Labels(); l.Next(); {
			fmt.Fprintf(&b, "%q=%q,", l.Name(), l.Value())
			if v, ok := s.Label(string(l.Name())); !ok {
				t.Errorf("Label(%q) = %q, false although the sample has it", l.Name(), v)
			}
		}
		fmt.Fprintf(&b, " %v", s.Value())
		if ms, ok := s.Timestamp(); ok {
			fmt.Fprintf(&b, " @%d", ms)
		}
		name := set.Name(s.Index())
		got[name] = append(got[name], b.String())
	}
	if !ok || quirk.Match(page) {
		return // what expfmt refuses, Scanner may refuse or read
	}
	if err := s.Err(); err != nil {
		t.Fatalf("scan of %q: %v, but expfmt accepts the page", page, err)
	}
	for _, name := range names {
		if slices.ContainsFunc(merged, func(m string) bool { return strings.HasPrefix(name, m) }) {
			continue
		}
		if !slices.Equal(got[name], want[name]) {
			t.Errorf("samples of %q in %q = %q, expfmt has %q", name, page, got[name], want[name])
		}
	}
}

func TestOracle(t *testing.T) {
	files, err := filepath.Glob("testdata/*.prom")
	if err != nil || len(files) < 8 {
		t.Fatalf("pages = %v, %v", files, err)
	}
	for _, file := range files {
		page, err := os.ReadFile(file)
		require.NoError(t, err)
		if _, _, ok := oracle(page); !ok {
			t.Errorf("expfmt refuses %s", file)
		}
		compare(t, page)
	}
}

// FuzzScan: on a page that expfmt accepts, Scanner finds the same samples; on
// any other it ends.
func FuzzScan(f *testing.F) {
	for _, page := range []string{
		"up 1\n", "up{a=\"b\"} 1 12\n", "{\"my.metric\",a=\"b\"} 1\n", "{a=\"b\",up} 1\n", "up{\"a.b\"=\"\\\\\\\"\\n\",} -1.5e3\n",
		"# HELP up x\n# TYPE up gauge\nup +Inf\nupper 2\nup NaN\n", "up-1\nup.5 6\n", "a{b=\"c\"} 1\na{b=\"d\"} 2\naa 3\n",
		"# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n", "up 1 # {x=\"y\"} 1\n# EOF\n", "up 123456789012345678 1.5\n",
		"up", "up{", "{", "{}", "up{a=\"b\n", "\"up\" 1\n", "# TYPE x counter\nx 1e400\n",
	} {
		f.Add([]byte(page))
	}
	f.Fuzz(func(t *testing.T, page []byte) { compare(t, page) })
}
