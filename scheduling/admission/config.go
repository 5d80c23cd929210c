package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Config declares Options: their fields by the same names, with durations as strings such
// as "30s". What is left out, or 0, is the default of Options, which says what each means;
// Hooks and Clock are the caller's to add. Read it with LoadConfig, or as a part of another
// declaration that is decoded strictly.
type Config struct {
	// Detectors say together how full endpoints are: the Max of them. Options.Detector does
	// not count.
	Detectors []DetectorConfig `json:"detectors,omitempty"`
	// Bands stand in the place of Options.Bands.
	Bands []BandConfig `json:"bands,omitempty"`
	Options

	wrong []error // what values say that were read
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

// LoadConfig reads a Config as JSON; unknown fields are errors. What the fields say is
// checked by Make.
func LoadConfig(data []byte) (Config, error) {
	var c Config
	if err := decodeStrict(data, &c); err != nil {
		return Config{}, fmt.Errorf("admission: %w", err)
	}
	return c, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Config) UnmarshalJSON(data []byte) error {
	type fields Config
	f := fields(*c)
	wrong, err := decodeTexts(data, &f, "admission")
	if err == nil {
		*c = Config(f)
		c.wrong = wrong
	}
	return err
}

// MarshalJSON implements json.Marshaler.
func (c Config) MarshalJSON() ([]byte, error) {
	type fields Config
	return encodeTexts(fields(c))
}

// Make returns what makes the Options that c declares, anew at each call: a detector
// learns, so each Controller needs a set of its own. detectors are the types that c may
// name; nil: those of Detectors. The error reports all that is wrong, each with the field
// that it is in, such as
//
//	admission.bands[1] ("standard").ceiling: 2000, want above 0 and at most 1000
func (c Config) Make(detectors map[string]DetectorFactory) (func() *Options, error) {
	d := declaration{types: detectors, errs: slices.Clone(c.wrong)}
	if d.types == nil {
		d.types = Detectors()
	}
	o := c.Options
	o.Bands = d.bands(c.Bands)
	detector := d.detectors(c.Detectors)
	_, wrong := o.checked()
	for _, p := range wrong {
		d.errs = append(d.errs, errors.New(p.declared()))
	}
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
		b, path := c.Band, bandPath(i, c.Name)
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
