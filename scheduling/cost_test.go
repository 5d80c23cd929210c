package scheduling_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// costs is a Coster from a map; endpoints that are not in it are NaN.
type costs map[string]float64

func (c costs) Cost(_ context.Context, _ *types.Request, eps []*types.Endpoint, costs []float64) error {
	for i, ep := range eps {
		if v, ok := c[ep.ID]; ok {
			costs[i] = v
		}
	}
	return nil
}

// itemized halves its cost into two items.
type itemized struct{ costs }

func (c itemized) Items(_ *types.Request, ep *types.Endpoint) []scheduling.CostItem {
	return []scheduling.CostItem{
		{Name: "there", Seconds: c.costs[ep.ID] / 2, Detail: "on the way"},
		{Name: "back", Seconds: c.costs[ep.ID] / 2},
	}
}

func TestCostsAreTakenOffTheScores(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, tt := range []struct {
		name   string
		scores map[string]float64
		weight float64
		costs  []scheduling.Costed
		want   map[string]float64
	}{
		{"a cost alone", nil, 0, []scheduling.Costed{{Coster: costs{"a": 2, "b": 1, "c": 3}}},
			map[string]float64{"a": -2, "b": -1, "c": -3}},
		{"a score is worth its weight in seconds", map[string]float64{"a": 1, "b": 0, "c": 0}, 1.5,
			[]scheduling.Costed{{Coster: costs{"a": 2, "b": 1, "c": 3}}},
			map[string]float64{"a": -.5, "b": -1, "c": -3}},
		{"two costs", nil, 0, []scheduling.Costed{{Name: "x", Coster: costs{"a": 2, "b": 1, "c": 3}}, {Name: "y", Coster: costs{"a": -2, "b": 0, "c": 0}}},
			map[string]float64{"a": 0, "b": -1, "c": -3}},
		{"no opinion is the mean of the others", nil, 0, []scheduling.Costed{{Coster: costs{"a": 2, "b": 1}}},
			map[string]float64{"a": -2, "b": -1, "c": -1.5}},
		{"so is what is not finite", nil, 0, []scheduling.Costed{{Coster: costs{"a": 2, "b": -inf, "c": nan}}},
			map[string]float64{"a": -2, "b": -2, "c": -2}},
		{"nobody has an opinion", nil, 0, []scheduling.Costed{{Coster: costs{}}},
			map[string]float64{"a": 0, "b": 0, "c": 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := scheduling.Profile{Costs: tt.costs, Picker: first}
			if tt.scores != nil {
				p.Scorers = []scheduling.Weighted{{Scorer: byID(tt.scores), Weight: tt.weight}}
			}
			eps := endpoints("a", "b", "c")
			ex, err := mustNew(t, p).Explain(ctx, schedulingtest.Request("hi"), eps)
			require.NoError(t, err)
			for _, c := range ex.Candidates {
				require.Equal(t, tt.want[c.ID], c.Total, "total of %s", c.ID)
				sum := 0.0
				for _, term := range c.Terms {
					sum += term.Contribution
				}
				if math.Abs(sum-c.Total) > 1e-12 {
					t.Errorf("terms of %s add up to %v, and the total is %v", c.ID, sum, c.Total)
				}
			}
		})
	}
}

func TestExplainItemizesCosts(t *testing.T) {
	s := mustNew(t, scheduling.Profile{
		Scorers: []scheduling.Weighted{{Name: "liked", Scorer: byID(map[string]float64{"a": 1, "b": 0}), Weight: 2}},
		Costs:   []scheduling.Costed{{Name: "trip", Coster: itemized{costs{"a": 4, "b": 1}}}},
		Picker:  first,
	})
	ex, err := s.Explain(ctx, schedulingtest.Request("hi"), endpoints("a", "b"))
	require.NoError(t, err)
	want := []scheduling.Term{
		{Scorer: "liked", Weight: 2, Score: 1, Used: 1, Contribution: 2},
		{Scorer: "there", Cost: true, Contribution: -2, Detail: "on the way"},
		{Scorer: "back", Cost: true, Contribution: -2},
	}
	for i, term := range ex.Candidates[0].Terms {
		if term != want[i] {
			t.Errorf("term %d of a = %+v, want %+v", i, term, want[i])
		}
	}
	if got := ex.Chosen().ID; got != "b" {
		t.Errorf("chose %s, want b: 2 - 4 is less than 0 - 1", got)
	}
	for _, part := range []string{"there (s)", "liked x2", "-2.000 (on the way)"} {
		require.Contains(t, ex.String(), part)
	}
}

func TestCosterErrorDropsTheCoster(t *testing.T) {
	broken := errors.New("out of order")
	var told error
	s := mustNew(t, scheduling.Profile{
		Costs: []scheduling.Costed{
			{Name: "broken", Coster: scheduling.CosterFunc(func(_ context.Context, _ *types.Request, _ []*types.Endpoint, costs []float64) error {
				costs[0] = 1e9
				return broken
			})},
			{Name: "good", Coster: costs{"a": 1, "b": 2}},
		},
		Picker: first,
		Hooks:  scheduling.Hooks{PluginFailed: func(_ *types.Request, err *scheduling.PluginError) { told = err }},
	})
	d, ex, err := s.ScheduleExplained(ctx, schedulingtest.Request("hi"), endpoints("a", "b"))
	if err != nil || d.Endpoint.ID != "a" {
		t.Fatalf("Schedule = %v, %v, want a", d, err)
	}
	d.Done(types.Outcome{})
	if !errors.Is(told, broken) || !strings.Contains(told.Error(), "cost") {
		t.Errorf("hook was told %v, want the error of the cost", told)
	}
	if len(ex.Dropped) != 1 || !strings.Contains(ex.Dropped[0], "broken") {
		t.Errorf("Dropped = %q", ex.Dropped)
	}
}

func TestNewRefusesCosts(t *testing.T) {
	for name, list := range map[string][]scheduling.Costed{
		"has no Coster": {{Name: "x"}},
		"two of Costs":  {{Name: "x", Coster: costs{}}, {Name: "x", Coster: costs{}}},
	} {
		if _, err := scheduling.New(scheduling.Profile{Costs: list, Picker: first}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New = %v, want an error that says %q", err, name)
		}
	}
}

// expects is a coster that expects so many tokens of output.
type expects struct {
	costs
	tokens int
}

func (e expects) ExpectedOutput(*types.Request) int { return e.tokens }

func TestLedgerHoldsExpectedOutput(t *testing.T) {
	for _, tt := range []struct {
		expected, most int
		want           int64
	}{{40, 0, 140}, {40, 10, 110}, {-5, 0, 100}} {
		s := mustNew(t, scheduling.Profile{Costs: []scheduling.Costed{{Coster: expects{costs{}, tt.expected}}}, Picker: first, OutputTokens: 1000})
		req := schedulingtest.Request("hi")
		req.Prompt.Tokens, req.MaxTokens = 100, tt.most
		eps := endpoints("a")
		d, err := s.Schedule(ctx, req, eps)
		require.NoError(t, err)
		l := eps[0].Load
		if l.ContextTokens() != tt.want || l.Prefilling() != 1 {
			t.Errorf("expected %d, at most %d: the ledger holds %d tokens and %d prefilling, want %d and 1", tt.expected, tt.most, l.ContextTokens(), l.Prefilling(), tt.want)
		}
		d.FirstToken()
		if l.Prefilling() != 0 || l.Requests() != 1 {
			t.Errorf("after the first token %d are prefilling of %d, want 0 of 1", l.Prefilling(), l.Requests())
		}
		d.Done(types.Outcome{})
		if l.Held() != (types.Booking{}) {
			t.Errorf("after the end the ledger holds %+v", l.Held())
		}
	}
}

// A reading says what this process had sent by then: the rest is of others.
func TestReadingSaysWhatWasSent(t *testing.T) {
	s := mustNew(t, scheduling.Profile{Picker: first})
	eps := endpoints("a")
	req := schedulingtest.Request("hi")
	d, err := s.Schedule(ctx, req, eps)
	require.NoError(t, err)
	read := eps[0].WithMetrics(eps[0].Metrics)
	d.Done(types.Outcome{})
	if read.Sent.Requests != 1 || read.Sent.Prefilling != 1 {
		t.Errorf("Sent = %+v, want the one request that was under way", read.Sent)
	}
	if later := eps[0].WithMetrics(eps[0].Metrics); later.Sent != (types.Booking{}) {
		t.Errorf("Sent of a later reading = %+v, want nothing", later.Sent)
	}
}
