package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
)

const (
	defaultPolicy  = "default"
	defaultCompare = "round-robin"
)

// policy is a scheduling policy under the name that tables and the page show.
type policy struct {
	name    string
	arg     string // of loadPolicy
	profile scheduling.Profile
	// admission makes the options of admission control, new ones at each call. Nil: the
	// policy says nothing of it.
	admission func() *admission.Options
}

// readyMade returns the policies that have a name. Each call makes new ones: a
// profile with a prefix index must not be shared by two schedulers.
func readyMade() map[string]func() scheduling.Profile {
	return map[string]func() scheduling.Profile{
		"default":        plugins.Default,
		"classic":        plugins.Classic,
		"inflight":       plugins.ClassicWithInFlight,
		"tree":           plugins.DecisionTree,
		"least-requests": plugins.LeastRequests,
		"round-robin":    plugins.RoundRobinProfile,
		"random":         plugins.RandomProfile,
	}
}

func policyNames() []string { return slices.Sorted(maps.Keys(readyMade())) }

// loadPolicy returns the policy with a name, or that of a file: FILE.json, or
// FILE.json#PROFILE if it declares several.
func loadPolicy(arg string) (policy, error) {
	if ready, ok := readyMade()[arg]; ok {
		return policy{name: arg, arg: arg, profile: ready()}, nil
	}
	if !strings.Contains(arg, ".json") && !strings.ContainsRune(arg, filepath.Separator) {
		return policy{}, fmt.Errorf("unknown policy %q, want one of %s, or FILE.json[#PROFILE]", arg, strings.Join(policyNames(), ", "))
	}
	p, err := plugins.LoadProfile(arg)
	return policy{p.Name, arg, p.Profile, p.Admission}, err
}

// loadAdmission returns what makes the options of admission control, nil for none: for "on"
// those of the policy, or the default ones if it says nothing; for FILE.json, or
// FILE.json#PROFILE for one of its profiles, those that the file declares.
func loadAdmission(arg string, p policy) (func() *admission.Options, error) {
	switch {
	case arg == "off":
		return nil, nil
	case arg == "on" && p.admission != nil:
		return p.admission, nil
	case arg == "on":
		return func() *admission.Options { return new(admission.Options) }, nil
	case !strings.Contains(arg, ".json"):
		return nil, fmt.Errorf("unknown value %q, want on, off, or FILE.json[#PROFILE]", arg)
	}
	path, name, _ := strings.Cut(arg, "#")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	loaded, err := plugins.NewRegistry().LoadAll(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, ok := loaded.Profiles[name]; name != "" && !ok {
		return nil, fmt.Errorf("%s: no profile %q", path, name)
	}
	if loaded.Admission == nil {
		return nil, fmt.Errorf("%s: declares no admission, want a section such as \"admission\": {}", path)
	}
	return loaded.Admission, nil
}
