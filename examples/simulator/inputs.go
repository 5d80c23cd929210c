package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// loadDenoiser returns the denoiser of a name, if there is one.
func loadDenoiser(name string) *engine.DiffusionConfig {
	for _, d := range engine.Denoisers() {
		if d.Name == name {
			return &engine.DiffusionConfig{Denoiser: d}
		}
	}
	return nil
}

// loadEngine returns the engine of a calibration's name or of a file.
func loadEngine(name string) (engine.Config, error) {
	var known []string
	for _, c := range engine.Calibrations() {
		if c.Name == name {
			return engine.Config{Calibration: c}, nil
		}
		known = append(known, c.Name)
	}
	if !strings.HasSuffix(name, ".json") {
		return engine.Config{}, fmt.Errorf("%q is unknown; known are %s, or a FILE.json", name, strings.Join(known, ", "))
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return engine.Config{}, err
	}
	var c engine.Config
	if err := strictjson.Decode(data, &c, strictjson.Options{File: name}); err != nil {
		return engine.Config{}, err
	}
	if _, err := engine.New(c); err != nil {
		return engine.Config{}, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// loadPolicies returns the policies of a list, and one for each profile of the
// files in another.
func loadPolicies(list, files string) ([]simulation.Policy, error) {
	var ps []simulation.Policy
	var err error
	if list != "" || files == "" {
		if ps, err = policies.ByName(list); err != nil {
			return nil, fmt.Errorf("-policy: %w", err)
		}
	}
	if files != "" {
		for _, file := range strings.Split(files, ",") {
			more, err := profiles(file)
			if err != nil {
				return nil, fmt.Errorf("-profile: %w", err)
			}
			ps = append(ps, more...)
		}
	}
	seen := map[string]bool{}
	for _, p := range ps {
		if seen[p.Name] {
			return nil, fmt.Errorf("-policy: %q is there twice", p.Name)
		}
		seen[p.Name] = true
	}
	return ps, nil
}

// apartNames are the policies that may send a prompt to another server than the one that answers.
func apartNames() []string { return names(policies.Apart()) }

// suitePolicies is loadPolicies, with no policies at all for two empty lists: the
// suite says then which.
func suitePolicies(list, files string) ([]simulation.Policy, error) {
	if list == "" && files == "" {
		return nil, nil
	}
	return loadPolicies(list, files)
}

// profiles returns the profiles that a file declares, by name. Each run loads them
// anew: a profile holds what it has learned.
func profiles(file string) ([]simulation.Policy, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	loaded, err := plugins.NewRegistry().Load(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var ps []simulation.Policy
	for _, name := range slices.Sorted(maps.Keys(loaded)) {
		ps = append(ps, simulation.Policy{Name: file + "#" + name, Profile: func() scheduling.Profile {
			again, err := plugins.NewRegistry().Load(data)
			if err != nil {
				panic(fmt.Sprintf("simulator: %s was right before: %v", file, err)) // the same bytes
			}
			return again[name]
		}})
	}
	return ps, nil
}

func names(ps []simulation.Policy) []string {
	ns := make([]string, len(ps))
	for i, p := range ps {
		ns[i] = p.Name
	}
	return ns
}

// admissionFiles reads files with an admission.Config each: options by the names of the
// files.
func admissionFiles(list string) (map[string]func() admission.Options, error) {
	if list == "" {
		return nil, nil
	}
	controls := map[string]func() admission.Options{}
	for _, path := range strings.Split(list, ",") {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		c, err := admission.LoadConfig(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		options, err := c.Make(nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		controls[filepath.Base(path)] = func() admission.Options { return *options() }
	}
	return controls, nil
}
