package disaggtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Outcome is how a leg ended.
type Outcome uint8

// The outcomes.
const (
	Running   Outcome = iota
	Complete          // the whole answer was sent
	Failed            // an error was answered: of the request, of the protocol, or by a fault
	Cancelled         // the client left
	Aborted           // by /abort_request
	Died              // the connection was closed, by a fault or with the engine
)

// String returns the name.
func (o Outcome) String() string {
	return name(o, "running", "complete", "failed", "cancelled", "aborted", "died")
}

// Record is what is known of a leg.
type Record struct {
	Engine    string // its address
	Leg       Leg
	Path      string
	Header    http.Header
	Body      []byte // byte for byte
	RequestID string // X-Request-Id
	User      string // "user" of the body
	Stream    bool
	// Key is what joins the two legs: the prefiller's id of the request, the transfer id, the room, the
	// context id.
	Key string
	// Received, Answered (the head), FirstToken and Ended are when that was. Zero: not yet, or never.
	Received, Answered, FirstToken, Ended time.Time
	Status                                int
	Outcome                               Outcome
	Error                                 string // what was answered if it failed
	Transferred                           bool   // its KV moved
	Recomputed                            bool   // a decode leg computed the prompt itself
	Faulted                               bool   // a Fault applied
	// Media are the distinct images, audio and videos of a leg that computes the prompt, and Encoded those
	// of them that it got from encoders; the rest it has encoded itself.
	Media, Encoded int
}

// leg is a request at an engine.
type leg struct {
	c      *Cluster
	e      *Engine
	w      http.ResponseWriter
	ctx    context.Context // ends with the client, the engine or an abort
	cancel context.CancelCauseFunc
	q      *request
	b      Behaviour
	params members // what the protocol adds to the body
	rid    string  // SGLang

	rec  Record   // guarded by c.mu
	keys []string // of the handoffs it has a part in; guarded by c.mu
}

// ended is what a leg panics with when it is over, so that its steps read from top to bottom.
type ended struct{ closes bool }

// refusal is an answer that is an error.
type refusal struct {
	status        int
	kind, message string
	param         string
}

func invalid(param, format string, args ...any) *refusal {
	return &refusal{http.StatusBadRequest, "Bad Request", fmt.Sprintf(format, args...), param}
}

func (l *leg) now() time.Time { return time.Now() }

// violate writes a breach of the protocol down.
func (l *leg) violate(format string, args ...any) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.violateLocked(format, args...)
}

func (l *leg) violateLocked(format string, args ...any) {
	l.c.violations = append(l.c.violations, violation{text: fmt.Sprintf("%v: %s", l.rec, fmt.Sprintf(format, args...))})
}

// String names the leg in reports.
func (r Record) String() string {
	s := fmt.Sprintf("%v leg at %s", r.Leg, r.Engine)
	for _, f := range [][2]string{{"request id", r.RequestID}, {"user", r.User}, {"key", r.Key}} {
		if f[1] != "" {
			s += fmt.Sprintf(", %s %.60q", f[0], f[1])
		}
	}
	return s
}

// end notes how the leg ended, once.
func (l *leg) end(o Outcome) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.rec.Outcome == Running {
		l.rec.Outcome, l.rec.Ended = o, l.now()
	}
}

// die closes the connection.
func (l *leg) die(o Outcome) {
	l.end(o)
	panic(ended{closes: true})
}

// leave ends a leg whose context is done.
func (l *leg) leave() {
	switch cause := context.Cause(l.ctx); cause {
	case errAborted:
		l.end(Aborted)
		if l.q.stream {
			l.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			l.answered(http.StatusOK)
			l.events(l.chunk(0, l.text("delta", ""), `"abort"`), "data: [DONE]\n\n")
		} else {
			l.send(http.StatusOK, l.whole([]generated{{finish: "abort"}}, answer{}))
		}
		panic(ended{})
	case errKilled:
		l.die(Died)
	default:
		l.die(Cancelled)
	}
}

// sleep waits, or ends the leg.
func (l *leg) sleep(d time.Duration) {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.ctx.Done():
		}
	}
	if l.ctx.Err() != nil {
		l.leave()
	}
}

// refuse answers with an error and ends the leg.
func (l *leg) refuse(r *refusal) {
	l.end(Failed) // before the client can know
	l.c.mu.Lock()
	l.rec.Error = r.message
	begun := !l.rec.Answered.IsZero()
	l.c.mu.Unlock()
	if begun { // a stream has its 200 already
		l.events("data: "+string(l.errorBody(r))+"\n\n", "data: [DONE]\n\n")
	} else {
		l.send(r.status, l.errorBody(r))
	}
	panic(ended{})
}

// errorBody is the error in the words of the engine.
func (l *leg) errorBody(r *refusal) []byte {
	var param any
	if r.param != "" {
		param = r.param
	}
	e := map[string]any{"message": r.message, "type": r.kind, "param": param, "code": r.status}
	if p := l.c.opts.Protocol; p == SGLang || p == TensorRT {
		e["object"] = "error"
		return encode(e)
	}
	return encode(map[string]any{"error": e})
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("disaggtest: " + err.Error())
	}
	return b
}

// answered notes that the head is sent.
func (l *leg) answered(status int) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.rec.Answered.IsZero() {
		l.rec.Answered, l.rec.Status = l.now(), status
	}
}

// send sends a whole answer.
func (l *leg) send(status int, body []byte) {
	l.w.Header().Set("Content-Type", "application/json")
	l.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	l.answered(status)
	l.w.WriteHeader(status)
	_, _ = l.w.Write(body)
}

// events sends a part of a stream.
func (l *leg) events(events ...string) {
	for _, e := range events {
		_, _ = l.w.Write([]byte(e))
	}
	_ = http.NewResponseController(l.w).Flush()
}
