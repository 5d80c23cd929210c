package openai_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// picture is one of 512 x 256, or its head: 128 tokens.
var picture = "data:image/png;base64," + base64.StdEncoding.EncodeToString(append(
	[]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x02\x00\x00\x00\x01\x00\x08\x02\x00\x00\x00"), make([]byte, 400)...))

// TestWork: what the APIs' bodies ask for, in the forms of vLLM, SGLang, text-embeddings-inference, Infinity, llama.cpp,
// OpenAI, Cohere and Jina.
func TestWork(t *testing.T) {
	const none = ""
	q8 := strings.Repeat("q", 30) // with its quotes 8 tokens
	d3 := strings.Repeat("d", 10)
	tests := []struct {
		path, body string
		work       string
		tokens     int
		images     int
		spans      string // joined by |; none: not looked at
	}{
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"n":3,"size":"9x9"}`, `generates`, 8, 0, none},
		{"/v1/messages/count_tokens", `{"messages":[]}`, `generates`, 0, 0, none},
		{"/inference/v1/generate", `{"token_ids":[1,2]}`, `generates`, 2, 0, none},
		{"/v1/custom", `{"n":1,"size":"9x9"}`, `generates`, 0, 0, none},

		{"/v1/embeddings", `{"input":"abcd"}`, `pools items=1`, 2, 0, `"abcd`},
		{"/v1/embeddings", `{"input":["abcd","ef"]}`, `pools items=2`, 3, 0, none},
		{"/v1/embeddings", `{"input":[1,2,3]}`, `pools items=1`, 3, 0, none},
		{"/v1/embeddings", `{"input":[[1,2,3],[4]]}`, `pools items=2`, 4, 0, none},
		{"/v1/embeddings", `{"messages":[{"role":"user","content":"x"}]}`, `pools items=1`, 8, 0, none},
		{"/v1/embeddings", `{"input":[{"text":"x"},{"image":"` + picture + `"}]}`, `pools items=2`, 128 + 4, 1, none},
		{"/v1/embeddings", `{"input":[{"text":"x"},{"image":"https://x.example/a.png"},{"text":"a shoe","image":"https://x.example/a.png"}]}`, `pools items=3`, 17 + openai.ImageTokens, 1, none},
		{"/v1/embeddings", `{"input":{"image":"` + picture + `"}}`, `pools items=1`, 128, 1, none},
		{"/v1/embeddings", `{"modality":"image","input":["http://x/a.png","` + picture + `"]}`, `pools items=2`, openai.ImageTokens + 128, 2, none},
		{"/v1/embeddings", `{"input":"","modality":"text"}`, `pools items=1`, 0, 0, none},
		{"/api/embeddings", `{"prompt":"abcd"}`, `pools items=1`, 2, 0, none},
		{"/v2/embed", `{"texts":["abcd","ef"],"input_type":"search_query"}`, `pools items=2`, 3, 0, none},
		{"/v2/embed", `{"images":["` + picture + `"]}`, `pools items=1`, 128, 1, none},
		{"/v2/embed", `{"inputs":[{"content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"` + picture + `"}}]}]}`, `pools items=1`, 128 + 11, 1, none},
		{"/embed", `{"inputs":"abcd"}`, `pools items=1`, 2, 0, `"abcd`},
		{"/embed_all", `{"inputs":["abcd","ef","g"]}`, `pools items=3`, 4, 0, none},
		{"/embed_sparse", `{"inputs":["abcd"]}`, `pools items=1`, 2, 0, none},
		{"/embedding", `{"content":"abcd"}`, `pools items=1`, 2, 0, none},
		{"/encode", `{"text":["abcd","ef"]}`, `pools items=2`, 3, 0, none},
		{"/predict", `{"inputs":[["a"],["b","c"]]}`, `pools items=2`, 3, 0, none},
		{"/classify", `{"input":["abcd","ef"]}`, `pools items=2`, 3, 0, none},
		{"/pooling", `{"messages":[{"role":"user","content":"x"}]}`, `pools items=1`, 8, 0, none},
		{"/v1/moderations", `{"input":"abcd"}`, `pools items=1`, 2, 0, none},

		{"/v1/rerank", `{"documents":["` + d3 + `","` + d3 + `"],"query":"` + q8 + `"}`, `pools items=2`, 2*8 + 6, 0,
			`"` + q8 + `|"` + d3 + `","` + d3},
		{"/rerank", `{"query":"` + q8 + `","texts":["` + d3 + `"]}`, `pools items=1`, 8 + 3, 0, none},
		{"/v2/rerank", `{"query":"` + q8 + `","documents":[{"text":"a"},{"text":"b"}]}`, `pools items=2`, 16 + 7, 0, none},
		{"/v1/rerank", `{"query":{"content":[{"type":"image_url","image_url":{"url":"` + picture + `"}}]},"documents":["a"]}`, `pools items=1`, 128 + 4 + 1, 1, none},
		{"/v1/rerank", `{"query":{"image":"` + picture + `"},"documents":["a","b","c"]}`, `pools items=3`, 3*128 + 3, 1, none},
		{"/v1/rerank", `{"query":"` + q8 + `","documents":[{"image":"https://x.example/a.png"},{"image_url":"https://x.example/a.png","text":"` + d3 + `"}]}`, `pools items=2`, 2*8 + 15 + openai.ImageTokens, 1, none},
		{"/v1/rerank", `{"query":"` + q8 + `","documents":{"content":[{"type":"image_url","image_url":{"url":"` + picture + `"}},{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]}}`,
			`pools items=2`, 2*8 + 128 + openai.ImageTokens + 4, 2, none},
		{"/score", `{"text_1":"` + q8 + `","text_2":{"content":"` + d3 + `"}}`, `pools items=1`, 8 + 6, 0, none},
		{"/v1/rerank", `{"query":"` + q8 + `","documents":[]}`, `pools`, 8, 0, none},
		{"/v1/rerank", `{"query":"` + q8 + `","documents":[1,2,3]}`, `pools items=1`, 8 + 3, 0, none},
		{"/v1/rerank", `{"query":5,"documents":"x"}`, `pools items=1`, 1, 0, none},
		{"/score", `{"text_1":"` + q8 + `","text_2":["` + d3 + `","` + d3 + `"]}`, `pools items=2`, 2*8 + 6, 0, none},
		{"/v1/score", `{"queries":["` + q8 + `","` + q8 + `"],"documents":["` + d3 + `","` + d3 + `"]}`, `pools items=2`, 16 + 6, 0, none},
		{"/v1/score", `{"query":[1,2,3],"items":[[4],[5,6]],"label_token_ids":[1]}`, `pools items=2`, 9, 0, none},
		{"/generative_scoring", `{"query":"` + q8 + `","items":["a","b"]}`, `pools items=2`, 16 + 2, 0, none},
		{"/similarity", `{"inputs":{"source_sentence":"` + q8 + `","sentences":["` + d3 + `","` + d3 + `"]}}`, `pools items=3`, 8 + 6, 0, none},
		{"/v1/decisions", `{"input":"abcd","questions":[{"type":"predicate"},{"type":"score"}]}`, `generates items=2 output=1`, 2 + 10, 0, none},
		{"/v1/systemone", `{"state":{"a":1},"questions":{"x":{"type":"noul"}}}`, `generates items=1 output=1`, 2 + 6, 0, none},

		{"/v1/images/generations", `{"prompt":"a cat","n":2,"size":"1024x512","num_inference_steps":20}`, `denoises items=2 steps=20 passes=40 latents=2048 pixels=1048576`, 2, 0, `"a cat`},
		{"/v1/images/generations", `{"prompt":"a cat","size":"auto"}`, `denoises items=1`, 2, 0, none},
		{"/v1/images/generations", `{"prompt":"a","width":512,"height":"256","steps":4,"guidance_scale":5}`, `denoises items=1 steps=4 runs=1 passes=4 latents=512 pixels=131072`, 1, 0, none},
		{"/v1/images/generations", `{"prompt":"a","steps":4,"guidance_scale":5,"negative_prompt":"dogs"}`, `denoises items=1 steps=4 runs=2 passes=8`, 1, 0, none},
		{"/v1/images/generations", `{"prompt":"a","steps":4,"guidance_scale":5,"negative_prompt":" ","true_cfg_scale":4}`, `denoises items=1 steps=4 runs=2 passes=8`, 1, 0, none},
		{"/v1/images/generations", `{"prompt":"a","steps":4,"guidance_scale":5,"negative_prompt":"dogs","true_cfg_scale":1}`, `denoises items=1 steps=4 runs=1 passes=4`, 1, 0, none},
		{"/v1/images/generations", `{"prompt":"a","steps":4,"guidance_scale":0}`, `denoises items=1 steps=4 runs=1 passes=4`, 1, 0, none},
		{"/v1/images/generations", `{"prompt":"a","width":9,"size":"32x16","height":9}`, `denoises items=1 latents=2 pixels=512`, 1, 0, none},
		{"/v1/images/generations", `{"prompt":"a","n":1000000,"size":"1000000000x1000000000","steps":-5}`, `denoises`, 1, 0, none},
		{"/v1/images/generations", `{"prompt":"a","n":1e999,"size":"abc","steps":"NaN"}`, `denoises`, 1, 0, none},
		{"/v1/images/generations", `{"prompt":"a","n":{},"size":["1x1"],"steps":true,"height":null}`, `denoises`, 1, 0, none},
		{"/v1/images/edits", `{"prompt":"a cat","images":[{"image_url":"http://x/y.png"},{"file_id":"f"}],"mask":{"image_url":"` + picture + `"}}`, `denoises items=1`, 2 + 2*openai.ImageTokens + 128, 3, none},
		{"/v1/images/edits", `{"image":[{"type":"image_url","image_url":{"url":"http://x/y.png","detail":"high"}}],"seed":7,"prompt":"a cat","mask":"http://x/m.png"}`, `denoises items=1`, 2 + 2*openai.ImageTokens, 2,
			`"a cat|http://x/y.png|http://x/m.png`},
		{"/v1/videos", `{"prompt":"a","seconds":"4","size":"832x480","num_inference_steps":40}`, `denoises items=1 steps=40 passes=40 latents=37440 pixels=38338560`, 1, 0, none},
		{"/v1/videos/sync", `{"prompt":"a","seconds":2,"fps":16,"size":"160x160"}`, `denoises items=1 latents=800 pixels=819200`, 1, 0, none},
		{"/v1/videos", `{"prompt":"a","num_frames":81,"seconds":4,"video_params":{"width":160,"height":160}}`, `denoises items=1 latents=2100 pixels=2073600`, 1, 0, none},
		{"/v1/videos", `{"prompt":"a","size":"160x160"}`, `denoises items=1`, 1, 0, none},
		{"/v1/videos", `{"prompt":"a","size":"160x160","num_frames":-1}`, `denoises items=1`, 1, 0, none},
		{"/v1/videos", `{"prompt":"a","image_reference":{"image_url":"` + picture + `"}}`, `denoises items=1`, 1 + 128, 1, none},
		{"/v1/videos/v/remix", `{"prompt":"abcdef"}`, `denoises items=1`, 2, 0, none},
		{"/v1/meshes", `{"input_image":"` + picture + `","num_inference_steps":5}`, `denoises items=1 steps=5 passes=5`, 128, 1, none},
		{"/v1/actions/generations", `{"observation":{}}`, `denoises items=1`, 0, 0, none},
		{"/v1/chat/completions", `{"messages":[{"content":"x"}],"extra_body":{"num_inference_steps":5,"size":"32x32"}}`, `denoises items=1 steps=5 passes=5 latents=4 pixels=1024`, 4, 0, none},
		{"/v1/chat/completions", `{"messages":[{"content":"x"}],"num_inference_steps":5,"n":2}`, `denoises items=2 steps=5 passes=10`, 4, 0, none},
		{"/v1/chat/completions", `{"messages":[{"content":"x"}],"extra_body":{"top_k":5}}`, `generates`, 4, 0, none},
		{"/v1/chat/completions", `{"messages":[{"content":"x"}],"extra_body":7,"num_inference_steps":"x"}`, `generates`, 4, 0, none},

		{"/v1/audio/speech", `{"input":"` + strings.Repeat("x", 150) + `","voice":"a"}`, `generates output=250`, 38, 0, none},
		{"/v1/audio/speech", `{"input":"` + strings.Repeat("x", 150) + `","speed":2}`, `generates output=125`, 38, 0, none},
		{"/v1/audio/speech", `{"input":"` + strings.Repeat(`\u4f60`, 50) + `","speed":1e9}`, `generates`, 76, 0, none},
		{"/v1/audio/speech", `{"input":""}`, `generates`, 0, 0, none},
	}
	for _, tt := range tests {
		api := openai.APIOf(tt.path)
		req := types.Request{Model: "old", Work: types.Work{Kind: types.Converses, Items: 7, Output: 7}}
		p, err := openai.Parse(api, "application/json", []byte(tt.body), &req, openai.Limits{ModelOptional: true})
		require.NoError(t, err, "%s %s", tt.path, tt.body)
		require.Equal(t, api, p.API)
		name := fmt.Sprintf("%s %.200s", tt.path, tt.body)
		if got := said(req.Work); got != tt.work {
			t.Errorf("%s\n gives %s, want %s", name, got, tt.work)
		}
		if p := req.Prompt; p.Tokens != tt.tokens || p.Images != tt.images {
			t.Errorf("%s\n has %d tokens and %d images, want %d and %d", name, p.Tokens, p.Images, tt.tokens, tt.images)
		}
		if tt.spans != none {
			var spans []string
			for _, s := range req.Prompt.Spans {
				spans = append(spans, tt.body[s.Start:s.End])
			}
			require.Equal(t, tt.spans, strings.Join(spans, "|"), name)
		}
		if target := p.SpliceModel(nil, []byte(tt.body), "m"); api != openai.Other {
			var named struct{ Model string }
			require.NoError(t, json.Unmarshal(target, &named))
			require.Equal(t, "m", named.Model, name)
		}
	}
}

// said writes what of a Work is known.
func said(w types.Work) string {
	s := w.Kind.String()
	add := func(name string, v float64) {
		if v != 0 {
			s += fmt.Sprintf(" %s=%.0f", name, v)
		}
	}
	add("items", float64(w.Items))
	add("output", float64(w.Output))
	add("seconds", w.AudioSeconds.Or(0))
	add("steps", w.Denoise.Steps)
	add("runs", w.Denoise.Runs)
	add("passes", w.Denoise.Passes)
	add("latents", w.Denoise.Latents)
	add("pixels", w.Denoise.Pixels)
	return s
}

// TestLenient: of APIs that many engines have in forms of their own no body is refused, and what they are stays.
func TestLenient(t *testing.T) {
	for _, path := range []string{"/rerank", "/score", "/embed", "/predict", "/v1/videos", "/v1/decisions", "/v1/realtime"} {
		api := openai.APIOf(path)
		for _, body := range []string{"", "\x82\xa5", "[1]", "{", `{"model":7}`, `{"stream":"x","model":"m"}`, `{"input":{"a":1}}`, strings.Repeat("[", 1000)} {
			for _, contentType := range []string{"application/json", "application/msgpack", formType, "multipart/form-data"} {
				var req types.Request
				p, err := openai.Parse(api, contentType, []byte(body), &req, openai.Limits{})
				require.NoError(t, err, "%s %q", path, body)
				require.Equal(t, api, p.API)
				require.Equal(t, api.Kind(), req.Work.Kind, "%s %q", path, body)
				if strings.Contains(body, `"m"`) && contentType[0] == 'a' {
					require.Equal(t, "m", req.Model)
				}
			}
		}
	}
	// One that cannot be read is refused if somebody else may read a model's name in it.
	for _, body := range []string{`{"model":"m","query":"q","x":NaN}`, `{"mo\u0064el":"m","x":01}`, `{"model":"m"`, "--Y\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--Y--", `{"model":"m","x":"` + strings.Repeat("x", 100) + `"}`} {
		for _, path := range []string{"/rerank", "/score", "/embed", "/v1/videos", "/v1/decisions"} {
			for _, contentType := range []string{"application/json", formType, "multipart/form-data; boundary=a=b"} {
				req := types.Request{Model: "old"}
				_, err := openai.Parse(openai.APIOf(path), contentType, []byte(body), &req, openai.Limits{MaxBytes: 100})
				require.Error(t, err, "%s %s %q", path, contentType, body)
				require.Equal(t, types.Request{Model: "old"}, req)
			}
		}
	}
	var req types.Request
	p, err := openai.Parse(openai.Rerank, "", []byte(`{"query":"a"}`), &req, openai.Limits{})
	require.NoError(t, err, "without a model")
	require.Equal(t, `{"model":"m","query":"a"}`, string(p.SpliceModel(nil, []byte(`{"query":"a"}`), "m")))
}

// TestFormWork: what forms ask for.
func TestFormWork(t *testing.T) {
	form := func(fields ...string) string {
		var b strings.Builder
		for _, f := range fields {
			name, value, _ := strings.Cut(f, "=")
			b.WriteString("--XX\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n")
		}
		return b.String() + "--XX--\r\n"
	}
	file := func(name, contentType string) string {
		return "--XX\r\nContent-Type: " + contentType + "\r\nContent-Disposition: form-data; name=\"" + name + "\"; filename=\"a\"\r\n\r\nsize\r\n"
	}
	tests := []struct {
		path, body, work string
		images, audio    int
	}{
		{"/v1/images/edits", file("image[]", "image/png") + file("mask", "image/png") + form("prompt=a cat", "n=2", "size=512x512", "num_inference_steps=10", "model=m"),
			`denoises items=2 steps=10 passes=20 latents=1024 pixels=524288`, 2, 0},
		{"/v1/images/edits", form("url[]=http://x/a.png", "url[]=", "prompt=a cat"), `denoises items=1`, 1, 0},
		{"/v1/images/variations", file("image", "") + form("n=1000000", "size=x"), `denoises`, 1, 0},
		{"/v1/videos", form("prompt=a cat", "seconds=4", "size=160x160", "fps=10", "true_cfg_scale=3", "num_inference_steps=2"),
			`denoises items=1 steps=2 runs=2 passes=4 latents=1000 pixels=1024000`, 0, 0},
		{"/v1/videos", file("input_reference", "image/jpeg") + form("prompt=a cat", "model=m"), `denoises items=1`, 1, 0},
		{"/v1/meshes", file("image", "image/jpeg") + form(), `denoises items=1`, 1, 0},
		{"/v1/audio/transcriptions", file("file", "video/mp4") + form("prompt=names", "language=en"), `generates`, 0, 1},
	}
	for _, tt := range tests {
		var req types.Request
		p, err := openai.Parse(openai.APIOf(tt.path), formType, []byte(tt.body), &req, openai.Limits{ModelOptional: true})
		require.NoError(t, err)
		require.True(t, p.Form)
		require.Equal(t, tt.work, said(req.Work), tt.path)
		require.Equal(t, []int{tt.images, tt.audio}, []int{req.Prompt.Images, req.Prompt.Audio}, tt.path)
		if i := strings.Index(tt.body, "a cat"); i >= 0 {
			require.Equal(t, []types.Span{{Start: i, End: i + 5}}, req.Prompt.Spans)
		}
		require.Contains(t, string(p.SpliceModel(nil, []byte(tt.body), "other")), "name=\"model\"\r\n\r\nother\r\n")
	}
}

// TestFormMedia: the files of a form are looked at, and equal ones are the same.
func TestFormMedia(t *testing.T) {
	parse := func(path, contentType string, files ...string) types.Request {
		var b strings.Builder
		for _, name := range files {
			data, err := os.ReadFile("../internal/media/testdata/files/" + name)
			require.NoError(t, err)
			b.WriteString("--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: " + contentType + "\r\n\r\n" + string(data) + "\r\n")
		}
		var req types.Request
		_, err := openai.Parse(openai.APIOf(path), formType, []byte(b.String()+"--XX--"), &req, openai.Limits{ModelOptional: true})
		require.NoError(t, err)
		return req
	}
	req := parse("/v1/audio/transcriptions", "audio/wav", "wav-0.25s.wav")
	require.Equal(t, "generates output=1 seconds=0", said(req.Work))
	require.Equal(t, types.Known(0.25), req.Work.AudioSeconds)
	m := req.Prompt.Media[0]
	require.Equal(t, []any{types.Audio, 0.25, false, req.Prompt.Tokens}, []any{m.Kind, m.Seconds, m.Guessed, m.Tokens})
	req = parse("/v1/audio/translations", "application/octet-stream", "flac-3s.flac")
	require.Equal(t, "generates output=12 seconds=3", said(req.Work))
	req = parse("/v1/audio/transcriptions", "video/mp4", "film-66x34-1s.mp4", "png-rgb-37x23.png")
	require.Equal(t, "generates", said(req.Work), "not all of it is known")

	req = parse("/v1/images/edits", "image/png", "png-rgb-37x23.png", "jpeg-320x240.jpg", "png-rgb-37x23.png")
	media := req.Prompt.Media
	require.Len(t, media, 3)
	require.Equal(t, []int{37, 23, 320, 240}, []int{media[0].Width, media[0].Height, media[1].Width, media[1].Height})
	require.NotZero(t, media[0].Key)
	require.Equal(t, media[0].Key, media[2].Key)
	require.NotEqual(t, media[0].Key, media[1].Key)
	require.Equal(t, media[0].Tokens+media[1].Tokens+media[2].Tokens, req.Prompt.Tokens)
	many := make([]string, 300)
	for i := range many {
		many[i] = "png-alpha-1x200.png"
	}
	req = parse("/v1/videos", "image/png", many...)
	require.Equal(t, []int{300, 256}, []int{req.Prompt.Images, len(req.Prompt.Media)})
	req = parse("/v1/videos", "Video/mp4", "film-66x34-1s.mp4")
	require.Equal(t, types.Video, req.Prompt.Media[0].Kind)
}

// TestCompleteWork: what is said goes with what a model does otherwise.
func TestCompleteWork(t *testing.T) {
	families, err := openai.NewFamilies(openai.Family{Models: []string{"m"}, Diffusion: openai.DiffusionRule{Steps: 40, Passes: 2}})
	require.NoError(t, err)
	for body, passes := range map[string]float64{
		`{"n":3}`: 3 * 40 * 2, `{"steps":10}`: 10 * 2, `{"steps":10,"true_cfg_scale":1}`: 10, `{"true_cfg_scale":1}`: 40,
		`{"steps":10,"n":2,"true_cfg_scale":4}`: 2 * 10 * 2, `{"steps":0}`: 40 * 2,
	} {
		var req types.Request
		_, err := openai.Parse(openai.ImageGenerations, "", []byte(body), &req, openai.Limits{ModelOptional: true})
		require.NoError(t, err)
		families.Of("m").Complete(&req.Work, false)
		require.Equal(t, passes, req.Work.Denoise.Passes, body)
	}
}

// FuzzWork: whatever a body has in it, what is read of it is finite and bounded, and not negative.
func FuzzWork(f *testing.F) {
	for _, body := range []string{
		`{"prompt":"a","n":1e308,"size":"16384x16384","num_inference_steps":1000,"true_cfg_scale":2,"num_frames":10000}`,
		`{"query":"a","documents":["b",{"text":"c"},[1,2]],"inputs":{"inputs":{},"sentences":[[]]}}`,
		`{"input":[[1],"x",{"image":"y"}],"modality":"image","speed":0.0001,"questions":{"a":{}}}`,
		"--XX\r\nContent-Disposition: form-data; name=n\r\n\r\n1\r\n--XX--",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for api := openai.Other; api <= openai.Realtime; api++ {
			for _, contentType := range []string{"", formType} {
				var req types.Request
				if _, err := openai.Parse(api, contentType, body, &req, openai.Limits{ModelOptional: true}); err != nil {
					continue
				}
				w := req.Work
				for _, v := range []float64{w.Denoise.Passes, w.Denoise.Latents, w.Denoise.Pixels, w.Denoise.Steps, w.Denoise.Runs, w.AudioSeconds.Or(0)} {
					if !(v >= 0 && v < 1e16) || math.IsInf(v, 0) {
						t.Fatalf("%v: %+v", api, w)
					}
				}
				if w.Items < 0 || w.Items > max(len(body), 128) || w.Output < 0 || w.Output > 1<<20 || req.Prompt.Tokens < 0 {
					t.Fatalf("%v: %+v, %d tokens", api, w, req.Prompt.Tokens)
				}
				for _, s := range req.Prompt.Spans {
					if s.Start < 0 || s.Start >= s.End || s.End > len(body) {
						t.Fatalf("%v: span %v", api, s)
					}
				}
			}
		}
	})
}
