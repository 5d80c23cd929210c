package autoscale

import "github.com/inferpick/inferpick/types"

// Waits returns how many requests are remembered that wait, or have waited and are not booked.
func (c *Collector) Waits(pool types.NamespacedName) int {
	p := c.tally(pool)
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waits)
}

// ReadHistories is what is read of a Store.
func ReadHistories(data []byte) (map[types.NamespacedName]*History, error) {
	return readHistories(data)
}
