package directortest

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultModel is the default of Engine.Model.
const DefaultModel = "tiny"

// Engine is a model server without faults. Its answers depend only on the request, so that a client
// knows what to expect: see Answer.
//
// It serves chat completions, completions, responses and messages, streamed if the request has
// "stream":true, the native streams of Triton, TGI and llama.cpp, /health with an empty 200, OPTIONS
// with a 204, and any other POST with a small JSON object. A request for another model gets a 404,
// one with "temperature":-1 a 400. The "user" of a request becomes the ID of its answer.
type Engine struct {
	Model  string // default DefaultModel
	Tokens int    // tokens per answer; default 8
	// Prefill is the time to the first token, PerToken the time to each following one. An answer
	// that is not streamed takes as long in total. Default none.
	Prefill, PerToken time.Duration
	// Places is the number of concurrent requests; others wait. Default: no limit.
	Places int
	// Metrics answers GET /metrics. Nil: 404.
	Metrics Page
	// NoModels answers GET /v1/models with a 404.
	NoModels bool
	// NoUsage leaves out token counts.
	NoUsage bool
}

// Page answers a request for metrics, given the number of running requests and of those waiting for
// a place.
type Page func(x *Exchange, running, waiting int)

// load counts an engine's requests.
type load struct {
	places           chan struct{} // nil: no limit
	running, waiting atomic.Int64
}

// Behaviour returns the engine as a behaviour, with its own places.
func (e Engine) Behaviour() Behaviour {
	return e.Instead("healthy", func(x *Exchange, _ *Request, a Answer) { x.Answer(a) })
}

// Instead returns an engine that calls answer for each request of a client, after it has read the
// request and while it holds a place. answer may send a, the correct answer, or do something else.
// Requests of gateways, such as for metrics, are answered as always.
func (e Engine) Instead(name string, answer func(x *Exchange, r *Request, a Answer)) Behaviour {
	l := &load{}
	if e.Places > 0 {
		l.places = make(chan struct{}, e.Places)
	}
	return Behaviour{Name: name, Serve: func(x *Exchange) {
		r := x.Read()
		if r == nil || e.answerOwn(x, r, l) {
			return
		}
		if !l.enter(x) {
			return
		}
		defer l.leave()
		answer(x, r, e.Answer(r.Path(), r.Body).to(r))
	}}
}

// answerOwn answers requests that gateways send themselves, and reports whether r is one.
func (e Engine) answerOwn(x *Exchange, r *Request, l *load) bool {
	path := r.Path()
	switch {
	case r.Method != "GET" || path != "/metrics" && path != "/v1/models":
		return false
	case path == "/metrics" && e.Metrics != nil:
		e.Metrics(x, int(l.running.Load()), int(l.waiting.Load()))
	case path == "/v1/models" && !e.NoModels:
		x.Answer(JSON(200, `{"object":"list","data":[{"id":"`+e.model()+`","object":"model","created":1700000000,"owned_by":"kit","max_model_len":32768}]}`))
	default:
		x.Answer(notFound)
	}
	return true
}

func (l *load) enter(x *Exchange) bool {
	if l.places != nil {
		l.waiting.Add(1)
		defer l.waiting.Add(-1)
		select {
		case l.places <- struct{}{}:
		case <-x.server.done:
			x.Close()
			return false
		}
	}
	l.running.Add(1)
	return true
}

func (l *load) leave() {
	l.running.Add(-1)
	if l.places != nil {
		<-l.places
	}
}

func (e Engine) model() string { return cmp.Or(e.Model, DefaultModel) }

func (e Engine) tokens() int {
	setDefault(&e.Tokens, 8)
	return e.Tokens
}

var notFound = JSON(404, `{"error":{"message":"not found","type":"NotFoundError","code":404}}`)

// to adapts a to the method of r.
func (a Answer) to(r *Request) Answer {
	switch r.Method {
	case "HEAD":
		if a.Framing == Length {
			a = a.With(fmt.Sprintf("Content-Length: %d", len(a.Body())))
		}
		a.Parts, a.Framing = nil, Bare
	case "OPTIONS":
		a = Answer{Status: 204, Header: []string{"Allow: GET, POST, OPTIONS", "Access-Control-Allow-Origin: *"}, Framing: Bare}
	}
	return a
}

// Answer returns the engine's answer to a POST of body to path.
func (e Engine) Answer(path string, body []byte) Answer {
	path, _, _ = strings.Cut(path, "?")
	path = strings.TrimRight(path, "/")
	if path == "/health" {
		return Answer{}
	}
	if len(body) > 0 && (body[0] != '{' || body[len(body)-1] != '}') {
		return JSON(400, `{"error":{"message":"the body is not JSON","type":"BadRequestError","code":400}}`)
	}
	if field(body, "temperature") == "-1" {
		return JSON(400, `{"error":{"message":"temperature must be non-negative","type":"BadRequestError","code":400}}`)
	}
	if m := field(body, "model"); m != "" && m != e.model() {
		return JSON(404, `{"error":{"message":"The model `+m+` does not exist","type":"NotFoundError","code":404}}`)
	}
	id, stream := field(body, "user"), field(body, "stream") == "true"
	var a Answer
	switch {
	case strings.HasSuffix(path, "/chat/completions"):
		a = e.chat(id, stream)
	case strings.HasSuffix(path, "/completions"):
		a = e.completion(id, stream)
	case strings.HasSuffix(path, "/responses"):
		a = e.response(id, stream)
	case strings.HasSuffix(path, "/messages"):
		a = e.message(id, stream)
	case strings.HasSuffix(path, "/generate_stream"):
		a = e.native(func(i int, last bool) string {
			return fmt.Sprintf(`{"index":%d,"token":{"id":%d,"text":" w","special":false},"text_output":" w","finished":%t}`, i, i+5, last)
		})
	case strings.HasSuffix(path, "/completion"):
		a = e.native(func(i int, last bool) string {
			return fmt.Sprintf(`{"index":0,"content":" w","tokens":[%d],"stop":%t}`, i+5, last)
		})
	default:
		a = JSON(200, `{"id":"`+id+`","ok":true}`)
	}
	a.First = e.Prefill
	if len(a.Parts) > 1 {
		a.Each = e.PerToken
	} else {
		a.First += e.PerToken * time.Duration(e.tokens()-1)
	}
	return a
}

const promptTokens = 5

func (e Engine) text() string { return strings.Repeat(" w", e.tokens()) }

func (e Engine) usage(prompt, completion string) string {
	if e.NoUsage {
		return "null"
	}
	return fmt.Sprintf(`{"%s":%d,"%s":%d,"total_tokens":%d}`, prompt, promptTokens, completion, e.tokens(), promptTokens+e.tokens())
}

func (e Engine) chat(id string, stream bool) Answer {
	m := e.model()
	if !stream {
		return JSON(200, `{"id":"`+id+`","object":"chat.completion","created":1700000000,"model":"`+m+
			`","choices":[{"index":0,"message":{"role":"assistant","content":"`+e.text()+`"},"finish_reason":"stop"}],"usage":`+
			e.usage("prompt_tokens", "completion_tokens")+`}`)
	}
	head := `{"id":"` + id + `","object":"chat.completion.chunk","created":1700000000,"model":"` + m + `","choices":[`
	data := []string{head + `{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`}
	for range e.tokens() {
		data = append(data, head+`{"index":0,"delta":{"content":" w"},"finish_reason":null}]}`)
	}
	return e.done(head, append(data, head+`{"index":0,"delta":{},"finish_reason":"stop"}]}`))
}

// done returns a stream of chunks that ends with the usage and a mark.
func (e Engine) done(head string, data []string) Answer {
	if !e.NoUsage {
		data = append(data, head+`],"usage":`+e.usage("prompt_tokens", "completion_tokens")+`}`)
	}
	return Events(append(data, "[DONE]")...)
}

func (e Engine) completion(id string, stream bool) Answer {
	head := `{"id":"` + id + `","object":"text_completion","created":1700000000,"model":"` + e.model() + `","choices":[`
	if !stream {
		return JSON(200, head+`{"index":0,"text":"`+e.text()+`","finish_reason":"stop"}],"usage":`+e.usage("prompt_tokens", "completion_tokens")+`}`)
	}
	var data []string
	for i := range e.tokens() {
		finish := "null"
		if i == e.tokens()-1 {
			finish = `"length"`
		}
		data = append(data, head+`{"index":0,"text":" w","finish_reason":`+finish+`}]}`)
	}
	return e.done(head, data)
}

func (e Engine) response(id string, stream bool) Answer {
	whole := `{"id":"` + id + `","object":"response","created_at":1700000000,"status":"completed","model":"` + e.model() +
		`","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"` + e.text() + `"}]}],"usage":` +
		e.usage("input_tokens", "output_tokens") + `}`
	if !stream {
		return JSON(200, whole)
	}
	data := []string{`{"type":"response.created","response":{"id":"` + id + `","status":"in_progress"}}`}
	for range e.tokens() {
		data = append(data, `{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":" w"}`)
	}
	return named(append(data, `{"type":"response.completed","response":`+whole+`}`))
}

func (e Engine) message(id string, stream bool) Answer {
	if !stream {
		return JSON(200, `{"id":"`+id+`","type":"message","role":"assistant","model":"`+e.model()+
			`","content":[{"type":"text","text":"`+e.text()+`"}],"stop_reason":"end_turn","usage":`+e.usage("input_tokens", "output_tokens")+`}`)
	}
	data := []string{
		`{"type":"message_start","message":{"id":"` + id + `","type":"message","role":"assistant","model":"` + e.model() + `","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
	}
	for range e.tokens() {
		data = append(data, `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" w"}}`)
	}
	return named(append(data, `{"type":"content_block_stop","index":0}`,
		fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":%d}}`, e.tokens()),
		`{"type":"message_stop"}`))
}

// named returns a stream in which each event is named by its type.
func named(data []string) Answer {
	a := Events(data...)
	for i, d := range data {
		a.Parts[i] = []byte("event: " + field([]byte(d), "type") + "\ndata: " + d + "\n\n")
	}
	return a
}

// native returns a stream without an end mark.
func (e Engine) native(event func(i int, last bool) string) Answer {
	var data []string
	for i := range e.tokens() {
		data = append(data, event(i, i == e.tokens()-1))
	}
	return Events(data...)
}

// field returns the first value of a name in JSON that this package wrote.
func field(body []byte, name string) string {
	key := make([]byte, 0, 32)
	key = append(append(append(key, '"'), name...), '"')
	_, rest, ok := bytes.Cut(body, key)
	if !ok {
		return ""
	}
	rest = bytes.TrimLeft(rest, ": \t\r\n")
	if len(rest) > 0 && rest[0] == '"' {
		v, _, _ := bytes.Cut(rest[1:], []byte{'"'})
		return string(v)
	}
	if i := bytes.IndexAny(rest, ",}] \t\r\n"); i >= 0 {
		rest = rest[:i]
	}
	return string(rest)
}
