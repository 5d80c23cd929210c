package schedulingtest_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

type (
	eps    = []*types.Endpoint
	filter = scheduling.FilterFunc
	scorer = scheduling.ScorerFunc
	picker = scheduling.PickerFunc
)

// each scores endpoints one by one.
func each(f func(i int, req *types.Request, ep *types.Endpoint) float64) scheduling.Scorer {
	return scorer(func(_ context.Context, req *types.Request, eps eps, scores []float64) error {
		for i, ep := range eps {
			scores[i] = f(i, req, ep)
		}
		return nil
	})
}

// broken are plugins that break the contract, and what the kit is to say of each.
var broken = map[string]struct {
	test func(*testing.T)
	says string
}{
	"score out of range": {scorerTest(each(func(int, *types.Request, *types.Endpoint) float64 { return 2 })), "want 0..1 or NaN"},
	"score by position":  {scorerTest(each(func(i int, _ *types.Request, _ *types.Endpoint) float64 { return 1 / float64(1+i) })), "in reverse"},
	"score at random":    {scorerTest(each(func(int, *types.Request, *types.Endpoint) float64 { return rand.Float64() })), "same seed"},
	"score changes a reading": {scorerTest(each(func(_ int, _ *types.Request, ep *types.Endpoint) float64 {
		ep.Labels = map[string]string{"seen": "yes"}
		return 0
	})), "was changed"},
	"score changes the request": {scorerTest(each(func(_ int, req *types.Request, _ *types.Endpoint) float64 {
		req.Model = "other"
		return 0
	})), "the request was changed"},
	"score without a ledger": {scorerTest(each(func(_ int, _ *types.Request, ep *types.Endpoint) float64 { return float64(ep.Load.Requests()) })), "nil pointer"},
	"filter swaps endpoints": {func(t *testing.T) {
		schedulingtest.TestFilter(t, func() scheduling.Filter {
			return filter(func(_ context.Context, _ *types.Request, eps eps, _ []bool) error {
				if len(eps) > 1 {
					eps[0], eps[1] = eps[1], eps[0]
				}
				return nil
			})
		})
	}, "the list of endpoints was changed"},
	"filter by position": {func(t *testing.T) {
		schedulingtest.TestFilter(t, func() scheduling.Filter {
			return filter(func(_ context.Context, _ *types.Request, _ eps, keep []bool) error {
				if len(keep) > 1 {
					keep[0] = false
				}
				return nil
			})
		})
	}, "in reverse"},
	"filter with an odd error": {func(t *testing.T) {
		schedulingtest.TestFilter(t, func() scheduling.Filter {
			return filter(func(context.Context, *types.Request, eps, []bool) error { return os.ErrInvalid })
		})
	}, "invalid argument"},
	"picker out of range": {pickerTest(func(_ *types.Request, eps eps, _ []float64) int { return len(eps) }), "of 1 endpoints"},
	"picker at random":    {pickerTest(func(_ *types.Request, eps eps, _ []float64) int { return rand.IntN(len(eps)) }), "same seed"},
	"always the first":    {pickerTest(func(*types.Request, eps, []float64) int { return 0 }), "was picked 0 times"},
	"picker changes scores": {pickerTest(func(_ *types.Request, _ eps, scores []float64) int {
		scores[0] = 9
		return 0
	}), "changed the scores"},
}

func scorerTest(s scheduling.Scorer) func(*testing.T) {
	return func(t *testing.T) { schedulingtest.TestScorer(t, func() scheduling.Scorer { return s }) }
}

func pickerTest(pick func(*types.Request, eps, []float64) int) func(*testing.T) {
	return func(t *testing.T) {
		schedulingtest.TestPicker(t, func() scheduling.Picker {
			return picker(func(_ context.Context, req *types.Request, eps eps, scores []float64) (int, error) {
				return pick(req, eps, scores), nil
			})
		})
	}
}

const playing = "SCHEDULINGTEST_BROKEN" // names the broken plugin that a child process tests

// A kit that cannot fail is worth nothing: each broken plugin must fail it, for
// the right reason.
func TestKitFindsBrokenPlugins(t *testing.T) {
	if name := os.Getenv(playing); name != "" {
		broken[name].test(t)
		return
	}
	for name, tt := range broken {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestKitFindsBrokenPlugins$")
			cmd.Env = append(os.Environ(), playing+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("the kit found nothing wrong")
			} else if !strings.Contains(string(out), tt.says) {
				t.Errorf("the kit did not say %q but\n%s", tt.says, out)
			}
		})
	}
}

func TestKitPassesGoodPlugins(t *testing.T) {
	schedulingtest.TestScorer(t, func() scheduling.Scorer {
		return each(func(_ int, req *types.Request, ep *types.Endpoint) float64 { return 1 - ep.KVUsage(req) })
	})
	schedulingtest.TestFilter(t, func() scheduling.Filter {
		return filter(func(_ context.Context, _ *types.Request, eps eps, keep []bool) error {
			for i, ep := range eps {
				keep[i] = ep.State == types.Ready
			}
			return nil
		})
	})
	schedulingtest.TestPicker(t, func() scheduling.Picker {
		return picker(func(_ context.Context, req *types.Request, eps eps, _ []float64) (int, error) {
			return req.Rand.IntN(len(eps)), nil
		})
	})
}

func TestFixtures(t *testing.T) {
	a := schedulingtest.Endpoint("a", schedulingtest.Waiting(3), schedulingtest.Running(4), schedulingtest.KVUsage(.5),
		schedulingtest.Adapters(2, "x"), schedulingtest.WaitingAdapters("y"), schedulingtest.InFlight(2), schedulingtest.Label("k", "v"))
	req := schedulingtest.Request("hello")
	if a.Waiting(req) != 3 || a.Running(req) != 4 || a.KVUsage(req) != .5 || a.MaxAdapters(req) != 2 || a.Load.Requests() != 2 || a.Labels["k"] != "v" || !a.Fresh(req) {
		t.Errorf("Endpoint = %+v", a)
	}
	if got := schedulingtest.Filter(t, filter(func(_ context.Context, _ *types.Request, _ eps, keep []bool) error { keep[0] = false; return nil }), req, a, schedulingtest.Endpoint("b")); len(got) != 1 || got[0] != "b" {
		t.Errorf("Filter = %v", got)
	}
	kinds := map[string]bool{}
	for _, ep := range schedulingtest.Fleet(100) {
		kinds[ep.State.String()] = true
		if ep.Metrics.UpdatedAt.IsZero() {
			kinds["unread"] = true
		}
		if ep.Metrics.MaxAdapters.IsKnown() {
			kinds["adapters"] = true
		}
	}
	for _, want := range []string{"ready", "draining", "unread", "adapters"} {
		if !kinds[want] {
			t.Errorf("a Fleet of 100 has no endpoint that is %s", want)
		}
	}
}
