package disaggtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// Phase is a point in the course of a leg.
type Phase uint8

// The phases, in their order.
const (
	// Before: the request was read, and nothing was done.
	Before Phase = iota
	// BeforeTransfer: the leg was accepted, and its KV has not moved. A leg of SGLang is in its room then.
	BeforeTransfer
	// Head: a part of the head of the answer was sent. For streams of vLLM this is before the transfer.
	Head
	// Body: half of the body was sent.
	Body
	// AfterAnswer: the whole answer was sent. With Die, a prefiller loses the KV that it keeps; nothing
	// else has an effect.
	AfterAnswer
)

// String returns the name.
func (p Phase) String() string {
	return name(p, "before", "before transfer", "head", "body", "after answer")
}

// Kind is how an engine fails.
type Kind uint8

// The kinds.
const (
	Die    Kind = iota // the connection is closed
	Refuse             // the connection is reset, without a byte of an answer; as Die after the head
	Status             // an answer with Fault.Code; in a body, if it is a stream, an event that tells of it, else as Die
	Hang               // nothing more, until the client leaves or the engine ends
	Slow               // waits for Fault.Delay, and goes on
)

// String returns the name.
func (k Kind) String() string { return name(k, "die", "refuse", "status", "hang", "slow") }

// Fault is a rule by which an engine fails.
type Fault struct {
	Leg   Leg   // AnyLeg: each
	Phase Phase // Before
	Kind  Kind  // Die
	// Code is the status of Kind Status. Default 500.
	Code int
	// Delay is how long Kind Slow takes.
	Delay time.Duration
	// Times is how often it happens at most. 0: no bound.
	Times int
	// Chance is how likely it happens to a leg, above 0 up to 1, drawn from the cluster's seed. 0: always.
	Chance float64
	// Match, if not nil, tells which legs it happens to. It must not call the cluster.
	Match func(*Record) bool
}

type rule struct {
	Fault
	left int
}

// Fail adds a rule. Of those that fit a phase of a leg the first applies. Fail panics if f makes no sense.
func (e *Engine) Fail(f Fault) {
	switch {
	case f.Leg > Encode || f.Phase > AfterAnswer || f.Kind > Slow || f.Times < 0 || f.Chance < 0 || f.Chance > 1:
		panic(fmt.Sprintf("disaggtest: no such fault: %+v", f))
	case f.Code != 0 && (f.Kind != Status || f.Code < 400 || f.Code > 599):
		panic(fmt.Sprintf("disaggtest: a fault of kind %v with code %d", f.Kind, f.Code))
	}
	if f.Code == 0 {
		f.Code = http.StatusInternalServerError
	}
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.rules = append(e.rules, &rule{f, f.Times})
}

// Heal removes all rules, for phases that begin from now on.
func (e *Engine) Heal() {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.rules = nil
}

// faultLocked returns what happens to a leg now, or nil. Caller must hold c.mu.
func (e *Engine) faultLocked(l *leg, at Phase, rng *rand.Rand) *Fault {
	for _, r := range e.rules {
		if r.Phase != at || r.Leg != AnyLeg && r.Leg != l.rec.Leg || r.Times > 0 && r.left == 0 {
			continue
		}
		if r.Match != nil && !r.Match(&l.rec) || r.Chance > 0 && rng.Float64() >= r.Chance {
			continue
		}
		r.left--
		l.rec.Faulted = true
		return &r.Fault
	}
	return nil
}

// pass brings a leg past a phase at which nothing of an answer was sent. It returns if the leg goes on.
func (l *leg) pass(at Phase) {
	f := l.fault(at)
	if f == nil {
		return
	}
	switch f.Kind {
	case Die:
		l.die(Died)
	case Refuse:
		l.reset()
	case Status:
		l.refuse(&refusal{status: f.Code, kind: "InternalServerError", message: fmt.Sprintf("the engine fails by a fault at %v", at)})
	case Hang:
		<-l.ctx.Done()
		l.leave()
	case Slow:
		l.sleep(f.Delay)
	}
}

func (l *leg) fault(at Phase) *Fault {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return l.e.faultLocked(l, at, l.c.rng)
}

// reset closes the connection such that the client sees it reset.
func (l *leg) reset() {
	l.end(Died) // before the client can know
	if conn, _, err := http.NewResponseController(l.w).Hijack(); err == nil {
		if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
	l.die(Died)
}
