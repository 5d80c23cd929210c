package rollout_test

import (
	"fmt"
	"time"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

// A machine is driven by hand: what it wants done is printed and taken for done.
func ExampleMachine() {
	plan, err := rollout.DecodePlan([]byte(`{
		"stable": "sql-v1", "canary": "sql-v2",
		"steps": [{"setWeight": 10}, {"setWeight": 100}]
	}`), rollout.Object{Kind: "InferenceModel", Name: types.NamespacedName{Name: "sql"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	home := rollout.Record{Revision: "1", Weights: []rollout.Weight{{Target: "sql-v1", Weight: 1}}}
	servers := []rollout.Server{{ID: "a", Ready: true, Canary: rollout.HasNot}}
	m, err := rollout.Open(plan, home, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	tick := func() {
		now = now.Add(time.Second)
		for _, a := range m.Tick(now, rollout.World{Record: &home, Servers: servers}) {
			switch a.Do {
			case rollout.DoTell:
				fmt.Println(a.Event.Kind) // and a.Event.Text says it in words
			case rollout.DoLoad:
				servers[0].Canary = rollout.HasIt
			case rollout.DoWrite:
				home.Weights, home.State, home.Revision = a.Record.Weights, a.Record.State, now.String()
				m.Written(now, home.Revision, nil)
			}
		}
	}
	for range 4 {
		tick()
	}
	for i := range 1000 {
		m.Observe(rollout.Sample{Target: "sql-v1", Sent: now})
		if i < 40 {
			m.Observe(rollout.Sample{Target: "sql-v2", Sent: now, Failed: i%8 == 0})
		}
	}
	tick()
	fmt.Println(m.State().Reason)
	fmt.Println(home.Weights)
	// Output:
	// Started
	// Loaded
	// Stepped
	// Held
	// Judged
	// Aborted
	// errors: 5 of 40 requests failed, against 0 of 1000: at least 3.2 points more, 1.0 allowed
	// [{sql-v1 10000}]
}
