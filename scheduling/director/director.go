package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// Options say what a Director works with.
type Options struct {
	// Store knows pools, models and endpoints. Required.
	Store *datastore.Store
	// Scheduler decides for the pools that have none of their own in Schedulers.
	// Required unless every pool has.
	Scheduler *scheduling.Scheduler
	// Schedulers are those of single pools. Optional. SetSchedulers changes them.
	Schedulers map[types.NamespacedName]*scheduling.Scheduler

	// Admission makes the options of the admission control of a pool, each time new ones:
	// detectors learn of one pool only. It is called when the pool is first asked for. Nil,
	// or a nil result: every request is scheduled as it comes. SetAdmission changes it.
	Admission func(pool types.NamespacedName) *admission.Options

	// Limits bound what a request may be.
	Limits openai.Limits
	// RestoreModel puts the public model name back into responses where the
	// server put the target's. Default: responses pass as they are.
	RestoreModel bool
	// SessionHeader names the request header that holds the session, in any
	// case; it goes before what the body says. Default HeaderSession.
	SessionHeader string
	// TrustRequestHeaders has the headers read by which a gateway says what a request may do:
	// HeaderObjective, HeaderRewrite, HeaderFairness, HeaderTTFT, HeaderTPOT and HeaderMaxWait.
	// Set it only where the gateway sets them itself, after it has removed what clients
	// sent under these names: they decide on priority, model, tenant and SLO. Default: they
	// are not read, and Incoming says all of that.
	TrustRequestHeaders bool
	// AllowPath says of a path that would be refused (403) whether clients may ask for it all the
	// same. Refused are paths that administer servers or tell of their insides, such as
	// /v1/load_lora_adapter, /metrics or /sleep, and all that are not known to have inference
	// done: neither of an API that is known, nor below /v1 or another version, nor an
	// engine's own such as /generate. Optional.
	AllowPath func(method, path string) bool
	// RetryAfter is what clients of shed requests are told. Default 1 s.
	RetryAfter time.Duration

	// OnRefused is told of each request for which Route returns an error, or that
	// Refuse is called for, with as much of the request as was understood, the pool
	// if it is known, and the error. It must be quick. Optional. What becomes of the others the hooks of
	// their schedulers say.
	OnRefused func(req *types.Request, pool types.NamespacedName, err *Error)

	// Logger hears of scheduling errors that are nobody's fault but a plugin's.
	// Nil: silence.
	Logger *slog.Logger
	// Seed makes the draws among weighted targets repeatable. 0: random.
	Seed uint64
}

// Director routes requests. Make it with New, and Close it. All methods may be
// called from any goroutine. It starts no goroutine.
type Director struct {
	o          Options
	session    string // canonical
	retryAfter time.Duration
	seed       uint64
	routed     atomic.Uint64
	schedulers atomic.Pointer[schedulers]
	gates      gates
	stop       []func()
}

// schedulers say who decides for which pool. Immutable.
type schedulers struct {
	others *scheduling.Scheduler // for pools that are not in pools; may be nil
	pools  map[types.NamespacedName]*scheduling.Scheduler
}

// New returns a Director, which follows what happens to endpoints in the store so
// that schedulers forget servers that have gone or restarted.
func New(o Options) (*Director, error) {
	if o.Store == nil {
		return nil, errors.New("director: Options.Store is required")
	}
	if o.RetryAfter < 0 {
		return nil, fmt.Errorf("director: Options.RetryAfter is %v, want more than 0, or 0 for the default of 1s", o.RetryAfter)
	}
	d := &Director{o: o, session: canonical(o.SessionHeader), retryAfter: o.RetryAfter, seed: o.Seed}
	if d.retryAfter == 0 {
		d.retryAfter = time.Second
	}
	for d.seed == 0 {
		d.seed = rand.Uint64()
	}
	if err := d.SetSchedulers(o.Scheduler, o.Schedulers); err != nil {
		return nil, err
	}
	if err := d.SetAdmission(o.Admission); err != nil {
		return nil, err
	}
	d.stop = append(d.stop, o.Store.WatchReadings(d.gates.reading), o.Store.Watch(func(e datastore.Event) {
		d.gates.event(e)
		if e.Kind == datastore.Removed || e.Kind == datastore.Restarted {
			if s := d.scheduler(e.Pool); s != nil {
				s.Forget(e.Endpoint)
			}
		}
	}))
	return d, nil
}

// Close ends the watch on the store and refuses requests that wait to be let in. Routes
// that are open stay valid.
func (d *Director) Close() {
	for _, stop := range d.stop {
		stop()
	}
	d.gates.close()
}

// MaxBody is the most bytes of a body that Options.Limits accept.
func (d *Director) MaxBody() int64 { return int64(d.o.Limits.Largest()) }

// SetSchedulers changes who decides, for all requests from now on: pools by name,
// and others, which may be nil, for those that are not in it. Requests under way
// end with who decided on them. With an error nothing is changed.
func (d *Director) SetSchedulers(others *scheduling.Scheduler, pools map[types.NamespacedName]*scheduling.Scheduler) error {
	if others == nil && len(pools) == 0 {
		return errors.New("director: Options.Scheduler is required, or one for every pool in Schedulers")
	}
	for name, s := range pools {
		if s == nil {
			return fmt.Errorf("director: Options.Schedulers[%v] is nil", name)
		}
	}
	d.schedulers.Store(&schedulers{others, maps.Clone(pools)})
	return nil
}

func (d *Director) scheduler(pool types.NamespacedName) *scheduling.Scheduler {
	now := d.schedulers.Load()
	if s, ok := now.pools[pool]; ok {
		return s
	}
	return now.others
}

// Incoming is a request as it came in.
type Incoming struct {
	// Method is the request's method; empty is POST. Only a POST, PUT or PATCH has a prompt:
	// others pass without being looked at, and wait for nothing.
	Method string
	// Path is the request's path, with or without a query: it says which API this is.
	Path string
	// Header is in the canonical form of net/http.Header. It is not changed.
	Header map[string][]string
	// Body is the whole body. It must not be changed until the Route is done.
	Body []byte

	// Tenant, Objective and SLO are what the gateway knows of the client by itself: who it is
	// (types.Request.FairnessID), the InferenceObjective that its requests have, and how fast
	// they should be. They go before headers (Options.TrustRequestHeaders).
	Tenant, Objective string
	SLO               types.SLO

	// Pool is the pool of the gateway's route. Zero: the one that serves the model.
	Pool types.NamespacedName
	// HasSubset says that the gateway restricts the candidates to Subset: a list
	// of ip:port, and of hosts for all ports of one. An empty list allows nobody.
	HasSubset bool
	Subset    []string

	// Explain keeps the explanation of the decision in Route.Explanation.
	Explain bool
}

// Route decides where a request goes and books it there. The error is an *Error.
// Of a Route, Done must be called whatever happens. What panics on the way (a hook, a plugin, an
// option) makes a 500 and leaves nothing behind.
func (d *Director) Route(ctx context.Context, in Incoming) (route *Route, err error) {
	r := &Route{director: d, path: in.Path}
	defer func() {
		if route != nil {
			return
		}
		v := recover()
		r.abandon()
		if v != nil {
			err = d.panicked(ctx, r, v)
		}
	}()
	candidates, err := d.prepare(r, in)
	if err == nil {
		candidates, err = d.admit(ctx, r, candidates, in)
	}
	if err == nil {
		err = d.decide(ctx, r, candidates, in.Explain)
	}
	if err != nil {
		e := d.translate(err, r)
		d.tellRefused(r, e)
		if e.Status == 500 {
			d.log(ctx, "request not routed", slog.String("model", r.Request.Model), slog.Any("error", err))
		}
		return nil, e
	}
	r.Body = in.Body
	if target := r.Request.Target(); target != r.Request.Model {
		r.Body = r.parsed.SpliceModel(nil, in.Body, target)
	}
	return r, nil
}

// panicked makes an error of a panic.
func (d *Director) panicked(ctx context.Context, r *Route, v any) *Error {
	err := fmt.Errorf("director: panic: %v", v)
	d.log(ctx, "panic while a request was routed", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	return d.translate(err, r)
}

func (d *Director) log(ctx context.Context, msg string, attrs ...slog.Attr) {
	if d.o.Logger != nil {
		defer func() { _ = recover() }() // of a handler
		d.o.Logger.LogAttrs(ctx, slog.LevelError, msg, attrs...)
	}
}

// Refuse is for adapters that refuse a request before they have all of it to route,
// for example because its body is too large: it gives e the form of the API that the
// path belongs to, tells Options.OnRefused, and returns e.
func (d *Director) Refuse(path string, e *Error) *Error {
	e.API, e.Path = openai.APIOf(path), path
	d.tellRefused(&Route{}, e)
	return e
}

func (d *Director) tellRefused(r *Route, e *Error) {
	if d.o.OnRefused == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			d.log(context.Background(), "panic in OnRefused", slog.Any("panic", v))
		}
	}()
	d.o.OnRefused(&r.Request, r.Pool, e)
}

// Explain returns what Route would decide now, and why; nothing is booked. The
// error, an *Error, is returned with the explanation as far as it goes, which is
// nil if no scheduler was asked.
func (d *Director) Explain(ctx context.Context, in Incoming) (*scheduling.Explanation, error) {
	r := &Route{director: d}
	candidates, err := d.prepare(r, in)
	if err != nil {
		return nil, d.translate(err, r)
	}
	ex, err := r.scheduler.Explain(ctx, &r.Request, candidates)
	if err != nil {
		return ex, d.translate(err, r)
	}
	return ex, nil
}

// prepare fills in r's request and returns the endpoints that may serve it.
func (d *Director) prepare(r *Route, in Incoming) ([]*types.Endpoint, error) {
	req := &r.Request
	if !allowed(in.Path) && (d.o.AllowPath == nil || !d.o.AllowPath(in.Method, in.Path)) {
		return nil, &Error{Status: 403, Code: CodePath, Message: "this path cannot be asked for through the gateway"}
	}
	api := openai.Other
	if hasPrompt(in.Method) {
		api = openai.APIOf(in.Path)
		r.computes = generates(api, in.Path)
	}
	r.parsed.API = api
	if enc := get(in.Header, "Content-Encoding"); api != openai.Other && enc != "" && len(in.Body) > 0 && !strings.EqualFold(enc, "identity") {
		return nil, &Error{Status: 415, Code: CodeEncoding, Param: "Content-Encoding",
			Message: fmt.Sprintf("request body is encoded as %.40q, want it plain", enc)}
	}
	limits := d.o.Limits
	limits.ModelOptional = true // a manifest may give one
	parsed, err := openai.Parse(api, get(in.Header, "Content-Type"), in.Body, req, limits)
	if err != nil {
		return nil, err
	}
	r.parsed = parsed
	if err := d.identify(req, in); err != nil {
		return nil, err
	}
	resolved, err := d.resolve(req, in)
	if err != nil {
		return nil, err
	}
	if api != openai.Other && req.Model == "" && resolved.TargetModel == "" {
		return nil, openai.MissingModel()
	}
	r.Pool, r.Resolution = resolved.Pool.Name(), resolved
	req.TargetModel, req.Priority = resolved.TargetModel, resolved.Priority
	if r.scheduler = d.scheduler(r.Pool); r.scheduler == nil {
		return nil, &Error{Status: 503, Code: CodeNoEndpoint, Message: fmt.Sprintf("pool %v has no scheduler", r.Pool)}
	}
	candidates := resolved.Pool.Endpoints()
	if in.HasSubset {
		r.subset = newSubset(in.Subset)
		candidates = r.subset.of(candidates)
	}
	return candidates, nil
}

// identify says whose request it is, and what it may ask for.
func (d *Director) identify(req *types.Request, in Incoming) (err error) {
	req.Header = in.Header
	req.ID = getID(in.Header, HeaderRequestID)
	if s := getID(in.Header, d.session); s != "" {
		req.SessionID = s
	}
	if d.o.TrustRequestHeaders {
		req.FairnessID = getID(in.Header, HeaderFairness)
		if req.SLO, err = readSLO(in.Header); err != nil {
			return err
		}
	}
	if in.Tenant != "" {
		req.FairnessID = boundedID(in.Tenant)
	}
	if in.SLO != (types.SLO{}) {
		req.SLO = in.SLO
	}
	return nil
}

func (d *Director) resolve(req *types.Request, in Incoming) (datastore.Resolution, error) {
	req.Rand = types.NewRand(d.seed + d.routed.Add(1)*0xd1342543de82ef95)
	q := datastore.Query{Pool: in.Pool, Model: req.Model, SessionID: req.SessionID, Rand: &req.Rand, Objective: in.Objective}
	if d.o.TrustRequestHeaders {
		q.Rewrite = get(in.Header, HeaderRewrite)
		if q.Objective == "" {
			q.Objective = get(in.Header, HeaderObjective)
		}
	}
	return d.o.Store.Snapshot().Resolve(q)
}

// decide has the request scheduled. From then on its ticket ends with the booking.
func (d *Director) decide(ctx context.Context, r *Route, candidates []*types.Endpoint, explain bool) (err error) {
	if explain {
		r.decision, r.Explanation, err = r.scheduler.ScheduleExplained(ctx, &r.Request, candidates)
	} else {
		r.decision, err = r.scheduler.Schedule(ctx, &r.Request, candidates)
	}
	if r.ticket != nil && r.decision != nil {
		r.ticket.Booked(r.decision.Endpoint)
		r.decision.EndWith(r.ticket)
	}
	return err
}
