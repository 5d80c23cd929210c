package config

import (
	"fmt"

	"github.com/inferpick/inferpick/types"
)

// pickerConfig is a document of kind EndpointPickerConfig.
type pickerConfig struct {
	origin
	pool      types.NamespacedName // zero: every pool that has none of its own
	scheduler *scheduler
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
	p := &pickerConfig{origin: b.origin(labelled(kindPicker, name)), pool: poolRef(top, name.Namespace)}
	legacy, flow := featureGates(top)
	t := translation{
		fields: top, registry: b.config.registry, byName: make(map[string]*declared),
		warn: func(format string, args ...any) {
			b.config.Warnings = append(b.config.Warnings, fmt.Sprintf("%s: %s%s", p.place, p.prefix, fmt.Sprintf(format, args...)))
		},
	}
	p.scheduler = t.translate(flow)
	top.done()
	for _, err := range r.errs {
		b.failAt(p.origin, err)
	}
	if len(r.errs) > 0 || name.Name != "" && !b.unique(kindPicker, withNamespace(name)) {
		return
	}
	b.config.LegacyMetrics = b.config.LegacyMetrics || legacy
	b.pickers = append(b.pickers, p)
}

// featureGates reports whether the legacy metrics and flow control are asked for.
func featureGates(top fields) (legacy, flow bool) {
	for i, v := range top.list("featureGates") {
		at := index("featureGates", i)
		switch v {
		case gateDataLayer, gatePrepareData:
		case gateLegacyMetrics:
			legacy = true
		case gateFlowControl:
			flow = true
		default:
			top.errorf("%s %s is unknown; known are %s, %s, %s and %s", at, show(v), gateDataLayer, gateLegacyMetrics, gateFlowControl, gatePrepareData)
		}
	}
	return legacy, flow
}

// connectPickers gives each pool its scheduler.
func (b *builder) connectPickers() {
	var general *pickerConfig
	own := make(map[types.NamespacedName]*pickerConfig)
	for _, p := range b.pickers {
		_, exists := b.config.pools[p.pool]
		switch {
		case p.pool.IsZero() && general != nil:
			b.failAt(p.origin, fmt.Errorf("holds for every pool that has none of its own, as does that at %s: bind one of them to a pool by poolRef", general.place))
		case p.pool.IsZero():
			general = p
		case !exists:
			b.failAt(p.origin, fmt.Errorf("poolRef: there is no InferencePool %s", p.pool))
		case own[p.pool] != nil:
			b.failAt(p.origin, fmt.Errorf("poolRef: pool %s has one already, at %s", p.pool, own[p.pool].place))
		default:
			own[p.pool] = p
		}
	}
	for pool := range b.config.pools {
		switch {
		case own[pool] != nil:
			b.config.pools[pool] = own[pool].scheduler
		case general != nil:
			b.config.pools[pool] = general.scheduler
		default:
			b.config.pools[pool] = newScheduler()
		}
	}
	if general != nil && len(own) == len(b.config.pools) {
		b.config.Warnings = append(b.config.Warnings, fmt.Sprintf("%s: %sholds for no pool: each has one of its own", general.place, general.prefix))
	}
}
