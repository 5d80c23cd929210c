package admission_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/stretchr/testify/require"
)

const fullConfig = `{
	"detectors": [
		{"type": "utilization-detector", "parameters": {"queueDepthThreshold": 7, "kvCacheUtilThreshold": 0.7}},
		{"type": "concurrency-detector", "parameters": {"maxConcurrency": 50, "maxTokenConcurrency": 100000}},
		{"type": "backlog-detector", "parameters": {"tokens": 9000}},
		{"type": "predicted-ttft-detector", "parameters": {"target": "750ms", "rate": 5000}},
		{"type": "learned-batch-detector"}
	],
	"bands": [
		{"name": "high", "priority": 10, "ceiling": 1.5, "modestCeiling": 1.6, "maxRequests": 100, "maxBytes": 1000, "maxWait": "1m", "displace": true},
		{"name": "mid", "priority": 0, "ceiling": 0.9, "floor": 0.1},
		{"name": "low", "ceiling": 0.5, "maxRequests": -1}
	],
	"maxRequests": 500, "maxBytes": 123456, "maxBands": 5, "maxLanes": 6,
	"fairness": "prefix-locality", "order": "earliest-deadline",
	"inputWeight": 1.5, "outputWeight": 3, "denoiseWeight": 0.5, "credit": -1, "quantum": 2048,
	"tenants": {"gold": {"weight": 4}, "plain": {}},
	"maxFlows": 77, "maxPrograms": 33, "flowIdle": "2m", "outputTokens": 99,
	"waitForEndpoints": "45s", "revoke": true,
	"budgets": [{"tenant": "*", "model": "m", "requestsPerMinute": 60, "tokensPerMinute": 10000, "burst": 2}],
	"maxRetryAfter": "20s", "metricsTTL": "3s", "ticketTTL": "7m", "peerDelay": "200ms", "maxAccounts": 4321
}`

func load(t *testing.T, data string) admission.Config {
	t.Helper()
	c, err := admission.LoadConfig([]byte(data))
	require.NoError(t, err)
	return c
}

func TestConfigOptions(t *testing.T) {
	options, err := load(t, fullConfig).Make(nil)
	require.NoError(t, err)
	want := &admission.Options{
		Detector: admission.Max{
			admission.Utilization{Queue: 7, KVUsage: .7}, admission.Concurrency{Requests: 50, Tokens: 100_000}, admission.Backlog{Tokens: 9000},
			&admission.PredictedTTFT{Target: 750 * time.Millisecond, Rate: 5000}, &admission.LearnedBatch{},
		},
		Bands: []admission.Band{
			{Name: "high", Priority: 10, Ceiling: 1.5, ModestCeiling: 1.6, MaxRequests: 100, MaxBytes: 1000, MaxWait: time.Minute, Displace: true},
			{Name: "mid", Ceiling: .9, Floor: .1},
			{Name: "low", Priority: math.MinInt, Ceiling: .5, MaxRequests: -1},
		},
		MaxRequests:      500,
		Fairness:         admission.PrefixLocality,
		Tenants:          map[string]admission.Tenant{"gold": {Weight: 4}, "plain": {}},
		WaitForEndpoints: 45 * time.Second, Revoke: true,
		Budgets: []admission.Budget{{Tenant: "*", Model: "m", RequestsPerMinute: 60, TokensPerMinute: 10_000, Burst: 2}},
		Tuning:  admission.Tuning{MaxBytes: 123456, MaxBands: 5, MaxLanes: 6, Order: admission.EarliestDeadline, InputWeight: 1.5, OutputWeight: 3, DenoiseWeight: .5, Credit: -1, Quantum: 2048, MaxFlows: 77, FlowIdle: 2 * time.Minute, OutputTokens: 99, MaxPrograms: 33, MaxRetryAfter: 20 * time.Second, MetricsTTL: 3 * time.Second, TicketTTL: 7 * time.Minute, PeerDelay: 200 * time.Millisecond, MaxAccounts: 4321},
	}
	if got := options(); !reflect.DeepEqual(got, want) {
		t.Errorf("Options = %+v\nwant %+v", got, want)
	}
	// Every field is declared here, so that none is forgotten.
	for _, of := range []reflect.Value{reflect.ValueOf(*want), reflect.ValueOf(want.Tuning)} {
		for f, v := range of.Fields() {
			if f.Name != "Hooks" && f.Name != "Clock" && v.IsZero() {
				t.Errorf("the test leaves out %s", f.Name)
			}
		}
	}
	if _, err := admission.New(*options()); err != nil {
		t.Error(err)
	}
}

// Fields have their own names in a declaration.
func TestOptionsAreDeclaredByTheirNames(t *testing.T) {
	for _, of := range []any{admission.Options{}, admission.Tuning{}, admission.Band{}, admission.Tenant{}, admission.Budget{}} {
		for f := range reflect.ValueOf(of).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if want := strings.ToLower(f.Name[:1]) + f.Name[1:]; name != want && !f.Anonymous && !slices.Contains([]string{"Detector", "Hooks", "Clock"}, f.Name) {
				t.Errorf("%T.%s is declared as %q, want %q", of, f.Name, name, want)
			}
		}
	}
}

// What learns is one Controller's own.
func TestConfigOptionsAreNewEachTime(t *testing.T) {
	options, err := load(t, fullConfig).Make(nil)
	require.NoError(t, err)
	a, b := options(), options()
	for i := 3; i < 5; i++ { // those that learn
		if a.Detector.(admission.Max)[i] == b.Detector.(admission.Max)[i] {
			t.Errorf("two sets of options share the detector %T", a.Detector.(admission.Max)[i])
		}
	}
	a.Bands[0].Name, a.Budgets[0].Tenant, a.Tenants["gold"] = "changed", "changed", admission.Tenant{}
	if c := options(); b.Bands[0].Name != "high" || c.Bands[0].Name != "high" || c.Budgets[0].Tenant != "*" || c.Tenants["gold"].Weight != 4 {
		t.Error("two sets of options share bands, budgets or tenants")
	}
}

func TestConfigDefaults(t *testing.T) {
	options, err := load(t, `{}`).Make(nil)
	require.NoError(t, err)
	if got := options(); !reflect.DeepEqual(got, &admission.Options{}) {
		t.Errorf("an empty Config is %+v, want the zero Options, which have the defaults", got)
	}
	options, err = load(t, `{"detectors": [{"type": "backlog-detector"}], "fairness": "virtual-tokens", "order": "fifo"}`).Make(nil)
	require.NoError(t, err)
	if got := options(); !reflect.DeepEqual(got, &admission.Options{Detector: admission.Backlog{}}) {
		t.Errorf("one detector alone: %+v", got)
	}
	options, err = load(t, `{"fairness": "first-come"}`).Make(nil)
	if err != nil || options().Fairness != admission.FirstCome {
		t.Errorf("first-come: %v", err)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	for _, data := range []string{fullConfig, `{}`} {
		c := load(t, data)
		out, err := json.Marshal(c)
		require.NoError(t, err)
		again := load(t, string(out))
		a, err := c.Make(nil)
		require.NoError(t, err)
		b, err := again.Make(nil)
		require.NoError(t, err)
		if !reflect.DeepEqual(a(), b()) {
			t.Errorf("%s\nbecomes %+v, want %+v", out, b(), a())
		}
		if out2, _ := json.Marshal(again); string(out2) != string(out) {
			t.Errorf("marshalled again: %s, want %s", out2, out)
		}
	}
}

// TestConfigAgreesWithOptions: what a Config of the defaults of Options would say is valid.
func TestConfigAgreesWithOptions(t *testing.T) {
	var c admission.Config
	for i, b := range admission.DefaultBands() {
		bc := admission.BandConfig{Band: b}
		if i < 2 {
			bc.Priority = &b.Priority
		}
		c.Bands = append(c.Bands, bc)
	}
	options, err := c.Make(nil)
	require.NoError(t, err)
	if got := options().Bands; !reflect.DeepEqual(got, admission.DefaultBands()) {
		t.Errorf("the default bands, declared, are %+v", got)
	}
}

func TestLoadConfigErrors(t *testing.T) {
	for data, want := range map[string]string{
		``:                               "line 1, column 1: the document is empty",
		`{"bands": [`:                    "line 1, column 12: the document ends in the middle",
		`{"bands": [,]}`:                 "line 1, column 12: the document is no JSON: invalid character ','",
		`{} {}`:                          "line 1, column 4: the document is no JSON: invalid character '{' after top-level value",
		`{} x`:                           "line 1, column 4: the document is no JSON: invalid character 'x' after top-level value",
		`[]`:                             "line 1, column 1: the document is [], want an object",
		`{"bands": 7}`:                   "line 1, column 2: bands is 7, want a list",
		`{"maxWait": "1s"}`:              "maxWait is not a field; known are detectors, bands, maxRequests, ",
		`{"bands": [{"prioity": 1}]}`:    "bands[0].prioity is not a field; the nearest is priority",
		`{"tenants": {"a": {"w": 1}}}`:   `tenants["a"].w is not a field; known are weight`,
		`{"budgets": [{"rpm": 1}]}`:      "budgets[0].rpm is not a field; known are tenant, model, requestsPerMinute",
		`{"detectors": [{"name": "a"}]}`: "detectors[0].name is not a field; known are type, parameters",
		`{"maxRequests": 1.5}`:           "maxRequests is 1.5, want an integer",
		`{"outputWeight": 1e400}`:        "outputWeight is 1e400, want a number",
		`{"fairness": "round-robin"}`:    `fairness: "round-robin", want one of virtual-tokens, prefix-locality, first-come`,
		`{"order": "lifo"}`:              `order: "lifo", want one of fifo, earliest-deadline`,
		`{"flowIdle": 5}`:                "flowIdle is 5, want a duration above 0 such as ",
		`{"flowIdle": "soon"}`:           `flowIdle is "soon", want a duration above 0 such as `,
		`{"waitForEndpoints": "30"}`:     `waitForEndpoints is "30", want a duration above 0 such as `,
		`{"maxRetryAfter": "-1s"}`:       `maxRetryAfter is "-1s", want a duration above 0 such as `,
		`{"metricsTTL": "0s"}`:           `metricsTTL is "0s", want a duration above 0 such as `,

		`{"bands": [{"name": "a"}, {"maxWait": "1 minute"}]}`: `line 1, column 28: bands[1].maxWait is "1 minute", want a duration above 0 such as `,
		`{"fairness": "x", "flowIdle": "x", "band": []}`:      "flowIdle is \"x\", want a duration above 0 such as \"300ms\" or \"5s\"\nadmission: line 1, column 36: band is not a field; the nearest is bands",
	} {
		c, err := admission.LoadConfig([]byte(data))
		if err == nil || !strings.HasPrefix(err.Error(), "admission: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("LoadConfig(%s) = %v, want %q in it", data, err, want)
		}
		if !reflect.DeepEqual(c, admission.Config{}) {
			t.Errorf("LoadConfig(%s) = %+v with an error", data, c)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	list := make([]string, 1001)
	for i := range list {
		list[i] = fmt.Sprintf(`{"tenant": "%d", "tokensPerMinute": 1}`, i)
	}
	manyBudgets := `{"budgets": [` + strings.Join(list, ",") + `]}`
	detector := func(name, parameters string) string {
		return `{"detectors": [{"type": "learned-batch-detector"}, {"type": "` + name + `", "parameters": ` + parameters + `}]}`
	}
	band := func(fields string) string {
		return `{"bands": [{"name": "high", "priority": 9}, {"name": "standard", "priority": 1, ` + fields + `}]}`
	}
	budget := func(fields string) string {
		return `{"budgets": [{"tokensPerMinute": 5}, {"tenant": "t%d", "model": "*", ` + fields + `}]}`
	}
	const at, in = `admission: bands[1]`, `admission: budgets[1]`
	for _, tt := range []struct {
		name, data string
		want       []string // the lines
	}{
		{"maxRequests", `{"maxRequests": -1}`, []string{"admission: maxRequests is -1, want above 0, or 0 for the default "}},
		{"maxBytes", `{"maxBytes": -2}`, []string{"admission: maxBytes is -2, want above 0, or 0 for the default "}},
		{"maxBands", `{"maxBands": -3}`, []string{"admission: maxBands is -3, want above 0, or 0 for the default "}},
		{"maxLanes", `{"maxLanes": -4}`, []string{"admission: maxLanes is -4, want above 0, or 0 for the default "}},
		{"maxFlows", `{"maxFlows": -5}`, []string{"admission: maxFlows is -5, want above 0, or 0 for the default "}},
		{"outputTokens", `{"outputTokens": -6}`, []string{"admission: outputTokens is -6, want above 0, or 0 for the default "}},
		{"inputWeight", `{"inputWeight": -1}`, []string{"admission: inputWeight is -1, want 0 to 1e+09, or 0 for the default "}},
		{"outputWeight", `{"outputWeight": 2e9}`, []string{"admission: outputWeight is 2000000000, want 0 to 1e+09, or 0 for the default "}},
		{"quantum", `{"quantum": -0.5}`, []string{"admission: quantum is -0.5, want 0 to 1e+09, or 0 for the default "}},
		{"a tenant's weight", `{"tenants": {"a": {"weight": 1}, "50%s": {"weight": 1001}, "c": {"weight": 0.0001}, "d": {"weight": -1}}}`, []string{
			`admission: tenants["50%s"].weight is 1001, want 0.001 to 1000`, `admission: tenants["c"].weight is 0.0001, want 0.001 to 1000`, `admission: tenants["d"].weight is -1, want 0.001 to 1000`}},

		{"detector type", `{"detectors": [{"type": "no-detector"}]}`, []string{
			`admission: detectors[0].type is "no-detector", which is unknown; known are backlog-detector, concurrency-detector, learned-backlog-detector, learned-batch-detector, learned-concurrency-detector, predicted-ttft-detector, utilization-detector`}},
		{"detector without a type", `{"detectors": [{}]}`, []string{
			`admission: detectors[0].type is "", which is unknown; known are backlog-detector, concurrency-detector, learned-backlog-detector, learned-batch-detector, learned-concurrency-detector, predicted-ttft-detector, utilization-detector`}},
		{"utilization", detector("utilization-detector", `{"queueDepthThreshold": -1, "kvCacheUtilThreshold": -2}`), []string{
			"admission: detectors[1].parameters.queueDepthThreshold is -1, want at least 0, which is the default", "admission: detectors[1].parameters.kvCacheUtilThreshold is -2, want at least 0, which is the default"}},
		{"utilization, unknown", detector("utilization-detector", `{"queue": 1}`), []string{`admission: detectors[1].parameters.queue is not a field`}},
		{"concurrency", detector("concurrency-detector", `{"maxConcurrency": -1, "maxTokenConcurrency": -2}`), []string{
			"admission: detectors[1].parameters.maxConcurrency is -1, want at least 0, which is the default", "admission: detectors[1].parameters.maxTokenConcurrency is -2, want at least 0, which is the default"}},
		{"concurrency, unknown", detector("concurrency-detector", `{"headroom": 0.1}`), []string{`admission: detectors[1].parameters.headroom is not a field`}},
		{"backlog", detector("backlog-detector", `{"tokens": -1}`), []string{"admission: detectors[1].parameters.tokens is -1, want at least 0, which is the default"}},
		{"backlog, unknown", detector("backlog-detector", `{"token": 1}`), []string{`admission: detectors[1].parameters.token is not a field`}},
		{"predicted TTFT", detector("predicted-ttft-detector", `{"target": "1", "rate": -1}`), []string{
			`admission: detectors[1].parameters.target is "1", want a duration above 0 such as `, "admission: detectors[1].parameters.rate is -1, want at least 0, which is the default"}},
		{"predicted TTFT, unknown", detector("predicted-ttft-detector", `{"a": "1"}`), []string{`admission: detectors[1].parameters.a is not a field`}},
		{"learned batch", detector("learned-batch-detector", `{"a": "1"}`), []string{`admission: detectors[1].parameters.a is not a field`}},
		{"parameters that are no object", detector("backlog-detector", `[]`), []string{"admission: detectors[1].parameters is [], want an object"}},

		{"band name", `{"bands": [{"priority": 1}]}`, []string{`admission: bands[0].name is required`}},
		{"band name twice", `{"bands": [{"name": "a", "priority": 1}, {"name": "a"}]}`, []string{`admission: bands[1].name is "a", as that of another band`}},
		{"band priority twice", `{"bands": [{"name": "a", "priority": 1}, {"name": "b", "priority": 1}]}`, []string{`admission: bands[1].priority is 1, as that of band "a"`}},
		{"two without a priority", `{"bands": [{"name": "a"}, {"name": "b"}]}`, []string{`admission: bands[1].priority is required, for bands[0] has none either`}},
		{"ceiling", band(`"ceiling": 2000`), []string{at + ".ceiling is 2000, want above 0 and at most 1000", at + ".ceiling is 2000, above the 1 of band \"high\", which goes first", at + ".modestCeiling is 2000, above the 1 of band \"high\", which goes first"}},
		{"ceiling below 0", band(`"ceiling": -0.1`), []string{at + ".ceiling is -0.1, want above 0 and at most 1000"}},
		{"ceiling above that of a higher band", band(`"ceiling": 1.2`), []string{at + `.ceiling is 1.2, above the 1 of band "high", which goes first`, at + `.modestCeiling is 1.2, above the 1 of band "high", which goes first`}},
		{"ceiling below that of a lower band", `{"bands": [{"name": "low", "ceiling": 0.9}, {"name": "high", "priority": 1, "ceiling": 0.8}]}`, []string{
			`admission: bands[0].ceiling is 0.9, above the 0.8 of band "high", which goes first`, `admission: bands[0].modestCeiling is 0.9, above`}},
		{"band maxRequests", band(`"maxRequests": -2`), []string{at + ".maxRequests is -2, want at least 0, or -1 for no queue"}},
		{"band maxBytes", band(`"maxBytes": -1`), []string{at + ".maxBytes is -1, want at least 0"}},
		{"band floor", band(`"floor": 0.6`), []string{at + ".floor is 0.6, want 0 to 0.5"}},
		{"band floor below 0", band(`"floor": -0.1`), []string{at + ".floor is -0.1, want 0 to 0.5"}},
		{"modest ceiling", band(`"ceiling": 0.5, "modestCeiling": 0.4`), []string{at + ".modestCeiling is 0.4, want at least its ceiling of 0.5"}},
		{"floor without a queue", band(`"floor": 0.1, "maxRequests": -1`), []string{at + ".floor is 0.1, but nothing of the band waits: maxRequests is -1"}},
		{"floors", `{"bands": [{"name": "a", "floor": 0.4}, {"name": "b", "priority": 1, "floor": 0.4}, {"name": "c", "priority": 2, "floor": 0.4}]}`, []string{
			"admission: bands have floors that add up to 1.2"}},

		{"budgets", manyBudgets, []string{"admission: budgets has 1001 entries, want at most 1000"}},
		{"budget of nothing", budget(`"burst": 1`), []string{in + " bounds neither requestsPerMinute nor tokensPerMinute"}},
		{"requestsPerMinute", budget(`"requestsPerMinute": -1`), []string{in + ".requestsPerMinute is -1, want 0 to 1e+12"}},
		{"tokensPerMinute", budget(`"tokensPerMinute": 2e15`), []string{in + ".tokensPerMinute is 2000000000000000, want 0 to 1e+15"}},
		{"burst", budget(`"tokensPerMinute": 1, "burst": 0.001`), []string{in + ".burst is 0.001, want 0.01 to 1000"}},
		{"a budget twice", `{"budgets": [{"tokensPerMinute": 1}, {"requestsPerMinute": 1}]}`, []string{`admission: budgets[1] is of tenant "", model "", and so is another`}},

		{"all at once", `{"maxRequests": -1, "detectors": [{"type": "x"}], "bands": [{"name": "a", "floor": 1}], "tenants": {"t": {"weight": -1}}, "budgets": [{}]}`, []string{
			`admission: detectors[0].type is "x", which is unknown; known are backlog-detector, concurrency-detector, learned-backlog-detector, learned-batch-detector, learned-concurrency-detector, predicted-ttft-detector, utilization-detector`,
			"admission: maxRequests is -1, want above 0, or 0 for the default ",
			`admission: bands[0].floor is 1, want 0 to 0.5`,
			"admission: bands have floors that add up to 1, want at most 0.9",
			`admission: tenants["t"].weight is -1, want 0.001 to 1000`,
			`admission: budgets[0] bounds neither requestsPerMinute nor tokensPerMinute`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options, err := load(t, tt.data).Make(nil)
			if err == nil || options != nil {
				t.Fatalf("Options: %v, want an error", err)
			}
			lines := strings.Split(err.Error(), "\n")
			for i, want := range tt.want {
				if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
					t.Errorf("Options:\n%v\nwant %q as line %d", err, want, i+1)
				}
			}
			if len(lines) > len(tt.want) {
				t.Errorf("Options:\n%v\nwant no more than %d lines", err, len(tt.want))
			}
		})
	}
	for _, c := range []admission.Options{
		{Tuning: admission.Tuning{Credit: math.NaN()}}, {Tuning: admission.Tuning{Credit: math.Inf(1)}}, {Tuning: admission.Tuning{Quantum: math.NaN()}}, {Budgets: []admission.Budget{{TokensPerMinute: math.NaN()}}},
	} {
		if _, err := (admission.Config{Options: c}).Make(nil); err == nil || !strings.HasPrefix(err.Error(), "admission") {
			t.Errorf("Options of %+v: %v, want an error", c, err)
		}
	}
}

func TestConfigCustomDetector(t *testing.T) {
	types := admission.Detectors()
	made := 0
	types["acme-detector"] = func(p json.RawMessage) (func() admission.Detector, error) {
		switch string(p) {
		case `{"bad":1}`:
			return nil, errors.New("bad is 1, want none")
		case `{"nothing":1}`:
			return nil, nil
		}
		return func() admission.Detector { made++; return admission.Backlog{Tokens: made} }, nil
	}
	config := func(parameters string) admission.Config {
		return load(t, `{"detectors": [{"type": "acme-detector"`+parameters+`}]}`)
	}
	options, err := config("").Make(types)
	if err != nil || made != 0 {
		t.Fatalf("Options made %d: %v", made, err)
	}
	for i := range 2 {
		if got := options().Detector; got != (admission.Backlog{Tokens: i + 1}) {
			t.Errorf("detector %d is %v", i, got)
		}
	}
	for parameters, want := range map[string]string{
		`, "parameters": {"bad":1}`:     "admission: detectors[0].parameters: bad is 1, want none",
		`, "parameters": {"nothing":1}`: `admission: detectors[0].type is "acme-detector", whose factory returned nothing`,
	} {
		if _, err := config(parameters).Make(types); err == nil || err.Error() != want {
			t.Errorf("Options: %v, want %s", err, want)
		}
	}
	if _, err := config("").Make(nil); err == nil || !strings.Contains(err.Error(), "which is unknown") {
		t.Errorf("the type is known to others: %v", err)
	}
}

// FuzzConfig: no input makes LoadConfig or Options panic, errors have a path, and what
// is accepted a Controller accepts too.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(fullConfig))
	f.Add([]byte(`{"bands": [{"name": "a"}, {"name": "%s", "priority": 3, "ceiling": 1e-9}], "credit": -0.0}`))
	f.Add([]byte(`{"tenants": {"": {"weight": 1e3}}, "budgets": [{"tokensPerMinute": 5e-324}]}`))
	f.Add([]byte(`{"detectors": [{"type": "predicted-ttft-detector", "parameters": null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := admission.LoadConfig(data)
		if err != nil {
			return
		}
		options, err := c.Make(nil)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "admission") {
				t.Errorf("an error without a path: %v", err)
			}
			return
		}
		if _, err := admission.New(*options()); err != nil {
			t.Errorf("accepted, but New says: %v", err)
		}
	})
}

// A declaration, and the options that it makes for each pool.
func ExampleConfig() {
	config, err := admission.LoadConfig([]byte(`{
		"detectors": [{"type": "utilization-detector", "parameters": {"queueDepthThreshold": 8}}, {"type": "learned-batch-detector"}],
		"bands": [
			{"name": "interactive", "priority": 10, "maxWait": "20s"},
			{"name": "batch", "ceiling": 0.7, "maxWait": "10m", "floor": 0.1}
		],
		"tenants": {"gold": {"weight": 3}, "silver": {}},
		"budgets": [{"tenant": "*", "tokensPerMinute": 1000000}]
	}`))
	if err != nil {
		panic(err)
	}
	options, err := config.Make(nil)
	if err != nil {
		panic(err)
	}
	for _, band := range options().Bands {
		fmt.Println(band.Name, band.Ceiling, band.MaxWait)
	}

	config.Bands[1].Floor = 0.6
	_, err = config.Make(nil)
	fmt.Println(err)
	// Output:
	// interactive 0 20s
	// batch 0.7 10m0s
	// admission: bands[1].floor is 0.6, want 0 to 0.5
}
