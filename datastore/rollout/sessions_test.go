package rollout_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

// TestSessions: with sticky sessions each one moves to the canary at most once in a rollout, never back, and with an
// abort they all are where they were.
func TestSessions(t *testing.T) {
	for _, bad := range []bool{false, true} {
		store := datastore.New(datastore.Options{StickySessions: true})
		require.NoError(t, store.SetEndpoints(types.NamespacedName{Namespace: "default", Name: "pool"},
			[]datastore.EndpointSpec{{ID: "a", Address: "127.0.0.1:1"}}))
		apply := func(weights []rollout.Weight) {
			m := types.InferenceModel{ObjectMeta: types.ObjectMeta{Name: "chat", Namespace: "default"}}
			m.Spec.ModelName, m.Spec.PoolRef.Name = "chat", "pool"
			for _, w := range weights {
				m.Spec.TargetModels = append(m.Spec.TargetModels, types.TargetModel{Name: w.Target, Weight: &w.Weight})
			}
			m.SetDefaults()
			require.NoError(t, store.Apply(&m))
		}
		const sessions = 2000
		targets := func() (all [sessions]string) {
			for i := range all {
				r, err := store.Snapshot().Resolve(datastore.Query{Model: "chat", SessionID: fmt.Sprint("session-", i)})
				require.NoError(t, err)
				all[i] = r.TargetModel
			}
			return all
		}
		r := newRig(plan(1, 5, 25, 50, 100))
		tr := newTraffic(firstSeed, 400, target{errors: .002, cached: .5})
		var moves [sessions]int
		apply(r.home.Weights)
		first := targets()
		before, writes := first, r.home.writes
		for range 3000 {
			if bad && r.m.State().Step == 3 {
				tr.canary.errors = .2
			}
			r.tick(time.Second)
			if r.m.Over() {
				break
			}
			if r.home.writes != writes {
				writes = r.home.writes
				apply(r.home.Weights)
				now := targets()
				for i := range now {
					if now[i] == before[i] {
						continue
					}
					moves[i]++
					if r.phase() == rollout.Stepping {
						require.Equal(t, "v2", now[i], "a session moves back")
						require.Equal(t, 1, moves[i])
					} else {
						require.Equal(t, "v1", now[i])
					}
				}
				before = now
			}
			tr.second(r, r.m.Observe)
		}
		if bad {
			require.Equal(t, rollout.Failed, r.phase())
			require.Equal(t, first, before)
		} else {
			require.Equal(t, rollout.Done, r.phase(), "%v", r.m.State())
			require.Equal(t, "v2", before[0])
		}
	}
}
