package openai_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// message writes fields of a protocol buffer one after the other.
type message []byte

func (m message) varint(number int, v uint64) message {
	return binary.AppendUvarint(binary.AppendUvarint(m, uint64(number)<<3), v)
}

func (m message) bytes(number int, b []byte) message {
	m = binary.AppendUvarint(binary.AppendUvarint(m, uint64(number)<<3|2), uint64(len(b)))
	return append(m, b...)
}

// frame is the message as gRPC sends it.
func (m message) frame() []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

func packed(ids ...uint64) (b []byte) {
	for _, id := range ids {
		b = binary.AppendUvarint(b, id)
	}
	return b
}

const grpcType = "application/grpc+proto"

func TestParseGRPC(t *testing.T) {
	ids := packed(1, 128000, 5, 70000)
	tokenized := message{}.bytes(1, []byte("the text")).bytes(2, ids)
	unpacked := message{}.varint(2, 1).varint(2, 300).varint(2, 5)
	sampling := message{0x0d, 0, 0, 0x80, 0x3f}.varint(8, 64).varint(15, 1)
	for _, tt := range []struct {
		name      string
		api       openai.API
		body      []byte
		prompt    string
		tokens    int
		maxTokens int
		stream    bool
	}{
		{"text", openai.GRPCGenerate, message{}.bytes(1, []byte("id")).bytes(3, []byte("hello, who is it?")).bytes(4, sampling).varint(5, 1).frame(), "hello, who is it?", 5, 64, true},
		{"token ids", openai.GRPCGenerate, message{}.bytes(2, tokenized).bytes(4, sampling).frame(), string(ids), 4, 64, false},
		{"token ids that are not packed", openai.GRPCGenerate, message{}.bytes(2, unpacked).frame(), string(unpacked), 3, 0, false},
		{"the last of both counts", openai.GRPCGenerate, message{}.bytes(3, []byte("text")).bytes(2, tokenized).frame(), string(ids), 4, 0, false},
		{"embed", openai.GRPCEmbed, message{}.bytes(1, []byte("id")).bytes(2, tokenized).frame(), string(ids), 4, 0, false},
		{"nothing", openai.GRPCGenerate, message{}.frame(), "", 0, 0, false},
		{"fields that nobody knows", openai.GRPCGenerate, append(message{}.varint(99, 1).bytes(98, []byte("x")), message{}.bytes(3, []byte("abcd"))...).frame(), "abcd", 1, 0, false},
		{"compressed", openai.GRPCGenerate, append([]byte{1}, message{}.bytes(3, []byte("abcd")).frame()[1:]...), "", 0, 0, false},
		{"a length that is not there", openai.GRPCGenerate, message{0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f, 'a'}.frame(), "", 0, 0, false},
		{"more tokens than an int32", openai.GRPCGenerate, message{}.bytes(4, message{}.varint(8, 1<<63)).frame(), "", 0, 1<<31 - 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := &types.Request{Model: "before", SessionID: "before", CacheSalt: "before", PreviousID: "before", Stream: !tt.stream, MaxTokens: 7}
			p, err := openai.Parse(tt.api, grpcType, tt.body, req, openai.Limits{})
			require.NoError(t, err)
			var prompt []byte
			for _, s := range req.Prompt.Spans {
				prompt = append(prompt, tt.body[s.Start:s.End]...)
			}
			require.Equal(t, tt.prompt, string(prompt))
			require.Equal(t, []any{tt.tokens, tt.maxTokens, tt.stream}, []any{req.Prompt.Tokens, req.MaxTokens, req.Stream})
			require.Equal(t, "", req.Model+req.SessionID+req.CacheSalt+req.PreviousID)
			require.Equal(t, tt.body, p.SpliceModel(nil, tt.body, "other"), "there is no place for a model")
		})
	}
	whole := message{}.bytes(3, []byte("abcd")).frame()
	for name, body := range map[string][]byte{
		"cut off": whole[:8], "longer than it says": append(whole, 0), "empty": nil, "a part of a prefix": whole[:4],
		"text": []byte("this is no message"), "an unknown flag": append([]byte{2}, whole[1:]...),
	} {
		_, err := openai.Parse(openai.GRPCGenerate, grpcType, body, new(types.Request), openai.Limits{})
		var e *openai.Error
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, []any{400, openai.CodeInvalidGRPC}, []any{e.Status, e.Code}, name)
	}
	_, err := openai.Parse(openai.GRPCGenerate, grpcType, make([]byte, 100), new(types.Request), openai.Limits{MaxBytes: 99})
	require.ErrorContains(t, err, "99")
}

// TestGRPCPrefix: what begins with the same tokens begins with the same bytes of prompt.
func TestGRPCPrefix(t *testing.T) {
	prompt := func(ids ...uint64) []byte {
		body := message{}.bytes(1, []byte("another id each time")[:len(ids)]).bytes(2, message{}.bytes(2, packed(ids...))).frame()
		var req types.Request
		_, err := openai.Parse(openai.GRPCGenerate, grpcType, body, &req, openai.Limits{})
		require.NoError(t, err)
		return body[req.Prompt.Spans[0].Start:req.Prompt.Spans[0].End]
	}
	require.True(t, bytes.HasPrefix(prompt(100, 2000, 300000, 4), prompt(100, 2000, 300000)))
}

func TestGRPCStream(t *testing.T) {
	chunk := func(ids int) message {
		m := message{}
		if ids > 0 {
			m = m.bytes(1, make([]byte, ids))
		}
		return message{}.bytes(1, m.varint(2, 9).varint(3, uint64(ids)).varint(4, 6))
	}
	complete := message{}.bytes(2, message{}.bytes(1, packed(1, 2, 3)).bytes(2, []byte("stop")).varint(3, 9).varint(4, 3).varint(5, 6))
	streamed := bytes.Join([][]byte{chunk(0).frame(), chunk(2).frame(), chunk(1).frame(), complete.frame()}, nil)
	long := message{}.bytes(1, message{}.bytes(1, make([]byte, 5000))).frame()
	all := types.Usage{PromptTokens: types.Known(9), CompletionTokens: types.Known(3), CachedTokens: types.Known(6)}
	for _, tt := range []struct {
		name   string
		api    openai.API
		body   []byte
		usage  types.Usage
		tokens int
		done   bool
	}{
		{"streamed", openai.GRPCGenerate, streamed, all, 2, true},
		{"not streamed", openai.GRPCGenerate, complete.frame(), all, 0, true},
		{"without its end", openai.GRPCGenerate, chunk(2).frame(), types.Usage{PromptTokens: types.Known(9), CachedTokens: types.Known(6)}, 1, false},
		{"cut off", openai.GRPCGenerate, streamed[:len(streamed)-1], types.Usage{PromptTokens: types.Known(9), CachedTokens: types.Known(6)}, 2, false},
		{"with what is too long", openai.GRPCGenerate, append(append([]byte(nil), long...), complete.frame()...), all, 0, true},
		{"embedding", openai.GRPCEmbed, message{}.bytes(1, make([]byte, 64)).varint(2, 9).varint(3, 16).frame(), types.Usage{PromptTokens: types.Known(9)}, 0, true},
		{"compressed", openai.GRPCGenerate, append([]byte{1}, complete.frame()[1:]...), types.Usage{}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 64, len(tt.body)} {
				s := openai.NewStream(openai.StreamOptions{API: tt.api, ContentType: "application/grpc", MaxEventBytes: 4096, TargetModel: "a", Model: "b", HoldFirst: true})
				var out []byte
				for i := 0; i < len(tt.body); i += size {
					out = append(out, s.Feed(tt.body[i:min(i+size, len(tt.body))])...)
				}
				out = append(out, s.Close()...)
				require.Equal(t, tt.body, out, "passes as it is")
				require.Equal(t, tt.usage, s.Usage(), "in pieces of %d", size)
				require.Equal(t, []any{tt.tokens, tt.tokens > 0, tt.done, false}, []any{s.Tokens(), s.FirstToken(), s.Done(), s.CutOff()}, "in pieces of %d", size)
				require.NoError(t, s.Err())
				ended := tt.done && tt.api == openai.GRPCGenerate
				require.Equal(t, ended, s.Finish() == types.FinishStop, "in pieces of %d", size)
			}
		})
	}
}

func TestParseGenerate(t *testing.T) {
	body := []byte(`{"request_id": "r", "token_ids": [1, 128000, 5], "sampling_params": {"n": 1, "max_tokens": 77}, "stream": true, "cache_salt": "s"}`)
	var req types.Request
	p, err := openai.Parse(openai.APIOf("/inference/v1/generate"), "application/json", body, &req, openai.Limits{ModelOptional: true})
	require.NoError(t, err)
	require.Equal(t, openai.Generate, p.API)
	require.Equal(t, []any{3, 77, true, "s"}, []any{req.Prompt.Tokens, req.MaxTokens, req.Stream, req.CacheSalt})
	require.Equal(t, "1, 128000, 5", string(body[req.Prompt.Spans[0].Start:req.Prompt.Spans[0].End]))
	for text, want := range map[string]string{
		`{"token_ids": "abc"}`: "token_ids",
		`{"token_ids": [1], "sampling_params": {"max_tokens": "1"}}`: "sampling_params.max_tokens",
	} {
		_, err := openai.Parse(openai.Generate, "", []byte(text), &req, openai.Limits{ModelOptional: true})
		require.ErrorContains(t, err, want)
	}
}

func TestAPIOfGRPC(t *testing.T) {
	for path, want := range map[string]openai.API{
		"/vllm.grpc.engine.VllmEngine/Generate": openai.GRPCGenerate,
		"/vllm.grpc.engine.vllmengine/generate": openai.GRPCGenerate,
		"/vllm.grpc.engine.VllmEngine/Embed":    openai.GRPCEmbed,
		"/vllm.grpc.engine.VllmEngine/Abort":    openai.Other,
		"/v1/inference/v1/generate":             openai.Generate,
		"/INFERENCE/V1/GENERATE":                openai.Other,
		"/generate":                             openai.Other,
	} {
		require.Equal(t, want, openai.APIOf(path), path)
	}
	require.False(t, openai.GRPCGenerate.NamesModel() || openai.GRPCEmbed.NamesModel() || openai.Generate.NamesModel() || openai.Other.NamesModel())
	require.True(t, openai.ChatCompletions.NamesModel())
}

// FuzzGRPC: nothing makes the readers of gRPC panic or read beyond the body, and a
// response is the same in whatever pieces it comes.
func FuzzGRPC(f *testing.F) {
	f.Add(message{}.bytes(3, []byte("hello")).frame(), 3)
	f.Add(message{}.bytes(2, message{}.bytes(1, packed(1)).varint(3, 9)).frame(), 1)
	f.Fuzz(func(t *testing.T, body []byte, size int) {
		size = max(1, size&0xff)
		var req types.Request
		for _, api := range []openai.API{openai.GRPCGenerate, openai.GRPCEmbed} {
			if _, err := openai.Parse(api, grpcType, body, &req, openai.Limits{}); err != nil {
				refused, ok := errors.AsType[*openai.Error](err)
				require.True(t, ok && refused.Code == openai.CodeInvalidGRPC, "%v", err)
			}
			for _, s := range req.Prompt.Spans {
				_ = body[s.Start:s.End]
			}
			whole, cut := openai.NewStream(openai.StreamOptions{API: api, ContentType: grpcType, MaxEventBytes: 64}), openai.NewStream(openai.StreamOptions{API: api, ContentType: grpcType, MaxEventBytes: 64})
			whole.Feed(body)
			for i := 0; i < len(body); i += size {
				cut.Feed(body[i:min(i+size, len(body))])
			}
			require.Equal(t, whole.Usage(), cut.Usage())
			require.Equal(t, whole.Tokens(), cut.Tokens())
			require.Equal(t, whole.Finish(), cut.Finish())
		}
	})
}
