package disaggtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
)

// The reasons why a leg's context ends, other than that its client leaves.
var (
	errAborted = errors.New("aborted")
	errKilled  = errors.New("killed")
)

// Engine is a fake engine. Its methods may be called from any goroutine.
type Engine struct {
	c         *Cluster
	role      Leg
	id        string
	address   string
	bootstrap string // "": none

	life   sync.Mutex // held to begin or end a process
	server *process   // guarded by life; nil: down

	// guarded by c.mu
	b      Behaviour
	rules  []*rule
	live   map[*leg]struct{}
	aborts int
	down   bool
}

// process is an engine between two ends.
type process struct {
	kill    context.CancelCauseFunc
	servers []*http.Server
	running sync.WaitGroup

	mu    sync.Mutex
	ended bool // guarded by mu
}

// enter counts a handler, unless the process has ended.
func (p *process) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.running.Add(1)
	}
	return !p.ended
}

// Address returns host:port.
func (e *Engine) Address() string { return e.address }

// URL returns the address as a base URL, without a slash at the end.
func (e *Engine) URL() string { return "http://" + e.address }

// Role returns Prefill, Decode, Encode, or Ordinary for an engine that is not disaggregated.
func (e *Engine) Role() Leg { return e.role }

// Bootstrap returns host:port of the bootstrap server of a prefiller of Mooncake or SGLang, "" for others.
func (e *Engine) Bootstrap() string { return e.bootstrap }

// EngineID returns the id under which a rank of the engine takes part in transfers, as /query tells.
func (e *Engine) EngineID(rank int) string { return fmt.Sprintf("%s-dp%d", e.id, rank) }

func (e *Engine) hasRank(id string) bool {
	for rank := range e.c.opts.Ranks {
		if e.EngineID(rank) == id {
			return true
		}
	}
	return false
}

// Aborts returns the number of calls of /abort_request.
func (e *Engine) Aborts() int {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	return e.aborts
}

// SetBehaviour changes the engine, for legs that begin from now on.
func (e *Engine) SetBehaviour(b Behaviour) {
	b.complete()
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.b = b
}

// Kill ends the engine at once: its connections are closed, new ones are refused, and its KV is lost. It
// returns when nothing of it runs. Nobody is blamed for what is pinned meanwhile.
func (e *Engine) Kill() {
	e.life.Lock()
	defer e.life.Unlock()
	if e.server == nil {
		return
	}
	e.c.mu.Lock()
	e.down = true
	for key, h := range e.c.handoffs {
		if !h.taken {
			e.c.excused[key] = true
		}
		if h.p == e && h.ready && !h.taken {
			h.lost = true
			h.tellLocked()
		}
	}
	e.c.mu.Unlock()
	e.stop()
}

// stop ends the process, if there is one. Caller must hold e.life.
func (e *Engine) stop() {
	if e.server == nil {
		return
	}
	e.server.mu.Lock()
	e.server.ended = true
	e.server.mu.Unlock()
	e.server.kill(errKilled)
	for _, s := range e.server.servers {
		s.Close()
	}
	e.server.running.Wait()
	e.server = nil
}

// Restart starts an engine that was killed, at the same address.
func (e *Engine) Restart() error {
	e.life.Lock()
	defer e.life.Unlock()
	if e.server != nil {
		return fmt.Errorf("disaggtest: the engine at %s runs", e.address)
	}
	return e.start()
}

// start starts the process. Caller must hold e.life, or be alone.
func (e *Engine) start() error {
	listeners := make([]net.Listener, 0, 2)
	for _, address := range []*string{&e.address, &e.bootstrap} {
		if *address == "" {
			continue
		}
		l, err := net.Listen("tcp", *address)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return fmt.Errorf("disaggtest: %w", err)
		}
		if got := l.Addr().String(); got != *address { // other engines read it, when this one has started once
			*address = got
		}
		listeners = append(listeners, l)
	}
	ctx, kill := context.WithCancelCause(context.Background())
	p := &process{kill: kill}
	for i, l := range listeners {
		handler := http.HandlerFunc(e.serve)
		if i == 1 {
			handler = e.serveBootstrap
		}
		s := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !p.enter() {
					panic(http.ErrAbortHandler)
				}
				defer p.running.Done()
				handler(w, r)
			}),
			BaseContext: func(net.Listener) context.Context { return ctx },
			ErrorLog:    log.New(io.Discard, "", 0),
		}
		p.servers = append(p.servers, s)
		p.running.Go(func() { _ = s.Serve(l) })
	}
	e.server = p
	e.c.mu.Lock()
	e.down = false
	e.c.mu.Unlock()
	return nil
}

// serveBootstrap is the bootstrap server of a prefiller.
func (e *Engine) serveBootstrap(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/query" || e.c.opts.Protocol != Mooncake {
		if r.URL.Path != "/health" {
			http.NotFound(w, r)
		}
		return
	}
	e.c.mu.Lock()
	e.c.queries++
	e.c.mu.Unlock()
	all := map[string]any{}
	for rank := range e.c.opts.Ranks {
		all[fmt.Sprint(rank)] = map[string]any{"engine_id": e.EngineID(rank), "worker_addr": map[string]any{"0": map[string]any{"0": fmt.Sprintf("tcp://%s", e.bootstrap)}}}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encode(all))
}

func (e *Engine) serve(w http.ResponseWriter, r *http.Request) {
	switch p := r.URL.Path; {
	case r.Method == http.MethodGet && p == "/health":
	case r.Method == http.MethodGet && p == "/v1/models":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"fake","object":"model"}]}`)
	case r.Method == http.MethodPost && p == "/abort_request" && e.c.opts.Protocol == SGLang:
		e.abort(w, r)
	case r.Method == http.MethodPost && (p == chatPath || p == completionsPath):
		e.infer(w, r)
	default:
		http.NotFound(w, r)
	}
}

// infer serves a leg, from its first byte to its last.
func (e *Engine) infer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, e.c.opts.MaxBody))
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	l := &leg{c: e.c, e: e, w: w, ctx: ctx, cancel: cancel}
	q, wrong := readRequest(r.URL.Path, body)
	if q == nil {
		q = &request{chat: r.URL.Path == chatPath}
	}
	l.q = q
	l.rec = Record{
		Engine: e.address, Leg: Ordinary, Path: r.URL.Path, Header: r.Header.Clone(), Body: body,
		RequestID: r.Header.Get("X-Request-Id"), User: q.user, Stream: q.stream, Received: l.now(),
	}
	l.classify()

	e.c.mu.Lock()
	l.b = e.b
	if r.Header.Get("X-Request-Id") != "" && l.rec.Leg != Ordinary {
		for other := range e.live {
			if other.rec.RequestID == l.rec.RequestID && other.rec.Leg == l.rec.Leg && other.rec.Outcome == Running {
				l.violateLocked("its X-Request-Id is in use at the engine")
			}
		}
	}
	e.c.legs = append(e.c.legs, l)
	e.live[l] = struct{}{}
	e.c.mu.Unlock()

	defer func() {
		reason := recover()
		over, known := reason.(ended)
		e.c.mu.Lock()
		if !known {
			l.violateLocked("the fake engine itself panicked: %v\n%s", reason, debug.Stack())
		}
		l.partLocked()
		delete(e.live, l)
		e.c.mu.Unlock()
		if !known || over.closes {
			panic(http.ErrAbortHandler)
		}
	}()
	if err != nil {
		l.die(Cancelled)
	}
	l.pass(Before)
	l.sleep(0)
	if wrong != nil {
		l.refuse(invalid("", "%v", wrong))
	}
	l.checkRole()
	l.run()
	panic(ended{})
}

// classify finds out which leg it is, and what joins it to the other.
func (l *leg) classify() {
	switch l.e.role {
	case Ordinary:
		return
	case Encode:
		l.rec.Leg = Encode
		return
	}
	switch l.c.opts.Protocol {
	case NIXL, Mooncake:
		l.params, _ = readMembers(orNull(l.q.get("kv_transfer_params")))
		switch {
		case l.params.is("do_remote_decode"):
			l.rec.Leg = Prefill
		case l.params.is("do_remote_prefill"):
			l.rec.Leg = Decode
		default:
			return
		}
		if l.c.opts.Protocol == NIXL {
			if l.rec.Leg == Decode {
				l.rec.Key = l.params.text("remote_request_id")
			}
		} else if id := l.params.text("transfer_id"); id != "" {
			engine := l.params.text("remote_engine_id")
			if l.rec.Leg == Prefill {
				engine = l.e.EngineID(max(0, l.rank()))
			}
			l.rec.Key = engine + " " + id
		}
	case SGLang:
		if l.e.role != Ordinary && l.q.has("bootstrap_room") {
			l.rec.Leg, l.rid = l.e.role, l.q.text("rid")
			rooms, _ := l.q.rooms()
			for _, r := range rooms {
				l.keys = append(l.keys, fmt.Sprint(r.id))
			}
			l.rec.Key = string(l.q.get("bootstrap_room"))
			return
		}
	case TensorRT:
		l.params, _ = readMembers(orNull(l.q.get("disaggregated_params")))
		switch l.params.text("request_type") {
		case "context_only":
			l.rec.Leg = Prefill
		case "generation_only":
			l.rec.Leg, l.rec.Key = Decode, string(l.params.get("ctx_request_id"))
		}
	}
	if l.rec.Key != "" {
		l.keys = []string{l.rec.Key}
	}
}

// checkRole notes legs at engines that are not there for them.
func (l *leg) checkRole() {
	if role := l.e.role; role != Ordinary && l.rec.Leg != role && (role == Prefill || l.rec.Leg == Prefill) {
		l.violate("the engine's role is %v", role)
	}
	if l.e.role == Ordinary && (l.q.has("kv_transfer_params") || l.q.has("disaggregated_params") || l.q.has("bootstrap_room")) {
		l.violate("the engine is not disaggregated: it computes the prompt and answers as if alone")
	}
	if l.q.has("stream_options") && !l.q.stream {
		r := invalid("stream_options", "Stream options can only be defined when `stream=True`.")
		if l.rec.Leg == Prefill {
			l.violate("%s", r.message)
		}
		l.refuse(r)
	}
	if l.q.limit >= 0 && l.q.least > l.q.limit {
		r := invalid("min_tokens", "min_tokens must be less than or equal to max_tokens=%d, got %d.", l.q.limit, l.q.least)
		if l.rec.Leg == Prefill {
			l.violate("%s", r.message)
		}
		l.refuse(r)
	}
}

// run serves the leg.
func (l *leg) run() {
	p, leg := l.c.opts.Protocol, l.rec.Leg
	if leg == Encode {
		l.encode()
		return
	}
	l.embed()
	if p == SGLang && l.e.role != Ordinary {
		l.sglang()
		return
	}
	if leg != Ordinary && l.b.NoConnector && (p == NIXL || p == Mooncake) {
		l.ignore()
		return
	}
	switch {
	case leg == Ordinary:
		l.ordinary()
	case p == NIXL && leg == Prefill:
		l.nixlPrefill()
	case p == NIXL:
		l.nixlDecode()
	case p == Mooncake && leg == Prefill:
		if rank := l.rank(); rank < 0 {
			l.violate("its X-data-parallel-rank is %q, and there are %d ranks", l.rec.Header.Get("X-Data-Parallel-Rank"), l.c.opts.Ranks)
			l.refuse(invalid("", "the data parallel rank is not within 0 to %d", l.c.opts.Ranks-1))
		}
		l.mooncakePrefill()
	case p == Mooncake:
		l.mooncakeDecode()
	case leg == Prefill:
		l.context()
	default:
		l.generation()
	}
}

// ignore serves a leg at an engine without a connector: the gateway cannot know, so that the KV of such a
// decode leg is nobody's fault.
func (l *leg) ignore() {
	l.c.mu.Lock()
	l.rec.Recomputed = l.rec.Leg == Decode
	for _, key := range l.keys {
		l.c.excused[key] = true
	}
	l.c.mu.Unlock()
	if l.rec.Leg == Decode {
		l.ordinary()
		return
	}
	l.oneToken()
	l.pass(BeforeTransfer)
	l.sleep(l.b.PrefillTime)
	l.reply(l.thrownAway(), answer{cached: l.b.CachedTokens})
}

// ordinary serves a request alone.
func (l *leg) ordinary() {
	if l.c.opts.Protocol == NIXL || l.c.opts.Protocol == Mooncake {
		l.pass(BeforeTransfer)
		l.head0()
	} else {
		l.pass(BeforeTransfer)
	}
	l.sleep(l.b.PrefillTime)
	l.reply(l.q.generate(l.b.Tokens), answer{cached: l.b.CachedTokens})
}
