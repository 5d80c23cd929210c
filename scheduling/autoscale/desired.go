package autoscale

import "time"

// History is what Desired remembers of one pool from call to call. The zero value remembers nothing. It is small,
// survives a restart as JSON, and the same History decides the same. It is not safe for concurrent use.
type History struct {
	At time.Time `json:"at,omitzero"`
}

// Desired returns how many replicas a pool needs. It is a pure function of its arguments: time is s.At. h is changed;
// call it about once a second, and no more often than there are new signals. What is not known it leaves out, and if
// that is too much, or not all gateways answered, it recommends no fewer replicas than there are.
func Desired(s Signals, p Policy, h *History) Recommendation { return Recommendation{At: s.At} }
