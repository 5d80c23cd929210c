package plugins

import (
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// prefixReader is the part of a plugin that asks the prefix index of another what is
// cached where. In a declaration it names the other, and the registry joins the two.
type prefixReader struct {
	name  string // empty: the first that has an index
	cache *PrefixCache
	owner scheduling.Tracker // who tells the cache of requests; nil: not known
}

func (r *prefixReader) reads() *prefixReader { return r }

// prefixOwner is a plugin that has a prefix index and keeps it.
type prefixOwner interface {
	scheduling.Tracker
	prefixCache() *PrefixCache
}

func (p *PrefixCache) prefixCache() *PrefixCache { return p }
func (c *Cost) prefixCache() *PrefixCache        { return c.prefix }

// known reports whether any endpoint holds any of the request's prompt.
func (p *PrefixCache) known(req *types.Request) bool {
	buf := p.matches.Get().(*[]uint32)
	defer p.matches.Put(buf)
	return p.matchAll(p.prefixOf(req).hashes, buf) != nil
}
