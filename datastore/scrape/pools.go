package scrape

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"reflect"

	"github.com/inferpick/inferpick/types"
)

// PoolOptions are what may differ from one pool to another. The zero value is what
// Options say.
type PoolOptions struct {
	// Engines are those that the pool's servers may be. Nil: Options.Engines.
	Engines []Engine
	// InsecureSkipVerify takes every certificate of servers whose metrics are at https.
	// Options.Transport is not used then.
	InsecureSkipVerify bool
}

// settings are PoolOptions made ready. Immutable.
type settings struct {
	options PoolOptions
	table   *table
}

// SetPools says what holds for the endpoints of which pools, from the next scrape of each
// on; of pools that are not among them, Options hold. It fails if an engine is not well
// formed, and has changed nothing then. What is as it was disturbs nobody. It may be called
// at any time, from any goroutine; the engines must not be modified after that.
func (s *Scraper) SetPools(pools map[types.NamespacedName]PoolOptions) error {
	before := s.pools.Load()
	next := make(map[types.NamespacedName]*settings, len(pools))
	for pool, o := range pools {
		if had := (*before)[pool]; had != nil && reflect.DeepEqual(had.options, o) {
			next[pool] = had
			continue
		}
		set := &settings{options: o, table: s.settings.table}
		if o.Engines != nil {
			var err error
			if set.table, err = newTable(o.Engines); err != nil {
				return fmt.Errorf("scrape: pool %s: %w", pool, err)
			}
		}
		next[pool] = set
	}
	s.pools.Store(&next)
	return nil
}

// settingsOf returns what holds for a pool.
func (s *Scraper) settingsOf(pool types.NamespacedName) *settings {
	if set := (*s.pools.Load())[pool]; set != nil {
		return set
	}
	return s.settings
}

// adopt makes the target follow other settings: what it has found out about the server may
// not hold by them.
func (t *target) adopt(set *settings) {
	insecure := t.set != nil && t.set.options.InsecureSkipVerify
	fresh := t.set == nil
	t.set, t.table = set, set.table
	t.engine = -1
	if t.to.engine != "" {
		t.engine = t.table.find(t.to.engine)
	}
	t.fixed = t.engine >= 0
	t.resetPaths()
	if fresh || insecure != set.options.InsecureSkipVerify {
		t.disconnect()
		t.transport = t.newTransport()
	}
}

// newTransport returns what is to make the requests of the target.
func (t *target) newTransport() http.RoundTripper {
	insecure := t.set.options.InsecureSkipVerify
	if t.opt.Transport != nil && !insecure {
		return t.opt.Transport
	}
	own := newTransport()
	if insecure {
		own.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	return own
}
