package inferpick

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// A Describe function says in req what a call's message asks for: the prompt, and what else
// a decision may depend on. req is what WithRequest gave the call's context. message is nil
// where the client sends a stream of them.
type Describe func(method string, message any, req *types.Request)

// DialOptions are those of a client connection that balances by the policy of a name.
// describe nil is VLLM.
func DialOptions(name string, describe Describe) []grpc.DialOption {
	if describe == nil {
		describe = VLLM
	}
	return []grpc.DialOption{
		grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingConfig": [{%q: {}}]}`, name)),
		grpc.WithChainUnaryInterceptor(describe.unary),
		grpc.WithChainStreamInterceptor(describe.stream),
	}
}

// VLLM is the Describe of vLLM's own gRPC service. Of other methods it says nothing.
func VLLM(method string, message any, req *types.Request) {
	m, ok := message.(proto.Message)
	api := openai.APIOf(method)
	if !ok || api == openai.Other {
		return
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(proto.Size(m)))
	if frame, err := (proto.MarshalOptions{}).MarshalAppend(frame, m); err == nil {
		openai.Parse(api, "application/grpc", frame, req, openai.Limits{ModelOptional: true}) // what is wrong with it the server says
	}
}

type callKey struct{}

// WithRequest says of the calls with a context what their messages do not: priority, session,
// tenant and so on, or, where there is no interceptor, everything.
func WithRequest(ctx context.Context, req types.Request) context.Context {
	return context.WithValue(ctx, callKey{}, &call{request: req})
}

// call is one call: what a decision on it depends on, and which one it is.
type call struct {
	request  types.Request
	decision atomic.Pointer[scheduling.Decision] // nil: not yet picked
	messages atomic.Int64                        // received
}

func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return new(call)
}

// begin returns a call of its own for the message.
func (d Describe) begin(ctx context.Context, method string, message any) (context.Context, *call) {
	c := &call{request: callOf(ctx).request}
	d(method, message, &c.request)
	return context.WithValue(ctx, callKey{}, c), c
}

func (d Describe) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	ctx, _ = d.begin(ctx, method, req)
	return invoke(ctx, method, req, reply, conn, options...)
}

// stream puts off a stream until its message is there, by which its server is picked. Of a
// stream with several messages nothing is known but what the context says.
func (d Describe) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &stream{}
	begin := func(message any) (err error) {
		ctx, s.call = d.begin(ctx, method, message)
		s.ClientStream, err = open(ctx, desc, conn, method, options...)
		return err
	}
	if desc.ClientStreams {
		return s, begin(nil)
	}
	s.begin = begin
	return s, nil
}

type stream struct {
	grpc.ClientStream
	call  *call
	begin func(message any) error // nil: it has begun
}

// SendMsg implements grpc.ClientStream.
func (s *stream) SendMsg(m any) error {
	if begin := s.begin; begin != nil {
		s.begin = nil
		if err := begin(m); err != nil {
			return err
		}
	}
	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if decision := s.call.decision.Load(); err == nil && decision != nil {
		if s.call.messages.Add(1) == 1 {
			decision.FirstToken()
		}
		decision.Alive()
	}
	return err
}

// errNotReady ends a call whose server's connection was lost between the choice and the call.
var errNotReady = errors.New("inferpick: the connection was not ready")

// outcome says how a call ended in the terms of HTTP. A status that no server sent, because
// it is gone, is none.
func (c *call) outcome(info balancer.DoneInfo) types.Outcome {
	out := types.Outcome{Unsent: !info.BytesSent, Err: info.Err, Tokens: int(c.messages.Load())}
	switch code := status.Code(info.Err); code {
	case codes.OK:
		out.Status = 200
		if out.Unsent {
			out.Status, out.Err = 0, errNotReady
		}
	case codes.Canceled:
		out.Cancelled, out.Err = true, nil
	case codes.DeadlineExceeded:
		out.Err = context.DeadlineExceeded
	case codes.Internal, codes.Unknown, codes.DataLoss:
		out.Status = 500
	case codes.Unavailable:
		if info.BytesReceived && out.Tokens == 0 {
			out.Status = 503 // it says so itself
		}
	case codes.ResourceExhausted:
		out.Status, out.Err = 429, nil
	case codes.Unimplemented:
		out.Status, out.Err = 501, nil
	default:
		out.Status, out.Err = 400, nil
	}
	return out
}
