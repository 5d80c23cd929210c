package plugins

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
)

// Policy is one profile of a file, and the admission control that the file declares.
type Policy struct {
	// Name is the profile's.
	Name string
	// Profile is ready for scheduling.New.
	Profile scheduling.Profile
	// Admission makes the options of admission control, anew at each call, as in Loaded.
	// Nil: the file has none.
	Admission func() *admission.Options
	// Source is what the file says, for those who want to know later whether it has changed.
	Source []byte
}

// LoadProfile is Registry.LoadProfile for the plugins of this package.
func LoadProfile(path string) (Policy, error) { return NewRegistry().LoadProfile(path) }

// LoadProfile reads a profile from FILE or FILE#NAME, where FILE is a Config in JSON, as for
// LoadAll. Without NAME it is the profile called "default", or else the only one. Each call
// makes a new profile, which knows nothing of what another has learned. The error names the
// file, and the profiles that are there if NAME is none of them.
func (r *Registry) LoadProfile(path string) (Policy, error) {
	file, name, _ := strings.Cut(path, "#")
	data, err := os.ReadFile(file)
	if err != nil {
		return Policy{}, fmt.Errorf("%s: %w", errPackage, err)
	}
	loaded, err := r.loadAll(file, data)
	if err != nil {
		return Policy{}, err
	}
	names := slices.Sorted(maps.Keys(loaded.Profiles))
	if name == "" && len(names) == 1 {
		name = names[0]
	}
	name = cmp.Or(name, "default")
	profile, ok := loaded.Profiles[name]
	if !ok {
		return Policy{}, fmt.Errorf("%s: %s: no profile %q, want %s#NAME with one of %s", errPackage, file, name, file, strings.Join(names, ", "))
	}
	return Policy{Name: name, Profile: profile, Admission: loaded.Admission, Source: data}, nil
}
