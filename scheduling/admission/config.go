package admission

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

// Config declares Options: their fields by the same names, with durations as strings such
// as "30s". What is left out, or 0, is the default of Options, which says what each means;
// Hooks and Clock are the caller's to add. Read it with LoadConfig, or as a part of what a
// plugins.Registry loads: encoding/json alone does not read durations that are strings.
type Config struct {
	// Detectors say together how full endpoints are: the Max of them. Options.Detector does
	// not count.
	Detectors []DetectorConfig `json:"detectors,omitempty"`
	// Bands stand in the place of Options.Bands.
	Bands []BandConfig `json:"bands,omitempty"`
	Options
}

// DetectorConfig declares a Detector.
type DetectorConfig struct {
	// Type is one of those of Detectors, or of the program's own.
	Type       string          `json:"type"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

// BandConfig declares a Band.
type BandConfig struct {
	// Priority may be left out in one band, which then is the lowest: all priorities
	// below the others belong to it.
	Priority *int `json:"priority,omitempty"`
	Band
}

// LoadConfig reads a Config as JSON; unknown fields are errors. The error reports all that
// is wrong with the form, each with line, column and field; Make checks what the fields say.
func LoadConfig(data []byte) (Config, error) {
	var c Config
	if err := strictjson.Decode(data, &c, strictjson.Options{Package: "admission"}); err != nil {
		return Config{}, err
	}
	return c, nil
}

// MarshalJSON implements json.Marshaler. LoadConfig reads what it returns.
func (c Config) MarshalJSON() ([]byte, error) {
	type config Config // without this method
	type band struct {
		BandConfig
		MaxWait string `json:"maxWait,omitempty"`
	}
	out := struct {
		config
		Bands            []band `json:"bands,omitempty"`
		WaitForEndpoints string `json:"waitForEndpoints,omitempty"`
		FlowIdle         string `json:"flowIdle,omitempty"`
		MaxRetryAfter    string `json:"maxRetryAfter,omitempty"`
		MetricsTTL       string `json:"metricsTTL,omitempty"`
		TicketTTL        string `json:"ticketTTL,omitempty"`
		PeerDelay        string `json:"peerDelay,omitempty"`
	}{config(c), nil, text(c.WaitForEndpoints), text(c.FlowIdle), text(c.MaxRetryAfter), text(c.MetricsTTL), text(c.TicketTTL), text(c.PeerDelay)}
	for _, b := range c.Bands {
		out.Bands = append(out.Bands, band{b, text(b.MaxWait)})
	}
	return json.Marshal(out)
}

// text is a duration as a Config has it.
func text(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// Make returns what makes the Options that c declares, anew at each call: a detector
// learns, so each Controller needs a set of its own. detectors are the types that c may
// name; nil: those of Detectors. The error reports all that is wrong, each with the field
// that it is in, such as
//
//	admission: bands[1].ceiling is 2000, want above 0 and at most 1000
func (c Config) Make(detectors map[string]DetectorFactory) (func() *Options, error) {
	if detectors == nil {
		detectors = Detectors()
	}
	wrong := check.Checks{Package: "admission"}
	detector := makeDetector(&wrong, c.Detectors, detectors)
	o := c.Options
	o.Bands = declaredBands(&wrong, c.Bands)
	_ = o.checked(&wrong)
	if err := wrong.Err(); err != nil {
		return nil, err
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

// makeDetector returns what makes the detector of a list, nil for the default.
func makeDetector(wrong *check.Checks, list []DetectorConfig, types map[string]DetectorFactory) func() Detector {
	var makes []func() Detector
	for i, c := range list {
		path := fmt.Sprintf("detectors[%d]", i)
		f := types[c.Type]
		if f == nil {
			wrong.Unknown(path+".type", c.Type, slices.Sorted(maps.Keys(types)))
			continue
		}
		one, err := f(c.Parameters)
		switch {
		case err != nil:
			wrong.Add(path+".parameters", err)
		case one == nil:
			wrong.Failf(path+".type", "is %q, whose factory returned nothing", c.Type)
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

func declaredBands(wrong *check.Checks, list []BandConfig) []Band {
	var bands []Band
	first := slices.IndexFunc(list, func(b BandConfig) bool { return b.Priority == nil })
	for i, c := range list {
		b := c.Band
		switch {
		case c.Priority != nil:
			b.Priority = *c.Priority
		case i == first:
			b.Priority = math.MinInt
		default:
			wrong.Failf(fmt.Sprintf("bands[%d].priority", i), "is required, for bands[%d] has none either", first)
			b.Priority = math.MinInt + i // reported once
		}
		bands = append(bands, b)
	}
	return bands
}
