package modelserver

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// outputHeader fixes the length of a reply. The body may have a field of the
// same name; the header wins.
const outputHeader = "X-Sim-Output-Tokens"

// request is the body of a request by any of the APIs, each of which has a part of the
// fields.
type request struct {
	Model     string      `json:"model"`
	Stream    bool        `json:"stream"`
	Seed      int64       `json:"seed"`
	CacheSalt string      `json:"cache_salt"`
	SessionID string      `json:"session_id"`
	IgnoreEOS bool        `json:"ignore_eos"`
	MinTokens int         `json:"min_tokens"`
	SimOutput json.Number `json:"x-sim-output-tokens"`

	MaxTokens           *int `json:"max_tokens"`
	MaxCompletionTokens int  `json:"max_completion_tokens"`
	MaxOutputTokens     int  `json:"max_output_tokens"`
	N                   *int `json:"n"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`

	Messages     []message       `json:"messages"`
	Prompt       json.RawMessage `json:"prompt"`
	Input        json.RawMessage `json:"input"`
	Instructions string          `json:"instructions"`
	System       json.RawMessage `json:"system"`
	Tools        json.RawMessage `json:"tools"`

	Encoding   string `json:"encoding_format"`
	Dimensions *int   `json:"dimensions"`

	Text1           json.RawMessage `json:"text_1"`
	Text2           json.RawMessage `json:"text_2"`
	Queries         json.RawMessage `json:"queries"`
	Query           json.RawMessage `json:"query"`
	Documents       json.RawMessage `json:"documents"`
	TopN            int             `json:"top_n"`
	ReturnDocuments *bool           `json:"return_documents"`

	Previous     string          `json:"previous_response_id"`
	Conversation json.RawMessage `json:"conversation"`
	Store        *bool           `json:"store"`

	form *form // the body of APIs that take files, and only that
}

func (r *request) maxTokens() int {
	if r.MaxTokens == nil {
		return 0
	}
	return *r.MaxTokens
}

// reply is an answer under way.
type reply struct {
	id      string
	model   string
	created int64
	prompt  int // tokens
	images  int // those of them that are of pictures
	sounds  int
	text    []byte // of the whole reply
	empty   bool   // its only token is its end, which has no text
	finish  string // "stop" or "length", OpenAI's words
	stream  *stream
	more    []*stream // of a pooler: what of the prompt did not go into the first
}

func (r *reply) tokens() int {
	if r.empty {
		return 1
	}
	return len(r.text) / tokenBytes
}

func (r *reply) token(i int) []byte {
	if r.empty {
		return nil
	}
	return r.text[i*tokenBytes : (i+1)*tokenBytes]
}

func (r *reply) truncated() bool { return r.finish == "length" }
func (r *reply) cached() int     { return r.stream.cached }

// api is one of the APIs: how a request is read and how a reply is written. One value
// serves one request.
type api interface {
	// query says what a request asks for: a prompt, and the most tokens of the reply; 0: as
	// many as fit.
	query(*request) (prompt, int, *apiError)
	// kind is the prefix of the reply's id.
	kind() string
	// whole returns the body of a reply that is not streamed: a raw, or what becomes JSON.
	whole(*reply) any
	// fail writes an error in the API's form.
	fail(http.ResponseWriter, *apiError)
}

// streamer is an api that can stream. Each method appends events: what comes with the
// first token, one token, and what comes after the last.
type streamer interface {
	begin([]byte, *reply) []byte
	delta([]byte, *reply, int) []byte
	end([]byte, *reply) []byte
}

// formAPI is an api whose body is read as a form.
type formAPI interface{ takesForm() }

// typed is a streamer whose streams are no server-sent events, or not always.
type typed interface{ contentType() string }

const eventStream = "text/event-stream; charset=utf-8"

// openAI is how OpenAI's APIs fail.
type openAI struct{}

func (openAI) fail(w http.ResponseWriter, e *apiError) { e.write(w) }

func (p *process) generate(w http.ResponseWriter, r *http.Request, a api) {
	if p.fails() {
		toldToFail().write(w)
		return
	}
	var req request
	failure := p.readRequest(w, r, a, &req)
	var rep *reply
	if failure == nil {
		req.SessionID = cmp.Or(req.SessionID, r.Header.Get("X-Session-ID"))
		req.SimOutput = cmp.Or(json.Number(r.Header.Get(outputHeader)), req.SimOutput)
		rep, failure = p.plan(&req, a)
	}
	if failure != nil {
		a.fail(w, failure)
		return
	}
	s, streams := a.(streamer)
	rep.stream.streaming = streams && req.Stream
	for _, s := range append(rep.more, rep.stream) {
		p.loop.submit(s)
		defer p.loop.leave(s)
	}
	if p.opts.Logger.Enabled(r.Context(), slog.LevelDebug) {
		p.opts.Logger.Debug("request", "id", rep.id, "model", rep.model, "prompt", rep.prompt, "output", rep.tokens())
	}
	if rep.stream.streaming {
		writeStream(w, r, s, rep)
		return
	}
	for _, s := range append(rep.more, rep.stream) {
		if _, _, err := s.wait(r.Context()); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	writeAnswer(w, a.whole(rep))
}

func toldToFail() *apiError {
	return &apiError{status: http.StatusInternalServerError, kind: "server_error", message: "This simulated server was told to fail."}
}

// readRequest reads the whole body.
func (p *process) readRequest(w http.ResponseWriter, r *http.Request, a api, req *request) (failure *apiError) {
	if _, ok := a.(formAPI); !ok {
		return p.readJSON(w, r, req)
	}
	if req.form, failure = p.readForm(w, r); failure != nil {
		return failure
	}
	req.Model, req.SimOutput = req.form.fields["model"], json.Number(req.form.fields["x-sim-output-tokens"])
	req.Stream = req.form.choice("stream", "false", "true") == "true"
	return nil
}

// writeStream writes a reply as it comes. A stream that is cut short is
// aborted, so that the client cannot take it for a whole one.
func writeStream(w http.ResponseWriter, r *http.Request, a streamer, rep *reply) {
	flusher := http.NewResponseController(w)
	kind := eventStream
	if t, ok := a.(typed); ok {
		kind = t.contentType()
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	// The real server sends its headers before the first token too.
	if flusher.Flush() != nil {
		panic(http.ErrAbortHandler)
	}
	var buf []byte
	for sent := 0; ; {
		produced, ended, err := rep.stream.wait(r.Context())
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		buf = buf[:0]
		if sent == 0 && produced > 0 {
			buf = a.begin(buf, rep)
		}
		for ; sent < produced; sent++ {
			buf = a.delta(buf, rep, sent)
		}
		if ended {
			buf = a.end(buf, rep)
		}
		if len(buf) == 0 {
			continue // these tokens were written with those before
		}
		if _, err := w.Write(buf); err != nil {
			panic(http.ErrAbortHandler)
		}
		if ended {
			return
		}
		if flusher.Flush() != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// plan decides what the reply to a request will be.
func (p *process) plan(req *request, a api) (*reply, *apiError) {
	prompt, limit, failure := a.query(req)
	if failure != nil {
		return nil, failure
	}
	if req.Model == "" {
		return nil, invalid("model", "'model' must be given")
	}
	adapter, ok := p.models.find(req.Model)
	if !ok {
		return nil, unknownModel(req.Model)
	}
	failure, empty, slowdown := p.server.faults.request(req.Model)
	if failure != nil {
		return nil, failure
	}
	in := prompt.tokens()
	if in == 0 {
		return nil, invalid("prompt", "The prompt is empty.")
	}
	room := p.loop.capacity - in + 1 // the last token of a reply takes no place
	pools, isPool := a.(pooler)
	if isPool {
		room = p.loop.capacity - pools.longest() + 1
	}
	if room < 1 {
		e := invalid("prompt", "This simulated server's maximum context length is %d tokens; the prompt has %d.", p.loop.capacity, in)
		e.code = "context_length_exceeded"
		return nil, e
	}
	exact := 0 // the length that a client asks for
	if req.SimOutput != "" {
		var err error
		if exact, err = strconv.Atoi(req.SimOutput.String()); err != nil || exact < 1 {
			return nil, invalid("x-sim-output-tokens", "x-sim-output-tokens is %q: want a number of at least 1", req.SimOutput)
		}
	}
	if limit < 0 || req.MinTokens < 0 {
		return nil, invalid("max_tokens", "'max_tokens' is %d and 'min_tokens' is %d: want at least 1 and 0", limit, req.MinTokens)
	}

	if isPool {
		return p.planPool(req, a, in, adapter, slowdown), nil
	}
	seed := hashBytes(p.opts.Seed^mix(uint64(req.Seed)), prompt.data)
	natural := exact // the length at which the reply ends by itself
	if natural == 0 {
		natural = max(req.MinTokens, drawLength(seed, p.opts.MaxOutput))
	}
	most := min(room, cmp.Or(limit, room))
	out, finish := natural, "stop"
	if req.IgnoreEOS && exact == 0 && limit > 0 || natural > most {
		out, finish = most, "length"
	}

	if empty {
		out, finish = 1, "stop"
	}

	content := drawWords(prompt.data, seed, out)
	s := newStream(engine.Request{Prompt: in, Output: out, Hashes: blockHashes(req.CacheSalt, content), Adapter: adapter}, finish == "length")
	s.slowdown = slowdown
	if s.session = req.SessionID; adapter != 0 {
		s.adapter = req.Model
	}
	text := append([]byte(nil), content[in*tokenBytes:]...) // the prompt need not stay
	if empty {
		text = nil
	}
	return &reply{
		id:      p.newID(a.kind() + "-sim"),
		model:   req.Model,
		created: time.Now().Unix(),
		prompt:  in,
		images:  prompt.images,
		sounds:  prompt.sounds,
		text:    text,
		empty:   empty,
		finish:  finish,
		stream:  s,
	}, nil
}

// poolAtOnce is the most tokens of a pooler that are one request for the engine: more are several.
const poolAtOnce = 4096

// planPool is plan for an API of which nothing stays in the cache: its blocks have no hashes.
func (p *process) planPool(req *request, a api, in int, adapter uint32, slowdown float64) *reply {
	rep := &reply{model: req.Model, id: p.newID(a.kind() + "-sim"), created: time.Now().Unix(), prompt: in, finish: "stop"}
	for most := min(poolAtOnce, p.loop.capacity); in > 0; in -= most {
		s := newStream(engine.Request{Prompt: min(in, most), Output: 1, Adapter: adapter}, false)
		if s.slowdown = slowdown; adapter != 0 {
			s.adapter = req.Model
		}
		rep.more, rep.stream = append(rep.more, s), s
	}
	rep.more = rep.more[:len(rep.more)-1]
	return rep
}

// newID returns an id that nobody else has: not on this server, and hardly on another.
func (p *process) newID(prefix string) string {
	dash := "_"
	if strings.HasSuffix(prefix, "-sim") {
		dash = "-"
	}
	seed := hashBytes(uint64(p.started.UnixNano()), []byte(p.opts.Name))
	return prefix + dash + strconv.FormatUint(mix(seed^p.ids.Add(1)), 16)
}
