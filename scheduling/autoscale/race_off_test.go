//go:build !race

package autoscale_test

const raceEnabled = false
