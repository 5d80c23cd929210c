package plugins

import (
	"time"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// PeersChanged implements sharing.LoadPart: what other gateways have at a server counts as what this one has, and
// readings say only what neither explains.
func (c *Cost) PeersChanged(eps []*types.Endpoint, at time.Time) {
	now := c.seconds(at)
	for _, ep := range eps {
		if cell := c.table.lookup(ep); cell != nil {
			c.deriveAnew(cell.server, now)
		}
	}
}

// SharePlacements implements sharing.PrefixPart.
func (c *Cost) SharePlacements(tell func(types.Placement)) { c.prefix.SharePlacements(tell) }

// HearPlacement implements sharing.PrefixPart.
func (c *Cost) HearPlacement(p types.Placement, now time.Time) { c.prefix.HearPlacement(p, now) }

// compare learns how far to follow peers from what a reading showed.
func (c *Cost) compare(byPeers, byReadings float64, ok bool) {
	if !ok || c.peers.Load() == 0 {
		return
	}
	c.seeing.Lock()
	defer c.seeing.Unlock()
	c.witness.Saw(byPeers, byReadings)
	c.follow.Store(c.witness.Peers())
}

// hearPeers takes over what other gateways have at s. Caller must hold s.mu.
func (c *Cost) hearPeers(s *costServer) {
	if s.gone {
		return
	}
	b := s.reading.Load.Peers()
	c.peers.Add(s.SetPeers(cost.Peers{
		Requests: float64(b.Requests), Prefilling: float64(b.Prefilling), Context: cost.Tokens(b.ContextTokens), Denoise: float64(b.Denoise),
	}))
}
