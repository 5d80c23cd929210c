package scheduling_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// discovered are endpoints as a gateway makes them of what its discovery says, anew each time.
func discovered(hosts ...string) []types.Endpoint {
	eps := make([]types.Endpoint, len(hosts))
	for i, host := range hosts {
		eps[i] = types.Endpoint{Address: host + ":8000", Labels: map[string]string{"zone": "a"}}
	}
	return eps
}

// A conversation finds its server again although the list was rebuilt and reordered in
// between, and the ledger goes on.
func TestEndpointListKeepsWhatIsKnown(t *testing.T) {
	s := mustNew(t, plugins.Default())
	l := scheduling.NewEndpointList(s)
	eps, err := l.Set(discovered("a", "b", "c", "d"))
	require.NoError(t, err)
	for i := range 8 {
		d, err := s.Schedule(ctx, chat(16<<10, fmt.Sprint("topic ", i)), eps)
		require.NoError(t, err)
		home := d.Endpoint.Address
		d.FirstToken()

		eps, err = l.Set(discovered("d", "b", "c", "a"))
		require.NoError(t, err)
		require.Equal(t, "d:8000 b:8000 c:8000 a:8000", ids(eps))
		held := int64(0)
		for _, ep := range eps {
			held += ep.Load.Requests()
		}
		require.EqualValues(t, 1, held, "the ledger of the endpoint that has the request")
		d.Done(types.Outcome{Status: 200})
		require.Zero(t, d.Endpoint.Load.Requests())

		again, err := s.Schedule(ctx, chat(16<<10, fmt.Sprint("topic ", i)), eps)
		require.NoError(t, err)
		require.Equal(t, home, again.Endpoint.Address)
		again.Done(types.Outcome{Status: 200})
	}
}

// forgetter counts what it is told to forget.
type forgetter struct {
	plugins.Random
	mu   sync.Mutex
	gone []string
}

func (f *forgetter) Forget(ep *types.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = append(f.gone, ep.ID)
}

func TestEndpointListForgets(t *testing.T) {
	f := new(forgetter)
	l := scheduling.NewEndpointList(mustNew(t, scheduling.Profile{Picker: f}))
	before, err := l.Set(discovered("a", "b", "c"))
	require.NoError(t, err)
	require.Equal(t, []uint32{0, 1, 2}, []uint32{before[0].Slot, before[1].Slot, before[2].Slot})

	after, err := l.Set(discovered("c", "e", "a"))
	require.NoError(t, err)
	require.Equal(t, []string{"b:8000"}, f.gone)
	require.True(t, before[1].Load.Retired())
	require.Same(t, before[0].Load, after[2].Load)
	require.Equal(t, []uint32{2, 1, 0}, []uint32{after[0].Slot, after[1].Slot, after[2].Slot}, "the slot that is free is used again")

	back, err := l.Set(discovered("b"))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"b:8000", "a:8000", "c:8000", "e:8000"}, f.gone)
	require.NotSame(t, before[1].Load, back[0].Load, "who comes back is a new one")
	require.False(t, back[0].Load.Retired())
}

func TestEndpointListReadings(t *testing.T) {
	f := new(forgetter)
	now := time.Unix(1000, 0)
	l := scheduling.NewEndpointList(mustNew(t, scheduling.Profile{Picker: f, Now: func() time.Time { return now }}))
	specs := discovered("a", "b")
	specs[1].Metrics.Waiting = types.Known(2)
	eps, err := l.Set(specs)
	require.NoError(t, err)
	require.True(t, eps[0].Metrics.UpdatedAt.IsZero(), "never read")
	require.Equal(t, now, eps[1].Metrics.UpdatedAt, "a reading without a date is of now")

	require.True(t, l.Update("a:8000", types.Metrics{Waiting: types.Known(7), StartedAt: types.Known(10)}))
	require.False(t, l.Update("x:8000", types.Metrics{}))
	old := eps
	eps = l.Endpoints()
	require.Equal(t, now, eps[0].Metrics.UpdatedAt)
	require.EqualValues(t, 7, eps[0].Metrics.Waiting.Or(0))
	require.False(t, old[0].Metrics.Waiting.IsKnown(), "a list that was handed out does not change")

	require.True(t, l.Update("a:8000", types.Metrics{UpdatedAt: now.Add(-time.Second), Waiting: types.Known(1)}))
	require.EqualValues(t, 7, l.Endpoints()[0].Metrics.Waiting.Or(0), "what is older is dropped")
	eps, err = l.Set(discovered("a", "b"))
	require.NoError(t, err)
	require.EqualValues(t, 7, eps[0].Metrics.Waiting.Or(0), "a list without readings takes none away")

	require.Empty(t, f.gone)
	now = now.Add(time.Second)
	require.True(t, l.Update("a:8000", types.Metrics{StartedAt: types.Known(900)}))
	require.Equal(t, []string{"a:8000"}, f.gone, "restarted: its caches are empty")
	require.False(t, eps[0].Load.Retired())
}

func TestEndpointListRefuses(t *testing.T) {
	l := scheduling.NewEndpointList()
	_, err := l.Set(discovered("a", "b"))
	require.NoError(t, err)
	bad := discovered("c", "d", "c")
	bad[1] = types.Endpoint{ID: "nameless"}
	_, err = l.Set(bad)
	require.EqualError(t, err, `scheduling: endpoint 1, ID "nameless": Address is empty, want host:port`+"\n"+
		`scheduling: endpoint 2: Address "c:8000" is that of endpoint 0 too, want one of its own`)
	bad = discovered("c")
	bad[0].Rank = types.Rank{Of: 2}
	_, err = l.Set(bad)
	require.EqualError(t, err, `scheduling: endpoint 0, Address "c:8000": Rank is set, but a list has one endpoint for each address: want a datastore.Store for ranks`)
	require.Equal(t, "a:8000 b:8000", ids(l.Endpoints()), "nothing has changed")
}

// Lists, readings and decisions at the same time: nothing stays booked, and no endpoint
// that has gone is known to anybody.
func TestEndpointListConcurrently(t *testing.T) {
	s := mustNew(t, plugins.Default())
	l := scheduling.NewEndpointList(s)
	all := []string{"a", "b", "c", "d", "e", "f"}
	_, err := l.Set(discovered(all...))
	require.NoError(t, err)
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := l.Set(discovered(all[(i+w)%3 : 3+(i+w)%4]...)); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for i := range 300 {
				l.Update(all[i%6]+":8000", types.Metrics{Waiting: types.Known(float64(i % 4))})
			}
		})
		wg.Go(func() {
			for i := range 100 {
				d, err := s.Schedule(ctx, chat(1<<10, fmt.Sprint(w, i)), l.Endpoints())
				if err != nil {
					t.Error(err)
					continue
				}
				d.FirstToken()
				d.Done(types.Outcome{Status: 200})
			}
		})
	}
	wg.Wait()
	require.Zero(t, s.Open())
	for _, ep := range l.Endpoints() {
		require.Equal(t, types.Booking{}, ep.Load.Held())
	}
	seen := map[uint32]bool{}
	for _, ep := range l.Endpoints() {
		require.False(t, seen[ep.Slot], "slot %d twice", ep.Slot)
		seen[ep.Slot] = true
	}
}
