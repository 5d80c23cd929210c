package suite_test

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/examples/simulator/suite"
)

// A suite of one case: short requests to two replicas, one half as fast.
func ExampleRun() {
	s, err := suite.Parse([]byte(`{
	  "seeds": [1], "duration": "5s", "capacity": "least-req",
	  "scenarios": [{
	    "name": "unequal", "loads": [0.5], "fleet": {"replicas": 2, "speeds": [1, 0.5]},
	    "workload": {"kind": "sharegpt", "rate": 50, "output": {"kind": "fixed", "tokens": 5}}
	  }]
	}`))
	if err != nil {
		panic(err)
	}
	chosen, err := policies.ByName("random,least-req")
	if err != nil {
		panic(err)
	}
	capacity, err := policies.ByName(s.Capacity)
	if err != nil {
		panic(err)
	}
	r, err := suite.Run(context.Background(), s, chosen, suite.Options{Capacity: capacity[0]})
	if err != nil {
		panic(err)
	}
	for _, g := range r.Regrets() {
		fmt.Printf("%s: best p90 of the time to first token in %d of %d cases\n", g.Policy, g.Best[0], len(r.Cases))
	}
	// Output:
	// random: best p90 of the time to first token in 0 of 1 cases
	// least-req: best p90 of the time to first token in 1 of 1 cases
}
