package house_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// quoted are the pages whose Go snippets are parts of tests, word for word, so that they
// are compiled and, where they are of an Example, run.
var quoted = map[string][]string{
	"docs/embed.md": {"scheduling/example_test.go", "scheduling/director/example_test.go"},
}

var goSnippet = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

func TestSnippetsAreCompiled(t *testing.T) {
	for page, sources := range quoted {
		var compiled strings.Builder
		for _, source := range sources {
			compiled.WriteString(withoutIndent(t, source))
		}
		snippets := goSnippet.FindAllStringSubmatch(withoutIndent(t, page), -1)
		require.NotEmpty(t, snippets, page)
		for _, s := range snippets {
			require.Contains(t, compiled.String(), s[1], "%s has a snippet that is in none of %v", page, sources)
		}
	}
}

// withoutIndent returns a file without the white space at the beginnings of lines.
func withoutIndent(t *testing.T, path string) string {
	text, err := os.ReadFile(filepath.Join("..", "..", path))
	require.NoError(t, err)
	return regexp.MustCompile(`(?m)^[\t ]+`).ReplaceAllString(string(text), "")
}
