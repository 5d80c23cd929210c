package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// Config is one run.
type Config struct {
	// Fleet is the replicas at the start. At least one, unless there is Scaling.
	Fleet Fleet
	// Scaling changes their number. Nil: it stays as it is, but for Faults.
	Scaling *Scaling
	// Workload makes the jobs. Required.
	Workload Spec
	// Policy decides. Required.
	Policy Policy

	// Admission makes the options of the admission control of one gateway; it is called
	// anew for each gateway of each run. Clock is set by Run. Nil: every job is scheduled
	// as it comes.
	Admission func() admission.Options

	// Gateways share the fleet, and what Policy.Sharer tells. Default 1.
	Gateways int
	// Shares are what part of the jobs goes to each gateway, relative to the others. Nil: jobs go to all that live
	// in turn.
	Shares []float64
	// Sticky has all jobs of a session go to the same gateway for as long as that lives.
	Sticky bool
	// Sharing is how messages come from one gateway to another.
	Sharing Sharing
	// Scrape is how the gateways read the replicas' metrics.
	Scrape Scrape

	// Duration is for how long jobs arrive; those that have arrived are played to
	// their end, for at most Drain. Required, unless Jobs is set.
	Duration time.Duration
	// Jobs bounds the number of jobs that arrive. 0: no bound.
	Jobs int
	// Warmup is how long at the beginning jobs do not count. Default 0.
	Warmup time.Duration
	// Drain is how long after the last arrival the run may go on. Default 1 hour.
	Drain time.Duration
	// ClosedLoop, if above 0, ignores arrival times: so many clients each send a
	// job when their last one has ended.
	ClosedLoop int

	// Seed of everything random. The same Config and Seed give the same Report.
	Seed uint64
	// Faults happen to replicas and gateways during the run, in any order.
	Faults []Fault

	// Links are what lies between the replicas, where one prefills for another.
	Links Links

	// APIIn and APIOut are what the server's API adds before and after the engine.
	// Default 4 ms and 1 ms; negative: nothing.
	APIIn, APIOut time.Duration

	// Hop is how long a gateway takes, once a replica has computed a prompt, to send the request to
	// the one that answers, besides APIIn. Default 2 ms; negative: nothing.
	Hop time.Duration

	// World is what gateways meet that a plain model has not.
	World World
	// Goodput is what a job must meet to count in Report.Goodput, in place of what its own SLO
	// does not say. Zero: to be served.
	Goodput types.SLO

	// SampleEvery is the step of Report.Timeline. Default: a hundredth of Duration.
	SampleEvery time.Duration
	// ExplainJob keeps the explanation of the decision about the job with this
	// number, counted from 1, in Report.Explanation. 0: none.
	ExplainJob int
	// CPU measures the time that decisions take, in Report.Decision. It is the one
	// figure that is not the same in every run.
	CPU bool
	// Progress is called now and then with how far the run is. Optional.
	Progress func(Progress)
}

// World is what makes the outside less regular than a model. What a job draws follows from
// the seed and its number.
type World struct {
	// Jitter is the mean of the exponential time by which a server's API is late with each
	// request and with each token that it passes on. Default 0.
	Jitter time.Duration
	// Unstreamed is the part of jobs, 0 to 1, whose answers are not streamed: their gateway
	// hears of no first token. In the Report their first token is when the server had it.
	Unstreamed float64
	// TokenError is by which part of it a gateway is wrong about the number of a prompt's
	// tokens, up or down: uniformly up to so much, 0 to 0.9.
	TokenError float64
	// Events is how KV events come to gateways. It matters for a Policy that takes them only.
	Events Events
}

// Progress is how far a run is.
type Progress struct {
	Now     time.Duration // simulated
	Jobs    int           // that have ended
	Running int           // that have not
}

// Fleet is the replicas.
type Fleet struct{ Replicas []Replica }

// Replica is one model server. Its Engine's Noise.Seed is mixed with the run's Seed,
// the replica's number and how often it was restarted: equal configurations draw
// different noise.
type Replica struct {
	Name   string        // default: r0, r1, …
	Engine engine.Config // see there; Calibration.Speed makes it slower or faster, Noise less regular
	// Diffusion, in place of Engine, is the server of a diffusion model: for jobs that Denoise, which no
	// other serves.
	Diffusion *engine.DiffusionConfig
	// Adapters are the LoRA adapters it can serve; nil: all that are asked for.
	Adapters []string
	Labels   map[string]string
	// Role is what it does in disaggregated serving, in the words of the label
	// llm-d.ai/role: prefill, decode, prefill-decode, which is both, or decode-only, which never
	// computes a prompt that its gateway could have computed elsewhere. Empty: it has no such label.
	Role string
	// Ports is how many network ports it has, as one for each of its GPUs: it sends and
	// receives so many times Links.BytesPerSecond. Default 1, at most 64.
	Ports int
}

// Uniform returns a fleet of n equal replicas.
func Uniform(n int, c engine.Config) Fleet {
	f := Fleet{}
	for range n {
		f.Replicas = append(f.Replicas, Replica{Engine: c})
	}
	return f
}

// Scrape is how gateways read metrics: each replica every Period, at a phase of
// its own, with the value that the replica had Delay before it is used.
type Scrape struct {
	Period time.Duration // default 50 ms; negative: never
	Delay  time.Duration // default 1 ms
	Jitter float64       // part of Period by which each wait varies, 0..1; default 0.1; negative: none
}

// Policy is a scheduling policy under test.
type Policy struct {
	Name string
	// Profile makes the profile of one gateway. It is called anew for each gateway
	// of each run, so that nothing is shared. Seed and Now are set by Run.
	Profile func() scheduling.Profile
	// Clairvoyant, in place of Profile, makes a profile that may ask for the truth: not one
	// that anybody could run.
	Clairvoyant func(Truth) scheduling.Profile
	// Sink returns what takes the KV events of all replicas, of a profile that one of the
	// others made. Then requests have an EngineSession. Nil: the policy takes none.
	Sink func(scheduling.Profile) (KVSink, error)
	// Sees changes what the policy sees of each request, such as one that knows nothing of media. Nil: it sees all.
	Sees func(*types.Request)
	// Sharer returns what tells the other gateways what one of them knows. Nil: each is alone.
	Sharer func(Gateway) (Sharer, error)
}

// FaultKind says what happens to a replica or to a gateway.
type FaultKind uint8

const (
	// Die: the server is gone; its jobs fail, and new ones are refused until Restart.
	Die FaultKind = iota
	// Restart: the server is back, with empty caches. A server that lives dies first.
	Restart
	// Hang: no step ends and no metrics come for the time For.
	Hang
	// Remove: discovery takes the replica away; its jobs go on to their end.
	Remove
	// Add: discovery adds the Replica of the fault to the fleet.
	Add
	// DieGateway: a gateway is gone, and says nothing any more. Its jobs fail, and servers hear that nobody waits for
	// them. Others come to the gateways that are left; if there are none, they fail.
	DieGateway
	// RestartGateway: a gateway is back. One that lives dies first.
	RestartGateway
	// ReplaceGateway: a new gateway has the jobs that one would have got, which goes on with those that it has, and
	// tells others of them, until the last has ended.
	ReplaceGateway
)

// Fault is something that happens to a replica or a gateway during a run.
type Fault struct {
	At      time.Duration
	Kind    FaultKind
	Index   int           // of the replica or gateway, or of what has taken its place; for Add, unused
	For     time.Duration // Hang
	Replica Replica       // Add
	// Warm, for RestartGateway and ReplaceGateway: the new one is given the last snapshot of the one before, if its
	// Sharer is a Keeper. Else it knows nothing.
	Warm bool
}

// Validate reports the first thing that is wrong with c.
func (c *Config) Validate() error {
	switch {
	case len(c.Fleet.Replicas) == 0 && c.Scaling == nil:
		return fmt.Errorf("simulation: Fleet has no replicas")
	case c.Workload == nil:
		return fmt.Errorf("simulation: Workload is required")
	case (c.Policy.Profile == nil) == (c.Policy.Clairvoyant == nil):
		return fmt.Errorf("simulation: Policy %q has Profile and Clairvoyant both or neither, want one of them", c.Policy.Name)
	case c.Duration <= 0 && c.Jobs <= 0:
		return fmt.Errorf("simulation: Duration is %v and Jobs %d, want one of them above 0", c.Duration, c.Jobs)
	case c.Gateways < 0, c.Jobs < 0, c.Warmup < 0, c.Drain < 0, c.ClosedLoop < 0, c.SampleEvery < 0:
		return fmt.Errorf("simulation: a negative Gateways, Jobs, Warmup, Drain, ClosedLoop or SampleEvery")
	case c.World.Jitter < 0 || !(c.World.Unstreamed >= 0 && c.World.Unstreamed <= 1) || !(c.World.TokenError >= 0 && c.World.TokenError <= .9):
		return fmt.Errorf("simulation: World is %+v, want a Jitter of at least 0, Unstreamed 0 to 1, TokenError 0 to 0.9", c.World)
	case !(c.World.Events.Lost >= 0 && c.World.Events.Lost <= .9):
		return fmt.Errorf("simulation: World.Events.Lost is %v, want 0 to 0.9", c.World.Events.Lost)
	case c.Scrape.Delay < 0 || c.Scrape.Jitter > 1:
		return fmt.Errorf("simulation: Scrape has delay %v and jitter %v, want at least 0 and at most 1", c.Scrape.Delay, c.Scrape.Jitter)
	}
	if err := c.Links.Validate(); err != nil {
		return fmt.Errorf("simulation: %w", err)
	}
	if len(c.Shares) > 0 && len(c.Shares) != max(c.Gateways, 1) || slices.ContainsFunc(c.Shares, func(v float64) bool { return !(v > 0 && v <= maxShare) }) {
		return fmt.Errorf("simulation: Shares is %v, want one above 0 and at most %v for each of the %d gateways", c.Shares, float64(maxShare), max(c.Gateways, 1))
	}
	if err := c.Sharing.validate(max(c.Gateways, 1)); err != nil {
		return err
	}
	if c.Scaling != nil {
		if err := c.Scaling.validate(c.Fleet); err != nil {
			return err
		}
	}
	for i := range c.Fleet.Replicas {
		if err := c.Fleet.Replicas[i].validate(); err != nil {
			return fmt.Errorf("simulation: Fleet.Replicas[%d]%w", i, err)
		}
	}
	for i, f := range c.Faults {
		if f.Kind == Add {
			if err := f.Replica.validate(); err != nil {
				return fmt.Errorf("simulation: Faults[%d].Replica%w", i, err)
			}
		}
		if f.Kind > ReplaceGateway || f.Warm && f.Kind < RestartGateway || f.At < 0 || f.Kind != Add && f.Index < 0 || f.Kind >= DieGateway && f.Index >= max(c.Gateways, 1) {
			return fmt.Errorf("simulation: Faults[%d] is %+v", i, f)
		}
	}
	if err := c.Workload.Validate(); err != nil {
		return fmt.Errorf("simulation: workload: %w", inner(err))
	}
	return nil
}

// validate reports the first thing that is wrong with r, by the name of its field behind a dot.
func (r *Replica) validate() error {
	if r.Ports < 0 || r.Ports > 64 {
		return fmt.Errorf(".Ports is %d, want 1 to 64, or 0 for 1", r.Ports)
	}
	if r.Diffusion != nil && r.Role != "" {
		return fmt.Errorf(".Role is %q, want none of one with Diffusion", r.Role)
	}
	switch r.Role {
	case "", "prefill", "decode", "decode-only", "prefill-decode":
		return nil
	}
	return fmt.Errorf(".Role is %q, want prefill, decode, decode-only, prefill-decode or nothing", r.Role)
}

// withDefaults returns a copy with the defaults filled in.
func (c Config) withDefaults() Config {
	if c.Gateways == 0 {
		c.Gateways = 1
	}
	if c.Scaling != nil {
		scaling := c.Scaling.withDefaults()
		c.Scaling = &scaling
	}
	c.Scrape = c.Scrape.withDefaults()
	c.World.Events = c.World.Events.withDefaults()
	c.Sharing = c.Sharing.withDefaults()
	c.Links = c.Links.withDefaults()
	if c.Drain == 0 {
		c.Drain = time.Hour
	}
	c.APIIn = durationOr(c.APIIn, 4*time.Millisecond)
	c.APIOut = durationOr(c.APIOut, time.Millisecond)
	c.Hop = durationOr(c.Hop, 2*time.Millisecond)
	if c.SampleEvery == 0 {
		c.SampleEvery = max(c.Duration/100, 10*time.Millisecond)
		if c.Duration == 0 {
			c.SampleEvery = time.Second
		}
	}
	return c
}

func (s Scrape) withDefaults() Scrape {
	if s.Period == 0 {
		s.Period = 50 * time.Millisecond
	}
	if s.Delay == 0 {
		s.Delay = time.Millisecond
	}
	if s.Jitter == 0 {
		s.Jitter = 0.1
	}
	s.Jitter = max(s.Jitter, 0)
	return s
}

// durationOr gives 0 the default, and a negative duration nothing.
func durationOr(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return max(d, 0)
}
