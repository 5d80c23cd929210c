package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

// ProfileAnnotation is the annotation by which a pool chooses the EndpointPickerConfig of that
// name, in its own namespace or in that of the configuration: name, or namespace/name.
const ProfileAnnotation = "inferpick.io/scheduling-profile"

// Policy is what an EndpointPickerConfig says: how the requests for a pool are scheduled, who
// waits, and how the metrics of its servers are read. It is immutable, and may hold for any
// number of pools.
type Policy struct {
	registry *plugins.Registry
	// profiles has one profile, or none for that of plugins.Default.
	profiles plugins.Config
	// limits take the place of those in plugins.Default, where they are not 0.
	limits plugins.Room
	// admits says who waits; nil: nobody.
	admits      *admission.Config
	passthrough bool
	reports     []Report
	encode      *Encode // nil: who answers encodes
	primaryPort int
	metrics     scrape.PoolOptions
	autoscale   autoscale.Policy

	key, admissionKey string
	options           func() *admission.Options // of admits; nil: none
}

// Policy returns what holds for a pool: the EndpointPickerConfig that its ProfileAnnotation names,
// or that is bound to it by poolRef, or that holds for every pool, or else plugins.Default. had is
// what holds for it so far, nil if it is new: that stays where an EndpointPickerConfig was left
// out that may have been meant for it.
//
// The error is that there is none of the name in the annotation; what holds instead is returned
// with it.
func (c *Config) Policy(pool types.NamespacedName, annotations map[string]string, had *Policy) (*Policy, error) {
	pool = withNamespace(pool)
	var err error
	if name := annotations[ProfileAnnotation]; name != "" {
		if p := c.policies.named(name, pool.Namespace); p != nil {
			return p, nil
		}
		err = fmt.Errorf("config: InferencePool %s: annotation %s: there is no EndpointPickerConfig %s%s", pool, ProfileAnnotation,
			check.Show(name), check.Suggest(name, c.policies.names()))
	}
	switch {
	case c.policies.own[pool] != nil:
		return c.policies.own[pool], err
	case c.policies.unsure && had != nil:
		return had, err
	}
	return c.policies.general, err
}

// policies are the EndpointPickerConfigs of a configuration.
type policies struct {
	own     map[types.NamespacedName]*Policy // by poolRef
	byName  map[types.NamespacedName]*Policy
	general *Policy // for all others
	unsure  bool    // one was left out, with nothing in its place
}

func (p *policies) named(name, namespace string) *Policy {
	if namespace, name, ok := strings.Cut(name, "/"); ok {
		return p.byName[types.NamespacedName{Namespace: namespace, Name: name}]
	}
	if one := p.byName[types.NamespacedName{Namespace: namespace, Name: name}]; one != nil {
		return one
	}
	return p.byName[withNamespace(types.NamespacedName{Name: name})]
}

func (p *policies) names() []string {
	names := make(map[string]bool, len(p.byName))
	for name := range p.byName {
		names[name.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// newPolicy returns that of plugins.Default.
func newPolicy(reg *plugins.Registry) *Policy {
	p := &Policy{registry: reg}
	p.finish()
	return p
}

// finish sets the keys. Parameters have their names sorted.
func (p *Policy) finish() {
	p.key = digestOfJSON(struct {
		Profiles plugins.Config
		Limits   plugins.Room
		Encode   *plugins.Config `json:",omitempty"`
		Revision string          `json:",omitempty"`
	}{p.profiles, p.limits, p.encode.declared(), p.encode.pairedBy()})
	if p.admits != nil {
		p.admissionKey = digestOfJSON(p.admits)
	}
}

func digestOfJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers were checked, and all else is JSON already
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Profile returns the scheduling profile, for scheduling.New. Its plugins are new at each call
// and have learned nothing. Hooks and clock are the caller's to add. That it can be built was
// found out by Load, so that no error is to be expected.
func (p *Policy) Profile() (scheduling.Profile, error) {
	if len(p.profiles.Profiles) == 0 {
		return p.buildDefault(), nil
	}
	profiles, err := p.registry.Build(p.profiles)
	if err != nil {
		return scheduling.Profile{}, fmt.Errorf("config: %w", err)
	}
	return profiles[p.profiles.Profiles[0].Name], nil
}

func (p *Policy) buildDefault() scheduling.Profile {
	profile := plugins.Default()
	for i, f := range profile.Filters {
		if shed, ok := f.Filter.(plugins.Shed); ok {
			shed.Room = p.limits
			profile.Filters[i].Filter = shed
		}
	}
	return profile
}

// Key returns a digest of how the profile is declared. While it stays the same from one Config to
// the next, so does the profile: a reload should then keep the pool's scheduler, with what it
// learned.
func (p *Policy) Key() string { return p.key }

// Admission returns new options of the admission control, nil if there is none, for
// director.Options.Admission. Hooks and clock are the caller's to add.
func (p *Policy) Admission() *admission.Options {
	if p.options == nil {
		return nil
	}
	return p.options()
}

// AdmissionKey is Key for how the admission control is declared, "" if there is none: while it is
// the same, options that were made may be used on, with what their detectors have learned.
func (p *Policy) AdmissionKey() string { return p.admissionKey }

// Passthrough reports whether the bodies of requests are not to be looked at: they are routed by
// their headers alone.
func (p *Policy) Passthrough() bool { return p.passthrough }

// Encode returns how those are chosen that turn images and other media into embeddings for who answers
// a request, nil if nobody is: who answers does it then.
func (p *Policy) Encode() *Encode { return p.encode }

// PrimaryPort is the port at which the proxy in front of a server takes the requests for all of its
// data-parallel ranks, each of which is an endpoint; a header says which is meant. 0: requests go to
// the endpoint's own port.
func (p *Policy) PrimaryPort() int { return p.primaryPort }

// Reports returns what of the usage of requests Envoy is to be told. It must not be modified.
func (p *Policy) Reports() []Report { return p.reports }

// ServerMetrics returns how the metrics of servers are read, for scrape.Scraper.SetPools.
func (p *Policy) ServerMetrics() scrape.PoolOptions { return p.metrics }

// Autoscale returns how many replicas may be recommended, and by which law. The zero value has the defaults.
func (p *Policy) Autoscale() autoscale.Policy { return p.autoscale }

// connectAdmission finds what makes the options of admission control. The error is that
// of Registry.BuildAll.
func (p *Policy) connectAdmission() error {
	if p.admits == nil {
		return nil
	}
	// Only a Registry knows all detectors, and it wants a profile.
	loaded, err := p.registry.BuildAll(plugins.Config{
		Plugins:   []plugins.PluginConfig{{Type: typeMaxScore, Name: typeMaxScore}},
		Profiles:  []plugins.ProfileConfig{{Name: "none", Plugins: []plugins.PluginRef{{PluginRef: typeMaxScore}}}},
		Admission: p.admits,
	})
	p.options = loaded.Admission
	return err
}
