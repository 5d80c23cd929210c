package plugins_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/stretchr/testify/require"
)

// withAdmission is a declaration with an admission section.
func withAdmission(section string) []byte {
	return []byte(`{"plugins": [{"type": "max-score-picker", "name": "pick"}],
		"schedulingProfiles": [{"name": "p", "plugins": [{"pluginRef": "pick"}]}], "admission": ` + section + `}`)
}

func TestRegistryLoadAll(t *testing.T) {
	r := plugins.NewRegistry()
	loaded, err := r.LoadAll(withAdmission(`{"detectors": [{"type": "learned-batch-detector"}], "bands": [{"name": "all", "maxWait": "5s"}], "waitForEndpoints": "1m"}`))
	require.NoError(t, err)
	if len(loaded.Profiles) != 1 || loaded.Admission == nil {
		t.Fatalf("LoadAll = %+v", loaded)
	}
	a, b := loaded.Admission(), loaded.Admission()
	if a.Detector == b.Detector || a.Bands[0].Name != "all" || a.WaitForEndpoints.String() != "1m0s" {
		t.Errorf("the options are %+v, and once more %+v", a, b)
	}
	if _, err := admission.New(*a); err != nil {
		t.Error(err)
	}
	if profiles, err := r.Load(withAdmission(`{"bands": [{"name": "all"}]}`)); err != nil || len(profiles) != 1 {
		t.Errorf("Load of a file with an admission section = %v, %v", profiles, err)
	}

	for section, want := range map[string]*admission.Options{`null`: nil, `{}`: {}} {
		loaded, err := r.LoadAll(withAdmission(section))
		if err != nil || (loaded.Admission == nil) != (want == nil) {
			t.Fatalf("admission %s: %+v, %v", section, loaded, err)
		}
		if want != nil && !reflect.DeepEqual(loaded.Admission(), want) {
			t.Errorf("admission %s: %+v, want the defaults", section, loaded.Admission())
		}
	}
	if loaded, err := r.LoadAll([]byte(classicJSON)); err != nil || loaded.Admission != nil {
		t.Errorf("a declaration without admission control has one: %v", err)
	}
}

func TestRegistryLoadAllErrors(t *testing.T) {
	for _, tt := range []struct {
		section string
		want    []string
	}{
		{`7`, []string{"line 2, column ", "admission"}},
		{`{"bandz": []}`, []string{"line 2, column 92: admission.bandz is not a field; the nearest is bands"}},
		{`{"bands": [{"nam": "a"}]}`, []string{"admission.bands[0].nam is not a field; the nearest is name"}},
		{`{"detectors": [{"type": "low-queue-filter"}]}`, []string{`line 2, column 107: admission.detectors[0].type is "low-queue-filter", which is unknown; known are backlog-detector, `}},
		{`{"detectors": [{"type": "backlog-detector", "parameters": {"token": 1}}]}`, []string{"admission.detectors[0].parameters.token is not a field; the nearest is tokens"}},
		{`{"bands": [{"name": "a", "floor": 3}], "maxBands": -1}`, []string{`line 2, column 116: admission.bands[0].floor is 3, want 0 to 0.5`, `line 2, column 130: admission.maxBands is -1, want above 0`}},
		{`{"bands": [{"nam": "a"}], "flowIdle": "x"}`, []string{"admission.bands[0].nam is not", `line 2, column 117: admission.flowIdle is "x", want a duration above 0`}},
	} {
		loaded, err := plugins.NewRegistry().LoadAll(withAdmission(tt.section))
		if err == nil || loaded.Profiles != nil || loaded.Admission != nil {
			t.Errorf("LoadAll of %s = %v, %v, want an error", tt.section, loaded, err)
			continue
		}
		for _, want := range append(tt.want, "plugins: profiles: ") {
			require.Contains(t, err.Error(), want)
		}
		if _, err := plugins.NewRegistry().Load(withAdmission(tt.section)); err == nil {
			t.Errorf("Load of %s says nothing", tt.section)
		}
	}
	// What is wrong with profiles and with admission is said at once.
	_, err := plugins.NewRegistry().Load([]byte(`{"plugins": [{"type": "x"}], "schedulingProfiles": [], "admission": {"maxFlows": -1}}`))
	if err == nil || !strings.Contains(err.Error(), `plugins[0].type is "x"`) || !strings.Contains(err.Error(), "schedulingProfiles is empty") || !strings.Contains(err.Error(), "admission.maxFlows is -1") {
		t.Errorf("Load: %v, want all that is wrong", err)
	}
}

func TestRegistryAdmissionRoundTrip(t *testing.T) {
	for _, c := range []*admission.Config{nil, {}, {Options: admission.Options{Fairness: admission.FirstCome}, Detectors: []admission.DetectorConfig{{Type: "backlog-detector", Parameters: json.RawMessage(`{"tokens":5}`)}}}} {
		in := plugins.Config{
			Plugins:   []plugins.PluginConfig{{Type: "max-score-picker"}},
			Profiles:  []plugins.ProfileConfig{{Name: "p", Plugins: []plugins.PluginRef{{PluginRef: "max-score-picker"}}}},
			Admission: c,
		}
		data, err := json.Marshal(in)
		require.NoError(t, err)
		var out plugins.Config
		if err := json.Unmarshal(data, &out); err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("%+v becomes %+v, %v", in, out, err)
		}
		if built, err := plugins.NewRegistry().BuildAll(out); err != nil || (built.Admission != nil) != (c != nil) {
			t.Errorf("BuildAll of %s: %v", data, err)
		}
	}
}

func TestRegistryRegisterDetector(t *testing.T) {
	r, other := plugins.NewRegistry(), plugins.NewRegistry()
	factory := func(p json.RawMessage) (func() admission.Detector, error) {
		c := struct {
			Tokens int `json:"tokens"`
		}{7}
		err := plugins.Parameters(p, &c)
		return func() admission.Detector { return admission.Backlog{Tokens: c.Tokens} }, err
	}
	r.RegisterDetector("acme-detector", factory)
	section := func(parameters string) []byte {
		return withAdmission(`{"detectors": [{"type": "acme-detector"` + parameters + `}]}`)
	}
	for parameters, want := range map[string]int{``: 7, `, "parameters": {"tokens": 9}`: 9} {
		if loaded, err := r.LoadAll(section(parameters)); err != nil || loaded.Admission().Detector != (admission.Backlog{Tokens: want}) {
			t.Errorf("LoadAll of%s: %v", parameters, err)
		}
	}
	if _, err := r.LoadAll(section(`, "parameters": {"x": 9}`)); err == nil || !strings.Contains(err.Error(), "admission.detectors[0].parameters.x is not a field") {
		t.Errorf("LoadAll with a wrong parameter: %v", err)
	}
	if _, err := other.LoadAll(section(``)); err == nil {
		t.Error("another Registry knows the type too")
	}
	for name, call := range map[string]func(){
		"twice":        func() { r.RegisterDetector("acme-detector", factory) },
		"as ours":      func() { r.RegisterDetector("backlog-detector", factory) },
		"without name": func() { r.RegisterDetector("", factory) },
		"nil":          func() { r.RegisterDetector("acme-2", nil) },
	} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.HasPrefix(fmt.Sprint(v), "plugins: ") {
					t.Errorf("RegisterDetector %s: panic %v, want one that says why", name, v)
				}
			}()
			call()
		}()
	}
}

// FuzzRegistryLoadAll: no admission section makes LoadAll panic, and the options that one
// declares are valid.
func FuzzRegistryLoadAll(f *testing.F) {
	for _, section := range []string{
		`{}`, `null`, `{"bands": [{"name": "a", "priority": 1, "floor": 0.5}, {"name": "%d", "maxRequests": -1}]}`,
		`{"detectors": [{"type": "predicted-ttft-detector", "parameters": {"target": "1ns"}}, {"type": "backlog-detector"}]}`,
		`{"tenants": {"a": {}}, "budgets": [{"tenant": "*", "requestsPerMinute": 1e-9}], "credit": -1}`,
	} {
		f.Add(section)
	}
	f.Fuzz(func(t *testing.T, section string) {
		loaded, err := plugins.NewRegistry().LoadAll(withAdmission(section))
		if err != nil || loaded.Admission == nil {
			return
		}
		if err := loaded.Admission().Validate(); err != nil {
			t.Errorf("%s loads, but %v", section, err)
		}
	})
}

// A file declares profiles and admission control; the options are made for each pool.
func ExampleRegistry_LoadAll() {
	loaded, err := plugins.NewRegistry().LoadAll([]byte(`{
		"plugins": [{"type": "latency-cost"}, {"type": "max-score-picker"}],
		"schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": "latency-cost"}, {"pluginRef": "max-score-picker"}]}],
		"admission": {"fairness": "virtual-tokens", "tenants": {"gold": {"weight": 3}, "silver": {}}}
	}`))
	if err != nil {
		panic(err)
	}
	// For director.Options.Admission, give loaded.Admission() for each pool.
	fmt.Println(len(loaded.Profiles), loaded.Admission().Tenants["gold"].Weight)
	// Output: 1 3
}
