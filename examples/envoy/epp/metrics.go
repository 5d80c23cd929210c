package epp

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

func newTelemetry(o telemetry.Options, store *datastore.Store, admissions iter.Seq2[types.NamespacedName, admission.Stats]) (*telemetry.Metrics, error) {
	o.Admissions = admissions
	o.Pools = eachPool(store)
	return telemetry.New(o)
}

// eachPool yields the pools of a store as they are when it is asked, with their endpoints.
func eachPool(store *datastore.Store) iter.Seq2[types.NamespacedName, []*types.Endpoint] {
	return func(yield func(types.NamespacedName, []*types.Endpoint) bool) {
		for _, p := range store.Snapshot().Pools() {
			if !yield(p.Name(), p.Endpoints()) {
				return
			}
		}
	}
}

// refused counts a request that is not routed.
func (a *App) refused(req *types.Request, pool types.NamespacedName, err *director.Error) {
	a.fleet.telemetry.Refused(req, pool, err.Code, err.Status)
	if a.fleet.collector != nil {
		a.fleet.collector.Refused(req, pool, err.Code, err.Status)
	}
	if a.fleet.trail != nil {
		a.fleet.trail.Refused(req, err.Code, err.Status)
	}
}

// routed counts what the hooks of schedulers do not know.
func (a *App) routed(r *director.Route) {
	if w := r.Resolution.Rewrite; w != nil {
		a.fleet.telemetry.Rewritten(w.Name, r.Request.Model, r.Request.TargetModel)
	}
	if a.o.OnRoute != nil {
		a.o.OnRoute(r)
	}
}

// pages are what the metrics address serves.
func (a *App) pages() http.Handler {
	process := prometheus.NewRegistry()
	process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		a.keeper.collector("metrics of the configuration", rejections{a.fleet}))
	if a.cluster != nil {
		process.MustRegister(a.keeper.collector("metrics of the cluster", clusterMetrics{a.cluster}))
	}
	if a.scaling != nil {
		process.MustRegister(a.keeper.collector("metrics of autoscaling", scalingMetrics{a.scaling}))
	}
	mux := http.NewServeMux()
	mux.Handle("/autoscale", a.scaling.page())
	mux.Handle("/autoscale/", a.scaling.page())
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{a.fleet.telemetry, process}, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError, // what of the process could not be found out is left out
	}))
	mux.HandleFunc("GET /config", a.configPage)
	if a.rollouts != nil {
		pages := a.rolloutPages()
		mux.Handle("/rollouts", pages)
		mux.Handle("/rollouts/", pages)
	}
	if a.o.Explain {
		mux.HandleFunc("POST /explain", a.explain)
		mux.Handle("GET /explain", a.fleet.trail.Handler())
	} else {
		mux.HandleFunc("/explain", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "epp: /explain is off, as it tells what is cached for whom: Options.Explain, or -explain, turns it on", http.StatusForbidden)
		})
	}
	if a.o.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// explain answers whether a request would have to wait now and where it would go, and
// why. The body is that of a
// request to a model server; the query may say its path and pool.
//
//	curl localhost:9090/explain --data '{"model":"chat","messages":[…]}'
//
// GET is answered by the trail, with what became of a session or a program so far:
//
//	curl 'localhost:9090/explain?tenant=gold&session=9b1d'
func (a *App) explain(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(a.o.MaxBody)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	in := director.Incoming{Path: r.URL.Query().Get("path"), Header: r.Header, Body: body, Pool: a.o.Pool}
	if in.Path == "" {
		in.Path = "/v1/chat/completions"
	}
	if name := r.URL.Query().Get("pool"); name != "" {
		if in.Pool, err = exchange.ParsePool(name); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	in.Split = exchange.Splits(in.Path)
	ex, err := a.director.Explain(r.Context(), in)
	if ex == nil {
		e := director.AsError(err)
		http.Error(w, e.Error(), e.Status)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if report, ok, err := a.director.ExplainAdmission(in); ok && err == nil {
		fmt.Fprintln(w, report)
	}
	fmt.Fprintln(w, ex)
	a.explainPeers(w, ex, time.Now())
	if err != nil {
		fmt.Fprintln(w, err)
	}
}
