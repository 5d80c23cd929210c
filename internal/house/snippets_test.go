package house

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSnippets: what the documents show as Go is part of a file that is compiled, line by line;
// a line of "…" leaves something out. So nobody copies what does not compile.
func TestSnippets(t *testing.T) {
	root := filepath.Join("..", "..")
	var sources []string
	documents := []string{filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := d.Name(); {
		case d.IsDir() && (name == ".git" || name == "testdata"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go"):
			text, err := os.ReadFile(path)
			sources = append(sources, plain(strings.Split(string(text), "\n")))
			return err
		case strings.HasSuffix(name, ".md") && filepath.Dir(path) != root:
			documents = append(documents, path)
		}
		return nil
	})
	require.NoError(t, err)

	pieces := 0
	for _, path := range documents {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, piece := range piecesOf(string(text)) {
			pieces++
			found := false
			for _, s := range sources {
				found = found || strings.Contains(s, piece)
			}
			require.True(t, found, "%s shows what no Go file has:%s", path, piece)
		}
	}
	require.Greater(t, pieces, 5)
}

// piecesOf returns the unbroken pieces of Go in a document.
func piecesOf(document string) (pieces []string) {
	var piece []string
	inGo := false
	for line := range strings.SplitSeq(document, "\n") {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if inGo && (fence || strings.TrimSpace(line) == "…") {
			if p := plain(piece); p != "\n" {
				pieces = append(pieces, p)
			}
			piece = nil
		} else if inGo {
			piece = append(piece, line)
		}
		if fence {
			inGo = !inGo && strings.TrimSpace(line) == "```go"
		}
	}
	return pieces
}

// plain joins lines without what indents them and without blank ones; each is between line
// ends.
func plain(lines []string) string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" {
			b.WriteString(l)
			b.WriteByte('\n')
		}
	}
	return b.String()
}
