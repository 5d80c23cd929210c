package openai_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// pngOf returns what looks like a picture: a head, and noise as compressed data are.
func pngOf(width, height uint32, size int) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
	b = binary.BigEndian.AppendUint32(b, width)
	b = binary.BigEndian.AppendUint32(b, height)
	noise := rand.New(rand.NewPCG(uint64(width), uint64(height)))
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, noise.Uint64())
	}
	return b
}

func dataURL(data []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(data)
}

func wavOf(seconds int) string {
	b := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00data")
	b = binary.LittleEndian.AppendUint32(b, uint32(8000*seconds))
	return base64.StdEncoding.EncodeToString(append(b, make([]byte, 8000*seconds)...))
}

func parse(t testing.TB, api openai.API, body string) *types.Request {
	t.Helper()
	var req types.Request
	_, err := openai.Parse(api, "", []byte(body), &req, openai.Limits{MaxBytes: 64 << 20})
	require.NoError(t, err)
	checkPrompt(t, &req)
	return &req
}

func TestMedia(t *testing.T) {
	image := dataURL(pngOf(640, 480, 20_000))
	wav := wavOf(3)
	small := dataURL(pngOf(32, 16, 60))
	img := types.Media{Kind: types.Image, Width: 640, Height: 480, Tokens: 300}
	tests := []struct {
		name string
		api  openai.API
		body string
		want []types.Media // without spans and keys
		data []string      // what the spans are
	}{
		{"chat", openai.ChatCompletions, `"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"` + image + `","detail":"high"}},{"type":"image_url","image_url":{"detail":"low","url":"https://x.example/a.png"}}]}]`,
			[]types.Media{img, {Kind: types.Image, Tokens: openai.ImageTokens, Guessed: true, LowDetail: true}}, []string{image, "https://x.example/a.png"}},
		{"the type comes last", openai.ChatCompletions, `"messages":[{"content":[{"image_url":{"url":"` + image + `"},"type":"image_url"}]}]`, []types.Media{img}, []string{image}},
		{"a small picture", openai.ChatCompletions, `"messages":[{"content":[{"type":"image_url","image_url":{"url":"` + small + `"}}]}]`,
			[]types.Media{{Kind: types.Image, Width: 32, Height: 16, Tokens: 1}}, []string{small}},
		{"escapes", openai.ChatCompletions, `"messages":[{"content":[{"type":"image_url","image_url":{"url":"` + strings.ReplaceAll(image, "/", `\/`) + `"}}]}]`,
			[]types.Media{img}, []string{strings.ReplaceAll(image, "/", `\/`)}},
		{"responses", openai.Responses, `"input":[{"role":"user","content":[{"type":"input_image","detail":"low","image_url":"` + image + `"}]}],"instructions":[{"role":"developer","content":[{"type":"input_image","image_url":"` + small + `"}]}]`,
			[]types.Media{{Kind: types.Image, Width: 32, Height: 16, Tokens: 1}, {Kind: types.Image, Width: 640, Height: 480, Tokens: 300, LowDetail: true}}, []string{small, image}},
		{"messages, and the system after them", openai.Messages, `"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + image[22:] + `"}}]}],"system":[{"type":"image","source":{"type":"url","url":"https://x.example/long/name/of/a.png"}}]`,
			[]types.Media{{Kind: types.Image, Tokens: openai.ImageTokens, Guessed: true}, img}, []string{"https://x.example/long/name/of/a.png", image[22:]}},
		{"a result of a tool", openai.Messages, `"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"x"},{"type":"image","source":{"type":"base64","data":"` + image[22:] + `"}}]}]}]`, []types.Media{img}, []string{image[22:]}},
		{"generated", openai.Responses, `"input":[{"type":"image_generation_call","result":"` + image[22:] + `","id":"ig_1"}]`, []types.Media{img}, []string{image[22:]}},
		{"sound", openai.ChatCompletions, `"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"` + wav + `","format":"wav"}}]}]`,
			[]types.Media{{Kind: types.Audio, Seconds: 3, Tokens: 75}}, []string{wav}},
		{"sound elsewhere", openai.ChatCompletions, `"messages":[{"content":[{"type":"audio_url","audio_url":{"url":"https://x.example/a.mp3"}}]}]`,
			[]types.Media{{Kind: types.Audio, Tokens: openai.AudioTokens, Guessed: true}}, []string{"https://x.example/a.mp3"}},
		{"a film", openai.ChatCompletions, `"messages":[{"content":[{"type":"video_url","video_url":{"url":"https://x.example/a.mp4"}},{"type":"text","text":"x"}]}]`,
			[]types.Media{{Kind: types.Video, Tokens: openai.VideoTokens, Guessed: true}}, []string{"https://x.example/a.mp4"}},
		{"a film of frames", openai.ChatCompletions, `"messages":[{"content":[{"type":"video","video":["` + image + `","` + image + `","` + image + `"]}]}]`,
			[]types.Media{{Kind: types.Video, Width: 640, Height: 480, Frames: 3, Tokens: 600}}, []string{image}},
		{"a film of frames in one", openai.ChatCompletions, `"messages":[{"content":[{"type":"video_url","video_url":{"url":"data:video/jpeg;base64,` + image[22:] + `,` + image[22:] + `,` + image[22:] + `"}}]}]`,
			[]types.Media{{Kind: types.Video, Width: 640, Height: 480, Frames: 3, Tokens: 600}}, []string{"data:video/jpeg;base64," + image[22:] + "," + image[22:] + "," + image[22:]}},
		{"a film of frames elsewhere", openai.ChatCompletions, `"messages":[{"content":[{"type":"video","video":["https://a","https://bc"],"fps":2}]}]`,
			[]types.Media{{Kind: types.Video, Frames: 2, Tokens: 225, Guessed: true}}, []string{"https://bc"}},
		{"so many frames", openai.ChatCompletions, `"messages":[{"content":[{"type":"video_url","nframes":16,"video_url":{"url":"https://x.example/a.mp4"}}]}]`,
			[]types.Media{{Kind: types.Video, Frames: 16, Tokens: 8 * 225, Guessed: true}}, []string{"https://x.example/a.mp4"}},
		{"a file that is a picture", openai.ChatCompletions, `"messages":[{"content":[{"type":"file","file":{"file_data":"` + image + `","filename":"x.png"}}]}]`, []types.Media{img}, []string{image}},
		{"a file", openai.Responses, `"input":[{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}]`,
			[]types.Media{{Kind: types.OtherMedia, Tokens: openai.OtherTokens, Guessed: true}}, []string{"file-1"}},
		{"a part without anything", openai.ChatCompletions, `"messages":[{"content":[{"type":"image_url"}]}]`, []types.Media{{Kind: types.Image, Tokens: openai.ImageTokens, Guessed: true}}, []string{""}},
		{"beside the content", openai.ChatCompletions, `"messages":[{"content":"x","images":["` + image[22:] + `","` + image[22:] + `"]}]`, []types.Media{img, img}, []string{image[22:], image[22:]}},
		{"the last messages count", openai.ChatCompletions, `"messages":[{"content":[{"type":"image_url","image_url":{"url":"` + image + `"}},{"type":"video"}]}],"messages":[{"content":[{"type":"image_url","image_url":{"url":"` + small + `"}}]}]`,
			[]types.Media{{Kind: types.Image, Width: 32, Height: 16, Tokens: 1}}, []string{small}},
		{"no media", openai.ChatCompletions, `"messages":[{"content":[{"type":"text","text":"x","detail":"low","fps":[1],"nframes":-1}]}]`, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := parse(t, tt.api, `{"model":"m",`+tt.body+`}`)
			var data []string
			images, audio, other := 0, 0, 0
			for i := range req.Prompt.Media {
				m := &req.Prompt.Media[i]
				data = append(data, string(req.Body[m.Span.Start:m.Span.End]))
				require.Equal(t, data[i] != "", m.Key != 0)
				m.Span, m.Key = types.Span{}, 0
				switch m.Kind {
				case types.Image:
					images++
				case types.Audio:
					audio++
				default:
					other++
				}
			}
			require.Equal(t, tt.want, req.Prompt.Media)
			require.Equal(t, tt.data, data)
			require.Equal(t, [3]int{images, audio, other}, [3]int{req.Prompt.Images, req.Prompt.Audio, req.Prompt.Other})
		})
	}
}

func spansOf(req *types.Request) []byte {
	var all []byte
	for _, s := range req.Prompt.Spans {
		all = append(all, req.Body[s.Start:s.End]...)
	}
	return all
}

func TestSpansOfMedia(t *testing.T) {
	chat := func(image []byte, after string) string {
		return `{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"` + dataURL(image) + `"}},{"type":"text","text":"what?"}]}` + after + `]}`
	}
	image := pngOf(1184, 1184, 2<<20) // 1,369 tokens
	body := chat(image, "")
	req := parse(t, openai.ChatCompletions, body)
	spans := spansOf(req)
	require.InEpsilon(t, 4*req.Prompt.Tokens, len(spans), 0.02)
	require.Equal(t, len(spans), req.Prompt.Bytes)
	require.Greater(t, len(req.Prompt.Spans), 40)
	url := dataURL(image)
	for _, want := range []string{`{"role":"user","content":[{"type":"image_url","image_url":{"url":"` + url[:100], url[len(url)-100:] + `"}},{"type":"text","text":"what?"}`} {
		require.Contains(t, string(spans), want)
	}

	// The next turn, with another text and elsewhere in the body, has the same bytes first.
	next := parse(t, openai.ChatCompletions, strings.Replace(chat(image, `,{"role":"assistant","content":"a cat"},{"role":"user","content":"sure?"}`), `{"model"`, `{"stream":false,"model"`, 1))
	require.True(t, bytes.HasPrefix(spansOf(next), spans))
	require.Equal(t, req.Prompt.Media[0].Key, next.Prompt.Media[0].Key)

	// Compressed data that differ anywhere differ in what follows.
	for _, at := range []int{30, 1 << 20, 2<<20 - 4000} {
		other := bytes.Clone(image)
		for i := at; i < len(other); i++ {
			other[i] ^= byte(i*7 + 1)
		}
		differs := parse(t, openai.ChatCompletions, chat(other, ""))
		require.Len(t, spansOf(differs), len(spans))
		require.NotEqual(t, spans, spansOf(differs), at)
	}

	// The rules of a family change the tokens, not the spans.
	before := append([]types.Span(nil), req.Prompt.Spans...)
	openai.KnownFamilies()
	(*openai.Families)(nil).Of("Qwen/Qwen3-VL-8B-Instruct").Apply(&req.Prompt)
	require.Equal(t, before, req.Prompt.Spans)

	// A request used again, and one that failed.
	was := *next
	was.Prompt.Spans, was.Prompt.Media = append([]types.Span(nil), next.Prompt.Spans...), append([]types.Media(nil), next.Prompt.Media...)
	_, err := openai.Parse(openai.ChatCompletions, "", []byte(strings.TrimSuffix(chat(image, ""), "}")), next, openai.Limits{})
	require.Error(t, err)
	_, err = openai.Parse(openai.ChatCompletions, "", []byte(chat(image, "")[:len(body)-1]+`,"max_tokens":"x"}`), next, openai.Limits{})
	require.Error(t, err)
	require.Equal(t, was.Prompt, next.Prompt)
	_, err = openai.Parse(openai.ChatCompletions, "", []byte(body), next, openai.Limits{})
	require.NoError(t, err)
	require.Equal(t, spans, spansOf(next))
	_, err = openai.Parse(openai.ChatCompletions, "", []byte(`{"model":"m","messages":[{"content":"x"}]}`), next, openai.Limits{})
	require.NoError(t, err)
	require.Empty(t, next.Prompt.Media)
	require.Len(t, next.Prompt.Spans, 1)
}

// About four bytes stand for each token of a prompt, wherever its media are, so that who has the text before a picture has no
// more of the prompt than that text.
func TestBytesOfAddresses(t *testing.T) {
	text := strings.Repeat("be helpful. ", 300)
	chat := func(text, part string) string {
		return `{"model":"m","messages":[{"role":"system","content":"` + text + `"},{"role":"user","content":[` + part + `]}`
	}
	parts := []string{
		`{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}`,
		`{"type":"image_url","image_url":{"url":"https://x.example/b.png?` + strings.Repeat("s", 1000) + `"}}`,
		`{"type":"image_url","image_url":null,"uuid":"7"}`,
		`{"type":"image_url","image_url":{"url":"` + dataURL(pngOf(1024, 1024, 600)) + `"}}`, // a blank one
		`{"type":"video_url","video_url":{"url":"https://x.example/a.mp4"}}`,
		`{"type":"audio_url","audio_url":{"url":"https://x.example/a.mp3"}}`,
		`{"type":"file","file":{"file_id":"file-123456"}}`,
		`{"type":"video","video":["https://x.example/1.png","https://x.example/2.png"]}`,
	}
	for _, part := range parts {
		req := parse(t, openai.ChatCompletions, chat(text, part)+`]}`)
		require.InEpsilon(t, 4*req.Prompt.Tokens, req.Prompt.Bytes, 0.03, part[:40])
		require.Less(t, len(req.Prompt.Spans), 100)
		held := len(text) * req.Prompt.Tokens / req.Prompt.Bytes
		require.InDelta(t, len(text)/4, held, 40, part[:40])
		next := parse(t, openai.ChatCompletions, strings.Replace(chat(text, part), `{`, `{"n":1,`, 1)+`,{"role":"user","content":[`+part+`]}]}`)
		require.True(t, bytes.HasPrefix(spansOf(next), spansOf(req)))
	}
	many := parse(t, openai.ChatCompletions, chat("", strings.TrimSuffix(strings.Repeat(`{"type":"image_url","image_url":{"url":"a"}},`, 10_000), ","))+`]}`)
	require.LessOrEqual(t, len(many.Prompt.Spans), 2049)
	require.LessOrEqual(t, many.Prompt.Bytes, len(many.Body)+256<<10)
}

// What is long and text counts as such, in whatever part it is.
func TestTextInFiles(t *testing.T) {
	text := strings.Repeat("hello world ", 2000)
	data := base64.StdEncoding.EncodeToString(pngOf(640, 480, 20_000))
	image := `{"type":"image","source":{"type":"base64","data":"` + data + `"}}`
	tests := []struct {
		name, part             string
		tokens, images, others int
	}{
		{"a document", `{"type":"document","source":{"type":"text","media_type":"text/plain","data":"` + text + `"}}`, len(text) / 4, 0, 0},
		{"one of parts", `{"type":"document","source":{"type":"content","content":[{"type":"text","text":"` + text + `"},` + image + `]}}`, len(text)/4 + 300, 1, 0},
		{"a short one", `{"type":"document","source":{"type":"text","media_type":"text/plain","data":"hello"}}`, openai.OtherTokens, 0, 1},
		{"a file", `{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0x` + data + `"}}`, openai.OtherTokens, 0, 1},
		{"a result", `{"type":"mcp_tool_result","content":[{"type":"text","text":"` + text + `"},` + image + `]}`, len(text)/4 + 300, 1, 0},
		{"of a new kind", `{"type":"new","lines":["` + text + `","` + text + `"]}`, len(text) / 2, 0, 0},
		{"data of a new kind", `{"type":"new","bytes":"` + strings.ReplaceAll(data, "/", "x") + `"}`, 300, 1, 0},
		{"a call", `{"type":"server_tool_use","input":{"image":"x"}},{"type":"mcp_tool_use","input":{}}`, 0, 0, 0},
		{"sealed", `{"type":"redacted_thinking","data":"` + data + `"}`, len(data) / 4, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, openai.Messages, `{"model":"m","messages":[{"role":"user","content":[`+tt.part+`]}]}`).Prompt
			require.InDelta(t, tt.tokens, p.Tokens, 70)
			require.Equal(t, [2]int{tt.images, tt.others}, [2]int{p.Images, p.Other})
		})
	}
}

// Many pictures cost no more than their bytes and a bound.
func TestManyMedia(t *testing.T) {
	tests := []struct {
		name         string
		n, size      int
		width        uint32
		media, spans int // at most
	}{
		{"hundreds", 300, 8000, 640, 256, 5000},
		{"thousands", 4500, 3300, 64, 256, 13_000},
		{"small ones", 10_000, 150, 64, 256, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			part := `{"type":"image_url","image_url":{"url":"` + dataURL(pngOf(tt.width, 64, tt.size)) + `"}},`
			body := `{"model":"m","messages":[{"role":"user","content":[` + strings.Repeat(part, tt.n) + `{"type":"text","text":"x"}]}]}`
			start := time.Now()
			req := parse(t, openai.ChatCompletions, body)
			t.Log(len(body), time.Since(start), len(req.Prompt.Spans), req.Prompt.Tokens, req.Prompt.Bytes)
			require.Len(t, req.Prompt.Media, tt.media)
			require.LessOrEqual(t, len(req.Prompt.Spans), tt.spans)
			require.Equal(t, tt.n, req.Prompt.Images)
			each := int(tt.width) * 64 / 1024
			require.InDelta(t, 256*each+(tt.n-256)*openai.ImageTokens, req.Prompt.Tokens, float64(30*tt.n))
		})
	}
}

func TestMediaAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocation counts differ under the race detector")
	}
	var counts []float64
	for _, size := range []int{10 << 10, 4 << 20} {
		body := imageBody(size)
		var req types.Request
		counts = append(counts, testing.AllocsPerRun(20, func() {
			if _, err := openai.Parse(openai.ChatCompletions, "", body, &req, openai.Limits{}); err != nil {
				t.Fatal(err)
			}
		}))
	}
	require.LessOrEqual(t, counts[0], 1.0)
	require.Equal(t, counts[0], counts[1])
}
