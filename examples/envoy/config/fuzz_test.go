package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
)

// FuzzParse: no configuration makes Parse panic, errors say where, and what is
// good can be put in force.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*/*")
	must(f, err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		must(f, err)
		f.Add(data, strings.HasSuffix(path, ".json"))
		f.Add([]byte(poolYAML+"---\n"+string(data)), false)
	}
	for _, s := range []string{"--- |\n---\n...\n%", "\ufeffa: b: c\r--- x\r\n", "? a\n: *b", "- &a [*a]", "a: \"\u2028--- \"", "!!binary x: y", "<<: {a: b}"} {
		f.Add([]byte(s), false)
	}
	for _, s := range []string{
		gate + "flowControl: {maxBytes: 1.5Gi, maxRequests: \"1k\", defaultRequestTTL: 30s, defaultPriorityBand: {maxRequests: 5}, priorityBands: [{priority: 100, maxBytes: 5e6}, {priority: -1, fairnessPolicyRef: round-robin-fairness-policy}]}\n",
		gate + "plugins: [{type: concurrency-detector, parameters: {concurrencyMode: tokens}}, {type: static-usage-limit-policy, parameters: {threshold: 0.5}}]\nsaturationDetector: {pluginRef: concurrency-detector}\n",
		"admission: {bands: [{name: a, priority: 1, floor: 0.1}, {name: b, ceiling: 0.5, maxRequests: -1}], tenants: {x: {weight: 2}}, budgets: [{tenant: x, tokensPerMinute: 5}], detectors: [{type: learned-batch-detector}]}\n",
	} {
		f.Add([]byte(poolYAML+pickerHead+s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		name := "f.yaml"
		if isJSON {
			name = "f.json"
		}
		c, err := config.Loader{}.Parse(name, data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "config: "+name+": ") {
				t.Fatalf("error %q does not say where", err)
			}
			return
		}
		for _, pool := range c.Pools() {
			p, err := c.Profile(pool)
			must(t, err)
			if _, err := scheduling.New(p); err != nil {
				t.Fatal(err)
			}
			if o := c.Admission(pool); o != nil {
				c, err := admission.New(*o)
				must(t, err)
				c.Close()
			}
			if c.ProfileKey(pool) == "" {
				t.Fatalf("pool %s has no key", pool)
			}
			if _, ok := c.Change.Endpoints[pool]; !ok {
				t.Fatalf("pool %s has no list of endpoints", pool)
			}
		}
		must(t, datastore.New(datastore.Options{DeclaredPoolsOnly: true}).Commit(c.Change))
		again, err := config.Loader{}.Parse(name, data)
		must(t, err)
		for _, pool := range c.Pools() {
			if c.ProfileKey(pool) != again.ProfileKey(pool) || c.AdmissionKey(pool) != again.AdmissionKey(pool) {
				t.Fatalf("the key of pool %s is another the second time", pool)
			}
		}
	})
}
