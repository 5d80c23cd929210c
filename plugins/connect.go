package plugins

// connect gives every plugin that reads a prefix index the one that it names, or else the
// first that is declared. Where there is none they share a new one. An SLOAdmitter gets
// the first Cost.
func (b *builder) connect() {
	var alone *PrefixCache
	for _, d := range b.order {
		if a, ok := b.plugins[d.name].(*SLOAdmitter); ok {
			a.Cost = b.firstCost()
		}
		r, ok := b.plugins[d.name].(interface{ reads() *prefixReader })
		if !ok {
			continue
		}
		reader := r.reads()
		owner := b.owner(d.path, reader.name)
		if owner == nil {
			if alone == nil {
				alone = mustPrefixCache(PrefixOptions{})
			}
			owner = alone
		}
		reader.cache, reader.owner = owner.prefixCache(), owner
	}
}

// owner returns the plugin of a name that has a prefix index; without a name the first;
// nil if there is none.
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
	for _, d := range b.order {
		if owner, ok := b.plugins[d.name].(prefixOwner); ok {
			return owner
		}
	}
	return nil
}

func (b *builder) firstCost() *Cost {
	for _, d := range b.order {
		if c, ok := b.plugins[d.name].(*Cost); ok {
			return c
		}
	}
	return nil
}
