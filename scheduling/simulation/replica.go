package simulation

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

const blockTokens = engine.BlockTokens

// replica is one model server of a run.
type replica struct {
	Replica
	index  int
	server stepper
	engine *engine.Engine // the same; nil: it is a Diffusion

	// incarnation counts restarts: what was planned for an earlier one is void.
	incarnation int32
	dead        bool
	hung        bool
	removed     bool // discovery has taken it away
	gone        bool // and it has no jobs; where there is Scaling
	ordered     time.Duration
	busy        bool // a step is under way
	events      []engine.Event
	changes     []engine.Change
	started     time.Duration // of this incarnation

	roles   types.Roles
	legs    map[uint64]*live // prompts that are computed for others; nil: it never does
	watched bool             // the end of a lease is planned
	ended   int              // leases that ended before it was restarted
	encoded uint64           // tokens of media that were encoded before it was restarted

	jobs map[uint64]*live // submitted to the engine and not ended
	live int              // on their way included

	names map[uint32]string // of adapters
	out   ReplicaReport
	work  time.Duration // steps under way
}

// stepper is what replica.go needs of an engine of any kind.
type stepper interface {
	Step(now time.Duration) (engine.Step, bool)
	Cancel(id uint64) bool
	Metrics(now time.Duration) engine.Metrics
}

// addReplica adds a replica to the fleet and to what the gateways know.
func (s *sim) addReplica(c Replica) error {
	r := &replica{Replica: c, index: len(s.replicas), jobs: map[uint64]*live{}, names: map[uint32]string{}, started: s.now}
	if r.Name == "" {
		r.Name = fmt.Sprintf("r%d", r.index)
	}
	r.out.Name, r.out.Role = r.Name, r.Role
	r.Engine.Quiet = true // only first and last tokens matter here
	r.Engine.Changes = s.cfg.Policy.Sink != nil
	var err error
	if r.roles, err = types.ParseRoles(r.Role); err != nil {
		return fmt.Errorf("simulation: replica %s: %w", r.Name, err)
	}
	if r.roles.Has(types.RolePrefill) {
		s.split, r.legs = true, map[uint64]*live{}
	}
	s.transfers.add(&c)
	if err = s.newEngine(r); err != nil {
		return fmt.Errorf("simulation: replica %s: %w", r.Name, err)
	}
	s.replicas = append(s.replicas, r)
	s.scale.joined(r)
	for _, g := range s.gateways {
		g.discover(r)
		s.scrapes(g, r)
	}
	return nil
}

// scrapes begins to read the metrics of a replica, at a phase of its own.
func (s *sim) scrapes(g *gateway, r *replica) {
	if s.cfg.Scrape.Period > 0 {
		phase := time.Duration(s.rand.Float64() * float64(s.cfg.Scrape.Period))
		s.queue.push(event{at: s.now + phase, kind: scrapeNow, a: int32(r.index), b: int32(g.index)})
	}
}

// newEngine makes the engine of a replica's present incarnation.
func (s *sim) newEngine(r *replica) (err error) {
	noise := &r.Engine.Noise
	if r.Diffusion != nil {
		noise = &r.Diffusion.Noise
	}
	// Replicas of one configuration that stalled at the same step, each time they
	// are started, would be noisy in a way that no fleet is.
	seed := derive(s.cfg.Seed, streamNoise)
	for _, n := range []uint64{noise.Seed, uint64(r.index), uint64(r.incarnation)} {
		seed = derive(seed, n)
	}
	if r.Diffusion != nil {
		c := *r.Diffusion
		c.Noise.Seed = seed
		r.server, err = engine.NewDiffusion(c)
		return err
	}
	c := r.Engine
	c.Noise.Seed = seed
	r.engine, err = engine.New(c)
	r.server = r.engine
	return err
}

// tokens is the size of the KV cache.
func (r *replica) tokens() int {
	if r.engine == nil {
		return 0
	}
	c := r.engine.Config()
	return c.Blocks * blockTokens
}

// encodes reports whether its encoder takes all media of a job.
func (r *replica) encodes(j *Job) bool {
	if r.engine == nil || len(j.Media) == 0 {
		return true
	}
	c := r.engine.Config()
	for _, m := range j.engineMedia() {
		if m.Tokens > min(c.EncoderBudget, c.EncoderCache) {
			return false
		}
	}
	return true
}

// does reports whether it is a server for what a job asks for.
func (r *replica) does(j *Job) bool {
	return (r.engine == nil) == (j.Work.Kind == types.Denoises) && r.serves(j.Adapter)
}

func (r *replica) serves(adapter string) bool {
	return adapter == "" || r.Adapters == nil || slices.Contains(r.Adapters, adapter)
}

// submits hands a job that has come to its server to the engine there.
func (s *sim) submits(l *live, r *replica, incarnation int32) {
	if l.ended || l.at != r {
		return
	}
	if r.dead || incarnation != r.incarnation {
		s.retry(l) // connection refused, or cut
		return
	}
	if !r.does(&l.job) {
		s.letGo(l, true)
		s.unbook(l)
		s.end(l, failed)
		return
	}
	if l.handoff != nil && !l.handoff.hold() {
		s.retry(l) // what it should fetch is gone
		return
	}
	err := r.submit(l)
	if err != nil {
		if !errors.Is(err, engine.ErrTooLong) {
			s.err = fmt.Errorf("simulation: job %d: %w", l.number, err)
			return
		}
		s.letGo(l, true)
		s.unbook(l)
		s.end(l, failed)
		return
	}
	if l.adapter != 0 {
		r.names[l.adapter] = l.job.Adapter
	}
	r.jobs[l.id] = l
	r.out.Jobs++
	s.step(r)
}

// submit hands a job to the engine.
func (r *replica) submit(l *live) error {
	if d, ok := r.server.(*engine.Diffusion); ok {
		w := l.job.Work.Denoise
		return d.Submit(l.id, engine.Denoise{Passes: w.Passes, Latents: w.Latents, Pixels: w.Pixels})
	}
	q := engine.Request{
		ID: l.id, Prompt: l.prompt, Output: l.job.Output, Hashes: l.hashes, Adapter: l.adapter, Remote: l.handoff != nil, Media: l.job.engineMedia(),
	}
	if l.job.Work.Kind == types.Pools {
		q.Pools, q.Items = true, l.job.Work.Items
	}
	return r.engine.Submit(q)
}

// step begins the next step of a replica that is free to.
func (s *sim) step(r *replica) {
	if r.busy || r.hung || r.dead {
		return
	}
	st, ok := r.server.Step(s.now)
	s.watchLeases(r)
	if len(st.Admitted) > 0 {
		if again := s.admits(r, st.Admitted); again && !ok {
			s.stepped(r, st)
			s.step(r)
			return
		}
	}
	if !ok {
		s.stepped(r, st)
		return
	}
	r.busy, r.events, r.changes = true, st.Events, st.Changes
	r.work += st.Duration
	s.queue.push(event{at: s.now + st.Duration, kind: stepEnds, a: int32(r.index), b: r.incarnation})
}

// stepped tells what a step changed that had nothing to compute.
func (s *sim) stepped(r *replica, st engine.Step) {
	r.changes = st.Changes
	s.publishChanges(r)
	r.out.Preemptions += len(st.Events) // there are no others
}

// stepEnded deals out what a step produced, and begins the next.
func (s *sim) stepEnded(r *replica, incarnation int32) {
	if r.incarnation != incarnation {
		return
	}
	r.busy = false
	s.publishChanges(r)
	for i := range r.events {
		e := &r.events[i]
		if e.Kind == engine.Preempted {
			r.out.Preemptions++
			continue
		}
		if !e.First && !e.Last {
			continue
		}
		l := r.jobs[e.ID]
		if l == nil {
			if l = r.legs[e.ID]; l != nil {
				s.promptEnded(l, e.Cached)
			}
			continue // else cancelled while the step was under way
		}
		if e.First && l.handoff != nil {
			s.releaseAt(l.handoff)
		}
		if e.Last {
			delete(r.jobs, e.ID)
			r.out.Tokens += l.job.Output
			l.answered = true
		}
		s.pass(l, r, passed{e.First, e.Last, e.Cached})
	}
	r.events = nil
	s.step(r)
}

// passed is what a server's API passes on of a job's tokens.
type passed struct {
	first, last bool
	cached      int // tokens of the prompt; with the first
}

// pass sends it on its way to the gateway.
func (s *sim) pass(l *live, r *replica, p passed) {
	late := s.late(l)
	if late == 0 {
		s.hears(l, r, r.incarnation, p)
		return
	}
	l.heardAt = max(l.heardAt, s.now+late)
	l.planned++
	s.queue.push(event{at: l.heardAt, kind: hears, a: int32(r.index), b: r.incarnation, live: l, passed: p})
}

// hears is what the gateway does with it, unless the connection was cut before all of it was
// on its way.
func (s *sim) hears(l *live, r *replica, incarnation int32, p passed) {
	if l.ended || l.at != r || incarnation != r.incarnation && !l.answered {
		return
	}
	if p.first {
		s.firstToken(l, p.cached)
	}
	if p.last {
		s.unbook(l)
		s.end(l, served)
	}
}

// firstToken tells of a job's first token.
func (s *sim) firstToken(l *live, cached int) {
	if l.started {
		return
	}
	l.started, l.first, l.cached = true, s.now, cached
	s.scale.jobStarted(s.now, l)
	l.at.out.HitTokens += cached
	if l.handoff != nil {
		l.cached = l.handoff.cached
	}
	if !l.req.Stream {
		return
	}
	l.decision.FirstToken()
	if l.ticket != nil {
		l.ticket.FirstToken()
	}
}

// leasesEnded counts them over all incarnations.
func (r *replica) leasesEnded() int {
	m := r.server.Metrics(math.MaxInt64)
	return r.ended + int(m.LeasesEnded)
}

// encodedTokens counts them over all incarnations.
func (r *replica) encodedTokens() uint64 {
	return r.encoded + r.server.Metrics(math.MaxInt64).EncodedTokens
}

// inject lets a fault happen.
func (s *sim) inject(f Fault) {
	switch f.Kind {
	case Add:
		s.err = s.addReplica(f.Replica)
		return
	case DieGateway:
		s.dieGateway(s.places[f.Index].gateway)
		return
	case RestartGateway:
		s.restartGateway(&s.places[f.Index], f.Warm)
		return
	case ReplaceGateway:
		s.replaceGateway(&s.places[f.Index], f.Warm)
		return
	}
	if f.Index >= len(s.replicas) {
		s.err = fmt.Errorf("simulation: a fault at %v names replica %d of %d", f.At, f.Index, len(s.replicas))
		return
	}
	r := s.replicas[f.Index]
	switch f.Kind {
	case Die:
		s.die(r)
	case Restart:
		s.die(r)
		r.dead, r.hung, r.started = false, false, s.now
		r.ended, r.encoded = r.leasesEnded(), r.encodedTokens()
		s.err = s.newEngine(r)
		s.publish(r, published{what: restarted})
	case Hang:
		if !r.dead {
			r.hung = true
			s.queue.push(event{at: s.now + f.For, kind: resume, a: int32(r.index), b: r.incarnation})
		}
	case Remove:
		r.removed = true
		for _, g := range s.gateways {
			g.removeReplica(r)
		}
		s.left(r)
	}
}

// die cuts all connections of a replica. Jobs without a token go on elsewhere.
func (s *sim) die(r *replica) {
	r.dead, r.busy, r.events, r.changes = true, false, nil, nil
	r.incarnation++
	s.publish(r, published{what: gone})
	jobs := r.jobs
	r.jobs = map[uint64]*live{}
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		s.retry(jobs[id])
	}
	if s.split {
		s.dieApart(r)
	}
}
