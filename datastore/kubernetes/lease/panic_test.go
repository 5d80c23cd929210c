package lease

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/guard/guardtest"
)

// TestOptionsPanic: whatever of the options panics, the lease is held, and who leads does.
func TestOptionsPanic(t *testing.T) {
	guardtest.Each(t, Options{Namespace: "ns", Name: "lease", Identity: "a"}, nil, nil, func(t *testing.T, o Options, f *guardtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			require.NoError(t, o.complete())
			started := time.Now()
			store := &link{memory: &memory{}}
			store.set(away) // so that there is something to log
			e := newElection(o, store, func() instant { return instant{mono: time.Since(started), wall: time.Now()} })
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			var leads atomic.Int64
			go func() {
				defer close(done)
				e.run(ctx, func(ctx context.Context) {
					if leads.Add(1) <= 3 {
						panic("of who leads")
					}
					<-ctx.Done()
				})
			}()
			time.Sleep(time.Minute)
			store.set(nil)
			time.Sleep(2 * time.Minute)
			f.Off()
			time.Sleep(time.Hour)
			require.EqualValues(t, 4, leads.Load(), "terms, of which three panicked")
			now, err := store.memory.read(t.Context())
			require.NoError(t, err)
			require.Equal(t, "a", now.holder)
			cancel()
			<-done
		})
	})
}
