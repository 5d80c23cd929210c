// Embed is a program with a Scheduler and two scorers, to measure what they add.
package main

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

func main() {
	s, err := scheduling.New(scheduling.Profile{
		Scorers: []scheduling.Weighted{{Scorer: plugins.QueueDepth{}, Weight: 2}, {Scorer: plugins.KVCache{}, Weight: 2}},
		Picker:  plugins.MaxScore{},
	})
	if err != nil {
		panic(err)
	}
	d, err := s.Schedule(context.Background(), &types.Request{Model: "m"}, []*types.Endpoint{types.NewEndpoint("a", "10.0.0.1:8000")})
	fmt.Println(d.Endpoint.Address, err)
	d.Done(types.Outcome{})
}
