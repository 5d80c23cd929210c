package scrape

import (
	"bytes"
	"strings"
)

// adapterCache keeps the lists of adapters of one endpoint from one reading to
// the next. They seldom change, and readings are immutable, so the next reading
// may share them.
type adapterCache struct{ running, waiting listCache }

type listCache struct {
	raw  []byte
	list []string
}

// get returns the names in raw: without blanks around them, without empty ones,
// each once, in their order, at most maxAdapters.
func (c *listCache) get(raw []byte) []string {
	if bytes.Equal(c.raw, raw) {
		return c.list
	}
	c.raw = append(c.raw[:0], raw...)
	c.list = nil
	seen := map[string]bool{}
	for name := range strings.SplitSeq(string(raw), ",") {
		if name = strings.TrimSpace(name); name != "" && !seen[name] && len(c.list) < maxAdapters {
			seen[name] = true
			c.list = append(c.list, name)
		}
	}
	return c.list
}

// maxAdapters bounds a list of adapters.
const maxAdapters = 10_000
