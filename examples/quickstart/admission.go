package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
)

// loadAdmission returns what makes the options of admission control, nil for none: for "on"
// those of the policy, or the default ones if it says nothing; for FILE.json, or
// FILE.json#PROFILE for one of its profiles, those that the file declares.
func loadAdmission(arg string, p policy) (func() *admission.Options, error) {
	switch arg {
	case "off":
		return nil, nil
	case "on":
		if p.admission != nil {
			return p.admission, nil
		}
		return func() *admission.Options { return new(admission.Options) }, nil
	}
	path, name, _ := strings.Cut(arg, "#")
	if !strings.Contains(path, ".json") {
		return nil, fmt.Errorf("unknown value %q, want on, off, or FILE.json[#PROFILE]", arg)
	}
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
