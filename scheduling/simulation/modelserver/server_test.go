package modelserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/stretchr/testify/require"
)

// patience bounds every wait of the tests; none takes nearly as long.
const patience = 20 * time.Second

// start starts a server that ends with the test.
func start(t testing.TB, opts modelserver.Options) *modelserver.Server {
	t.Helper()
	if opts.TimeScale == 0 {
		opts.TimeScale = 100
	}
	s, err := modelserver.Start(t.Context(), opts)
	require.NoError(t, err, "Start(%+v)", opts)
	t.Cleanup(s.Close)
	return s
}

// client returns an HTTP client that leaves nothing behind.
func client(t testing.TB) *http.Client {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}, Timeout: patience}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// send posts a JSON body and returns the response with its whole body.
func send(t testing.TB, c *http.Client, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, string(reply)
}

// get returns the body of a page.
func get(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: status %d, error %v", url, resp.StatusCode, err)
	}
	return string(body)
}

func decode[T any](t testing.TB, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

// eventually waits for a state that other goroutines bring about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for: %s", what)
		}
	}
}

// usage is OpenAI's.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	Details    struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// choices is a reply or a chunk of one, of chat and plain completions.
type choices struct {
	ID, Object, Model string
	Choices           []struct {
		Message, Delta struct{ Role, Content string }
		Text           string
		Finish         *string `json:"finish_reason"`
	}
	Usage *usage
	Error *struct {
		Message, Type string
		Param, Code   *string
	}
}

// event is a server-sent event.
type event struct{ name, data string }

func events(t testing.TB, body string) (all []event) {
	t.Helper()
	for block := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		var e event
		for line := range strings.SplitSeq(block, "\n") {
			switch {
			case strings.HasPrefix(line, "event: "):
				e.name = line[7:]
			case strings.HasPrefix(line, "data: "):
				e.data = line[6:]
			default:
				t.Fatalf("a line %q in an event stream", line)
			}
		}
		all = append(all, e)
	}
	return all
}

func chatBody(model, content string, more string) string {
	quoted, _ := json.Marshal(content)
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}]%s}`, model, quoted, more)
}

func TestChat(t *testing.T) {
	s, c := start(t, modelserver.Options{Name: "a", Models: []string{"m"}}), client(t)
	status, header, body := send(t, c, s.URL()+"/v1/chat/completions", chatBody("m", "hello world", `,"max_tokens":7`))
	if status != http.StatusOK || header.Get("Content-Type") != "application/json" ||
		header.Get("X-Sim-Server") != "a" || !strings.Contains(header.Get("Server"), "simulated") {
		t.Fatalf("status %d, header %v, body %s", status, header, body)
	}
	r := decode[choices](t, body)
	if r.Object != "chat.completion" || r.Model != "m" || len(r.Choices) != 1 || r.Choices[0].Message.Role != "assistant" ||
		len(r.Choices[0].Message.Content) != 28 || *r.Choices[0].Finish != "length" {
		t.Errorf("reply %s", body)
	}
	// Two roles and three tokens of text.
	if u := *r.Usage; u.Prompt != 5 || u.Completion != 7 || u.Total != 12 || u.Details.Cached != 0 {
		t.Errorf("usage %+v, want 5 and 7 tokens", u)
	}
}

func TestStreams(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	for _, tt := range []struct{ name, path, body, object string }{
		{"chat", "/v1/chat/completions", chatBody("m", "hello", `,"stream":true,"max_tokens":20,"stream_options":{"include_usage":true}`), "chat.completion.chunk"},
		{"completion", "/v1/completions", `{"model":"m","prompt":"hello there","stream":true,"max_tokens":20,"stream_options":{"include_usage":true}}`, "text_completion"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, header, body := send(t, c, s.URL()+tt.path, tt.body)
			if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/event-stream") {
				t.Fatalf("status %d, header %v", status, header)
			}
			all := events(t, body)
			if n := len(all); all[n-1].data != "[DONE]" {
				t.Fatalf("the stream ends with %q", all[n-1].data)
			}
			var text, finish string
			var used *usage
			words := 0
			for i, e := range all[:len(all)-1] {
				chunk := decode[choices](t, e.data)
				if chunk.Object != tt.object || chunk.Model != "m" || chunk.ID == "" {
					t.Errorf("chunk %s", e.data)
				}
				if i == 0 && tt.name == "chat" && chunk.Choices[0].Delta.Role != "assistant" {
					t.Errorf("first chunk %s: want a role", e.data)
				}
				if chunk.Usage != nil {
					if used = chunk.Usage; len(chunk.Choices) != 0 || i != len(all)-2 {
						t.Errorf("usage in chunk %d of %d with %d choices", i, len(all), len(chunk.Choices))
					}
					continue
				}
				piece := chunk.Choices[0].Delta.Content + chunk.Choices[0].Text
				if piece != "" {
					words++
				}
				text += piece
				if chunk.Choices[0].Finish != nil {
					finish = *chunk.Choices[0].Finish
				}
			}
			if used == nil || used.Completion != words || len(text) != 4*words || words == 0 {
				t.Errorf("%d words, usage %+v, text %q", words, used, text)
			}
			if want := map[bool]string{true: "length", false: "stop"}[words == 20]; finish != want {
				t.Errorf("%d words, finish reason %q, want %q", words, finish, want)
			}
			// The same request without streaming has the same text.
			_, _, plain := send(t, c, s.URL()+tt.path, strings.Replace(tt.body, `"stream":true`, `"stream":false`, 1))
			whole := decode[choices](t, plain)
			if got := whole.Choices[0].Message.Content + whole.Choices[0].Text; got != text {
				t.Errorf("streamed %q, plain %q", text, got)
			}
		})
	}
}

func TestNoUsageUnlessAsked(t *testing.T) {
	s, c := start(t, modelserver.Options{}), client(t)
	_, _, body := send(t, c, s.URL()+"/v1/chat/completions", chatBody("simulated-llm", "hi", `,"stream":true,"max_tokens":2`))
	if strings.Contains(body, "usage") {
		t.Errorf("usage in %s", body)
	}
}

func TestResponses(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	type response struct {
		ID, Object, Status string
		Output             []struct {
			Type, Role string
			Content    []struct{ Type, Text string }
		}
		Usage struct {
			Input  int `json:"input_tokens"`
			Output int `json:"output_tokens"`
			Total  int `json:"total_tokens"`
		}
	}
	for _, tt := range []struct{ name, input string }{
		{"string", `"hello"`},
		{"items", `[{"role":"user","content":[{"type":"input_text","text":"hello"}]}]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := `{"model":"m","instructions":"be brief","input":` + tt.input + `,"x-sim-output-tokens":3}`
			_, _, plain := send(t, c, s.URL()+"/v1/responses", body)
			r := decode[response](t, plain)
			if r.Object != "response" || r.Status != "completed" || len(r.Output) != 1 || len(r.Output[0].Content[0].Text) != 12 ||
				r.Usage.Input != 7 || r.Usage.Output != 3 || r.Usage.Total != 10 {
				t.Errorf("reply %s", plain)
			}
			_, _, streamed := send(t, c, s.URL()+"/v1/responses", strings.Replace(body, `{`, `{"stream":true,`, 1))
			var names, text string
			for i, e := range events(t, streamed) {
				v := decode[struct {
					Type, Delta string
					Sequence    int `json:"sequence_number"`
					Response    response
				}](t, e.data)
				if v.Type != e.name || v.Sequence != i {
					t.Errorf("event %d: %+v", i, e)
				}
				names += strings.TrimPrefix(e.name, "response.") + " "
				text += v.Delta
				if e.name == "response.completed" && v.Response.Output[0].Content[0].Text != text {
					t.Errorf("completed with %q after %q", v.Response.Output[0].Content[0].Text, text)
				}
			}
			want := "created in_progress output_item.added content_part.added " + strings.Repeat("output_text.delta ", 3) +
				"output_text.done content_part.done output_item.done completed "
			if names != want || text != r.Output[0].Content[0].Text {
				t.Errorf("events %s with text %q", names, text)
			}
		})
	}
	_, _, cut := send(t, c, s.URL()+"/v1/responses", `{"model":"m","input":"hello","max_output_tokens":1,"x-sim-output-tokens":"3"}`)
	if r := decode[response](t, cut); r.Status != "incomplete" {
		t.Errorf("cut short: %s", cut)
	}
}

func TestMessages(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	type message struct {
		Type, Role string
		Content    []struct{ Type, Text string }
		Stop       string `json:"stop_reason"`
		Usage      struct {
			Input  int `json:"input_tokens"`
			Cached int `json:"cache_read_input_tokens"`
			Output int `json:"output_tokens"`
		}
	}
	long := strings.Repeat("word", 60)
	body := `{"model":"m","max_tokens":4,"system":[{"type":"text","text":"be brief"}],"messages":[{"role":"user","content":"` + long + `"}],"x-sim-output-tokens":9}`
	_, _, plain := send(t, c, s.URL()+"/v1/messages", body)
	m := decode[message](t, plain)
	if m.Type != "message" || m.Role != "assistant" || m.Stop != "max_tokens" || len(m.Content[0].Text) != 16 || m.Usage.Input != 65 || m.Usage.Output != 4 {
		t.Errorf("reply %s", plain)
	}
	_, _, streamed := send(t, c, s.URL()+"/v1/messages", strings.Replace(body, `{`, `{"stream":true,`, 1))
	var names, text string
	for _, e := range events(t, streamed) {
		v := decode[struct {
			Type    string
			Delta   struct{ Type, Text, Stop_reason string }
			Message message
		}](t, e.data)
		if v.Type != e.name {
			t.Errorf("event %+v", e)
		}
		names += e.name + " "
		text += v.Delta.Text
		// 65 tokens of which four blocks are cached now.
		if e.name == "message_start" && (v.Message.Usage.Input != 1 || v.Message.Usage.Cached != 64) {
			t.Errorf("usage %+v, want 64 tokens cached", v.Message.Usage)
		}
	}
	want := "message_start content_block_start ping " + strings.Repeat("content_block_delta ", 4) + "content_block_stop message_delta message_stop "
	if names != want || text != m.Content[0].Text {
		t.Errorf("events %s with text %q", names, text)
	}
	if status, _, body := send(t, c, s.URL()+"/v1/messages", `{"model":"x","max_tokens":4,"messages":[{"role":"user","content":"a"}]}`); status != 404 ||
		!strings.Contains(body, `"not_found_error"`) || !strings.Contains(body, `"type":"error"`) {
		t.Errorf("unknown model: %d %s", status, body)
	}
}

func TestEmbeddings(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	_, _, body := send(t, c, s.URL()+"/v1/embeddings", `{"model":"m","input":["hello","other"],"dimensions":8}`)
	r := decode[struct {
		Data []struct {
			Index     int
			Embedding []float32
		}
		Usage usage
	}](t, body)
	if len(r.Data) != 2 || r.Data[1].Index != 1 || len(r.Data[0].Embedding) != 8 || r.Usage.Prompt != 4 || r.Usage.Total != 4 {
		t.Fatalf("reply %s", body)
	}
	square := 0.0
	for _, x := range r.Data[0].Embedding {
		square += float64(x) * float64(x)
	}
	if math.Abs(square-1) > 1e-5 || r.Data[0].Embedding[0] == r.Data[1].Embedding[0] {
		t.Errorf("embeddings %v: want unit vectors that differ", r.Data)
	}
	_, _, body = send(t, c, s.URL()+"/v1/embeddings", `{"model":"m","input":"hello","dimensions":8,"encoding_format":"base64"}`)
	packed := decode[struct{ Data []struct{ Embedding string } }](t, body)
	raw, err := base64.StdEncoding.DecodeString(packed.Data[0].Embedding)
	require.NoError(t, err)
	got := make([]float32, 8)
	if _, err := binary.Decode(raw, binary.LittleEndian, got); err != nil || got[3] != r.Data[0].Embedding[3] {
		t.Errorf("base64 gives %v, %v, floats were %v", got, err, r.Data[0].Embedding)
	}
}

func TestRefusals(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}, KVBlocks: 10, MaxBodyBytes: 4096}), client(t)
	for _, tt := range []struct {
		name, path, body string
		status           int
		code, param      string
	}{
		{"malformed", "/v1/chat/completions", `{"model":`, 400, "", ""},
		{"empty", "/v1/chat/completions", ``, 400, "", ""},
		{"no model", "/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}]}`, 400, "", "model"},
		{"unknown model", "/v1/chat/completions", chatBody("x", "a", ""), 404, "model_not_found", "model"},
		{"unknown model", "/v1/completions", `{"model":"x","prompt":"a"}`, 404, "model_not_found", "model"},
		{"unknown model", "/v1/responses", `{"model":"x","input":"a"}`, 404, "model_not_found", "model"},
		{"unknown model", "/v1/embeddings", `{"model":"x","input":"a"}`, 404, "model_not_found", "model"},
		{"no messages", "/v1/chat/completions", `{"model":"m","messages":[]}`, 400, "", "messages"},
		{"content is a number", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":1}]}`, 400, "", "messages"},
		{"two choices", "/v1/chat/completions", chatBody("m", "a", `,"n":2`), 400, "", "n"},
		{"too long", "/v1/chat/completions", chatBody("m", strings.Repeat("a", 640), ""), 400, "context_length_exceeded", "prompt"},
		{"too large", "/v1/chat/completions", chatBody("m", strings.Repeat("a", 5000), ""), 413, "", ""},
		{"negative limit", "/v1/chat/completions", chatBody("m", "a", `,"max_tokens":-1`), 400, "", "max_tokens"},
		{"bad length", "/v1/chat/completions", chatBody("m", "a", `,"x-sim-output-tokens":0`), 400, "", "x-sim-output-tokens"},
		{"no prompt", "/v1/completions", `{"model":"m"}`, 400, "", "prompt"},
		{"two prompts", "/v1/completions", `{"model":"m","prompt":["a","b"]}`, 400, "", "prompt"},
		{"no input", "/v1/responses", `{"model":"m"}`, 400, "", "input"},
		{"no input", "/v1/embeddings", `{"model":"m"}`, 400, "", "input"},
		{"bad encoding", "/v1/embeddings", `{"model":"m","input":"a","encoding_format":"hex"}`, 400, "", "encoding_format"},
	} {
		t.Run(tt.name+tt.path, func(t *testing.T) {
			status, _, body := send(t, c, s.URL()+tt.path, tt.body)
			r := decode[choices](t, body)
			if status != tt.status || r.Error == nil || r.Error.Message == "" || r.Error.Type != "invalid_request_error" {
				t.Fatalf("status %d, body %s", status, body)
			}
			value := func(s *string) string {
				if s == nil {
					return ""
				}
				return *s
			}
			if value(r.Error.Code) != tt.code || value(r.Error.Param) != tt.param {
				t.Errorf("body %s: want code %q and param %q", body, tt.code, tt.param)
			}
		})
	}
	if st := s.Stats(); st.Requests != 0 {
		t.Errorf("%d of the refused requests reached the engine", st.Requests)
	}
}

func TestOutputLength(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}, KVBlocks: 100}), client(t)
	for _, tt := range []struct {
		name, more string
		header     []string
		want       int
		finish     string
	}{
		{"field", `,"x-sim-output-tokens":33`, nil, 33, "stop"},
		{"header", `,"x-sim-output-tokens":33`, []string{"x-sim-output-tokens", "12"}, 12, "stop"},
		{"bounded by max_tokens", `,"x-sim-output-tokens":33,"max_tokens":20`, nil, 20, "length"},
		{"max_completion_tokens", `,"x-sim-output-tokens":33,"max_tokens":20,"max_completion_tokens":10`, nil, 10, "length"},
		{"bounded by the cache", `,"x-sim-output-tokens":999999999`, nil, 1600 - 3 + 1, "length"},
		{"ignore_eos", `,"ignore_eos":true,"max_tokens":400`, nil, 400, "length"},
		{"min_tokens", `,"min_tokens":1200,"max_tokens":1300`, nil, 1200, "stop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, body := send(t, c, s.URL()+"/v1/chat/completions", chatBody("m", "word", tt.more), tt.header...)
			r := decode[choices](t, body)
			if r.Usage == nil || r.Usage.Completion != tt.want || *r.Choices[0].Finish != tt.finish {
				t.Errorf("usage %+v, want %d tokens and %q", r.Usage, tt.want, tt.finish)
			}
		})
	}
	if _, _, body := send(t, c, s.URL()+"/v1/completions", `{"model":"m","prompt":"ab","min_tokens":17}`); decode[choices](t, body).Usage.Completion != 16 {
		t.Errorf("a completion without a limit: %s, want 16 tokens", body)
	}
}

// TestSameSeedSameReply runs the same prompt on two servers.
func TestSameSeedSameReply(t *testing.T) {
	c := client(t)
	text := func(seed uint64, more string) string {
		s := start(t, modelserver.Options{Models: []string{"m"}, Seed: seed})
		_, _, body := send(t, c, s.URL()+"/v1/chat/completions", chatBody("m", "tell me", more))
		return decode[choices](t, body).Choices[0].Message.Content
	}
	one, two := text(1, ""), text(1, "")
	if one != two {
		t.Error("two servers with the same seed answer differently")
	}
	if one == text(2, "") || one == text(1, `,"seed":5`) {
		t.Error("another seed gives the same answer")
	}
}

func TestCachedTokens(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}, Adapters: []string{"l"}}), client(t)
	long := strings.Repeat("abcd", 1000) // 1,002 tokens with the roles
	cached := func(body string) int {
		t.Helper()
		_, _, reply := send(t, c, s.URL()+"/v1/chat/completions", body)
		r := decode[choices](t, reply)
		if r.Usage == nil {
			t.Fatalf("reply %s", reply)
		}
		return r.Usage.Details.Cached
	}
	for _, tt := range []struct {
		name, body string
		want       int
	}{
		{"first", chatBody("m", long, `,"max_tokens":5`), 0},
		{"identical", chatBody("m", long, `,"max_tokens":5`), 1001 / 16 * 16},
		{"longer", chatBody("m", long+"and more", `,"max_tokens":5`), 1001 / 16 * 16},
		{"shorter", chatBody("m", long[:800], `,"max_tokens":5`), 201 / 16 * 16},
		{"other head", chatBody("m", "x"+long, `,"max_tokens":5`), 0},
		{"adapter", chatBody("l", long, `,"max_tokens":5`), 0},
		{"adapter again", chatBody("l", long, `,"max_tokens":5`), 1001 / 16 * 16},
		{"salt", chatBody("m", long, `,"max_tokens":5,"cache_salt":"s"`), 0},
	} {
		require.Equal(t, tt.want, cached(tt.body), "%s tokens cached", tt.name)
	}
	st := s.Stats()
	if st.HitTokens != 3*992+192 || st.QueriedTokens == 0 || st.Requests != 8 || st.Finished != 8 {
		t.Errorf("stats %+v", st)
	}
}

// TestConversationHitsItsReply sends a second turn that quotes the first reply.
func TestConversationHitsItsReply(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}}), client(t)
	_, _, first := send(t, c, s.URL()+"/v1/chat/completions", chatBody("m", "a question", `,"x-sim-output-tokens":100`))
	answer := decode[choices](t, first).Choices[0].Message.Content
	_, _, second := send(t, c, s.URL()+"/v1/chat/completions", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a question"},
		{"role":"assistant","content":"`+strings.TrimSpace(answer)+`"},{"role":"user","content":"another"}]}`)
	// Five tokens of prompt and 99 of reply were computed.
	require.Equal(t, 96, decode[choices](t, second).Usage.Details.Cached, "tokens cached")
}

func TestDisconnectFrees(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}, TimeScale: 1}), client(t)
	for _, stream := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		body := chatBody("m", "hello", fmt.Sprintf(`,"stream":%t,"x-sim-output-tokens":100000`, stream))
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/v1/chat/completions", strings.NewReader(body))
		done := make(chan struct{})
		go func() {
			defer close(done)
			if resp, err := c.Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}()
		eventually(t, "the request runs", func() bool { return s.Stats().Running == 1 })
		cancel()
		<-done
		eventually(t, "the request is gone", func() bool {
			st := s.Stats()
			return st.Running == 0 && st.KVUsage == 0
		})
	}
	if st := s.Stats(); st.Cancelled != 2 || st.Finished != 0 {
		t.Errorf("stats %+v, want 2 cancelled", st)
	}
}

// metric returns the value of the first series with the given name and labels.
func metric(t testing.TB, page, name string, labels ...string) float64 {
	t.Helper()
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		has := true
		for _, l := range labels {
			has = has && strings.Contains(rest, l)
		}
		if has {
			fields := strings.Fields(line)
			v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			require.NoError(t, err, "line %q", line)
			return v
		}
	}
	t.Fatalf("no series %s with %v in\n%s", name, labels, page)
	return 0
}

func TestMetrics(t *testing.T) {
	before := time.Now()
	s, c := start(t, modelserver.Options{Models: []string{`m"1`}, KVBlocks: 500}), client(t)
	model := `model_name="m\"1"`
	send(t, c, s.URL()+"/v1/chat/completions", chatBody(`m"1`, strings.Repeat("abcd", 98), `,"max_tokens":5,"ignore_eos":true`))
	send(t, c, s.URL()+"/v1/chat/completions", chatBody(`m"1`, strings.Repeat("abcd", 98), `,"x-sim-output-tokens":3`))
	page := get(t, c, s.URL()+"/metrics")
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"vllm:num_requests_running", []string{`engine="0"`, model}, 0},
		{"vllm:num_requests_waiting", []string{`engine="0"`, model}, 0},
		{"vllm:kv_cache_usage_perc", []string{`engine="0"`, model}, 0},
		{"vllm:prefix_cache_queries_total", []string{`engine="0"`, model}, 200},
		{"vllm:prefix_cache_hits_total", []string{`engine="0"`, model}, 96},
		{"vllm:prompt_tokens_total", []string{model}, 200},
		{"vllm:generation_tokens_total", []string{model}, 8},
		{"vllm:request_success_total", []string{`finished_reason="length"`}, 1},
		{"vllm:request_success_total", []string{`finished_reason="stop"`}, 1},
		{"vllm:request_success_total", []string{`finished_reason="abort"`}, 0},
		{"vllm:time_to_first_token_seconds_count", []string{model}, 2},
		{"vllm:time_to_first_token_seconds_bucket", []string{`le="+Inf"`}, 2},
		{"vllm:time_to_first_token_seconds_bucket", []string{`le="2560.0"`}, 2},
		{"vllm:inter_token_latency_seconds_count", []string{model}, 6},
		{"vllm:e2e_request_latency_seconds_count", []string{model}, 2},
		{"vllm:cache_config_info", []string{`block_size="16"`, `num_gpu_blocks="500"`}, 1},
	} {
		require.Equal(t, tt.want, metric(t, page, tt.name, tt.labels...), "%s%v", tt.name, tt.labels)
	}
	started := metric(t, page, "process_start_time_seconds")
	if off := started - float64(before.UnixMilli())/1e3; off < 0 || off > patience.Seconds() {
		t.Errorf("process_start_time_seconds is %v after the start", off)
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) \S+ .+|[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? [0-9.e+-]+)$`)
	for text := range strings.Lines(page) {
		if !line.MatchString(strings.TrimSuffix(text, "\n")) {
			t.Errorf("not a line of the text format: %q", text)
		}
	}
}

func TestQueueShows(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}, TimeScale: 1, MaxSeqs: 2, KVBlocks: 100, Adapters: []string{"x", "y"}, MaxLoRAs: 1}), client(t)
	ctx, cancel := context.WithCancel(t.Context())
	var streams sync.WaitGroup
	for _, model := range []string{"x", "m", "y", "m", "m"} {
		before := s.Stats().Requests
		streams.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/v1/chat/completions",
				strings.NewReader(chatBody(model, strings.Repeat("abcd", 62), `,"stream":true,"x-sim-output-tokens":1000`)))
			if resp, err := c.Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
		eventually(t, "the request arrives", func() bool { return s.Stats().Requests > before })
	}
	eventually(t, "two run and three wait", func() bool { st := s.Stats(); return st.Running == 2 && st.Waiting == 3 })
	st := s.Stats()
	if strings.Join(st.RunningAdapters, ",") != "x" || strings.Join(st.WaitingAdapters, ",") != "y" || st.KVUsage < .08 || st.KVUsage > .5 {
		t.Errorf("stats %+v", st)
	}
	page := get(t, c, s.URL()+"/metrics")
	if running, waiting := metric(t, page, "vllm:num_requests_running"), metric(t, page, "vllm:num_requests_waiting"); running != 2 || waiting != 3 {
		t.Errorf("%v running, %v waiting, want 2 and 3", running, waiting)
	}
	if v := metric(t, page, "vllm:num_requests_waiting_by_reason", `reason="capacity"`); v != 3 {
		t.Errorf("%v waiting for capacity, want 3", v)
	}
	now := metric(t, page, "vllm:lora_requests_info", `max_lora="1"`, `running_lora_adapters="x"`, `waiting_lora_adapters="y"`)
	old := metric(t, page, "vllm:lora_requests_info", `running_lora_adapters=""`, `waiting_lora_adapters=""`)
	if now <= old {
		t.Errorf("lora_requests_info: the present series has %v, an old one %v", now, old)
	}
	cancel()
	streams.Wait()
	eventually(t, "nothing is left", func() bool { st := s.Stats(); return st.Running+st.Waiting == 0 && len(st.RunningAdapters) == 0 })
}

func TestModelsAndAdapters(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m", "alias"}, Adapters: []string{"l"}}), client(t)
	names := func() (ids []string) {
		list := decode[struct {
			Object string
			Data   []struct {
				ID     string
				Parent *string
			}
		}](t, get(t, c, s.URL()+"/v1/models"))
		for _, m := range list.Data {
			if m.Parent != nil {
				m.ID += "<" + *m.Parent
			}
			ids = append(ids, m.ID)
		}
		return ids
	}
	if got := strings.Join(names(), " "); got != "m alias l<m" {
		t.Errorf("models %s", got)
	}
	for _, tt := range []struct {
		path, body string
		want       int
	}{
		{"/v1/load_lora_adapter", `{"lora_name":"k","lora_path":"/k"}`, 200},
		{"/v1/load_lora_adapter", `{"lora_name":"k","lora_path":"/k"}`, 400},
		{"/v1/load_lora_adapter", `{"lora_name":"m","lora_path":"/k"}`, 400},
		{"/v1/load_lora_adapter", `{"lora_name":"j"}`, 400},
		{"/v1/load_lora_adapter", `{`, 400},
		{"/v1/completions", `{"model":"k","prompt":"a"}`, 200},
		{"/v1/unload_lora_adapter", `{"lora_name":"l"}`, 200},
		{"/v1/unload_lora_adapter", `{"lora_name":"l"}`, 404},
		{"/v1/unload_lora_adapter", `{}`, 400},
		{"/v1/completions", `{"model":"l","prompt":"a"}`, 404},
	} {
		if got, _, body := send(t, c, s.URL()+tt.path, tt.body); got != tt.want {
			t.Errorf("%s %s: status %d, want %d: %s", tt.path, tt.body, got, tt.want, body)
		}
	}
	if got := strings.Join(names(), " "); got != "m alias k<m" {
		t.Errorf("models %s", got)
	}
	get(t, c, s.URL()+"/health")
}

// openStream starts a long stream and returns after its first event.
func openStream(t testing.TB, c *http.Client, s *modelserver.Server) (*http.Response, *bufio.Reader) {
	t.Helper()
	resp, err := c.Post(s.URL()+"/v1/chat/completions", "application/json",
		strings.NewReader(chatBody("simulated-llm", "hello", `,"stream":true,"x-sim-output-tokens":100000`)))
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: {") {
		t.Fatalf("first line %q, %v", line, err)
	}
	return resp, body
}

func TestKillAndRestart(t *testing.T) {
	s, c := start(t, modelserver.Options{TimeScale: 1}), client(t)
	long := chatBody("simulated-llm", strings.Repeat("abcd", 100), `,"max_tokens":1`)
	send(t, c, s.URL()+"/v1/chat/completions", long)
	first := s.Stats()

	_, body := openStream(t, c, s)
	s.Kill()
	rest, err := io.ReadAll(body)
	if err == nil || bytes.Contains(rest, []byte("[DONE]")) {
		t.Errorf("the stream ended with error %v: want it torn", err)
	}
	if _, err := net.DialTimeout("tcp", s.Address(), patience); err == nil {
		t.Error("a killed server accepts connections")
	}
	if st := s.Stats(); st.Up || st.Requests != 0 {
		t.Errorf("killed: stats %+v", st)
	}
	s.Kill() // once more does nothing

	address := s.Address()
	require.NoError(t, s.Restart())
	_, _, reply := send(t, c, s.URL()+"/v1/chat/completions", long)
	if u := decode[choices](t, reply).Usage; u.Details.Cached != 0 || s.Address() != address {
		t.Errorf("restarted on %s instead of %s with %d tokens cached", s.Address(), address, u.Details.Cached)
	}
	if st := s.Stats(); !st.Up || st.Requests != 1 || !st.Started.After(first.Started) {
		t.Errorf("restarted: stats %+v", st)
	}
	if err := s.Restart(); err != nil { // of one that runs
		t.Fatal(err)
	}
	s.Close()
	if err := s.Restart(); !errors.Is(err, modelserver.ErrClosed) {
		t.Errorf("Restart after Close = %v, want ErrClosed", err)
	}
}

func TestShutdownDrains(t *testing.T) {
	s, c := start(t, modelserver.Options{TimeScale: 1}), client(t)
	replies := make(chan string)
	go func() {
		_, _, body := send(t, c, s.URL()+"/v1/chat/completions", chatBody("simulated-llm", "hi", `,"stream":true,"x-sim-output-tokens":30`))
		replies <- body
	}()
	eventually(t, "the request runs", func() bool { return s.Stats().Running == 1 })
	require.NoError(t, s.Shutdown(t.Context()), "Shutdown")
	if body := <-replies; !strings.HasSuffix(body, "data: [DONE]\n\n") || strings.Count(body, `"content":"`) != 31 {
		t.Errorf("the stream was not drained: %s", body)
	}
}

func TestShutdownAborts(t *testing.T) {
	s, c := start(t, modelserver.Options{TimeScale: 1}), client(t)
	_, body := openStream(t, c, s)
	s.HangMetrics(true)
	hung := make(chan error)
	go func() {
		resp, err := c.Get(s.URL() + "/metrics")
		if err == nil {
			resp.Body.Close()
		}
		hung <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown = %v, want the deadline", err)
	}
	if _, err := io.ReadAll(body); err == nil {
		t.Error("the stream ended in good order")
	}
	<-hung
}

func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := modelserver.Start(ctx, modelserver.Options{})
	require.NoError(t, err)
	cancel()
	eventually(t, "the server is down", func() bool { return !s.Stats().Up })
	if _, err := modelserver.Start(ctx, modelserver.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with an ended context = %v", err)
	}
}

func TestFaults(t *testing.T) {
	s, c := start(t, modelserver.Options{}), client(t)
	s.FailNext(2)
	for i, want := range []int{500, 500, 200} {
		status, _, body := send(t, c, s.URL()+"/v1/completions", `{"model":"simulated-llm","prompt":"a"}`)
		if r := decode[choices](t, body); status != want || (r.Error != nil) != (want == 500) {
			t.Errorf("request %d: status %d, body %s, want %d", i, status, body, want)
		}
	}

	s.GarbageMetrics(true)
	if page := get(t, c, s.URL()+"/metrics"); strings.Contains(page, "# TYPE") {
		t.Errorf("garbage metrics: %q", page)
	}
	s.GarbageMetrics(false)

	s.HangMetrics(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/metrics", nil)
	if _, err := c.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging metrics: error %v", err)
	}
	get(t, c, s.URL()+"/health") // the rest works
	pages := make(chan string)
	go func() { pages <- get(t, c, s.URL()+"/metrics") }()
	s.HangMetrics(false)
	metric(t, <-pages, "vllm:num_requests_running")
}

func TestStartErrors(t *testing.T) {
	for _, opts := range []modelserver.Options{
		{TimeScale: -1}, {TimeScale: math.NaN()}, {TimeScale: math.Inf(1)}, {MaxOutput: -1}, {MaxBodyBytes: -1}, {KVBlocks: -1}, {MaxSeqs: -1}, {MaxLoRAs: -1},
		{Models: []string{""}}, {Models: []string{"a"}, Adapters: []string{"a"}},
		{Adapters: make([]string, 4097)},
	} {
		if s, err := modelserver.Start(t.Context(), opts); err == nil {
			s.Close()
			t.Errorf("Start(%+v) = nil error", opts)
		}
	}
}

func TestGivenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := start(t, modelserver.Options{Listener: l})
	if s.Address() != l.Addr().String() {
		t.Errorf("Address() = %s, want %s", s.Address(), l.Addr())
	}
	get(t, client(t), s.URL()+"/health")
}

// TestNothingIsLeft ends servers in every way, with streams under way, and
// counts goroutines.
func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, end := range []func(*modelserver.Server){
		(*modelserver.Server).Close,
		(*modelserver.Server).Kill,
		func(s *modelserver.Server) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.Shutdown(ctx)
		},
	} {
		s, err := modelserver.Start(context.Background(), modelserver.Options{TimeScale: 1})
		require.NoError(t, err)
		transport := &http.Transport{}
		var open []*http.Response
		for range 5 {
			resp, _ := openStream(t, &http.Client{Transport: transport}, s)
			open = append(open, resp)
		}
		end(s)
		s.Close()
		for _, resp := range open {
			resp.Body.Close()
		}
		transport.CloseIdleConnections()
	}
	// The client's goroutines end on their own time.
	eventually(t, fmt.Sprintf("%d goroutines", before), func() bool { return runtime.NumGoroutine() <= before })
}

// TestLoad runs many clients that come and go against a small cache, so that
// queueing, preemption and cancellation all happen.
func TestLoad(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}, Adapters: []string{"a", "b"}, KVBlocks: 200, MaxSeqs: 16, MaxLoRAs: 1, TimeScale: 200}), client(t)
	var clients sync.WaitGroup
	for i := range 24 {
		clients.Go(func() {
			for turn := range 6 {
				model := []string{"m", "a", "b"}[(i+turn)%3]
				ctx, cancel := context.WithCancel(t.Context())
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/v1/chat/completions", strings.NewReader(
					chatBody(model, strings.Repeat("some words ", 10+i), `,"stream":true,"x-sim-output-tokens":`+strconv.Itoa(20+10*turn))))
				resp, err := c.Do(req)
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				if i%4 == 0 {
					io.CopyN(io.Discard, resp.Body, 500)
				} else if body, err := io.ReadAll(resp.Body); err != nil || strings.Count(string(body), `"content":"`) != 21+10*turn {
					t.Errorf("client %d, turn %d: error %v, %d words", i, turn, err, strings.Count(string(body), `"content":"`)-1)
				}
				cancel()
				resp.Body.Close()
			}
		})
	}
	clients.Wait()
	eventually(t, "the server is idle", func() bool { st := s.Stats(); return st.Running+st.Waiting == 0 && st.KVUsage == 0 })
	if st := s.Stats(); st.Requests != 144 || st.Finished+st.Cancelled != 144 || st.Finished < 108 {
		t.Errorf("stats %+v", st)
	}
}

// TestPace compares the real time of a reply with the engine's formula. Only
// too fast is an error: a busy machine may be late.
func TestPace(t *testing.T) {
	s, c := start(t, modelserver.Options{Models: []string{"m"}, TimeScale: 2, Calibration: engine.Llama70H100x4()}), client(t)
	began := time.Now()
	send(t, c, s.URL()+"/v1/chat/completions", chatBody("m", "hi", `,"x-sim-output-tokens":20`))
	// 20 steps of 17.5 ms and more, twice as fast.
	if took := time.Since(began); took < 20*17500*time.Microsecond/2 {
		t.Errorf("20 tokens in %v", took)
	}
}

func BenchmarkMetricsPage(b *testing.B) {
	s := start(b, modelserver.Options{})
	c := client(b)
	b.ReportAllocs()
	for b.Loop() {
		get(b, c, s.URL()+"/metrics")
	}
}

func FuzzChatBody(f *testing.F) {
	for _, body := range []string{
		`{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":2}`,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:"}}]}]}`,
		`{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{}]}],"tools":[{}],"max_tokens":1}`,
		`{"model":"m","input":[[1,2]],"prompt":[1,2],"x-sim-output-tokens":"2"}`,
		`{"model":"m","input":"a","prompt":["a"],"system":"a","max_tokens":1,"stream":true}`,
	} {
		f.Add([]byte(body))
	}
	s, c := start(f, modelserver.Options{Models: []string{"m"}, TimeScale: 1e6, MaxOutput: 20, KVBlocks: 64}), client(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"chat/completions", "completions", "responses", "messages", "embeddings"} {
			status, _, reply := send(t, c, s.URL()+"/v1/"+path, string(body))
			switch status {
			case http.StatusOK:
			case http.StatusBadRequest, http.StatusNotFound:
				decode[map[string]any](t, reply)
			default:
				t.Errorf("%s: status %d: %s", path, status, reply)
			}
		}
	})
}
