//go:build race

package prefixindex_test

const raceEnabled = true
