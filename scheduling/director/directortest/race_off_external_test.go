//go:build !race

package directortest_test

const raceEnabled = false
