package directortest

import "testing"

// ChaosOptions TODO
type ChaosOptions struct{ Requests int }

// Chaos TODO
func Chaos(t *testing.T, gateway New, o ChaosOptions) {}
