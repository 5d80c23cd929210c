package conformance

import (
	"fmt"
	"io"
	"net"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"
)

const servedHeader = "x-conformance-test-served-endpoint"

// tellsWhoServed: the gateway tells the picker which endpoint served a request; the suite's
// picker says so in a header of the response.
func (r *rig) tellsWhoServed() {
	host := address(r)
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(r, err)
	server := grpc.NewServer()
	chosen := net.JoinHostPort(r.pods["primary"][1].IP, "3000")
	extprocv3.RegisterExternalProcessorServer(server, &suitePicker{chosen: chosen})
	go func() { _ = server.Serve(l) }() // until Stop
	r.Cleanup(server.Stop)

	text := service("served-epp", host, l.Addr().(*net.TCPAddr).Port)
	r.apply(strings.ReplaceAll(text, "appProtocol: http2", "appProtocol: kubernetes.io/h2c"))
	r.apply(pool("served", "primary", "endpointPickerRef: {name: served-epp, port: {number: 9002}}"))
	r.apply(route("served", "primary", "rules: ["+toPool("/served-test", "served")+"]"))
	a := r.serves(request{Path: "/served-test", Body: prompt}, 200, "primary")
	require.Equal(r, chosen, a.Header.Get(servedHeader))
	require.Equal(r, r.pods["primary"][1].Name, a.Echo.Pod)
	require.Equal(r, prompt, a.Echo.Body)
	require.Equal(r, "/served-test", a.Echo.Path)
	a = r.serves(request{Path: "/served-test"}, 200, "primary") // headers alone
	require.Equal(r, chosen, a.Header.Get(servedHeader))
}

// suitePicker is a picker as the suite has it: it chooses one endpoint, passes bodies, and puts
// what it hears of the endpoint that served into a header.
type suitePicker struct {
	extprocv3.UnimplementedExternalProcessorServer
	chosen string
}

// Process implements extprocv3.ExternalProcessorServer.
func (p *suitePicker) Process(stream grpc.BidiStreamingServer[extprocv3.ProcessingRequest, extprocv3.ProcessingResponse]) error {
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		out, err := p.answer(m)
		if err != nil {
			return err
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

func (p *suitePicker) answer(m *extprocv3.ProcessingRequest) (*extprocv3.ProcessingResponse, error) {
	switch in := m.Request.(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return &extprocv3.ProcessingResponse{
			Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: headers("x-gateway-destination-endpoint", p.chosen)},
			DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"envoy.lb": structpb.NewStructValue(&structpb.Struct{
				Fields: map[string]*structpb.Value{"x-gateway-destination-endpoint": structpb.NewStringValue(p.chosen)},
			})}},
		}, nil
	case *extprocv3.ProcessingRequest_RequestBody:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: streamed(in.RequestBody)}}, nil
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		served := m.GetMetadataContext().GetFilterMetadata()["envoy.lb"].GetFields()["x-gateway-destination-endpoint-served"].GetStringValue()
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: headers(servedHeader, served)}}, nil
	case *extprocv3.ProcessingRequest_ResponseBody:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: streamed(in.ResponseBody)}}, nil
	default:
		return nil, fmt.Errorf("%T is not expected", in)
	}
}

func headers(name, value string) *extprocv3.HeadersResponse {
	return &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{HeaderMutation: &extprocv3.HeaderMutation{
		SetHeaders: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: name, RawValue: []byte(value)}}},
	}}}
}

func streamed(b *extprocv3.HttpBody) *extprocv3.BodyResponse {
	return &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: b.GetBody(), EndOfStream: b.GetEndOfStream()}},
	}}}
}
