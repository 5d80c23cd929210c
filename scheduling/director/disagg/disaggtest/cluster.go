package disaggtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Cluster is a number of fake engines that reach each other. Its methods may be called from any
// goroutine.
type Cluster struct {
	// Prefill, Decode, Plain and Encode are the engines by role. They do not change.
	Prefill, Decode, Plain, Encode []*Engine

	opts Options
	all  []*Engine

	mu sync.Mutex
	// guarded by mu
	rng        *rand.Rand
	legs       []*leg
	handoffs   map[string]*handoff
	embeddings map[string][]*embedding // by the hash of the item
	excused    map[string]bool         // keys of handoffs that a fault or an end of an engine touched
	violations []violation
	serial     int
	queries    int
}

// violation is a breach of the protocol.
type violation struct {
	text string
	vain string // the handoff in which a leg waited in vain: no breach if a fault is the reason, which may show later
}

// breachesLocked returns the violations. Caller must hold c.mu.
func (c *Cluster) breachesLocked() (all []string) {
	for _, v := range c.violations {
		if v.vain == "" || !c.excused[v.vain] {
			all = append(all, v.text)
		}
	}
	return all
}

// New starts engines. It panics if opts make no sense or there is no free port. Call Close when done.
func New(opts Options) *Cluster {
	if err := opts.complete(); err != nil {
		panic(err)
	}
	c := &Cluster{opts: opts, rng: rand.New(rand.NewPCG(opts.Seed, 0)), handoffs: map[string]*handoff{}, embeddings: map[string][]*embedding{}, excused: map[string]bool{}}
	for _, kind := range []struct {
		role Leg
		n    int
		to   *[]*Engine
	}{{Prefill, opts.Prefill, &c.Prefill}, {Decode, opts.Decode, &c.Decode}, {Ordinary, opts.Plain, &c.Plain}, {Encode, opts.Encode, &c.Encode}} {
		for i := range kind.n {
			e := &Engine{c: c, role: kind.role, id: fmt.Sprintf("%v-%d", kind.role, i), b: opts.Behaviour, live: map[*leg]struct{}{}, address: "127.0.0.1:0"}
			if kind.role == Prefill && (opts.Protocol == Mooncake || opts.Protocol == SGLang) {
				e.bootstrap = "127.0.0.1:0"
			}
			if err := e.start(); err != nil {
				c.Close()
				panic(err)
			}
			*kind.to = append(*kind.to, e)
			c.all = append(c.all, e)
		}
	}
	return c
}

// Close ends all engines and returns when every goroutine has ended. Closing twice is fine.
func (c *Cluster) Close() {
	for _, e := range c.all {
		e.life.Lock()
		e.stop()
		e.life.Unlock()
	}
}

// Engine returns the engine at an address, host:port, or nil.
func (c *Cluster) Engine(address string) *Engine {
	for _, e := range c.all {
		if e.address == address {
			return e
		}
	}
	return nil
}

func (c *Cluster) byBootstrap(address string) *Engine {
	for _, e := range c.all {
		if e.bootstrap != "" && e.bootstrap == address {
			return e
		}
	}
	return nil
}

// downLocked reports whether an engine is down. Caller must hold c.mu.
func (c *Cluster) downLocked() bool {
	return slices.ContainsFunc(c.all, func(e *Engine) bool { return e.down })
}

// Legs returns all legs, in the order in which they came. Header and Body are shared, and must not be
// changed.
func (c *Cluster) Legs() []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Record
	for _, l := range c.legs {
		all = append(all, l.rec)
	}
	return all
}

// Stats are counts since the cluster was started.
type Stats struct {
	Prefill, Decode, Ordinary, Encode int // legs received
	Running                           int // legs that run now
	Transferred                       int // decode legs that got their KV
	Recomputed                        int // decode legs that computed the prompt themselves
	Pinned                            int // KV kept now for a decode leg
	Stranded                          int // KV whose lease ended
	Freed                             int // KV freed since its decode leg was cancelled
	Queries                           int // of bootstrap servers
	Violations                        int
	// EncodedElsewhere are the images, audio and videos that who computed the prompt got from encoders,
	// EncodedHere those that it had to encode itself.
	EncodedElsewhere, EncodedHere int
}

// Stats returns the counts.
func (c *Cluster) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Queries: c.queries, Violations: len(c.breachesLocked())}
	for _, l := range c.legs {
		switch l.rec.Leg {
		case Prefill:
			s.Prefill++
		case Decode:
			s.Decode++
			s.Transferred += count(l.rec.Transferred)
			s.Recomputed += count(l.rec.Recomputed)
		case Encode:
			s.Encode++
		default:
			s.Ordinary++
		}
		s.EncodedElsewhere += l.rec.Encoded
		s.EncodedHere += l.rec.Media - l.rec.Encoded
		s.Running += count(l.rec.Outcome == Running)
	}
	for _, h := range c.handoffs {
		s.Pinned += count(c.pinnedLocked(h))
		s.Stranded += count(h.expired)
		s.Freed += count(h.freed)
	}
	return s
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Violations returns the breaches of the protocol so far, a text each.
func (c *Cluster) Violations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.breachesLocked()
}

// Check returns an error that lists everything that is wrong, see the package's documentation, or nil.
// Call it when all clients have their answers: it waits up to Options.Settle for what is about to end.
func (c *Cluster) Check() error {
	for end := time.Now().Add(c.opts.Settle); ; time.Sleep(time.Millisecond) {
		violations, passing := c.wrong()
		if len(passing) == 0 || !time.Now().Before(end) {
			return errors.Join(append(violations, passing...)...)
		}
	}
}

// wrong returns what is wrong for good, and what may yet pass.
func (c *Cluster) wrong() (forever, passing []error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.breachesLocked() {
		forever = append(forever, errors.New("disaggtest: violation: "+v))
	}
	answers := map[string][]string{}
	for _, l := range c.legs {
		r := l.rec
		_, live := l.e.live[l] // what it has a part in is told when it has left, after its outcome
		switch h := c.handoffs[r.Key]; {
		case live:
			passing = append(passing, fmt.Errorf("disaggtest: still running: %v", r))
		case r.Outcome == Complete && r.User != "" && r.Leg != Encode && (r.Leg != Prefill || h != nil && h.final):
			answers[r.User] = append(answers[r.User], r.String())
		}
	}
	for user, legs := range answers {
		if len(legs) > 1 {
			forever = append(forever, fmt.Errorf("disaggtest: %d answers for user %q:\n\t%s", len(legs), user, strings.Join(legs, "\n\t")))
		}
	}
	for _, h := range c.handoffs {
		pinned := c.pinnedLocked(h)
		switch {
		case c.excused[h.key]:
		case h.expired:
			forever = append(forever, fmt.Errorf("disaggtest: stranded: nobody took the KV of %v before its lease ended", h.prefill.rec))
		case pinned && h.decode == nil:
			passing = append(passing, fmt.Errorf("disaggtest: pinned: nobody takes the KV of %v", h.prefill.rec))
		}
	}
	return forever, passing
}
