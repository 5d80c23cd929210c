package scrape

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"

	"github.com/inferpick/inferpick/datastore"
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

	// Scheme, Path and Port say where the metrics of endpoints are whose specifications do not
	// say it; see datastore.EndpointSpec. Zero: the defaults there.
	Scheme, Path string
	Port         int
	// EngineLabel is the label of endpoints that names their engine, if their specifications do
	// not, before those that are always looked at. Engine is that of endpoints of which neither
	// says it. Empty: none, and it is found out from the page.
	EngineLabel, Engine string
}

// fill returns what a specification says of its metrics, with what it does not say itself.
func (o *PoolOptions) fill(spec datastore.EndpointSpec) datastore.EndpointSpec {
	spec.MetricsScheme = cmp.Or(spec.MetricsScheme, o.Scheme)
	spec.MetricsPath = cmp.Or(spec.MetricsPath, o.Path)
	if spec.MetricsAddress == "" && o.Port > 0 {
		spec.MetricsAddress = fmt.Sprintf(":%d", o.Port)
	}
	for _, label := range []string{o.EngineLabel, datastore.EngineLabel, otherEngineLabel} {
		spec.Engine = cmp.Or(spec.Engine, spec.Labels[label])
	}
	spec.Engine = cmp.Or(spec.Engine, o.Engine)
	return spec
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
	fresh, before := t.set == nil, t.to
	t.set, t.table = set, set.table
	t.to = addressOf(set.options.fill(t.spec))
	t.engine = -1
	if t.to.engine != "" {
		t.engine = t.table.find(t.to.engine)
	}
	t.fixed = t.engine >= 0
	t.resetPaths()
	if t.to.engine != "" && !t.fixed {
		t.log(slog.LevelWarn, "the endpoint's engine is not known, so it is found out from the page", slog.String("engine", t.to.engine))
	}
	if fresh || t.to.host != before.host || t.to.scheme != before.scheme || insecure != set.options.InsecureSkipVerify {
		t.disconnect()
		t.transport, t.plain = t.newTransport()
	}
	if fresh || t.to != before {
		t.request, t.invalid = nil, nil
		if err := t.validate(); err != nil {
			t.invalid = fmt.Errorf("scrape: the endpoint's metrics cannot be asked for: %w", err)
		}
		t.models = t.newModels(t.spec.Address)
	}
}

// newTransport returns what is to make the requests of the target, and those without TLS if
// that is another.
func (t *target) newTransport() (http.RoundTripper, *plain) {
	insecure := t.set.options.InsecureSkipVerify
	if t.opt.Transport != nil && !insecure {
		return t.opt.Transport, nil
	}
	own := newTransport()
	if insecure {
		own.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	return own, &plain{ctx: t.ctx}
}
