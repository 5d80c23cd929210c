package director_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// Many goroutines route while endpoints come and go, models change their targets
// and readings arrive: what a request sees is one moment, and in the end every
// ledger reads zero, those of endpoints that have gone too.
func TestRouteWhileEverythingChanges(t *testing.T) {
	store := newStore(t, 6, datastore.Options{})
	d := newDirector(t, store, nil)
	ledgers := map[*types.Load]*types.Endpoint{}
	stopWatch := store.Watch(func(e datastore.Event) { ledgers[e.Endpoint.Load] = e.Endpoint })

	stop := make(chan struct{})
	var changers, routers sync.WaitGroup
	change := func(f func(i int)) {
		changers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
					time.Sleep(100 * time.Microsecond)
				}
			}
		})
	}
	change(func(i int) {
		var specs []datastore.EndpointSpec
		for j := range 3 + i%4 {
			specs = append(specs, datastore.EndpointSpec{ID: fmt.Sprintf("ep-%d", (i+j)%6), Address: fmt.Sprintf("10.0.0.%d:8000", (i+j)%6+1)})
		}
		if err := store.SetEndpoints(pool, specs); err != nil {
			t.Error(err)
		}
	})
	change(func(i int) {
		for _, ep := range endpoints(store) {
			store.UpdateMetrics(ep.Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(float64(i % 3)), KVUsage: types.Known(.5), StartedAt: types.Known(float64(i / 50))})
		}
	})
	change(func(i int) {
		target := []string{"food-v1", "food-v2"}[i%2]
		objs, err := types.DecodeManifests([]byte(strings.ReplaceAll(manifests, "food-v1", target)))
		if err == nil {
			err = store.Replace(objs)
		}
		if err != nil {
			t.Error(err)
		}
	})
	for g := range 8 {
		routers.Go(func() {
			rnd := types.NewRand(uint64(g))
			for range 200 {
				ctx, cancel := context.WithCancel(context.Background())
				if rnd.IntN(20) == 0 {
					cancel()
				}
				route, err := d.Route(ctx, incoming([]string{"food", "bulk", "other"}[rnd.IntN(3)]))
				if err != nil {
					if s := director.AsError(err).Status; s != director.StatusClientClosed {
						t.Errorf("Route: %v", err)
					}
					cancel()
					continue
				}
				if want := route.Request.TargetModel; !strings.Contains(string(route.Body), `"model":"`+want+`"`) {
					t.Errorf("target %s, body %s", want, route.Body)
				}
				switch rnd.IntN(4) {
				case 0:
					route.Next()
				case 1:
					route.Response(200, "application/json")
					route.Data([]byte("{}"))
					route.End()
				case 2:
					route.Done(context.Canceled)
				}
				route.Done(nil)
				cancel()
			}
		})
	}
	routers.Wait()
	close(stop)
	changers.Wait()
	stopWatch()
	var all []*types.Endpoint
	for _, ep := range ledgers {
		all = append(all, ep)
	}
	if len(all) < 6 {
		t.Errorf("only %d endpoints were seen", len(all))
	}
	zeroLedgers(t, all)
}
