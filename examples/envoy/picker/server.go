package picker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
)

// BodyMode is how Envoy sends bodies.
type BodyMode = modev3.ProcessingMode_BodySendMode

// DefaultIdleTimeout is that of Options.
const DefaultIdleTimeout = time.Hour

// Options of a Server.
type Options struct {
	// Options are what a picker has in common with the module. Their Logger hears of streams
	// that end with an error, too.
	exchange.Options
	// IdleTimeout bounds how long nothing may come from Envoy on an open stream; then it
	// ends with DeadlineExceeded, and Envoy ends the request. It has to be longer than
	// servers take for an answer. What waits to be let in is not idle. Default
	// DefaultIdleTimeout; negative: no bound.
	IdleTimeout time.Duration
	// RequestBody and ResponseBody are the modes of an Envoy that does not tell
	// them. Default FULL_DUPLEX_STREAMED.
	RequestBody, ResponseBody BodyMode
}

// Server implements extprocv3.ExternalProcessorServer. Make it with New. A goroutine that
// it starts ends with its stream.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	o       Options
	handler *exchange.Handler
	seldom  *seldom.Logger // of what each request may say
}

// New returns a Server.
func New(o Options) (*Server, error) {
	handler, err := exchange.New(o.Options)
	if err != nil {
		return nil, fmt.Errorf("picker: %w", err)
	}
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
	return &Server{o: o, handler: handler, seldom: seldom.New(o.Logger)}, nil
}

// Process serves one exchange; gRPC calls it. The error is a gRPC status, whatever
// happens: no panic leaves it.
func (s *Server) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
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
func (s *Server) serve(from extprocv3.ExternalProcessor_ProcessServer, busy func() bool, idle func()) (err error) {
	ctx := from.Context()
	defer func() {
		if v := recover(); v != nil {
			err = s.panicked(ctx, v)
		}
	}()
	w, err := wishesOf(ctx)
	if err != nil {
		return s.ended(ctx, nil, err)
	}
	core, err := s.handler.Open(ctx, w)
	if err != nil {
		return s.ended(ctx, nil, status.Errorf(codes.ResourceExhausted, "picker: %v", err))
	}
	x := &stream{Exchange: core, ctx: ctx, seldom: s.seldom, send: from.Send, requestMode: s.o.RequestBody, responseMode: s.o.ResponseBody}
	defer s.close(x)
	for !x.over() {
		if !x.Tunnel() { // in a session nobody need say anything
			idle()
		}
		msg, err := from.Recv()
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
func (s *Server) close(x *stream) {
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
func (s *Server) ended(ctx context.Context, x *stream, err error) error {
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	attrs := []slog.Attr{slog.Any("error", err)}
	if x != nil {
		attrs = append(attrs, slog.String("id", x.ID()))
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
