//go:build !race

package kvevents_test

const raceEnabled = false
