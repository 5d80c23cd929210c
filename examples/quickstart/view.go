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
	At       time.Time   `json:"at"`
	Uptime   float64     `json:"uptimeSeconds"`
	Fleets   []fleetView `json:"fleets"` // the policy's first
	Requests []entry     `json:"requests"`
	Point    point       `json:"point"`
	Rate     float64     `json:"rate"`
	Skipped  int64       `json:"skipped"`
	Replay   *progress   `json:"replay,omitempty"`
}

// fleetView is one fleet in a view.
type fleetView struct {
	Policy    string         `json:"policy"`
	Endpoints []endpointView `json:"endpoints"`
	Models    []modelView    `json:"models"`
	Now       figures        `json:"now"`       // of the last 60 s, as the workload's client saw it
	Total     figures        `json:"total"`     // since the start
	Bands     []bandFigures  `json:"bands"`     // the same of each priority, highest first
	Admission *admissionView `json:"admission"` // nil: it has no admission control
}

// bandFigures are those of the requests of one priority, as the workload's client saw
// them.
type bandFigures struct {
	band
	Now   figures `json:"now"`
	Total figures `json:"total"`
}

// endpointView is one endpoint in a view: what the gateway knows of it. Figures
// that no scrape has read are nil.
type endpointView struct {
	ID       string   `json:"id"`
	InFlight int64    `json:"inFlight"` // by the ledger
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

// point is one moment in the charts, of all fleets in order.
type point struct {
	At     time.Time `json:"at"`
	TTFT50 []*float64
	TTFT90 []*float64
	TPOT50 []*float64
	TPOT90 []*float64
	Hit    []*float64
	Queued map[int]int `json:"queued"` // of the policy's fleet, by priority; nil: no admission control
}

// progress is how far a replay has come.
type progress struct {
	Done     int64 `json:"done"` // turns, of both fleets
	Turns    int   `json:"turns"`
	Sessions int   `json:"sessions"`
}

// viewer takes a view at each refresh.
type viewer struct {
	fleets  []*fleet
	runner  *runner
	replay  *replay // nil: the built-in workload
	rate    float64
	started time.Time
	refresh time.Duration

	counted []counted // of the last 60 s, oldest first; only for take

	mu      sync.Mutex
	latest  view
	history []point
	watch   map[chan view]struct{}
}

// counted is how many requests went where in each fleet by a time.
type counted struct {
	at     time.Time
	fleets []map[target]uint64
}

func newViewer(cfg config, fleets []*fleet, r *runner, p *replay) *viewer {
	v := &viewer{
		fleets: fleets, runner: r, replay: p, rate: cfg.rate, started: time.Now(), refresh: cfg.refresh,
		watch: map[chan view]struct{}{},
	}
	v.take(time.Now())
	return v
}

// take takes a view and hands it to the watchers. For one goroutine.
func (v *viewer) take(now time.Time) view {
	next := view{
		At: now, Uptime: now.Sub(v.started).Seconds(), Rate: v.rate,
		Requests: v.fleets[0].log.recent(shownRequests),
		Point:    point{At: now},
		Skipped:  v.runner.skipped.Load(),
	}
	if v.replay != nil {
		next.Replay = &progress{v.replay.done.Load(), v.replay.turns, len(v.replay.sessions)}
	}
	before := v.count(now)
	counts := v.counted[len(v.counted)-1].fleets
	for i, f := range v.fleets {
		eps := f.endpoints()
		fv := fleetView{
			Policy:    f.policy,
			Endpoints: endpointViews(eps, counts[i], before[i]),
			Models:    modelViews(eps, counts[i], before[i]),
			Now:       v.runner.tallies[i].all.now(now),
			Total:     v.runner.tallies[i].all.total(),
			Admission: f.admissionView(now),
		}
		for _, b := range bandsOf(f.bands) {
			t := v.runner.tallies[i].band(b.Priority)
			fv.Bands = append(fv.Bands, bandFigures{b, t.now(now), t.total()})
		}
		next.Fleets = append(next.Fleets, fv)
		if a := fv.Admission; i == 0 && a != nil {
			next.Point.Queued = map[int]int{}
			for _, b := range a.Bands {
				next.Point.Queued[b.Priority] = b.Queued
			}
		}
		next.Point.TTFT50 = append(next.Point.TTFT50, fv.Now.TTFT50)
		next.Point.TTFT90 = append(next.Point.TTFT90, fv.Now.TTFT90)
		next.Point.TPOT50 = append(next.Point.TPOT50, fv.Now.TPOT50)
		next.Point.TPOT90 = append(next.Point.TPOT90, fv.Now.TPOT90)
		next.Point.Hit = append(next.Point.Hit, fv.Now.HitShare)
	}
	v.publish(next)
	return next
}

// count notes the counts of now and returns those of the window's begin.
func (v *viewer) count(now time.Time) []map[target]uint64 {
	c := counted{at: now}
	for _, f := range v.fleets {
		c.fleets = append(c.fleets, f.log.counts())
	}
	v.counted = append(v.counted, c)
	old := 0
	for now.Sub(v.counted[old].at) > windowLength {
		old++
	}
	v.counted = slices.Delete(v.counted, 0, old)
	if now.Sub(v.started) < windowLength {
		return make([]map[target]uint64, len(v.fleets))
	}
	return v.counted[0].fleets
}

func endpointViews(eps []*types.Endpoint, counts, before map[target]uint64) []endpointView {
	total, recent := map[string]uint64{}, map[string]uint64{}
	var all uint64
	for t, n := range counts {
		total[t.endpoint] += n
		recent[t.endpoint] += n - before[t]
		all += n - before[t]
	}
	views := make([]endpointView, len(eps))
	for i, ep := range eps {
		views[i] = endpointView{
			ID: ep.ID, InFlight: ep.Load.Requests(),
			Waiting: pointer(ep.Metrics.Waiting), Running: pointer(ep.Metrics.Running), KVUsage: pointer(ep.Metrics.KVUsage),
			Adapters: ep.Metrics.RunningAdapters, Routed: total[ep.ID],
			Share: float64(recent[ep.ID]) / float64(max(all, 1)),
		}
	}
	return views
}

func modelViews(eps []*types.Endpoint, counts, before map[target]uint64) []modelView {
	recent := map[string]uint64{}
	for t, n := range counts {
		recent[t.model] += n - before[t]
	}
	views := []modelView{}
	for _, model := range slices.Sorted(maps.Keys(recent)) {
		v := modelView{Model: model, Requests: recent[model]}
		for _, ep := range eps {
			t := target{ep.ID, model}
			v.Shares = append(v.Shares, float64(counts[t]-before[t])/float64(max(v.Requests, 1)))
		}
		views = append(views, v)
	}
	return views
}

// publish makes a view the latest and offers it to the watchers. Who has not taken
// the one before gets this one instead.
func (v *viewer) publish(next view) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.latest = next
	if len(v.history) == historyPoints {
		v.history = slices.Delete(v.history, 0, 1)
	}
	v.history = append(v.history, next.Point)
	for c := range v.watch {
		select {
		case <-c:
		default:
		}
		c <- next
	}
}

// current returns the latest view and the points of the charts up to it.
func (v *viewer) current() (view, []point) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.latest, slices.Clone(v.history)
}

// maxWatchers bounds the pages that are open at one time.
const maxWatchers = 64

// subscribe returns a channel of views to come, and how to end it; nil if there
// are too many.
func (v *viewer) subscribe() (<-chan view, func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.watch) >= maxWatchers {
		return nil, nil
	}
	c := make(chan view, 1)
	v.watch[c] = struct{}{}
	return c, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.watch, c)
	}
}
