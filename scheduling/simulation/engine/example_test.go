package engine_test

import (
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// Two requests, the second with the prompt of the first. Time only passes
// where the example says so.
func Example() {
	e, err := engine.New(engine.Config{Calibration: engine.Llama2H100()})
	if err != nil {
		panic(err)
	}
	prompt := []uint64{11, 12, 13} // three full blocks
	for id := range uint64(2) {
		if err := e.Submit(engine.Request{ID: id, Prompt: 50, Output: 2, Hashes: prompt}); err != nil {
			panic(err)
		}
		for now := time.Duration(0); ; {
			step, ok := e.Step(now)
			if !ok {
				break
			}
			now += step.Duration
			for _, ev := range step.Events {
				fmt.Printf("request %d: token %d after %v, %d prompt tokens cached\n", ev.ID, ev.Generated, step.Duration, ev.Cached)
			}
		}
	}
	// Output:
	// request 0: token 1 after 7.010831ms, 0 prompt tokens cached
	// request 0: token 2 after 6.913121ms, 0 prompt tokens cached
	// request 1: token 1 after 6.904298ms, 48 prompt tokens cached
	// request 1: token 2 after 6.913121ms, 48 prompt tokens cached
}
