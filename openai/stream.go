package openai

import (
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// StreamOptions says what a Stream does. The zero value reads a body that is
// JSON and changes nothing.
type StreamOptions struct {
	// API is that of the request. CutOff needs it, to know how a stream ends; what
	// else is read of a body is told from the body. Default: Other.
	API API

	// Streamed says that the request asked for a stream. Then the first bytes of sound, beyond a header, are a first
	// token of AudioSpeech; otherwise it is not known whether all of it was there before.
	Streamed bool

	// ContentType is that of the response. With text/event-stream the body is
	// read event by event, with a type of JSON lines line by line, with a JSON
	// type or none as one JSON value, and with any other it is passed on and not
	// looked at.
	ContentType string

	// ContentEncoding is that of the response. A body with any but identity is
	// passed on and not looked at.
	ContentEncoding string

	// TargetModel and Model are the name that the server knows and the public
	// one. Where the first is the value of "model" in a response, or of "model"
	// in its "response" or "message", the second is put. If either is empty or
	// both are the same, the body passes as it is.
	TargetModel, Model string

	// CachedTokens is how many tokens of the prompt were found in a prefix cache, if the
	// server does not know it: one that was given the prompt's KV cache by another may count
	// all of it as found. Where a response says "cached_tokens" in the details of its usage,
	// a number or null, this is put; where it does not, nothing is. Usage reports it in any
	// case. Unknown: what the server says stands.
	CachedTokens types.Gauge

	// CachedLater says that CachedTokens will be told while the response passes, by
	// Stream.SetCachedTokens.
	CachedLater bool

	// Kept says that the answer is about something that the server keeps, by its path: a job, a file, pictures that are to
	// be fetched. Then ResponseID, OtherIDs and Job tell of it, and that it failed is no error of the answer.
	Kept bool

	// HoldFirst holds back the first event with data until it is complete, so that
	// an error in its place can still be answered in another way: see
	// Stream.Begun. Other bodies are not held back.
	HoldFirst bool

	// MaxEventBytes bounds an event, and with it what is held back of one. A longer
	// one passes unread and unchanged. Default: 1 MiB.
	MaxEventBytes int

	// MaxBodyBytes bounds a body that is JSON. A longer one passes unchanged, and
	// only usage near its end is read. Default: 8 MiB.
	MaxBodyBytes int
}

// Stream follows one response as it passes: it restores the public model name, corrects
// how many tokens were cached, reads what was generated and used, how the model ended it and which error was
// reported, and whether the response came to its end. It says only what it has read: of a body in a
// form that it does not know it says nothing, and passes it as it is. However the
// body is cut into chunks, the result is the same.
//
//	s := openai.NewStream(openai.StreamOptions{API: …, ContentType: …})
//	for each chunk { w.Write(s.Feed(chunk)) }
//	w.Write(s.Close())
//
// If nothing is to be restored or corrected, every chunk is passed on at once and as it is,
// without a copy; but for a first event with HoldFirst. Otherwise an event is
// passed on as soon as it is complete, and the part of one that is not is held
// back; a JSON object is held back until it is complete. Comments and empty lines
// before an event, and white space before a JSON value, keep a connection alive
// and are never held back. Either may change the length of the body: a
// Content-Length must be removed, or the whole be waited for.
//
// A Stream is for one goroutine. Reset makes one ready for the next response.
type Stream struct {
	api       API
	target    string
	public    []byte // the public name as a JSON string; nil: nothing to restore
	corrects  bool   // how many tokens were cached is put right
	cached    types.Gauge
	number    []byte // cached as it is written
	holdFirst bool   // the first event with data is held back, too
	event     int    // limits
	body      int
	kind      bodyKind
	closed    bool
	begun     bool
	done      bool
	failure   *ServerError
	usage     usage
	tokens    int
	id        string
	keeps     bool     // StreamOptions.Kept
	others    []string // more ids
	job       Job
	choices   choices
	sound     bool // what comes is a stream of it
	heard     int  // bytes of that
	finish    types.Finish
	calls     bool // a response has calls that the client is to run

	// What forbids to say that an event stream was cut off.
	unread  bool // there was an event that could not be read
	foreign bool // there was an event of another form than the API's

	// What has come of an event, or of a body in JSON, and cannot be judged yet.
	// If it is held back, it is yet to be passed on, otherwise this is a copy.
	buf []byte
	out []byte // what Feed returns if it is not the chunk

	// Of events.
	length   int  // bytes of the current event so far, up to its limit
	lineTop  bool // at the start of a line
	afterCR  bool // the last byte was a carriage return that ended a line
	comment  bool // in a comment before an event
	skipping bool // the current event is too long
	started  bool // an event or a comment has passed: no byte order mark is expected

	// Of a body in JSON.
	settled bool   // it was read, or given up
	tail    []byte // the end of a body that was given up; nil: it was not

	scratch scratch
}

type bodyKind uint8

const (
	jsonBody bodyKind = iota
	eventStream
	lineStream // an event is a line
	grpcStream // an event is a message
	opaqueBody
)

const (
	defaultMaxEventBytes = 1 << 20
	defaultMaxBodyBytes  = 8 << 20

	keptBytes = 64 << 10 // a buffer that grew beyond this is not kept
	tailBytes = 8 << 10  // of a long body, what is searched for usage
	maxID     = 256      // bytes of a response's id

	maxSoundHeader = 128 // bytes that may come before any sound
)

// NewStream returns a Stream for one response.
func NewStream(o StreamOptions) *Stream {
	s := new(Stream)
	s.Reset(o)
	return s
}

// Reset makes s ready for another response, and keeps its memory. What Feed and
// Close returned is no longer valid.
func (s *Stream) Reset(o StreamOptions) {
	if o.MaxEventBytes <= 0 {
		o.MaxEventBytes = defaultMaxEventBytes
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = defaultMaxBodyBytes
	}
	public := s.public[:0]
	*s = Stream{
		corrects: o.CachedLater, number: s.number[:0],
		api: o.API, keeps: o.Kept, holdFirst: o.HoldFirst, event: o.MaxEventBytes, body: o.MaxBodyBytes,
		kind: bodyKindOf(o.API, o.ContentType, o.ContentEncoding), lineTop: true,
		buf: kept(s.buf), out: kept(s.out),
		scratch: scratch{joined: kept(s.scratch.joined), lines: s.scratch.lines[:0], edits: s.scratch.edits[:0]},
	}
	s.sound = o.Streamed && o.API == AudioSpeech && s.kind == opaqueBody && strings.HasPrefix(strings.ToLower(o.ContentType), "audio/")
	if o.TargetModel != "" && o.Model != "" && o.TargetModel != o.Model {
		s.target, s.public = o.TargetModel, jsonscan.AppendQuote(public, o.Model)
	}
	if o.CachedTokens.IsKnown() {
		s.corrects = true
		s.SetCachedTokens(o.CachedTokens)
	}
}

// SetCachedTokens tells what StreamOptions.CachedTokens would have, which must have been known,
// or announced by CachedLater. What has been passed on stays as it was. If it is unknown,
// negative, or beyond 2^53, it changes nothing.
func (s *Stream) SetCachedTokens(n types.Gauge) {
	if v := n.Or(-1); !s.corrects || v < 0 || v > 1<<53 {
		return
	}
	s.cached = n
	s.number = strconv.AppendFloat(s.number[:0], n.Or(0), 'f', 0, 64)
}

func kept(b []byte) []byte {
	if cap(b) > keptBytes {
		return nil
	}
	return b[:0]
}

func bodyKindOf(api API, contentType, encoding string) bodyKind {
	for coding := range strings.SplitSeq(encoding, ",") {
		if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
			return opaqueBody
		}
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.TrimSpace(mediaType)
	is := func(name string) bool { return strings.EqualFold(mediaType, name) }
	const suffix = "+json"
	const grpc = "application/grpc" // +proto may follow
	switch {
	case api.isGRPC() && len(mediaType) >= len(grpc) && strings.EqualFold(mediaType[:len(grpc)], grpc):
		return grpcStream
	case is("text/event-stream"):
		return eventStream
	case is("application/x-ndjson"), is("application/ndjson"), is("application/jsonl"), is("application/jsonlines"):
		return lineStream
	case mediaType == "", is("application/json"):
		return jsonBody
	case len(mediaType) > len(suffix) && strings.EqualFold(mediaType[len(mediaType)-len(suffix):], suffix):
		return jsonBody
	}
	return opaqueBody
}

// FirstToken reports whether an event with something generated in it was read,
// which ends the prefill: text (a blank is one), reasoning, a tool call, token
// ids, sound, a picture. Nothing else is evidence of a first token, because
// servers send it before, or instead of, the first: comments and pings, a chunk
// with only a role or only a reason to finish, an event that only announces
// (response.created, message_start), usage and errors. Neither is an event that
// is too long to be read or no JSON object, nor any part of an answer that is not
// streamed, which says nothing about when its tokens came. Of sound that is not in events, see
// StreamOptions.Streamed.
func (s *Stream) FirstToken() bool { return s.tokens > 0 || s.heard > maxSoundHeader }

// Tokens returns how many events with something generated were read. Engines
// send one for each step, so that it is about the number of tokens where no usage
// is reported; one event may carry several tokens.
func (s *Stream) Tokens() int { return s.tokens }

// Usage returns what the server reported so far, the last report of each figure.
// With Anthropic's figures PromptTokens includes what was read from the cache
// and written to it, as it does in OpenAI's.
// CachedTokens is that of StreamOptions, if it is known.
func (s *Stream) Usage() types.Usage {
	sum := s.usage.sum()
	if !sum.PromptTokens.IsKnown() && s.api.Kind() == types.Pools {
		sum.PromptTokens = s.usage.total // Jina's say no more
	}
	if s.cached.IsKnown() {
		sum.CachedTokens = s.cached
	}
	return sum
}

// ResponseID returns the id of an answer of the Responses API, by which a later
// request may continue it, or with StreamOptions.Kept that of the job or file that the
// answer is about; "" if none was read or it is longer than 256 bytes.
func (s *Stream) ResponseID() string { return s.id }

// Begun reports whether the response itself has begun: the first event with data
// was read whole, or was too long for that; of other bodies, the first byte came
// that is no white space. As long as it has not, nothing but comments, empty
// events and white space was passed on if HoldFirst is set, or something is restored or
// corrected in an event stream. After the call of Feed or Close in which it begins, Err tells
// whether it began with an error: then what that call returned may be thrown away
// and the request be sent to another server. Close does not make the fragment of
// a first event a begin.
func (s *Stream) Begun() bool { return s.begun }

// Done reports whether the proper end of the response was read: [DONE]; the last
// event of Responses and the media APIs; of Messages that or the reason to stop;
// of chat and completions also a reason to finish for every choice seen so far; a
// complete value in JSON. After it nothing is missed if the client goes away.
// That it is false does not say that anything is missing: see CutOff.
func (s *Stream) Done() bool { return s.done || s.choices.finished() }

// CutOff reports, after Close, whether a body that ended cleanly lacks its end all
// the same. It knows only where the end is known: in a stream of chat, completions,
// Responses or Messages, as StreamOptions.API says, all of which was in the form of
// that API and was read, with something generated and neither an end nor an error.
// Whether any other body is complete, only its framing in HTTP can tell.
func (s *Stream) CutOff() bool {
	return s.closed && s.kind == eventStream && dialectOf(s.api) != dialectUnknown &&
		!s.unread && !s.foreign && !s.choices.more && s.tokens > 0 && s.failure == nil && !s.Done()
}

// Err returns the error that the server reported in the body, a *ServerError, or
// nil. A stream may carry one after a status of 200. An error field that is empty,
// or stands beside a real answer, is none.
func (s *Stream) Err() error {
	if s.failure == nil {
		return nil
	}
	return s.failure
}

// dialect is how the events of an API look.
type dialect uint8

const (
	dialectUnknown dialect = iota
	dialectNeutral         // [DONE], pings, errors: of any
	dialectChoices
	dialectResponses
	dialectMessages
)

// dialectOf returns the dialect of an API whose stream has a known end.
func dialectOf(api API) dialect {
	switch api {
	case ChatCompletions, Completions:
		return dialectChoices
	case Responses:
		return dialectResponses
	case Messages:
		return dialectMessages
	}
	return dialectUnknown
}

// choices keeps which choices were seen, and which of them have a reason to finish.
type choices struct {
	seen, ended choiceSet
	more        bool // there is one that has no place in the sets
}

// choiceSet has a bit for each index. OpenAI's API allows 128 choices.
type choiceSet [2]uint64

func (c *choices) add(index int, ended bool) {
	if index < 0 || index >= 64*len(c.seen) {
		c.more = true
		return
	}
	bit := uint64(1) << (index % 64)
	c.seen[index/64] |= bit
	if ended {
		c.ended[index/64] |= bit
	}
}

func (c *choices) merge(d *choices) {
	for i := range c.seen {
		c.seen[i] |= d.seen[i]
		c.ended[i] |= d.ended[i]
	}
	c.more = c.more || d.more
}

func (c *choices) finished() bool {
	return c.seen != choiceSet{} && c.seen == c.ended && !c.more
}
