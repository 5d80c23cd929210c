package picker_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

// Modes in which bodies travel.
const (
	none     = modev3.ProcessingMode_NONE
	streamed = modev3.ProcessingMode_STREAMED
	buffered = modev3.ProcessingMode_BUFFERED
	duplex   = modev3.ProcessingMode_FULL_DUPLEX_STREAMED
)

// Of what is tested of either adapter.
const (
	destinationKey = exchangetest.DestinationKey
	subsetKey      = exchangetest.SubsetKey
	servedKey      = exchangetest.ServedKey
	fallbackKey    = exchangetest.FallbackKey
	allThree       = exchangetest.AllThree
	events         = exchangetest.Events
	whole          = exchangetest.Whole
)

var (
	addresses        = exchangetest.Addresses
	chatBody         = exchangetest.ChatBody
	routedBody       = exchangetest.RoutedBody
	noMoreGoroutines = exchangetest.NoMoreGoroutines
)

// fixture is a picker in front of a pool.
type fixture struct {
	*exchangetest.Fixture
	server *picker.Server
}

func newFixture(t testing.TB, change func(*picker.Options, *director.Options, *scheduling.Profile)) *fixture {
	t.Helper()
	var o picker.Options
	f := &fixture{Fixture: exchangetest.New(t, func(common *exchange.Options, do *director.Options, p *scheduling.Profile) {
		o.Options = *common
		if change != nil {
			change(&o, do, p)
		}
		*common = o.Options
	})}
	f.serve(t, o)
	return f
}

// serve makes the picker's server.
func (f *fixture) serve(t testing.TB, o picker.Options) {
	t.Helper()
	o.Options = f.Options
	var err error
	f.server, err = picker.New(o)
	require.NoError(t, err)
}

// of returns a picker in front of the pool of a Fixture.
func of(t testing.TB, common *exchangetest.Fixture) *fixture {
	t.Helper()
	f := &fixture{Fixture: common}
	f.serve(t, picker.Options{})
	return f
}

// dial serves the fixture by gRPC on loopback and returns a client: Envoy's side.
func (f *fixture) dial(t testing.TB) extprocv3.ExternalProcessorClient {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.ForceServerCodecV2(picker.NewCodec()))
	extprocv3.RegisterExternalProcessorServer(g, f.server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Serve(ln)
	}()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close()
		g.Stop()
		<-done
	})
	return extprocv3.NewExternalProcessorClient(conn)
}

// stream is one ext_proc stream as Envoy sees it.
type stream struct {
	t      testing.TB
	s      extprocv3.ExternalProcessor_ProcessClient
	cancel context.CancelFunc
	config *extprocv3.ProtocolConfiguration // for the first message
}

// open opens a stream in the given modes; pairs are gRPC metadata.
func open(t testing.TB, c extprocv3.ExternalProcessorClient, request, response picker.BodyMode, pairs ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	s, err := c.Process(metadata.AppendToOutgoingContext(ctx, pairs...))
	require.NoError(t, err)
	return &stream{t, s, cancel, &extprocv3.ProtocolConfiguration{RequestBodyMode: request, ResponseBodyMode: response}}
}

func (s *stream) send(m *extprocv3.ProcessingRequest) {
	s.t.Helper()
	if s.config != nil {
		m.ProtocolConfig, s.config = s.config, nil
	}
	if err := s.s.Send(m); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv says why
		s.t.Fatal(err)
	}
}

func (s *stream) recv() *extprocv3.ProcessingResponse {
	s.t.Helper()
	m, err := s.s.Recv()
	if err != nil {
		s.t.Fatalf("Recv: %v", err)
	}
	return m
}

// ends waits for the end of the stream and returns its error, nil for a clean one.
func (s *stream) ends() error {
	s.t.Helper()
	m, err := s.s.Recv()
	if err == nil {
		s.t.Fatalf("after the end came %v", m)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// chunks receives the body that is given back full duplex, until its end or trailers.
func (s *stream) chunks() (body []byte, ended bool) {
	s.t.Helper()
	for {
		m := s.recv()
		r := m.GetRequestBody()
		if r == nil {
			r = m.GetResponseBody()
		}
		if r == nil {
			if m.GetRequestTrailers() == nil && m.GetResponseTrailers() == nil {
				s.t.Fatalf("want a chunk or trailers, got %v", m)
			}
			return body, false
		}
		c := r.GetResponse().GetBodyMutation().GetStreamedResponse()
		if c == nil || len(c.Body) > 62_000 {
			s.t.Fatalf("want a chunk of at most 62,000 bytes, got %d: %v", len(c.GetBody()), r)
		}
		if body = append(body, c.Body...); c.EndOfStream {
			return body, true
		}
	}
}

// Messages as Envoy sends them.
var (
	requestHeaders   = envoyside.RequestHeaders
	get              = envoyside.Get
	requestBody      = envoyside.RequestBody
	requestTrailers  = envoyside.RequestTrailers
	responseHeaders  = envoyside.ResponseHeaders
	responseBody     = envoyside.ResponseBody
	responseTrailers = envoyside.ResponseTrailers
)

// with adds dynamic metadata to a message.
func with(m *extprocv3.ProcessingRequest, namespace, key string, value any) *extprocv3.ProcessingRequest {
	s, err := structpb.NewStruct(map[string]any{key: value})
	if err != nil {
		panic(err)
	}
	if m.MetadataContext == nil {
		m.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
	}
	m.MetadataContext.FilterMetadata[namespace] = s
	return m
}

// mutation is what a message sets and removes.
type mutation struct {
	set     map[string]string
	removed []string
}

func mutationOf(t testing.TB, m *extprocv3.HeaderMutation) mutation {
	t.Helper()
	out := mutation{set: map[string]string{}, removed: m.GetRemoveHeaders()}
	for _, h := range m.GetSetHeaders() {
		if h.AppendAction != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD || h.Header.Value != "" {
			t.Errorf("header %s: want it overwritten, by raw_value alone: %v", h.Header.Key, h)
		}
		if strings.ToLower(h.Header.Key) != h.Header.Key {
			t.Errorf("header %s is not in lower case", h.Header.Key)
		}
		out.set[h.Header.Key] = string(h.Header.RawValue)
	}
	return out
}

// destinationOf returns the destination of a message, which has to be the same in
// header and metadata.
func destinationOf(t testing.TB, m *extprocv3.ProcessingResponse, headers *extprocv3.HeaderMutation) string {
	t.Helper()
	h := mutationOf(t, headers).set[destinationKey]
	if md := metadataDestination(m); md != h {
		t.Errorf("destination is %q in the header and %q in the metadata", h, md)
	}
	return h
}

func metadataDestination(m *extprocv3.ProcessingResponse) string {
	return m.GetDynamicMetadata().GetFields()["envoy.lb"].GetStructValue().GetFields()[destinationKey].GetStringValue()
}

// immediateOf returns the status, headers and body of an immediate response.
func immediateOf(t testing.TB, m *extprocv3.ProcessingResponse) (status int, header map[string]string, body string) {
	t.Helper()
	i := m.GetImmediateResponse()
	if i == nil {
		t.Fatalf("want an immediate response, got %v", m)
	}
	return int(i.Status.Code), mutationOf(t, i.Headers).set, string(i.Body)
}
