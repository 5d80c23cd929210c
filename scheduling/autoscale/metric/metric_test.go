package metric_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric/metrictest"
	"github.com/inferpick/inferpick/types"
)

var pool = types.NamespacedName{Namespace: "models", Name: "llama"}

func TestValues(t *testing.T) {
	t.Parallel()
	nan := autoscale.Figure(math.NaN())
	busy := autoscale.Signals{
		Queued: 7, QueuedTokens: 900, PrefillTokens: 100, Running: 12, Backlog: 3.5, KVUsed: 0.6, Saturation: 0.5, Ready: 4,
	}
	unread := busy
	unread.KVUsed, unread.Saturation, unread.Backlog = nan, nan, nan
	empty := autoscale.Signals{KVUsed: nan, Saturation: nan, Backlog: nan}
	for _, test := range []struct {
		metric              string
		busy, unread, empty float64 // NaN: not known
	}{
		{"desired", 5, 5, 5},
		{"queued", 7, 7, 0},
		{"queuedTokens", 900, 900, 0},
		{"backlogSeconds", 3.5, math.NaN(), 0},
		{"running", 12, 12, 0},
		{"kv", 2.4, math.NaN(), 0},
		{"saturation", 2, math.NaN(), 0},
	} {
		for name, at := range map[string]struct {
			signals autoscale.Signals
			want    float64
		}{"busy": {busy, test.busy}, "unread": {unread, test.unread}, "empty": {empty, test.empty}} {
			var source metrictest.Source
			source.Set(pool, at.signals, 5, true)
			got, err := metric.Asker{Source: &source}.Value(context.Background(), metric.Query{Pool: pool, Metric: test.metric})
			if math.IsNaN(at.want) {
				require.ErrorIs(t, err, metric.ErrNotKnown, "%s, %s", test.metric, name)
				continue
			}
			require.NoError(t, err)
			require.InDelta(t, at.want, got, 1e-9, "%s, %s", test.metric, name)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"desired", "queued", "queuedTokens", "backlogSeconds", "running", "kv", "saturation"}, metric.Names(false))
	require.Equal(t, []string{"queued", "queuedTokens", "backlogSeconds", "running"}, metric.Names(true))
}

func TestModels(t *testing.T) {
	t.Parallel()
	var source metrictest.Source
	source.Set(pool, autoscale.Signals{Queued: 9}, 1, true)
	source.SetModel(pool, "chat", autoscale.Signals{Queued: 2})
	a := metric.Asker{Source: &source, Models: func(in types.NamespacedName, model string) bool {
		return in == pool && (model == "chat" || model == "quiet")
	}}
	for model, want := range map[string]float64{"": 9, "chat": 2, "quiet": 0} {
		got, err := a.Value(context.Background(), metric.Query{Pool: pool, Model: model, Metric: "queued"})
		require.NoError(t, err)
		require.Equal(t, want, got, model)
	}
	_, err := a.Value(context.Background(), metric.Query{Pool: pool, Model: "cha", Metric: "queued"})
	require.ErrorIs(t, err, metric.ErrUnknownModel)
	_, err = a.Value(context.Background(), metric.Query{Pool: pool, Model: "chat", Metric: "desired"})
	require.ErrorIs(t, err, metric.ErrUnknownMetric)
	require.ErrorContains(t, err, "desired is of whole pools, of a model there are queued, queuedTokens")
}

// TestTrapPartIsNotTheWhole: of two gateways one does not answer, so that what the other has is no sum.
func TestTrapPartIsNotTheWhole(t *testing.T) {
	t.Parallel()
	var source metrictest.Source
	source.Set(pool, autoscale.Signals{Queued: 1, Ready: 1, KVUsed: 0.1, Saturation: 0.1}, 1, true)
	source.Miss(1)
	for _, name := range metric.Names(false) {
		_, err := metric.Asker{Source: &source}.Value(context.Background(), metric.Query{Pool: pool, Metric: name})
		require.ErrorIs(t, err, autoscale.ErrPartial, name)
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	a := metric.Asker{Source: new(metrictest.Source)}
	_, err := a.Value(context.Background(), metric.Query{Pool: pool, Metric: "queued"})
	require.ErrorIs(t, err, autoscale.ErrUnknownPool)
	_, err = a.Value(context.Background(), metric.Query{Pool: pool, Metric: "queue"})
	require.ErrorIs(t, err, metric.ErrUnknownMetric)
	require.ErrorContains(t, err, `"queue"; the nearest is queued, want one of desired, queued`)
	_, err = a.Value(context.Background(), metric.Query{Pool: pool, Metric: "nope"})
	require.ErrorContains(t, err, `"nope", want one of desired, queued`)
}

var (
	_ metric.Source = (*autoscale.Autoscaler)(nil)
	_ metric.Source = (*metrictest.Source)(nil)
)
