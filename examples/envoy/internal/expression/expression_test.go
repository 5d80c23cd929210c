package expression_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/expression"
)

func known(path string) bool { return strings.HasPrefix(path, "usage.") }

func lookup(path string) (float64, bool) {
	n, ok := map[string]float64{"usage.prompt_tokens": 10, "usage.completion_tokens": 3}[path]
	return n, ok
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]float64{
		"usage.prompt_tokens + usage.completion_tokens":          13,
		" usage.prompt_tokens\n":                                 10,
		"(has(usage.total_tokens) ? usage.total_tokens : 0) + 1": 1,
		"1 + 2 * 3 - 4 / 2":                                      5,
		"7 / 2":                                                  3,
		"7 % 4":                                                  3,
		"-(2 - 5)":                                               3,
		"10 - 3 - 2":                                             5,
		"usage.prompt_tokens > 5 && !false ? 1 : 2":                 1,
		"1 == 2 ? 1 : 2 >= 2 ? 3 : 4":                               3,
		"int(usage.prompt_tokens) * 3":                              30,
		"has(usage.total_tokens) && usage.total_tokens > 1 ? 1 : 0": 0,
		"1 < 2 || usage.total_tokens > 1 ? 7 : 0":                   7,
		"usage.prompt_tokens * 1 + usage.completion_tokens * 4":     22,
	} {
		e, err := expression.Parse(text, known)
		require.NoError(t, err, text)
		got, err := e.Number(lookup)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "at byte 1: want a number or a name",
		"1 +":                            "at byte 4: want a number or a name",
		"(1":                             `want ")"`,
		"1 2":                            `at byte 3: "2" is not expected here`,
		"request.size":                   `"request.size" is no name that is known here`,
		"has(1)":                         `"1" is no name`,
		"usage.a ? 1":                    `want ":"`,
		"'a'":                            `"'" is not part of an expression`,
		"1.2.3":                          `"1.2.3" is no number`,
		strings.Repeat("(", 1000):        "nested deeper than 64",
		strings.Repeat("-", 1000) + "1":  "nested deeper than 64",
		strings.Repeat("1+", 3000) + "1": "the limit is 4096",
	} {
		_, err := expression.Parse(text, known)
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]string{
		"usage.total_tokens": "there is no usage.total_tokens",
		"1 / (2 - 2)":        "division by 0",
		"true":               "the result is no number",
		"1 + true":           "+ is for two numbers",
		"1 && true ? 1 : 2":  "&& is for two numbers",
		"1 ? 2 : 3":          "the condition of ?",
	} {
		e, err := expression.Parse(text, known)
		require.NoError(t, err, text)
		_, err = e.Number(lookup)
		require.ErrorContains(t, err, want, text)
	}
	e, err := expression.Parse("1", known)
	require.NoError(t, err)
	_, err = e.Truth(lookup)
	require.ErrorContains(t, err, "neither true nor false")
}

func FuzzParse(f *testing.F) {
	f.Add("(has(usage.a) ? usage.a : 0) + 1 / 2 % 3")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := expression.Parse(text, known); err == nil {
			_, _ = e.Number(lookup)
			_, _ = e.Truth(lookup)
		}
	})
}
