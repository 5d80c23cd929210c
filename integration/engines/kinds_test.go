package engines_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// envKinds names servers that run already: vision=host:port,hearing=host:port,embedding=host:port,ranking=host:port.
const envKinds = "VLLM_KINDS"

// kinds are the servers of other kinds, each started when the first test asks for one of them.
var kinds struct {
	mu      sync.Mutex
	servers map[vllm.Kind]*vllm.Server
	logs    string
}

func stopKinds(all *sync.WaitGroup) {
	for _, s := range kinds.servers {
		all.Go(func() { _ = s.Close() })
	}
}

// ofKind returns a gateway before a server of a kind, and the server.
func ofKind(t *testing.T, kind vllm.Kind) *gateway {
	t.Helper()
	kinds.mu.Lock()
	defer kinds.mu.Unlock()
	s := kinds.servers[kind]
	if s == nil {
		var err error
		if s, err = startKind(kind); errors.Is(err, vllm.ErrNone) {
			t.Skip(err)
		}
		require.NoError(t, err)
		if kinds.servers == nil {
			kinds.servers = map[vllm.Kind]*vllm.Server{}
		}
		kinds.servers[kind] = s
	}
	ctx, cancel := context.WithTimeout(context.Background(), *starting)
	defer cancel()
	if err := s.Ready(ctx, t.Logf); err != nil {
		t.Fatalf("%v\n%s", err, s.Tail(40))
	}
	return before(t, []*vllm.Server{s})
}

func startKind(kind vllm.Kind) (*vllm.Server, error) {
	for one := range strings.SplitSeq(os.Getenv(envKinds), ",") {
		if address, ok := strings.CutPrefix(one, string(kind)+"="); ok {
			return &vllm.Server{Address: address}, nil
		}
	}
	in, err := vllm.Find(os.Getenv)
	if err != nil {
		return nil, err
	}
	if kinds.logs == "" {
		if kinds.logs, err = os.MkdirTemp("", "vllm-kinds"); err != nil {
			return nil, err
		}
	}
	return in.StartKind(filepath.Join(kinds.logs, string(kind)+".log"), kind)
}

// usage is what vLLM says that it has read.
type usage struct {
	Prompt  int `json:"prompt_tokens"`
	Details *struct {
		Media map[string]int `json:"multimodal_tokens"`
	} `json:"prompt_tokens_details"`
}

// answered sends a request through a gateway, which reads it as the test does, and returns both.
func answered(t *testing.T, g *gateway, path, contentType string, body []byte) (req types.Request, reply []byte) {
	t.Helper()
	_, err := openai.Parse(openai.APIOf(path), contentType, body, &req, openai.Limits{})
	require.NoError(t, err)
	resp, err := http.Post(g.URL+path, contentType, bytes.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	reply, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", path, reply)
	return req, reply
}

func answeredJSON(t *testing.T, g *gateway, path string, body any) (req types.Request, u usage) {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	req, reply := answered(t, g, path, "application/json", text)
	var in struct{ Usage usage }
	require.NoError(t, json.Unmarshal(reply, &in), "%s", reply)
	return req, in.Usage
}

// seen is what the family of the tiny model counts.
func seen(t *testing.T) *openai.Family {
	t.Helper()
	families, err := openai.NewFamilies(openai.Family{
		Models: []string{string(vllm.Vision)}, Image: openai.ImageRule{Rule: "qwen2-vl", MinPixels: 3136, MaxPixels: 1_003_520},
	})
	require.NoError(t, err)
	return families.Of(string(vllm.Vision))
}

func pictureURL(t *testing.T, format string, width, height int) string {
	t.Helper()
	var buf bytes.Buffer
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range img.Pix {
		img.Pix[i] = byte(i * (width + height))
	}
	var err error
	switch format {
	case "png":
		err = png.Encode(&buf, img)
	case "jpeg":
		err = jpeg.Encode(&buf, img, nil)
	case "gif":
		err = gif.Encode(&buf, img, nil)
	}
	require.NoError(t, err)
	return "data:image/" + format + ";base64," + base64.StdEncoding.EncodeToString(buf.Bytes())
}

// A picture is as many tokens as the engine counts, in every format and size.
func TestPictureTokens(t *testing.T) {
	g, family := ofKind(t, vllm.Vision), seen(t)
	chat := func(urls ...string) map[string]any {
		parts := []any{map[string]any{"type": "text", "text": "What is this?"}}
		for _, url := range urls {
			parts = append(parts, map[string]any{"type": "image_url", "image_url": map[string]any{"url": url}})
		}
		return map[string]any{"model": vllm.Vision, "max_tokens": 1, "messages": []any{map[string]any{"role": "user", "content": parts}}}
	}
	_, text := answeredJSON(t, g, "/v1/chat/completions", chat())
	formats := []string{"png", "jpeg", "gif"}
	for i, size := range [][2]int{
		{28, 28}, {42, 70}, {100, 100}, {224, 224}, {640, 360}, {360, 640}, {1024, 1024}, {1920, 1080}, {30, 900}, {3000, 20}, {1, 1}, {1001, 999},
	} {
		format := formats[i%len(formats)]
		req, used := answeredJSON(t, g, "/v1/chat/completions", chat(pictureURL(t, format, size[0], size[1])))
		family.Apply(&req.Prompt)
		require.Len(t, req.Prompt.Media, 1)
		m := req.Prompt.Media[0]
		require.Equal(t, size, [2]int{m.Width, m.Height}, format)
		require.Equal(t, used.Details.Media["image"], m.Tokens, "%s of %d x %d", format, size[0], size[1])
		require.False(t, m.Guessed)
		require.Equal(t, used.Prompt-text.Prompt, m.Tokens+2, "with a token before it, and one after")
	}
	req, used := answeredJSON(t, g, "/v1/chat/completions", chat(pictureURL(t, "png", 224, 224), pictureURL(t, "jpeg", 300, 100)))
	family.Apply(&req.Prompt)
	require.Equal(t, used.Details.Media["image"], req.Prompt.Media[0].Tokens+req.Prompt.Media[1].Tokens)
}

// Tokens that are given count as they are; texts about as many; what is ranked counts as often as it is read.
func TestPooledTokens(t *testing.T) {
	about := func(t *testing.T, used usage, req types.Request, what string) {
		t.Helper()
		require.InEpsilon(t, used.Prompt, req.Prompt.Tokens, .6, "%s: the engine counts %d", what, used.Prompt)
		require.Equal(t, types.Pools, req.Work.Kind, what)
	}
	t.Run("embedding", func(t *testing.T) {
		g := ofKind(t, vllm.Embedding)
		ids := make([][]int, 20)
		for i := range ids {
			ids[i] = make([]int, 10+i)
			for j := range ids[i] {
				ids[i][j] = 10 + i + j
			}
		}
		req, used := answeredJSON(t, g, "/v1/embeddings", map[string]any{"model": vllm.Embedding, "input": ids})
		require.Equal(t, used.Prompt, req.Prompt.Tokens)
		require.Equal(t, 20, req.Work.Items)
		texts := strings.SplitAfter(strings.Repeat("A gateway sends each request to the server where it costs least. ", 12), ". ")[:12]
		for _, path := range []string{"/v1/embeddings", "/pooling"} {
			req, used := answeredJSON(t, g, path, map[string]any{"model": vllm.Embedding, "input": texts})
			about(t, used, req, path)
			require.Equal(t, 12, req.Work.Items)
		}
	})
	t.Run("ranking", func(t *testing.T) {
		g := ofKind(t, vllm.Ranking)
		query := strings.Repeat("where does a gateway send each request? ", 8)
		documents := make([]string, 25)
		for i := range documents {
			documents[i] = fmt.Sprintf("To server %d, where it costs least.", i)
		}
		for path, body := range map[string]map[string]any{
			"/rerank":    {"query": query, "documents": documents, "top_n": 3},
			"/v1/rerank": {"query": query, "documents": documents},
			"/v2/rerank": {"query": query, "documents": documents},
			"/score":     {"text_1": query, "text_2": documents},
			"/v1/score":  {"queries": query, "documents": documents},
		} {
			body["model"] = vllm.Ranking
			req, used := answeredJSON(t, g, path, body)
			about(t, used, req, path)
			require.Equal(t, 25, req.Work.Items, path)
		}
		req, used := answeredJSON(t, g, "/classify", map[string]any{"model": vllm.Ranking, "input": documents})
		about(t, used, req, "/classify")
	})
}

// A sound is heard through the gateway, and is as long as the engine says.
func TestTranscriptions(t *testing.T) {
	g := ofKind(t, vllm.Hearing)
	form := func(seconds float64, fields ...string) (contentType string, body []byte) {
		var buf bytes.Buffer
		w := multipart.NewWriter(&buf)
		for i := 0; i < len(fields); i += 2 {
			require.NoError(t, w.WriteField(fields[i], fields[i+1]))
		}
		file, err := w.CreateFormFile("file", "a.wav")
		require.NoError(t, err)
		_, err = file.Write(silence(seconds))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return w.FormDataContentType(), buf.Bytes()
	}
	for _, seconds := range []float64{1, 9.5, 29, 45, 61} {
		contentType, body := form(seconds, "model", string(vllm.Hearing), "language", "en")
		req, reply := answered(t, g, "/v1/audio/transcriptions", contentType, body)
		var in struct {
			Text  string
			Usage struct{ Seconds float64 }
		}
		require.NoError(t, json.Unmarshal(reply, &in), "%s", reply)
		require.Equal(t, in.Usage.Seconds, math.Ceil(req.Work.AudioSeconds.OrNaN()), "%v s", seconds)
		require.InDelta(t, seconds, req.Work.AudioSeconds.OrNaN(), .01)
	}
	contentType, body := form(3, "model", string(vllm.Hearing), "language", "en", "stream", "true")
	req, reply := answered(t, g, "/v1/audio/transcriptions", contentType, body)
	require.True(t, req.Stream)
	require.Contains(t, string(reply), "[DONE]")
}

// silence returns a WAV of 16,000 samples a second.
func silence(seconds float64) []byte {
	const rate = 16000
	data := make([]byte, int(rate*seconds)*2)
	var buf bytes.Buffer
	for _, field := range []any{
		[]byte("RIFF"), uint32(36 + len(data)), []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), uint32(rate), uint32(rate * 2), uint16(2), uint16(16),
		[]byte("data"), uint32(len(data)), data,
	} {
		_ = binary.Write(&buf, binary.LittleEndian, field) // a buffer takes all
	}
	return buf.Bytes()
}
