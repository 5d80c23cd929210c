package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
)

// scheduler is how the profile of a pool is declared. Immutable once made.
type scheduler struct {
	// Profiles has one profile, or none for that of plugins.Default.
	Profiles plugins.Config
	// Limits take the place of those in plugins.Default, where they are not 0.
	Limits plugins.Room

	key string
}

// newScheduler returns that of plugins.Default.
func newScheduler() *scheduler {
	s := &scheduler{}
	s.finish()
	return s
}

// finish sets the key. Parameters have their names sorted.
func (s *scheduler) finish() {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers were checked, and all else is JSON already
	}
	sum := sha256.Sum256(data)
	s.key = hex.EncodeToString(sum[:])
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

// buildErrors takes apart what Registry.Build returned.
func buildErrors(err error) []error {
	if list, ok := errors.Unwrap(err).(interface{ Unwrap() []error }); ok {
		return list.Unwrap()
	}
	return []error{err}
}

// moved is an error of Registry.Build with the path that a plugin has in the
// document. Lines and columns in it are left out: they are of JSON that nobody
// has written.
type moved struct {
	from, to string
	err      error
}

var position = regexp.MustCompile(`line \d+, column \d+: `)

func (m moved) Error() string {
	return m.to + position.ReplaceAllString(strings.TrimPrefix(m.err.Error(), m.from), "")
}

func (m moved) Unwrap() error { return m.err }
