package openaiclient_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/conversations"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

const served = "llama-8b" // the model that the servers know by that name, too

// small makes a film of few frames.
var small = option.WithJSONSet("num_frames", 9)

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

// What a response goes on from is at one server.
func TestResponsesGoOn(t *testing.T) {
	ctx := testContext(t)
	said := strings.Repeat("The sea is wide, and ships are small. ", 40)
	params := responses.ResponseNewParams{
		Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(said)}, MaxOutputTokens: openai.Int(16),
	}
	first, err := client.Responses.New(ctx, params)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		params.PreviousResponseID, params.Input.OfString = openai.String(first.ID), openai.String("And then?")
		next, err := client.Responses.New(ctx, params)
		if err != nil {
			t.Fatalf("turn %d: %v", i, err)
		}
		if next.PreviousResponseID != first.ID || next.Usage.InputTokens <= first.Usage.InputTokens {
			t.Errorf("turn %d does not go on from %s: %s", i, first.ID, next.RawJSON())
		}
		first = next
	}
	if got, err := client.Responses.Get(ctx, first.ID, responses.ResponseGetParams{}); err != nil || got.OutputText() != first.OutputText() {
		t.Errorf("get: %+v, %v", got, err)
	}
	if err := client.Responses.Delete(ctx, first.ID); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := client.Responses.Get(ctx, first.ID, responses.ResponseGetParams{}); status(err) != 404 {
		t.Errorf("a response that was deleted: %v, want 404", err)
	}

	talk, err := client.Conversations.New(ctx, conversations.ConversationNewParams{})
	if err != nil {
		t.Fatal(err)
	}
	read := int64(0)
	for i := range 6 {
		stream := client.Responses.NewStreaming(ctx, responses.ResponseNewParams{
			Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("And then?")}, MaxOutputTokens: openai.Int(16),
			Conversation: responses.ResponseNewParamsConversationUnion{OfString: openai.String(talk.ID)},
		})
		var end responses.Response
		for stream.Next() {
			if e := stream.Current(); e.Type == "response.completed" || e.Type == "response.incomplete" {
				end = e.Response
			}
		}
		if stream.Err() != nil || end.Usage.InputTokens <= read || end.Conversation.ID != talk.ID {
			t.Fatalf("turn %d: read %d tokens after %d, %v: %s", i, end.Usage.InputTokens, read, stream.Err(), end.RawJSON())
		}
		read = end.Usage.InputTokens
	}
	if items, err := client.Conversations.Items.List(ctx, talk.ID, conversations.ItemListParams{}); err != nil || len(items.Data) != 12 {
		t.Errorf("items: %+v, %v, want 12", items, err)
	}
}
