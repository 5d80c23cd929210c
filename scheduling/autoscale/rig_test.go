package autoscale_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

// rig is a pool with a scheduler, a collector, and admission control if gated.
type rig struct {
	t         testing.TB
	collector *autoscale.Collector
	scheduler *scheduling.Scheduler
	admission *admission.Controller // nil: none

	mu  sync.Mutex
	eps []*types.Endpoint // guarded by mu
	now func() time.Time
}

// known are Speeds that are the same for all endpoints.
type known types.Speed

func (k known) Speed(*types.Endpoint) (types.Speed, bool) { return types.Speed(k), true }

func newRig(t testing.TB, endpoints int, o autoscale.CollectorOptions, gate *admission.Options) *rig {
	r := &rig{t: t, now: o.Now}
	if r.now == nil {
		r.now = time.Now
	}
	for i := range endpoints {
		r.eps = append(r.eps, types.NewEndpoint(fmt.Sprint("e", i), fmt.Sprintf("10.0.0.%d:8000", i+1)))
	}
	o.Pools = func(yield func(types.NamespacedName, []*types.Endpoint) bool) { yield(pool, r.endpoints()) }
	if gate != nil {
		o.Admissions = func(yield func(types.NamespacedName, admission.Stats) bool) { yield(pool, r.admission.Stats()) }
	}
	var err error
	r.collector, err = autoscale.NewCollector(o)
	require.NoError(t, err)
	first := scheduling.PickerFunc(func(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
		return 0, nil
	})
	r.scheduler, err = scheduling.New(scheduling.Profile{Picker: first, Now: o.Now, Hooks: r.collector.Hooks(types.NamespacedName{}, scheduling.Hooks{})})
	require.NoError(t, err)
	if gate != nil {
		gate.Hooks = r.collector.AdmissionHooks(pool, *gate)
		r.admission, err = admission.New(*gate)
		require.NoError(t, err)
		r.admission.SetEndpoints(r.endpoints())
	}
	return r
}

func (r *rig) endpoints() []*types.Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.eps
}

// set makes eps the endpoints of the pool.
func (r *rig) set(eps ...*types.Endpoint) {
	r.mu.Lock()
	r.eps = eps
	r.mu.Unlock()
	if r.admission != nil {
		r.admission.SetEndpoints(eps)
	}
}

func request(model string, tokens int) *types.Request {
	return &types.Request{Model: model, Stream: true, Prompt: types.Prompt{Tokens: tokens, Bytes: 4 * tokens, Spans: []types.Span{}}}
}

// send admits a request, if there is somebody to, and books it.
func (r *rig) send(ctx context.Context, req *types.Request) (*scheduling.Decision, error) {
	if r.admission == nil {
		return r.scheduler.Schedule(ctx, req, r.endpoints())
	}
	ticket, _, err := r.admission.Admit(ctx, admission.Arrival{Request: req})
	if err != nil {
		return nil, err
	}
	d, err := r.scheduler.Schedule(ctx, req, r.endpoints())
	if err != nil {
		ticket.Done(types.Outcome{Unsent: true})
		return nil, err
	}
	d.EndWith(ticket)
	ticket.Booked(d.Endpoint)
	return d, nil
}

func (r *rig) signals(model string) autoscale.Signals {
	s, err := r.collector.Signals(pool, model)
	require.NoError(r.t, err)
	return s
}

func answered(tokens int) types.Outcome {
	return types.Outcome{Status: 200, Tokens: tokens, Usage: types.Usage{CompletionTokens: types.Known(float64(tokens))}}
}
