package epp

import (
	"context"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/picker"
)

// newGRPC returns the server that Envoy asks.
func newGRPC(o Options) (*grpc.Server, error) {
	tls, err := o.TLS.config(o.Logger, "h2")
	if err != nil {
		return nil, err
	}
	options := append(ServerOptions(o.MaxBody), grpc.StreamInterceptor(recovering(o.Logger)), grpc.UnaryInterceptor(recoveringCall(o.Logger)))
	if tls != nil {
		options = append(options, grpc.Creds(newCreds(tls, o.Logger)))
	}
	return grpc.NewServer(options...), nil
}

// recovering ends a stream in which there was a panic, and nothing else: what an embedder's
// functions do there must not end the process, with all other requests, whatever layer
// below lets through.
func recovering(logger *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = panicked(stream.Context(), logger, v)
			}
		}()
		return handler(srv, stream)
	}
}

// recoveringCall is recovering for calls that are no streams.
func recoveringCall(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
		defer func() {
			if v := recover(); v != nil {
				answer, err = nil, panicked(ctx, logger, v)
			}
		}()
		return handler(ctx, req)
	}
}

// panicked tells of a panic, and returns what the client is told.
func panicked(ctx context.Context, logger *slog.Logger, v any) (err error) {
	err = status.Error(codes.Internal, "epp: panic while the request was processed")
	defer func() { _ = recover() }() // of the logger: there is nobody left to tell
	logger.LogAttrs(ctx, slog.LevelError, "panic while a request was processed",
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	return err
}

// ServerOptions fit a gRPC server for Envoy: a few connections, thousands of streams
// on each, bodies of some hundred kilobytes and at most maxBody, of which 0 is the
// default.
func ServerOptions(maxBody int) []grpc.ServerOption {
	if maxBody == 0 {
		maxBody = exchange.DefaultMaxBody
	}
	return append(keepalives(),
		grpc.ForceServerCodecV2(picker.NewCodec()),
		// A body that is buffered comes as one message, with the headers' metadata.
		grpc.MaxRecvMsgSize(min(maxBody, math.MaxInt32-1<<20)+1<<20),
		grpc.MaxConcurrentStreams(math.MaxUint32), // Envoy's circuit breaker bounds them
		grpc.InitialWindowSize(1<<20),
		grpc.InitialConnWindowSize(16<<20),
	)
}

// keepalives find out that a client has gone without a word, and let it find out the same.
func keepalives() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// liveness is served for as long as the process lives; the others, and the empty
// name, while it takes requests. inference-extension is what older probes ask for.
const liveness = "liveness"

var readiness = []string{"", "readiness", extprocv3.ExternalProcessor_ServiceDesc.ServiceName, "inference-extension"}

// endingHealth is the health of the picker's port. A watch lasts for as long as the
// watcher likes, and a drain would wait for it: there they end when watching does.
type endingHealth struct {
	*health.Server
	watching context.Context
}

// Watch implements healthpb.HealthServer.
func (h endingHealth) Watch(in *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.watching, cancel)()
	return h.Server.Watch(in, watchStream{stream, ctx})
}

type watchStream struct {
	healthpb.Health_WatchServer
	ctx context.Context
}

func (s watchStream) Context() context.Context { return s.ctx }

func newHealth() *health.Server {
	h := health.NewServer()
	h.SetServingStatus(liveness, healthpb.HealthCheckResponse_SERVING)
	setReady(h, false)
	return h
}

func setReady(h *health.Server, ready bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if ready {
		status = healthpb.HealthCheckResponse_SERVING
	}
	for _, name := range readiness {
		h.SetServingStatus(name, status)
	}
}
