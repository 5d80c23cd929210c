// Package gateway puts together what a gateway on net/http is made of: a store of endpoints
// and who feeds it, a scheduler, a director with admission control, and a transport.
//
//	g, err := gateway.New(gateway.Options{
//		Profile: plugins.Default(),
//		Servers: gateway.Addresses("10.0.0.1:8000", "10.0.0.2:8000"),
//	})
//	…
//	defer g.Close()
//	go g.Run(ctx)
//	err = http.ListenAndServe(":8080", g.Proxy()) // or a http.Server, and Drain
//
// It decides nothing itself. Who needs other parts, or a scheduler for each pool, makes them
// with the packages that these are from.
package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// Options of a Gateway. Profile is required, and Servers or Config if endpoints do not come
// into Gateway.Store in another way.
type Options struct {
	// Profile says how to decide, for all pools: plugins.Default, or what plugins.LoadProfile
	// has read. Its Hooks are called, too.
	Profile scheduling.Profile
	// Admission makes the options of the admission control of a pool, anew at each call. Nil,
	// or a nil result: there is none.
	Admission func() *admission.Options
	// Pool is the name of the pool that Servers are in, and under which decisions are
	// counted. Default "default", in the namespace types.DefaultNamespace.
	Pool types.NamespacedName
	// Servers are the endpoints of Pool: see Addresses. Not nil but empty, and without a
	// Config: Pool has none yet. Nil: there may be no Pool.
	Servers []datastore.EndpointSpec
	// Config is a file with manifests and endpoints for a datastore.FileSource. New fails if
	// it is not good; Run takes over its changes. Empty: none.
	Config string
	// Sharing makes this gateway and its peers, which are in front of the same servers, act as
	// one: see package sharing. With a Transport, which Close closes, they tell each other; with a
	// Store New begins with what the gateway before this one knew, and Run saves what this one
	// does. Default of its Name is that of the host, and of its Logger the one below. Nil:
	// nothing is shared or kept.
	Sharing *sharing.Options
	// Rollouts has new target models judge themselves: see package rollout. New fills in Store, Name, Peers,
	// Logger and Saturation where they are not set. With Sharing the gateways judge as one. Nil: weights of
	// targets are what manifests say.
	Rollouts *rollout.Options
	// Autoscale recommends how many servers each pool should have: see package autoscale. Nil: nothing does.
	Autoscale *Autoscale
	// Metrics makes who counts what happens, such as a telemetry.Metrics of g.Pools,
	// g.Admissions, g.Sharing, g.Rollouts and g.Autoscaler. It is called once, by New, when only these and
	// Store are there. Nil: nobody counts.
	Metrics func(g *Gateway) (Metrics, error)
	// Logger is that of the parts which have none of their own below. Nil: silence.
	Logger *slog.Logger

	// Options of the parts. What a Gateway has of its own takes the place of what these say:
	// Director.Store, Scheduler and Admission.
	Store    datastore.Options
	Scrape   scrape.Options
	Director director.Options
}

// Metrics is who counts what happens. A telemetry.Metrics is one.
type Metrics interface {
	// Hooks counts decisions of a pool, and calls next.
	Hooks(pool types.NamespacedName, next scheduling.Hooks) scheduling.Hooks
	// AdmissionHooks counts what waits for a pool, and calls the Hooks of o.
	AdmissionHooks(pool types.NamespacedName, o admission.Options) admission.Hooks
	// Refused counts a request that was answered with an error in place of a server.
	Refused(req *types.Request, pool types.NamespacedName, code string, status int)
}

// noMetrics counts nothing.
type noMetrics struct{}

func (noMetrics) Hooks(_ types.NamespacedName, next scheduling.Hooks) scheduling.Hooks { return next }
func (noMetrics) AdmissionHooks(_ types.NamespacedName, o admission.Options) admission.Hooks {
	return o.Hooks
}
func (noMetrics) Refused(*types.Request, types.NamespacedName, string, int) {}

// Addresses are endpoints of which no more is known than their addresses, host:port. Of none it is Servers of a pool that
// is empty, and may be scaled from zero.
func Addresses(addresses ...string) []datastore.EndpointSpec {
	specs := make([]datastore.EndpointSpec, len(addresses))
	for i, address := range addresses {
		specs[i].Address = address
	}
	return specs
}

// Gateway is a gateway's parts. Make it with New, Run it, and Close it. Methods may be called
// from any goroutine. The fields do not change; what is set in Transport is set before its
// first use.
type Gateway struct {
	Store     *datastore.Store
	Scheduler *scheduling.Scheduler
	Director  *director.Director
	Transport *httptransport.Transport
	// Sharing is this gateway among its peers, of which Stats and Explain tell. Nil: nothing is shared.
	Sharing *sharing.Group
	// Rollouts moves traffic to new target models. Its Handler is for an administrative port. Nil: there are none.
	Rollouts *rollout.Controller
	// Autoscaler recommends numbers of servers while Run runs. Nil: nothing does.
	Autoscaler *autoscale.Autoscaler

	collector *autoscale.Collector  // of Autoscaler; nil: there is none
	wire      sharing.Transport     // of Sharing; nil: none
	file      *datastore.FileSource // nil: none
	scraper   *scrape.Scraper
	pool      types.NamespacedName
	logger    *slog.Logger
	closed    context.Context // done by close
	close     context.CancelFunc
	running   sync.RWMutex // held for reading by Run
}

// New returns a Gateway, which reads no metrics and no changes of files before Run. The error
// is that of the part whose options are wrong.
func New(o Options) (*Gateway, error) {
	o = o.withDefaults()
	g := &Gateway{Store: datastore.New(o.Store), pool: o.Pool, logger: o.Logger}
	if err := g.feed(o); err != nil {
		return nil, err
	}
	if err := g.join(o); err != nil {
		return nil, err
	}
	if err := g.roll(o); err != nil {
		return nil, err
	}
	if err := g.scale(o); err != nil {
		return nil, err
	}
	if err := g.decide(o); err != nil {
		return nil, err
	}
	g.Transport = httptransport.New(g.Director)
	g.closed, g.close = context.WithCancel(context.Background())
	return g, nil
}

func (o Options) withDefaults() Options {
	o.Pool.Namespace = cmp.Or(o.Pool.Namespace, types.DefaultNamespace)
	o.Pool.Name = cmp.Or(o.Pool.Name, "default")
	if o.Metrics == nil {
		o.Metrics = func(*Gateway) (Metrics, error) { return noMetrics{}, nil }
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	for _, logger := range []**slog.Logger{&o.Store.Logger, &o.Scrape.Logger, &o.Director.Logger} {
		*logger = cmp.Or(*logger, o.Logger)
	}
	return o
}

// feed puts endpoints and manifests into the store, and makes who reads them later.
func (g *Gateway) feed(o Options) (err error) {
	if o.Config != "" {
		g.file = datastore.NewFileSource(g.Store, o.Config, datastore.FileOptions{Logger: o.Logger})
		if err := g.file.Load(); err != nil {
			return err
		}
	}
	if len(o.Servers) > 0 || o.Servers != nil && o.Config == "" {
		if err := g.SetServers(o.Servers); err != nil {
			return err
		}
	}
	g.scraper, err = scrape.New(g.Store, o.Scrape)
	return err
}

// decide makes what decides on requests, and counts that.
func (g *Gateway) decide(o Options) (err error) {
	metrics, err := o.Metrics(g)
	if err != nil {
		return err
	}
	o.Profile.Hooks = metrics.Hooks(o.Pool, g.scalingHooks(o.Profile.Hooks))
	if g.Rollouts != nil {
		o.Profile = WithRollouts(o.Profile, g.Rollouts)
	}
	if g.Scheduler, err = scheduling.New(o.Profile); err != nil {
		return err
	}
	if err := g.shareDecisions(o.Profile); err != nil {
		return err
	}
	d, told := o.Director, o.Director.OnRefused
	d.Store, d.Scheduler, d.Admission = g.Store, g.Scheduler, nil
	if o.Admission != nil {
		d.Admission = func(pool types.NamespacedName) *admission.Options {
			options := o.Admission()
			if options != nil {
				options.Hooks = g.scalingAdmission(pool, *options)
				options.Hooks = metrics.AdmissionHooks(pool, *options)
			}
			return options
		}
	}
	d.OnRefused = func(req *types.Request, pool types.NamespacedName, err *director.Error) {
		metrics.Refused(req, pool, err.Code, err.Status)
		g.scalingRefused(req, pool, err)
		if told != nil {
			told(req, pool, err)
		}
	}
	g.Director, err = director.New(d)
	return err
}

// Pools yields every pool with its endpoints as they are now.
func (g *Gateway) Pools(yield func(types.NamespacedName, []*types.Endpoint) bool) {
	for _, pool := range g.Store.Snapshot().Pools() {
		if !yield(pool.Name(), pool.Endpoints()) {
			return
		}
	}
}

// Admissions yields what the admission control of every pool that has one is like now.
func (g *Gateway) Admissions(yield func(types.NamespacedName, admission.Stats) bool) {
	if g.Director == nil {
		return
	}
	for pool, controller := range g.Director.Admissions() {
		if !yield(pool, controller.Stats()) {
			return
		}
	}
}

// SetServers makes specs the whole list of the endpoints of Options.Pool: see
// datastore.Store.SetEndpoints.
func (g *Gateway) SetServers(specs []datastore.EndpointSpec) error {
	return g.Store.SetEndpoints(g.pool, specs)
}

// Proxy returns a handler that sends requests to the servers. Its fields may be changed before
// its first use.
func (g *Gateway) Proxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {}, // the director's choice replaces the host
		Transport:     g.Transport,
		FlushInterval: -1,                                                     // tokens leave as they come
		ErrorLog:      slog.NewLogLogger(g.logger.Handler(), slog.LevelDebug), // clients that go away are no news
	}
}

// Run reads the servers' metrics, and Options.Config when that changes, tells and hears the
// gateway's peers, runs rollouts and recommends numbers of servers, until ctx is done or the Gateway is
// closed. It returns when all that it started has ended: nil, or scrape.ErrRunning if another Run has not returned.
func (g *Gateway) Run(ctx context.Context) error {
	g.running.RLock()
	defer g.running.RUnlock()
	ctx, stop := context.WithCancel(ctx)
	defer context.AfterFunc(g.closed, stop)()
	var more sync.WaitGroup
	defer more.Wait()
	defer stop()
	if g.file != nil {
		more.Go(func() { g.file.Run(ctx) })
	}
	if g.Sharing != nil {
		more.Go(func() { g.Sharing.Run(ctx) }) // an error is that another Run does it
		more.Go(func() { g.shareAdmissions(ctx) })
	}
	if g.Rollouts != nil {
		more.Go(func() { g.Rollouts.Run(ctx) }) // an error is that another Run does it
	}
	if g.Autoscaler != nil {
		more.Go(func() { g.Autoscaler.Run(ctx) }) // an error is that another Run does it
	}
	return g.scraper.Run(ctx)
}

// Drain shuts a server of Proxy down: it takes no more requests, and Drain returns nil when those under way, and sessions
// over websockets through Transport, for which a http.Server does not wait, have ended. When ctx is done before, those that
// are left are cut off, and the error is that of ctx. Close is to be called after.
func (g *Gateway) Drain(ctx context.Context, server *http.Server) error {
	err := server.Shutdown(ctx)
	if err != nil {
		server.Close()
	}
	if cut := g.Transport.EndSessions(ctx); err == nil {
		err = cut
	}
	return err
}

// Close ends Run and returns when it has ended. Requests that wait to be let in are refused;
// those that are at a server, and sessions, go on: see Drain. Calling it again does nothing.
func (g *Gateway) Close() {
	g.close()
	g.running.Lock()
	defer g.running.Unlock()
	g.Director.Close()
	g.Transport.CloseIdleConnections()
	if g.wire != nil {
		g.wire.Close() // an error is of no use to anybody
	}
}
