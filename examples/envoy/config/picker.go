package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// pickerConfig is a document of kind EndpointPickerConfig.
type pickerConfig struct {
	origin
	id        identity
	pool      types.NamespacedName // zero: every pool that has none of its own
	scheduler *scheduler
	legacy    bool // the gate enableLegacyMetrics is open
}

// Feature gates of the Inference Extension. Two of them ask for what is so here in any
// case.
const (
	gateDataLayer     = "dataLayer"
	gateLegacyMetrics = "enableLegacyMetrics"
	gatePrepareData   = "prepareDataPlugins"
	gateFlowControl   = "flowControl"
)

// picker reads a document of kind EndpointPickerConfig.
func (b *builder) picker(top fields) {
	r := top.reader
	name := metadata(top, false)
	o := b.under
	o.object = labelled(kindPicker, name)
	p := &pickerConfig{origin: o, id: b.identity(kindPicker, name), pool: poolRef(top, name.Namespace)}
	if name.Name == "" {
		b.unnamed[o.file]++
	}
	gates := featureGates(top)
	p.legacy = gates[gateLegacyMetrics]
	t := translation{
		fields: top, registry: b.Registry, byName: make(map[string]*declared),
		warn: r.warnf,
	}
	p.scheduler = t.translate(gates[gateFlowControl])
	top.done()
	for _, text := range r.warnings {
		b.warn(o, text, text)
	}
	if r.Len() > 0 {
		b.reject(o, p.id, r.Err())
		return
	}
	b.accept(o, &object{id: p.id, picker: p})
}

// featureGates returns the gates that are open: those that are named, if not followed by
// =false.
func featureGates(top fields) map[string]bool {
	known := []string{gateDataLayer, gateLegacyMetrics, gateFlowControl, gatePrepareData}
	open := make(map[string]bool)
	for i, v := range top.list("featureGates") {
		at := index("featureGates", i)
		text, ok := v.(string)
		name, value, given := strings.Cut(text, "=")
		on := true
		if given {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				top.Failf(at, "is %s, want the name of a gate, which =true or =false may follow", check.Show(v))
				continue
			}
		}
		switch {
		case !ok:
			top.Failf(at, "is %s, want the name of a gate; known are %s", check.Show(v), list(known))
		case !slices.Contains(known, name) && !top.strict:
			top.warnf("%s is %s, which is unknown%s; it has no effect", at, check.Show(v), check.Suggest(name, known))
		case !slices.Contains(known, name):
			top.Failf(at, "is %s, which is unknown%s", check.Show(v), check.Suggest(name, known))
		default:
			open[name] = on
		}
	}
	return open
}

// connectPickers gives each pool its scheduler.
func (b *builder) connectPickers() {
	var general *pickerConfig
	own := make(map[types.NamespacedName]*pickerConfig)
	bad := func(p *pickerConfig, format string, args ...any) {
		b.reject(p.origin, p.id, fmt.Errorf(format, args...)).follows = b.leftOut(identity{kind: kindPool, name: p.pool})
	}
	for _, p := range b.pickers {
		_, exists := b.config.pools[p.pool]
		switch {
		case p.pool.IsZero() && general != nil:
			bad(p, "holds for every pool that has none of its own, as does that at %s: bind one of them to a pool by poolRef", general.place)
		case p.pool.IsZero():
			general = p
		case !exists:
			bad(p, "poolRef: there is no InferencePool %s", p.pool)
		case own[p.pool] != nil:
			bad(p, "poolRef: pool %s has one already, at %s", p.pool, own[p.pool].place)
		default:
			own[p.pool] = p
		}
	}
	for pool := range b.config.pools {
		switch {
		case own[pool] != nil:
			b.config.pools[pool] = own[pool].scheduler
		case b.before(pool) != nil:
			b.config.pools[pool] = b.before(pool)
		case general != nil:
			b.config.pools[pool] = general.scheduler
		default:
			b.config.pools[pool] = newScheduler()
		}
	}
	if general != nil && len(own) == len(b.config.pools) {
		b.warn(general.origin, "", "holds for no pool: each has one of its own")
	}
}

// leftOut reports whether an object was rejected and has no version in force.
func (b *builder) leftOut(id identity) bool {
	return slices.ContainsFunc(b.config.Rejected, func(r *Rejected) bool { return r.id == id && !r.Kept })
}

// before returns the scheduler that a pool had, if one was left out that may have been
// meant for it: the pool goes on as it was.
func (b *builder) before(pool types.NamespacedName) *scheduler {
	if b.previous == nil || !slices.ContainsFunc(b.config.Rejected, func(r *Rejected) bool { return r.Kind == kindPicker && !r.Kept }) {
		return nil
	}
	return b.previous.pools[pool]
}
