package inferpick_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// What the README shows is understood, and its JSON is its Caddyfile.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := map[string][]string{}
	for i, block := range strings.Split(string(text), "```") {
		if i%2 == 1 {
			kind, content, _ := strings.Cut(block, "\n")
			blocks[kind] = append(blocks[kind], content)
		}
	}
	require.Len(t, blocks["caddyfile"], 2)
	require.Len(t, blocks["json"], 1)
	var want any
	require.NoError(t, json.Unmarshal([]byte(blocks["json"][0]), &want))
	for i, block := range blocks["caddyfile"] {
		config, err := adapt(block)
		require.NoError(t, err)
		handlers := handlersIn(t, config)
		require.Len(t, handlers, i+1)
		if i == 0 {
			require.Empty(t, cmp.Diff(want, handlers[0]))
		}
	}
}

// handlersIn returns the inferpick handlers of a configuration.
func handlersIn(t *testing.T, config []byte) (found []any) {
	t.Helper()
	var all any
	require.NoError(t, json.Unmarshal(config, &all))
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if v["handler"] == "inferpick" {
				found = append(found, v)
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(all)
	return found
}
