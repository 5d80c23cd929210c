package cost

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// What an adapter costs on a server with two slots, by what is there. An answer takes a second,
// and no slots are short.
func TestAdapterDelay(t *testing.T) {
	const mine, a, b, c AdapterID = 1, 2, 3, 4
	for _, tt := range []struct {
		name             string
		waiting, running []AdapterID
		own              []AdapterID // requests of this process that decode
		used             []AdapterID // those that have ended
		want             float64
		what             string
	}{
		{name: "nothing there", want: .1, what: "adapter to be loaded"},
		{name: "others have room", running: []AdapterID{a}, want: .1, what: "adapter to be loaded"},
		{name: "running", running: []AdapterID{mine, a}, want: 0, what: "adapter in use"},
		{name: "own", own: []AdapterID{mine}, want: 0, what: "adapter in use"},
		{name: "both slots taken", running: []AdapterID{a, b}, want: .1 + 1, what: "adapter slots are full"},
		{name: "one waits before it", running: []AdapterID{a, b}, waiting: []AdapterID{c}, want: .1 + 2, what: "adapter slots are full"},
		{name: "it waits already", running: []AdapterID{a, b}, waiting: []AdapterID{mine}, want: 1, what: "adapter waits for a slot"},
		{name: "many own requests hold a slot for longer", own: []AdapterID{a, a, a, b, b, b}, want: .1 + 2, what: "adapter slots are full"},
		{name: "still loaded", used: []AdapterID{mine, a}, want: 0, what: "adapter still loaded"},
		{name: "replaced", used: []AdapterID{mine, a, b}, want: .1, what: "adapter to be loaded"},
	} {
		var u Adapters
		u.Report(tt.waiting, tt.running)
		for _, id := range tt.own {
			u.Count(id, 1, 1, 1)
		}
		for i, id := range tt.used {
			u.Count(id, 1, 1, Seconds(1+i))
			u.Count(id, -1, -1, Seconds(1+i))
		}
		got, what := u.Delay(model(), mine, 2, 1, 0)
		require.InDelta(t, tt.want, float64(got), 1e-9, tt.name)
		require.Equal(t, tt.what, what, tt.name)
	}
}

// Where slots are short, others pay for a slot that is taken: the less, the more use it already.
func TestAdapterSlotsAreShort(t *testing.T) {
	var u Adapters
	cost := func() float64 { d, _ := u.Delay(model(), 1, 4, 1, .5); return float64(d) }
	require.InDelta(t, .1+3*.5, cost(), 1e-9)
	u.Count(1, 1, 1, 1)
	require.InDelta(t, 3*.5/4, cost(), 1e-9)
	u.Count(1, 1, 1, 2)
	require.InDelta(t, 3*.5/9, cost(), 1e-9)
}

func TestAdaptersAreBounded(t *testing.T) {
	var u Adapters
	for i := range AdapterID(3 * maxAdapterStates) {
		u.Count(i+1, 1, 0, Seconds(i))
		u.Count(i+1, -1, 0, Seconds(i))
	}
	require.Len(t, u.list, maxAdapterStates)
	require.Zero(t, u.Busy())
	for i := range AdapterID(3 * maxAdapterStates) {
		u.Count(i+1, 1, 0, 1)
	}
	require.Equal(t, maxAdapterStates, u.Busy(), "one that is in use is not forgotten")
	u.Forget(u.list[0].id)
	require.Equal(t, maxAdapterStates-1, u.Busy())
}

func TestAdapterNames(t *testing.T) {
	var names AdapterNames
	require.Zero(t, names.Of("base"))
	first, forgot := names.List("first")
	require.False(t, forgot)
	require.Equal(t, first, names.Of("first"))
	for i := range maxAdapterNames - 1 {
		_, forgot = names.List(fmt.Sprint(i))
		require.False(t, forgot)
	}
	again, forgot := names.List("first") // so that "0" is the one listed the longest ago
	require.Equal(t, first, again)
	require.False(t, forgot)
	was := names.Of("0")
	is, forgot := names.List("new")
	require.True(t, forgot)
	require.Equal(t, was, is)
	require.Zero(t, names.Of("0"))
	require.Equal(t, first, names.Of("first"))
}
