package director

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// Options say what a Director works with.
type Options struct {
	// Store knows pools, models and endpoints. Required.
	Store *datastore.Store
	// Scheduler decides for the pools that have none of their own, by Schedulers or
	// NewScheduler. Required unless every pool has.
	Scheduler *scheduling.Scheduler
	// Schedulers are those of single pools. Optional. SetSchedulers changes them.
	Schedulers map[types.NamespacedName]*scheduling.Scheduler
	// NewScheduler makes the scheduler of a pool that has none in Schedulers, for gateways whose
	// pools come and go. It is called when the pool is first asked for, when its manifest has
	// changed and after Renew, and may return the one that the pool has; a pool that is deleted
	// gives its scheduler back. With nil, Scheduler decides; with an error, who has decided so
	// far, or else the request is refused. It is called under no lock, also by several requests
	// at a time, of which one result counts. Optional.
	NewScheduler func(pool *datastore.Pool) (*scheduling.Scheduler, error)

	// Admission makes the options of the admission control of a pool, each time new ones:
	// detectors learn of one pool only. It is called when the pool is first asked for, under
	// no lock: it may call any method of the Director but those that route a request to that
	// very pool. Nil, or a nil result: every request is scheduled as it comes. SetAdmission
	// changes it.
	Admission func(pool types.NamespacedName) *admission.Options

	// Limits bound what a request may be. ModelOptional is of no meaning here: a request
	// without a model is served if a rewrite gives it one, and else a 400.
	Limits openai.Limits
	// AllowPath allows clients more paths than those that are known to be for them, which
	// are the inference APIs of OpenAI, Anthropic and the engines, the resources below /v1,
	// and whether a server is well; see the package comment. It is asked about others: the
	// path as servers may take it at worst, with nothing escaped, in lower case, without
	// query, doubled slashes and slashes at the end. Nil: no others.
	AllowPath func(method, path string) bool
	// Passthrough says that the bodies of a pool's requests and answers are not to be looked
	// at: the requests are routed by their headers alone, name no model, and their usage is
	// not known. It is asked about the pool of the gateway's route, or the only one. Nil: all
	// bodies are.
	Passthrough func(pool types.NamespacedName) bool
	// RestoreModel puts the public model name back into responses where the
	// server put the target's. Default: responses pass as they are.
	RestoreModel bool
	// EngineSessions says whether each prompt for a pool gets a session_id of its own, unless the
	// client set one, so that KV events can be told apart by the requests that caused them
	// (plugins.KVSink). It is for engines that know the field: vLLM from 0.30 on, SGLang. Nil: bodies
	// pass as they are.
	EngineSessions func(pool types.NamespacedName) bool
	// Tokenize returns the token ids of a prompt as the engine will have it, or of its beginning
	// (whole is false), or none, if they are not known: then the prompt is bytes, as without. By
	// token ids its length is exact, and KV events can be told to belong to it
	// (plugins.KVOptions.Model). r has the request and its pool, and as Body what the engine will get,
	// which must not be kept; among are the endpoints that may serve it. The decision waits for it, so
	// it must be quick or give up. It is not asked about prompts with images or other parts. If it
	// panics, Logger hears of it. Package tokenize has one that asks engines. Nil: prompts are bytes.
	Tokenize func(ctx context.Context, r *Route, among []*types.Endpoint) (ids []uint32, whole bool)
	// Families say what media in prompts weigh, by the name of the target model or else of the public one. Nil: as for the models
	// that are known; see openai.Families.
	Families *openai.Families
	// SessionHeader names the request header that holds the session, and ProgramHeader that of the
	// program, in any case; they go before what other headers and the body say. See the package
	// comment. Defaults HeaderSession and HeaderProgram.
	SessionHeader, ProgramHeader string
	// IgnoreClientIDs leaves Request.SessionID and ProgramID to Incoming: nothing that headers and
	// bodies say of them is read.
	IgnoreClientIDs bool
	// Lineage is how many prompts are remembered, for half an hour each, by which a chat that names no
	// session is known to go on with an earlier one: its prompt begins with all of that one. Two that
	// go on from the same prompt are two sessions of a program. Their ids are made up, and begin with
	// a tilde. A prompt takes about 80 bytes, and looking at one of 32 KiB some 15 µs. At most
	// 10,000,000. Default 0: none.
	Lineage int
	// TrustRequestHeaders reads from requests HeaderObjective, HeaderRewrite,
	// HeaderFairness, HeaderTTFT, HeaderTPOT and HeaderMaxWait, and what llm-d calls them
	// (HeaderLLMDObjective and so on), by which whoever sets them
	// chooses priority, model and tenant. It is for data planes that set these themselves and
	// strip first what clients send. Default: they are not read, and what a gateway knows of
	// a request it says in Incoming.
	TrustRequestHeaders bool
	// RetryAfter is what clients of shed requests are told. Default 1 s.
	RetryAfter time.Duration

	// Handover says how prefill hands the KV cache of a prompt over to answer, so that two
	// endpoints serve a request together where that is better (scheduling.Splitter). It is for data
	// planes that run both legs: see Route.Legs. It is asked after the decision; with a nil result
	// answer serves the request alone. It must be quick, and may be called from any goroutine; if it
	// panics, or the protocol does, the request gets a 500. Nil: no request is split, but for data
	// planes in which something before the engines runs the legs.
	Handover func(prefill, answer *types.Endpoint) disagg.Protocol
	// OnIgnored is told of each request of which prefill computed the prompt in vain, because it
	// knows nothing of hand-overs: it is not configured for them. Logger hears of each such endpoint
	// once. It must be quick. Optional.
	OnIgnored func(r *Route, prefill *types.Endpoint)

	// Encode says how endpoints with types.RoleEncode encode the images, audio and videos of chat
	// requests, before the prompt is computed elsewhere. It is for data planes that run these legs:
	// see Route.Encodes. Nil: whoever computes the prompt does it. Experimental.
	Encode *Encoding

	// Jobs bound for how long jobs are taken to be under way whose servers have answered no more than an id: films, responses
	// in the background. What was booked for one stays booked until then.
	Jobs JobOptions

	// OnRefused is told of each request for which Route returns an error, or that
	// Refuse is called for, with as much of the request as was understood, the pool
	// if it is known, and the error. It must be quick. Optional. What becomes of the others
	// the hooks of their schedulers say. If it panics, Logger hears of it.
	OnRefused func(req *types.Request, pool types.NamespacedName, err *Error)

	// Logger hears of scheduling errors that are nobody's fault but a plugin's, and of
	// functions of the embedder's that panicked, though not each time. Nil: silence.
	Logger *slog.Logger
	// Seed makes the draws among weighted targets repeatable. 0: random.
	Seed uint64
}

// Director routes requests. Make it with New, and Close it. All methods may be
// called from any goroutine. It starts no goroutine.
type Director struct {
	o          Options
	panics     *guard.Teller
	names      headerNames
	lineages   *lineages // nil: no prompts are remembered
	retryAfter time.Duration
	seed       uint64
	routed     atomic.Uint64
	schedulers schedulers
	gates      gates
	ignorers   ignorers
	jobs       jobs
	stop       []func()
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
	if o.Jobs.Max < 0 || o.Jobs.Time < 0 {
		return nil, fmt.Errorf("director: Options.Jobs is %+v, want nothing below 0", o.Jobs)
	}
	o.Logger = guardlog.Logger(o.Logger)
	d := &Director{
		panics: guardlog.Teller(o.Logger, "director"), jobs: jobs{max: cmp.Or(o.Jobs.Max, DefaultMaxJobs), time: cmp.Or(o.Jobs.Time, DefaultJobTime)},
		o: o, seed: o.Seed, retryAfter: cmp.Or(o.RetryAfter, time.Second),
		names: o.headerNames(),
	}
	for d.seed == 0 {
		d.seed = rand.Uint64()
	}
	if o.Lineage < 0 || o.Lineage > mostLineage {
		return nil, fmt.Errorf("director: Options.Lineage is %d, want 0 to %d", o.Lineage, mostLineage)
	}
	if o.Lineage > 0 {
		d.lineages = newLineages(o.Lineage)
	}
	if o.Encode != nil {
		var err error
		if d.o.Encode, err = o.Encode.withDefaults(); err != nil {
			return nil, err
		}
	}
	d.schedulers.make = o.NewScheduler
	if err := d.SetSchedulers(o.Scheduler, o.Schedulers); err != nil {
		return nil, err
	}
	if err := d.SetAdmission(o.Admission); err != nil {
		return nil, err
	}
	// Kept there they would outlive those that come after them.
	d.o.Scheduler, d.o.Schedulers, d.o.Admission = nil, nil, nil
	d.stop = append(d.stop, o.Store.WatchReadings(d.reading), o.Store.Watch(func(e datastore.Event) {
		d.gates.event(e)
		if e.Kind == datastore.Removed || e.Kind == datastore.Restarted {
			d.ignorers.forget(e.Endpoint)
			for _, j := range d.jobs.forget(e.Endpoint.Load) {
				j.end()
			}
			if d.o.Encode != nil && e.Endpoint.Roles.Has(types.RoleEncode) {
				d.o.Encode.Scheduler.Forget(e.Endpoint)
			}
			if s := d.schedulers.of(e.Pool); s != nil {
				s.Forget(e.Endpoint)
			}
		}
	}), o.Store.WatchPools(func(e datastore.PoolEvent) {
		if e.Kind == datastore.Removed {
			d.schedulers.giveBack(e.Pool)
		}
	}))
	return d, nil
}

// reading is told of every new reading.
func (d *Director) reading(pool types.NamespacedName, ep *types.Endpoint) {
	d.gates.reading(pool, ep)
	if s := d.schedulers.of(pool); s != nil {
		s.Expire(time.Time{}) // jobs of which nobody asks, while nothing else comes
	}
	for _, j := range d.jobs.overdue(time.Now()) { // also those of schedulers that decide no more
		j.end()
	}
}

// Close ends the watch on the store and refuses requests that wait to be let in. Routes
// that are open stay valid.
func (d *Director) Close() {
	for _, stop := range d.stop {
		stop()
	}
	d.gates.close()
}

// Incoming is a request as it came in, and what the gateway knows of it.
type Incoming struct {
	// Method is the request's. Only of POST, and of PUT and PATCH with a body, the body is
	// read; others have no prompt. Empty: POST.
	Method string
	// Path is the request's path as it came, with its escapes, with or without a query: it
	// says which API this is.
	Path string
	// Header is in the canonical form of net/http.Header. It is not changed.
	Header map[string][]string
	// Body is the whole body. It must not be changed until the Route is done.
	Body []byte
	// HeadersOnly says that there is no body, or that the gateway does not see it. Such a
	// request names no model and is routed by its headers; what is missing in it its
	// server may say. Body must be empty. To admission control it is one like others.
	HeadersOnly bool

	// Pieces says that the gateway sends Route.Pieces in place of Route.Body, so that a body is not copied
	// because its model has another name at the server. Body is nil then, unless nothing long had to be copied
	// or something needed all of it in one piece, as Legs and Encodes do. Optional.
	Pieces bool

	// MaxBody lowers the bound of the body of an Exchange, Director.MaxBody, to so many bytes.
	// KeepBody says that its pieces are not changed until Close, so that large ones need not be
	// copied as they come. Both are optional.
	MaxBody  int64
	KeepBody bool

	// Pool is the pool of the gateway's route. Zero: the one that serves the model.
	Pool types.NamespacedName
	// AllowPath says that the gateway's route is for this very path, which clients may then ask
	// for as if Options.AllowPath had it.
	AllowPath bool
	// HasSubset says that the gateway restricts the candidates to Subset: a list
	// of ip:port, and of hosts for all ports of one. An empty list allows nobody.
	HasSubset bool
	Subset    []string

	// What the gateway says of the request. It goes before what the headers say, of which, but for
	// SessionID and ProgramID, Options.TrustRequestHeaders decides whether they are read. All optional.
	FairnessID string        // the tenant
	SessionID  string        // the conversation; with ProgramID it goes before all that clients say
	ProgramID  string        // the agent's task that it is part of
	Objective  string        // the name of an InferenceObjective, for the priority
	Rewrite    string        // the target model
	SLO        types.SLO     // what the client wants; each field for itself
	MaxWait    time.Duration // how long it may wait to be let in; it can only shorten that of its band

	// Split says that the data plane can have the prompt computed by one endpoint and the answer
	// produced by another. Either it asks Route.Legs before each attempt, for which
	// Director.HandsOver must be true, or something before the engine runs the legs, to which it
	// tells Route.Prefill (the side-cars of llm-d). Without it the request is served by one endpoint.
	Split bool

	// Explain keeps the explanation of the decision in Route.Explanation.
	Explain bool

	size int64 // of the body, of which Body is only the beginning; 0: it is all there
}

// Route decides where a request goes and books it there. The error is an *Error; a panic
// of a function of the embedder's is one with status 500. Of a Route, Done must be called
// whatever happens.
func (d *Director) Route(ctx context.Context, in Incoming) (r *Route, err error) {
	r = &Route{director: d}
	routed := false
	defer func() { // this owns the request until it is a Route
		if routed {
			return
		}
		if v := recover(); v != nil {
			err = &scheduling.PanicError{Value: v, Stack: debug.Stack()}
		}
		r.abandon()
		if err != nil {
			r, err = nil, d.refused(ctx, r, err)
		}
	}()
	err = d.route(ctx, r, in)
	routed = err == nil
	return r, err
}

// route does what Route is for, step by step; r keeps what there is so far.
func (d *Director) route(ctx context.Context, r *Route, in Incoming) error {
	candidates, err := d.prepare(r, &in)
	if err != nil {
		return err
	}
	d.tokenize(ctx, r, &in, candidates)
	if !r.generates {
		r.Request.Admitted = true // it takes no place, so nobody need let it in
	} else if candidates, err = d.admit(ctx, r, candidates, &in); err != nil {
		return err
	}
	if err := d.decide(ctx, r, candidates, in.Explain); err != nil {
		return err
	}
	r.load(&in)
	return nil
}

// refused returns the error for a request that was not routed, and tells of it.
func (d *Director) refused(ctx context.Context, r *Route, err error) *Error {
	e := d.translate(err, r)
	d.report(ctx, r, e, err)
	return e
}

// report tells of a request that was refused with e, because of err.
func (d *Director) report(ctx context.Context, r *Route, e *Error, err error) {
	if d.o.OnRefused != nil {
		func() {
			defer d.recovered("Options.OnRefused", nil)
			d.o.OnRefused(&r.Request, r.Pool, e)
		}()
	}
	if e.Status == 500 {
		attrs := []slog.Attr{slog.String("model", r.Request.Model), slog.Any("error", err)}
		if p, ok := errors.AsType[*scheduling.PanicError](err); ok {
			attrs = append(attrs, slog.String("stack", string(p.Stack)))
		}
		d.log(ctx, "request not routed", attrs...)
	}
}

// Refuse is for adapters that refuse a request before they have all of it to route,
// for example because its body is too large: it gives e the form of the API that the
// path belongs to, tells Options.OnRefused, and returns e.
func (d *Director) Refuse(path string, e *Error) *Error {
	r := &Route{director: d}
	r.setPath(path)
	e.API, e.Path = r.parsed.API, r.path
	d.report(context.Background(), r, e, e.Err)
	return e
}

// log writes to Options.Logger.
func (d *Director) log(ctx context.Context, message string, attrs ...slog.Attr) {
	d.o.Logger.LogAttrs(ctx, slog.LevelError, message, attrs...)
}

// recovered is to be deferred around a function of the embedder's after which things go
// on. It tells of a panic, though not each time, and calls after, if there was one.
func (d *Director) recovered(function string, after func()) {
	if p := guard.Caught(function, recover()); p != nil {
		if after != nil {
			after()
		}
		d.panics.Tell(p)
	}
}

// Explain returns what Route would decide now, and why; nothing is booked. The
// error, an *Error, is returned with the explanation as far as it goes, which is
// nil if no scheduler was asked.
func (d *Director) Explain(ctx context.Context, in Incoming) (ex *scheduling.Explanation, err error) {
	r := &Route{director: d}
	defer func() {
		if v := recover(); v != nil {
			ex, err = nil, d.translate(&scheduling.PanicError{Value: v, Stack: debug.Stack()}, r)
		}
	}()
	candidates, err := d.prepare(r, &in)
	if err != nil {
		return nil, d.translate(err, r)
	}
	d.tokenize(ctx, r, &in, candidates)
	ex, err = r.scheduler.Explain(ctx, &r.Request, candidates)
	if err != nil {
		return ex, d.translate(err, r)
	}
	return ex, nil
}

// prepare fills in r's request and returns the endpoints that may serve it.
func (d *Director) prepare(r *Route, in *Incoming) ([]*types.Endpoint, error) {
	if in.Method = strings.ToUpper(in.Method); in.Method == "" { // there are servers that take post for POST
		in.Method = "POST"
	}
	kind, err := d.allow(r, in)
	if err != nil {
		return nil, err
	}
	if err := d.parse(r, in, kind); err != nil {
		return nil, err
	}
	if AsksForWebsocket(in.Method, in.Header) {
		r.converse(in)
	} else if asksOnly(in.Method) || kind != inference && r.kept.collection != "" {
		r.Request.Work.Kind = types.Fetches
	}
	if err := d.describe(r, in); err != nil {
		return nil, err
	}
	resolved, err := d.resolve(r, in)
	if err != nil {
		return nil, err
	}
	if in.HeadersOnly && in.Method == "POST" && kind == inference && openai.APIOf(r.path) != openai.CountTokens {
		r.generates = true // as far as anybody can tell
	}
	r.Pool, r.Resolution = resolved.Pool.Name(), resolved
	if r.generates && !r.opaque && d.o.EngineSessions != nil && d.o.EngineSessions(r.Pool) {
		r.Request.EngineSession = crand.Text() // not to be guessed: clients may set the field, too
	}
	r.Request.TargetModel, r.Request.Priority = resolved.TargetModel, resolved.Priority
	d.weigh(r)
	if r.scheduler, err = d.schedulerFor(resolved.Pool); err != nil {
		return nil, err
	}
	if r.scheduler == nil {
		return nil, &Error{Status: 503, Code: CodeNoEndpoint, Message: fmt.Sprintf("pool %v has no scheduler", r.Pool)}
	}
	if in.HasSubset {
		r.subset = newSubset(in.Subset)
	}
	eps := resolved.Pool.Endpoints()
	if err := d.reserved(r, in, eps); err != nil {
		return nil, err
	}
	eps = r.subset.of(eps)
	if r.sent = in.Path; r.session && r.Request.Model != "" {
		r.sent = openai.SpliceQueryModel(in.Path, r.Request.Target())
	}
	r.Request.Split = in.Split && r.splittable(in, eps)
	return eps, nil
}

// tokenize makes the prompt one of token ids, if they are to be had.
func (d *Director) tokenize(ctx context.Context, r *Route, in *Incoming, among []*types.Endpoint) {
	p := &r.Request.Prompt
	if d.o.Tokenize == nil || !r.generates || r.opaque || len(p.Spans) == 0 || p.Images+p.Audio+p.Other > 0 {
		return
	}
	r.Body = r.parsed.Splice(in.Body, r.renamed(), "")
	defer d.recovered("Options.Tokenize", nil)
	ids, whole := d.o.Tokenize(ctx, r, among)
	if len(ids) == 0 {
		return
	}
	estimated := p.Tokens
	*p = types.TokenPrompt(ids)
	if !whole && estimated > p.Tokens {
		p.Bytes, p.Tokens = p.Bytes/p.Tokens*estimated, estimated // as if the rest were there, which matches nothing
	}
}

// allow returns what kind of path it is, or an error if clients may not ask for it.
func (d *Director) allow(r *Route, in *Incoming) (class, error) {
	kind := forbidden
	if r.setPath(in.Path) {
		kind = classOf(in.Method, r.path)
		if kind == forbidden && (in.AllowPath || d.o.AllowPath != nil && d.o.AllowPath(in.Method, r.path)) {
			kind = resource
		}
	}
	if kind == forbidden {
		return kind, &Error{Status: 403, Code: CodePath,
			Message: fmt.Sprintf("%s %.80q is not for clients of this gateway", in.Method, in.Path)}
	}
	return kind, nil
}

// setPath keeps the clean path, or the path as it is if there is no telling, and reports
// whether there is.
func (r *Route) setPath(path string) bool {
	clean, ok := cleanPath(path)
	if !ok {
		clean = path
	}
	r.path, r.parsed.API = clean, openai.APIOf(clean)
	return ok
}

// parse reads the body, if the method has one to be read.
func (d *Director) parse(r *Route, in *Incoming, kind class) error {
	r.Request.Prompt.Spans = noPrompt
	if kind == inference && in.Method == "POST" {
		r.Request.Work.Kind = r.parsed.API.Kind() // as long as there is no more to be seen of it
	}
	r.method, r.kept = in.Method, keptIn(in.Path)
	if in.HeadersOnly || in.Method != "POST" && !(len(in.Body) > 0 && (in.Method == "PUT" || in.Method == "PATCH")) {
		r.parsed.API, r.opaque = openai.Other, true
		r.polls = r.kept.tells() && (r.kept.id != "" || in.Method == "POST") && !d.passes(in.Pool)
		r.Request.Body = in.Body
		return nil
	}
	if d.passes(in.Pool) {
		r.parsed.API, r.opaque, r.modelless = openai.Other, true, true
		r.Request.Body = in.Body
		r.generates = kind == inference
		return nil
	}
	if enc := get(in.Header, "Content-Encoding"); enc != "" && len(in.Body) > 0 && !strings.EqualFold(enc, "identity") {
		return &Error{Status: 415, Code: CodeEncoding, Param: "Content-Encoding",
			Message: fmt.Sprintf("request body is encoded as %.40q, want it plain", enc)}
	}
	limits := d.o.Limits
	limits.ModelOptional = true
	if in.size > 0 {
		return d.parseEarly(r, in, kind, limits)
	}
	parsed, err := openai.Parse(r.parsed.API, get(in.Header, "Content-Type"), in.Body, &r.Request, limits)
	if err != nil {
		return err
	}
	r.parsed = parsed
	if r.Request.Prompt.Spans == nil {
		r.Request.Prompt.Spans = noPrompt
	}
	r.modelless = parsed.API != openai.Other && !parsed.API.NamesModel()
	r.generates = kind == inference && parsed.API != openai.CountTokens
	return nil
}

// noPrompt are the spans of a request in which there is no prompt to be seen.
var noPrompt = []types.Span{}

// describe fills in what headers and the gateway say of the request.
func (d *Director) describe(r *Route, in *Incoming) (err error) {
	req, h := &r.Request, in.Header
	req.Header = h
	req.ID = getID(h, HeaderRequestID)
	d.identify(req, in)
	if req.PreviousID == "" {
		req.PreviousID = r.kept.named(in.Method)
	}
	if req.PreviousID == "" && in.Method == "POST" && r.kept.refers() {
		req.PreviousID = openai.FileIn(in.Body)
	}
	if d.o.TrustRequestHeaders {
		if err := trusted(in); err != nil {
			return err
		}
	}
	req.FairnessID, req.SLO = boundID(in.FairnessID), in.SLO
	if d.lineages != nil && req.SessionID == "" {
		d.lineages.find(r)
	}
	if req.ProgramID == "" {
		req.ProgramID = req.SessionID
	}
	return nil
}

// trusted fills in from the headers what the gateway has not said itself.
func trusted(in *Incoming) error {
	h := in.Header
	in.FairnessID = cmp.Or(in.FairnessID, get(h, HeaderLLMDFairness), get(h, HeaderFairness))
	in.Objective = cmp.Or(in.Objective, get(h, HeaderLLMDObjective), get(h, HeaderObjective))
	in.Rewrite = cmp.Or(in.Rewrite, get(h, HeaderLLMDRewrite), get(h, HeaderRewrite))
	ttft, err := millis(first(h, HeaderLLMDTTFT, HeaderTTFT))
	if err != nil {
		return err
	}
	tpot, err := millis(first(h, HeaderLLMDTPOT, HeaderTPOT))
	if err != nil {
		return err
	}
	wait, err := readMaxWait(h)
	in.SLO.TTFT, in.SLO.TPOT, in.MaxWait = cmp.Or(in.SLO.TTFT, ttft), cmp.Or(in.SLO.TPOT, tpot), cmp.Or(in.MaxWait, wait)
	return err
}

func (d *Director) resolve(r *Route, in *Incoming) (datastore.Resolution, error) {
	req := &r.Request
	req.Rand = types.NewRand(d.seed + d.routed.Add(1)*0xd1342543de82ef95)
	now := d.o.Store.Snapshot()
	resolved, err := now.Resolve(datastore.Query{
		Pool: in.Pool, Model: req.Model, SessionID: req.SessionID, Rand: &req.Rand, Objective: in.Objective, Rewrite: in.Rewrite,
		NoModel: r.modelless,
	})
	switch {
	case req.Model != "" || err != nil && !errors.Is(err, datastore.ErrUnknownModel):
	case r.parsed.API.NamesModel() && (err != nil || resolved.TargetModel == ""):
		return resolved, openai.MissingModel()
	case err != nil && !r.generates:
		// It asks for no model, so that none is unknown.
		if pool := poolOf(now, in.Pool); pool != nil {
			return datastore.Resolution{Pool: pool}, nil
		}
	}
	return resolved, err
}

// passes reports whether bodies of a pool's requests are not looked at.
func (d *Director) passes(name types.NamespacedName) bool {
	if d.o.Passthrough == nil {
		return false
	}
	pool := poolOf(d.o.Store.Snapshot(), name)
	return pool != nil && d.o.Passthrough(pool.Name())
}

// poolOf returns the pool of that name, or without a name the only one.
func poolOf(now *datastore.Snapshot, name types.NamespacedName) *datastore.Pool {
	if !name.IsZero() {
		return now.Pool(name)
	}
	if pools := now.Pools(); len(pools) == 1 {
		return pools[0]
	}
	return nil
}

func (d *Director) decide(ctx context.Context, r *Route, candidates []*types.Endpoint, explain bool) (err error) {
	if explain {
		r.decision, r.Explanation, err = r.scheduler.ScheduleExplained(ctx, &r.Request, candidates)
	} else {
		r.decision, err = r.scheduler.Schedule(ctx, &r.Request, candidates)
	}
	if r.ticket != nil && r.decision != nil {
		r.decision.EndWith(r.ticket)
		r.ticket.Booked(r.decision.Endpoint)
	}
	if r.Request.Split && err == nil {
		r.begun()
	}
	return err
}

// MaxBody returns the size in bytes of the largest body that Options.Limits accept.
func (d *Director) MaxBody() int64 {
	l := d.o.Limits
	if l.MaxBytes <= 0 {
		l.MaxBytes = 16 << 20
	}
	if l.MaxFormBytes <= 0 {
		l.MaxFormBytes = 32 << 20
	}
	return int64(max(l.MaxBytes, l.MaxFormBytes))
}
