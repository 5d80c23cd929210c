package config

import (
	"cmp"
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
	id     identity
	pool   types.NamespacedName // zero: every pool that has none of its own
	policy *Policy
	legacy bool // the gate enableLegacyMetrics is open
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
		warn: r.warnf, roleLabel: cmp.Or(b.RoleLabel, types.RoleLabel),
	}
	p.policy = t.translate(gates[gateFlowControl])
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

// nameGeneral is the name of the one that holds for all other pools, where pools choose the
// others by name.
const nameGeneral = "default"

// connectPickers finds out which holds for whom.
func (b *builder) connectPickers() {
	p := &b.config.policies
	p.own, p.byName = make(map[types.NamespacedName]*Policy), make(map[types.NamespacedName]*Policy)
	general := b.general()
	places := make(map[types.NamespacedName]place)
	bad := func(one *pickerConfig, format string, args ...any) {
		b.reject(one.origin, one.id, fmt.Errorf(format, args...)).follows = b.leftOut(identity{kind: kindPool, name: one.pool})
	}
	for _, one := range b.pickers {
		byName := one.id.name.Name != "" && one.id.name.Name != nameGeneral && general.byDefault()
		switch {
		case one.pool.IsZero() && one != general && !byName:
			bad(one, "holds for every pool that has none of its own, as does that at %s: bind one of them to a pool by poolRef, or call one of them %s and let pools choose the others by their annotation %s", general.place, nameGeneral, ProfileAnnotation)
			continue
		case one.pool.IsZero():
		case !b.config.pools[one.pool] && !b.PoolsElsewhere:
			bad(one, "poolRef: there is no InferencePool %s", one.pool)
			continue
		case p.own[one.pool] != nil:
			bad(one, "poolRef: pool %s has one already, at %s", one.pool, places[one.pool])
			continue
		default:
			p.own[one.pool], places[one.pool] = one.policy, one.place
		}
		if one.id.name.Name != "" {
			p.byName[one.id.name] = one.policy
		}
	}
	if p.general = newPolicy(b.Registry); general != nil {
		p.general = general.policy
	}
	p.unsure = b.previous != nil && slices.ContainsFunc(b.config.Rejected, func(r *Rejected) bool { return r.Kind == kindPicker && !r.Kept })
	b.connectPools()
	if general != nil && general.id.name.Name == "" && len(p.own) == len(b.config.pools) && !b.PoolsElsewhere {
		b.warn(general.origin, "", "holds for no pool: each has one of its own")
	}
}

// general returns the one that holds for every pool that has none of its own: the first that is
// not bound to a pool, or of several the first without a name or with that of the general one.
func (b *builder) general() *pickerConfig {
	var found *pickerConfig
	for _, one := range b.pickers {
		if one.pool.IsZero() && (found == nil || !found.byDefault() && one.byDefault()) {
			found = one
		}
	}
	return found
}

// byDefault reports whether it is named as the general one is, or not at all.
func (p *pickerConfig) byDefault() bool {
	return p != nil && (p.id.name.Name == "" || p.id.name.Name == nameGeneral)
}

// connectPools says of the pools whose annotation names none that there is.
func (b *builder) connectPools() {
	for _, o := range b.config.objects {
		if o.manifest == nil || o.id.kind != kindPool {
			continue
		}
		if _, err := b.config.Policy(o.id.name, o.manifest.Meta().Annotations, nil); err != nil {
			b.config.Warnings = append(b.config.Warnings, o.place.String()+": "+strings.TrimPrefix(err.Error(), "config: "))
		}
	}
}

// leftOut reports whether an object was rejected and has no version in force.
func (b *builder) leftOut(id identity) bool {
	return slices.ContainsFunc(b.config.Rejected, func(r *Rejected) bool { return r.id == id && !r.Kept })
}
