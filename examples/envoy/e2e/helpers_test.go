package e2e_test

import (
	"testing"
	"time"
)

// waitFor fails the test unless ok comes true in a few seconds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10s for %s", what)
		}
	}
}

// tick comes after the time between two tokens.
func tick() <-chan time.Time { return time.After(5 * time.Millisecond) }
