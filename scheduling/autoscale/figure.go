package autoscale

import (
	"bytes"
	"encoding/json"
	"math"
)

// Figure is a number that may be unknown: it is NaN then, and null in JSON.
type Figure float64

// Unknown is the Figure of what is not known.
func Unknown() Figure { return Figure(math.NaN()) }

// Known reports whether f is a number.
func (f Figure) Known() bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }

// Or returns f, or def if it is unknown.
func (f Figure) Or(def float64) float64 {
	if !f.Known() {
		return def
	}
	return float64(f)
}

// MarshalJSON implements json.Marshaler.
func (f Figure) MarshalJSON() ([]byte, error) {
	if !f.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *Figure) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		*f = Unknown()
		return nil
	}
	return json.Unmarshal(data, (*float64)(f))
}
