package rollout_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/types"
)

type loaderDouble struct {
	rollout.Loader
	at func(string)
}

func (d *loaderDouble) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	d.at("Load")
	return d.Loader.Load(ctx, ep, name, source)
}

func (d *loaderDouble) Unload(ctx context.Context, ep *types.Endpoint, name string) error {
	d.at("Unload")
	return d.Loader.Unload(ctx, ep, name)
}

func (d *loaderDouble) Loaded(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error) {
	d.at("Loaded")
	return d.Loader.Loaded(ctx, ep, name, source)
}

type homeDouble struct {
	rollout.Home
	at func(string)
}

func (d *homeDouble) Read(ctx context.Context, o rollout.Object) (rollout.Record, error) {
	d.at("Read")
	return d.Home.Read(ctx, o)
}

func (d *homeDouble) Write(ctx context.Context, o rollout.Object, r rollout.Record) (string, error) {
	d.at("Write")
	return d.Home.Write(ctx, o, r)
}

// Whatever of its options panics, a rollout that is tried again comes to its end once that has stopped.
func TestOptionsPanic(t *testing.T) {
	doubles := []guardtest.Double{
		guardtest.DoubleOf(func(inner rollout.Loader, at func(string)) rollout.Loader { return &loaderDouble{inner, at} }),
		guardtest.DoubleOf(func(inner rollout.Home, at func(string)) rollout.Home { return &homeDouble{inner, at} }),
	}
	base := rollout.Options{
		Loader: newLoader(), Home: &brokenHome{},
		Leader: func() bool { return true }, Saturation: func(types.NamespacedName) float64 { return .5 },
	}
	plan := strings.Replace(quick, `"grace": "2s"`, `"grace": "2s", "unload": true, "tries": 10`, 1)
	guardtest.Each(t, base, doubles, nil, func(t *testing.T, o rollout.Options, f *guardtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2, func(all *rollout.Options) {
				o.Store = all.Store
				o.Home.(*homeDouble).Home = all.Home
				o.Loader.(*loaderDouble).Loader = all.Loader
				*all = o
			})
			w.loader.set("s0", "v1", true) // which is unloaded in the end
			require.NoError(t, w.store.Apply(manifest(plan)))
			w.run()
			for range 15 * 60 { // of what is called at the end it is not so soon
				w.send(20, false)
				time.Sleep(200 * time.Millisecond)
				if f.Calls() >= 3 {
					break
				}
			}
			f.Off()
			if s, ok := w.c.Get(chatModel); ok && s.Phase == rollout.Failed {
				require.NoError(t, w.c.Retry(chatModel, "it has stopped"))
			}
			w.until(10*time.Minute, false, in(rollout.Done))
			require.Equal(t, "v2=10000", w.weights())
		})
	})
}
