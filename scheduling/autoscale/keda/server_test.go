package keda_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda/externalscaler"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric/metrictest"
	"github.com/inferpick/inferpick/types"
)

// patience is how long a test waits for what has to happen.
const patience = 10 * time.Second

var llama = types.NamespacedName{Namespace: "models", Name: "llama"}

// rig is a Server behind a gRPC server on loopback.
type rig struct {
	source metrictest.Source
	scaler *keda.Server
	server *grpc.Server
	conn   *grpc.ClientConn
	externalscaler.ExternalScalerClient
	address string
}

func start(t testing.TB, o keda.Options) *rig {
	t.Helper()
	r := new(rig)
	o.Source = &r.source
	var err error
	r.scaler, err = keda.New(o)
	require.NoError(t, err)
	r.listen(t, "127.0.0.1:0")
	r.conn, err = grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	r.ExternalScalerClient = externalscaler.NewExternalScalerClient(r.conn)
	t.Cleanup(func() {
		r.conn.Close()
		r.server.Stop()
	})
	return r
}

// listen serves at an address.
func (r *rig) listen(t testing.TB, address string) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	require.NoError(t, err)
	r.address = ln.Addr().String()
	r.server = grpc.NewServer()
	r.scaler.Register(r.server)
	go r.server.Serve(ln)
}

// object is the ScaledObject of a test, whose trigger has metadata in pairs.
func object(pairs ...string) *externalscaler.ScaledObjectRef {
	data := map[string]string{"scalerAddress": "llama-epp:9005", "pool": "llama"}
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i]] = pairs[i+1]
	}
	return &externalscaler.ScaledObjectRef{Name: "llama", Namespace: "models", ScalerMetadata: data}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestWire: the names and numbers are KEDA's.
func TestWire(t *testing.T) {
	t.Parallel()
	file := externalscaler.File_externalscaler_proto
	var got []string
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			kind := f.Kind().String()
			if f.Kind() == protoreflect.MessageKind {
				kind = string(f.Message().FullName())
			}
			if f.Cardinality() == protoreflect.Repeated {
				kind = "repeated " + kind
			}
			got = append(got, fmt.Sprintf("%s.%s = %d %s", m.FullName(), f.Name(), f.Number(), kind))
		}
	}
	require.Equal(t, []string{
		"externalscaler.ScaledObjectRef.name = 1 string",
		"externalscaler.ScaledObjectRef.namespace = 2 string",
		"externalscaler.ScaledObjectRef.scalerMetadata = 3 repeated externalscaler.ScaledObjectRef.ScalerMetadataEntry",
		"externalscaler.IsActiveResponse.result = 1 bool",
		"externalscaler.GetMetricSpecResponse.metricSpecs = 1 repeated externalscaler.MetricSpec",
		"externalscaler.MetricSpec.metricName = 1 string",
		"externalscaler.MetricSpec.targetSize = 2 int64",
		"externalscaler.MetricSpec.targetSizeFloat = 3 double",
		"externalscaler.GetMetricsRequest.scaledObjectRef = 1 externalscaler.ScaledObjectRef",
		"externalscaler.GetMetricsRequest.metricName = 2 string",
		"externalscaler.GetMetricsResponse.metricValues = 1 repeated externalscaler.MetricValue",
		"externalscaler.MetricValue.metricName = 1 string",
		"externalscaler.MetricValue.metricValue = 2 int64",
		"externalscaler.MetricValue.metricValueFloat = 3 double",
	}, got)
	require.Equal(t, "/externalscaler.ExternalScaler/IsActive", externalscaler.ExternalScaler_IsActive_FullMethodName)
	require.Equal(t, "/externalscaler.ExternalScaler/StreamIsActive", externalscaler.ExternalScaler_StreamIsActive_FullMethodName)
	require.Equal(t, "/externalscaler.ExternalScaler/GetMetricSpec", externalscaler.ExternalScaler_GetMetricSpec_FullMethodName)
	require.Equal(t, "/externalscaler.ExternalScaler/GetMetrics", externalscaler.ExternalScaler_GetMetrics_FullMethodName)
	require.Equal(t, "/externalscaler.ExternalScaler/StreamMetricSpec", externalscaler.ExternalScaler_StreamMetricSpec_FullMethodName)
}

// poll does what KEDA does at each tick, and returns the value and the target that its metrics server gives out.
func (r *rig) poll(ctx context.Context, ref *externalscaler.ScaledObjectRef) (value, target float64, active bool, err error) {
	spec, err := r.GetMetricSpec(ctx, ref)
	if err != nil {
		return 0, 0, false, err
	}
	of := spec.MetricSpecs[0]
	if target = of.TargetSizeFloat; target <= 0 {
		target = float64(of.TargetSize)
	}
	values, err := r.GetMetrics(ctx, &externalscaler.GetMetricsRequest{ScaledObjectRef: ref, MetricName: of.MetricName})
	if err != nil {
		return 0, 0, false, err
	}
	if value = values.MetricValues[0].MetricValueFloat; value <= 0 {
		value = float64(values.MetricValues[0].MetricValue)
	}
	answer, err := r.IsActive(ctx, ref)
	return value, target, answer.GetResult(), err
}

// TestPolls: what a HorizontalPodAutoscaler makes of the values.
func TestPolls(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{})
	r.source.Set(llama, autoscale.Signals{
		Queued: 7, QueuedTokens: 9000, PrefillTokens: 1000, Running: 40, Backlog: 3.5, KVUsed: 0.5, Saturation: 0.25, Ready: 4,
	}, 6, true)
	r.source.SetModel(llama, "chat", autoscale.Signals{Queued: 2, Running: 3})
	for _, test := range []struct {
		metadata string
		replicas float64 // ceil(value/target)
		value    float64
	}{
		{"", 6, 6},
		{"metric desired target 1", 6, 6},
		{"metric desired target 2", 3, 6}, // pods of two endpoints
		{"namespace models metric queued target 2", 4, 7},
		{"metric queuedTokens target 4000", 3, 9000},
		{"metric backlogSeconds target 0.5", 7, 3.5},
		{"metric running target 16", 3, 40},
		{"metric kv target 0.8", 3, 2},
		{"metric saturation target 0.7", 2, 1},
		{"metric queued target 1 model chat", 2, 2},
		{"metricFromEnv queued targetFromEnv 2 scalerAddressFromEnv x", 4, 7},
		{"metric running target 16 model chat enableTLS true unsafeSsl false", 1, 3},
		{"metric running target 16 model quiet", 0, 0},
	} {
		value, target, active, err := r.poll(within(t), object(strings.Fields(test.metadata)...))
		require.NoError(t, err, test.metadata)
		require.InDelta(t, test.value, value, 1e-9, test.metadata)
		require.Equal(t, test.replicas, math.Ceil(value/target), test.metadata)
		require.Equal(t, !strings.Contains(test.metadata, "quiet"), active, test.metadata)
	}
}

// TestValues: both forms of a number are there, so that neither old nor new versions take something for nothing.
func TestValues(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{})
	for v, want := range map[autoscale.Figure]int64{0: 0, 0.2: 1, 1: 1, 2.5: 3, 1e30: math.MaxInt64} {
		r.source.Set(llama, autoscale.Signals{Queued: 1, Backlog: v}, 1, true)
		got, err := r.GetMetrics(within(t), &externalscaler.GetMetricsRequest{
			ScaledObjectRef: object("metric", "backlogSeconds", "target", "0.3"), MetricName: "inferpick-backlogSeconds",
		})
		require.NoError(t, err)
		require.Equal(t, float64(v), got.MetricValues[0].MetricValueFloat)
		require.Equal(t, want, got.MetricValues[0].MetricValue)
	}
	spec, err := r.GetMetricSpec(within(t), object("metric", "backlogSeconds", "target", "0.3"))
	require.NoError(t, err)
	require.Equal(t, 0.3, spec.MetricSpecs[0].TargetSizeFloat)
	require.Equal(t, int64(1), spec.MetricSpecs[0].TargetSize, "0 would be divided by")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{Models: func(_ types.NamespacedName, model string) bool { return model == "chat" }})
	r.source.Set(llama, autoscale.Signals{}, 1, true)
	for _, test := range []struct {
		metadata string
		code     codes.Code
		says     []string
	}{
		{"pool gemma", codes.NotFound, []string{"unknown pool: models/gemma"}},
		{"namespace other", codes.NotFound, []string{"unknown pool: other/llama"}},
		{"model chatt metric queued target 1", codes.NotFound, []string{`unknown model: "chatt" of pool models/llama`}},
		{"pool a/b", codes.InvalidArgument, []string{`pool is "a/b"`}},
		{"metric queue target 1", codes.InvalidArgument, []string{`metric is "queue", want one of desired, queued`, "the nearest is queued"}},
		{"metric queued", codes.InvalidArgument, []string{`target is required: how much of "queued" is for one replica`}},
		{"metric queued target 0.0001", codes.InvalidArgument, []string{`target is "0.0001", want a number from 0.001`}},
		{"metric queued target 1e300", codes.InvalidArgument, []string{`target is "1e300", want`}},
		{"metric queued target 0", codes.InvalidArgument, []string{`target is "0", want a number from 0.001`}},
		{"metric queued target many", codes.InvalidArgument, []string{`target is "many"`}},
		{"metric queued target NaN", codes.InvalidArgument, []string{`target is "NaN"`}},
		{"metric queued target Inf", codes.InvalidArgument, []string{`target is "Inf"`}},
		{"activationTarget -1", codes.InvalidArgument, []string{`activationTarget is "-1"`}},
		{"model chat", codes.InvalidArgument, []string{`metric is "", want one of queued, queuedTokens`}},
		{"model chat metric desired", codes.InvalidArgument, []string{`metric is "desired", want one of queued, queuedTokens`}},
		{"metric queued metricFromEnv queued target 1", codes.InvalidArgument, []string{"has metric and metricFromEnv"}},
		{"queueFromEnv 5", codes.InvalidArgument, []string{`"queueFromEnv", which is unknown`}},
		{"threshold 5 metricName x metrik queued targt 1", codes.InvalidArgument, []string{`"threshold"`, `"metricName"`, `"metrik", which is unknown`, `"targt", which is unknown`}},
	} {
		ref := object(strings.Fields(test.metadata)...)
		_, spec := r.GetMetricSpec(within(t), ref)
		_, metrics := r.GetMetrics(within(t), &externalscaler.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "inferpick-" + ref.ScalerMetadata["metric"]})
		if ref.ScalerMetadata["metric"] == "" {
			_, metrics = r.GetMetrics(within(t), &externalscaler.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "inferpick-desired"})
		}
		_, active := r.IsActive(within(t), ref)
		stream, err := r.StreamIsActive(within(t), ref)
		require.NoError(t, err)
		_, pushed := stream.Recv()
		specs, err := r.StreamMetricSpec(within(t), ref)
		require.NoError(t, err)
		_, streamed := specs.Recv()
		for _, err := range []error{spec, metrics, active, pushed, streamed} {
			require.Equal(t, test.code, status.Code(err), "%s: %v", test.metadata, err)
			for _, says := range test.says {
				require.ErrorContains(t, err, says, test.metadata)
			}
		}
	}
	_, err := r.GetMetricSpec(within(t), &externalscaler.ScaledObjectRef{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, "pool")
	_, err = r.GetMetrics(within(t), &externalscaler.GetMetricsRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = r.GetMetrics(within(t), &externalscaler.GetMetricsRequest{ScaledObjectRef: object(), MetricName: "inferpick-queued"})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, `metric "inferpick-queued", want inferpick-desired`)
	_, err = r.GetMetrics(within(t), &externalscaler.GetMetricsRequest{ScaledObjectRef: object(), MetricName: "s0-inferpick-desired"})
	require.NoError(t, err, "with an index before it, as in the HorizontalPodAutoscaler")
}

// TestTrapPartIsNotTheWhole: while a gateway is missing KEDA is told nothing rather than too little, but what there is is
// enough to wake a pool.
func TestTrapPartIsNotTheWhole(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{})
	r.source.Set(llama, autoscale.Signals{Queued: 1, Ready: 1, KVUsed: 0.1}, 1, false)
	r.source.Miss(1)
	for _, metric := range []string{"desired", "queued", "kv"} {
		ref := object("metric", metric, "target", "1")
		_, err := r.GetMetricSpec(within(t), ref)
		require.NoError(t, err, "what does not depend on it is told")
		_, err = r.GetMetrics(within(t), &externalscaler.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "inferpick-" + metric})
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.ErrorContains(t, err, "not all gateways answered")
	}
	_, err := r.IsActive(within(t), object())
	require.Equal(t, codes.Unavailable, status.Code(err), "the missing one may have what this one has not")
	r.source.Set(llama, autoscale.Signals{Queued: 1}, 1, true)
	answer, err := r.IsActive(within(t), object())
	require.NoError(t, err)
	require.True(t, answer.Result)
}

// TestTrapUnknownIsNotZero: a figure that nobody has read is no small one.
func TestTrapUnknownIsNotZero(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{})
	r.source.Set(llama, autoscale.Signals{Ready: 2, KVUsed: autoscale.Figure(math.NaN())}, 1, true)
	_, err := r.GetMetrics(within(t), &externalscaler.GetMetricsRequest{ScaledObjectRef: object("metric", "kv", "target", "0.8"), MetricName: "inferpick-kv"})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, "not known now: kv of pool models/llama")
}

// TestActivation: what a single model and an activationTarget make of it.
func TestActivation(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{})
	for _, test := range []struct {
		metadata string
		signals  autoscale.Signals
		want     bool
	}{
		{"activationTarget 3", autoscale.Signals{Queued: 3}, false},
		{"activationTarget 3", autoscale.Signals{Queued: 4}, true},
		{"activationTarget 3", autoscale.Signals{Running: 1}, true}, // never to zero under requests
		{"activationTarget 0", autoscale.Signals{}, false},
		{"model chat", autoscale.Signals{}, false},
		{"model chat", autoscale.Signals{Queued: 1}, true},
		{"model chat", autoscale.Signals{Running: 1}, true},
		{"model chat", autoscale.Signals{Arrivals: 0.1, Idle: 30 * time.Second}, true},
		{"model chat", autoscale.Signals{Arrivals: 0.1, Idle: 2 * time.Minute}, false},
		{"model chat", autoscale.Signals{Arrivals: autoscale.Figure(math.NaN())}, false},
		{"model chat activationTarget 1", autoscale.Signals{Queued: 1}, false},
	} {
		r.source.Set(llama, test.signals, 1, !test.want)
		r.source.SetModel(llama, "chat", test.signals)
		answer, err := r.IsActive(within(t), object(strings.Fields("metric queued target 1 "+test.metadata)...))
		require.NoError(t, err)
		require.Equal(t, test.want, answer.Result, "%s: %+v", test.metadata, test.signals)
	}
}

// push keeps a stream open as KEDA does: when it ends it is opened again after a delay, which doubles. What it hears
// comes out of the channel until ctx is done.
func push(ctx context.Context, c externalscaler.ExternalScalerClient, ref *externalscaler.ScaledObjectRef, first, most time.Duration) (heard chan bool, opened *atomic.Int64) {
	heard, opened = make(chan bool, 100), new(atomic.Int64)
	go func() {
		defer close(heard)
		for delay := first; ; delay = min(2*delay, most) {
			opened.Add(1)
			stream, err := c.StreamIsActive(ctx, ref)
			for err == nil {
				var m *externalscaler.IsActiveResponse
				if m, err = stream.Recv(); err == nil {
					heard <- m.Result
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
		}
	}()
	return heard, opened
}

func hear(t testing.TB, heard <-chan bool, want bool) {
	t.Helper()
	select {
	case got := <-heard:
		require.Equal(t, want, got)
	case <-time.After(patience):
		t.Fatalf("waited %v in vain to hear %v", patience, want)
	}
}

// TestPush: a change is told by the event that it is, without a look at the clock.
func TestPush(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{Interval: time.Minute})
	r.source.Set(llama, autoscale.Signals{}, 0, false)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	heard, opened := push(ctx, r, object(), time.Millisecond, time.Second)
	hear(t, heard, false)
	r.source.Set(llama, autoscale.Signals{Queued: 1}, 1, true)
	hear(t, heard, true)
	r.source.Set(llama, autoscale.Signals{Ready: 1}, 0, false)
	hear(t, heard, false)
	require.Equal(t, int64(1), opened.Load())
	require.Equal(t, 1, r.scaler.Streams())
	cancel()
	eventually(t, "the stream ends with its client", func() bool { return r.scaler.Streams() == 0 && r.source.Watchers(llama) == 0 })
}

// TestPushByLooking: what no event tells is looked at.
func TestPushByLooking(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{Interval: 5 * time.Millisecond})
	r.source.Set(llama, autoscale.Signals{}, 1, true) // by what is for another model
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	model, _ := push(ctx, r, object("model", "chat", "metric", "queued", "target", "1"), time.Millisecond, time.Second)
	threshold, _ := push(ctx, r, object("activationTarget", "5", "metric", "queued", "target", "1"), time.Millisecond, time.Second)
	hear(t, model, false)
	hear(t, threshold, false)
	r.source.SetModel(llama, "chat", autoscale.Signals{Queued: 1})
	hear(t, model, true)
	r.source.Set(llama, autoscale.Signals{Queued: 6}, 1, true)
	hear(t, threshold, true)
	// While another gateway is missing the last word stands, and the stream with it.
	r.source.Miss(1)
	r.source.SetModel(llama, "chat", autoscale.Signals{})
	r.source.Set(llama, autoscale.Signals{}, 1, true)
	time.Sleep(25 * time.Millisecond) // nothing to wait for: nothing happens
	require.Empty(t, model)
	require.Empty(t, threshold)
	r.source.Miss(0)
	hear(t, model, false)
	hear(t, threshold, false)
	require.Equal(t, 2, r.scaler.Streams())
}

// TestReconnects: the client finds the server again after it was away, and a pool that it asked for too early.
func TestReconnects(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{Interval: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	heard, opened := push(ctx, r, object(), time.Millisecond, 20*time.Millisecond)
	eventually(t, "it is asked again about a pool that there is not", func() bool { return opened.Load() > 3 })
	r.source.Set(llama, autoscale.Signals{}, 0, false)
	hear(t, heard, false)
	before := opened.Load()
	r.server.Stop()
	eventually(t, "it is asked again while there is no server", func() bool { return opened.Load() > before+2 })
	r.source.Set(llama, autoscale.Signals{Queued: 1}, 1, true)
	r.listen(t, r.address)
	hear(t, heard, true)
	r.source.Remove(llama)
	before = opened.Load()
	eventually(t, "it ends when the pool goes", func() bool { return opened.Load() > before+1 })
	require.Zero(t, r.source.Watchers(llama))
}

// TestMetricSpecs: the specification is told at once, and no more.
func TestMetricSpecs(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{Interval: time.Millisecond})
	r.source.Set(llama, autoscale.Signals{}, 1, true)
	ref := object("metric", "running", "target", "16")
	stream, err := r.StreamMetricSpec(within(t), ref)
	require.NoError(t, err)
	got, err := stream.Recv()
	require.NoError(t, err)
	want, err := r.GetMetricSpec(within(t), ref)
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())
	r.source.Remove(llama)
	_, err = stream.Recv()
	require.Equal(t, codes.NotFound, status.Code(err))
}

// TestManyStreams: 500 streams, of which a tenth reads nothing, hear of a change; further ones are refused; all end when
// the Server is closed, and nothing is left of them.
func TestManyStreams(t *testing.T) {
	before := runtime.NumGoroutine()
	const streams = 500
	r := start(t, keda.Options{MaxStreams: streams, Interval: time.Minute})
	r.source.Set(llama, autoscale.Signals{}, 0, false)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var readers sync.WaitGroup
	var active, ended atomic.Int64
	for i := range streams {
		stream, err := r.StreamIsActive(ctx, object())
		require.NoError(t, err)
		if i%10 == 0 {
			continue // reads nothing
		}
		readers.Go(func() {
			for {
				m, err := stream.Recv()
				if err != nil {
					if errors.Is(err, io.EOF) {
						ended.Add(1)
					}
					return
				}
				if m.Result {
					active.Add(1)
				}
			}
		})
	}
	eventually(t, "all are open", func() bool { return r.source.Watchers(llama) == streams })
	more, err := r.StreamIsActive(ctx, object())
	require.NoError(t, err)
	_, err = more.Recv()
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	r.source.Set(llama, autoscale.Signals{Queued: 1}, 1, true)
	eventually(t, "all that read hear of it", func() bool { return active.Load() == streams*9/10 })
	for i := range 1000 { // more than those who read nothing are told
		r.source.Set(llama, autoscale.Signals{}, 1, i%2 == 0)
	}
	answer, err := r.IsActive(within(t), object())
	require.NoError(t, err, "others are answered")
	require.False(t, answer.Result)

	r.scaler.Close()
	r.scaler.Close()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.server.GracefulStop()
	}()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("a graceful stop waits for streams")
	}
	readers.Wait()
	require.Equal(t, int64(streams*9/10), ended.Load())
	require.Zero(t, r.source.Watchers(llama))
	require.Zero(t, r.scaler.Streams())
	cancel()
	r.conn.Close()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+1 })
}

// TestManyCalls: a thousand polls from many at once, each of which is answered.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	calls := new(atomic.Int64)
	r := start(t, keda.Options{Called: func(method string, code codes.Code) {
		if code == codes.OK {
			calls.Add(1)
		}
	}})
	r.source.Set(llama, autoscale.Signals{Queued: 5}, 1, true)
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 20 {
		wg.Go(func() {
			for range 50 {
				if v, _, active, err := r.poll(context.Background(), object("metric", "queued", "target", "1")); err != nil || v != 5 || !active {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, failed.Load())
	require.Equal(t, int64(3000), calls.Load())
}

// TestHugeMetadata: what is far too much is refused in few words.
func TestHugeMetadata(t *testing.T) {
	t.Parallel()
	r := start(t, keda.Options{})
	pairs := []string{"pool", strings.Repeat("x", 1<<20)}
	for i := range 1000 {
		pairs = append(pairs, fmt.Sprintf("key-%d-%s", i, strings.Repeat("y", 1000)), "")
	}
	_, err := r.GetMetricSpec(within(t), object(pairs...))
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%.200v", err)
	require.Less(t, len(err.Error()), 10_000)
}

// BenchmarkPoll is what one tick of KEDA costs: three calls.
func BenchmarkPoll(b *testing.B) {
	r := start(b, keda.Options{})
	r.source.Set(llama, autoscale.Signals{Queued: 5}, 1, true)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, _, err := r.poll(context.Background(), object()); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(3*float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func FuzzMetadata(f *testing.F) {
	for _, metadata := range []string{"", "metric=queued target=2", "pool=a/b", "target=NaN metric=kv", "activationTarget=1e400", "x=y model=chat"} {
		f.Add(metadata)
	}
	source := new(metrictest.Source)
	source.Set(llama, autoscale.Signals{}, 1, true)
	s, err := keda.New(keda.Options{Source: source})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, metadata string) {
		var pairs []string
		for pair := range strings.FieldsSeq(metadata) {
			key, value, _ := strings.Cut(pair, "=")
			pairs = append(pairs, key, value)
		}
		ref := object(pairs...)
		spec, err := s.GetMetricSpec(context.Background(), ref)
		_, active := s.IsActive(context.Background(), ref)
		require.Equal(t, status.Code(err), status.Code(active), "%v, %v", err, active)
		switch status.Code(err) {
		case codes.OK:
			target := spec.MetricSpecs[0].TargetSizeFloat
			require.True(t, target > 0 && !math.IsInf(target, 0))
			require.Positive(t, spec.MetricSpecs[0].TargetSize)
		case codes.InvalidArgument, codes.NotFound:
		default:
			t.Fatal(err)
		}
	})
}
