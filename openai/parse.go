package openai

import (
	"bytes"
	"math"
	"unicode/utf8"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// Limits bounds what Parse accepts. The zero value has all defaults; a field
// that is 0 or negative has its default.
type Limits struct {
	MaxBytes      int // body in JSON, in bytes. Default: 16 MiB
	MaxFormBytes  int // body that is a form with files, in bytes. Default: 32 MiB
	MaxDepth      int // nesting of objects and arrays. Default: 128, at most 10000
	MaxModelBytes int // model name, in bytes. Default: 256
	MaxIDBytes    int // cache salt, session and previous id, each, in bytes. Default: 1024

	// ModelOptional accepts a request that names no model: who parses it has one in
	// mind, or answers with MissingModel.
	ModelOptional bool
}

func (l Limits) withDefaults() Limits {
	def := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	def(&l.MaxBytes, 16<<20)
	def(&l.MaxFormBytes, 32<<20)
	def(&l.MaxDepth, jsonscan.DefaultMaxDepth)
	def(&l.MaxModelBytes, 256)
	def(&l.MaxIDBytes, 1024)
	return l
}

// Largest is the most bytes that any body may have.
func (l Limits) Largest() int {
	l = l.withDefaults()
	return max(l.MaxBytes, l.MaxFormBytes)
}

// Parsed is what Parse found beside what a Request holds.
type Parsed struct {
	API API

	// Model is where the model name lies in the body: a JSON string with its
	// quotes, or the value of a form field. Empty if there is none, which only
	// Other and Limits.ModelOptional allow. SpliceModel replaces it, or puts one in
	// its place.
	Model types.Span

	// Form is set if the body is multipart/form-data, not JSON.
	Form bool

	// IncludeUsage is set if the body asks for usage at the end of a stream
	// (stream_options.include_usage).
	IncludeUsage bool

	missing missing // where a model goes if there is none
}

// Parse reads a request in one pass and fills req from it: Model, Body, Prompt,
// MaxTokens, Stream, CacheSalt, SessionID, ProgramID and PreviousID are set, whatever was
// there before; all else is left alone. Spans of an earlier Prompt and strings that did not
// change are used again, so that a pooled Request costs no allocation. After an
// error, an *Error, req is as it was.
//
// The body must not change while req is in use. contentType is that of the
// request; only multipart/form-data matters.
//
// What is read, and how:
//
//   - Of a key that occurs twice, the last one counts, as in Python and
//     encoding/json. Keys may be written with escapes. null is as good as absent.
//   - A byte order mark before the object is none of it.
//   - model must be a string that is not empty. With Limits.ModelOptional it may be
//     absent, null or empty; then Request.Model and Parsed.Model are empty.
//   - max_completion_tokens, max_tokens or max_output_tokens, as the API has it,
//     must be an integer as encoding/json reads one into an int: 1e2 and 1.0 are
//     errors. A negative number is how some servers are told "no bound": 0.
//   - SessionID is the first of nvext.agent_context.trajectory_id, client_metadata.thread_id,
//     nvext.agent_context.session_id, session_id, metadata.session_id (or the session in a
//     metadata.user_id as Claude Code writes it), client_metadata.session_id, prompt_cache_key,
//     for Responses conversation (a string or an object with an id), and conversation_id. The
//     fields user and safety_identifier are not read: who a tenant is, no client decides.
//   - ProgramID is metadata.program_id, or the session_id of a trajectory or a thread, or
//     nvext.agent_context.parent_session_id or parent_trajectory_id. Of all these but
//     prompt_cache_key and conversation, what is no string or too long counts as absent.
//   - PreviousID is previous_response_id, or else the conversation, of Responses.
//   - Prompt is as described at the top of the package, and Work says what is asked for beside it. Of the
//     numbers that do, those that no server takes (a size of 10^9, -1 steps) are as good as absent.
//   - n, how many texts a chat or a completion is to give for one prompt, is not read, as it is where pictures are made:
//     MaxTokens is of one of them.
//   - What else is wrong with a body is left to the model server to say.
//
// Requests over gRPC are read as far as they are well formed, and name no model. For Other
// nothing is an error, and there is no prompt: Model and Stream are
// filled if the body is a JSON object that has them.
func Parse(api API, contentType string, body []byte, req *types.Request, limits Limits) (Parsed, error) {
	limits = limits.withDefaults()
	if api == Other {
		return parseOther(api, body, req, limits), nil
	}
	if api.isGRPC() {
		return parseGRPC(api, body, req, limits)
	}
	if !api.NamesModel() && api != Generate {
		limits.ModelOptional = true
	}
	var p Parsed
	var err error
	if boundary, ok := formBoundary(contentType); ok {
		p, err = parseForm(api, boundary, body, req, limits)
	} else {
		p, err = parseJSON(api, body, req, limits)
	}
	if err != nil && api.lenient() && !hidesModel(body, limits) {
		return parseOther(api, body, req, limits), nil
	}
	return p, err
}

// hidesModel reports whether a body cannot be read, but may name a model for who reads it otherwise: Python takes NaN for a
// number. Who may not ask for a model must not get it so.
func hidesModel(body []byte, limits Limits) bool {
	if !bytes.Contains(body, []byte("model")) && !bytes.Contains(body, []byte(`\u`)) {
		return false
	}
	var d document
	return len(body) > limits.MaxBytes || d.scan(body, limits.MaxDepth, nil) != nil
}

func parseJSON(api API, body []byte, req *types.Request, limits Limits) (Parsed, error) {
	if len(body) > limits.MaxBytes {
		return Parsed{}, tooLarge(len(body), limits.MaxBytes)
	}
	if api.hasExtra() {
		return parseExtra(api, body, req, limits)
	}
	var d document
	if err := d.scan(body, limits.MaxDepth, nil); err != nil {
		return Parsed{}, err
	}
	p, err := d.fill(api, nil, req, limits)
	if d.diffuses && api == ChatCompletions && err == nil {
		req.Work = diffusion(body, limits.MaxDepth)
	}
	return p, err
}

// diffusion reads again, for what only diffusion models are asked, a body that has some of it.
func diffusion(body []byte, maxDepth int) types.Work {
	x := extra{api: Videos} // as films, since it does not matter: a picture is a film of one frame
	var d document
	if d.scan(body, maxDepth, &x) != nil || !x.asked.diffuses() {
		return types.Work{}
	}
	return x.asked.denoise(x.asked.said[qFrames] || x.asked.said[qSeconds])
}

// field is a top-level key that Parse cares about.
type field uint8

const (
	fModel field = iota
	fStream
	fMaxTokens
	fMaxCompletionTokens
	fMaxOutputTokens
	fCacheSalt
	fPromptCacheKey
	fPreviousResponseID
	fConversation
	fTools
	fFunctions
	fSystem
	fInstructions
	fMessages
	fInput
	fPrompt
	fTokenIDs
	fSamplingMaxTokens // max_tokens in sampling_params
	numFields

	fStreamOptions
	fSamplingParams
	fDiffusion // what diffusion models behind /chat/completions take
	fSessionID
	fConversationID
	fMetadata
	fClientMetadata
	fNvext
	fAgentContext // in nvext
	fUnknown
)

func fieldOf(key []byte) field {
	switch string(key) {
	case "model":
		return fModel
	case "stream":
		return fStream
	case "max_tokens":
		return fMaxTokens
	case "max_completion_tokens":
		return fMaxCompletionTokens
	case "max_output_tokens":
		return fMaxOutputTokens
	case "cache_salt":
		return fCacheSalt
	case "prompt_cache_key":
		return fPromptCacheKey
	case "previous_response_id":
		return fPreviousResponseID
	case "conversation":
		return fConversation
	case "tools":
		return fTools
	case "functions":
		return fFunctions
	case "system":
		return fSystem
	case "instructions":
		return fInstructions
	case "messages":
		return fMessages
	case "input":
		return fInput
	case "prompt":
		return fPrompt
	case "token_ids":
		return fTokenIDs
	case "stream_options":
		return fStreamOptions
	case "sampling_params":
		return fSamplingParams
	case "num_inference_steps", "extra_body":
		return fDiffusion
	case "session_id":
		return fSessionID
	case "conversation_id":
		return fConversationID
	case "metadata":
		return fMetadata
	case "client_metadata":
		return fClientMetadata
	case "nvext":
		return fNvext
	}
	return fUnknown
}

// value is where the last value of a field lies.
type value struct {
	kind    jsonscan.Kind // Invalid: the field is absent
	escaped bool          // of a string
	span    types.Span    // of a string: between the quotes
}

// at is where the value starts, with its quote.
func (v value) at() int {
	if v.kind == jsonscan.String {
		return v.span.Start - 1
	}
	return v.span.Start
}

func (v value) absent() bool { return v.kind == jsonscan.Invalid || v.kind == jsonscan.Null }

// document is what one pass over a JSON body finds.
type document struct {
	body         []byte
	fields       [numFields]value
	messages     content
	input        content
	prompt       content
	tokenIDs     content
	instructions content
	system       content
	ids          bodyIDs
	includeUsage bool
	diffuses     bool // there is something for diffusion models
	missing      missing

	// Of a body that is no JSON: whether it may be the beginning of some, and the field in whose
	// value it ends.
	cut    bool
	broken field
}

// scan reads the whole body. Types are looked at later: only the last of
// several values of a field must be right. x reads what it knows of it; nil: all is as in APIs of text.
func (d *document) scan(body []byte, maxDepth int, x *extra) error {
	d.body = body
	s := jsonscan.New(body, maxDepth)
	s.SkipMark()
	if kind, at := s.Peek(); kind != jsonscan.Object {
		s.Skip()
		if err := s.End(); err != nil {
			return notJSON(err, body)
		}
		return &Error{
			Status: 400, Code: CodeInvalidType, Offset: at,
			Message: "the body must be a JSON object, not " + kind.String(),
		}
	}
	s.Enter()
	d.missing = missing{at: types.Span{Start: s.Pos(), End: s.Pos()}, as: onlyMember}
	for d.broken = fUnknown; s.Key(); {
		d.missing.as = firstMember
		key := keyOf(&s, body)
		if x != nil && x.read(&s, body, key) {
			continue
		}
		f := fieldOf(key)
		switch f {
		case fUnknown:
			s.Skip()
		case fDiffusion:
			d.diffuses = true
			s.Skip()
		case fStreamOptions:
			d.includeUsage = readIncludeUsage(&s, body)
		case fSamplingParams:
			d.fields[fSamplingMaxTokens] = readSamplingParams(&s, body)
		case fTokenIDs:
			d.fields[f] = d.tokenIDs.read(&s, body)
		case fMessages:
			d.fields[f] = d.messages.read(&s, body)
		case fInput:
			d.fields[f] = d.input.read(&s, body)
		case fPrompt:
			d.fields[f] = d.prompt.read(&s, body)
		case fInstructions:
			d.fields[f] = d.instructions.read(&s, body)
		case fSystem:
			d.fields[f] = d.system.read(&s, body)
		case fConversation:
			d.fields[f] = readConversation(&s, body)
		case fSessionID, fConversationID, fMetadata, fClientMetadata, fNvext:
			d.ids.read(f, &s, body)
		default:
			d.fields[f] = readValue(&s)
		}
		if !s.OK() {
			d.broken = f
		}
	}
	if err := s.End(); err != nil {
		d.cut = s.Cut()
		return notJSON(err, body)
	}
	return nil
}

// maxKey is longer than any key that is looked for.
const maxKey = 32

// keyOf returns the key that s has just read. It allocates nothing: a key with
// escapes that is too long to be one of ours is returned as it is written.
func keyOf(s *jsonscan.Scanner, body []byte) []byte {
	raw := body[s.Token.Start:s.Token.End]
	if !s.Token.Escaped || len(raw) > 6*maxKey {
		return raw
	}
	return unquoteKey(raw)
}

// unquoteKey is apart from keyOf because it is rare and allocates.
func unquoteKey(raw []byte) []byte { return jsonscan.Unquote(make([]byte, 0, len(raw)), raw) }

// readValue reads the value that comes next: absent after an error.
func readValue(s *jsonscan.Scanner) value {
	kind, _ := s.Peek()
	if kind == jsonscan.String && s.Str() {
		return value{kind, s.Token.Escaped, types.Span{Start: s.Token.Start, End: s.Token.End}}
	}
	start, end := s.Skip()
	if start == end {
		return value{}
	}
	return value{kind: kind, span: types.Span{Start: start, End: end}}
}

func readIncludeUsage(s *jsonscan.Scanner, body []byte) (include bool) {
	for ok := s.EnterObject(); ok && s.Key(); {
		ours := string(keyOf(s, body)) == "include_usage"
		start, end := s.Skip()
		if ours {
			include = string(body[start:end]) == "true"
		}
	}
	return include
}

// readSamplingParams returns max_tokens of an object.
func readSamplingParams(s *jsonscan.Scanner, body []byte) (v value) {
	for ok := s.EnterObject(); ok && s.Key(); {
		if string(keyOf(s, body)) == "max_tokens" {
			v = readValue(s)
			continue
		}
		s.Skip()
	}
	return v
}

// readConversation returns the id of an object in place of the object.
func readConversation(s *jsonscan.Scanner, body []byte) value {
	kind, at := s.Peek()
	if kind != jsonscan.Object {
		return readValue(s)
	}
	v := value{kind: kind, span: types.Span{Start: at, End: at}}
	for s.Enter(); s.Key(); {
		if string(keyOf(s, body)) != "id" {
			s.Skip()
			continue
		}
		v = readValue(s)
	}
	return v
}

// fill checks what was found and moves it to req. It sets nothing before all is
// checked.
func (d *document) fill(api API, x *extra, req *types.Request, limits Limits) (Parsed, error) {
	p := Parsed{API: api, IncludeUsage: d.includeUsage}

	model := d.fields[fModel]
	if err := d.checkString("model", model, limits.MaxModelBytes); err != nil {
		return p, err
	}
	switch empty := model.span.Start == model.span.End; {
	case limits.ModelOptional && (model.absent() || empty):
		p.missing = d.missing
		if model.kind == jsonscan.Null {
			p.missing = missing{at: model.span, as: jsonValue}
		} else if model.kind == jsonscan.String {
			p.missing = missing{at: types.Span{Start: model.at(), End: model.span.End + 1}, as: jsonValue}
		}
	case model.absent():
		return p, MissingModel()
	case empty:
		return p, wrongField(CodeInvalidValue, "model", model.at(), d.body, "is empty; name the model that shall answer")
	default:
		p.Model = types.Span{Start: model.at(), End: model.span.End + 1}
	}

	stream, err := d.readBool("stream", d.fields[fStream])
	if err != nil {
		return p, err
	}
	maxTokens, err := d.maxTokens(api)
	if err != nil {
		return p, err
	}
	salt := d.fields[fCacheSalt]
	if err := d.checkString("cache_salt", salt, limits.MaxIDBytes); err != nil {
		return p, err
	}
	session, name := d.session(api)
	if err := d.checkString(name, session, limits.MaxIDBytes); err != nil {
		return p, err
	}
	session, program := d.idsOf(session, limits.MaxIDBytes)
	var previous value
	if api == Responses {
		if previous = d.fields[fPreviousResponseID]; previous.absent() {
			previous = d.first(limits.MaxIDBytes, d.fields[fConversation]) // a server has it, as it has responses
		}
	}
	if err := d.checkString("previous_response_id", previous, limits.MaxIDBytes); err != nil {
		return p, err
	}
	var parts [4]part
	n, err := d.parts(api, x, &parts)
	if err != nil {
		return p, err
	}
	req.Work = types.Work{Kind: api.Kind()}
	if x != nil {
		stream = stream || x.asked.events
		req.Work = x.work(d)
	}

	setString(&req.Model, d.body, model)
	setString(&req.CacheSalt, d.body, salt)
	setString(&req.SessionID, d.body, session)
	setString(&req.ProgramID, d.body, program)
	setString(&req.PreviousID, d.body, previous)
	req.Body, req.Stream, req.MaxTokens = d.body, stream, maxTokens
	setPrompt(&req.Prompt, parts[:n])
	return p, nil
}

// session returns the value that names the conversation, and its field.
func (d *document) session(api API) (value, string) {
	if v := d.fields[fPromptCacheKey]; !v.absent() || api != Responses {
		return v, "prompt_cache_key"
	}
	return d.fields[fConversation], "conversation"
}

func (d *document) maxTokens(api API) (int, error) {
	switch api {
	case ChatCompletions:
		if v := d.fields[fMaxCompletionTokens]; !v.absent() {
			return d.readInt("max_completion_tokens", v)
		}
		return d.readInt("max_tokens", d.fields[fMaxTokens])
	case Completions, Messages:
		return d.readInt("max_tokens", d.fields[fMaxTokens])
	case Responses:
		return d.readInt("max_output_tokens", d.fields[fMaxOutputTokens])
	case Generate:
		return d.readInt("sampling_params.max_tokens", d.fields[fSamplingMaxTokens])
	}
	return 0, nil
}

func (d *document) readBool(name string, v value) (bool, error) {
	if v.absent() {
		return false, nil
	}
	if v.kind != jsonscan.Bool {
		return false, wrongField(CodeInvalidType, name, v.at(), d.body, "must be true or false, not %s", v.kind)
	}
	return d.body[v.span.Start] == 't', nil
}

func (d *document) readInt(name string, v value) (int, error) {
	if v.absent() {
		return 0, nil
	}
	if v.kind != jsonscan.Number {
		return 0, wrongField(CodeInvalidType, name, v.at(), d.body, "must be an integer, not %s", v.kind)
	}
	n, ok := parseInt(d.body[v.span.Start:v.span.End])
	if !ok {
		return 0, wrongField(CodeInvalidType, name, v.at(), d.body,
			"must be an integer without fraction or exponent, at most %d", math.MaxInt)
	}
	return max(n, 0), nil
}

// parseInt reads a JSON number that has neither fraction nor exponent.
func parseInt(b []byte) (int, bool) {
	negative := b[0] == '-'
	if negative {
		b = b[1:]
	}
	n := uint64(0)
	for _, c := range b {
		if c-'0' > 9 || n > math.MaxInt/10 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	if negative {
		return int(-n), n <= math.MaxInt+1
	}
	return int(n), n <= math.MaxInt
}

// checkString checks the type and the length of a string that may be absent.
// The length is that of the value, not of its escapes.
func (d *document) checkString(name string, v value, limit int) error {
	if v.absent() {
		return nil
	}
	if v.kind != jsonscan.String {
		return wrongField(CodeInvalidType, name, v.at(), d.body, "must be a string, not %s", v.kind)
	}
	size := v.span.End - v.span.Start
	if size <= limit {
		return nil
	}
	if v.escaped && size <= 6*limit {
		size = len(jsonscan.Unquote(nil, d.body[v.span.Start:v.span.End]))
	}
	if size <= limit {
		return nil
	}
	return wrongField(CodeTooLong, name, v.at(), d.body, "has %d bytes; the limit is %d", size, limit)
}

// setString sets *dst to the string v, and allocates only if that is another.
func setString(dst *string, body []byte, v value) {
	if v.kind != jsonscan.String {
		*dst = ""
		return
	}
	raw := body[v.span.Start:v.span.End]
	if v.escaped || !utf8.Valid(raw) {
		raw = jsonscan.Unquote(nil, raw)
	}
	if *dst != string(raw) {
		*dst = string(raw)
	}
}

// parseOther reads what it can of a body of an unknown form.
func parseOther(api API, body []byte, req *types.Request, limits Limits) Parsed {
	p := Parsed{API: api}
	req.Model, req.CacheSalt, req.SessionID, req.ProgramID, req.PreviousID = "", "", "", "", ""
	req.Body, req.Stream, req.MaxTokens, req.Work = body, false, 0, types.Work{Kind: api.Kind()}
	setPrompt(&req.Prompt, nil)

	var d document
	if len(body) == 0 || len(body) > limits.MaxBytes || d.scan(body, limits.MaxDepth, nil) != nil {
		return p
	}
	model := d.fields[fModel]
	if model.kind != jsonscan.String || model.span.Start == model.span.End ||
		d.checkString("model", model, limits.MaxModelBytes) != nil {
		return p
	}
	setString(&req.Model, body, model)
	p.Model = types.Span{Start: model.at(), End: model.span.End + 1}
	p.IncludeUsage = d.includeUsage
	req.Stream, _ = d.readBool("stream", d.fields[fStream])
	return p
}
