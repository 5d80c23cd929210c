package picker_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/director"
)

// wire is a stream without a network: messages are decoded from and encoded to what
// gRPC would carry.
type wire struct {
	grpc.ServerStream
	ctx   context.Context
	codec *picker.Codec
	in    []mem.BufferSlice
	next  int
}

func (w *wire) Context() context.Context { return w.ctx }

func (w *wire) Recv() (*extprocv3.ProcessingRequest, error) {
	if w.next == len(w.in) {
		return nil, io.EOF
	}
	m := new(extprocv3.ProcessingRequest)
	w.next++
	return m, w.codec.Unmarshal(w.in[w.next-1], m)
}

func (w *wire) Send(m *extprocv3.ProcessingResponse) error {
	data, err := w.codec.Marshal(m)
	data.Free()
	return err
}

// BenchmarkExchange is a whole exchange with the default policy: a chat request full
// duplex in pieces of 32 KiB, and a response in JSON; decoding and encoding included,
// the network not.
func BenchmarkExchange(b *testing.B) {
	for _, size := range []int{2 << 10, 220_000} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			f := newFixture(b, func(o *picker.Options, _ *director.Options, p *profile) {
				*p = plugins.Default()
				o.OnRoute = func(*director.Route) {}
			})
			codec := picker.NewCodec()
			body := chatBody(size / len("word "))
			messages := []*extprocv3.ProcessingRequest{requestHeaders(false,
				":authority", "127.0.0.1:8081", "user-agent", "OpenAI/Go 3.96.0", "accept", "application/json", "content-length", fmt.Sprint(len(body)),
				"authorization", "Bearer "+strings.Repeat("k", 50), "x-forwarded-proto", "http", "x-request-id", "f3e44403-2433-4590-958f-5d0c0697d937",
				"x-stainless-arch", "x64", "x-stainless-lang", "go", "x-stainless-os", "Linux", "x-stainless-runtime", "go", "x-stainless-retry-count", "0")}
			messages[0].ProtocolConfig = &extprocv3.ProtocolConfiguration{RequestBodyMode: duplex, ResponseBodyMode: duplex}
			for rest := body; rest != ""; {
				n := min(32<<10, len(rest))
				messages = append(messages, requestBody(rest[:n], n == len(rest)))
				rest = rest[n:]
			}
			messages = append(messages, with(responseHeaders(200, "application/json", false), "envoy.lb", servedKey, addresses[0]), responseBody(whole, true))
			var in []mem.BufferSlice
			for _, m := range messages {
				data, err := proto.Marshal(m)
				if err != nil {
					b.Fatal(err)
				}
				in = append(in, mem.BufferSlice{mem.SliceBuffer(data)})
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if err := f.server.Process(&wire{ctx: context.Background(), codec: codec, in: in}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
