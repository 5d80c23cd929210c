package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// Suite is a set of cases. Its JSON has the same fields, in lower case.
type Suite struct {
	// About says in words what the suite is for.
	About string `json:"about"`
	// Seeds to play, each for all policies. At least one.
	Seeds []uint64 `json:"seeds"`
	// Duration is for how long jobs arrive, unless a case says otherwise. Required.
	Duration Duration `json:"duration"`
	// Quick is what a quick run does in place of Seeds and Duration.
	Quick Quick `json:"quick"`
	// Minutes is the half of the traces that is played: "even", "odd", or empty for
	// all.
	Minutes string `json:"minutes"`
	// Tuning is other data, for whoever chooses the constants of a policy. Optional.
	Tuning Tuning `json:"tuning"`
	// Policies is a list of those to play, for whoever chooses them; not read here. Default: all.
	Policies string `json:"policies"`
	// Capacity is the name of the policy under which capacity is measured. Required.
	Capacity string `json:"capacity"`
	// Scenarios are the cases. At least one, unless there is a Draw, a Grid or a Cross.
	Scenarios []Scenario `json:"scenarios"`
	// Draw makes more. Optional.
	Draw *Draw `json:"draw"`
	// Grid makes more. Optional.
	Grid *Grid `json:"grid"`
	// Cross makes more. Optional.
	Cross *Cross `json:"cross"`
	// Require is what must hold, where the policy it names is played.
	Require []Requirement `json:"require"`
}

// Quick shortens a suite.
type Quick struct {
	Seeds    int     `json:"seeds"`    // how many of Suite.Seeds; default 1
	Duration float64 `json:"duration"` // the part of each duration that is played; default a third
	Policies string  `json:"policies"` // a list for whoever chooses the policies; not read here
}

// Tuning replaces what a claim is judged on.
type Tuning struct {
	Seeds   []uint64 `json:"seeds"`
	Minutes string   `json:"minutes"` // as in Suite
}

// minutes returns the half of the traces to play.
func (s *Suite) minutes(tuning bool) string {
	if tuning {
		return s.Tuning.Minutes
	}
	return s.Minutes
}

// Scenario is one workload on one fleet, at one or more loads.
type Scenario struct {
	Name string `json:"name"`
	// Workload is what simulation.DecodeSpec reads. Its rate does not matter if
	// there are Loads.
	Workload json.RawMessage `json:"workload"`
	// Trace is the name of a trace that the Workload replays. Options.Traces has
	// its file; without it the scenario is skipped.
	Trace string `json:"trace"`
	// Loads are fractions of the measured capacity. None: the workload's own rate.
	Loads []float64 `json:"loads"`
	Fleet Fleet     `json:"fleet"`
	// Scrape is the period of reading metrics. Default 50 ms; "never" is never.
	Scrape Duration `json:"scrape"`
	// Gateways share the fleet. Default 1.
	Gateways int `json:"gateways"`
	// Sharing is how messages come from one gateway to another, of policies that share. Capacity is measured without.
	Sharing Sharing `json:"sharing"`
	// Shares are what part of the jobs each gateway gets, relative to the others. Default: all get as many.
	Shares []float64 `json:"shares"`
	// Sticky has all jobs of a session go to the same gateway.
	Sticky bool `json:"sticky"`
	// Against is the name of a scenario that this one is compared with. Default: none.
	Against string `json:"against"`
	// Duration is for how long jobs arrive. Default: the suite's.
	Duration Duration `json:"duration"`
	// Family is what cases are grouped by. Default: each is alone.
	Family string `json:"family"`
	// World makes the outside irregular. Capacity is measured without it.
	World World `json:"world"`
	// Faults happen to replicas and gateways. Capacity is measured without them.
	Faults []Fault `json:"faults"`
	// Goodput is what jobs without an SLO must meet to count as good. Default: to be served.
	Goodput Goodput `json:"goodput"`

	spec    simulation.Spec // nil: a trace that is not there
	traffic string          // of a Grid: what several fleets have to do
}

// Fleet is the replicas of a scenario.
type Fleet struct {
	Replicas int `json:"replicas"` // default 10
	// Engine is the name of a calibration or of a denoiser: of the servers of a diffusion model. Default
	// llama-3.1-8b-h100.
	Engine string `json:"engine"`
	// Batch is how many jobs of the same shape the server of a diffusion model computes together. Default 1.
	Batch int `json:"batch"`
	// Speeds are relative speeds, given to the replicas in turn. Default: all 1.
	Speeds []float64 `json:"speeds"`
	// Noise makes steps irregular, of each replica in its own way. Default: none.
	// Capacity is measured without it.
	Noise Noise `json:"noise"`
	// Prefill and Decode are the numbers of replicas, the first ones, that compute prompts for others
	// only, and that answer. If either is above 0, the rest of them do both. Capacity is measured as if all
	// did all by themselves.
	Prefill int `json:"prefill"`
	Decode  int `json:"decode"`
	// Both says that all replicas may compute prompts for each other, as where Prefill or Decode are above 0.
	Both bool `json:"both"`
	// Link is what lies between replicas, in Gb/s. Default 200. Nothing moves if there are no roles.
	Link float64 `json:"link"`
}

// Noise is that of each engine of a fleet: see engine.Noise. It follows from the
// seed of the run.
type Noise struct {
	Spread     float64  `json:"spread"`      // standard deviation of a step's duration, as a part of it; 0 to 2
	StallEvery int      `json:"stall_every"` // mean number of steps from stall to stall; 0: none
	Stall      Duration `json:"stall"`       // what a stall adds to a step; at most a minute
}

// World is simulation.World.
type World struct {
	Jitter     Duration `json:"jitter"`      // mean by which servers' APIs are late
	Unstreamed float64  `json:"unstreamed"`  // part of the answers
	TokenError float64  `json:"token_error"` // of estimates of prompt tokens, up or down
	Events     Events   `json:"events"`      // for policies that take them
}

// Events is simulation.Events.
type Events struct {
	Delay  Duration `json:"delay"`  // default 10 ms
	Lost   float64  `json:"lost"`   // part of the batches
	Replay Duration `json:"replay"` // until what was missed is there; default 200 ms, "never": it never is
}

// key spells w out, for the keys of records: without Events, as before there were any.
func (w World) key() string {
	key := fmt.Sprintf("{Jitter:%v Unstreamed:%v TokenError:%v}", int64(w.Jitter), w.Unstreamed, w.TokenError)
	if w.Events != (Events{}) {
		key += fmt.Sprintf(" events %+v", w.Events)
	}
	return key
}

// Goodput is a types.SLO.
type Goodput struct {
	TTFT Duration `json:"ttft"`
	TPOT Duration `json:"tpot"`
}

// Requirement bounds the regret of a policy.
type Requirement struct {
	Policy string  `json:"policy"`
	Figure string  `json:"figure"` // one of Figures
	Worst  float64 `json:"worst"`  // largest ratio to the best; 0: no bound
	Mean   float64 `json:"mean"`   // geometric mean of the ratios; 0: no bound
	// Against is the largest ratio of Case to the one that it is compared with, in place of Worst and Mean.
	Against float64 `json:"against"`
	Case    string  `json:"case"` // name of a scenario that has Against
}

// Duration is a time.Duration that is a string in JSON, as in "90s"; "never" is
// negative.
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("a duration is %.40s, want a string such as \"90s\"", data)
	}
	if s == "never" {
		*d = -1
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return fmt.Errorf("a duration is %.40q, want one above 0 such as \"90s\"", s)
	}
	*d = Duration(v)
	return nil
}

// Load reads a suite from a file. Errors name the file and the line, or the
// scenario and the field. Fields that do not exist are errors.
func Load(file string) (*Suite, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("suite: %w", err)
	}
	s, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("suite: %s: %w", file, err)
	}
	return s, nil
}

// Parse reads a suite from JSON, as Load does from a file.
func Parse(data []byte) (*Suite, error) {
	s := new(Suite)
	if err := strictjson.Decode(data, s, strictjson.Options{}); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// check reports the first thing that is wrong, and fills defaults in.
func (s *Suite) check() error {
	if s.Draw != nil {
		drawn, err := s.Draw.scenarios()
		if err != nil {
			return err
		}
		s.Scenarios = append(s.Scenarios, drawn...)
		if len(s.Seeds) == 0 {
			s.Seeds = s.Draw.seeds()
		}
	}
	if s.Grid != nil {
		cells, err := s.Grid.scenarios()
		if err != nil {
			return err
		}
		s.Scenarios = append(s.Scenarios, cells...)
	}
	if s.Cross != nil {
		crossed, err := s.Cross.scenarios()
		if err != nil {
			return err
		}
		s.Scenarios = append(s.Scenarios, crossed...)
	}
	switch {
	case len(s.Seeds) == 0:
		return errors.New("seeds is empty, want at least one")
	case s.Duration <= 0:
		return errors.New("duration is missing")
	case s.Capacity == "":
		return errors.New("capacity is missing, want the name of a policy")
	case len(s.Scenarios) == 0:
		return errors.New("scenarios is empty, want at least one")
	case s.Quick.Seeds < 0 || s.Quick.Seeds > len(s.Seeds):
		return fmt.Errorf("quick.seeds is %d, want 0 to %d", s.Quick.Seeds, len(s.Seeds))
	case s.Quick.Duration < 0 || s.Quick.Duration > 1:
		return fmt.Errorf("quick.duration is %v, want 0 to 1", s.Quick.Duration)
	}
	seen := map[string]bool{}
	for i := range s.Scenarios {
		c := &s.Scenarios[i]
		if c.Name == "" || seen[c.Name] {
			return fmt.Errorf("scenarios[%d]: name is %q, want one of its own", i, c.Name)
		}
		seen[c.Name] = true
		if err := c.check(); err != nil {
			return fmt.Errorf("scenario %q: %w", c.Name, err)
		}
	}
	for _, c := range s.Scenarios {
		if c.Against != "" && !seen[c.Against] {
			return fmt.Errorf("scenario %q: against is %q, want the name of another", c.Name, c.Against)
		}
	}
	for i, r := range s.Require {
		if _, ok := figureOf(r.Figure); !ok {
			return fmt.Errorf("require[%d]: figure is %q, want one of %s", i, r.Figure, strings.Join(Figures(), ", "))
		}
		if r.Case != "" || r.Against != 0 {
			if err := r.checkAgainst(s.Scenarios); err != nil {
				return fmt.Errorf("require[%d]: %w", i, err)
			}
			continue
		}
		if r.Policy == "" || r.Worst < 0 || r.Mean < 0 || r.Worst == 0 && r.Mean == 0 {
			return fmt.Errorf("require[%d]: policy is %q, worst %v and mean %v, want a policy and a bound", i, r.Policy, r.Worst, r.Mean)
		}
	}
	return nil
}

func (c *Scenario) check() error {
	if c.Fleet.Replicas == 0 {
		c.Fleet.Replicas = 10
	}
	if c.Fleet.Replicas < 1 || c.Fleet.Replicas > 10_000 {
		return fmt.Errorf("fleet.replicas is %d, want 1 to 10000", c.Fleet.Replicas)
	}
	if c.Gateways < 0 || c.Gateways > 1000 {
		return fmt.Errorf("gateways is %d, want 1 to 1000", c.Gateways)
	}
	if err := c.checkTogether(); err != nil {
		return err
	}
	for _, v := range c.Fleet.Speeds {
		if !(v > 0 && v <= 100) {
			return fmt.Errorf("fleet.speeds has %v, want above 0 and at most 100", v)
		}
	}
	if err := c.Fleet.Noise.check(); err != nil {
		return err
	}
	if err := c.Fleet.checkRoles(); err != nil {
		return err
	}
	replicas := c.Fleet.Replicas
	for i, f := range c.Faults {
		if err := f.check(&replicas, max(c.Gateways, 1)); err != nil {
			return fmt.Errorf("faults[%d]: %w", i, err)
		}
	}
	if lost := c.World.Events.Lost; !(lost >= 0 && lost <= .9) {
		return fmt.Errorf("world.events.lost is %v, want 0 to 0.9", lost)
	}
	for _, l := range c.Loads {
		if !(l > 0 && l <= 10) {
			return fmt.Errorf("loads has %v, want above 0 and at most 10", l)
		}
	}
	if _, ok := c.Fleet.denoiser(); ok {
		if c.Fleet.Batch < 0 || c.Fleet.Batch > 64 || c.Fleet.roles() {
			return fmt.Errorf("fleet.batch is %d, want 1 to 64, and no roles for a diffusion model", c.Fleet.Batch)
		}
	} else if _, err := c.Fleet.calibration(); err != nil {
		return err
	} else if c.Fleet.Batch != 0 {
		return fmt.Errorf("fleet.batch is %d, and the engine is none of a diffusion model", c.Fleet.Batch)
	}
	if len(c.Workload) == 0 {
		return errors.New("workload is missing")
	}
	if c.Trace != "" {
		return nil // its workload is complete when the file is known
	}
	var err error
	if c.spec, err = decodeWorkload(c.Workload); err != nil {
		return err
	}
	if _, ok := c.spec.(simulation.RatedSpec); !ok && len(c.Loads) > 0 {
		return fmt.Errorf("loads are given for a workload whose rate cannot be set")
	}
	return nil
}

func decodeWorkload(data []byte) (simulation.Spec, error) {
	spec, err := simulation.DecodeSpec(data)
	if err == nil {
		err = spec.Validate()
	}
	return spec, err
}

// withTrace returns the workload with the file of its trace, and the half of it that
// is played.
func (c *Scenario) withTrace(file, minutes string) (simulation.Spec, error) {
	var fields map[string]any
	if err := json.Unmarshal(c.Workload, &fields); err != nil {
		return nil, err
	}
	fields["file"] = file
	if minutes != "" {
		fields["minutes"] = minutes
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return decodeWorkload(data)
}

// withoutBursts returns the workload with Poisson arrivals at a constant rate, also
// as JSON.
func (c *Scenario) withoutBursts() (simulation.Spec, string, error) {
	var fields map[string]any
	if err := json.Unmarshal(c.Workload, &fields); err != nil {
		return nil, "", err
	}
	delete(fields, "rate")
	smooth(fields)
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, "", err
	}
	spec, err := decodeWorkload(data)
	return spec, string(data), err
}

// smooth takes bursts out of a workload and of those inside it.
func smooth(fields map[string]any) {
	delete(fields, "cv")
	delete(fields, "vary")
	if fields["kind"] == "bursty" {
		fields["kind"] = "sharegpt"
	}
	parts, _ := fields["parts"].([]any)
	for _, inside := range append(parts, fields["workload"]) {
		if inside, ok := inside.(map[string]any); ok {
			smooth(inside)
		}
	}
}

func (n *Noise) check() error {
	switch {
	case !(n.Spread >= 0 && n.Spread <= 2):
		return fmt.Errorf("fleet.noise.spread is %v, want 0 to 2", n.Spread)
	case n.StallEvery < 0:
		return fmt.Errorf("fleet.noise.stall_every is %d, want at least 1, or 0 for no stalls", n.StallEvery)
	case n.Stall < 0 || time.Duration(n.Stall) > time.Minute:
		return fmt.Errorf("fleet.noise.stall is %v, want above 0 and at most 1m", time.Duration(n.Stall))
	case n.StallEvery > 0 && n.Stall == 0:
		return fmt.Errorf("fleet.noise.stall is missing, stall_every is %d", n.StallEvery)
	case n.StallEvery == 0 && n.Stall > 0:
		return fmt.Errorf("fleet.noise.stall_every is missing, stall is %v", time.Duration(n.Stall))
	}
	return nil
}

// checkRoles reports what is wrong with the roles of the replicas.
func (f *Fleet) checkRoles() error {
	switch {
	case f.Prefill < 0 || f.Decode < 0 || f.Prefill+f.Decode > f.Replicas:
		return fmt.Errorf("fleet.prefill is %d and fleet.decode %d, want at least 0, and together at most the %d replicas", f.Prefill, f.Decode, f.Replicas)
	case f.Prefill == f.Replicas:
		return fmt.Errorf("fleet.prefill is %d, want fewer than the replicas: none would answer", f.Prefill)
	case f.Prefill == 0 && f.Decode == f.Replicas:
		return fmt.Errorf("fleet.decode is %d, want fewer than the replicas, or no roles at all: none would compute prompts for others", f.Decode)
	case !(f.Link >= 0 && f.Link <= 1e5):
		return fmt.Errorf("fleet.link is %v Gb/s, want above 0 and at most 100000, or 0 for 200", f.Link)
	}
	return nil
}

// roles tells whether replicas have roles.
func (f *Fleet) roles() bool { return f.Prefill > 0 || f.Decode > 0 || f.Both }

// role is that of the i-th replica.
func (f *Fleet) role(i int) string {
	switch {
	case !f.roles():
		return ""
	case i < f.Prefill:
		return "prefill"
	case i < f.Prefill+f.Decode:
		return "decode"
	}
	return "prefill-decode"
}

// quiet returns the fleet without noise and without roles.
func (f Fleet) quiet() Fleet {
	f.Noise, f.Prefill, f.Decode, f.Both, f.Link = Noise{}, 0, 0, false, 0
	return f
}

// key spells the fleet out, for the keys of records. Files of records outlive
// programs: what a fleet without noise is called must stay what it was before
// there was any.
func (f Fleet) key() string {
	key := fmt.Sprintf("{Replicas:%d Engine:%s Speeds:%v}", f.Replicas, f.Engine, f.Speeds)
	if f.Batch > 1 {
		key += fmt.Sprintf(" batch %d", f.Batch)
	}
	if n := f.Noise; n != (Noise{}) {
		key += fmt.Sprintf(" noise %v, %v every %d steps", n.Spread, time.Duration(n.Stall), n.StallEvery)
	}
	if f.roles() {
		key += fmt.Sprintf(" prefill %d, decode %d, %v Gb/s", f.Prefill, f.Decode, f.Link)
	}
	return key
}

func (f *Fleet) calibration() (engine.Calibration, error) {
	var known []string
	for _, c := range engine.Calibrations() {
		if f.Engine == c.Name || f.Engine == "" && c.Name == engine.Llama31H100().Name {
			return c, nil
		}
		known = append(known, c.Name)
	}
	for _, d := range engine.Denoisers() {
		known = append(known, d.Name)
	}
	return engine.Calibration{}, fmt.Errorf("fleet.engine is %q, want one of %s", f.Engine, strings.Join(known, ", "))
}

// denoiser is that of Engine, if it is one.
func (f *Fleet) denoiser() (engine.Denoiser, bool) {
	for _, d := range engine.Denoisers() {
		if d.Name == f.Engine {
			return d, true
		}
	}
	return engine.Denoiser{}, false
}

// fleet makes the replicas.
func (f *Fleet) fleet() simulation.Fleet {
	var fleet simulation.Fleet
	for i := range f.Replicas {
		fleet.Replicas = append(fleet.Replicas, f.replica(i))
	}
	return fleet
}

// replica makes the i-th replica.
func (f *Fleet) replica(i int) simulation.Replica {
	noise := engine.Noise{Spread: f.Noise.Spread, StallEvery: f.Noise.StallEvery, Stall: time.Duration(f.Noise.Stall)}
	if d, ok := f.denoiser(); ok {
		if n := len(f.Speeds); n > 0 {
			d.Speed = f.Speeds[i%n]
		}
		return simulation.Replica{Diffusion: &engine.DiffusionConfig{Denoiser: d, Batch: f.Batch, Noise: noise}}
	}
	c, err := f.calibration()
	if err != nil {
		panic("suite: " + err.Error()) // check has seen it
	}
	if n := len(f.Speeds); n > 0 {
		c.Speed = f.Speeds[i%n]
	}
	return simulation.Replica{Role: f.role(i), Engine: engine.Config{
		Calibration: c, Quiet: true,
		Noise: noise,
	}}
}
