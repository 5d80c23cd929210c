package simulation

import (
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// KVSink is told what replicas hold in their KV caches, by the events of vLLM: a plugins.KVSink is
// one. It is called by one goroutine. Each replica has one rank, 0.
type KVSink interface {
	// Apply takes over a batch of events of a replica, in order. It keeps nothing of the batch.
	Apply(endpoint string, rank int, batch []types.KVEvent)
	// Reset forgets what was told of a replica, which has restarted.
	Reset(endpoint string, rank int)
	// State says how far what was told can be believed.
	State(endpoint string, rank int, state types.KVState)
	// Remove forgets a replica that discovery took away.
	Remove(endpoint string)
}

// Events says how KV events come to gateways whose Policy takes them. The zero value is 10 ms late
// and loses nothing.
type Events struct {
	// Delay is from the end of the step that caused an event until a gateway is told. Default
	// 10 ms; negative: none.
	Delay time.Duration
	// Lost is the part of batches, 0 to 0.9, that do not come to a gateway, which sees that from the
	// number of the next one that does.
	Lost float64
	// Replay is how long it takes until a gateway that saw a gap has all that was published since,
	// in order; it is told of nothing else before. Default 200 ms; negative: nothing is replayed, and
	// the replica is told of as types.KVPartial until it restarts.
	Replay time.Duration
}

func (e Events) withDefaults() Events {
	e.Delay = durationOr(e.Delay, 10*time.Millisecond)
	if e.Replay == 0 {
		e.Replay = 200 * time.Millisecond
	}
	return e
}

// published is what a replica publishes at once.
type published struct {
	batch []types.KVEvent
	what  publication
}

type publication uint8

const (
	changed   publication = iota // batch
	gone                         // the replica has died
	restarted                    // and is back, with nothing in its cache
)

// subscription is what comes to a gateway from a replica.
type subscription struct {
	gap     bool // there was one
	behind  bool // a replay is under way, for which backlog waits
	until   time.Duration
	backlog []published
}

// publish sends what a replica published on its way to all gateways that take it.
func (s *sim) publish(r *replica, p published) {
	for i, g := range s.gateways {
		if g.sink != nil {
			s.queue.push(event{at: s.now + s.cfg.World.Events.Delay, kind: told, a: int32(r.index), b: int32(i), published: &p})
		}
	}
}

// publishChanges publishes what a step has changed in a replica's prefix cache.
func (s *sim) publishChanges(r *replica) {
	if len(r.changes) == 0 {
		return
	}
	s.publish(r, published{batch: engine.KVEvents(r.changes, func(id uint64) (session, adapter string) {
		l := r.jobs[id]
		if l == nil {
			l = r.legs[id]
		}
		if l != nil {
			return l.req.EngineSession, l.job.Adapter
		}
		return "", ""
	})})
	r.changes = nil
}

// told takes over what a replica published, if it was not lost on the way.
func (g *gateway) told(r *replica, p *published) {
	if g.dead || g.find(r) < 0 {
		return // of those, it was taken away
	}
	sub := g.subscription(r)
	world := &g.s.cfg.World.Events
	switch lost := world.Lost > 0 && g.lossy.Float64() < world.Lost; {
	case p.what == restarted:
		*sub = subscription{}
		g.sink.Reset(r.Name, 0)
		g.sink.State(r.Name, 0, types.KVLive)
	case p.what == gone:
		sub.behind, sub.backlog = false, nil
		g.sink.State(r.Name, 0, types.KVUnsynced)
	case sub.behind, lost && world.Replay > 0:
		sub.backlog = append(sub.backlog, *p) // what is lost comes with the replay
	case lost:
		sub.gap = true
	case world.Replay < 0:
		if sub.gap {
			sub.gap = false
			g.sink.State(r.Name, 0, types.KVPartial)
		}
		g.sink.Apply(r.Name, 0, p.batch)
	case len(sub.backlog) > 0: // there is a gap before this one
		sub.behind, sub.until = true, g.s.now+world.Replay
		sub.backlog = append(sub.backlog, *p)
		g.sink.State(r.Name, 0, types.KVReplaying)
		g.s.queue.push(event{at: sub.until, kind: replayed, a: int32(r.index), b: int32(g.index)})
	default:
		g.sink.Apply(r.Name, 0, p.batch)
	}
}

// replayed takes over what has waited for a replay.
func (g *gateway) replayed(r *replica) {
	sub := g.subscription(r)
	if !sub.behind || sub.until != g.s.now {
		return // it died meanwhile
	}
	for _, p := range sub.backlog {
		g.sink.Apply(r.Name, 0, p.batch)
	}
	*sub = subscription{}
	g.sink.State(r.Name, 0, types.KVLive)
}

func (g *gateway) subscription(r *replica) *subscription {
	for len(g.subscriptions) <= r.index {
		g.subscriptions = append(g.subscriptions, subscription{})
	}
	return &g.subscriptions[r.index]
}

// session is the name that a job has in events.
func (l *live) session() string { return "job-" + strconv.Itoa(l.number) }
