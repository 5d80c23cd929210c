package scrape_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/types"
)

// TestUserCodePanics: whatever of the user's panics in a scrape, the process lives, other
// readings come as before, and so do those of the same endpoint once it has stopped.
func TestUserCodePanics(t *testing.T) {
	for name, o := range map[string]scrape.Options{
		"OnScrape":  {OnScrape: func(scrape.Result) { panic("OnScrape") }},
		"OnModels":  {OnModels: func(scrape.ModelsResult) { panic("OnModels") }},
		"Transport": {},
		"watcher":   {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var panics atomic.Bool
				panics.Store(true)
				f := &fleet{answer: func(req *http.Request) (*http.Response, error) {
					if panics.Load() && name == "Transport" && req.URL.Host == "a:1" {
						panic("Transport")
					}
					return page(idle)(req)
				}}
				o.Transport = f
				store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"}, datastore.EndpointSpec{ID: "b", Address: "b:1"})
				unwatch := store.WatchReadings(func(_ types.NamespacedName, ep *types.Endpoint) {
					if panics.Load() && name == "watcher" && ep.ID == "a" {
						panic("watcher")
					}
				})
				stop := start(t, store, o)
				time.Sleep(10 * time.Second)
				if n := len(f.take()); n < 40 {
					t.Errorf("asked %d times in 10 s", n)
				}
				panics.Store(false)
				time.Sleep(10 * time.Second)
				f.take()
				time.Sleep(time.Second)
				if n := len(f.take()); n < 8 {
					t.Errorf("asked %d times in a second in the end", n)
				}
				stop()
				unwatch()
				if ep := endpoint(t, store, "a"); !ep.Metrics.Waiting.IsKnown() {
					t.Error("there is no reading")
				}
			})
		})
	}
}

// Whatever of its options panics, a Scraper reads on, and as ever once that has stopped.
func TestOptionsPanic(t *testing.T) {
	base := scrape.Options{Transport: &fleet{answer: page(idle)}}
	guardtest.Each(t, base, nil, nil, func(t *testing.T, o scrape.Options, f *guardtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			store := newStore(t, datastore.EndpointSpec{ID: "a", Address: "a:1"})
			asks := &asking{inner: o.Transport}
			o.Transport = asks
			stop := start(t, store, o)
			time.Sleep(10 * time.Second)
			asks.fails.Store(true) // so that there is something to log
			time.Sleep(time.Second)
			asks.fails.Store(false)
			time.Sleep(time.Minute)
			f.Off()
			time.Sleep(time.Minute)
			asks.n.Store(0)
			time.Sleep(time.Second)
			require.Greater(t, asks.n.Load(), int64(3), "requests in a second")
			stop()
			require.WithinDuration(t, time.Now(), endpoint(t, store, "a").Metrics.UpdatedAt, time.Second)
		})
	})
}

// asking counts requests for metrics, and may fail them.
type asking struct {
	inner http.RoundTripper
	fails atomic.Bool
	n     atomic.Int64
}

func (a *asking) RoundTrip(req *http.Request) (*http.Response, error) {
	if a.fails.Load() {
		return nil, errors.New("down")
	}
	a.n.Add(1)
	return a.inner.RoundTrip(req)
}
