package scalers_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/scalers"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// What one metric, or several, propose, without windows and limits. Each value is worked out by hand from the formula:
// outside of the tolerance ceil(sum/target) for AverageValue, ceil(sum/target × ready) for Value.
func TestHPAFormula(t *testing.T) {
	avg := func(sum, target float64) scalers.Metric { return scalers.Metric{Value: sum, Target: target} }
	val := func(sum, target float64) scalers.Metric {
		return scalers.Metric{Type: scalers.Value, Value: sum, Target: target}
	}
	none := math.NaN()
	for _, c := range []struct {
		name           string
		current, ready int
		metrics        []scalers.Metric
		want           int
	}{
		{"at the target", 4, 4, []scalers.Metric{avg(40, 10)}, 4},
		{"within the tolerance above", 4, 4, []scalers.Metric{avg(44, 10)}, 4},
		{"just outside of it", 4, 4, []scalers.Metric{avg(44.1, 10)}, 5},
		{"within the tolerance below", 4, 4, []scalers.Metric{avg(36, 10)}, 4},
		{"outside of it, and rounded up to the same", 4, 4, []scalers.Metric{avg(35.9, 10)}, 4},
		{"below", 4, 4, []scalers.Metric{avg(29.9, 10)}, 3},
		{"ready ones do not matter for the average", 4, 1, []scalers.Metric{avg(80, 10)}, 8},
		{"an average of a saturation", 10, 10, []scalers.Metric{avg(.9, .7)}, 2},
		{"the value of a saturation", 10, 10, []scalers.Metric{val(.9, .7)}, 13},
		{"of ready ones alone", 10, 5, []scalers.Metric{val(.9, .7)}, 7},
		{"within the tolerance of a value", 10, 5, []scalers.Metric{val(.75, .7)}, 10},
		{"nothing", 3, 3, []scalers.Metric{avg(0, 1)}, 1},
		{"the largest wins", 4, 4, []scalers.Metric{avg(3, 1), avg(96, 16), avg(1, 1)}, 6},
		{"without an answer, up", 4, 4, []scalers.Metric{avg(none, 1), avg(96, 16)}, 6},
		{"without an answer, not down", 4, 4, []scalers.Metric{avg(none, 1), avg(16, 16)}, 4},
		{"without any answer", 4, 4, []scalers.Metric{avg(none, 1)}, 4},
		{"thousandths are cut off", 4, 4, []scalers.Metric{avg(4.4009, 1)}, 4},
		{"disabled at zero", 0, 0, []scalers.Metric{avg(9, 1)}, 0},
		{"more than the most", 30, 30, []scalers.Metric{avg(30, 1)}, 20},

		{"pods", 4, 4, []scalers.Metric{{Type: scalers.Pods, Target: 5, Pod: []float64{10, 10, 10, 10}}}, 8},
		{"pods of which two are missing, up: they do nothing", 4, 4, []scalers.Metric{{Type: scalers.Pods, Target: 5, Pod: []float64{20, 20, none, none}}}, 8},
		{"so much that the direction would turn", 4, 4, []scalers.Metric{{Type: scalers.Pods, Target: 5, Pod: []float64{6, 6, none, none}}}, 4},
		{"missing, down: they are at the target", 4, 4, []scalers.Metric{{Type: scalers.Pods, Target: 10, Pod: []float64{2, 2, 2}, Missing: 1}}, 2},
		{"unready do nothing, up", 5, 3, []scalers.Metric{{Type: scalers.Pods, Target: 5, Pod: []float64{10, 10, 10}, Unready: 2}}, 6},
		{"no pod has one", 3, 0, []scalers.Metric{{Type: scalers.Pods, Target: 5, Unready: 3}}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := scalers.HPA{Max: 20, Down: &scalers.Rules{Window: -1}, Up: &scalers.Rules{Policies: []scalers.RatePolicy{{Percent: 900, Period: 15 * time.Second}}}}
			require.Equal(t, c.want, h.Replicas(start, c.current, c.ready, c.metrics))
		})
	}
	h := scalers.HPA{Min: -1, Max: 20, Tolerance: -1, Down: &scalers.Rules{Window: -1}}
	require.Equal(t, 3, h.Replicas(start, 0, 0, []scalers.Metric{val(2.5, 1)}), "from zero by itself")
	require.Equal(t, 4, (&scalers.HPA{Min: 4}).Replicas(start, 2, 2, []scalers.Metric{avg(2, 1)}), "fewer than the least")
	require.Equal(t, 5, (&scalers.HPA{Tolerance: -1}).Replicas(start, 4, 4, []scalers.Metric{avg(4.001, 1)}), "without tolerance")
}

// timed is what is wanted, by the second, and what comes of it.
type timed struct{ at, wants, want int }

func follow(t *testing.T, h *scalers.HPA, current int, steps []timed) {
	t.Helper()
	for _, s := range steps {
		now := start.Add(time.Duration(s.at) * time.Second)
		current = h.Replicas(now, current, current, []scalers.Metric{{Value: float64(s.wants), Target: 1}})
		require.Equal(t, s.want, current, "after %d s", s.at)
	}
}

func TestHPABehavior(t *testing.T) {
	t.Run("none", func(t *testing.T) {
		follow(t, &scalers.HPA{}, 1, []timed{
			{0, 50, 4}, {15, 50, 8}, {30, 50, 16}, {45, 50, 32}, {60, 50, 50},
			{75, 10, 50}, {345, 20, 50}, // 300 s after 50 was last recommended
			{360, 10, 20}, {644, 10, 20}, {645, 10, 10},
		})
	})
	t.Run("empty", func(t *testing.T) { // as its documentation has it: the larger of 100 % and 4 pods each 15 s
		follow(t, &scalers.HPA{Up: &scalers.Rules{}}, 1, []timed{{0, 50, 5}, {15, 50, 10}, {30, 50, 20}, {45, 50, 40}, {60, 50, 50}, {75, 1, 50}})
	})
	t.Run("slowly", func(t *testing.T) { // as llm-d ships the token backlog
		h := &scalers.HPA{
			Up:   &scalers.Rules{Policies: []scalers.RatePolicy{{Pods: 1, Period: 180 * time.Second}}},
			Down: &scalers.Rules{Policies: []scalers.RatePolicy{{Pods: 1, Period: 300 * time.Second}}},
		}
		follow(t, h, 2, []timed{{0, 9, 3}, {15, 9, 3}, {165, 9, 3}, {180, 9, 4}, {345, 9, 4}, {360, 4, 4}, {375, 4, 4}, {645, 2, 4}, {660, 2, 4}, {675, 2, 3}, {960, 2, 3}, {975, 2, 2}})
	})
	t.Run("window up", func(t *testing.T) { // the least within it
		h := &scalers.HPA{Up: &scalers.Rules{Window: 60 * time.Second}}
		follow(t, h, 4, []timed{{0, 8, 4}, {15, 6, 4}, {30, 9, 4}, {45, 9, 4}, {60, 9, 6}, {75, 9, 9}})
	})
	t.Run("the least of two", func(t *testing.T) {
		h := &scalers.HPA{
			Up:   &scalers.Rules{Least: true, Policies: []scalers.RatePolicy{{Pods: 2, Period: time.Minute}, {Percent: 50, Period: time.Minute}}},
			Down: &scalers.Rules{Window: -1, Least: true, Policies: []scalers.RatePolicy{{Pods: 3, Period: time.Minute}, {Percent: 50, Period: time.Minute}}},
		}
		follow(t, h, 10, []timed{{0, 20, 12}, {15, 20, 12}, {60, 20, 14}, {120, 4, 11}, {180, 4, 8}, {240, 4, 5}, {300, 1, 2}, {360, 1, 1}})
	})
}

func TestKEDA(t *testing.T) {
	active := false
	k := scalers.KEDA{ToZero: true}
	n := 2
	ask := func(at, sum int) int {
		n = k.Replicas(start.Add(time.Duration(at)*time.Second), n, n, []scalers.Metric{{Value: float64(sum), Target: 1}}, func() bool { return active })
		return n
	}
	require.Equal(t, 2, ask(0, 2))
	require.Equal(t, 2, ask(270, 2), "cooldown")
	require.Equal(t, 0, ask(300, 2))
	require.Equal(t, 0, ask(315, 5), "the HPA does nothing at zero")
	active = true
	require.Equal(t, 0, ask(320, 5), "it does not poll yet")
	require.Equal(t, 1, ask(330, 5), "KEDA makes one, and no more")
	require.Equal(t, 4, ask(345, 5))

	n, active = 0, false
	require.Equal(t, 1, k.Wake(start.Add(400*time.Second), 0), "pushed")
	n = 1
	require.Equal(t, 1, ask(690, 1))
	require.Equal(t, 0, ask(720, 1))
	require.Equal(t, 3, k.Wake(start, 3))
	keeps := scalers.KEDA{}
	require.Equal(t, 1, keeps.Replicas(start.Add(time.Hour), 1, 1, []scalers.Metric{{Target: 1}}, func() bool { return false }), "minReplicaCount 1")
}
