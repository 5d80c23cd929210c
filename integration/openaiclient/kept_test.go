//lint:file-ignore SA1019 servers go on offering what the client calls deprecated

package openaiclient_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/conversations"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/realtime"
	"github.com/openai/openai-go/v3/responses"
)

const served = "llama-8b" // the model that the servers know by that name, too

// within waits until something is so.
func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", limit, what)
		}
	}
}

// Files and batches stay at the server that has them, whoever asks for them again, and how often.
func TestFilesAndBatches(t *testing.T) {
	var lines strings.Builder
	for i := range 8 {
		fmt.Fprintf(&lines, `{"custom_id":"line-%d","method":"POST","url":"/v1/chat/completions","body":{"model":%q,"max_tokens":3,"messages":[{"role":"user","content":"Line %d"}]}}`+"\n", i, served, i)
	}
	ctx := testContext(t)
	file, err := client.Files.New(ctx, openai.FileNewParams{
		File: upload("lines.jsonl", "application/jsonl", []byte(lines.String())), Purpose: openai.FilePurposeBatch,
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		got, err := client.Files.Get(ctx, file.ID)
		if err != nil || got.Bytes != int64(lines.Len()) || got.Filename != "lines.jsonl" {
			t.Fatalf("file = %+v, %v", got, err)
		}
	}
	resp, err := client.Files.Content(ctx, file.ID)
	if got := body(t, resp, err); string(got) != lines.String() {
		t.Errorf("the file has %d bytes, want %d", len(got), lines.Len())
	}
	batch, err := client.Batches.New(ctx, openai.BatchNewParams{
		InputFileID: file.ID, Endpoint: openai.BatchNewParamsEndpointV1ChatCompletions, CompletionWindow: openai.BatchNewParamsCompletionWindow24h,
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, 15*time.Second, "the batch", func() bool {
		if batch, err = client.Batches.Get(ctx, batch.ID); err != nil {
			t.Fatal(err)
		}
		return batch.Status == openai.BatchStatusCompleted
	})
	if batch.RequestCounts.Completed != 8 || batch.RequestCounts.Failed != 0 {
		t.Errorf("counts = %+v, want 8 completed", batch.RequestCounts)
	}
	resp, err = client.Files.Content(ctx, batch.OutputFileID)
	if out := body(t, resp, err); bytes.Count(out, []byte(`"custom_id":"line-`)) != 8 {
		t.Errorf("output: %s", out)
	}
	if gone, err := client.Files.Delete(ctx, file.ID); err != nil || !gone.Deleted {
		t.Errorf("delete: %+v, %v", gone, err)
	}
	if _, err := client.Files.Get(ctx, file.ID); status(err) != 404 {
		t.Errorf("a file that was deleted: %v, want 404", err)
	}
}

// short asks for a film of few frames.
func short(params openai.VideoNewParams) openai.VideoNewParams {
	params.SetExtraFields(map[string]any{"num_frames": 9})
	return params
}

// Films are jobs of one of three servers: each request for one has to find its server.
func TestVideos(t *testing.T) {
	ctx := testContext(t)
	type made struct{ id, server string }
	var films []made
	servers := map[string]bool{}
	for i := range 4 {
		var resp *http.Response
		film, err := client.Videos.New(ctx, short(openai.VideoNewParams{
			Prompt: fmt.Sprintf("A ship at sea, take %d", i), Model: model, Seconds: openai.VideoSeconds4,
		}), option.WithResponseInto(&resp))
		if err != nil {
			t.Fatal(err)
		}
		films = append(films, made{film.ID, resp.Header.Get("X-Sim-Server")})
		servers[films[i].server] = true
	}
	if len(servers) < 2 {
		t.Errorf("all films are made by %v: want several servers", servers)
	}
	if _, err := client.Videos.New(ctx, short(openai.VideoNewParams{
		Prompt: "Like this", Model: model,
		InputReference: openai.VideoNewParamsInputReferenceUnion{OfFile: upload("a.png", "image/png", picture(t, 64, 64))},
	})); err != nil {
		t.Errorf("with a picture: %v", err)
	}
	for i, film := range films {
		done, err := client.Videos.PollStatus(ctx, film.id, 50)
		if err != nil || done.Status != openai.VideoStatusCompleted || done.Progress != 100 || done.ExpiresAt == 0 {
			t.Fatalf("film %d: %+v, %v", i, done, err)
		}
		resp, err := client.Videos.DownloadContent(ctx, film.id, openai.VideoDownloadContentParams{})
		got := body(t, resp, err)
		if !bytes.Contains(got, []byte("ftyp")) || !bytes.Contains(got, []byte(film.id)) {
			t.Errorf("film %d is %.40q", i, got)
		}
	}
	remix, err := client.Videos.Remix(ctx, films[0].id, openai.VideoRemixParams{Prompt: "At night"})
	if err != nil || remix.RemixedFromVideoID != films[0].id {
		t.Fatalf("remix: %+v, %v", remix, err)
	}
	if _, err := client.Videos.Delete(ctx, remix.ID); err != nil {
		t.Errorf("delete the remix: %v", err)
	}
	for _, film := range films {
		if gone, err := client.Videos.Delete(ctx, film.id); err != nil || !gone.Deleted {
			t.Errorf("delete: %+v, %v", gone, err)
		}
		if _, err := client.Videos.Get(ctx, film.id); status(err) != 404 {
			t.Errorf("a film that was deleted: %v, want 404", err)
		}
	}
	if _, err := client.Videos.Get(ctx, "video_of_nobody"); status(err) != 404 {
		t.Errorf("a film that nobody made: %v, want 404", err)
	}
}

// What a response goes on from is at one server.
func TestResponsesGoOn(t *testing.T) {
	ctx := testContext(t)
	said := strings.Repeat("The sea is wide, and ships are small. ", 40)
	params := responses.ResponseNewParams{
		Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(said)}, MaxOutputTokens: openai.Int(4),
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
			Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("And then?")}, MaxOutputTokens: openai.Int(4),
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

// A session lives on one connection to one server.
func TestRealtime(t *testing.T) {
	ctx := testContext(t)
	session, err := client.Realtime.Connect(ctx, realtime.RealtimeConnectionOptions{}, option.WithQuery("model", model))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Abort()
	for _, event := range []string{
		`{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"Hello"}]}}`,
		`{"type":"response.create","x-sim-output-tokens":5}`,
	} {
		if err := session.SendRaw(ctx, []byte(event)); err != nil {
			t.Fatal(err)
		}
	}
	deltas, text := "", ""
	for done := false; !done; {
		event, err := session.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch event.Type {
		case "response.output_text.delta":
			deltas += event.AsResponseTextDeltaEvent().Delta
		case "response.output_text.done":
			text = event.AsResponseTextDoneEvent().Text
		case "response.done":
			done = true
		case "error":
			t.Fatal(event.RawJSON())
		}
	}
	if text == "" || deltas != text {
		t.Errorf("the deltas are %q, the text %q", deltas, text)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
}
