package picker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// BodyMode is how Envoy sends bodies.
type BodyMode = modev3.ProcessingMode_BodySendMode

// DefaultMaxBody is the default of Options.MaxBody.
const DefaultMaxBody = 32 << 20

// PoolMetadata is the key of the gRPC metadata by which a route of Envoy names its
// pool, as name or namespace/name (grpc_initial_metadata of the filter or of an
// ExtProcPerRoute). It goes before Options.Pool. Clients cannot set it.
const PoolMetadata = "x-inferpick-pool"

// Options of a Server.
type Options struct {
	// Director decides. Required.
	Director *director.Director
	// Pool is the pool of every request whose stream names none, see PoolMetadata.
	// Zero: the one that serves the model.
	Pool types.NamespacedName
	// MaxBody bounds request bodies in bytes; beyond it the answer is 413. Default
	// DefaultMaxBody.
	MaxBody int
	// MaxDestinations bounds how many endpoints Envoy is told of: the choice and its
	// fallbacks. A data plane that takes one address and no list needs 1: an
	// ORIGINAL_DST cluster, for example. Default: all that the profile names.
	MaxDestinations int
	// RequestBody and ResponseBody are the modes of an Envoy that does not tell
	// them. Default FULL_DUPLEX_STREAMED.
	RequestBody, ResponseBody BodyMode
	// OnRoute is told of each request that was routed, before Envoy is. Optional; it
	// must be quick.
	OnRoute func(*director.Route)
	// Report returns what Envoy is told of the usage of a pool's request when its response
	// has ended: values by name, by namespace of dynamic metadata. Optional; it must be
	// quick.
	Report func(pool types.NamespacedName, usage types.Usage) map[string]map[string]any
	// OnServed is told which endpoint served a routed request, when its response
	// begins. Optional; it must be quick.
	OnServed func(r *director.Route, address string)
	// Tracer makes a span of each exchange. Optional.
	Tracer Tracer
	// Logger hears of streams that end with an error, and of requests at debug
	// level. Nil: silence.
	Logger *slog.Logger
}

// Server implements extprocv3.ExternalProcessorServer. Make it with New. It starts no
// goroutine of its own.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	o Options
}

// New returns a Server.
func New(o Options) (*Server, error) {
	if o.Director == nil {
		return nil, errors.New("picker: Options.Director is required")
	}
	if o.MaxBody < 0 {
		return nil, fmt.Errorf("picker: Options.MaxBody is %d, want more than 0, or 0 for the default of %d", o.MaxBody, DefaultMaxBody)
	}
	if o.MaxDestinations < 0 {
		return nil, fmt.Errorf("picker: Options.MaxDestinations is %d, want at least 1, or 0 for all", o.MaxDestinations)
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.RequestBody == modev3.ProcessingMode_NONE {
		o.RequestBody = modev3.ProcessingMode_FULL_DUPLEX_STREAMED
	}
	if o.ResponseBody == modev3.ProcessingMode_NONE {
		o.ResponseBody = modev3.ProcessingMode_FULL_DUPLEX_STREAMED
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Tracer == nil {
		o.Tracer = noTracer{}
	}
	return &Server{o: o}, nil
}

// Process serves one exchange; gRPC calls it.
func (s *Server) Process(stream extprocv3.ExternalProcessor_ProcessServer) (err error) {
	ctx := stream.Context()
	pool, err := s.poolOf(ctx)
	if err != nil {
		return s.ended(ctx, nil, err)
	}
	x := newExchange(ctx, &s.o, pool, stream.Send)
	defer func() {
		if v := recover(); v != nil {
			s.o.Logger.LogAttrs(ctx, slog.LevelError, "panic while a request was processed",
				slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = status.Error(codes.Internal, "picker: panic while the request was processed")
		}
		x.close()
	}()
	for !x.over() {
		msg, err := stream.Recv()
		if err != nil {
			return s.ended(ctx, x, err)
		}
		if err := x.handle(msg); err != nil {
			return s.ended(ctx, x, err)
		}
	}
	return nil
}

// ended returns the status that a stream ends with. That Envoy has closed it is no
// error.
func (s *Server) ended(ctx context.Context, x *exchange, err error) error {
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	attrs := []slog.Attr{slog.Any("error", err)}
	if x != nil {
		attrs = append(attrs, slog.String("id", x.id()))
	}
	s.o.Logger.LogAttrs(ctx, slog.LevelWarn, "stream ended with an error", attrs...)
	return err
}

func (s *Server) poolOf(ctx context.Context) (types.NamespacedName, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	names := md.Get(PoolMetadata)
	if len(names) == 0 {
		return s.o.Pool, nil
	}
	pool, err := ParsePool(names[0])
	if err != nil {
		return pool, status.Errorf(codes.InvalidArgument, "picker: gRPC metadata %s: %v", PoolMetadata, err)
	}
	return pool, nil
}

// ParsePool reads the name of a pool: name, or namespace/name.
func ParsePool(s string) (types.NamespacedName, error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok {
		namespace, name = types.DefaultNamespace, s
	}
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, fmt.Errorf("pool is %.80q, want name or namespace/name", s)
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}
