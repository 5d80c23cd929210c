package policies

import (
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// asOldAsItIs is a time to live for readings beyond any run: published systems use
// the last reading they have, however old.
const asOldAsItIs = 1000 * time.Hour

// VLLMDataParallel is the internal load balancer of vLLM V1 for data parallel
// engines (DPLBAsyncMPClient, main of 2026): the engine with the least
//
//	4·waiting + running
//
// by its last report, every 100 ms there, every scrape here; a request sent since
// counts as one waiting. Deviation: ties at random, where vLLM goes round.
func VLLMDataParallel() scheduling.Profile {
	s := newSent(nil)
	p := rule("vllm-dp", corrected{lowest{"4·waiting + running", vllmCost}, s}, s)
	p.MetricsTTL = asOldAsItIs
	return p
}

func vllmCost(req *types.Request, ep *types.Endpoint) float64 {
	return 4*ep.Waiting(req) + ep.Running(req)
}
