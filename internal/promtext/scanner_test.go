package promtext_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/internal/promtext"
	"github.com/stretchr/testify/require"
)

// picked is one sample as text: index, labels, value and timestamp.
func picked(t *testing.T, set *promtext.Set, page string) (samples []string, err error) {
	t.Helper()
	var s promtext.Scanner
	s.Reset(set, []byte(page))
	for s.Next() {
		var b strings.Builder
		fmt.Fprintf(&b, "%s", set.Name(s.Index()))
		for l := s.Labels(); l.Next(); {
			fmt.Fprintf(&b, " %s=%q", l.Name(), l.Value())
		}
		fmt.Fprintf(&b, " %v", s.Value())
		if ms, ok := s.Timestamp(); ok {
			fmt.Fprintf(&b, " @%d", ms)
		}
		samples = append(samples, b.String())
	}
	return samples, s.Err()
}

func TestScan(t *testing.T) {
	set := promtext.NewSet("up", "vllm:num_requests_waiting", "my.metric")
	tests := []struct {
		name, page string
		want       []string
	}{
		{"empty page", "", nil},
		{"no newline after a comment", "# EOF", nil},
		{"plain", "up 1\n", []string{"up 1"}},
		{"blanks around", " \t up \t 1 \t\n", []string{"up 1"}},
		{"timestamp", "up 1 1395066363000\n", []string{"up 1 @1395066363000"}},
		{"negative timestamp", "up 1 -3982045\n", []string{"up 1 @-3982045"}},
		{"timestamp in seconds", "up 1 1395066363.5\n", []string{"up 1 @1395066363500"}},
		{"empty labels", "up{} 1\n", []string{"up 1"}},
		{"labels", "up{a=\"b\",c=\"d\"} 1\n", []string{`up a="b" c="d" 1`}},
		{"comma at the end", "up{a=\"b\",} 1\n", []string{`up a="b" 1`}},
		{"blanks in labels", "up { a = \"b\" , c = \"d\" }1\n", []string{`up a="b" c="d" 1`}},
		{"escapes", `up{a="x\\y\"z\nw",b="{},= "} 1` + "\n", []string{`up a="x\\y\"z\nw" b="{},= " 1`}},
		{"empty value of a label", "up{a=\"\"} 1\n", []string{`up a="" 1`}},
		{"quoted label name", `up{"a.b"="c"} 1` + "\n", []string{`up a.b="c" 1`}},
		{"quoted metric name", `{"my.metric",a="b"} 1` + "\n", []string{`my.metric a="b" 1`}},
		{"quoted metric name after a label", `{a="b","my.metric"} 1` + "\n", []string{`my.metric a="b" 1`}},
		{"quoted metric name, not wanted", `{"other.metric",a="b"} 1` + "\nup 1\n", []string{"up 1"}},
		{"not a number", "up NaN\n", []string{"up NaN"}},
		{"infinities", "up +Inf\nup -Inf\nup inf\n", []string{"up +Inf", "up -Inf", "up +Inf"}},
		{"exponent", "up 1.7639e+09\n", []string{"up 1.7639e+09"}},
		{"exemplar", `up{a="b"} 3 # {trace_id="x"} 0.67` + "\n", []string{`up a="b" 3`}},
		{"exemplar and timestamp", `up 3 12 # {trace_id="x"} 0.67 1.5` + "\n", []string{"up 3 @12"}},
		{"comments", "# HELP up Is it?\n# TYPE up gauge\nup 1\n#up 2\n# up 3\n", []string{"up 1"}},
		{"prefix of a longer name", "vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 4\n", nil},
		{"longer than a name", "vllm:num_requests 4\n", nil},
		{"families of others", "a_bucket{le=\"1\"} 1\na_bucket{le=\"2\"} 2\na_bucketful 3\na_sum 1\nup 1\na_sum 2\nup 2\n", []string{"up 1", "up 2"}},
		{"wanted next to its prefix", "upper 1\nup 2\nupper 3\nup_ 4\nup 5\n", []string{"up 2", "up 5"}},
		{"errors of others", "<html>\nbad{a=b} x\nbad{\n{nonsense\n}\n9 9\nup 1\nbad", []string{"up 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := picked(t, set, tt.page)
			require.NoError(t, err)
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("samples of %q = %q, want %q", tt.page, got, tt.want)
			}
		})
	}
}

func TestScanErrors(t *testing.T) {
	set := promtext.NewSet("up", "my.metric")
	tests := []struct{ name, page, want string }{
		{"no value", "x 1\nup\n", "line 2: up: expected a number as value, got \"\""},
		{"no number", "up one\n", "line 1: up: expected a number as value, got \"one\""},
		{"hexadecimal", "up 0x1p3\n", "expected a number as value"},
		{"underscore", "up 1_000\n", "expected a number as value"},
		{"too large", "up 1e999\n", "expected a number as value"},
		{"other word after the name", "up-x 1\n", "expected a number as value, got \"-x\""},
		{"no newline", "x 1\n\n\nup 12", "line 4: up: the page ends before the line does"},
		{"cut in the labels", "up{a=\"b", "the page ends before the line does"},
		{"cut in quoted name", "{\"my.metric\"} 12", "line 1: my.metric: the page ends before the line does"},
		{"no closing brace", "up{a=\"b\" 1\n", "expected ',' or '}' after a label, got \"1\""},
		{"no end of labels", "up{a=\"b\",\n", "the labels have no closing brace"},
		{"no end of quotes", "up{a=\"b} 1\n", "a quoted string has no end"},
		{"no quotes", "up{a=b} 1\n", "expected a label value in quotes, got \"b} 1\""},
		{"no label value", "up{a} 1\n", "expected '=' and a value"},
		{"no label name", "up{=\"b\"} 1\n", "expected a label name"},
		{"escape", `up{a="\t"} 1` + "\n", `unknown escape sequence "\t"`},
		{"timestamp", "up 1 soon\n", "expected a timestamp after the value, got \"soon\""},
		{"more", "up 1 2 3\n", "expected the end of the line, got \"3\""},
		{"two names", `{"my.metric","up"} 1` + "\n", "more than one metric name"},
		{"long", "up " + strings.Repeat("x", 1000) + "\n", strings.Repeat("x", 40) + "\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := picked(t, set, tt.page)
			var syntax *promtext.SyntaxError
			if !errors.As(err, &syntax) || !strings.HasPrefix(err.Error(), "promtext: line ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("scan of %q: %v, want an error with %q", tt.page, err, tt.want)
			}
		})
	}
}

func TestNextAfterError(t *testing.T) {
	var s promtext.Scanner
	s.Reset(promtext.NewSet("up"), []byte("up x\nup 1\n"))
	for range 2 {
		require.False(t, s.Next(), "Next after an error = true, want false")
	}
	s.Reset(promtext.NewSet("up"), []byte("up 1\n"))
	if !s.Next() || s.Err() != nil {
		t.Errorf("Next after Reset = false with %v, want true", s.Err())
	}
}

func TestLabel(t *testing.T) {
	var s promtext.Scanner
	s.Reset(promtext.NewSet("up"), []byte(`up{a="1\n",ab="\"2\"",b="3"} 1`+"\nup 2\n"))
	require.True(t, s.Next())
	a, _ := s.Label("a")
	ab, _ := s.Label("ab")
	b, ok := s.Label("b")
	if string(a) != "1\n" || string(ab) != `"2"` || string(b) != "3" || !ok {
		t.Errorf("labels = %q, %q, %q, want all three, each still valid", a, ab, b)
	}
	if v, ok := s.Label("c"); ok {
		t.Errorf("Label(c) = %q, want none", v)
	}
	require.True(t, s.Next())
	if v, ok := s.Label("a"); ok {
		t.Errorf("Label(a) of the next sample = %q, want none", v)
	}
}

func TestOpenMetrics(t *testing.T) {
	s := promtext.Scanner{OpenMetrics: true}
	s.Reset(promtext.NewSet("up"), []byte("up 1 1520879607\n# EOF\n"))
	require.True(t, s.Next())
	if ms, _ := s.Timestamp(); ms != 1520879607000 {
		t.Errorf("Timestamp = %d, want 1520879607000: OpenMetrics has seconds", ms)
	}
}

func TestValues(t *testing.T) {
	set := promtext.NewSet("v")
	for _, text := range []string{
		"0", "-0", "1", "37.0", "0.6274310752789987", "-12.5", ".5", "5.", "123456789012345", "1234567890123456",
		"0.1", "0.3", "1763722588.0417268", "9007199254740993", "0.000000000000001", "1e3", "4.35", "179769313486231",
		"2.2250738585072014e-308", "1.7976931348623157e308",
	} {
		var s promtext.Scanner
		s.Reset(set, []byte("v "+text+"\n"))
		if !s.Next() {
			t.Fatalf("%s: %v", text, s.Err())
		}
		var want float64
		if _, err := fmt.Sscan(text, &want); err != nil {
			t.Fatal(err)
		}
		if math.Float64bits(s.Value()) != math.Float64bits(want) {
			t.Errorf("value of %s = %v, want %v", text, s.Value(), want)
		}
	}
}

// TestTrapMetricMatchedByPrefix: a name that starts like a wanted one is another
// metric.
func TestTrapMetricMatchedByPrefix(t *testing.T) {
	set := promtext.NewSet("vllm:num_requests_waiting")
	got, err := picked(t, set, string(readPage(t, "vllm")))
	require.NoError(t, err)
	want := `[vllm:num_requests_waiting engine="0" model_name="meta-llama/Llama-3.1-8B-Instruct" 5]`
	if fmt.Sprint(got) != want {
		t.Errorf("samples = %v, want %s", got, want)
	}
}

func TestNewSetPanics(t *testing.T) {
	for _, names := range [][]string{{""}, {"a", "b", "a"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewSet(%q) did not panic", names)
				}
			}()
			promtext.NewSet(names...)
		}()
	}
}

func ExampleScanner() {
	page := []byte(`# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0"} 3
vllm:num_requests_waiting{engine="1"} 4
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 3
`)
	set := promtext.NewSet("vllm:num_requests_waiting")
	var s promtext.Scanner
	s.Reset(set, page)
	for s.Next() {
		engine, _ := s.Label("engine")
		fmt.Printf("engine %s: %v waiting\n", engine, s.Value())
	}
	fmt.Println(s.Err())
	// Output:
	// engine 0: 3 waiting
	// engine 1: 4 waiting
	// <nil>
}
