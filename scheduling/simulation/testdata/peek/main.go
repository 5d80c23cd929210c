// Peek is a policy that asks for what no gateway can know. It must not compile.
package main

import (
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

func main() {
	_ = scheduling.EachScorer(func(req *types.Request, ep *types.Endpoint) float64 {
		return float64(req.Output) + float64(ep.Engine.Waiting())
	})
}
