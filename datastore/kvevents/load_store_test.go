package kvevents_test

import (
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestLoadInto(t *testing.T) {
	store := datastore.New(datastore.Options{})
	pool := types.NamespacedName{Namespace: "default", Name: "pool"}
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "a", Address: "10.0.0.1:80"}, {ID: "b", Address: "10.0.0.2:80"}}))
	of := func(id string) types.Metrics {
		for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
			if ep.ID == id {
				return ep.Metrics
			}
		}
		return types.Metrics{}
	}
	scraped := types.Metrics{UpdatedAt: time.Now(), MaxAdapters: types.Known(4), RunningAdapters: []string{"x"}, Waiting: types.Known(9)}
	require.True(t, store.UpdateMetrics(store.Snapshot().Pool(pool).Endpoints()[0].Load, scraped))

	take := kvevents.LoadInto(store)
	take("a", 0, kvevents.Load{Waiting: 2, Running: 3, KVUsed: 100, KVMax: 1000})
	take("a", 1, kvevents.Load{Waiting: 1, Running: 5, KVUsed: 500, KVMax: 1000})
	take("a", 0, kvevents.Load{Waiting: 0, Running: 4, KVUsed: 300, KVMax: 1000, PrefillRate: 2000})
	take("a", 1, kvevents.Load{Waiting: 1, Running: 5, KVUsed: 500, KVMax: 1000, PrefillRate: 3000})
	take("gone", 0, kvevents.Load{Waiting: 7})
	got := of("a")
	require.Equal(t, types.Known(1), got.Waiting)
	require.Equal(t, types.Known(9), got.Running)
	require.Equal(t, types.Known(.4), got.KVUsage)
	require.Equal(t, types.Known(2500), got.PrefillRate)
	require.Equal(t, types.Known(4), got.MaxAdapters, "the rest stays")
	require.Equal(t, []string{"x"}, got.RunningAdapters)
	require.Zero(t, of("b").UpdatedAt)

	scraped.UpdatedAt = time.Now()
	require.True(t, store.UpdateMetrics(store.Snapshot().Pool(pool).Endpoints()[0].Load, scraped))
	require.Equal(t, types.Known(2500), of("a").PrefillRate, "a page that does not have it does not deny it")
}
