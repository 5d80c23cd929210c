package main

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

const (
	shownRequests = 50
	historyPoints = 300 // of the charts; one for each refresh
)

// view is everything that the page and the terminal show, at one time.
type view struct {
	Uptime   float64      `json:"uptimeSeconds"`
	Fleets   []fleetView  `json:"fleets"` // the policy's first
	Requests []entry      `json:"requests"`
	Point    point        `json:"point"`
	Skipped  int64        `json:"skipped"`
	Replay   *progress    `json:"replay,omitempty"`
	Shared   bool         `json:"shared"`  // gateways share what they know
	Rollout  *rolloutView `json:"rollout"` // of the policy's fleet; nil: there was none
}

// fleetView is one fleet in a view.
type fleetView struct {
	Policy    string         `json:"policy"`
	Gateways  []gatewayView  `json:"gateways"`
	Endpoints []endpointView `json:"endpoints"`
	Models    []modelView    `json:"models"`
	Now       figures        `json:"now"`       // of the workload's requests of the last 60 s
	Total     figures        `json:"total"`     // since the start
	Bands     []bandView     `json:"bands"`     // by priority, highest first
	Admission *admissionView `json:"admission"` // nil: it has no admission control
	Scaling   []string       `json:"scaling"`   // how many servers each pool should have, in words
}

// endpointView is one endpoint in a view: what the gateway knows of it. Figures
// that no scrape has read are nil.
type endpointView struct {
	ID       string   `json:"id"`
	InFlight int64    `json:"inFlight"` // by the ledgers of all gateways
	Waiting  *float64 `json:"waiting"`
	Running  *float64 `json:"running"`
	KVUsage  *float64 `json:"kvUsage"`
	Adapters []string `json:"adapters"` // running
	Routed   uint64   `json:"routed"`
	Share    float64  `json:"share"` // of the requests of the last 60 s
}

// modelView is where the requests for one model went in the last 60 s.
type modelView struct {
	Model    string    `json:"model"`
	Requests uint64    `json:"requests"`
	Shares   []float64 `json:"shares"` // of each endpoint, in their order
}

// point is one moment in the charts.
type point struct {
	At     time.Time   `json:"at"`
	Fleets []figures   `json:"fleets"` // of the last 60 s
	Queued map[int]int `json:"queued"` // of the policy's fleet, by priority; nil: no admission control
}

// progress is how far a replay has come.
type progress struct {
	Done     int64 `json:"done"` // turns, of both fleets
	Turns    int   `json:"turns"`
	Sessions int   `json:"sessions"`
}

// viewer takes views, one at each refresh.
type viewer struct {
	fleets  []*fleet
	traffic traffic
	started time.Time

	mu      sync.Mutex
	latest  view
	history []point
	next    chan struct{} // closed when there is a later view
}

func newViewer(fleets []*fleet, t traffic) *viewer {
	v := &viewer{fleets: fleets, traffic: t, started: time.Now(), next: make(chan struct{})}
	v.refresh(time.Now())
	return v
}

// refresh takes a view and shows it to those who wait for it.
func (v *viewer) refresh(now time.Time) view {
	view := view{
		Uptime: now.Sub(v.started).Seconds(), Requests: v.fleets[0].log.requests(shownRequests),
		Point: point{At: now}, Shared: len(v.fleets[0].gateways[0].peers) > 0,
	}
	view.Replay, view.Skipped = v.traffic.progress()
	view.Rollout = v.fleets[0].rolloutView()
	for _, f := range v.fleets {
		fv := f.view(now)
		view.Fleets = append(view.Fleets, fv)
		view.Point.Fleets = append(view.Point.Fleets, fv.Now)
	}
	if f := view.Fleets[0]; f.Admission != nil {
		view.Point.Queued = map[int]int{}
		for _, b := range f.Bands {
			view.Point.Queued[b.Priority] = b.Queued
		}
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	v.latest = view
	v.history = append(slices.Delete(v.history, 0, max(0, len(v.history)+1-historyPoints)), view.Point)
	close(v.next)
	v.next = make(chan struct{})
	return view
}

// current returns the latest view, the points of the charts up to it, and what is closed
// when there is a later one.
func (v *viewer) current() (view, []point, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.latest, slices.Clone(v.history), v.next
}

// view returns what the gateways know of the fleet; the first, where all know the same.
func (f *fleet) view(now time.Time) fleetView {
	total, recent := f.log.counts(now)
	byEndpoint, byModel, routed := map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	var all uint64
	for t, n := range total {
		routed[t.endpoint] += n
		byModel[t.model] += recent[t]
		byEndpoint[t.endpoint] += recent[t]
		all += recent[t]
	}
	part := func(n, of uint64) float64 { return float64(n) / float64(max(of, 1)) }
	v := fleetView{Policy: f.policy.name, Models: []modelView{}}
	v.Now, v.Total = f.log.figures(now)
	v.Admission, v.Bands = f.admissionView(now)
	v.Scaling = f.recommended()
	for _, g := range f.gateways {
		v.Gateways = append(v.Gateways, g.view(now))
	}
	eps, held := f.endpoints(), f.held()
	for _, ep := range eps {
		v.Endpoints = append(v.Endpoints, endpointView{
			ID: ep.ID, InFlight: held[ep.ID],
			Waiting: pointer(ep.Metrics.Waiting), Running: pointer(ep.Metrics.Running), KVUsage: pointer(ep.Metrics.KVUsage),
			Adapters: ep.Metrics.RunningAdapters, Routed: routed[ep.ID], Share: part(byEndpoint[ep.ID], all),
		})
	}
	for _, model := range slices.Sorted(maps.Keys(byModel)) {
		m := modelView{Model: model, Requests: byModel[model]}
		for _, ep := range eps {
			m.Shares = append(m.Shares, part(recent[target{ep.ID, model}], m.Requests))
		}
		v.Models = append(v.Models, m)
	}
	return v
}

// endpoints returns the latest readings of the first gateway.
func (f *fleet) endpoints() []*types.Endpoint { return f.gateways[0].now.Load().endpoints() }

// held returns the requests in the ledgers of all gateways, by the endpoint's ID.
func (f *fleet) held() map[string]int64 {
	held := map[string]int64{}
	for _, g := range f.running() {
		for _, ep := range g.endpoints() {
			held[ep.ID] += ep.Load.Requests()
		}
	}
	return held
}
