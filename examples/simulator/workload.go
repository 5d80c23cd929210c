package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

const defaultWorkload = "shared-prefix"

// generators are the workloads that a name is enough for, with the parameters that
// differ from the defaults of package simulation. A SPEC.json sets any.
func generators() []struct{ name, spec string } {
	return []struct{ name, spec string }{
		{"sharegpt", `{"kind": "sharegpt"}`},
		// Some applications are asked far more often than others.
		{"shared-prefix", `{"kind": "shared-prefix", "skew": 1}`},
		{"multi-lora", `{"kind": "multi-lora"}`},
		{"agentic", `{"kind": "agentic"}`},
		{"bursty", `{"kind": "bursty"}`},
		{"image-chat", `{"kind": "image-chat"}`},
		{"diffusion", `{"kind": "diffusion"}`},
		{"video", `{"kind": "video"}`},
		{"embeddings", `{"kind": "embeddings"}`},
		{"transcription", `{"kind": "transcription"}`},
	}
}

// traces are the workloads that are read from a file.
func traces() []string { return []string{"mooncake", "azure", "lengths"} }

// workloadNames are the values of -workload.
func workloadNames() []string {
	var ns []string
	for _, g := range generators() {
		ns = append(ns, g.name)
	}
	return append(ns, "mooncake:FILE", "azure:FILE", "lengths:FILE.csv", "file:SPEC.json")
}

// loadWorkload returns the workload of a name.
func loadWorkload(name string) (simulation.Spec, error) {
	kind, file, hasFile := strings.Cut(name, ":")
	var spec simulation.Spec
	var err error
	switch i := slices.IndexFunc(generators(), func(g struct{ name, spec string }) bool { return g.name == name }); {
	case i >= 0:
		spec, err = simulation.DecodeSpec([]byte(generators()[i].spec))
	case hasFile && file == "":
		return nil, fmt.Errorf("%q names no file", name)
	case kind == "file" && hasFile:
		return simulation.SpecFile(file)
	case slices.Contains(traces(), kind) && hasFile:
		if _, err := os.Stat(file); err != nil {
			return nil, err
		}
		var data []byte
		if data, err = json.Marshal(map[string]string{"kind": kind, "file": file}); err == nil {
			spec, err = simulation.DecodeSpec(data)
		}
	default:
		return nil, fmt.Errorf("%q is unknown, want one of %s", name, strings.Join(workloadNames(), ", "))
	}
	if err == nil {
		err = spec.Validate()
	}
	return spec, err
}

// hasOwnRate tells whether a workload says itself at what rate it is to be played:
// a trace with its time stamps, or a file with a rate in it.
func hasOwnRate(name string) bool {
	kind, _, _ := strings.Cut(name, ":")
	return kind == "mooncake" || kind == "azure" || kind == "file"
}

// endless returns a trace that begins anew at its end, to measure capacity with: at
// high rates one that ends would be over before a queue could grow. Other workloads
// have no end, and stay as they are.
func endless(s simulation.Spec) (simulation.Spec, error) {
	data, err := simulation.EncodeSpec(s)
	if errors.Is(err, simulation.ErrUnknownKind) {
		return s, nil
	}
	var fields map[string]any
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		return nil, err
	}
	if kind := fields["kind"]; kind != "mooncake" && kind != "azure" {
		return s, nil
	}
	fields["loop"] = true
	if data, err = json.Marshal(fields); err != nil {
		return nil, err
	}
	return simulation.DecodeSpec(data)
}

// arrivals are what the rate of a workload counts.
func arrivals(s simulation.Spec) string {
	switch s.(type) {
	case simulation.Agentic, simulation.ImageChat:
		return "sessions"
	}
	return "requests"
}

// specText is the workload with its parameters, as -workload file:SPEC.json reads
// it.
func specText(s simulation.Spec) string {
	data, err := simulation.EncodeSpec(s)
	if err != nil {
		return fmt.Sprintf("%+v", s)
	}
	return string(data)
}

// engineName is how the engine is called.
func engineName(c engine.Config) string {
	if c.Calibration.Name == "" {
		return engine.Llama31H100().Name
	}
	return c.Calibration.Name
}

// defaultPolicies are the baselines, what the Inference Extension did and does, and
// rules that track what they have sent.
func defaultPolicies() []string {
	return []string{"default", "random", "least-req", "gie-0.3", "classic-223", "classic+in-flight", "sglang", "dynamo", "llmd-sticky", "lmetric"}
}
