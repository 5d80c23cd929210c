package kvevents

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"reflect"
	"runtime/debug"
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/zmtp"
	"github.com/inferpick/inferpick/types"
)

// plan is all that a target depends on: another plan, another target.
type plan struct {
	name    string
	pool    types.NamespacedName
	server  string // scheme://host:port
	host    string
	engine  string
	sources []Source
	ask     bool // the engine where it publishes
}

func (r *run) planOf(ev datastore.Event) plan {
	spec, ep := ev.Spec, ev.Endpoint
	p := plan{pool: ev.Pool, name: ep.ID, server: "http://" + ep.Address, engine: engineOf(spec), ask: true}
	if spec.MetricsScheme != "" && (spec.MetricsAddress == "" || spec.MetricsAddress == ep.Address) {
		p.server = spec.MetricsScheme + "://" + ep.Address
	}
	p.host, _, _ = net.SplitHostPort(ep.Address)
	defer r.recovered(Failure{Pool: p.pool, Endpoint: p.name, URL: p.server})
	p.name = r.opt.Name(ev.Pool, ep)
	if r.opt.Sources != nil {
		p.sources = r.opt.Sources(ev.Pool, ep)
		p.ask = p.sources == nil
	}
	return p
}

func engineOf(spec datastore.EndpointSpec) string {
	for _, name := range []string{spec.Engine, spec.Labels[datastore.EngineLabel], spec.Labels["llm-d.ai/engine-type"]} {
		if name != "" {
			return name
		}
	}
	return ""
}

// target listens to one endpoint: a goroutine that finds out where to, and one for each source.
type target struct {
	*run
	plan   plan
	ctx    context.Context
	cancel context.CancelFunc
	reborn chan struct{} // the engine has started anew
	sink   sync.Mutex    // held for each call of the Sink

	sources []rankSource // that are listened to
	stop    func()       // stops that, and forgets the endpoint
}

func (r *run) newTarget(p plan) *target {
	t := &target{run: r, plan: p, reborn: make(chan struct{}, 1)}
	t.ctx, t.cancel = context.WithCancel(r.ctx)
	return t
}

// restart makes the target forget what it knows of the engine. It may be called by any goroutine.
func (t *target) restart() {
	select {
	case t.reborn <- struct{}{}:
	default:
	}
}

// loop finds out where the engine publishes, from time to time, and listens there.
func (t *target) loop() {
	defer t.listen(nil)
	h := t.newHealth(0, t.plan.server)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.reborn:
			t.listen(nil)
		case <-timer.C:
		}
		sources, err := t.find()
		if t.ctx.Err() != nil {
			return
		}
		if err != nil { // what is listened to may go on, whatever it is that does not answer
			timer.Reset(h.failed(discoveryError, err))
			continue
		}
		h.works()
		t.listen(sources)
		timer.Stop()
		if t.plan.ask {
			timer.Reset(t.opt.DiscoverInterval)
		}
	}
}

// find returns the sources of the endpoint, none if it has none.
func (t *target) find() ([]rankSource, error) {
	sources := t.plan.sources
	if t.plan.ask {
		var err error
		if sources, err = t.discover(); err != nil {
			return nil, err
		}
	}
	var all []rankSource
	for _, s := range sources {
		ranks, err := s.expand(t.plan.host, t.plan.ask)
		if err != nil {
			return nil, err
		}
		all = append(all, ranks...)
		if len(all) > t.opt.MaxRanks {
			return all[:t.opt.MaxRanks], nil
		}
	}
	return all, nil
}

// listen makes the sources those that are listened to. If they are others than before, the
// endpoint is forgotten, unless Run ends.
func (t *target) listen(sources []rankSource) {
	if reflect.DeepEqual(sources, t.sources) {
		return
	}
	if t.stop != nil {
		t.stop()
		t.stop = nil
	}
	t.sources = sources
	if len(sources) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(t.ctx)
	var wg sync.WaitGroup
	for _, s := range sources {
		if s.events != "" {
			wg.Go(func() { t.newStream(s).loop(ctx) })
		}
		if s.poll != "" {
			wg.Go(func() { t.newPoller(s).loop(ctx) })
		}
		if s.load != "" && t.opt.OnLoad != nil {
			wg.Go(func() { t.newLoadStream(s).loop(ctx) })
		}
	}
	t.stop = func() {
		cancel()
		wg.Wait()
		if t.run.ctx.Err() == nil {
			t.call(t.failure(0, t.plan.server), func() { t.opt.Sink.Remove(t.plan.name) })
		}
	}
}

// call calls the Sink, one call at a time. It reports whether that did not panic.
func (t *target) call(f Failure, fn func()) (fine bool) {
	t.sink.Lock()
	defer t.sink.Unlock()
	defer t.recovered(f)
	fn()
	return true
}

// dial connects to a socket and shakes hands. The connection is closed when ctx is done.
func (t *target) dial(ctx context.Context, address string, o zmtp.Options) (*zmtp.Conn, error) {
	o.MaxMessage = t.opt.MaxMessage
	limit, cancel := context.WithTimeout(ctx, t.opt.Timeout)
	defer cancel()
	conn, err := t.opt.Dial(limit, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("kvevents: %w", err)
	}
	stop := context.AfterFunc(limit, func() { conn.Close() })
	c, err := zmtp.New(conn, o)
	if !stop() && err == nil {
		err = limit.Err()
	}
	if err == nil {
		context.AfterFunc(ctx, func() { conn.Close() })
		return c, nil
	}
	conn.Close()
	if limit.Err() != nil {
		err = fmt.Errorf("no handshake within %v: is there a publisher at that port? %w", t.opt.Timeout, err)
	}
	return nil, fmt.Errorf("kvevents: %w", err)
}

// settled is how long a connection has to last to be none of a row of failures: an idle engine says
// nothing.
const settled = 30 * time.Second

// health is how one source does.
type health struct {
	t         *target
	failure   Failure
	failures  int // in a row
	failing   bool
	connected time.Time // zero: not
	rand      types.Rand
}

func (t *target) newHealth(rank int, url string) *health {
	h := fnv.New64a()
	fmt.Fprint(h, t.plan.name, rank, url)
	return &health{t: t, failure: t.failure(rank, url), rand: types.NewRand(t.opt.Seed ^ h.Sum64())}
}

func (t *target) failure(rank int, url string) Failure {
	return Failure{Pool: t.plan.pool, Endpoint: t.plan.name, Rank: rank, URL: url}
}

// failed counts and tells a failure that ends what was being done, and returns how long to wait.
func (h *health) failed(kind failureKind, err error) time.Duration {
	var violation *zmtp.ProtocolError
	if errors.As(err, &violation) {
		kind = protocolError
	}
	h.tell(kind, err)
	if !h.failing {
		h.t.log(slog.LevelWarn, "what the engine holds cannot be listened to", h.failure, err)
	}
	h.failing = true
	wait := h.t.opt.MinBackoff
	for range h.failures {
		wait = min(2*wait, h.t.opt.MaxBackoff)
	}
	h.failures++
	return wait + time.Duration(h.rand.Float64()*float64(wait)/4)
}

// tell counts and tells a failure.
func (h *health) tell(kind failureKind, err error) {
	h.t.counts.errors[kind].Add(1)
	f := h.failure
	f.Err = err
	h.t.tellFailure(f)
}

// connects says that there is a connection, which may yet turn out to be of no use.
func (h *health) connects() {
	h.t.counts.connects.Add(1)
	h.connected = time.Now()
}

// works ends a row of failures.
func (h *health) works() {
	if h.failing {
		h.t.log(slog.LevelInfo, "what the engine holds can be listened to again", h.failure, nil)
	}
	h.failures, h.failing = 0, false
}

// persist calls session until ctx is done, with growing waits after failures.
func (h *health) persist(ctx context.Context, session func(context.Context) error) {
	for ctx.Err() == nil {
		h.connected = time.Time{}
		err := func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel() // closes its connections
			return session(ctx)
		}()
		if ctx.Err() != nil {
			return // what went wrong is that it was cancelled
		}
		if !h.connected.IsZero() && time.Since(h.connected) > settled {
			h.works()
		}
		if !sleep(ctx, h.failed(connectionError, err)) {
			return
		}
	}
}

// sleep reports whether it was not cut short.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *run) tellFailure(f Failure) {
	if r.opt.OnFailure != nil {
		defer func() {
			if v := recover(); v != nil {
				r.log(slog.LevelError, "Options.OnFailure panicked", f, fmt.Errorf("%v", v))
			}
		}()
		r.opt.OnFailure(f)
	}
}

// recovered is to be deferred around what may panic and is not ours.
func (r *run) recovered(f Failure) {
	if v := recover(); v != nil {
		r.counts.errors[panicError].Add(1)
		f.Err = fmt.Errorf("kvevents: panic: %v", v)
		r.log(slog.LevelError, "a function that is called panicked", f, fmt.Errorf("%v\n%s", v, debug.Stack()))
		r.tellFailure(f)
	}
}

func (r *run) log(level slog.Level, msg string, f Failure, err error) {
	if l := r.opt.Logger; l != nil {
		defer func() { _ = recover() }() // there is nobody left to tell
		attrs := []slog.Attr{slog.String("pool", f.Pool.String()), slog.String("endpoint", f.Endpoint), slog.Int("rank", f.Rank), slog.String("url", f.URL)}
		if err != nil {
			attrs = append(attrs, slog.Any("error", err))
		}
		l.LogAttrs(r.ctx, level, msg, attrs...)
	}
}
