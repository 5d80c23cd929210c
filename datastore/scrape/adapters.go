package scrape

import (
	"bytes"
	"slices"
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
// each once, in their order.
func (c *listCache) get(raw []byte) []string {
	if bytes.Equal(c.raw, raw) {
		return c.list
	}
	c.raw = append(c.raw[:0], raw...)
	c.list = nil
	for name := range strings.SplitSeq(string(raw), ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(c.list, name) {
			c.list = append(c.list, name)
		}
	}
	return c.list
}
