package plugins

import (
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// prefixReader is the part of a plugin that reads the prefix index of another one. A declaration
// names the other, and the registry connects the two.
type prefixReader struct {
	name  string // empty: the first that has an index
	cache *PrefixCache
	owner scheduling.Tracker // updates the cache; nil: unknown
}

func (r *prefixReader) reads() *prefixReader { return r }

// prefixOwner is a plugin that has a prefix index and updates it.
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

// connect sets the prefix index of every plugin that reads one: the one that it names, or else
// the first that is declared, or else a new one that they share. An SLOAdmitter gets the first
// Cost.
func (b *builder) connect() {
	var shared *PrefixCache
	for _, d := range b.order {
		if a, ok := b.plugins[d.name].(*SLOAdmitter); ok {
			a.Cost = firstOf[*Cost](b)
		}
		r, ok := b.plugins[d.name].(interface{ reads() *prefixReader })
		if !ok {
			continue
		}
		reader := r.reads()
		owner := b.owner(d.path, reader.name)
		if owner == nil {
			if shared == nil {
				shared = must(NewPrefixCache(PrefixOptions{}))
			}
			owner = shared
		}
		reader.cache, reader.owner = owner.prefixCache(), owner
	}
	for _, d := range b.order {
		if s, ok := b.plugins[d.name].(*Staged); ok {
			b.connectStaged(d.path+".parameters", s)
		}
	}
}

// owner returns the plugin of that name if it has a prefix index, for an empty name the first
// that has one; nil if there is none.
func (b *builder) owner(path, name string) prefixOwner {
	if v, declared := b.plugins[name]; name != "" {
		owner, ok := v.(prefixOwner)
		switch {
		case !declared:
			b.Unknown(path+".parameters.prefixPluginName", name, b.names())
		case !ok && v != nil:
			b.Failf(path+".parameters.prefixPluginName", "is %q, which has no prefix index", name)
		}
		return owner
	}
	return firstOf[prefixOwner](b)
}

// firstOf returns the first declared plugin that is a T, or the zero value.
func firstOf[T any](b *builder) (none T) {
	for _, d := range b.order {
		if v, ok := b.plugins[d.name].(T); ok {
			return v
		}
	}
	return none
}
