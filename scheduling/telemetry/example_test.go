package telemetry_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// A scheduler whose requests are counted. A program serves the Handler instead of
// writing to memory.
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

	var page bytes.Buffer
	if err := m.WriteText(&page); err != nil {
		panic(err)
	}
	for line := range strings.Lines(page.String()) {
		for _, name := range []string{"inference_objective_request_total", "inference_pool_average_queue_size", "inferpick_model_output_tokens_total"} {
			if strings.HasPrefix(line, name) {
				fmt.Print(line)
			}
		}
	}
	// Output:
	// inference_objective_request_total{model_name="chat",priority="0",target_model_name="llama-3"} 1
	// inference_pool_average_queue_size{name="llama"} 2
	// inferpick_model_output_tokens_total{model_name="chat",pool="llama",target_model_name="llama-3"} 120
}
