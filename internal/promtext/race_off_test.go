//go:build !race

package promtext_test

const raceEnabled = false
