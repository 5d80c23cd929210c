package rollout_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

var (
	start  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	object = rollout.Object{Kind: "InferenceModel", Name: types.NamespacedName{Namespace: "default", Name: "chat"}}
)

// plan returns one with steps of some percent, without pauses.
func plan(percent ...float64) rollout.Plan {
	p := rollout.Plan{Object: object, Stable: "v1", Canary: "v2"}
	for _, w := range percent {
		p.Steps = append(p.Steps, rollout.Step{SetWeight: w})
	}
	return p
}

// memory is a Home of one object in memory.
type memory struct {
	rollout.Record
	writes int
	fail   func() error // of the next write; nil: none
	// done says that a write which fails was done all the same.
	done func() bool
}

func newMemory(weights ...rollout.Weight) *memory {
	return &memory{Record: rollout.Record{Revision: "0", Weights: weights}}
}

func (h *memory) read() *rollout.Record {
	r := h.Record
	return &r
}

func (h *memory) write(r rollout.Record) (string, error) {
	if h.fail != nil {
		if err := h.fail(); err != nil {
			if h.done != nil && h.done() && r.Revision == h.Revision {
				h.set(r)
			}
			return "", err
		}
	}
	if r.Revision != h.Revision {
		return "", fmt.Errorf("home: %w", rollout.ErrConflict)
	}
	h.set(r)
	return h.Revision, nil
}

func (h *memory) set(r rollout.Record) {
	h.writes++
	r.State = bytes.Clone(r.State)
	r.Revision = fmt.Sprint(h.writes)
	h.Record = r
}

// rig is a machine with a world around it.
type rig struct {
	m       *rollout.Machine
	home    *memory
	now     time.Time
	servers []rollout.Server
	flight  map[string]int
	satur   float64
	events  []rollout.Event
	asked   []rollout.Action // loads and unloads
	failing string           // what servers say that fail to load
}

func newRig(p rollout.Plan) *rig {
	m, err := rollout.NewMachine(p, start)
	if err != nil {
		panic(err)
	}
	r := &rig{m: m, home: newMemory(rollout.Weight{Target: "v1", Weight: 1}), now: start, flight: map[string]int{}}
	for i := range 4 {
		r.servers = append(r.servers, rollout.Server{ID: fmt.Sprint("s", i), Ready: true, Canary: rollout.HasNot,
			Stable: rollout.HasIt})
	}
	return r
}

func (r *rig) world() rollout.World {
	return rollout.World{Record: r.home.read(), Servers: r.servers, InFlight: r.flight, Saturation: r.satur}
}

// tick lets time pass, and does what the machine says: a load takes no time.
func (r *rig) tick(d time.Duration) {
	r.now = r.now.Add(d)
	r.do(r.m.Tick(r.now, r.world()))
}

func (r *rig) do(actions []rollout.Action) {
	for _, a := range actions {
		switch a.Do {
		case rollout.DoTell:
			r.events = append(r.events, a.Event)
		case rollout.DoWrite:
			revision, err := r.home.write(a.Record)
			r.m.Written(r.now, revision, err)
		default:
			r.asked = append(r.asked, a)
			r.serve(a)
		}
	}
}

func (r *rig) serve(a rollout.Action) {
	for i := range r.servers {
		s := &r.servers[i]
		if s.ID != a.Server {
			continue
		}
		switch {
		case a.Do == rollout.DoLoad && r.failing != "":
			s.Canary, s.Err, s.Tries = rollout.HasFailed, r.failing, s.Tries+1
		case a.Do == rollout.DoLoad:
			s.Canary, s.Err, s.Tries = rollout.HasIt, "", 0
		case a.Target == "v2":
			s.Canary = rollout.HasNot
		default:
			s.Stable = rollout.HasNot
		}
	}
}

// share returns the weight of the canary in force, 0 to 1.
func (r *rig) share() float64 { return canaryShare(r.home.Weights) }

func canaryShare(all []rollout.Weight) float64 {
	sum, canary := 0., 0.
	for _, w := range all {
		sum += float64(w.Weight)
		if w.Target == "v2" {
			canary += float64(w.Weight)
		}
	}
	return canary / max(sum, 1)
}

// target is how one of both targets behaves.
type target struct {
	errors, empty float64 // shares
	tpot, ttft    float64 // factors; 0: 1
	cached        float64 // share of the prompts that are mostly cached
}

// traffic makes samples: times are log-normal around a load of the pool that changes slowly, the same for both.
type traffic struct {
	*rand.Rand
	rate           float64 // a second
	load           float64 // log
	stable, canary target
	streamed       float64 // share
	bursts         float64 // how many a second begin, in which half of all requests fail for 5 to 20 seconds
	burst          int     // seconds left of one
}

func newTraffic(seed uint64, rate float64, both target) *traffic {
	return &traffic{Rand: rand.New(rand.NewPCG(seed, 7)), rate: rate, stable: both, canary: both, streamed: 1}
}

func (t *traffic) sample(now time.Time, canary bool) rollout.Sample {
	of, name := &t.stable, "v1"
	if canary {
		of, name = &t.canary, "v2"
	}
	s := rollout.Sample{Target: name, Sent: now, Tokens: -1}
	if t.Float64() < of.errors || t.burst > 0 && t.Float64() < .5 {
		s.Failed = true
		return s
	}
	s.Told = true
	s.Tokens = 1 + int(100*math.Exp(.6*t.NormFloat64()))
	if t.Float64() < of.empty {
		s.Empty, s.Tokens = true, 0
		return s
	}
	prompt := 400 * math.Exp(t.NormFloat64())
	if t.Float64() < of.cached {
		prompt /= 10
	}
	s.Uncached, s.CacheTold = int(prompt), true
	first := seconds(factor(of.ttft) * (.03 + prompt*1e-4) * math.Exp(t.load+.4*t.NormFloat64()))
	each := seconds(factor(of.tpot) * .02 * math.Exp(t.load/2+.25*t.NormFloat64()))
	if t.streamed < 1 && t.Float64() >= t.streamed {
		s.Whole = first + time.Duration(s.Tokens-1)*each
		return s
	}
	s.TTFT, s.TPOT = first, each
	return s
}

func factor(f float64) float64 {
	if f == 0 {
		return 1
	}
	return f
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// second lets one second of traffic happen, and returns how many requests the canary had.
func (t *traffic) second(r *rig, observe func(rollout.Sample) bool) (canary int) {
	const memory = .97 // of the load: half a minute
	t.load = memory*t.load + math.Sqrt(1-memory*memory)*.3*t.NormFloat64()
	if t.burst > 0 {
		t.burst--
	} else if t.Float64() < t.bursts && r.share() < 1 { // then nobody could tell whose failures they are
		t.burst = 5 + t.IntN(16)
	}
	share := r.share()
	n := int(t.rate + t.Float64())
	for range n {
		is := t.Float64() < share
		if is {
			canary++
		}
		if observe(t.sample(r.now, is)) {
			r.tick(0)
			share = r.share()
		}
	}
	return canary
}

// run lets traffic flow until the rollout is over, at most some seconds, and returns how many requests the canary had.
func (t *traffic) run(r *rig, most int) (canary int) {
	for range most {
		r.tick(time.Second)
		if r.m.Over() || r.m.State().Phase == rollout.Aborting {
			break
		}
		canary += t.second(r, r.m.Observe)
	}
	return canary
}

func (r *rig) phase() rollout.Phase { return r.m.State().Phase }
