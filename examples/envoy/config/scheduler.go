package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
)

// scheduler is how the profile and the admission control of a pool are declared.
// Immutable once made.
type scheduler struct {
	// Profiles has one profile, or none for that of plugins.Default.
	Profiles plugins.Config
	// Limits take the place of those in plugins.Default, where they are not 0.
	Limits plugins.Room
	// Admission says who waits; nil: nobody.
	Admission *admission.Config `json:"-"`
	// Passthrough: bodies of requests are not looked at.
	Passthrough bool `json:"-"`
	// Reports are what Envoy is told of usage.
	Reports []Report `json:"-"`

	metrics           serverMetrics
	key, admissionKey string
	admission         func() *admission.Options // nil: none
}

// newScheduler returns that of plugins.Default.
func newScheduler() *scheduler {
	s := &scheduler{}
	s.finish()
	return s
}

// finish sets the keys. Parameters have their names sorted.
func (s *scheduler) finish() {
	s.key = digestOfJSON(s)
	if s.Admission != nil {
		s.admissionKey = digestOfJSON(s.Admission)
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

// connectAdmission finds what makes the options of admission control. The error is that
// of Registry.BuildAll.
func (s *scheduler) connectAdmission(reg *plugins.Registry) error {
	if s.Admission == nil {
		return nil
	}
	// Only a Registry knows all detectors, and it wants a profile.
	loaded, err := reg.BuildAll(plugins.Config{
		Plugins:   []plugins.PluginConfig{{Type: typeMaxScore, Name: typeMaxScore}},
		Profiles:  []plugins.ProfileConfig{{Name: "none", Plugins: []plugins.PluginRef{{PluginRef: typeMaxScore}}}},
		Admission: s.Admission,
	})
	s.admission = loaded.Admission
	return err
}

// build makes the profile. The error is that of Registry.Build.
func (s *scheduler) build(reg *plugins.Registry) (scheduling.Profile, error) {
	if len(s.Profiles.Profiles) == 0 {
		return s.buildDefault(), nil
	}
	profiles, err := reg.Build(s.Profiles)
	if err != nil {
		return scheduling.Profile{}, err
	}
	return profiles[s.Profiles.Profiles[0].Name], nil
}

func (s *scheduler) buildDefault() scheduling.Profile {
	p := plugins.Default()
	for i, f := range p.Filters {
		if shed, ok := f.Filter.(plugins.Shed); ok {
			shed.Room = s.Limits
			p.Filters[i].Filter = shed
		}
	}
	return p
}
