//go:build !race

package prefixindex_test

const raceEnabled = false
