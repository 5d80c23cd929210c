package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// gateway is one of the gateways of a run: a scheduler of its own, ledgers of its
// own, readings of its own.
type gateway struct {
	s         *sim
	index     int // in sim.gateways
	place     int // that of the gateways of Config which it is, or in the place of which
	scheduler *scheduling.Scheduler
	admission *admission.Controller // nil: none
	eps       []*types.Endpoint     // the readings of the replicas that discovery knows
	room      []*types.Endpoint     // memory for those of them that have room

	sink          KVSink         // nil: it takes no KV events
	subscriptions []subscription // by replica
	lossy         types.Rand     // which batches are lost

	sharer      Sharer // nil: it tells nobody
	incarnation int32  // counts restarts
	dead        bool
	leaving     bool          // it gets no jobs, and is dead when it has none
	jobs        map[int]*live // under way, by number; nil: no gateway ever dies
	share       float64       // of the jobs, relative to others
	due         float64       // by how much fewer it has had
}

// reading is what a scrape brings.
type reading struct {
	metrics types.Metrics
	by      int32 // incarnation of the gateway
}

func newGateway(s *sim, index, place int, incarnation int32) (*gateway, error) {
	g := &gateway{
		s: s, index: index, place: place, incarnation: incarnation, share: 1,
		lossy: types.NewRand(derive(derive(s.cfg.Seed, streamEvents), uint64(index))),
	}
	if s.mortal {
		g.jobs = map[int]*live{}
	}
	if s.cfg.Shares != nil {
		g.share = s.cfg.Shares[place]
	}
	p := s.cfg.Policy
	var profile scheduling.Profile
	if p.Clairvoyant != nil {
		profile = p.Clairvoyant(truth{s})
	} else {
		profile = p.Profile()
	}
	profile.Seed = mix(s.cfg.Seed+1, uint64(index)+1) | 1
	if incarnation > 0 {
		profile.Seed = derive(profile.Seed, uint64(incarnation)) | 1
	}
	profile.Now = s.time
	var control *admission.Options
	if s.cfg.Admission != nil {
		o := s.cfg.Admission()
		o.Clock = simClock{s}
		control = &o
	}
	s.scale.watch(g.name(), &profile, control)
	var err error
	if g.scheduler, err = scheduling.New(profile); err != nil {
		return nil, fmt.Errorf("simulation: policy %s: %w", p.Name, err)
	}
	if p.Sink != nil {
		if g.sink, err = p.Sink(profile); err != nil {
			return nil, fmt.Errorf("simulation: policy %s: %w", p.Name, err)
		}
	}
	if control != nil {
		if g.admission, err = admission.New(*control); err != nil {
			return nil, fmt.Errorf("simulation: %w", err)
		}
	}
	return g, s.share(g, profile)
}

func (g *gateway) name() string { return "g" + strconv.Itoa(g.index) }

// discover enters a replica. Slot is its index for good: numbers are not used again
// within a run.
func (g *gateway) discover(r *replica) {
	ep := types.NewEndpoint(r.Name, r.Name+":8000")
	ep.Slot, ep.Labels, ep.Roles = uint32(r.index), r.Labels, r.roles
	if r.Role != "" {
		ep.Labels = maps.Clone(r.Labels)
		if ep.Labels == nil {
			ep.Labels = map[string]string{}
		}
		ep.Labels[types.RoleLabel] = r.Role
	}
	g.eps = append(g.eps, ep)
	g.room = make([]*types.Endpoint, 0, len(g.eps))
	g.updateAdmission()
	if g.sink != nil {
		g.sink.State(r.Name, 0, types.KVLive)
	}
}

// updateAdmission tells the admission control which endpoints there are.
func (g *gateway) updateAdmission() {
	if g.admission != nil {
		g.admission.SetEndpoints(g.eps)
	}
}

// removeReplica takes a replica away.
func (g *gateway) removeReplica(r *replica) {
	i := g.find(r)
	if i < 0 {
		return
	}
	ep := g.eps[i]
	ep.Load.Retire()
	g.eps = slices.Delete(slices.Clone(g.eps), i, i+1)
	g.scheduler.Forget(ep)
	if g.sink != nil {
		g.sink.Remove(r.Name)
	}
	g.updateAdmission()
}

func (g *gateway) find(r *replica) int {
	return slices.IndexFunc(g.eps, func(ep *types.Endpoint) bool { return ep.Slot == uint32(r.index) })
}

// schedule decides about a job and books it.
func (g *gateway) schedule(l *live) error {
	c := &g.s.cfg
	eps := g.eps
	if l.ticket != nil {
		l.req.Admitted = true
		eps = l.ticket.Candidates(g.room[:0], eps)
	}
	var began time.Time
	if c.CPU {
		began = time.Now()
	}
	var err error
	if l.number == c.ExplainJob {
		l.decision, g.s.stats.explanation, err = g.scheduler.ScheduleExplained(context.Background(), &l.req, eps)
	} else {
		l.decision, err = g.scheduler.Schedule(context.Background(), &l.req, eps)
	}
	if c.CPU {
		g.s.stats.decision.add(time.Since(began))
	}
	return err
}

// scrape reads a replica's metrics as they are now, for use after the delay, and
// plans the next time.
func (s *sim) scrape(g *gateway, r *replica) {
	sc := s.cfg.Scrape
	wait := time.Duration(float64(sc.Period) * (1 + sc.Jitter*(2*s.rand.Float64()-1)))
	if s.goesOn() {
		s.queue.push(event{at: s.now + wait, kind: scrapeNow, a: int32(r.index), b: int32(g.index)})
	}
	if r.dead || r.hung || g.dead {
		return
	}
	s.queue.push(event{at: s.now + sc.Delay, kind: scrapeDone, a: int32(r.index), b: int32(g.index),
		reading: reading{s.metrics(r), g.incarnation}})
}

// metrics is what a replica's page says now.
func (s *sim) metrics(r *replica) types.Metrics {
	m := r.server.Metrics(s.now)
	if r.engine == nil {
		page := types.Metrics{UpdatedAt: epoch.Add(s.now)}
		if !r.Diffusion.Silent {
			page.Waiting, page.Running = types.Known(float64(m.Waiting)), types.Known(float64(m.Running))
		}
		return page
	}
	c := r.engine.Config()
	return types.Metrics{
		UpdatedAt:       epoch.Add(s.now),
		Waiting:         types.Known(float64(m.Waiting + m.Receiving)),
		Running:         types.Known(float64(m.Running)),
		KVUsage:         types.Known(m.KVUsage()),
		MaxAdapters:     types.Known(float64(c.MaxLoRAs)),
		RunningAdapters: r.adapterNames(m.RunningAdapters),
		WaitingAdapters: r.adapterNames(m.WaitingAdapters),
		BlockSize:       types.Known(blockTokens),
		NumBlocks:       types.Known(float64(m.Blocks)),
		StartedAt:       types.Known(float64(epoch.Unix()) + r.started.Seconds()),
	}
}

func (r *replica) adapterNames(ids []uint32) []string {
	var names []string
	for _, id := range ids {
		if id != 0 {
			names = append(names, r.names[id])
		}
	}
	return names
}

// read takes a reading over.
func (g *gateway) read(r *replica, n reading) {
	i := g.find(r)
	if i < 0 || n.by != g.incarnation {
		return
	}
	ep := g.eps[i]
	before, known := ep.Metrics.StartedAt.Value()
	g.eps[i] = ep.WithMetrics(n.metrics)
	if after, _ := n.metrics.StartedAt.Value(); known && after != before {
		g.scheduler.Forget(g.eps[i]) // it restarted, with empty caches
	}
	if g.admission != nil {
		g.admission.Update(g.eps[i])
	}
}
