package epp_test

import (
	"runtime"
	"slices"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
)

// TestTrapReplacedSchedulersStay: a scheduler with its caches and tables is of no use
// once a reload has replaced it and its requests are done.
func TestTrapReplacedSchedulersStay(t *testing.T) {
	t.Parallel()
	const fallbacks = "schedulingProfiles: [{name: default, fallbacks: 1, plugins: [{pluginRef: round-robin-picker}]}]\n"
	profiles := []string{base, base + roundRobin, base + roundRobin + fallbacks}
	r := start(t, profiles[0], nil)
	c := r.client()
	long := open(t, c) // under way until the end
	long.routed("chat")
	first := r.Schedulers()

	var replaced []weak.Pointer[scheduling.Scheduler]
	for i := range 200 {
		put(t, r.path, profiles[(i+1)%len(profiles)])
		require.NoError(t, r.Reload())
		exchanged(t, c, "chat")
		if i < 199 {
			replaced = append(replaced, r.Schedulers()...)
		}
	}
	require.Len(t, replaced, 199)
	left := func(all []weak.Pointer[scheduling.Scheduler]) int {
		runtime.GC()
		all = slices.DeleteFunc(slices.Clone(all), func(p weak.Pointer[scheduling.Scheduler]) bool { return p.Value() == nil })
		return len(all)
	}
	eventually(t, "no replaced scheduler is left", func() bool { return left(replaced) == 0 })
	require.Equal(t, 1, left(first), "its request is under way")
	require.Equal(t, 1, r.Open())
	long.finish()
	eventually(t, "nothing is open", func() bool { return r.Open() == 0 })
	eventually(t, "nor is the first", func() bool { return left(first) == 0 })
}
