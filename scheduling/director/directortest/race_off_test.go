//go:build !race

package directortest

const raceEnabled = false
