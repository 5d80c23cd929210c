package picker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// BodyMode is how Envoy sends bodies.
type BodyMode = modev3.ProcessingMode_BodySendMode

// Defaults of Options.
const (
	DefaultMaxBody     = 32 << 20
	DefaultMaxStreams  = 1 << 16
	DefaultIdleTimeout = time.Hour
)

// Options of a Server.
type Options struct {
	// Director decides. Required.
	Director *director.Director
	// Pool is the pool of every request whose stream names none, see PoolMetadata.
	// Zero: the one that serves the model.
	Pool types.NamespacedName
	// MaxBody bounds request bodies in bytes; beyond it, and beyond Director.MaxBody, the
	// answer is 413. Default DefaultMaxBody.
	MaxBody int
	// MaxDestinations bounds how many endpoints Envoy is told of where its stream does
	// not say, see DestinationsMetadata: the choice and its fallbacks. Default: 1, because
	// a data plane that takes one address can do nothing with a list: an ORIGINAL_DST
	// cluster, for example. More is for those that go on to the next on a retry.
	MaxDestinations int
	// MaxStreams bounds the streams that are open at a time; further ones end with
	// ResourceExhausted. Default DefaultMaxStreams.
	MaxStreams int
	// IdleTimeout bounds how long nothing may come from Envoy on an open stream; then it
	// ends with DeadlineExceeded, and Envoy ends the request. It has to be longer than
	// servers take for an answer. What waits to be let in is not idle. Default
	// DefaultIdleTimeout; negative: no bound.
	IdleTimeout time.Duration
	// RequestBody and ResponseBody are the modes of an Envoy that does not tell
	// them. Default FULL_DUPLEX_STREAMED.
	RequestBody, ResponseBody BodyMode
	// Apart says what llm-d's side-car in front of a server is to be told of a request beside who
	// computes its prompt. Optional; it must be quick.
	Apart func(context.Context, *director.Incoming, *director.Route) Apart
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

// Server implements extprocv3.ExternalProcessorServer. Make it with New. A goroutine that
// it starts ends with its stream.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	o       Options
	seldom  *seldom.Logger // of what each request may say
	streams atomic.Int64   // that are open
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
		return nil, fmt.Errorf("picker: Options.MaxDestinations is %d, want at least 1, or 0 for the default of 1", o.MaxDestinations)
	}
	if o.MaxStreams < 0 {
		return nil, fmt.Errorf("picker: Options.MaxStreams is %d, want at least 1, or 0 for the default of %d", o.MaxStreams, DefaultMaxStreams)
	}
	o.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
	o.MaxDestinations = cmp.Or(o.MaxDestinations, 1)
	o.MaxStreams = cmp.Or(o.MaxStreams, DefaultMaxStreams)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, DefaultIdleTimeout)
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
	return &Server{o: o, seldom: seldom.New(o.Logger)}, nil
}

// Process serves one exchange; gRPC calls it. The error is a gRPC status, whatever
// happens: no panic leaves it.
func (s *Server) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	ctx := stream.Context()
	if n := s.streams.Add(1); n > int64(s.o.MaxStreams) {
		s.streams.Add(-1)
		return s.ended(ctx, nil, status.Errorf(codes.ResourceExhausted, "picker: %d streams are open, the most that are allowed", s.o.MaxStreams))
	}
	if s.o.IdleTimeout < 0 {
		return s.serve(stream, func() bool { return true }, func() {})
	}
	return s.watched(stream)
}

// watched is serve with a bound on the time that nothing comes.
func (s *Server) watched(stream extprocv3.ExternalProcessor_ProcessServer) error {
	var w watch
	done := make(chan error, 1)
	w.idle() // before its deadline is first looked at
	// gRPC ends a stream when this function returns, and that ends Recv. So it is another
	// goroutine that receives.
	go func() {
		err := errPanic // if a function of the embedder's ends the goroutine
		defer func() { done <- err }()
		err = s.serve(stream, w.busy, w.idle)
	}()
	timer := time.NewTimer(s.o.IdleTimeout)
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-timer.C:
			left := w.expire(s.o.IdleTimeout)
			if left <= 0 {
				return s.ended(stream.Context(), nil, status.Errorf(codes.DeadlineExceeded, "picker: nothing came on the stream for %v", s.o.IdleTimeout))
			}
			timer.Reset(left)
		}
	}
}

// serve serves one exchange. It calls idle before it waits for a message and busy when
// it has one, of which false is that the stream was given up.
func (s *Server) serve(stream extprocv3.ExternalProcessor_ProcessServer, busy func() bool, idle func()) (err error) {
	defer s.streams.Add(-1)
	ctx := stream.Context()
	defer func() {
		if v := recover(); v != nil {
			err = s.panicked(ctx, v)
		}
	}()
	w, err := s.wishesOf(ctx)
	if err != nil {
		return s.ended(ctx, nil, err)
	}
	x := newExchange(ctx, &s.o, s.seldom, w, stream.Send)
	defer s.close(x)
	for !x.over() {
		if !x.tunnel { // in a session nobody need say anything
			idle()
		}
		msg, err := stream.Recv()
		if !busy() {
			return nil
		}
		if err != nil {
			return s.ended(ctx, x, err)
		}
		if err := x.handle(msg); err != nil {
			return s.ended(ctx, x, err)
		}
	}
	return nil
}

// close closes an exchange. What panics in it is no reason to fail what was answered.
func (s *Server) close(x *exchange) {
	defer func() {
		if v := recover(); v != nil {
			_ = s.panicked(x.ctx, v)
		}
	}()
	x.close()
}

// panicked tells of a panic and returns the status for it.
func (s *Server) panicked(ctx context.Context, v any) error {
	s.log(ctx, slog.LevelError, "panic while a request was processed", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	return errPanic
}

var errPanic = status.Error(codes.Internal, "picker: panic while the request was processed")

// ended returns the status that a stream ends with. That Envoy has closed it is no
// error.
func (s *Server) ended(ctx context.Context, x *exchange, err error) error {
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	attrs := []slog.Attr{slog.Any("error", err)}
	if x != nil {
		attrs = append(attrs, slog.String("id", x.id))
	}
	s.warn(ctx, "ended "+status.Code(err).String(), "stream ended with an error", attrs...)
	return err
}

// warn is log of what each request may say.
func (s *Server) warn(ctx context.Context, kind, message string, attrs ...slog.Attr) {
	defer func() { _ = recover() }()
	s.seldom.Log(ctx, slog.LevelWarn, kind, message, attrs...)
}

// log writes to Options.Logger, of which a panic would be one in the way out.
func (s *Server) log(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	defer func() { _ = recover() }() // there is nobody left to tell
	s.o.Logger.LogAttrs(ctx, level, message, attrs...)
}
