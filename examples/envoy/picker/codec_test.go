package picker_test

import (
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/inferpick/inferpick/examples/envoy/picker"
)

// TestCodecEqualsGRPCs: what one writes the other reads as the same message, whatever
// its size.
func TestCodecEqualsGRPCs(t *testing.T) {
	ours, theirs := picker.NewCodec(), encoding.GetCodecV2("proto")
	if ours.Name() != theirs.Name() {
		t.Errorf("name is %s", ours.Name())
	}
	for _, size := range []int{0, 1, 127, 1023, 1024, 1100, 16_383, 16_384, 62_000, 300_000} {
		body := strings.Repeat("x", size)
		for _, m := range []proto.Message{
			requestHeaders(true, "x-long", body), requestBody(body, false), requestBody(body, true), responseBody(body, true),
			with(requestBody(body, true), "envoy.lb.subset_hint", subsetKey, []any{"10.0.0.2:8000"}),
			requestTrailers(), chunkOf(body, false), chunkOf(body, true), responseChunkOf(body, true),
			&healthpb.HealthCheckRequest{Service: body},
		} {
			for _, direction := range []struct{ write, read encoding.CodecV2 }{{ours, theirs}, {theirs, ours}, {ours, ours}} {
				data, err := direction.write.Marshal(m)
				require.NoError(t, err)
				got := m.ProtoReflect().New().Interface()
				require.NoError(t, direction.read.Unmarshal(data, got))
				if !proto.Equal(got, m) {
					t.Errorf("a %T with a body of %d bytes became %.200v", m, size, got)
				}
				data.Free()
			}
		}
	}
}

func chunkOf(body string, end bool) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: bodyResponse(body, end)}}
}

func responseChunkOf(body string, end bool) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: bodyResponse(body, end)}}
}

func bodyResponse(body string, end bool) *extprocv3.BodyResponse {
	return &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: []byte(body), EndOfStream: end}},
	}}}
}

// TestCodecErrors: what is no message is an error.
func TestCodecErrors(t *testing.T) {
	c := picker.NewCodec()
	if _, err := c.Marshal("text"); err == nil || !strings.Contains(err.Error(), "got a string") {
		t.Errorf("Marshal: %v", err)
	}
	if err := c.Unmarshal(nil, "text"); err == nil || !strings.Contains(err.Error(), "got a string") {
		t.Errorf("Unmarshal: %v", err)
	}
	garbage := mem.BufferSlice{mem.SliceBuffer([]byte(strings.Repeat("\xff", 2000)))}
	if err := c.Unmarshal(garbage, new(extprocv3.ProcessingRequest)); err == nil {
		t.Error("garbage was read")
	}
}

// FuzzCodec: any bytes are read as protobuf's own decoder reads them, or refused as
// there.
func FuzzCodec(f *testing.F) {
	for _, m := range []proto.Message{requestBody(strings.Repeat("x", 1500), true), responseBody(strings.Repeat("y", 1500), false), requestHeaders(false)} {
		data, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(data)
		f.Add(append(data, data...))
	}
	c := picker.NewCodec()
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 0 { // so that small inputs take the same way
			data = append(append([]byte(nil), data...), data...)
			for len(data) < 1<<10 {
				data = append(data, data...)
			}
		}
		want, got := new(extprocv3.ProcessingRequest), new(extprocv3.ProcessingRequest)
		wantErr := proto.Unmarshal(data, want)
		err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, got)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("Unmarshal: %v, protobuf: %v", err, wantErr)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("Unmarshal = %v, want %v", got, want)
		}
	})
}
