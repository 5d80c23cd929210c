package modelserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// longestSession bounds a realtime session.
const longestSession = time.Hour

// session is one of /v1/realtime.
type session struct {
	p      *process
	socket *socket
	ctx    context.Context
	model  string
	text   string // what the events of text are called

	mu      sync.Mutex
	said    prompt             // by both
	heard   int                // bytes of sound, not committed yet
	cancel  context.CancelFunc // of the response under way; nil: there is none
	replies sync.WaitGroup
}

// clientEvent is what a client sends.
type clientEvent struct {
	Type    string  `json:"type"`
	EventID string  `json:"event_id"`
	Audio   string  `json:"audio"`
	Item    message `json:"item"`
	Session object  `json:"session"`
	Resp    struct {
		MaxTokens json.RawMessage `json:"max_output_tokens"` // a number or "inf"
		Input     []message       `json:"input"`
		Text      string          `json:"instructions"`
	} `json:"response"`
	SimOutput json.Number `json:"x-sim-output-tokens"`
}

// serveRealtime is GET /v1/realtime, a websocket.
func (p *process) serveRealtime(w http.ResponseWriter, r *http.Request) (any, *apiError) {
	if p.fails() {
		return nil, toldToFail()
	}
	model, failure := p.modelOf(&form{fields: map[string]string{"model": r.URL.Query().Get("model")}})
	if failure != nil {
		return nil, failure
	}
	p.running.Add(1) // the server no longer counts the connection once it is a socket
	defer p.running.Done()
	sock, failure := accept(w, r)
	if failure != nil {
		return nil, failure
	}
	defer sock.conn.Close()
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { sock.conn.Close() })
	defer stop()
	sock.conn.SetReadDeadline(time.Now().Add(longestSession))
	s := &session{p: p, socket: sock, ctx: ctx, model: model, text: "response.output_text"}
	if hasToken(r.Header, "Openai-Beta", "realtime=v1") {
		s.text = "response.text"
	}
	defer s.replies.Wait()
	defer cancel()
	s.send("session.created", object{"session": s.object()})
	for {
		message, err := sock.read()
		if err != nil {
			return nil, nil
		}
		var event clientEvent
		if err := json.Unmarshal(message, &event); err != nil {
			s.fail("", invalid("", "The event is not valid: %v", err))
			continue
		}
		if failure := s.hear(&event); failure != nil {
			s.fail(event.EventID, failure)
		}
	}
}

func (s *session) object() object {
	return object{"type": "realtime", "object": "realtime.session", "id": "sess_" + s.p.opts.Name, "model": s.model, "output_modalities": []string{"text"}}
}

// send sends an event. That the client has gone shows when it is read from.
func (s *session) send(kind string, fields object) {
	fields["type"], fields["event_id"] = kind, s.p.newID("event")
	s.socket.write(frameText, toJSON(fields))
}

func (s *session) fail(event string, e *apiError) {
	s.send("error", object{"error": object{"type": e.kind, "code": e.code, "message": e.message, "param": e.param, "event_id": event}})
}

// hear does what a client asks for.
func (s *session) hear(event *clientEvent) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch event.Type {
	case "session.update":
		s.send("session.updated", object{"session": s.object()})
	case "conversation.item.create":
		before := s.said
		s.said.role(event.Item.Role)
		if err := s.said.content(event.Item.Content); err != nil || len(s.said.data) > mostConversation {
			s.said = before
			return invalid("item.content", "It cannot be read, or the conversation is longer than %d bytes: %v", mostConversation, err)
		}
		id := s.p.newID("item")
		s.send("conversation.item.added", object{"item": object{"id": id, "type": "message", "role": event.Item.Role, "status": "completed"}})
	case "input_audio_buffer.append":
		data, err := base64.StdEncoding.DecodeString(event.Audio)
		if err != nil {
			return invalid("audio", "The sound could not be read: %v", err)
		}
		s.heard += len(data)
	case "input_audio_buffer.clear":
		s.heard = 0
		s.send("input_audio_buffer.cleared", object{})
	case "input_audio_buffer.commit":
		tokens := min(s.heard*soundTokens/(speechRate*2), mostTokens)
		if tokens == 0 || len(s.said.data)+tokens*tokenBytes > mostConversation {
			return invalid("", "The buffer has %d bytes: too little, or too much for the conversation.", s.heard)
		}
		s.said.role("user")
		s.said.opaque([]byte{byte(s.heard), byte(s.heard >> 8), byte(s.heard >> 16)}, tokens)
		s.heard = 0
		s.send("input_audio_buffer.committed", object{"item_id": s.p.newID("item")})
	case "response.cancel":
		if s.cancel == nil {
			return invalid("", "There is no response to cancel.")
		}
		s.cancel()
	case "response.create":
		return s.respondLocked(event)
	default:
		return invalid("type", "Unknown event type '%.80s'.", event.Type)
	}
	return nil
}

// spoken is the api of a response in a session.
type spoken struct {
	openAI
	prompt prompt
	limit  int
}

func (a *spoken) query(*request) (prompt, int, *apiError) { return a.prompt, a.limit, nil }
func (a *spoken) kind() string                            { return "resp" }
func (a *spoken) whole(*reply) any                        { return nil }

// respondLocked begins a response. Caller must hold s.mu.
func (s *session) respondLocked(event *clientEvent) *apiError {
	if s.cancel != nil {
		e := invalid("", "Conversation already has an active response in progress.")
		e.code = "conversation_already_has_active_response"
		return e
	}
	a := &spoken{prompt: s.said}
	a.prompt.data = append([]byte(nil), s.said.data...)
	a.prompt.text(event.Resp.Text)
	if len(event.Resp.Input) > 0 {
		if failure := a.prompt.messages(event.Resp.Input); failure != nil {
			return failure
		}
	} else {
		a.prompt.role("assistant")
	}
	if !absent(event.Resp.MaxTokens) && json.Unmarshal(event.Resp.MaxTokens, &a.limit) != nil {
		a.limit = 0 // "inf"
	}
	rep, failure := s.p.plan(&request{Model: s.model, SimOutput: event.SimOutput}, a)
	if failure != nil {
		return failure
	}
	rep.stream.streaming = true
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(s.ctx)
	s.p.loop.submit(rep.stream)
	s.replies.Go(func() { s.respond(ctx, rep) })
	return nil
}

// respond sends a response as it comes.
func (s *session) respond(ctx context.Context, rep *reply) {
	defer s.p.loop.leave(rep.stream)
	item := "item_" + rep.id
	response := func(status string, output list) object {
		return object{"response": object{
			"id": rep.id, "object": "realtime.response", "status": status, "output": output, "output_modalities": []string{"text"},
		}}
	}
	part := func(fields object) object {
		fields["response_id"], fields["item_id"], fields["output_index"], fields["content_index"] = rep.id, item, 0, 0
		return fields
	}
	s.send("response.created", response("in_progress", list{}))
	sent, status := 0, "completed"
	for ended := false; !ended; {
		var produced int
		var err error
		if produced, ended, err = rep.stream.wait(ctx); err != nil {
			status = "cancelled"
			break
		}
		for ; sent < produced; sent++ {
			s.send(s.text+".delta", part(object{"delta": string(rep.token(sent))}))
		}
	}
	text := string(rep.text[:min(sent*tokenBytes, len(rep.text))])
	s.send(s.text+".done", part(object{"text": text}))
	end := response(status, list{object{
		"id": item, "type": "message", "role": "assistant", "status": status, "content": list{object{"type": "output_text", "text": text}},
	}})
	cached := 0
	if sent > 0 {
		cached = rep.cached()
	}
	end["response"].(object)["usage"] = object{
		"input_tokens": rep.prompt, "output_tokens": sent, "total_tokens": rep.prompt + sent,
		"input_token_details": object{"cached_tokens": cached, "text_tokens": rep.prompt - rep.sounds, "audio_tokens": rep.sounds},
	}
	s.mu.Lock()
	if s.said.role("assistant"); len(s.said.data)+len(text) <= mostConversation {
		s.said.text(text)
	}
	s.cancel()
	s.cancel = nil
	s.mu.Unlock()
	s.send("response.done", end)
}
