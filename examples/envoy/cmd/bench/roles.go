package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/structpb"

	conf "github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// servePicker is a picker as it is shipped.
func servePicker(ctx context.Context, config string) error {
	defer epp.ReserveHeap()()
	app, err := epp.New(epp.Options{Config: config, GRPCAddr: "127.0.0.1:0", HealthAddr: "-", MetricsAddr: "127.0.0.1:0", Pprof: true, TLS: epp.TLS{Off: true}})
	if err != nil {
		return err
	}
	fmt.Println(app.Address(), app.MetricsAddress())
	return app.Run(ctx)
}

// serveEmpty is a picker that looks at nothing.
func serveEmpty(ctx context.Context, config string) error {
	defer epp.ReserveHeap()()
	c, err := conf.Load(config, nil)
	if err != nil {
		return err
	}
	e := new(empty)
	for _, specs := range c.Change.Endpoints {
		for _, spec := range specs {
			e.addresses = append(e.addresses, spec.Address)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g := grpc.NewServer(epp.ServerOptions(0)...)
	extprocv3.RegisterExternalProcessorServer(g, e)
	h := health.NewServer()
	h.SetServingStatus(extprocv3.ExternalProcessor_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(g, h)
	context.AfterFunc(ctx, g.Stop)
	fmt.Println(ln.Addr())
	return g.Serve(ln)
}

// empty names servers in turn when the headers come, and gives every chunk back as it
// comes: it is what Envoy's own streaming of bodies costs.
type empty struct {
	extprocv3.UnimplementedExternalProcessorServer
	addresses []string
	next      atomic.Uint64
}

const destinationKey = "x-gateway-destination-endpoint"

// Process implements extprocv3.ExternalProcessorServer.
func (e *empty) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		var out *extprocv3.ProcessingResponse
		switch r := m.Request.(type) {
		case *extprocv3.ProcessingRequest_RequestHeaders:
			out = e.choose()
		case *extprocv3.ProcessingRequest_RequestBody:
			out = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: back(r.RequestBody)}}
		case *extprocv3.ProcessingRequest_RequestTrailers:
			out = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestTrailers{RequestTrailers: &extprocv3.TrailersResponse{}}}
		case *extprocv3.ProcessingRequest_ResponseHeaders:
			out = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}}}
		case *extprocv3.ProcessingRequest_ResponseBody:
			out = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: back(r.ResponseBody)}}
		case *extprocv3.ProcessingRequest_ResponseTrailers:
			out = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}}
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

func (e *empty) choose() *extprocv3.ProcessingResponse {
	address := e.addresses[e.next.Add(1)%uint64(len(e.addresses))]
	lb := &structpb.Struct{Fields: map[string]*structpb.Value{destinationKey: structpb.NewStringValue(address)}}
	return &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
			HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{{
				Header:       &corev3.HeaderValue{Key: destinationKey, RawValue: []byte(address)},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}}},
		}}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"envoy.lb": structpb.NewStructValue(lb)}},
	}
}

func back(b *extprocv3.HttpBody) *extprocv3.BodyResponse {
	return &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: b.Body, EndOfStream: b.EndOfStream}},
	}}}
}
