package disaggtest

import (
	"bytes"
	"fmt"
	"net/http"
	"time"
)

// answer is what goes with the text of an answer.
type answer struct {
	cached int    // tokens of the prompt
	extra  string // members of the object, as text
	choice string // members of its first choice
}

// head sends the head of the answer, or the part of it before a fault.
func (l *leg) head() {
	l.c.mu.Lock()
	begun := !l.rec.Answered.IsZero()
	l.c.mu.Unlock()
	if begun {
		return
	}
	if f := l.fault(Head); f != nil {
		switch f.Kind {
		case Die, Refuse:
			if conn, _, err := http.NewResponseController(l.w).Hijack(); err == nil {
				_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: applic"))
				conn.Close()
			}
			l.die(Died)
		case Status:
			l.refuse(&refusal{status: f.Code, kind: "InternalServerError", message: "the engine fails by a fault at its head"})
		case Hang:
			<-l.ctx.Done()
			l.leave()
		case Slow:
			l.sleep(f.Delay)
		}
	}
	if l.q.stream {
		l.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		l.answered(http.StatusOK)
		l.w.WriteHeader(http.StatusOK)
		l.events()
	}
}

// reply sends the answer.
func (l *leg) reply(said []generated, a answer) {
	l.head()
	if !l.q.stream {
		l.sleep(time.Duration(longest(said)) * l.tokenTime())
		body := l.whole(said, a)
		l.w.Header().Set("Content-Type", "application/json")
		l.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		l.answered(http.StatusOK)
		l.firstToken()
		half := len(body) / 2
		_, _ = l.w.Write(body[:half])
		l.half()
		l.lose()
		if _, err := l.w.Write(body[half:]); err != nil {
			l.die(Cancelled)
		}
	} else {
		l.stream(said, a)
	}
	// The client may take its answer for complete from here on; it is noted before.
	l.end(Complete)
	_ = http.NewResponseController(l.w).Flush()
}

// half is the middle of the body.
func (l *leg) half() {
	f := l.fault(Body)
	if f == nil {
		return
	}
	_ = http.NewResponseController(l.w).Flush()
	switch {
	case f.Kind == Status && l.q.stream:
		l.refuse(&refusal{status: f.Code, kind: "InternalServerError", message: "the engine fails by a fault in its body"})
	case f.Kind == Hang:
		<-l.ctx.Done()
		l.leave()
	case f.Kind == Slow:
		l.sleep(f.Delay)
	default:
		l.die(Died)
	}
}

func longest(said []generated) (n int) {
	for _, g := range said {
		n = max(n, len(g.tokens))
	}
	return n
}

func (l *leg) tokenTime() time.Duration {
	if l.rec.Leg == Prefill || l.rec.Leg == Encode {
		return 0
	}
	return l.b.TokenTime
}

func (l *leg) firstToken() {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.rec.FirstToken.IsZero() {
		l.rec.FirstToken = l.now()
	}
}

func (l *leg) stream(said []generated, a answer) {
	if l.q.chat {
		for i := range said {
			l.events(l.chunk(i, `"delta":{"role":"assistant","content":""}`, "null"))
		}
	}
	length := longest(said)
	for at := range length {
		if at == (length+1)/2 {
			l.half()
		}
		l.sleep(l.tokenTime())
		for i, g := range said {
			if at < len(g.tokens) {
				l.firstToken()
				l.events(l.chunk(i, l.text("delta", g.tokens[at]), "null"))
			}
		}
	}
	if length < 2 {
		l.half()
	}
	for i, g := range said {
		l.events(l.chunk(i, l.text("delta", ""), fmt.Sprintf("%q", g.finish)))
	}
	if l.q.usage {
		l.events(fmt.Sprintf("data: {%s,\"choices\":[],\"usage\":%s}\n\n", l.preamble(".chunk"), encode(l.account(said, a))))
	}
	l.lose()
	l.events("data: [DONE]\n\n")
}

// lose is the phase after the answer. It comes before the last byte, so that the KV is gone when the
// client has the answer.
func (l *leg) lose() {
	if f := l.fault(AfterAnswer); f == nil || f.Kind != Die {
		return
	}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	for _, key := range l.keys {
		if h := l.c.handoffs[key]; h != nil && h.prefill == l && !h.taken {
			h.lost = true
			h.tellLocked()
		}
	}
}

// account is the usage. A prompt that was replaced by its ids is as long as before.
func (l *leg) account(said []generated, a answer) *Usage { return l.q.account(said, a.cached) }

func (l *leg) preamble(chunk string) string {
	object := "text_completion"
	if l.q.chat {
		object = "chat.completion" + chunk
	}
	return fmt.Sprintf(`"id":%q,"object":%q,"created":1750000000,"model":%s`, "cmpl-"+l.rec.RequestID, object, orNull(l.q.get("model")))
}

func orNull(raw []byte) []byte {
	if raw == nil {
		return []byte("null")
	}
	return raw
}

func (l *leg) chunk(index int, content, finish string) string {
	return fmt.Sprintf("data: {%s,\"choices\":[{\"index\":%d,%s,\"finish_reason\":%s}]}\n\n", l.preamble(".chunk"), index, content, finish)
}

// text is the content of a choice.
func (l *leg) text(member, text string) string {
	if !l.q.chat {
		return `"text":` + string(encode(text))
	}
	role := ""
	if member == "message" {
		role = `"role":"assistant",`
	}
	return fmt.Sprintf(`%q:{%s"content":%s}`, member, role, encode(text))
}

// whole is an answer that is not streamed. It is put together by hand, so that what a gateway must relay
// is not in the one form that encoders write.
func (l *leg) whole(said []generated, a answer) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{%s,"choices":[`, l.preamble(""))
	for i, g := range said {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"index":%d,%s,"finish_reason":%q`, i, l.text("message", g.text()), g.finish)
		if i == 0 {
			b.WriteString(a.choice)
		}
		b.WriteByte('}')
	}
	fmt.Fprintf(&b, `],"usage":%s%s}`, encode(l.account(said, a)), a.extra)
	return b.Bytes()
}
