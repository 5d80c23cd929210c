package inferpick

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc"
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
	if api := openai.APIOf(method); ok && api != openai.Other {
		body, _ := proto.Marshal(m) // what is wrong with it others say
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
		openai.Parse(api, "application/grpc", append(frame, body...), req, openai.Limits{ModelOptional: true})
	}
}

// key is that of a call in its context, and of Labels in the attributes of an endpoint.
type key struct{}

// WithRequest says of the calls with a context what their messages do not: priority, session,
// tenant and so on, or, where there is no interceptor, everything.
func WithRequest(ctx context.Context, req types.Request) context.Context {
	return context.WithValue(ctx, key{}, &call{request: req})
}

// call is one call: what a decision on it depends on, and which one it is.
type call struct {
	request  types.Request
	decision atomic.Pointer[scheduling.Decision] // nil: not yet picked
	messages atomic.Int64                        // received
}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(key{}).(*call)
	return cmp.Or(c, new(call))
}

// begin returns a context for a call of its own, with the message.
func (d Describe) begin(ctx context.Context, method string, message any) context.Context {
	request := callOf(ctx).request
	d(method, message, &request)
	return WithRequest(ctx, request)
}

func (d Describe) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return invoke(d.begin(ctx, method, req), method, req, reply, conn, options...)
}

// stream puts off a stream until its message is there, by which its server is picked. Of a
// stream with several messages nothing is known but what the context says.
func (d Describe) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &stream{}
	s.begin = func(message any) (err error) {
		ctx := d.begin(ctx, method, message)
		s.call, s.begin = callOf(ctx), nil
		s.ClientStream, err = open(ctx, desc, conn, method, options...)
		return err
	}
	if desc.ClientStreams {
		return s, s.begin(nil)
	}
	return s, nil
}

type stream struct {
	grpc.ClientStream
	call  *call
	begin func(message any) error // nil: it has begun
}

// SendMsg implements grpc.ClientStream.
func (s *stream) SendMsg(m any) error {
	if s.begin != nil {
		if err := s.begin(m); err != nil {
			return err
		}
	}
	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if decision := s.call.decision.Load(); err == nil && decision != nil {
		s.call.messages.Add(1)
		decision.FirstToken() // calls after the first do nothing
		decision.Alive()
	}
	return err
}
