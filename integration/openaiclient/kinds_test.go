//lint:file-ignore SA1019 servers go on offering what the client calls deprecated

package openaiclient_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"image"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
)

func dataURL(kind string, data []byte) string {
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(data)
}

// A picture counts by its size, and a sound by its length.
func TestChatWithParts(t *testing.T) {
	ask := func(parts ...openai.ChatCompletionContentPartUnionParam) openai.CompletionUsage {
		t.Helper()
		got, err := client.Chat.Completions.New(testContext(t), openai.ChatCompletionNewParams{
			Model: model, MaxTokens: openai.Int(4),
			Messages: []openai.ChatCompletionMessageParamUnion{
				openai.UserMessage(append([]openai.ChatCompletionContentPartUnionParam{openai.TextContentPart("What is this?")}, parts...)),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return got.Usage
	}
	url := func(width, height int) openai.ChatCompletionContentPartUnionParam {
		return openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: dataURL("image/png", picture(t, width, height))})
	}
	text := ask().PromptTokens
	for side, want := range map[int]int64{64: 4, 320: 100} {
		if got := ask(url(side, side)).PromptTokens - text; got != want {
			t.Errorf("a picture of %d x %[1]d counts %d tokens, want %d", side, got, want)
		}
	}
	usage := ask(openai.InputAudioContentPart(openai.ChatCompletionContentPartInputAudioInputAudioParam{
		Data: base64.StdEncoding.EncodeToString(sound(2)), Format: "wav",
	}))
	if usage.PromptTokensDetails.AudioTokens != 50 || usage.PromptTokens != text+50 {
		t.Errorf("two seconds of sound: %s", usage.RawJSON())
	}
}

func TestEmbeddingsOfTokens(t *testing.T) {
	for _, format := range []openai.EmbeddingNewParamsEncodingFormat{openai.EmbeddingNewParamsEncodingFormatFloat, openai.EmbeddingNewParamsEncodingFormatBase64} {
		params := openai.EmbeddingNewParams{
			Model: model, Dimensions: openai.Int(8), EncodingFormat: format,
			Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfTokenArrays: [][]int64{{1, 2, 3}, {4, 5}}},
		}
		var got struct {
			Data  []struct{ Embedding any }
			Usage struct {
				Prompt int `json:"prompt_tokens"`
			}
		}
		if err := client.Post(testContext(t), "embeddings", params, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Data) != 2 || got.Usage.Prompt != 5 {
			t.Fatalf("%s: %+v", format, got)
		}
		if text, ok := got.Data[0].Embedding.(string); ok {
			raw, err := base64.StdEncoding.DecodeString(text)
			if err != nil || len(raw) != 8*4 || format != openai.EmbeddingNewParamsEncodingFormatBase64 {
				t.Errorf("%s: %q", format, text)
			}
		} else if v, _ := got.Data[0].Embedding.([]any); len(v) != 8 {
			t.Errorf("%s: %v", format, got.Data[0].Embedding)
		}
	}
}

func TestImages(t *testing.T) {
	ctx := testContext(t)
	got, err := client.Images.Generate(ctx, openai.ImageGenerateParams{Prompt: "A ship", Model: model, N: openai.Int(2), Size: openai.ImageGenerateParamsSize256x256})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Data) != 2 || got.Usage.OutputTokens == 0 {
		t.Fatalf("images = %+v", got)
	}
	if c := decoded(t, got.Data[1].B64JSON); c.Width != 256 || c.Height != 256 {
		t.Errorf("the picture has %d x %d", c.Width, c.Height)
	}
	edited, err := client.Images.Edit(ctx, openai.ImageEditParams{
		Prompt: "By night", Model: model, Size: "512x256",
		Image: openai.ImageEditParamsImageUnion{OfFileArray: []io.Reader{
			upload("a.png", "image/png", picture(t, 128, 64)), upload("b.png", "image/png", picture(t, 64, 64)),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := decoded(t, edited.Data[0].B64JSON); c.Width != 512 || c.Height != 256 || edited.Usage.InputTokensDetails.ImageTokens == 0 {
		t.Errorf("the edit has %d x %d, usage %+v", c.Width, c.Height, edited.Usage)
	}
	varied, err := client.Images.NewVariation(ctx, openai.ImageNewVariationParams{
		Model: model, Size: openai.ImageNewVariationParamsSize256x256, Image: upload("a.png", "image/png", picture(t, 256, 256)),
	})
	if err != nil || len(varied.Data) != 1 {
		t.Errorf("variation: %+v, %v", varied, err)
	}
	stream := client.Images.GenerateStreaming(ctx, openai.ImageGenerateParams{Prompt: "A ship", Model: model, Size: openai.ImageGenerateParamsSize256x256, PartialImages: openai.Int(2)})
	var events []string
	for stream.Next() {
		events = append(events, stream.Current().Type)
	}
	if err := stream.Err(); err != nil || strings.Join(events, " ") !=
		"image_generation.partial_image image_generation.partial_image image_generation.completed" {
		t.Errorf("the stream gave %q, %v", events, err)
	}
	if _, err := client.Images.Generate(ctx, openai.ImageGenerateParams{Prompt: "A ship", Model: model, N: openai.Int(11)}); status(err) != 400 {
		t.Errorf("eleven pictures: %v, want 400", err)
	}
}

func TestAudio(t *testing.T) {
	ctx := testContext(t)
	params := func() openai.AudioTranscriptionNewParams {
		return openai.AudioTranscriptionNewParams{Model: model, File: upload("a.wav", "audio/wav", sound(4))}
	}
	got, err := client.Audio.Transcriptions.New(ctx, params())
	if err != nil {
		t.Fatal(err)
	}
	if got.Text == "" || got.Usage.Seconds != 4 {
		t.Errorf("transcription = %s", got.RawJSON())
	}
	stream := client.Audio.Transcriptions.NewStreaming(ctx, params())
	text, whole := "", ""
	for stream.Next() {
		e := stream.Current()
		text += e.Delta
		if e.Type == "transcript.text.done" {
			whole = e.Text
		}
	}
	if stream.Err() != nil || strings.TrimSpace(text) != got.Text || whole != got.Text {
		t.Errorf("the stream gave %q and %q, %v, want %q", text, whole, stream.Err(), got.Text)
	}
	verbose := params()
	verbose.ResponseFormat = openai.AudioResponseFormatVerboseJSON
	if got, err := client.Audio.Transcriptions.New(ctx, verbose); err != nil || got.Duration != 4 || len(got.Segments) != 1 {
		t.Errorf("verbose: %s, %v", got.RawJSON(), err)
	}
	if got, err := client.Audio.Translations.New(ctx, openai.AudioTranslationNewParams{Model: model, File: upload("a.wav", "audio/wav", sound(4))}); err != nil || got.Text == "" {
		t.Errorf("translation: %+v, %v", got, err)
	}
	speech := func(format openai.AudioSpeechNewParamsResponseFormat, stream openai.AudioSpeechNewParamsStreamFormat) []byte {
		t.Helper()
		resp, err := client.Audio.Speech.New(ctx, openai.AudioSpeechNewParams{
			Model: model, Input: "The sea is wide.", Voice: openai.AudioSpeechNewParamsVoiceUnion{OfString: openai.String("alloy")},
			ResponseFormat: format, StreamFormat: stream,
		})
		return body(t, resp, err)
	}
	if got := speech("wav", ""); !bytes.HasPrefix(got, []byte("RIFF")) || len(got) < 24000 {
		t.Errorf("the speech is %d bytes, %.8q", len(got), got)
	}
	if got := speech("mp3", "sse"); bytes.Count(got, []byte("speech.audio.delta")) < 10 || !bytes.Contains(got, []byte("speech.audio.done")) {
		t.Errorf("the speech as events: %.300s", got)
	}
}

func TestModerations(t *testing.T) {
	got, err := client.Moderations.New(testContext(t), openai.ModerationNewParams{
		Model: model, Input: openai.ModerationNewParamsInputUnion{OfStringArray: []string{"a ship", "the sea"}},
	})
	if err != nil || len(got.Results) != 2 || got.Results[0].Flagged {
		t.Errorf("moderations = %+v, %v", got, err)
	}
}

// picture returns a PNG.
func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// sound returns a WAV of silence, of 16,000 samples a second.
func sound(seconds int) []byte {
	const rate = 16000
	size := uint32(rate * 2 * seconds)
	var buf bytes.Buffer
	for _, field := range []any{
		[]byte("RIFF"), 36 + size, []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), uint32(rate), uint32(rate * 2), uint16(2), uint16(16),
		[]byte("data"), size, make([]byte, size),
	} {
		_ = binary.Write(&buf, binary.LittleEndian, field) // a buffer takes all
	}
	return buf.Bytes()
}

// upload is a file of a form, with its name.
func upload(name, kind string, data []byte) io.Reader {
	return openai.File(bytes.NewReader(data), name, kind)
}

// body returns the whole body of an answer.
func body(t *testing.T, resp *http.Response, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// status returns the status of an error of the API, 0 of none.
func status(err error) int {
	var e *openai.Error
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}

func decoded(t *testing.T, text string) image.Config {
	t.Helper()
	config, err := png.DecodeConfig(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return config
}
