//go:build !race

package anchors_test

const raceEnabled = false
