package anchors

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// vidurRow is a row of Vidur's measurement of the linear layers.
type vidurRow struct {
	name, key string
	tokens    int
	seconds   float64
}

func vidurRows() []vidurRow {
	var rows []vidurRow
	for _, r := range []struct {
		tokens  int
		seconds float64
	}{{1, 5.6e-3}, {256, 9.2e-3}, {512, 12.0e-3}, {4096, 4096 * 20.2e-6}} {
		rows = append(rows, vidurRow{
			name: fmt.Sprintf("a step of %d tokens", r.tokens), key: fmt.Sprintf("vidur/%d", r.tokens),
			tokens: r.tokens, seconds: r.seconds,
		})
	}
	return rows
}

// engineTasks measures one engine alone.
func engineTasks() []task {
	return []task{{name: "one engine", weight: 1, run: func(context.Context, func(float64)) (figures, error) {
		f := figures{}
		first, _, err := alone(engine.Qwen3H100x2(), 8192)
		if err != nil {
			return nil, err
		}
		f["engine/prefill8192"] = first
		for _, c := range engine.Calibrations() {
			_, each, err := alone(c, 100)
			if err != nil {
				return nil, err
			}
			f["engine/itl/"+c.Name] = each
		}
		c, squares := engine.Llama2H100(), 0.0
		rows := vidurRows()
		for _, r := range rows {
			ours := math.Hypot(c.WeightFloor, c.PerToken*float64(r.tokens))
			f[r.key] = ours
			squares += (ours/r.seconds - 1) * (ours/r.seconds - 1)
		}
		f["vidur/rms"] = math.Sqrt(squares / float64(len(rows)))
		return f, nil
	}}}
}

// alone returns the seconds to the first token of a prompt that has an engine to
// itself, and those of each further token.
func alone(c engine.Calibration, prompt int) (first, each float64, err error) {
	const out = 21
	e, err := engine.New(engine.Config{Calibration: c})
	if err != nil {
		return 0, 0, err
	}
	if err := e.Submit(engine.Request{ID: 1, Prompt: prompt, Output: out}); err != nil {
		return 0, 0, err
	}
	now := time.Duration(0)
	for {
		step, ok := e.Step(now)
		if !ok {
			return first, each, nil
		}
		now += step.Duration
		for _, ev := range step.Events {
			if ev.First {
				first = now.Seconds()
			}
			if ev.Last {
				each = (now.Seconds() - first) / (out - 1)
			}
		}
	}
}
