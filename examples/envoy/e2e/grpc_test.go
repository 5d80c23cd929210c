package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGRPCRefusals: what is refused is an error to a client of gRPC, by whichever way.
func TestGRPCRefusals(t *testing.T) {
	for _, v := range adapters {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request has passed") })
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, servers: []string{server}})
			client := h2Client(t)
			for path, want := range map[string]string{
				"/no.such/Method":                       "7",  // PERMISSION_DENIED
				"/vllm.grpc.engine.VllmEngine/Generate": "13", // INTERNAL: it is no message
			} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, strings.NewReader("x"))
				require.NoError(t, err)
				req.Header.Set("Content-Type", "application/grpc")
				req.Header.Set("Te", "trailers")
				resp, _, err := read(client.Do(req))
				require.NoError(t, err)
				require.Equal(t, 200, resp.StatusCode, "in gRPC it is the other status that counts")
				require.Equal(t, want, resp.Header.Get("Grpc-Status"), path)
				require.Contains(t, resp.Header.Get("Grpc-Message"), "error", path)
			}
			r.settled()
		})
	}
}
