package inferpick_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	inferpick "github.com/inferpick/inferpick/examples/grpc"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

const patience = 10 * time.Second

// model is a model server: Generate streams three words, Complete answers in one.
type model struct {
	addr  string
	calls atomic.Int64
	fail  atomic.Uint32 // a code of gRPC to answer with
	// hold is nil, or what Generate waits for after its first word.
	hold   chan struct{}
	server *grpc.Server
}

func (m *model) generate(prompt string, send func(string) error) error {
	m.calls.Add(1)
	if code := codes.Code(m.fail.Load()); code != codes.OK {
		return status.Error(code, "as it was told")
	}
	if err := send("one"); err != nil {
		return err
	}
	if m.hold != nil && strings.HasPrefix(prompt, "hold") {
		<-m.hold
	}
	return errors.Join(send("two"), send("three"))
}

var generate = grpc.StreamDesc{
	StreamName: "Generate", ServerStreams: true,
	Handler: func(server any, stream grpc.ServerStream) error {
		var prompt wrapperspb.StringValue
		if err := stream.RecvMsg(&prompt); err != nil {
			return err
		}
		return server.(*model).generate(prompt.Value, func(word string) error { return stream.SendMsg(wrapperspb.String(word)) })
	},
}

var service = grpc.ServiceDesc{
	ServiceName: "test.Model", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{generate},
	Methods: []grpc.MethodDesc{{MethodName: "Complete", Handler: func(server any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var prompt wrapperspb.StringValue
		if err := decode(&prompt); err != nil {
			return nil, err
		}
		var words []string
		err := server.(*model).generate(prompt.Value, func(word string) error { words = append(words, word); return nil })
		return wrapperspb.String(strings.Join(words, " ")), err
	}}},
}

// start serves a model at an address, "127.0.0.1:0" for any.
func start(t *testing.T, addr string) *model {
	t.Helper()
	var ln net.Listener
	require.Eventually(t, func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", addr)
		return err == nil
	}, patience, 10*time.Millisecond)
	m := &model{addr: ln.Addr().String(), server: grpc.NewServer()}
	m.server.RegisterService(&service, m)
	go m.server.Serve(ln)
	t.Cleanup(m.server.Stop)
	return m
}

// client is a connection to models, and what hooks have told of it.
type client struct {
	*grpc.ClientConn
	resolver *manual.Resolver
	finished chan scheduling.Event
	first    chan scheduling.Event
}

var policies atomic.Int64

func dial(t *testing.T, models ...*model) *client {
	t.Helper()
	c := &client{
		resolver: manual.NewBuilderWithScheme("models"),
		finished: make(chan scheduling.Event, 10_000), first: make(chan scheduling.Event, 10_000),
	}
	name := fmt.Sprintf("%s-%d", inferpick.Name, policies.Add(1))
	inferpick.Register(name, func() scheduling.Profile {
		profile := plugins.Default()
		profile.Seed = 1
		profile.Hooks.Finished = func(e scheduling.Event) { c.finished <- e }
		profile.Hooks.FirstToken = func(e scheduling.Event) { c.first <- e }
		return profile
	})
	c.resolver.InitialState(addresses(models...))
	options := append(inferpick.DialOptions(name, describe), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(c.resolver))
	var err error
	c.ClientConn, err = grpc.NewClient("models:///all", options...)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	for _, m := range models { // until all are connected
		require.Eventually(t, func() bool {
			c.complete(t, fmt.Sprintf("warm %d", time.Now().UnixNano()))
			return m.calls.Load() > 0
		}, patience, time.Millisecond)
	}
	for _, m := range models {
		m.calls.Store(0)
	}
	for range len(c.finished) {
		<-c.finished
	}
	return c
}

func addresses(models ...*model) resolver.State {
	var s resolver.State
	for i, m := range models {
		ep := resolver.Endpoint{Addresses: []resolver.Address{{Addr: m.addr}}}
		s.Endpoints = append(s.Endpoints, inferpick.WithLabels(ep, inferpick.Labels{"n": fmt.Sprint(i)}))
	}
	return s
}

func describe(_ string, message any, req *types.Request) {
	if prompt, ok := message.(*wrapperspb.StringValue); ok {
		req.Prompt = types.TextPrompt(prompt.Value)
	}
}

func (c *client) complete(t *testing.T, prompt string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var answer wrapperspb.StringValue
	err := c.Invoke(ctx, "/test.Model/Complete", wrapperspb.String(prompt), &answer)
	return answer.Value, err
}

// open begins a stream and returns it when its first word is there.
func (c *client) open(t *testing.T, ctx context.Context, prompt string) grpc.ClientStream {
	t.Helper()
	stream, err := c.NewStream(ctx, &generate, "/test.Model/Generate")
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(wrapperspb.String(prompt)))
	require.NoError(t, stream.CloseSend())
	var word wrapperspb.StringValue
	require.NoError(t, stream.RecvMsg(&word))
	require.Equal(t, "one", word.Value)
	return stream
}

// rest reads a stream to its end.
func rest(stream grpc.ClientStream) (words []string, err error) {
	for {
		var word wrapperspb.StringValue
		if err := stream.RecvMsg(&word); err == io.EOF {
			return words, nil
		} else if err != nil {
			return words, err
		}
		words = append(words, word.Value)
	}
}

func event(t *testing.T, c <-chan scheduling.Event) scheduling.Event {
	t.Helper()
	select {
	case e := <-c:
		return e
	case <-time.After(patience):
		t.Fatal("nothing was told")
		return scheduling.Event{}
	}
}

func TestStream(t *testing.T) {
	m := start(t, "127.0.0.1:0")
	m.hold = make(chan struct{})
	c := dial(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx = inferpick.WithRequest(ctx, types.Request{Priority: 7, SessionID: "s"})
	stream := c.open(t, ctx, "hold on")
	first := event(t, c.first)
	require.Equal(t, m.addr, first.Endpoint.Address)
	require.Equal(t, map[string]string{"n": "0"}, first.Endpoint.Labels)
	require.EqualValues(t, 1, first.Endpoint.Load.Requests())
	require.Zero(t, first.Endpoint.Load.PrefillTokens())
	require.Equal(t, 7, first.Request.Priority)
	require.Equal(t, len("hold on"), first.Request.Prompt.Bytes)
	close(m.hold)
	words, err := rest(stream)
	require.NoError(t, err)
	require.Equal(t, []string{"two", "three"}, words)
	end := event(t, c.finished)
	require.NoError(t, end.Outcome.Err)
	require.Equal(t, 200, end.Outcome.Status)
	require.Equal(t, 3, end.Outcome.Tokens)
	require.Positive(t, end.Outcome.TTFT)
	require.Zero(t, end.Endpoint.Load.Requests())
}

func TestClientLeaves(t *testing.T) {
	m := start(t, "127.0.0.1:0")
	m.hold = make(chan struct{})
	defer close(m.hold)
	c := dial(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	stream := c.open(t, ctx, "hold on")
	cancel()
	_, err := rest(stream)
	require.Equal(t, codes.Canceled, status.Code(err))
	end := event(t, c.finished)
	require.True(t, end.Outcome.Cancelled)
	require.NoError(t, end.Outcome.Err)
	require.Zero(t, end.Endpoint.Load.Requests())
}

// Conversations stay where their beginning is cached, and different ones are spread.
func TestPrefixAffinity(t *testing.T) {
	models := []*model{start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0")}
	c := dial(t, models...)
	used := map[string]bool{}
	for conversation := range 12 {
		prompt, at := strings.Repeat(fmt.Sprintf("conversation %d; ", conversation), 1000), ""
		for range 4 {
			_, err := c.complete(t, prompt)
			require.NoError(t, err)
			end := event(t, c.finished)
			if at != "" {
				require.Equal(t, at, end.Endpoint.Address, "conversation %d moved", conversation)
			}
			at = end.Endpoint.Address
			prompt += "and so on"
		}
		used[at] = true
	}
	require.Len(t, used, 3)
}

// Streams that are under way count at once.
func TestLeastLoaded(t *testing.T) {
	models := []*model{start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0")}
	hold := make(chan struct{})
	models[0].hold, models[1].hold = hold, hold
	c := dial(t, models...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var streams []grpc.ClientStream
	for i := range 16 {
		streams = append(streams, c.open(t, ctx, fmt.Sprintf("hold %d", i)))
	}
	require.InDelta(t, 8, models[0].calls.Load(), 1)
	require.InDelta(t, 8, models[1].calls.Load(), 1)
	close(hold)
	for _, stream := range streams {
		_, err := rest(stream)
		require.NoError(t, err)
	}
}

// Of a server that dies, the calls under way fail; others go elsewhere, and come back to it
// when it is back.
func TestServerKilled(t *testing.T) {
	models := []*model{start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0")}
	models[0].hold = make(chan struct{})
	models[1].hold = models[0].hold
	c := dial(t, models...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream := c.open(t, ctx, "hold on")
	dead := models[0]
	if models[1].calls.Load() > 0 {
		dead = models[1]
	}
	go dead.server.Stop() // which waits for handlers
	_, err := rest(stream)
	require.Equal(t, codes.Unavailable, status.Code(err))
	end := event(t, c.finished)
	require.Equal(t, dead.addr, end.Endpoint.Address)
	require.Error(t, end.Outcome.Err)
	require.Zero(t, end.Outcome.Status, "no server sent it")
	close(models[0].hold)
	dead.server.Stop()
	before := dead.calls.Load()
	for i := range 50 {
		_, err := c.complete(t, fmt.Sprintf("question %d", i))
		require.NoError(t, err)
	}
	require.Equal(t, before, dead.calls.Load())

	back := start(t, dead.addr)
	require.Eventually(t, func() bool {
		_, err := c.complete(t, fmt.Sprintf("question at %v", time.Now()))
		require.NoError(t, err)
		return back.calls.Load() > 0
	}, patience, 10*time.Millisecond)
}

// A server that fails for itself is left alone, and what a client did wrong is not held
// against it.
func TestServerFails(t *testing.T) {
	models := []*model{start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0")}
	c := dial(t, models...)
	for _, m := range models {
		m.fail.Store(uint32(codes.InvalidArgument))
	}
	for i := range 20 {
		_, err := c.complete(t, fmt.Sprintf("wrong %d", i))
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		end := event(t, c.finished)
		require.Equal(t, 400, end.Outcome.Status)
	}
	require.Greater(t, models[0].calls.Load(), int64(5))
	require.Greater(t, models[1].calls.Load(), int64(5))
	models[0].fail.Store(uint32(codes.Internal))
	models[1].fail.Store(uint32(codes.OK))
	failed := 0
	for i := range 40 {
		if _, err := c.complete(t, fmt.Sprintf("question %d", i)); err != nil {
			failed++
		}
	}
	require.LessOrEqual(t, failed, plugins.DefaultEjectionFailures)
}

// What is known of an address outlives a new list of addresses; that of one which is gone is
// forgotten.
func TestAddressesChange(t *testing.T) {
	models := []*model{start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0")}
	models[0].hold = make(chan struct{})
	models[1].hold = models[0].hold
	c := dial(t, models...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream := c.open(t, ctx, "hold on")
	first := event(t, c.first)
	stays, goes := models[0], models[1]
	if first.Endpoint.Address == goes.addr {
		stays, goes = goes, stays
	}
	c.resolver.UpdateState(addresses(stays))
	require.Eventually(t, func() bool {
		before := goes.calls.Load()
		for i := range 10 {
			_, err := c.complete(t, fmt.Sprintf("question %d", i))
			require.NoError(t, err)
			end := event(t, c.finished)
			require.True(t, end.Endpoint.Address != stays.addr || end.Endpoint.Load == first.Endpoint.Load)
		}
		return before == goes.calls.Load()
	}, patience, 10*time.Millisecond)
	require.EqualValues(t, 1, first.Endpoint.Load.Requests(), "the stream is still booked")
	close(models[0].hold)
	_, err := rest(stream)
	require.NoError(t, err)
	require.Zero(t, event(t, c.finished).Endpoint.Load.Requests())
}

// Many calls at once while addresses change and a server comes and goes.
func TestTogether(t *testing.T) {
	models := []*model{start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0")}
	c := dial(t, models...)
	var wg sync.WaitGroup
	var failed atomic.Int64
	for worker := range 8 {
		wg.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if stream, err := c.NewStream(ctx, &generate, "/test.Model/Generate"); err != nil {
					failed.Add(1)
				} else if err := stream.SendMsg(wrapperspb.String(fmt.Sprint(worker, i))); err != nil {
					failed.Add(1)
				} else if words, err := rest(stream); err != nil || len(words) != 3 {
					failed.Add(1)
				}
				cancel()
			}
		})
	}
	for i := range 20 {
		c.resolver.UpdateState(addresses(models[i%2:]...))
		time.Sleep(time.Millisecond)
	}
	models[2].server.Stop()
	wg.Wait()
	require.LessOrEqual(t, failed.Load(), int64(8), "no more than one for each worker, at the server that was stopped")
	require.GreaterOrEqual(t, len(c.finished), 800-int(failed.Load()))
	for range len(c.finished) {
		load := event(t, c.finished).Endpoint.Load
		require.Eventually(t, func() bool { return load.Held() == types.Booking{} }, patience, time.Millisecond)
	}
}

func TestVLLM(t *testing.T) {
	var message emptypb.Empty
	text := protowire.AppendString(protowire.AppendTag(nil, 3, protowire.BytesType), "the prompt")
	require.NoError(t, proto.Unmarshal(text, &message))
	var req types.Request
	inferpick.VLLM("/vllm.grpc.engine.VllmEngine/Generate", &message, &req)
	require.Equal(t, len("the prompt"), req.Prompt.Bytes)
	require.Positive(t, req.Prompt.Tokens)
	req = types.Request{}
	inferpick.VLLM("/test.Model/Generate", &message, &req)
	require.Zero(t, req)
}
