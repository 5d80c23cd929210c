package gateway_test

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/types"
)

// A pool without servers is there, and none is recommended for it until a request comes.
func TestTrapPoolBeginsEmpty(t *testing.T) {
	for name, admit := range map[string]func() *admission.Options{
		"requests are refused": nil,
		"requests wait":        func() *admission.Options { return &admission.Options{WaitForEndpoints: admission.DefaultMaxWait} },
	} {
		t.Run(name, func(t *testing.T) {
			policy := func(types.NamespacedName) (autoscale.Policy, bool) { return autoscale.Policy{ToZero: true}, true }
			g, err := gateway.New(gateway.Options{
				Profile: plugins.Default(), Servers: gateway.Addresses(), Admission: admit,
				Autoscale: &gateway.Autoscale{Options: autoscale.Options{Policy: policy}},
			})
			require.NoError(t, err)
			defer g.Close()
			pool := types.NamespacedName{Name: "default"}
			r, err := g.Autoscaler.Desired(t.Context(), pool)
			require.NoError(t, err)
			require.Zero(t, r.Replicas)
			active, stop, err := g.Autoscaler.Watch(pool)
			require.NoError(t, err)
			defer stop()
			require.False(t, <-active)
			answered := make(chan struct{})
			defer func() { <-answered }()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			go func() {
				defer close(answered)
				request := httptest.NewRequest("POST", "/v1/completions", strings.NewReader(`{"model":"m","prompt":"hi"}`))
				g.Proxy().ServeHTTP(httptest.NewRecorder(), request.WithContext(ctx))
			}()
			require.True(t, <-active, "the first request wakes the pool")
			g.Autoscaler.Tick(t.Context())
			r, err = g.Autoscaler.Desired(t.Context(), pool)
			require.NoError(t, err)
			require.Equal(t, 1, r.Replicas)
		})
	}
}

// A list of no servers takes nothing away from a file's.
func TestNoServersBesideConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "models.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"endpoints": [{"pool": "default", "address": "10.0.0.1:8000"}]}`), 0o600))
	g, err := gateway.New(gateway.Options{Profile: plugins.Default(), Servers: gateway.Addresses(), Config: path})
	require.NoError(t, err)
	defer g.Close()
	require.Len(t, g.Store.Snapshot().Pools()[0].Endpoints(), 1)
}
