package openaiclient_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
)

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
func upload(name, kind string, data []byte) io.Reader { return openai.File(bytes.NewReader(data), name, kind) }

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

// within waits until something is so.
func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", limit, what)
		}
	}
}

// status returns the status of an error of the API, 0 of none.
func status(err error) int {
	var e *openai.Error
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
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

// Films are jobs of one of three servers: each request for one has to find its server.
func TestVideos(t *testing.T) {
	ctx := testContext(t)
	type made struct{ id, content string }
	var films []made
	for i := range 4 {
		film, err := client.Videos.New(ctx, openai.VideoNewParams{
			Prompt: fmt.Sprintf("A ship at sea, take %d", i), Model: model, Seconds: openai.VideoSeconds4,
		}, small)
		if err != nil {
			t.Fatal(err)
		}
		films = append(films, made{id: film.ID})
	}
	if _, err := client.Videos.New(ctx, openai.VideoNewParams{
		Prompt: "Like this", Model: model,
		InputReference: openai.VideoNewParamsInputReferenceUnion{OfFile: upload("a.png", "image/png", picture(t, 64, 64))},
	}, small); err != nil {
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

func decoded(t *testing.T, text string) image.Config {
	t.Helper()
	config, err := png.DecodeConfig(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return config
}
