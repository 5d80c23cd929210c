package rollout_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

const wholePlan = `{
  "stable": "sql-v1", "canary": "sql-v2",
  "steps": [{"setWeight": 1}, {"setWeight": 12.25, "pause": "10m"}, {"setWeight": 50, "manual": true}, {"setWeight": 100, "pause": "1h"}],
  "metrics": [{"name": "errors", "maxRise": 0.5}, {"name": "ttft", "maxRatio": 1.5, "failureLimit": 2, "from": 10}, {"name": "tpot", "warnOnly": true}],
  "minRequests": 50, "deadline": "2h", "onUnsure": "abort",
  "load": {"source": "s3://adapters/sql-v2", "timeout": "3m", "tries": 5, "parallel": 2, "share": 0.9, "unload": true, "grace": "1m"}
}`

func TestDecodePlan(t *testing.T) {
	p, err := rollout.DecodePlan([]byte(wholePlan), object)
	require.NoError(t, err)
	require.Equal(t, rollout.Plan{
		Object: object, Stable: "sql-v1", Canary: "sql-v2",
		Steps: []rollout.Step{{SetWeight: 1}, {SetWeight: 12.25, Pause: 10 * time.Minute}, {SetWeight: 50, Manual: true},
			{SetWeight: 100, Pause: time.Hour}},
		Metrics: []rollout.Metric{
			{Name: "errors", MaxRise: .5}, {Name: "ttft", MaxRatio: 1.5, FailureLimit: 2, From: 10},
			{Name: "tpot", MaxRatio: 1.2, WarnOnly: true},
		},
		MinRequests: 50, Deadline: 2 * time.Hour, OnUnsure: rollout.Abort,
		Load: rollout.LoadPlan{Source: "s3://adapters/sql-v2", Timeout: 3 * time.Minute, Tries: 5, Parallel: 2, Share: .9,
			Unload: true, Grace: time.Minute},
	}, p)

	short, err := rollout.DecodePlan([]byte(`{"stable": "a", "canary": "b"}`), object)
	require.NoError(t, err)
	require.Equal(t, rollout.DefaultSteps(), short.Steps)
	require.Equal(t, 5., short.Metrics[2].From)
	require.True(t, short.Metrics[5].WarnOnly && short.Metrics[6].WarnOnly)
	require.Equal(t, rollout.Hold, short.OnUnsure)
	again, err := short.WithDefaults()
	require.NoError(t, err)
	require.Equal(t, short, again)
	require.Equal(t, rollout.Plan{Stable: "a", Canary: "b", Object: object}.Fingerprint(), short.Fingerprint())
	require.NotEqual(t, short.Fingerprint(), p.Fingerprint())
}

// TestRefused: what cannot work is refused with the rule that it breaks, and the place.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ change, to, says string }{
		{`"stable": "sql-v1", `, ``, `line 1, column 1: stable is required`},
		{`"sql-v2"`, `"sql-v1"`, `line 2, column 23: canary is "sql-v1", want another target than the stable one`},
		{`"sql-v2"`, `"a\"b"`, `without quotes`},
		{`12.25`, `1`, `line 3, column 32: steps[1].setWeight is 1, want more than the 1 of the step before`},
		{`12.25`, `12.255`, `steps[1].setWeight is 12.255, want percent from 0.01 to 100 with at most two decimals`},
		{`12.25`, `-1`, `steps[1].setWeight is -1, want percent`},
		{`12.25`, `101`, `steps[1].setWeight is 101, want percent`},
		{`100, "pause"`, `90, "pause"`, `steps[3].setWeight is 90, want 100 in the last step: else it would never be done`},
		{`"10m"`, `"-10m"`, `steps[1].pause is "-10m", want a duration above 0`},
		{`"10m"`, `10`, `steps[1].pause is 10, want a duration above 0`},
		{`"tpot"`, `"tpots"`, `metrics[2].name is "tpots", want one of errors, empty, ttft, tpot, ntpot, length, finish; the nearest is tpot`},
		{`"tpot"`, `"errors"`, `metrics[2].name is "errors", want another metric than one before`},
		{`"maxRise": 0.5`, `"maxRise": -1`, `metrics[0].maxRise is -1, want 0.01 to 100, or 0 for the default 1`},
		{`"maxRise": 0.5`, `"maxRatio": 2`, `metrics[0].maxRatio is 2, want nothing: errors has a maxRise`},
		{`"maxRatio": 1.5`, `"maxRise": 1.5`, `metrics[1].maxRise is 1.5, want nothing: ttft has a maxRatio`},
		{`"maxRatio": 1.5`, `"maxRatio": 0.9`, `metrics[1].maxRatio is 0.9, want 1.01 to 100`},
		{`"failureLimit": 2`, `"failureLimit": -2`, `metrics[1].failureLimit is -2, want 0 to 100`},
		{`"from": 10`, `"from": 110`, `metrics[1].from is 110`},
		{`"minRequests": 50`, `"minRequests": 5`, `minRequests is 5, want 10 to 1000000, or 0 for the default 20`},
		{`"2h"`, `"1ms"`, `deadline is 1ms, want 1s to`},
		{`"abort"`, `"stop"`, `onUnsure is "stop", want one of hold, abort`},
		{`"tries": 5`, `"tries": -5`, `load.tries is -5, want 1 to 100`},
		{`0.9`, `1.1`, `load.share is 1.1, want 0.001 to 1`},
		{`"minRequests"`, `"minRequest"`, `minRequest is not a field; the nearest is minRequests`},
		{`"load"`, `"canary": "x", "load"`, `canary`},
	} {
		require.Contains(t, wholePlan, c.change)
		_, err := rollout.DecodePlan([]byte(strings.Replace(wholePlan, c.change, c.to, 1)), object)
		require.ErrorContains(t, err, c.says)
		require.True(t, strings.HasPrefix(err.Error(), "rollout: "), "%v", err)
	}
	for name, change := range map[string]func(*rollout.Plan){
		"steps[0].setWeight is NaN": func(p *rollout.Plan) {
			p.Steps = []rollout.Step{{SetWeight: math.NaN()}, {SetWeight: 100}}
		},
		"metrics[0].maxRatio is NaN": func(p *rollout.Plan) {
			p.Metrics = []rollout.Metric{{Name: "ttft", MaxRatio: math.NaN()}}
		},
		"load.share is NaN":       func(p *rollout.Plan) { p.Load.Share = math.NaN() },
		"steps is 51":             func(p *rollout.Plan) { p.Steps = steps(51) },
		"object.kind is \"Pod\"":  func(p *rollout.Plan) { p.Object.Kind = "Pod" },
		"object.name is required": func(p *rollout.Plan) { p.Object.Name.Name = "" },
		"object.rule is 1":        func(p *rollout.Plan) { p.Object.Rule = 1 },
	} {
		p := plan(100)
		change(&p)
		_, err := rollout.NewMachine(p, start)
		require.ErrorContains(t, err, name)
	}
	p := plan(100)
	p.Steps = steps(50)
	_, err := p.WithDefaults()
	require.NoError(t, err)
	_, err = rollout.DecodePlan(make([]byte, rollout.MaxPlan+1), object)
	require.ErrorContains(t, err, "want at most")
}

func steps(n int) (all []rollout.Step) {
	for i := range n {
		all = append(all, rollout.Step{SetWeight: float64(i+1) / 100})
	}
	all[n-1].SetWeight = 100
	return all
}

// FuzzPlan: what is read can be written and read again, and is the same plan.
func FuzzPlan(f *testing.F) {
	f.Add([]byte(wholePlan))
	f.Add([]byte(`{"stable": "a", "canary": "b"}`))
	f.Add([]byte(`{"stable": "a", "canary": "b", "steps": [{"setWeight": 1e-2}, {"setWeight": 100, "pause": "1ns"}], "metrics": [], "load": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := rollout.DecodePlan(data, object)
		if err != nil {
			return
		}
		text, err := json.Marshal(p)
		require.NoError(t, err)
		again, err := rollout.DecodePlan(text, object)
		require.NoError(t, err, "%s", text)
		require.Equal(t, p, again)
		var plain rollout.Plan
		require.NoError(t, json.Unmarshal(text, &plain))
		plain.Object = object
		require.Equal(t, p, plain)
		require.Equal(t, p.Fingerprint(), again.Fingerprint())
		m, err := rollout.NewMachine(p, start)
		require.NoError(t, err)
		m.Tick(start, rollout.World{Record: &rollout.Record{Revision: "1",
			Weights: []rollout.Weight{{Target: p.Stable, Weight: 1}}}})
		require.LessOrEqual(t, len(m.State().Encode()), rollout.MaxState)
	})
}
