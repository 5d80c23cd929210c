package admission

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config declares Options: their fields by the same names, with durations as strings such
// as "30s". What is left out, or 0, is the default of Options, which says what each means;
// Hooks and Clock are the caller's to add. Read it with LoadConfig, or as a part of another
// declaration that is decoded strictly.
type Config struct {
	// Detectors say together how full endpoints are: the Max of them.
	Detectors []DetectorConfig `json:"detectors,omitempty"`
	Bands     []BandConfig     `json:"bands,omitempty"`

	MaxRequests int   `json:"maxRequests,omitempty"`
	MaxBytes    int64 `json:"maxBytes,omitempty"`
	MaxBands    int   `json:"maxBands,omitempty"`
	MaxLanes    int   `json:"maxLanes,omitempty"`

	// Fairness is "virtual-tokens", "prefix-locality" or "first-come".
	Fairness string `json:"fairness,omitempty"`
	// Order is "fifo" or "earliest-deadline".
	Order        string  `json:"order,omitempty"`
	InputWeight  float64 `json:"inputWeight,omitempty"`
	OutputWeight float64 `json:"outputWeight,omitempty"`
	// Credit is in weighted tokens; 0: the default; negative: none.
	Credit       float64                 `json:"credit,omitempty"`
	Quantum      float64                 `json:"quantum,omitempty"`
	Tenants      map[string]TenantConfig `json:"tenants,omitempty"`
	MaxFlows     int                     `json:"maxFlows,omitempty"`
	FlowIdle     string                  `json:"flowIdle,omitempty"`
	OutputTokens int                     `json:"outputTokens,omitempty"`

	WaitForEndpoints string         `json:"waitForEndpoints,omitempty"`
	Revoke           bool           `json:"revoke,omitempty"`
	Budgets          []BudgetConfig `json:"budgets,omitempty"`
	MaxRetryAfter    string         `json:"maxRetryAfter,omitempty"`
	MetricsTTL       string         `json:"metricsTTL,omitempty"`
	TicketTTL        string         `json:"ticketTTL,omitempty"`
}

// DetectorConfig declares a Detector.
type DetectorConfig struct {
	// Type is one of those of Detectors, or of the program's own.
	Type       string          `json:"type"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

// BandConfig declares a Band.
type BandConfig struct {
	Name string `json:"name"`
	// Priority may be left out in one band, which then is the lowest: all priorities
	// below the others belong to it.
	Priority *int    `json:"priority,omitempty"`
	Ceiling  float64 `json:"ceiling,omitempty"`
	// ModestCeiling 0: as Ceiling.
	ModestCeiling float64 `json:"modestCeiling,omitempty"`
	// MaxRequests -1: nothing waits.
	MaxRequests int     `json:"maxRequests,omitempty"`
	MaxBytes    int64   `json:"maxBytes,omitempty"`
	MaxWait     string  `json:"maxWait,omitempty"`
	Floor       float64 `json:"floor,omitempty"`
	Displace    bool    `json:"displace,omitempty"`
}

// TenantConfig declares a Tenant.
type TenantConfig struct {
	Weight float64 `json:"weight,omitempty"`
}

// BudgetConfig declares a Budget.
type BudgetConfig struct {
	Tenant            string  `json:"tenant,omitempty"`
	Model             string  `json:"model,omitempty"`
	RequestsPerMinute float64 `json:"requestsPerMinute,omitempty"`
	TokensPerMinute   float64 `json:"tokensPerMinute,omitempty"`
	Burst             float64 `json:"burst,omitempty"`
}

// A DetectorFactory reads the parameters of a declared detector, which are nil if there
// are none, and returns what makes the detector: called once for each Controller, it makes
// a new one each time if the detector learns. The error says which parameter is wrong.
type DetectorFactory func(parameters json.RawMessage) (func() Detector, error)

// Detectors returns the factories of this package's detectors by the type names that a
// declaration has for them; those that the Inference Extension has too bear its names,
// and so do their parameters. The map is the caller's: to allow more types, add them.
//
//	utilization-detector    {"queueDepthThreshold": 5, "kvCacheUtilThreshold": 0.8, "readingsOnly": false}
//	concurrency-detector    {"maxConcurrency": 100, "maxTokenConcurrency": 1000000}
//	backlog-detector        {"tokens": 16384}
//	learned-backlog-detector {"time": "400ms", "least": 4096, "most": 16384}
//	predicted-ttft-detector {"target": "1s", "rate": 10000}
//	learned-batch-detector
//	learned-concurrency-detector {"first": 64, "least": 2, "most": 100000}
func Detectors() map[string]DetectorFactory {
	return map[string]DetectorFactory{
		"utilization-detector":         utilizationFrom,
		"concurrency-detector":         concurrencyFrom,
		"backlog-detector":             backlogFrom,
		"learned-backlog-detector":     learnedBacklogFrom,
		"predicted-ttft-detector":      predictedTTFTFrom,
		"learned-concurrency-detector": learnedConcurrencyFrom,
		"learned-batch-detector": func(p json.RawMessage) (func() Detector, error) {
			return func() Detector { return new(LearnedBatch) }, parameters(p, &struct{}{})
		},
	}
}

func utilizationFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		QueueDepthThreshold  float64 `json:"queueDepthThreshold"`
		KVCacheUtilThreshold float64 `json:"kvCacheUtilThreshold"`
		ReadingsOnly         bool    `json:"readingsOnly"`
	}
	err := parameters(p, &c)
	if err == nil {
		err = errors.Join(
			atLeast0("queueDepthThreshold", c.QueueDepthThreshold),
			atLeast0("kvCacheUtilThreshold", c.KVCacheUtilThreshold))
	}
	u := Utilization{Queue: c.QueueDepthThreshold, KVUsage: c.KVCacheUtilThreshold, ReadingsOnly: c.ReadingsOnly}
	return func() Detector { return u }, err
}

func concurrencyFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		MaxConcurrency      int `json:"maxConcurrency"`
		MaxTokenConcurrency int `json:"maxTokenConcurrency"`
	}
	err := parameters(p, &c)
	if err == nil {
		err = errors.Join(
			atLeast0("maxConcurrency", c.MaxConcurrency),
			atLeast0("maxTokenConcurrency", c.MaxTokenConcurrency))
	}
	d := Concurrency{Requests: c.MaxConcurrency, Tokens: c.MaxTokenConcurrency}
	return func() Detector { return d }, err
}

func backlogFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		Tokens int `json:"tokens"`
	}
	err := parameters(p, &c)
	if err == nil {
		err = atLeast0("tokens", c.Tokens)
	}
	return func() Detector { return Backlog{Tokens: c.Tokens} }, err
}

func learnedBacklogFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		Time  string `json:"time"`
		Least int    `json:"least"`
		Most  int    `json:"most"`
	}
	if err := parameters(p, &c); err != nil {
		return nil, err
	}
	d, err := readDuration(c.Time)
	if err != nil {
		err = fmt.Errorf("time: %w", err)
	}
	return func() Detector { return &LearnedBacklog{Time: d, Least: c.Least, Most: c.Most} },
		errors.Join(err, atLeast0("least", c.Least), atLeast0("most", c.Most))
}

func learnedConcurrencyFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		First int `json:"first"`
		Least int `json:"least"`
		Most  int `json:"most"`
	}
	err := parameters(p, &c)
	if err == nil {
		err = errors.Join(atLeast0("first", c.First), atLeast0("least", c.Least), atLeast0("most", c.Most))
	}
	return func() Detector { return &LearnedConcurrency{First: c.First, Least: c.Least, Most: c.Most} }, err
}

func predictedTTFTFrom(p json.RawMessage) (func() Detector, error) {
	var c struct {
		Target string  `json:"target"`
		Rate   float64 `json:"rate"`
	}
	if err := parameters(p, &c); err != nil {
		return nil, err
	}
	target, err := readDuration(c.Target)
	if err != nil {
		err = fmt.Errorf("target: %w", err)
	}
	return func() Detector { return &PredictedTTFT{Target: target, Rate: c.Rate} }, errors.Join(err, atLeast0("rate", c.Rate))
}

// parameters decodes the parameters of a detector strictly.
func parameters(p json.RawMessage, v any) error {
	if len(p) == 0 {
		return nil
	}
	return decodeStrict(p, v)
}

func atLeast0[T int | int64 | float64](name string, v T) error {
	if !(v >= 0) {
		return fmt.Errorf("%s: %v, want at least 0, which is the default", name, v)
	}
	return nil
}

// readDuration reads a duration; an empty one is 0.
func readDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q, want a duration above 0 such as \"30s\"", s)
	}
	return d, nil
}

// LoadConfig reads a Config as JSON; unknown fields are errors. What the fields say is
// checked by Options.
func LoadConfig(data []byte) (Config, error) {
	var c Config
	if err := decodeStrict(data, &c); err != nil {
		return Config{}, fmt.Errorf("admission: %w", err)
	}
	return c, nil
}

func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case err == nil:
		if _, err := d.Token(); err != io.EOF {
			return errors.New("there is more after the first JSON value")
		}
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("byte %d: %w", syntax.Offset, err)
	case errors.As(err, &typed):
		return fmt.Errorf("byte %d: %w", typed.Offset, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("is empty or ends in the middle, want a JSON object")
	}
	return err
}

// Options returns what makes the Options that c declares, anew at each call: a detector
// learns, so each Controller needs a set of its own. detectors are the types that c may
// name; nil: those of Detectors. The error reports all that is wrong, each with the field
// that it is in, such as
//
//	admission.bands[1] ("standard").ceiling: 2000, want above 0 and at most 1000
func (c Config) Options(detectors map[string]DetectorFactory) (func() *Options, error) {
	d := declaration{types: detectors}
	if d.types == nil {
		d.types = Detectors()
	}
	o := Options{
		MaxRequests: c.MaxRequests, MaxBytes: c.MaxBytes, MaxBands: c.MaxBands, MaxLanes: c.MaxLanes, MaxFlows: c.MaxFlows,
		InputWeight: c.InputWeight, OutputWeight: c.OutputWeight, Credit: c.Credit, Quantum: c.Quantum,
		OutputTokens: c.OutputTokens, Revoke: c.Revoke,
		Fairness:         Fairness(d.name("fairness", c.Fairness, fairnessNames)),
		Order:            Order(d.name("order", c.Order, orderNames)),
		FlowIdle:         d.duration("flowIdle", c.FlowIdle),
		WaitForEndpoints: d.duration("waitForEndpoints", c.WaitForEndpoints),
		MaxRetryAfter:    d.duration("maxRetryAfter", c.MaxRetryAfter),
		MetricsTTL:       d.duration("metricsTTL", c.MetricsTTL),
		TicketTTL:        d.duration("ticketTTL", c.TicketTTL),
		Bands:            d.bands(c.Bands),
		Tenants:          tenantsFrom(c.Tenants),
		Budgets:          budgetsFrom(c.Budgets),
	}
	detector := d.detectors(c.Detectors)
	d.validate(&o)
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	return func() *Options {
		made := o
		made.Bands, made.Tenants, made.Budgets = slices.Clone(o.Bands), maps.Clone(o.Tenants), slices.Clone(o.Budgets)
		if detector != nil {
			made.Detector = detector()
		}
		return &made
	}, nil
}

// declaration is a Config that is being read.
type declaration struct {
	types map[string]DetectorFactory
	errs  []error
}

func (d *declaration) failf(path, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("admission.%s: %w", path, fmt.Errorf(format, args...)))
}

// name returns the index of a name, 0 if it is empty.
func (d *declaration) name(path, name string, names []string) int {
	i := slices.Index(names, name)
	if i < 0 && name != "" {
		d.failf(path, "%q, want one of %s", name, strings.Join(names, ", "))
	}
	return max(i, 0)
}

func (d *declaration) duration(path, s string) time.Duration {
	v, err := readDuration(s)
	if err != nil {
		d.failf(path, "%w", err)
	}
	return v
}

// detectors returns what makes the detector, nil for the default.
func (d *declaration) detectors(list []DetectorConfig) func() Detector {
	var makes []func() Detector
	for i, c := range list {
		path := fmt.Sprintf("detectors[%d]", i)
		f := d.types[c.Type]
		if f == nil {
			d.failf(path+".type", "%q is unknown; known are %s", c.Type, strings.Join(slices.Sorted(maps.Keys(d.types)), ", "))
			continue
		}
		one, err := f(c.Parameters)
		switch {
		case err != nil:
			d.failf(path+".parameters", "(%s) %w", c.Type, err)
		case one == nil:
			d.failf(path+".type", "the factory of %q returned nothing", c.Type)
		default:
			makes = append(makes, one)
		}
	}
	switch len(makes) {
	case 0:
		return nil
	case 1:
		return makes[0]
	}
	return func() Detector {
		m := make(Max, len(makes))
		for i, one := range makes {
			m[i] = one()
		}
		return m
	}
}

func (d *declaration) bands(list []BandConfig) []Band {
	var bands []Band
	for i, c := range list {
		path := bandPath(i, c.Name)
		b := Band{
			Name: c.Name, Ceiling: c.Ceiling, ModestCeiling: c.ModestCeiling, MaxRequests: c.MaxRequests, MaxBytes: c.MaxBytes,
			MaxWait: d.duration(path+".maxWait", c.MaxWait), Floor: c.Floor, Displace: c.Displace,
		}
		if b.Name == "" {
			d.failf(path+".name", "is required")
			b.Name = fmt.Sprintf("bands[%d]", i) // reported once
		}
		if c.Priority != nil {
			b.Priority = *c.Priority
		} else {
			b.Priority = math.MinInt
			first := slices.IndexFunc(list, func(o BandConfig) bool { return o.Priority == nil })
			if first < i {
				d.failf(path+".priority", "is required, for bands[%d] (%q) has none either", first, list[first].Name)
				b.Priority += i // reported once
			}
		}
		bands = append(bands, b)
	}
	return bands
}

func bandPath(i int, name string) string { return fmt.Sprintf("bands[%d] (%q)", i, name) }

func tenantsFrom(tenants map[string]TenantConfig) map[string]Tenant {
	if len(tenants) == 0 {
		return nil
	}
	all := make(map[string]Tenant, len(tenants))
	for id, t := range tenants {
		all[id] = Tenant(t)
	}
	return all
}

func budgetsFrom(list []BudgetConfig) []Budget {
	var budgets []Budget
	for _, b := range list {
		budgets = append(budgets, Budget(b))
	}
	return budgets
}

// validate reports what Options has to say, with the paths of the declaration.
func (d *declaration) validate(o *Options) {
	err, _ := o.Validate().(interface{ Unwrap() []error })
	if err == nil {
		return
	}
	for _, e := range err.Unwrap() {
		path, what := o.locate(strings.TrimPrefix(e.Error(), "admission: "))
		if field, rest, ok := strings.Cut(what, " is "); ok && isField(field) {
			path, what = path+"."+strings.ToLower(field[:1])+field[1:], rest
		}
		d.errs = append(d.errs, errors.New("admission"+path+": "+what))
	}
}

// locate takes the band, tenant or budget off the front of what Validate says, as a path.
func (o *Options) locate(what string) (path, rest string) {
	if list, ok := strings.CutPrefix(what, "Budgets"); ok {
		if path, rest, ok = strings.Cut(list, "): "); ok {
			return ".budgets" + path + ")", rest
		}
	}
	kind, after, _ := strings.Cut(what, " ")
	quoted, err := strconv.QuotedPrefix(after)
	if err != nil {
		return "", what
	}
	rest = strings.TrimPrefix(after[len(quoted):], ": ")
	if kind == "tenant" {
		return ".tenants[" + quoted + "]", rest
	}
	name, _ := strconv.Unquote(quoted)
	for i := len(o.Bands) - 1; i >= 0; i-- { // of two with one name the second is wrong
		if o.Bands[i].Name == name {
			return "." + bandPath(i, name), rest
		}
	}
	return "", what
}

func isField(s string) bool {
	return s != "" && 'A' <= s[0] && s[0] <= 'Z' && !strings.ContainsAny(s, " :")
}
