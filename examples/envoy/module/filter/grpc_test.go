package filter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
)

// TestRefusalsOfGRPC say so in the status of gRPC, which would be success otherwise; those of others have none.
func TestRefusalsOfGRPC(t *testing.T) {
	const generate, other = "/vllm.grpc.engine.VllmEngine/Generate", "/no.such/Method"
	message := "\x00\x00\x00\x00\x04\x1a\x02hi"
	for name, tt := range map[string]struct {
		contentType, path, body string
		starting                bool
		http                    int
		grpc                    string
	}{
		"not a message":    {"application/grpc", generate, "x", false, 400, "13"},
		"with a format":    {"application/grpc+proto", generate, "x", false, 400, "13"},
		"unknown method":   {"application/grpc", other, message, false, 403, "7"},
		"starting":         {"application/grpc", generate, message, true, 503, "14"},
		"JSON":             {"application/json", "/v1/chat/completions", "x", false, 400, ""},
		"gRPC for the web": {"application/grpc-web", generate, "x", false, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := of(t, exchangetest.New(t, nil), func(o *filter.Options) { o.Ready = func() bool { return !tt.starting } })
			s := f.open(t)
			s.Request(false, ":method", "POST", ":path", tt.path, "content-type", tt.contentType)
			if s.Answer == nil {
				s.Body(true, tt.body)
			}
			if s.Answer == nil {
				s.Wait()
			}
			code, header, _ := status(t, s)
			require.Equal(t, tt.http, code)
			require.Equal(t, tt.grpc, header["grpc-status"])
			s.Destroy()
			f.Free(t)
		})
	}
}
