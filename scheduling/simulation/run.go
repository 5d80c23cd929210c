package simulation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// epoch is what the clock of the simulated world shows at the start of a run.
var epoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// ErrImpossible is wrapped by the error of a run that makes no sense: a job that
// fits into no replica, or an adapter that none serves.
var ErrImpossible = errors.New("simulation: impossible")

// Run plays one run and returns its report. It uses one goroutine, and memory for
// the jobs that are under way, however long the run is. It ends early, with
// ctx.Err(), when ctx is done.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s, err := newSim(c.withDefaults())
	if err != nil {
		return nil, err
	}
	if err := s.play(ctx); err != nil {
		return nil, err
	}
	return s.report(), nil
}

// sim is one run.
type sim struct {
	cfg      Config
	now      time.Duration
	queue    eventQueue
	source   Source
	rand     types.Rand
	replicas []*replica
	gateways []*gateway
	adapters map[string]uint32
	key      *types.Key[*live] // where a request keeps its job; no policy has it

	// Of fleets in which some compute prompts for others.
	split     bool // there are such
	transfers *transfers
	moving    map[uint64]*live // jobs for which something is transferred, by ID
	wake      time.Duration    // when transfers are looked at next; -1: never
	done      []uint64         // memory for those that have ended

	last    time.Duration // when jobs stop arriving: an upper bound until known
	arrived int
	running int
	spare   []*live
	err     error

	places  []place       // where gateways are, as Config has them
	mortal  bool          // gateways may die
	keeps   bool          // snapshots are written
	way     types.Rand    // what becomes of messages
	settled time.Duration // above 0: jobs have ended, and what gateways believe is settled by then

	scale                *scale // nil: there is no Scaling
	idle                 bool   // no more jobs come, and replicas cost still
	queued, queuedTokens int    // jobs that wait to be let in

	stats stats
}

// live is a job under way.
type live struct {
	job     Job
	number  int // from 1, in order of arrival
	id      uint64
	prompt  int
	hashes  []uint64
	adapter uint32
	gateway *gateway
	counted bool // arrived after Warmup
	waits   bool // to be let in

	req         types.Request
	ticket      *admission.Ticket // nil: none was needed
	refusal     error             // after it waited
	decision    *scheduling.Decision
	tried       int           // fallbacks gone on to
	at          *replica      // nil: not submitted
	handoff     *handoff      // nil: at computes the prompt itself
	legs        int           // how often others were asked to
	scheduledAt time.Duration // when it was scheduled
	first       time.Duration
	started     bool // the first token was seen
	cached      int
	world       types.Rand    // for what World does to it
	heardAt     time.Duration // when what was passed on last is heard
	answered    bool          // its last token was passed on
	planned     int           // events that point here; it is used again when there are none
	ended       bool
}

func newSim(c Config) (*sim, error) {
	s := &sim{
		cfg: c, source: c.Workload.Start(c.Seed), rand: types.NewRand(c.Seed ^ 0x5851f42d4c957f2d),
		adapters: map[string]uint32{"": 0}, key: types.NewKey[*live]("simulated job"),
		way:    types.NewRand(derive(c.Seed, streamSharing)),
		mortal: slices.ContainsFunc(c.Faults, func(f Fault) bool { return f.Kind >= DieGateway }),
		keeps:  slices.ContainsFunc(c.Faults, func(f Fault) bool { return f.Warm }),
		last:   c.Duration, transfers: newTransfers(c.Links), moving: map[uint64]*live{}, wake: -1,
	}
	if c.Duration == 0 {
		s.last = 1<<63 - 1
	}
	s.stats.init(&s.cfg)
	if err := s.newScale(); err != nil {
		return nil, err
	}
	for i := range c.Gateways {
		g, err := newGateway(s, i, i, 0)
		if err != nil {
			return nil, err
		}
		s.gateways = append(s.gateways, g)
		s.places = append(s.places, place{gateway: g})
	}
	for _, r := range c.Fleet.Replicas {
		if err := s.addReplica(r); err != nil {
			return nil, err
		}
	}
	for i, f := range c.Faults {
		s.queue.push(event{at: f.At, kind: fault, a: int32(i)})
	}
	s.queue.push(event{at: 0, kind: sample})
	if c.ClosedLoop > 0 {
		for range c.ClosedLoop {
			s.planNext(0)
		}
	} else {
		s.planNext(-1)
	}
	return s, nil
}

// planNext plans the source's next job, at its own time or, in a closed loop, at
// the given one.
func (s *sim) planNext(at time.Duration) {
	j, ok := s.source.Next()
	if !ok {
		return
	}
	if at >= 0 {
		j.Arrival = at
	}
	s.planJob(j, at < 0)
}

// planJob plans the arrival of a job, unless no more jobs are to arrive.
// fromSource: when it arrives, the source is asked for the next.
func (s *sim) planJob(j Job, fromSource bool) {
	if j.Arrival > s.last {
		return
	}
	l := s.newLive(j)
	b := int32(0)
	if fromSource {
		b = 1
	}
	l.planned++
	s.queue.push(event{at: j.Arrival, kind: arrive, b: b, live: l})
}

func (s *sim) newLive(j Job) *live {
	var l *live
	if n := len(s.spare); n > 0 {
		l = s.spare[n-1]
		s.spare = s.spare[:n-1]
		*l = live{hashes: l.hashes[:0], req: types.Request{
			Body: l.req.Body[:0], Prompt: types.Prompt{Spans: l.req.Prompt.Spans[:0], Media: l.req.Prompt.Media[:0]},
		}}
	} else {
		l = new(live)
	}
	l.job = j
	return l
}

// release gives back an event's hold on l.
func (s *sim) release(l *live) {
	if l.planned--; l.planned == 0 && l.ended {
		s.spare = append(s.spare, l)
	}
}

// play runs until nothing is under way that matters.
func (s *sim) play(ctx context.Context) error {
	deadline := time.Duration(-1) // of Drain, once no more jobs arrive
	for n := 0; len(s.queue.heap) > 0; n++ {
		if n%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if s.cfg.Progress != nil {
				s.cfg.Progress(Progress{Now: s.now, Jobs: s.arrived - s.running, Running: s.running})
			}
		}
		e := s.queue.pop()
		s.now = e.at
		if deadline >= 0 && s.now > deadline {
			break
		}
		s.handle(e)
		if s.err != nil {
			return s.err
		}
		if s.running == 0 && s.drained() {
			break
		}
		if deadline < 0 && s.stats.lastArrival >= 0 && s.now > s.last {
			deadline = s.last + s.cfg.Drain
		}
	}
	s.idles()
	if s.err != nil {
		return s.err
	}
	return s.check()
}

// check is what must hold at the end of every run: whoever is not on its way has
// left no trace in a ledger, in the lists of open decisions or in a replica.
func (s *sim) check() error {
	open, live, waiting := 0, 0, 0
	for _, g := range s.gateways {
		open += g.scheduler.Open()
		if g.admission != nil {
			a := g.admission.Stats()
			waiting += a.Queued
			for _, b := range a.Bands {
				if s.running == 0 && b.Running != 0 {
					return fmt.Errorf("simulation: the admission control has %d jobs of priority %d under way at the end", b.Running, b.Priority)
				}
			}
		}
		for _, ep := range g.eps {
			if l := ep.Load; s.running == 0 && (l.Requests() != 0 || l.PrefillTokens() != 0 || l.ContextTokens() != 0) {
				return fmt.Errorf("simulation: the ledger of %s holds %d requests, %d and %d tokens at the end", ep.ID, l.Requests(), l.PrefillTokens(), l.ContextTokens())
			}
		}
	}
	for _, r := range s.replicas {
		live += r.live
	}
	if open+waiting != s.running || live+waiting != s.running {
		return fmt.Errorf("simulation: %d jobs are under way at the end, %d decisions open, %d at replicas, %d waiting to be let in", s.running, open, live, waiting)
	}
	if err := s.checkApart(); err != nil {
		return err
	}
	return s.settle()
}

// alive tells the gateways' schedulers of the connections that are open, as data planes do: else bookings of jobs that
// take long would expire.
func (s *sim) alive() {
	for _, r := range s.replicas {
		for _, l := range r.jobs {
			if l.decision != nil {
				l.decision.Alive()
			}
		}
	}
}

// drained reports whether no event is left that can bring a job.
func (s *sim) drained() bool {
	for i := range s.queue.heap {
		switch s.queue.heap[i].Of.kind {
		case arrive, submit, fault:
			return false
		}
	}
	return true
}

func (s *sim) handle(e event) {
	switch e.kind {
	case arrive:
		if e.b == 1 {
			s.planNext(-1)
		}
		s.arrives(e.live)
		s.release(e.live)
	case submit:
		s.submits(e.live, s.replicas[e.a], e.b)
		s.release(e.live)
	case submitPrompt:
		s.submitsPrompt(e.live)
		s.release(e.live)
	case answeredPrompt:
		s.answersPrompt(e.live)
		s.release(e.live)
	case transferred:
		s.transferEnded()
	case leaseEnds:
		if r := s.replicas[e.a]; r.incarnation == e.b {
			r.watched = false
			s.step(r)
		}
	case stepEnds:
		s.stepEnded(s.replicas[e.a], e.b)
	case hears:
		s.hears(e.live, s.replicas[e.a], e.b, e.passed)
		s.release(e.live)
	case scrapeNow:
		s.scrape(s.gateways[e.b], s.replicas[e.a])
	case scrapeDone:
		s.gateways[e.b].read(s.replicas[e.a], e.reading)
	case giveUp:
		if !e.live.ended && !e.live.started {
			s.cancel(e.live, cancelled)
		}
		s.release(e.live)
	case admitted:
		s.answered(e.live)
		s.release(e.live)
	case timer:
		e.timer.fire()
	case fault:
		s.inject(s.cfg.Faults[e.a])
	case resume:
		if r := s.replicas[e.a]; r.incarnation == e.b {
			r.hung = false
			s.step(r)
		}
	case told:
		s.gateways[e.b].told(s.replicas[e.a], e.published)
	case replayed:
		s.gateways[e.b].replayed(s.replicas[e.a])
	case tellOthers:
		s.tells(s.gateways[e.b], e.a)
	case hearOther:
		s.gateways[e.b].heard(e.message)
	case scaleNow:
		s.scaleNow()
	case scaleSample:
		s.scaleSample()
	case serves:
		s.serves(int(e.a))
	case graceOver:
		s.graceOver(s.replicas[e.a])
	case sample:
		s.stats.sample(s)
		s.alive()
		if s.running > 0 || !s.drained() {
			s.queue.push(event{at: s.now + s.stats.every, kind: sample})
		}
	}
}

// arrives schedules a job that has come to a gateway.
func (s *sim) arrives(l *live) {
	if s.cfg.Jobs > 0 && s.arrived == s.cfg.Jobs {
		l.ended = true
		return
	}
	s.arrived++
	s.running++
	if s.cfg.Jobs > 0 && s.arrived == s.cfg.Jobs {
		s.last = s.now
	}
	l.number, l.id = s.arrived, uint64(s.arrived)
	l.prompt = l.job.Prompt()
	l.world = types.NewRand(derive(derive(s.cfg.Seed, streamWorld), l.id))
	l.counted = s.now >= s.cfg.Warmup
	s.stats.arrived(s, l)
	s.scale.jobArrived(l)
	if err := s.possible(l); err != nil {
		s.err = err
		return
	}
	if l.job.Work.Items <= 1 && l.job.Work.Kind != types.Denoises { // else nothing is found in a prefix cache
		l.hashes = appendHashes(l.hashes, l.job.Content)
	}
	if l.gateway = s.reaches(&l.job); l.gateway == nil {
		s.end(l, failed) // its connection is refused
		return
	}
	if l.gateway.jobs != nil {
		l.gateway.jobs[l.number] = l
	}
	switch {
	case l.job.whole():
	case l.job.OutputID != 0:
		l.hashes = appendOutputHashes(l.hashes, &l.job, l.job.OutputID)
	case l.gateway.sink != nil: // engines tell of output too, if nobody will ask for it again
		l.hashes = appendOutputHashes(l.hashes, &l.job, mix(l.id, streamEvents)|1)
	}
	s.fillRequest(l)
	if p := l.job.Patience; p > 0 {
		l.planned++
		s.queue.push(event{at: s.now + p, kind: giveUp, live: l})
	}
	if l.gateway.admission == nil || s.admit(l) {
		s.schedules(l)
	} else if !l.ended {
		l.waits = true
		s.queued++
		s.queuedTokens += l.prompt
		s.wakes()
	}
}

// waited notes that a job does not wait to be let in any more.
func (s *sim) waited(l *live) {
	if l.waits {
		l.waits = false
		s.queued--
		s.queuedTokens -= l.prompt
	}
}

// schedules decides about a job that was let in, and sends it.
func (s *sim) schedules(l *live) {
	s.waited(l)
	if err := l.gateway.schedule(l); err != nil {
		if errors.Is(err, scheduling.ErrSaturated) {
			s.end(l, shed)
		} else {
			s.end(l, failed)
		}
		return
	}
	l.scheduledAt = s.now
	if l.ticket != nil {
		l.ticket.Booked(l.decision.Endpoint)
	}
	s.send(l, l.decision.Endpoint)
}

// possible reports a job that no replica could ever serve.
func (s *sim) possible(l *live) error {
	w := &l.job.Work
	switch {
	case w.Kind > types.Denoises:
		return fmt.Errorf("%w: job %d %v, which is not simulated", ErrImpossible, l.number, w.Kind)
	case l.job.whole() && (l.prompt < 1 || l.job.Output != 0 || w.Kind == types.Denoises && !w.Denoise.Known()):
		return fmt.Errorf("%w: job %d, which %v, has %d prompt and %d output tokens and %+v, want a prompt, no output, and to know what to denoise", ErrImpossible, l.number, w.Kind, l.prompt, l.job.Output, w.Denoise)
	case !l.job.whole() && (l.prompt < 1 || l.job.Output < 1):
		return fmt.Errorf("%w: job %d has %d prompt and %d output tokens, want at least 1 of each", ErrImpossible, l.number, l.prompt, l.job.Output)
	}
	encodes := false
	fits, serves := w.Kind == types.Denoises || w.Kind == types.Pools && w.Items > 1, false
	id, ok := s.adapters[l.job.Adapter]
	if !ok {
		id = uint32(len(s.adapters))
		s.adapters[l.job.Adapter] = id
	}
	l.adapter = id
	most := 0
	if x := s.scale; x != nil {
		most = x.tokens
		fits = fits || l.prompt+l.job.Output <= most
		serves = x.Template.Adapters == nil || slices.Contains(x.Template.Adapters, l.job.Adapter) || l.job.Adapter == ""
	}
	for _, r := range s.replicas {
		if !r.roles.Answers() {
			continue
		}
		tokens := r.tokens()
		most = max(most, tokens)
		fits = fits || l.prompt+l.job.Output <= tokens
		serves = serves || r.does(&l.job)
		encodes = encodes || r.encodes(&l.job)
	}
	if !encodes && s.scale == nil {
		return fmt.Errorf("%w: job %d has a medium of more tokens than the encoder of any replica takes", ErrImpossible, l.number)
	}
	if !serves && l.job.Adapter == "" {
		return fmt.Errorf("%w: job %d %v, which no replica does", ErrImpossible, l.number, w.Kind)
	}
	if !serves {
		return fmt.Errorf("%w: job %d asks for adapter %q, which no replica serves", ErrImpossible, l.number, l.job.Adapter)
	}
	if !fits {
		return fmt.Errorf("%w: job %d has %d prompt and %d output tokens, more than the KV cache of any replica, which holds %d", ErrImpossible, l.number, l.prompt, l.job.Output, most)
	}
	return nil
}

// fillRequest makes the request that the gateway sees.
func (s *sim) fillRequest(l *live) {
	r := &l.req
	r.Model, r.TargetModel = "base", l.job.Adapter
	l.fillPrompt(r)
	r.Work = l.job.work()
	r.FairnessID, r.SessionID, r.SLO = l.job.Tenant, l.job.Session, l.job.SLO
	r.Priority, r.MaxTokens, r.Stream, r.Split = l.job.Priority, l.job.MaxTokens, !l.job.whole(), s.split
	if l.gateway.sink != nil {
		r.EngineSession = l.session()
	}
	if w := &s.cfg.World; w.Jitter > 0 || w.TokenError > 0 || w.Unstreamed > 0 {
		wrong, stream := w.TokenError*(2*l.world.Float64()-1), l.world.Float64()
		r.Prompt.Tokens = max(1, int(float64(r.Prompt.Tokens)*(1+wrong)))
		r.Stream = r.Stream && stream >= w.Unstreamed
	}
	if see := s.cfg.Policy.Sees; see != nil {
		see(r)
	}
	s.key.Set(&r.Attrs, l)
}

// send puts a job on its way to an endpoint.
func (s *sim) send(l *live, ep *types.Endpoint) {
	r := s.replicas[ep.Slot]
	r.live++
	l.at = r
	if !s.split || !s.ask(l) {
		s.sendTo(l, r, 0)
	}
}

// sendTo puts a job on its way to the replica that answers, after a while.
func (s *sim) sendTo(l *live, r *replica, after time.Duration) {
	l.planned++
	s.queue.push(event{at: s.now + after + s.cfg.APIIn + s.late(l), kind: submit, a: int32(r.index), b: r.incarnation, live: l})
}

// late is by how much a server's API is late with the next message about a job.
func (s *sim) late(l *live) time.Duration {
	if s.cfg.World.Jitter == 0 {
		return 0
	}
	return toDuration(-s.cfg.World.Jitter.Seconds() * math.Log(unit(&l.world)))
}

// unbook takes a job off its replica's books.
func (s *sim) unbook(l *live) {
	r := l.at
	r.live--
	l.at = nil
	s.emptied(r)
}

// retry goes on to the next fallback of a job that had no token yet, as a gateway
// does, or gives it up.
func (s *sim) retry(l *live) {
	s.letGo(l, false)
	s.unbook(l)
	for !l.started && l.tried < len(l.decision.Fallbacks) {
		ep := l.decision.Fallbacks[l.tried]
		l.tried++
		if !s.split {
			l.decision.Retry(ep, types.Outcome{Err: errLost})
		} else if l.decision.RetryApart(context.Background(), ep, types.Outcome{Err: errLost}, l.gateway.eps) != nil {
			continue // it may not be alone, and would have to
		}
		if l.ticket != nil {
			l.ticket.Booked(ep)
		}
		s.send(l, ep)
		return
	}
	s.end(l, failed)
}

// cancel ends a job whose client, or gateway, has gone.
func (s *sim) cancel(l *live, how ending) {
	if l.at != nil { // else it waits to be let in
		at := l.at
		s.letGo(l, true)
		at.server.Cancel(l.id)
		delete(at.jobs, l.id)
		s.unbook(l)
		if s.split { // others may have waited for its memory, in an engine that does nothing
			s.step(at)
		}
	}
	s.end(l, how)
}

// ending is how a job ended.
type ending uint8

const (
	served ending = iota
	failed
	shed
	cancelled
)

// end accounts the end of a job.
func (s *sim) end(l *live, how ending) {
	if l.ended {
		return
	}
	l.ended = true
	s.waited(l)
	s.running--
	s.stats.ended(s, l, how)
	if l.gateway != nil {
		l.gateway.lacks(l)
	}
	var out types.Outcome
	if d := l.decision; d != nil {
		switch how {
		case served:
			out = types.Outcome{Status: 200, Finish: l.job.finish()}
			if l.job.Work.Kind != types.Denoises {
				out.Usage.PromptTokens = types.Known(float64(l.prompt))
			}
			if !l.job.whole() {
				out.Usage.CompletionTokens = types.Known(float64(l.job.Output))
			}
			if l.handoff == nil && !l.job.whole() { // what an engine says that has received the prompt means nothing
				out.Usage.CachedTokens = types.Known(float64(l.cached))
			}
		case cancelled:
			out.Cancelled = true
		default:
			out.Err = errLost
		}
		d.Done(out)
		l.decision = nil
	} else {
		out.Cancelled = true
	}
	if l.ticket != nil {
		l.ticket.Done(out)
		l.ticket = nil
	}
	at := s.now + s.cfg.APIOut
	if next, ok := s.source.Done(&l.job, at, how == served); ok {
		next.Arrival = max(next.Arrival, s.now)
		s.planJob(next, false)
	} else if s.cfg.ClosedLoop > 0 {
		s.planNext(at)
	}
	if l.planned == 0 {
		s.spare = append(s.spare, l)
	}
}

var errLost = errors.New("simulation: the server failed")
