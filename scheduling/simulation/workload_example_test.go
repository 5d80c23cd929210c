package simulation_test

import (
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

func ExampleDecodeSpec() {
	spec, err := simulation.DecodeSpec([]byte(`{"kind": "shared-prefix", "rate": 200, "groups": 100, "skew": 1}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%T with %v jobs per second\n", spec, simulation.Rate(spec))

	_, err = simulation.DecodeSpec([]byte(`{"kind": "shared-prefix", "group": 100}`))
	fmt.Println(err)
	// Output:
	// simulation.SharedPrefix with 200 jobs per second
	// simulation: workload: line 1, column 27: group is not a field; the nearest is groups
}

func ExampleEncodeSpec() {
	data, err := simulation.EncodeSpec(simulation.Criticality{Workload: simulation.Agentic{Rate: 2, Turns: 4}})
	fmt.Println(string(data), err)
	// Output: {"kind":"criticality","workload":{"kind":"agentic","rate":2,"turns":4}} <nil>
}

func ExampleWithRate() {
	mix := simulation.Mix{Parts: []simulation.Spec{
		simulation.ShareGPT{Rate: 30},
		simulation.B2B{Rate: 10},
	}}
	for _, rate := range []float64{20, 80} {
		spec, err := simulation.WithRate(mix, rate)
		if err != nil {
			fmt.Println(err)
			return
		}
		parts := spec.(simulation.Mix).Parts
		fmt.Println(simulation.Rate(spec), simulation.Rate(parts[0]), simulation.Rate(parts[1]))
	}
	// Output:
	// 20 15 5
	// 80 60 20
}

func ExampleMooncake() {
	trace := &simulation.Mooncake{File: "testdata/mooncake.jsonl", Tick: -1}
	if err := trace.Validate(); err != nil { // reads the file
		fmt.Println(err)
		return
	}
	source := trace.Start(1)
	for j, ok := source.Next(); ok; j, ok = source.Next() {
		fmt.Println(j.Prompt(), "tokens in", len(j.Content), "blocks,", j.Output, "out")
	}
	// Output:
	// 1100 tokens in 3 blocks, 20 out
	// 512 tokens in 1 blocks, 1 out
	// 1536 tokens in 3 blocks, 31 out
	// 100 tokens in 1 blocks, 5 out
	// 600 tokens in 2 blocks, 6 out
	// 300 tokens in 1 blocks, 9 out
}

func ExampleAgentic() {
	source := simulation.Agentic{Turns: 30}.Start(1)
	job, _ := source.Next()
	fmt.Println(len(job.Content), "pieces of content")
	next, ok := source.Done(&job, job.Arrival+5*time.Second, true)
	fmt.Println(ok, len(next.Content), "pieces of content, the third is the first answer:", next.Content[2].ID == job.OutputID)
	// Output:
	// 2 pieces of content
	// true 4 pieces of content, the third is the first answer: true
}

func ExampleLength() {
	length := simulation.Length{Kind: simulation.LengthLogNormal, Median: 400, Sigma: 1, Max: 8192}
	sampler, random := length.Sampler(), types.NewRand(1)
	fmt.Println(sampler.Sample(&random) > 0, sampler.Quantile(0.5))
	// Output: true 400
}

func ExampleArrivals() {
	times := simulation.Arrivals{Rate: 4, CV: -1}.Times(1) // evenly spaced
	first, _ := times.Next()
	second, _ := times.Next()
	fmt.Println(first < 250*time.Millisecond, second-first)
	// Output: true 250ms
}
