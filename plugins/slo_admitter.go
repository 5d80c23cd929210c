package plugins

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// coldKV is the part of its KV cache below which a server has seen too little to judge it.
const coldKV = 0.02

// SLOAdmitter is a Filter that strikes out nobody, but ends the call with ErrSaturated for
// requests of negative priority that have an SLO, where no endpoint is believed to meet it
// and none is idle or new. It is llm-d's latency-slo-admitter, with the estimates of a
// Cost in place of a predictor. Requests that an admission control let in are let through.
//
// Wire it with a Cost of the same profile.
type SLOAdmitter struct{ Cost *Cost }

func newSLOAdmitterFrom(p json.RawMessage) (any, error) {
	return new(SLOAdmitter), Parameters(p, &struct{}{})
}

// Filter implements scheduling.Filter.
func (f *SLOAdmitter) Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, _ []bool) error {
	if req.Priority >= 0 || req.Admitted || req.SLO == (types.SLO{}) || f.Cost == nil {
		return nil
	}
	for _, ep := range eps {
		if isIdle(req, ep) || ep.KVUsage(req) < coldKV {
			return nil
		}
	}
	meets, err := f.Cost.meets(ctx, req, eps)
	if meets || err != nil {
		return err
	}
	return fmt.Errorf("%w: priority %d is shed while none of %d endpoints is expected to meet its SLO", scheduling.ErrSaturated, req.Priority, len(eps))
}

// isIdle reports whether an endpoint has nothing to do, by what it reports or else by what
// was sent to it.
func isIdle(req *types.Request, ep *types.Endpoint) bool {
	n := ep.Running(req)
	return n == 0 || n != n && (ep.Load == nil || ep.Load.Requests() == 0)
}

var _ scheduling.Filter = (*SLOAdmitter)(nil)
