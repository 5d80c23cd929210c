package openai

import (
	"bytes"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// bodyIDs are what clients say in a body of the conversation and of the agent's task that a request belongs to: where
// each of these fields was found last. They are labels: one of another type, or too long, counts as absent.
type bodyIDs struct {
	session  value // session_id, of vLLM, SGLang and OpenRouter
	chain    value // nvext.agent_context.trajectory_id, of Dynamo, whose session_id is all of the run then
	run      value // nvext.agent_context.session_id
	parent   value // nvext.agent_context.parent_session_id or parent_trajectory_id
	meta     value // metadata.session_id, of LiteLLM and others
	user     value // the session in Claude Code's metadata.user_id
	program  value // metadata.program_id
	thread   value // client_metadata.thread_id, of Codex
	threads  value // client_metadata.session_id, the same for all threads of a run
	chat     value // conversation_id
	thatSays bool  // any of them was found
}

// read reads the value of a top-level field that has ids in it.
func (ids *bodyIDs) read(f field, s *jsonscan.Scanner, body []byte) {
	switch f {
	case fSessionID:
		ids.set(&ids.session, readValue(s))
	case fConversationID:
		ids.set(&ids.chat, readValue(s))
	case fMetadata:
		ids.meta, ids.user, ids.program = value{}, value{}, value{}
	case fClientMetadata:
		ids.thread, ids.threads = value{}, value{}
	case fNvext:
		ids.chain, ids.run, ids.parent = value{}, value{}, value{}
	}
	if f != fSessionID && f != fConversationID {
		ids.members(f, s, body)
	}
}

// members reads an object for its ids.
func (ids *bodyIDs) members(f field, s *jsonscan.Scanner, body []byte) {
	for ok := s.EnterObject(); ok && s.Key(); {
		key := keyOf(s, body)
		switch v := ids.place(f, key); {
		case v != nil:
			ids.set(v, readValue(s))
		case f == fMetadata && string(key) == "user_id":
			ids.readUser(s, body)
		case f == fNvext && string(key) == "agent_context":
			ids.chain, ids.run, ids.parent = value{}, value{}, value{}
			ids.members(fAgentContext, s, body)
		default:
			s.Skip()
		}
	}
}

// place is where a member of an object belongs, nil if it is no id.
func (ids *bodyIDs) place(f field, key []byte) *value {
	switch f {
	case fMetadata:
		switch string(key) {
		case "session_id":
			return &ids.meta
		case "program_id":
			return &ids.program
		}
	case fClientMetadata:
		switch string(key) {
		case "thread_id":
			return &ids.thread
		case "session_id":
			return &ids.threads
		}
	case fAgentContext:
		switch string(key) {
		case "session_id":
			return &ids.run
		case "trajectory_id":
			return &ids.chain
		case "parent_session_id", "parent_trajectory_id":
			return &ids.parent
		}
	}
	return nil
}

// readUser reads metadata.user_id of the Messages API for what Claude Code puts there: user_…_account_…_session_…, or
// an object in a string, with a session_id. Of others it is not known what it names.
func (ids *bodyIDs) readUser(s *jsonscan.Scanner, body []byte) {
	v := readValue(s)
	if ids.user = (value{}); v.kind != jsonscan.String {
		return
	}
	raw := body[v.span.Start:v.span.End]
	for _, before := range [...]string{`_session_`, `\"session_id\":\"`, `\"session_id\": \"`} {
		_, id, ok := bytes.Cut(raw, []byte(before))
		if !ok {
			continue
		}
		at := v.span.End - len(id)
		if end := bytes.IndexByte(id, '\\'); end >= 0 {
			id = id[:end]
		}
		if len(id) > 0 {
			ids.set(&ids.user, value{kind: jsonscan.String, span: types.Span{Start: at, End: at + len(id)}})
		}
		return
	}
}

func (ids *bodyIDs) set(to *value, v value) {
	*to = value{}
	if v.kind == jsonscan.String && v.span.End > v.span.Start {
		*to, ids.thatSays = v, true
	}
}

// idsOf returns the values that name the conversation and the agent's task, where named is what prompt_cache_key or
// conversation says of the former.
func (d *document) idsOf(named value, limit int) (session, program value) {
	ids := &d.ids
	if !ids.thatSays {
		return named, value{}
	}
	if session = d.first(limit, ids.chain); session.kind != jsonscan.Invalid {
		return session, d.first(limit, ids.program, ids.run, ids.parent)
	}
	if session = d.first(limit, ids.thread); session.kind != jsonscan.Invalid {
		return session, d.first(limit, ids.program, ids.threads)
	}
	session = d.first(limit, ids.run, ids.session, ids.meta, ids.user, ids.threads, named, ids.chat)
	return session, d.first(limit, ids.program, ids.parent)
}

// first returns the first of some strings that is there and not too long.
func (d *document) first(limit int, of ...value) value {
	for _, v := range of {
		if v.kind == jsonscan.String && v.span.End > v.span.Start && d.checkString("", v, limit) == nil {
			return v
		}
	}
	return value{}
}
