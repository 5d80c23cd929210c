package config_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/internal/guard/guardtest"
)

// Whatever of its options panics, a Watcher puts the next version in force.
func TestWatchOptionsPanic(t *testing.T) {
	pools := poolYAML + "---\n" + endpointsHead + "spec: {poolRef: {name: llama}, endpoints: [{address: \"10.0.0.1:8000\"}]}\n"
	base := config.WatchOptions{
		Apply:         func(*config.Config) error { return nil },
		CheckEndpoint: func(datastore.EndpointSpec) error { return nil },
	}
	guardtest.Each(t, base, nil, nil, func(t *testing.T, o config.WatchOptions, f *guardtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f.yaml")
			put(t, path, "no yaml: [")
			applied := 0
			apply := o.Apply
			o.Apply = func(c *config.Config) error {
				err := apply(c)
				applied = len(c.Pools())
				return err
			}
			w := config.NewWatcher(path, o)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = w.Run(ctx) }()
			time.Sleep(time.Minute)
			put(t, path, pools)
			time.Sleep(time.Minute)
			f.Off()
			put(t, path, pools+"---\n"+strings.Replace(poolYAML, "llama}", "lab}", 1))
			time.Sleep(time.Minute)
			require.NoError(t, w.Err())
			require.Equal(t, 2, applied)
			cancel()
			<-done
		})
	})
}
