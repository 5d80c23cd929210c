package keda

import (
	"context"
	"errors"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda/externalscaler"
)

// modelIdle is how long a model is active after what came for it last. KEDA's cooldownPeriod comes on top.
const modelIdle = time.Minute

// active reports whether there are to be replicas. What is known of a part is enough to say yes.
func (s *Server) active(ctx context.Context, t *trigger) (bool, error) {
	if t.byEvents() {
		active, err := s.o.Source.Active(ctx, t.Pool)
		if active && errors.Is(err, autoscale.ErrPartial) {
			return true, nil
		}
		return active, err
	}
	signals, err := s.asker.Signals(ctx, t.Query)
	partial := errors.Is(err, autoscale.ErrPartial)
	switch {
	case err != nil && !partial:
		return false, err
	case signals.Queued > 0 && math.IsNaN(t.activation), signals.Running > 0: // it is never scaled to zero under requests
		return true, nil
	case partial:
		return false, err
	case math.IsNaN(t.activation):
		return signals.Arrivals > 0 && signals.Idle < modelIdle, nil
	}
	v, err := s.asker.Value(ctx, t.Query)
	return v > t.activation, err
}

// byEvents reports whether an Autoscaler tells when the trigger becomes active.
func (t *trigger) byEvents() bool { return t.Model == "" && math.IsNaN(t.activation) }

// StreamIsActive implements externalscaler.ExternalScalerServer. A client that does not read holds up nobody else: of
// what changes meanwhile it will be told the last.
func (s *Server) StreamIsActive(ref *externalscaler.ScaledObjectRef, stream grpc.ServerStreamingServer[externalscaler.IsActiveResponse]) (err error) {
	defer s.ended("StreamIsActive", &err)
	told, active := false, false
	return s.stream(stream.Context(), ref, func(t *trigger, known *bool) error {
		now, err := false, error(nil)
		if known != nil && t.byEvents() {
			now = *known
		} else if now, err = s.active(stream.Context(), t); err != nil {
			return err
		}
		if told && now == active {
			return nil
		}
		told, active = true, now
		return stream.Send(&externalscaler.IsActiveResponse{Result: now})
	})
}

// StreamMetricSpec implements externalscaler.ExternalScalerServer. The specification of a trigger never changes, but
// that its pool may go.
func (s *Server) StreamMetricSpec(ref *externalscaler.ScaledObjectRef, stream grpc.ServerStreamingServer[externalscaler.GetMetricSpecResponse]) (err error) {
	defer s.ended("StreamMetricSpec", &err)
	told := false
	return s.stream(stream.Context(), ref, func(t *trigger, _ *bool) error {
		if told {
			return s.exists(stream.Context(), t)
		}
		told = true
		return stream.Send(t.spec())
	})
}

// stream calls tell at once, whenever the pool becomes active or is so no more, which it is told then, and at every
// interval, until tell returns an error, the client goes or the Server is closed. That something is not known now ends
// nothing.
func (s *Server) stream(ctx context.Context, ref *externalscaler.ScaledObjectRef, tell func(t *trigger, known *bool) error) error {
	defer s.streams.Add(-1)
	if s.streams.Add(1) > int64(s.o.MaxStreams) {
		return status.Errorf(codes.ResourceExhausted, "keda: there are %d streams already", s.o.MaxStreams)
	}
	t, err := readTrigger(ref)
	if err == nil {
		err = s.exists(ctx, t)
	}
	if err != nil {
		return asStatus(err)
	}
	changes, stop, err := s.o.Source.Watch(t.Pool)
	if err != nil {
		return asStatus(err)
	}
	defer stop()
	tick := time.NewTicker(s.o.Interval)
	defer tick.Stop()
	for {
		var known *bool
		select {
		case <-ctx.Done():
			return asStatus(ctx.Err())
		case <-s.closed:
			return nil
		case active := <-changes:
			known = &active
		case <-tick.C:
		}
		if err = tell(t, known); err != nil && !transient(err) {
			return asStatus(err)
		}
	}
}

// transient reports whether an error says only that something is not known now.
func transient(err error) bool {
	return status.Code(asStatus(err)) == codes.Unavailable && status.Code(err) == codes.Unknown
}
