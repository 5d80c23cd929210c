package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling/director"
)

// call is one streaming request to make.
type call struct {
	path     string
	body     []byte
	session  string
	tenant   string
	priority int // that of its model, for the tally
	output   int // exact length of the reply in tokens; 0: the server's choice
}

// result is what a client saw of one call.
type result struct {
	status int
	err    error         // also for a status that is not 200
	ttft   time.Duration // to the first event with content
	tpot   time.Duration // (last content - first) / (tokens - 1); 0 with fewer than 2 tokens
	e2e    time.Duration // to the end of the response

	prompt, cached, output int // tokens, by the server's usage
	text                   string
}

func (r *result) shed() bool { return r.status == http.StatusTooManyRequests }

// client makes calls to one gateway and measures them.
type client struct {
	url  string
	http *http.Client
}

func newClient(url string) *client {
	return &client{url: url, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// do makes a call. It returns when the response has ended or ctx is done.
func (c *client) do(ctx context.Context, call call) (res result) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+call.path, bytes.NewReader(call.body))
	if err != nil {
		return result{err: err}
	}
	output := ""
	if call.output > 0 {
		output = strconv.Itoa(call.output)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", workloadHeader: "1",
		director.HeaderSession: call.session, director.HeaderFairness: call.tenant, "X-Sim-Output-Tokens": output,
	} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return result{err: err}
	}
	defer resp.Body.Close()
	res.status = resp.StatusCode
	if res.status != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		res.err = fmt.Errorf("status %d: %s", res.status, message)
		return res
	}
	res.err = res.read(resp.Body, begin)
	res.e2e = time.Since(begin)
	return res
}

// read reads the events of a response.
func (r *result) read(body io.Reader, begin time.Time) error {
	var first, last time.Time
	var text strings.Builder
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), 1<<20)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			r.text = text.String()
			if r.output > 1 {
				r.tpot = last.Sub(first) / time.Duration(r.output-1)
			}
			return nil
		}
		if content := deltaText(data); len(content) > 0 {
			last = time.Now()
			if first.IsZero() {
				first, r.ttft = last, last.Sub(begin)
			}
			text.Write(content)
		} else if bytes.Contains(data, []byte(`"usage":{`)) {
			r.readUsage(data)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the stream broke off")
}

// deltaText returns the text in one event. Events of simulated servers hold words
// only, and thousands a second pass here, so that it looks no closer.
func deltaText(data []byte) []byte {
	for _, key := range [...]string{`"content":"`, `"text":"`} {
		if _, after, ok := bytes.Cut(data, []byte(key)); ok {
			content, _, _ := bytes.Cut(after, []byte(`"`))
			return content
		}
	}
	return nil
}

func (r *result) readUsage(data []byte) {
	var event struct {
		Usage struct {
			Prompt     int `json:"prompt_tokens"`
			Completion int `json:"completion_tokens"`
			Details    struct {
				Cached int `json:"cached_tokens"`
			} `json:"prompt_tokens_details"`
		} `json:"usage"`
	}
	if json.Unmarshal(data, &event) == nil {
		r.prompt, r.output, r.cached = event.Usage.Prompt, event.Usage.Completion, event.Usage.Details.Cached
	}
}
