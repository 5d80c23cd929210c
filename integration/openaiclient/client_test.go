package openaiclient_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

// client talks to the gateway of a quickstart that TestMain started.
var client openai.Client

const model = "chat" // one of the models that the quickstart declares

func TestMain(m *testing.M) {
	code, err := withQuickstart(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withQuickstart builds and starts the quickstart on a free port, runs the tests,
// and sees to it that it stops cleanly.
func withQuickstart(run func() int) (code int, err error) {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "quickstart")
	build := exec.Command("go", "build", "-o", binary, "./examples/quickstart")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address := l.Addr().String()
	l.Close()

	cmd := exec.Command(binary, "-listen", address, "-duration", "2m", "-endpoints", "3", "-rate", "2", "-no-compare")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if stopped := cmd.Wait(); stopped != nil && err == nil {
			err = fmt.Errorf("the quickstart did not stop cleanly: %v", stopped)
		}
	}()
	go func() { // its output must not fill the pipe
		for s := bufio.NewScanner(stdout); s.Scan(); {
		}
	}()
	client = openai.NewClient(option.WithBaseURL("http://"+address+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	for range 100 {
		if resp, err := http.Get("http://" + address + "/v1/models"); err == nil {
			resp.Body.Close()
			return run(), nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return 0, errors.New("the quickstart does not answer")
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func chat(prompt string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:     model,
		Messages:  []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("You are helpful."), openai.UserMessage(prompt)},
		MaxTokens: openai.Int(8),
	}
}

func TestModels(t *testing.T) {
	page, err := client.Models.List(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range page.Data {
		ids = append(ids, m.ID)
	}
	if !slices.Contains(ids, model) {
		t.Errorf("models = %q, want %q among them", ids, model)
	}
}

func TestChat(t *testing.T) {
	got, err := client.Chat.Completions.New(testContext(t), chat("Hello"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Choices) != 1 || got.Choices[0].Message.Content == "" || got.Usage.CompletionTokens != 8 || got.Usage.PromptTokens == 0 {
		t.Errorf("completion = %s", got.RawJSON())
	}
	if got.Model != model {
		t.Errorf("model = %q, want the public name %q", got.Model, model)
	}
}

func TestChatStreamWithUsage(t *testing.T) {
	params := chat(strings.Repeat("Tell me about ships and the sea. ", 100))
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	for turn := range 2 {
		stream := client.Chat.Completions.NewStreaming(testContext(t), params)
		acc := openai.ChatCompletionAccumulator{}
		for stream.Next() {
			chunk := stream.Current()
			if chunk.Model != model {
				t.Errorf("a chunk's model = %q, want %q", chunk.Model, model)
			}
			acc.AddChunk(chunk)
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		if len(acc.Choices) != 1 || acc.Choices[0].Message.Content == "" || acc.Usage.CompletionTokens != 8 {
			t.Errorf("the stream gave %+v", acc.ChatCompletion)
		}
		cached := acc.Usage.PromptTokensDetails.CachedTokens
		if turn == 1 && cached < acc.Usage.PromptTokens/2 {
			t.Errorf("the second time %d of %d prompt tokens were cached: it went to another server", cached, acc.Usage.PromptTokens)
		}
	}
}

func TestStreamGivenUp(t *testing.T) {
	params := chat("Hello")
	params.MaxTokens = openai.Int(500)
	stream := client.Chat.Completions.NewStreaming(testContext(t), params)
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCompletions(t *testing.T) {
	got, err := client.Completions.New(testContext(t), openai.CompletionNewParams{
		Model: model, Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("Once upon a time")}, MaxTokens: openai.Int(5),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Choices) != 1 || got.Choices[0].Text == "" || got.Usage.CompletionTokens != 5 {
		t.Errorf("completion = %s", got.RawJSON())
	}
	stream := client.Completions.NewStreaming(testContext(t), openai.CompletionNewParams{
		Model: model, Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("Once upon a time")}, MaxTokens: openai.Int(5),
	})
	text := ""
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			text += c.Text
		}
	}
	if stream.Err() != nil || text != got.Choices[0].Text {
		t.Errorf("the stream gave %q, %v, want %q", text, stream.Err(), got.Choices[0].Text)
	}
}

func TestEmbeddings(t *testing.T) {
	got, err := client.Embeddings.New(testContext(t), openai.EmbeddingNewParams{
		Model: model, Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"ship", "sea"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Data) != 2 || len(got.Data[0].Embedding) == 0 {
		t.Errorf("embeddings = %s", got.RawJSON())
	}
}

func TestResponses(t *testing.T) {
	params := responses.ResponseNewParams{
		Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Hello")}, MaxOutputTokens: openai.Int(16),
	}
	got, err := client.Responses.New(testContext(t), params)
	if err != nil {
		t.Fatal(err)
	}
	if got.OutputText() == "" || got.Usage.OutputTokens == 0 {
		t.Errorf("response = %s", got.RawJSON())
	}
	stream := client.Responses.NewStreaming(testContext(t), params)
	text := ""
	for stream.Next() {
		if e := stream.Current(); e.Type == "response.output_text.delta" {
			text += e.Delta
		}
	}
	if stream.Err() != nil || text != got.OutputText() {
		t.Errorf("the stream gave %q, %v, want %q", text, stream.Err(), got.OutputText())
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		body   map[string]any
		status int
		param  string
	}{
		{"no model", map[string]any{"messages": []any{}}, 400, "model"},
		{"model of another type", map[string]any{"model": 7, "messages": []any{}}, 400, "model"},
		{"unknown model", map[string]any{"model": "no-such-model", "messages": []any{}}, 404, "model"},
	} {
		err := client.Post(testContext(t), "chat/completions", tt.body, nil)
		var e *openai.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v, want an *openai.Error", tt.name, err)
			continue
		}
		if e.StatusCode != tt.status || e.Param != tt.param || e.Message == "" || e.Type == "" {
			t.Errorf("%s: status %d, param %q, type %q, message %q", tt.name, e.StatusCode, e.Param, e.Type, e.Message)
		}
	}
}
