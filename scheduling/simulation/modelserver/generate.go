package modelserver

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// outputHeader fixes the length of a reply. The body may have a field of the
// same name; the header wins.
const outputHeader = "X-Sim-Output-Tokens"

// fields are what the bodies of the generating APIs have in common.
type fields struct {
	Model     string      `json:"model"`
	Stream    bool        `json:"stream"`
	Seed      int64       `json:"seed"`
	CacheSalt string      `json:"cache_salt"`
	IgnoreEOS bool        `json:"ignore_eos"`
	MinTokens int         `json:"min_tokens"`
	SimOutput json.Number `json:"x-sim-output-tokens"`
}

// query is a request for text, whichever API it came by.
type query struct {
	fields
	prompt prompt
	limit  int // most tokens of the reply; 0: as many as fit
}

// reply is an answer under way.
type reply struct {
	id      string
	model   string
	created int64
	prompt  int    // tokens
	text    []byte // of the whole reply
	finish  string // "stop" or "length", OpenAI's words
	stream  *stream
}

func (r *reply) tokens() int        { return len(r.text) / tokenBytes }
func (r *reply) token(i int) []byte { return r.text[i*tokenBytes : (i+1)*tokenBytes] }
func (r *reply) cut() bool          { return r.finish == "length" }
func (r *reply) cached() int        { return r.stream.cached }
func (r *reply) modelJSON() string  { return quote(r.model) }
func quote(s string) string         { b, _ := json.Marshal(s); return string(b) } // a string cannot fail
func (p *process) newID(kind string) string {
	return kind + "-sim-" + strconv.FormatUint(mix(uint64(p.started.UnixNano())^p.ids.Add(1)), 16)
}

// api is one of the APIs that generate text: how a request is read and how a
// reply is written. One value serves one request.
type api interface {
	// read turns the body into a query.
	read(p *process, w http.ResponseWriter, r *http.Request) (query, *apiError)
	// kind is the prefix of the reply's id.
	kind() string
	// whole returns the body of a reply that is not streamed.
	whole(*reply) any
	// begin, delta and end append the events of a streamed reply: what comes with
	// the first token, one token, and what comes after the last.
	begin([]byte, *reply) []byte
	delta([]byte, *reply, int) []byte
	end([]byte, *reply) []byte
	// fail writes an error in the API's form.
	fail(http.ResponseWriter, *apiError)
}

func (p *process) generate(w http.ResponseWriter, r *http.Request, a api) {
	q, failure := a.read(p, w, r)
	var rep *reply
	if failure == nil {
		rep, failure = p.plan(r, &q)
	}
	if failure != nil {
		a.fail(w, failure)
		return
	}
	rep.id = p.newID(a.kind())
	rep.stream.eager = q.Stream
	p.loop.submit(rep.stream)
	defer p.loop.leave(rep.stream)
	if p.opts.Logger.Enabled(r.Context(), slog.LevelDebug) {
		p.opts.Logger.Debug("request", "id", rep.id, "model", rep.model, "prompt", rep.prompt, "output", rep.tokens())
	}
	if q.Stream {
		writeStream(w, r, a, rep)
		return
	}
	if _, _, err := rep.stream.wait(r.Context()); err != nil {
		panic(http.ErrAbortHandler)
	}
	writeJSON(w, http.StatusOK, a.whole(rep))
}

// writeStream writes a reply as it comes. A stream that is cut short is
// aborted, so that the client cannot take it for a whole one.
func writeStream(w http.ResponseWriter, r *http.Request, a api, rep *reply) {
	flusher := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
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
			continue // the news was read with that before
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

// plan decides what the reply to a query will be.
func (p *process) plan(r *http.Request, q *query) (*reply, *apiError) {
	if q.Model == "" {
		return nil, invalid("model", "'model' must be given")
	}
	adapter, ok := p.models.find(q.Model)
	if !ok {
		return nil, unknownModel(q.Model)
	}
	in := q.prompt.tokens()
	if in == 0 {
		return nil, invalid("prompt", "The prompt is empty.")
	}
	room := p.loop.capacity - in + 1 // the last token of a reply takes no place
	if room < 1 {
		e := invalid("prompt", "This simulated server's maximum context length is %d tokens; the prompt has %d.", p.loop.capacity, in)
		e.code = "context_length_exceeded"
		return nil, e
	}
	exact, failure := exactLength(r, q.SimOutput)
	if failure != nil {
		return nil, failure
	}
	if q.limit < 0 || q.MinTokens < 0 {
		return nil, invalid("max_tokens", "'max_tokens' is %d and 'min_tokens' is %d: want at least 1 and 0", q.limit, q.MinTokens)
	}

	seed := hashBytes(p.opts.Seed^mix(uint64(q.Seed)), q.prompt)
	natural := exact // the length at which the reply ends by itself
	if natural == 0 {
		natural = max(q.MinTokens, drawLength(seed, p.opts.MaxOutput))
	}
	most := min(room, cmp.Or(q.limit, room))
	out, finish := natural, "stop"
	if q.IgnoreEOS && exact == 0 && q.limit > 0 || natural > most {
		out, finish = most, "length"
	}

	content := drawWords(q.prompt, seed, out)
	s := newStream()
	s.cut = finish == "length"
	s.request = engine.Request{
		Prompt:  in,
		Output:  out,
		Hashes:  blockHashes(q.CacheSalt, content),
		Adapter: adapter,
	}
	text := append([]byte(nil), content[in*tokenBytes:]...) // the prompt need not stay
	return &reply{
		model:   q.Model,
		created: time.Now().Unix(),
		prompt:  in,
		text:    text,
		finish:  finish,
		stream:  s,
	}, nil
}

// exactLength returns the output length a client asked for by the header or by
// the field; 0 if it did not.
func exactLength(r *http.Request, field json.Number) (int, *apiError) {
	value := cmp.Or(r.Header.Get(outputHeader), field.String())
	if value == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, invalid("x-sim-output-tokens", "x-sim-output-tokens is %q: want a number of at least 1", value)
	}
	return n, nil
}
