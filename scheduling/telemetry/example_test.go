package telemetry_test

import (
	"context"
	"os"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// A scheduler whose requests are counted. A program serves the Handler, or adds the metrics
// to its prometheus.Gatherers, instead of writing families.
func Example() {
	pool := types.NamespacedName{Namespace: "default", Name: "llama"}
	eps := []*types.Endpoint{schedulingtest.Endpoint("default/pod-0", schedulingtest.Waiting(2))}
	m, err := telemetry.New(telemetry.Options{
		Pools: func(yield func(types.NamespacedName, []*types.Endpoint) bool) { yield(pool, eps) },
	})
	if err != nil {
		panic(err)
	}
	s, err := scheduling.New(scheduling.Profile{
		Picker: scheduling.PickerFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) { return 0, nil }),
		Hooks:  m.Hooks(pool, scheduling.Hooks{}),
	})
	if err != nil {
		panic(err)
	}

	req := schedulingtest.Request("Hello")
	req.Model, req.TargetModel, req.SLO.TTFT = "chat", "llama-3", time.Second
	d, err := s.Schedule(context.Background(), req, eps)
	if err != nil {
		panic(err)
	}
	d.Done(types.Outcome{Status: 200, Usage: types.Usage{CompletionTokens: types.Known(120)}})

	families, err := m.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		switch f.GetName() {
		case "inference_objective_request_total", "inference_pool_average_queue_size", "inferpick_model_output_tokens_total":
			if _, err := expfmt.MetricFamilyToText(os.Stdout, f); err != nil {
				panic(err)
			}
		}
	}
	// Output:
	// # HELP inference_objective_request_total Requests, those that were refused included.
	// # TYPE inference_objective_request_total counter
	// inference_objective_request_total{model_name="chat",priority="0",target_model_name="llama-3"} 1
	// # HELP inference_pool_average_queue_size Mean requests queued in the engine, of the ready endpoints that said so lately.
	// # TYPE inference_pool_average_queue_size gauge
	// inference_pool_average_queue_size{name="llama"} 2
	// # HELP inferpick_model_output_tokens_total Tokens of outputs, as servers reported them.
	// # TYPE inferpick_model_output_tokens_total counter
	// inferpick_model_output_tokens_total{model_name="chat",pool="llama",target_model_name="llama-3"} 120
}
