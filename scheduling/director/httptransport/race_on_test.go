//go:build race

package httptransport_test

const raceEnabled = true
