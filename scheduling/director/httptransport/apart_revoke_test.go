package httptransport_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/admission"
	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
)

// A request that is served by two and has to make room for a more important one, at whatever moment, ends at
// both engines; nothing stays booked, and no engine keeps anything.
func TestApartRevoked(t *testing.T) {
	tests := map[string]func(testing.TB){}
	for _, protocol := range protocols() {
		tests[protocol.String()] = func(t testing.TB) {
			a := newApart(t, dt.Options{Protocol: protocol, Prefill: 2, Decode: 2, Wait: time.Hour, Lease: time.Hour, Settle: 10 * time.Second,
				Behaviour: dt.Behaviour{PrefillTime: 20 * time.Millisecond, TransferTime: 10 * time.Millisecond, TokenTime: 40 * time.Millisecond}}, func(s *setup) {
				// Within it everything here gets to its engines, and every prompt is computed, however busy the machine is.
				s.transport = func(transport *httptransport.Transport) { transport.Linger = 2 * time.Second }
				s.director.Admission = func(types.NamespacedName) *admission.Options {
					return &admission.Options{Detector: admission.Concurrency{Requests: 2}, Revoke: true}
				}
			})
			objs, err := types.DecodeManifests([]byte(models))
			require.NoError(t, err)
			require.NoError(t, a.store.Apply(objs...))
			var right, revoked atomic.Int64
			var all sync.WaitGroup
			begin := time.Now()
			goesOn := func() bool { // until enough were revoked
				took := time.Since(begin)
				return took < 500*time.Millisecond || revoked.Load() < 3 && took < 10*time.Second
			}
			for n := range 6 {
				all.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(n), 1))
					for i := 0; goesOn(); i++ {
						model := "bulk"
						if n < 2 {
							model = "vip"
							time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond)
						} else {
							time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
						}
						body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hello"}],"user":"%d-%d","stream":%v}`, model, n, i, rnd.IntN(2) == 0)
						g := a.ask(t.Context(), chatPath, body)
						switch {
						case g.status == 200 && g.err == nil && !strings.Contains(string(g.body), `"error"`):
							a.right(t, chatPath, body, g)
							right.Add(1)
						case model == "vip":
							t.Errorf("%d %v %s", g.status, g.err, g.body)
						case g.status == http.StatusTooManyRequests && g.header.Get("X-Inferpick-Reason") != "revoked":
						case g.status == http.StatusTooManyRequests, g.status == 200:
							revoked.Add(1)
						default:
							t.Errorf("%d %v %s", g.status, g.err, g.body)
						}
					}
				})
			}
			all.Wait()
			require.Positive(t, revoked.Load())
			require.Positive(t, right.Load())
			a.empty(t)
			for _, c := range a.director.Admissions() {
				for _, b := range c.Stats().Bands {
					require.Zero(t, b.Running+b.Queued)
				}
			}
			if err := a.c.Check(); err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					t.Errorf("%s", line)
				}
			}
		}
	}
	noLeaks(t, func() { together(t, tests) })
}
