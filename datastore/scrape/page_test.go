package scrape_test

import (
	"github.com/stretchr/testify/require"
	"os"
	"testing"
)

// pageFile returns where the page of an engine is.
func pageFile(engine string) string { return "../../internal/promtext/testdata/" + engine + ".prom" }

func readPage(t testing.TB, engine string) []byte {
	t.Helper()
	page, err := os.ReadFile(pageFile(engine))
	require.NoError(t, err)
	return page
}
