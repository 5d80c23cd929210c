package modelserver

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	mostLines  = 1000 // of a batch
	batchWidth = 8    // lines that a batch has in the engine at once
)

// batch is a job of /v1/batches.
type batch struct {
	video             // what a job is
	done, failed, all int
}

// serveBatch is POST /v1/batches.
func (p *process) serveBatch(w http.ResponseWriter, r *http.Request) (any, *apiError) {
	var body struct {
		File     string `json:"input_file_id"`
		Endpoint string `json:"endpoint"`
		Window   string `json:"completion_window"`
		Metadata object `json:"metadata"`
	}
	if failure := p.readJSON(w, r, &body); failure != nil {
		return nil, failure
	}
	known := []string{"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/moderations"}
	if !slices.Contains(known, body.Endpoint) {
		return nil, invalid("endpoint", "endpoint is %.80q: want one of %q", body.Endpoint, known)
	}
	file, failure := p.files.get(body.File)
	if failure != nil {
		return nil, failure
	}
	lines, failure := readBatch(file.data, body.Endpoint)
	if failure != nil {
		return nil, failure
	}
	ctx, cancel := context.WithCancel(p.ctx)
	id, now := p.newID("batch"), time.Now()
	b := &batch{all: len(lines), video: video{cancel: cancel, fields: object{
		"id": id, "object": "batch", "endpoint": body.Endpoint, "input_file_id": body.File, "completion_window": body.Window,
		"created_at": now.Unix(), "expires_at": now.AddDate(0, 0, 1).Unix(), "status": "in_progress", "in_progress_at": now.Unix(),
		"metadata": body.Metadata, "errors": nil, "output_file_id": nil, "error_file_id": nil,
		"request_counts": object{"total": len(lines), "completed": 0, "failed": 0},
	}}}
	p.batches.put(id, b)
	p.running.Go(func() {
		defer cancel()
		p.runBatch(ctx, b, body.Endpoint, lines)
	})
	return b.view(), nil
}

// batchLine is a request in a batch.
type batchLine struct {
	ID     string          `json:"custom_id"`
	Method string          `json:"method"`
	URL    string          `json:"url"`
	Body   json.RawMessage `json:"body"`
}

func readBatch(data []byte, endpoint string) (lines []batchLine, failure *apiError) {
	for text := range bytes.Lines(data) {
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var line batchLine
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, invalid("input_file_id", "line %d is not valid: %v", len(lines)+1, err)
		}
		if line.ID == "" || line.Method != http.MethodPost || line.URL != endpoint || len(line.Body) == 0 {
			return nil, invalid("input_file_id", "line %d: want a custom_id, method POST, url %s and a body", len(lines)+1, endpoint)
		}
		if lines = append(lines, line); len(lines) > mostLines {
			return nil, invalid("input_file_id", "there are more than %d lines", mostLines)
		}
	}
	if len(lines) == 0 {
		return nil, invalid("input_file_id", "the file has no lines")
	}
	return lines, nil
}

// runBatch sends the lines through the server's own handlers.
func (p *process) runBatch(ctx context.Context, b *batch, endpoint string, lines []batchLine) {
	var (
		mu        sync.Mutex
		out, errs bytes.Buffer
		all       sync.WaitGroup
	)
	next := make(chan batchLine)
	for range min(batchWidth, len(lines)) {
		all.Go(func() {
			for line := range next {
				answer := p.ask(ctx, endpoint, line.Body)
				if ctx.Err() != nil {
					continue
				}
				mu.Lock()
				to := &out
				if b.done++; answer.status >= 400 {
					to = &errs
					b.done, b.failed = b.done-1, b.failed+1
				}
				to.Write(append(toJSON(object{
					"id": p.newID("batch_req"), "custom_id": line.ID, "error": nil, "response": object{
						"status_code": answer.status, "request_id": p.newID("req"), "body": json.RawMessage(answer.body.Bytes()),
					},
				}), '\n'))
				b.set(object{"request_counts": object{"total": b.all, "completed": b.done, "failed": b.failed}})
				mu.Unlock()
			}
		})
	}
	for _, line := range lines {
		next <- line
	}
	close(next)
	all.Wait()
	now := time.Now().Unix()
	end := object{"status": "completed", "finalizing_at": now, "completed_at": now}
	if ctx.Err() != nil {
		end = object{"status": "cancelled", "cancelled_at": now}
	}
	for field, file := range map[string]*bytes.Buffer{"output_file_id": &out, "error_file_id": &errs} {
		if file.Len() > 0 {
			end[field] = p.storeFile(field[:len(field)-len("_file_id")]+".jsonl", "batch_output", file.Bytes()).object["id"]
		}
	}
	b.set(end)
}

// serveCancel is POST /v1/batches/{id}/cancel.
func (p *process) serveCancel(_ http.ResponseWriter, r *http.Request) (any, *apiError) {
	b, failure := p.batches.get(r.PathValue("id"))
	if failure != nil {
		return nil, failure
	}
	if b.view()["status"] == "in_progress" {
		b.set(object{"status": "cancelling", "cancelling_at": time.Now().Unix()})
		b.cancel()
	}
	return b.view(), nil
}

// answer is what a handler wrote for a line of a batch.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(data []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(data)
}

// ask sends a request to the server itself. What breaks off, as a stream does that cannot be flushed, is a failure.
func (p *process) ask(ctx context.Context, path string, body []byte) (a *answer) {
	defer func() {
		if failed := recover(); failed != nil {
			if failed != http.ErrAbortHandler {
				panic(failed)
			}
			a = &answer{header: http.Header{}}
			invalid("stream", "This line of a batch was not answered: lines cannot be streamed.").write(a)
		}
	}()
	a = &answer{header: http.Header{}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		panic("modelserver: " + err.Error()) // the path is one of ours
	}
	p.mux.ServeHTTP(a, r)
	return a
}
