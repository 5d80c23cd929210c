package keda

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda/externalscaler"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric"
	"github.com/inferpick/inferpick/types"
)

// Options of a Server. Source is required.
type Options struct {
	// Source is who knows: an *autoscale.Autoscaler, which runs.
	Source metric.Source
	// Models reports whether a pool, which there is, serves a model of that public name. Nil: all do.
	Models func(pool types.NamespacedName, model string) bool
	// MaxStreams bounds the streams at a time, of which a trigger of type external-push has two. Further ones are refused
	// with RESOURCE_EXHAUSTED. Default 2,000.
	MaxStreams int
	// Interval is how often is looked at what no event tells: whether a single model, or a metric with an
	// activationTarget, has become active, and whether a pool is still there. Default 250 ms, at most a minute.
	Interval time.Duration
	// Called hears of each call that ends, by the name of the method. Optional.
	Called func(method string, code codes.Code)
}

// Server is KEDA's external scaler. Its methods may be called from any goroutine.
type Server struct {
	externalscaler.UnimplementedExternalScalerServer
	o       Options
	asker   metric.Asker
	streams atomic.Int64

	closing sync.Once
	closed  chan struct{}
}

// New returns a Server. The error says which option is wrong.
func New(o Options) (*Server, error) {
	c := check.Checks{Package: "keda"}
	c.Want(o.Source != nil, "Source", nil, "an Autoscaler")
	check.Default(&c, "MaxStreams", &o.MaxStreams, 2000, 1, math.MaxInt32)
	check.Default(&c, "Interval", &o.Interval, 250*time.Millisecond, time.Millisecond, time.Minute)
	if o.Called == nil {
		o.Called = func(string, codes.Code) {}
	}
	return &Server{o: o, asker: metric.Asker{Source: o.Source, Models: o.Models}, closed: make(chan struct{})}, c.Err()
}

// Register makes a gRPC server serve it, which must not serve yet.
func (s *Server) Register(to grpc.ServiceRegistrar) {
	externalscaler.RegisterExternalScalerServer(to, s)
}

// Close ends all streams, and each that begins from now on, so that a graceful stop of the gRPC server does not wait for
// them. KEDA opens them again, at whom it then finds.
func (s *Server) Close() { s.closing.Do(func() { close(s.closed) }) }

// Streams returns how many streams there are now.
func (s *Server) Streams() int { return int(s.streams.Load()) }

// IsActive implements externalscaler.ExternalScalerServer.
func (s *Server) IsActive(ctx context.Context, ref *externalscaler.ScaledObjectRef) (answer *externalscaler.IsActiveResponse, err error) {
	defer s.ended("IsActive", &err)
	t, err := readTrigger(ref)
	if err != nil {
		return nil, asStatus(err)
	}
	active, err := s.active(ctx, t)
	if err != nil {
		return nil, asStatus(err)
	}
	return &externalscaler.IsActiveResponse{Result: active}, nil
}

// GetMetricSpec implements externalscaler.ExternalScalerServer.
func (s *Server) GetMetricSpec(ctx context.Context, ref *externalscaler.ScaledObjectRef) (answer *externalscaler.GetMetricSpecResponse, err error) {
	defer s.ended("GetMetricSpec", &err)
	t, err := readTrigger(ref)
	if err == nil {
		err = s.exists(ctx, t)
	}
	if err != nil {
		return nil, asStatus(err)
	}
	return t.spec(), nil
}

// spec says how much of the metric is for one replica.
func (t *trigger) spec() *externalscaler.GetMetricSpecResponse {
	return &externalscaler.GetMetricSpecResponse{MetricSpecs: []*externalscaler.MetricSpec{{
		MetricName: t.name(), TargetSizeFloat: t.target, TargetSize: whole(t.target),
	}}}
}

// GetMetrics implements externalscaler.ExternalScalerServer.
func (s *Server) GetMetrics(ctx context.Context, r *externalscaler.GetMetricsRequest) (answer *externalscaler.GetMetricsResponse, err error) {
	defer s.ended("GetMetrics", &err)
	t, err := readTrigger(r.GetScaledObjectRef())
	if err != nil {
		return nil, asStatus(err)
	}
	if !t.asks(r.GetMetricName()) {
		return nil, status.Errorf(codes.InvalidArgument, "keda: metric %.80q, want %s, as GetMetricSpec says", r.GetMetricName(), t.name())
	}
	v, err := s.asker.Value(ctx, t.Query)
	if err != nil {
		return nil, asStatus(err)
	}
	return &externalscaler.GetMetricsResponse{MetricValues: []*externalscaler.MetricValue{{
		MetricName: t.name(), MetricValueFloat: v, MetricValue: whole(v),
	}}}, nil
}

// whole is a figure for versions of KEDA that know no others: rounded up, so that little is not nothing.
func whole(v float64) int64 {
	if v >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(math.Ceil(v))
}

// ended is to be deferred by each method. It tells of a call that ends; a panic, of the Source's for example, is an error:
// a gRPC server does not recover from it.
func (s *Server) ended(method string, err *error) {
	if p := guard.Caught(method, recover()); p != nil {
		*err = status.Error(codes.Internal, "keda: "+p.Error())
	}
	_ = guard.Call("Options.Called", func() { s.o.Called(method, status.Code(*err)) }) // there is nobody left to tell
}

// exists returns an error if there is no such pool, or model.
func (s *Server) exists(ctx context.Context, t *trigger) error {
	_, err := s.asker.Signals(ctx, t.Query)
	if errors.Is(err, autoscale.ErrPartial) {
		return nil
	}
	return err
}

// asStatus is what KEDA is told of an error.
func asStatus(err error) error {
	var wrong check.Errors
	switch {
	case errors.As(err, &wrong), errors.Is(err, metric.ErrUnknownMetric):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, autoscale.ErrUnknownPool), errors.Is(err, metric.ErrUnknownModel):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}

var _ externalscaler.ExternalScalerServer = (*Server)(nil)
