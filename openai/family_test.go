package openai_test

import (
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func familyOf(t *testing.T, json string) *openai.Family {
	t.Helper()
	table, err := openai.ParseFamilies([]byte(`{"families":[{"models":["m"],` + json + `}]}`))
	require.NoError(t, err)
	return table.Of("m")
}

func TestImageRules(t *testing.T) {
	tests := []struct {
		rule          string
		width, height int
		want          int
	}{
		{`"area"`, 1024, 1024, 1024},
		{`"area"`, 1920, 1080, 2025},
		{`"area"`, 8000, 8000, 4096},
		{`"area"`, 1, 1, 1},
		{`"fixed","tokens":77`, 640, 480, 77},
		{`"qwen2-vl"`, 1024, 1024, 1369},
		{`"qwen2-vl","maxPixels":1003520`, 1024, 1024, 1225},
		{`"qwen2.5-vl","minPixels":200704,"maxPixels":1003520`, 1024, 1024, 1225},
		{`"qwen2.5-vl"`, 28, 28, 4}, // grows to 56 x 56
		{`"qwen2.5-vl"`, 70, 42, 4}, // 2.5 and 1.5, to the even one: 2 x 2
		{`"qwen2-vl"`, 8192, 8192, 16384},
		{`"qwen2-vl"`, 13, 363, 11}, // narrower than half a square
		{`"qwen3-vl"`, 1024, 1024, 1024},
		{`"qwen3-vl"`, 100, 100, 64},
		{`"qwen3-vl"`, 16384, 16384, 16384},
		{`"pixtral"`, 200, 150, 130},
		{`"pixtral","breaks":true`, 200, 150, 140},
		{`"pixtral"`, 2048, 1024, 64 * 32},
		{`"pixtral","patch":14,"merge":2,"maxSide":1540`, 1540, 1540, 55 * 55},
		{`"llama4"`, 336, 336, 144},
		{`"llama4"`, 200, 200, 144},
		{`"llama4"`, 672, 672, 724},
		{`"llama4"`, 672, 336, 3*144 + 2},
		{`"llama4"`, 4000, 4000, 17*144 + 16},
		{`"internvl"`, 448, 448, 256},
		{`"internvl"`, 1344, 1792, 3328}, // 3 x 4 and all of it
		{`"internvl"`, 896, 448, 3 * 256},
		{`"internvl"`, 1000, 1000, 10 * 256}, // 3 x 3, since it covers more than half of them
		{`"internvl","maxTiles":6`, 4000, 4000, 5 * 256},
		{`"llava-1.5"`, 4000, 300, 576},
		{`"llava-next"`, 672, 672, 576 + 48*48 + 48},
		{`"llava-next"`, 336, 672, 576 + 48*24 + 48},
		{`"llava-next"`, 1000, 500, 576 + 24*48 + 24},
		{`"phi4-mm"`, 448, 448, 256 + 1 + 16*16 + 16 + 16},
		{`"phi4-mm"`, 896, 448, 256 + 1 + 32*16 + 16 + 16},
		{`"phi4-mm"`, 800, 448, 256 + 1 + 29*16 + 16 + 16}, // 96 pixels of padding: 6 patches
		{`"gemma3"`, 4000, 300, 256},
		{`"openai-4o"`, 1024, 1024, 765},
		{`"openai-4o"`, 2048, 4096, 1105},
		{`"openai-4o"`, 512, 512, 255},
		{`"openai-patches"`, 1024, 1024, 1024},
		{`"openai-patches"`, 1800, 2400, 1452},
		{`"openai-patches","factor":2.46`, 1024, 1024, 2520},
	}
	for _, tt := range tests {
		p := types.Prompt{Tokens: 10, Media: []types.Media{{Kind: types.Image, Width: tt.width, Height: tt.height}, {Kind: types.OtherMedia}}}
		familyOf(t, `"image":{"rule":`+tt.rule+`}`).Apply(&p)
		require.Equal(t, tt.want, p.Media[0].Tokens, "%s %dx%d", tt.rule, tt.width, tt.height)
		require.False(t, p.Media[0].Guessed)
		require.Equal(t, 10+tt.want+openai.OtherTokens, p.Tokens)
	}
	low := types.Prompt{Media: []types.Media{{Kind: types.Image, LowDetail: true, Width: 4096, Height: 8192}, {Kind: types.Image, LowDetail: true}, {Kind: types.Image}}}
	familyOf(t, `"image":{"rule":"openai-4o"}`).Apply(&low)
	require.Equal(t, []int{85, 85, 765}, []int{low.Media[0].Tokens, low.Media[1].Tokens, low.Media[2].Tokens})
	require.Equal(t, 85+85+765, low.Tokens)
	require.False(t, low.Media[1].Guessed)
	require.True(t, low.Media[2].Guessed)
}

// Sides of any length give a number, and one that does not fall much as a picture grows.
func TestImageRulesAreBounded(t *testing.T) {
	for _, rule := range []string{"area", "fixed", "qwen2-vl", "qwen3-vl", "pixtral", "llama4", "internvl", "llava-next", "phi4-mm", "openai-4o", "openai-patches"} {
		f := familyOf(t, `"image":{"rule":"`+rule+`"}`)
		for _, w := range []int{1, 2, 13, 448, 1023, 65535} {
			for _, h := range []int{1, 7, 449, 2000, 65535} {
				p := types.Prompt{Media: []types.Media{{Kind: types.Image, Width: w, Height: h}}}
				f.Apply(&p)
				require.Equal(t, p.Tokens, p.Media[0].Tokens)
				require.Positive(t, p.Tokens)
				require.Less(t, p.Tokens, 60_000, "%s %dx%d", rule, w, h)
			}
		}
	}
}

func TestVideoAndAudioRules(t *testing.T) {
	const qwen3 = `"image":{"rule":"qwen3-vl"},"video":{"fps":2,"minFrames":4,"maxFrames":768,"minPixels":4096,"maxPixels":25165824}`
	tests := []struct {
		name, family string
		media        types.Media
		want         int
		guessed      bool
	}{
		{"default, all unknown", ``, types.Media{Kind: types.Video}, openai.VideoTokens, true},
		{"default", ``, types.Media{Kind: types.Video, Seconds: 5, Width: 640, Height: 640}, 5 * 400, false},
		{"default, short", ``, types.Media{Kind: types.Video, Seconds: 0.1, Width: 640, Height: 640}, 2 * 400, false},
		{"default, long", ``, types.Media{Kind: types.Video, Seconds: 5000, Width: 640, Height: 640}, 32768, false},
		{"frames that the client says", ``, types.Media{Kind: types.Video, Seconds: 5, Frames: 3, Width: 640, Height: 640}, 2 * 400, false},
		{"one frame a second", `"video":{"fps":1,"temporal":1,"frameTokens":256,"maxFrames":32}`, types.Media{Kind: types.Video, Seconds: 7.9}, 7 * 256, false},
		{"qwen3", qwen3, types.Media{Kind: types.Video, Seconds: 10, Width: 640, Height: 480}, 10 * 20 * 15, false},
		// 768 frames, of 32768 pixels each: 224 x 128
		{"qwen3, an hour", qwen3, types.Media{Kind: types.Video, Seconds: 3600, Width: 1280, Height: 720}, 384 * 7 * 4, false},
		{"audio of unknown length", ``, types.Media{Kind: types.Audio}, openai.AudioTokens, true},
		{"qwen2-audio", `"audio":{"tokensPerSecond":25}`, types.Media{Kind: types.Audio, Seconds: 30}, 750, false},
		{"qwen3-omni", `"audio":{"tokensPerSecond":13}`, types.Media{Kind: types.Audio, Seconds: 10.1}, 132, false},
		{"whisper", `"audio":{"tokensPerSecond":50,"windowSeconds":30}`, types.Media{Kind: types.Audio, Seconds: 31}, 3000, false},
		{"a day", ``, types.Media{Kind: types.Audio, Seconds: 86400}, 32768, false},
	}
	for _, tt := range tests {
		p := types.Prompt{Media: []types.Media{tt.media}}
		familyOf(t, strings.TrimPrefix(tt.family+`,"diffusion":{}`, ",")).Apply(&p)
		require.Equal(t, tt.want, p.Tokens, tt.name)
		require.Equal(t, tt.guessed, p.Media[0].Guessed, tt.name)
	}
}

func TestComplete(t *testing.T) {
	f := familyOf(t, `"diffusion":{"steps":28,"passes":2,"size":"512x256","videoSize":"832x480","frames":81}`)
	tests := []struct {
		name string
		work types.Work
		film bool
		want types.Denoise
	}{
		{"a text", types.Work{Items: 3}, false, types.Denoise{}},
		{"a picture", types.Work{Kind: types.Denoises}, false, types.Denoise{Passes: 56, Latents: 512, Pixels: 512 * 256}},
		{"three", types.Work{Kind: types.Denoises, Items: 3}, false, types.Denoise{Passes: 168, Latents: 512, Pixels: 3 * 512 * 256}},
		{"steps are known", types.Work{Kind: types.Denoises, Items: 3, Denoise: types.Denoise{Steps: 4, Passes: 12}}, false, types.Denoise{Steps: 4, Passes: 24, Latents: 512, Pixels: 3 * 512 * 256}},
		{"runs are known", types.Work{Kind: types.Denoises, Denoise: types.Denoise{Runs: 1}}, false, types.Denoise{Runs: 1, Passes: 28, Latents: 512, Pixels: 512 * 256}},
		{"passes are known", types.Work{Kind: types.Denoises, Items: 3, Denoise: types.Denoise{Passes: 12}}, false, types.Denoise{Passes: 12, Latents: 512, Pixels: 3 * 512 * 256}},
		{"all is known", types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: 1, Latents: 2, Pixels: 3}}, true, types.Denoise{Passes: 1, Latents: 2, Pixels: 3}},
		{"a film", types.Work{Kind: types.Denoises}, true, types.Denoise{Passes: 56, Latents: 52 * 30 * 21, Pixels: 832 * 480 * 81}},
	}
	for _, tt := range tests {
		f.Complete(&tt.work, tt.film)
		require.Equal(t, tt.want, tt.work.Denoise, tt.name)
	}
}

func TestFamilies(t *testing.T) {
	table, err := openai.ParseFamilies([]byte(`{"families":[
		{"models":["acme/eye-*","EYE"],"image":{"rule":"fixed","tokens":1}},
		{"models":["acme/eye-large*"],"image":{"rule":"fixed","tokens":2}},
		{"models":["acme/eye-large-2"],"image":{"rule":"fixed","tokens":3}},
		{"models":["qwen2-vl-mine"],"image":{"rule":"fixed","tokens":4}}
	]}`))
	require.NoError(t, err)
	tests := []struct {
		names []string
		want  int
	}{
		{[]string{"acme/eye-small"}, 1},
		{[]string{"Acme/Eye-Small"}, 1},
		{[]string{"eye-small"}, 1024}, // a pattern with a slash is for the whole name
		{[]string{"other/eye"}, 1},
		{[]string{"eyes"}, 1024},
		{[]string{"acme/eye-large-1"}, 2},
		{[]string{"acme/eye-large-2"}, 3},
		{[]string{"x", "acme/eye-large-2"}, 3},
		{[]string{"Qwen/Qwen2-VL-7B-Instruct"}, 1369},
		{[]string{"/models/Qwen2-VL-7B-Instruct"}, 1369},
		{[]string{"Qwen/Qwen2-VL-mine"}, 4},
		{[]string{"Qwen/Qwen2-VL-7B-Instruct", "acme/eye-large-2"}, 3}, // the table goes before what is known
		{[]string{"meta-llama/Llama-4-Scout-17B-16E-Instruct"}, 144*17 + 16},
		{[]string{"", "a"}, 1024},
		{nil, 1024},
	}
	for _, tt := range tests {
		p := types.Prompt{Media: []types.Media{{Kind: types.Image, Width: 1024, Height: 1024}}}
		table.Of(tt.names...).Apply(&p)
		require.Equal(t, tt.want, p.Tokens, tt.names)
	}
	var none *openai.Families
	p := types.Prompt{Media: []types.Media{{Kind: types.Image, Width: 1024, Height: 1024}}}
	none.Of("qwen3-vl-8b").Apply(&p)
	require.Equal(t, 1024, p.Tokens)
	for _, f := range openai.KnownFamilies() {
		require.NotEmpty(t, f.Models)
		_, err := openai.NewFamilies(f)
		require.NoError(t, err, f.Models)
	}
}

func TestParseFamiliesErrors(t *testing.T) {
	tests := []struct{ json, want string }{
		{`{"families":[{"image":{"rule":"fixed"}}]}`, `families[0].models is required`},
		{`{"families":[{"models":["a"],"image":{"rule":"qwen"}}]}`, `families[0].image.rule is "qwen", which is unknown`},
		{`{"families":[{"models":["a"],"image":{"rule":"fixed","patch":14}}]}`, `families[0].image.patch is 14, want nothing, because rule fixed has none`},
		{`{"families":[{"models":["a"],"image":{"rule":"qwen3-vl","minPixels":70000,"maxPixels":60000}}]}`, `maxPixels is 60000, want at least minPixels`},
		{`{"families":[{"models":["a"],"image":{"patch":-1}}]}`, `families[0].image.patch is -1, want 1 to 4096`},
		{`{"families":[{"models":["a"],"image":{"breaks":true}}]}`, `families[0].image.breaks is true`},
		{`{"families":[{"models":["a"],"image":{"size":"10x"}}]}`, `families[0].image.size is "10x", want width and height in pixels such as "1024x768"`},
		{`{"families":[{"models":["a"],"image":{"size":"10x99999"}}]}`, `each 1 to 32768`},
		{`{"families":[{"models":["a"],"video":{"fps":-1}}]}`, `families[0].video.fps is -1`},
		{`{"families":[{"models":["a"],"video":{"minFrames":9,"maxFrames":8}}]}`, `families[0].video.maxFrames is 8, want 9 to 100000`},
		{`{"families":[{"models":["a"],"audio":{"tokensPerSecond":1e9}}]}`, `families[0].audio.tokensPerSecond is 1000000000, want 0.001 to 10000`},
		{`{"families":[{"models":["a"],"diffusion":{"steps":-1}}]}`, `families[0].diffusion.steps is -1`},
		{`{"families":[{"models":["a*b"]}]}`, `families[0].models[0] is "a*b", want a name with a * at its end`},
		{`{"families":[{"models":["a","A"]}]}`, `families[0].models[1] is "A", want each name once`},
		{`{"families":[{"models":[""]}]}`, `families[0].models[0] is empty`},
		{`{"families":[{"model":["a"]}]}`, `model`},
		{`{"families":`, `openai`},
		{`[]`, `object`},
	}
	for _, tt := range tests {
		_, err := openai.ParseFamilies([]byte(tt.json))
		require.ErrorContains(t, err, tt.want, tt.json)
	}
}

func FuzzParseFamilies(f *testing.F) {
	f.Add([]byte(`{"families":[{"models":["a*"],"image":{"rule":"qwen2-vl","maxPixels":1003520},"video":{"size":"1x1"},"audio":{"seconds":3}}]}`))
	f.Add([]byte(`{"families":[{"models":["a"],"image":{"rule":"llava-next","tile":3,"patch":4096},"diffusion":{"frames":3}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := openai.ParseFamilies(data)
		if err != nil {
			return
		}
		p := types.Prompt{Media: []types.Media{{Kind: types.Image}, {Kind: types.Image, Width: 65535, Height: 400}, {Kind: types.Audio, Seconds: 86400}, {Kind: types.Video, Seconds: 86400, Width: 400, Height: 65535}}}
		for _, name := range []string{"a", "b"} {
			table.Of(name).Apply(&p)
			sum := 0
			for _, m := range p.Media {
				if sum += m.Tokens; m.Tokens < 1 || m.Tokens > 1<<20 {
					t.Fatalf("%+v", p)
				}
			}
			if sum != p.Tokens {
				t.Fatalf("%+v", p)
			}
			w := types.Work{Kind: types.Denoises}
			table.Of(name).Complete(&w, true)
			if !w.Denoise.Known() {
				t.Fatalf("%+v", w)
			}
		}
	})
}
