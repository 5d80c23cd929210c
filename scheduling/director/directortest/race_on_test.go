//go:build race

package directortest

const raceEnabled = true
