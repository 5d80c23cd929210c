package epp

import (
	"sync/atomic"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/types"
)

// passing are the pools of the configuration in force whose requests are routed by their
// headers alone. The zero value has none.
type passing struct {
	pools atomic.Pointer[map[types.NamespacedName]bool]
}

func (p *passing) set(c *config.Config) {
	pools := make(map[types.NamespacedName]bool)
	for _, pool := range c.Pools() {
		if c.Passthrough(pool) {
			pools[pool] = true
		}
	}
	p.pools.Store(&pools)
}

// has is for director.Options.Passthrough.
func (p *passing) has(pool types.NamespacedName) bool {
	pools := p.pools.Load()
	return pools != nil && (*pools)[pool]
}
