package epp_test

import (
	"runtime"
	"slices"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
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
	eventually(t, "no replaced scheduler is left", func() bool { return alive(replaced) == 0 })
	require.Equal(t, 1, alive(first), "its request is under way")
	require.Equal(t, 1, r.Open())
	long.finish()
	eventually(t, "nothing is open", func() bool { return r.Open() == 0 })
	eventually(t, "nor is the first", func() bool { return alive(first) == 0 })
}

// alive returns how many are, after a collection.
func alive[T any](all []weak.Pointer[T]) int {
	runtime.GC()
	return len(slices.DeleteFunc(slices.Clone(all), func(p weak.Pointer[T]) bool { return p.Value() == nil }))
}

// TestTrapReplacedAdmissionStays: so is an admission control that was taken away, and one
// that changes goes on as it is.
func TestTrapReplacedAdmissionStays(t *testing.T) {
	t.Parallel()
	versions := []string{base + flowControl(1, ""), base, base + flowControl(2, ""), base + flowControl(3, "")}
	r := start(t, versions[0], nil)
	c := r.client()
	exchanged(t, c, "chat")
	var gone []weak.Pointer[admission.Controller]
	for i := range 100 {
		before := r.Admissions()
		put(t, r.path, versions[(i+1)%len(versions)])
		require.NoError(t, r.Reload())
		exchanged(t, c, "chat")
		if len(r.Admissions()) == 0 {
			gone = append(gone, before...)
		}
	}
	require.Len(t, gone, 25)
	eventually(t, "no admission control is left that was taken away", func() bool { return alive(gone) == 0 })
}
