package keda_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda/externalscaler"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric/metrictest"
	"github.com/inferpick/inferpick/types"
)

type sourceDouble struct {
	metric.Source
	at func(string)
}

func (d *sourceDouble) Signals(ctx context.Context, pool types.NamespacedName, model string) (autoscale.Signals, error) {
	d.at("Signals")
	return d.Source.Signals(ctx, pool, model)
}

func (d *sourceDouble) Desired(ctx context.Context, pool types.NamespacedName) (autoscale.Recommendation, error) {
	d.at("Desired")
	return d.Source.Desired(ctx, pool)
}

func (d *sourceDouble) Active(ctx context.Context, pool types.NamespacedName) (bool, error) {
	d.at("Active")
	return d.Source.Active(ctx, pool)
}

func (d *sourceDouble) Watch(pool types.NamespacedName) (<-chan bool, func(), error) {
	d.at("Watch")
	return d.Source.Watch(pool)
}

// Whatever of its options panics, a Server answers with an error, and as ever once that has stopped.
func TestOptionsPanic(t *testing.T) {
	doubles := []guardtest.Double{guardtest.DoubleOf(func(inner metric.Source, at func(string)) metric.Source { return &sourceDouble{inner, at} })}
	source := &metrictest.Source{}
	source.Set(llama, autoscale.NewSignals(llama, "", time.Now()), 3, true)
	base := keda.Options{Source: source, Models: func(types.NamespacedName, string) bool { return true }, Interval: time.Millisecond}
	refs := []*externalscaler.ScaledObjectRef{object(), object("model", "m", "metric", "queued", "target", "1")}
	var names []string // of their metrics
	fine, err := keda.New(base)
	require.NoError(t, err)
	for _, ref := range refs {
		spec, err := fine.GetMetricSpec(t.Context(), ref)
		require.NoError(t, err)
		names = append(names, spec.MetricSpecs[0].MetricName)
	}
	guardtest.Each(t, base, doubles, nil, func(t *testing.T, o keda.Options, f *guardtest.Fault) {
		scaler, err := keda.New(o)
		require.NoError(t, err)
		r := &rig{scaler: scaler}
		r.listen(t, "127.0.0.1:0")
		t.Cleanup(r.server.Stop)
		conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		client := externalscaler.NewExternalScalerClient(conn)
		calls := func() (failed []error) {
			for i, ref := range refs {
				_, err := client.IsActive(within(t), ref)
				_, err2 := client.GetMetricSpec(within(t), ref)
				_, err3 := client.GetMetrics(within(t), &externalscaler.GetMetricsRequest{ScaledObjectRef: ref, MetricName: names[i]})
				failed = append(failed, err, err2, err3)
			}
			stream, err := client.StreamIsActive(within(t), object())
			require.NoError(t, err)
			_, err = stream.Recv()
			return append(failed, err)
		}
		failed := calls()
		if f.At != "Called" {
			require.True(t, slices.ContainsFunc(failed, func(err error) bool { return status.Code(err) == codes.Internal }), "%v", failed)
		}
		f.Off()
		for _, err := range calls() {
			require.NotEqual(t, codes.Internal, status.Code(err))
			require.NotEqual(t, codes.Unavailable, status.Code(err))
		}
	})
}
