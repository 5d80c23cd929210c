package director_test

import (
	"encoding/binary"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// grpcText is a request of vLLM's gRPC service with a text of less than 128 bytes.
func grpcText(text string) []byte {
	m := append([]byte{3<<3 | 2, byte(len(text))}, text...)
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

// ended returns a director, and what its schedulers were told of ends.
func ended(t *testing.T, o datastore.Options, change func(*director.Options)) (*director.Director, *[]types.Outcome) {
	var outcomes []types.Outcome
	p := plugins.Default()
	p.Hooks.Finished = func(e scheduling.Event) { outcomes = append(outcomes, e.Outcome) }
	s, err := scheduling.New(p)
	require.NoError(t, err)
	return newDirector(t, newStore(t, 3, o), func(o *director.Options) {
		o.Scheduler = s
		if change != nil {
			change(o)
		}
	}), &outcomes
}

// TestGRPC: a request over gRPC names no model, is scheduled by its prompt, and its usage
// is read.
func TestGRPC(t *testing.T) {
	for name, policy := range map[string]datastore.UnknownModels{"pass": datastore.PassThrough, "refuse": datastore.Refuse} {
		t.Run(name, func(t *testing.T) {
			d, outcomes := ended(t, datastore.Options{UnknownModels: policy}, nil)
			body := grpcText("what is the answer?")
			r, err := d.Route(ctx, director.Incoming{Path: "/vllm.grpc.engine.VllmEngine/Generate", Header: http.Header{"Content-Type": {"application/grpc"}}, Body: body})
			require.NoError(t, err)
			require.Equal(t, openai.GRPCGenerate, r.API())
			require.Equal(t, 5, r.Request.Prompt.Tokens)
			require.Equal(t, body, r.Body)
			r.ResponseHeader(200, http.Header{"Content-Type": {"application/grpc"}})
			answer := []byte{0, 0, 0, 0, 8, 2<<3 | 2, 6, 3 << 3, 5, 4 << 3, 7, 5 << 3, 0}
			require.Equal(t, answer, r.Data(answer))
			require.Empty(t, r.End())
			require.Len(t, *outcomes, 1)
			require.Equal(t, types.Usage{PromptTokens: types.Known(5), CompletionTokens: types.Known(7), CachedTokens: types.Known(0)}, (*outcomes)[0].Usage)
			require.True(t, (*outcomes)[0].Served())
		})
	}
}

// TestGRPCStatus: an error of gRPC is no success, whatever HTTP says.
func TestGRPCStatus(t *testing.T) {
	d, outcomes := ended(t, datastore.Options{}, nil)
	for code, want := range map[string]int{"0": 200, "": 200, "8": 429, "14": 503, "13": 500, "3": 400, "77": 500} {
		*outcomes = nil
		r, err := d.Route(ctx, director.Incoming{Path: "/vllm.grpc.engine.VllmEngine/Generate", Body: grpcText("x")})
		require.NoError(t, err)
		r.ResponseHeader(200, http.Header{"Content-Type": {"application/grpc"}, "Grpc-Status": {code}})
		r.End()
		require.Equal(t, want, (*outcomes)[0].Status, "code %q", code)
		require.Equal(t, want == 200, (*outcomes)[0].Served(), "code %q", code)

		// As the trailer of an answer that had begun.
		*outcomes = nil
		r, err = d.Route(ctx, director.Incoming{Path: "/vllm.grpc.engine.VllmEngine/Generate", Body: grpcText("x")})
		require.NoError(t, err)
		r.ResponseHeader(200, http.Header{"Content-Type": {"application/grpc"}})
		r.Data([]byte{0, 0, 0, 0, 8, 2<<3 | 2, 6, 3 << 3, 5, 4 << 3, 7, 5 << 3, 0})
		r.ResponseTrailer(http.Header{"Grpc-Status": {code}})
		r.End()
		require.Equal(t, want, (*outcomes)[0].Status, "code %q in a trailer", code)
		require.Equal(t, want == 200, (*outcomes)[0].Served(), "code %q in a trailer", code)
	}
	r, err := d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	r.ResponseHeader(200, http.Header{"Grpc-Status": {"14"}})
	r.ResponseTrailer(http.Header{"Grpc-Status": {"14"}})
	require.Equal(t, 200, r.Status(), "it is not over gRPC")
	r.Done(nil)
}

func TestGRPCPaths(t *testing.T) {
	d, _ := ended(t, datastore.Options{}, nil)
	for path, want := range map[string]int{
		"/vllm.grpc.engine.VllmEngine/Embed":         0,
		"/vllm.grpc.engine.VllmEngine/HealthCheck":   0,
		"/vllm.grpc.engine.VllmEngine/GetModelInfo":  0,
		"/vllm.grpc.engine.VllmEngine/Abort":         403,
		"/vllm.grpc.engine.VllmEngine/GetServerInfo": 403,
	} {
		r, err := d.Route(ctx, director.Incoming{Path: path, Body: grpcText("x")})
		if want != 0 {
			require.Equal(t, want, director.AsError(err).Status, path)
			continue
		}
		require.NoError(t, err, path)
		r.Done(nil)
	}
}

// TestGenerate: vLLM's own API over HTTP needs no model, and has one put in that is given.
func TestGenerate(t *testing.T) {
	d, _ := ended(t, datastore.Options{UnknownModels: datastore.Refuse}, nil)
	body := `{"token_ids":[1,2,3],"sampling_params":{"max_tokens":9}}`
	r, err := d.Route(ctx, director.Incoming{Path: "/inference/v1/generate", Body: []byte(body)})
	require.NoError(t, err)
	require.Equal(t, []int{3, 9}, []int{r.Request.Prompt.Tokens, r.Request.MaxTokens})
	require.Equal(t, body, string(r.Body))
	r.Done(nil)
	r, err = d.Route(ctx, director.Incoming{Path: "/inference/v1/generate", Body: []byte(`{"model":"food","token_ids":[1]}`)})
	require.NoError(t, err)
	require.Equal(t, `{"model":"food-v1","token_ids":[1]}`, string(r.Body))
	r.Done(nil)
	_, err = d.Route(ctx, director.Incoming{Path: "/inference/v1/generate", Body: []byte(`{"model":"nobody","token_ids":[1]}`)})
	require.Equal(t, 404, director.AsError(err).Status)
}

// TestPassthrough: bodies are not looked at, whatever they are.
func TestPassthrough(t *testing.T) {
	passes := true
	d, outcomes := ended(t, datastore.Options{UnknownModels: datastore.Refuse}, func(o *director.Options) {
		o.Passthrough = func(p types.NamespacedName) bool { return passes && p == pool }
	})
	for _, in := range []director.Incoming{
		{Path: "/v1/chat/completions", Body: []byte("no JSON"), Header: http.Header{"Content-Encoding": {"gzip"}}},
		{Path: "/v1/chat/completions", Body: []byte(`{"model":"nobody"}`), Pool: pool},
		{Path: "/v1/completions", Body: nil},
		{Path: "/vllm.grpc.engine.VllmEngine/Generate", Body: grpcText("x")},
	} {
		*outcomes = nil
		in.Header = http.Header{director.HeaderObjective: {"fast"}}
		r, err := d.Route(ctx, in)
		require.NoError(t, err)
		require.Equal(t, in.Body, r.Body)
		require.Equal(t, []any{"", 0, 7}, []any{r.Request.Model, r.Request.Prompt.Tokens, r.Request.Priority})
		require.EqualValues(t, 1, r.Endpoint().Load.Requests())
		r.ResponseHeader(200, http.Header{"Content-Type": {"application/json"}})
		answer := []byte(`{"usage":{"prompt_tokens":5}}`)
		require.Equal(t, answer, r.Data(answer))
		r.End()
		require.Equal(t, types.Usage{}, (*outcomes)[0].Usage)
		require.True(t, (*outcomes)[0].Served())
	}
	_, err := d.Route(ctx, director.Incoming{Path: "/load_lora_adapter", Body: []byte("x")})
	require.Equal(t, 403, director.AsError(err).Status, "paths are what they were")
	passes = false
	_, err = d.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Body: []byte("no JSON")})
	require.Equal(t, 400, director.AsError(err).Status)
}
