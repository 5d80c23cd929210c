package inferpick_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	inferpick "github.com/inferpick/inferpick/examples/caddy"
	"github.com/inferpick/inferpick/scheduling/director/directortest"
)

// The handler stands what hostile servers and clients do. The rest of the kit takes long, or
// counts who got how much; the root module runs it over the same transport.
func TestHostile(t *testing.T) {
	var pools atomic.Int64
	skip := []string{"healthy", "endings", "poison", "clients", "readings", "connections", "hangs", "recovery", "leaks", "goroutines"}
	directortest.RunWith(t, directortest.Options{Skip: skip, Skew: 100}, func(t *testing.T, endpoints []string) http.Handler {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		h := &inferpick.Handler{Pool: fmt.Sprint("pool-", pools.Add(1)), Servers: endpoints}
		require.NoError(t, h.Provision(ctx))
		t.Cleanup(func() {
			cancel()
			assert.NoError(t, h.Cleanup())
		})
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
			assert.NoError(t, h.ServeHTTP(w, r, nil))
		})
	})
}
