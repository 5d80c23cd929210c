package directortest

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultModel is the model of an Engine that names none.
const DefaultModel = "tiny"

// Engine is a model server that does everything right. What it answers depends on nothing
// but the request, so that a client can say what it is to receive: see Answer.
//
// It answers chat completions, completions, responses and messages, streamed where the
// request has "stream":true, the native streams of Triton, TGI and llama.cpp, /health with
// a 200 of no length and no type, OPTIONS with a 204, and any other path that is posted to with
// a small JSON object. A request of another model gets a 404, one with "temperature":-1 a
// 400. The "user" of a request is the id of its answer.
type Engine struct {
	Model  string // default DefaultModel
	Tokens int    // how many an answer has; default 8
	// Prefill is the time to the first token, PerToken that to each one that follows. An
	// answer that is not streamed takes as long. Default: no time.
	Prefill, PerToken time.Duration
	// Places is how many requests it works on at a time; others wait. Default: all.
	Places int
	// Metrics answers GET /metrics. Nil: 404.
	Metrics Page
	// NoModels answers GET /v1/models with a 404.
	NoModels bool
	// NoUsage leaves out how many tokens there were.
	NoUsage bool
}

// Page answers a request for metrics. running and waiting are the requests it works on and
// those that wait for a place.
type Page func(x *Exchange, running, waiting int)

// load is what an engine is at.
type load struct {
	places           chan struct{} // nil: no bound
	running, waiting atomic.Int64
}

// Behaviour returns the engine as a behaviour, with places of its own.
func (e Engine) Behaviour() Behaviour {
	return e.Instead("healthy", func(x *Exchange, _ *Request, a Answer) { x.Answer(a) })
}

// Instead returns an engine that, where it would send the answer a to a request of a client,
// calls answer, which may send it or do something else. What gateways read is answered as
// ever. The request was read, the engine's places are held meanwhile.
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

// answerOwn answers what gateways ask for on their own.
func (e Engine) answerOwn(x *Exchange, r *Request, l *load) bool {
	if r.Method != "GET" {
		return false
	}
	switch r.Path() {
	case "/metrics":
		if e.Metrics != nil {
			e.Metrics(x, int(l.running.Load()), int(l.waiting.Load()))
		} else {
			x.Answer(notFound)
		}
	case "/v1/models":
		if e.NoModels {
			x.Answer(notFound)
		} else {
			x.Answer(JSON(200, `{"object":"list","data":[{"id":"`+e.model()+`","object":"model","created":1700000000,"owned_by":"kit","max_model_len":32768}]}`))
		}
	default:
		return false
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

func (e Engine) model() string {
	if e.Model == "" {
		return DefaultModel
	}
	return e.Model
}

func (e Engine) tokens() int {
	if e.Tokens <= 0 {
		return 8
	}
	return e.Tokens
}

var notFound = JSON(404, `{"error":{"message":"not found","type":"NotFoundError","code":404}}`)

// to is the answer to a request of this method.
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

// Answer returns what the engine answers to a request that is posted to the path.
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
	data = append(data, head+`{"index":0,"delta":{},"finish_reason":"stop"}]}`)
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
	if !e.NoUsage {
		data = append(data, head+`],"usage":`+e.usage("prompt_tokens", "completion_tokens")+`}`)
	}
	return Events(append(data, "[DONE]")...)
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

// named is a stream in which each event is named by its type.
func named(data []string) Answer {
	a := Events(data...)
	for i, d := range data {
		a.Parts[i] = []byte("event: " + field([]byte(d), "type") + "\ndata: " + d + "\n\n")
	}
	return a
}

// native is a stream without a mark at its end.
func (e Engine) native(event func(i int, last bool) string) Answer {
	var data []string
	for i := range e.tokens() {
		data = append(data, event(i, i == e.tokens()-1))
	}
	return Events(data...)
}

// field returns the first value of a name in JSON that the kit or a client wrote: good
// enough for a server that has to understand nothing else.
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
