package scaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/inferpick/inferpick/examples/simulator/suite"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// Suite is a set of cases. Its JSON has the same fields, as the tags say.
type Suite struct {
	// About says in words what the suite is for.
	About string `json:"about"`
	// Seeds to play: those that constants were chosen on. At least one. Claims are for others.
	Seeds []uint64 `json:"seeds"`
	// StartUps are how long replicas take until they serve, each for all Cases; a tenth more or less. At least one.
	StartUps []suite.Duration `json:"startUps"`
	// Duration is for how long jobs arrive, and Warmup how long at its beginning nothing counts. Required.
	Duration suite.Duration `json:"duration"`
	Warmup   suite.Duration `json:"warmup"`
	// Replica is what all replicas are.
	Replica Replica `json:"replica"`
	// SLO is what jobs are to meet. Required.
	SLO suite.Goodput `json:"slo"`
	// Max is the most replicas. Required.
	Max int `json:"max"`
	// Cases are what is played. At least one.
	Cases []Case `json:"cases"`
	// Quick is what a quick run plays of it.
	Quick Quick `json:"quick"`
}

// Replica is one server.
type Replica struct {
	Engine string  `json:"engine"` // name of a calibration
	Speed  float64 `json:"speed"`  // of that; default 1
	// MaxSeqs, MaxBatchedTokens and Blocks are those of engine.Config.
	MaxSeqs          int `json:"maxSeqs"`
	MaxBatchedTokens int `json:"maxBatchedTokens"`
	Blocks           int `json:"blocks"`
}

// Case is traffic, and what is done with it.
type Case struct {
	Name string `json:"name"`
	// What it is in words.
	What string `json:"what"`
	// Workload is what simulation.DecodeSpec reads.
	Workload json.RawMessage `json:"workload"`
	// Start is how many replicas there are at the beginning.
	Start int `json:"start"`
	// ToZero allows none.
	ToZero bool `json:"toZero"`
	// StepAt is when the load goes up at once, from which recovery is counted. Default: it does not.
	StepAt suite.Duration `json:"stepAt"`

	spec simulation.Spec
}

// Quick shortens a suite.
type Quick struct {
	Cases    []string         `json:"cases"`
	StartUps []suite.Duration `json:"startUps"`
	Seeds    int              `json:"seeds"` // how many of Suite.Seeds
}

// Load reads a suite from a file. Fields that do not exist are errors.
func Load(file string) (*Suite, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("scaling: %w", err)
	}
	s := new(Suite)
	if err := strictjson.Decode(data, s, strictjson.Options{}); err != nil {
		return nil, fmt.Errorf("scaling: %s: %w", file, err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("scaling: %s: %w", file, err)
	}
	return s, nil
}

func (s *Suite) check() error {
	switch {
	case len(s.Seeds) == 0, len(s.StartUps) == 0, len(s.Cases) == 0:
		return errors.New("seeds, startUps or cases is empty, want at least one")
	case s.Duration <= 0, s.Warmup < 0, s.Warmup >= s.Duration:
		return fmt.Errorf("duration is %v and warmup %v, want the second shorter", time.Duration(s.Duration), time.Duration(s.Warmup))
	case s.SLO.TTFT <= 0, s.SLO.TPOT <= 0:
		return errors.New("slo is missing, want ttft and tpot")
	case s.Max < 1:
		return fmt.Errorf("max is %d, want at least 1", s.Max)
	}
	if _, err := s.Replica.config(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range s.Cases {
		c := &s.Cases[i]
		if c.Name == "" || seen[c.Name] {
			return fmt.Errorf("cases[%d]: name is %q, want one of its own", i, c.Name)
		}
		seen[c.Name] = true
		if c.Start < 0 || c.Start > s.Max || c.Start == 0 && !c.ToZero {
			return fmt.Errorf("case %q: start is %d, want 1 to %d, or 0 with toZero", c.Name, c.Start, s.Max)
		}
		spec, err := simulation.DecodeSpec(c.Workload)
		if err == nil {
			err = spec.Validate()
		}
		if err != nil {
			return fmt.Errorf("case %q: %w", c.Name, err)
		}
		c.spec = spec
	}
	for _, name := range s.Quick.Cases {
		if !seen[name] {
			return fmt.Errorf("quick.cases: there is no case %q", name)
		}
	}
	if s.Quick.Seeds < 0 || s.Quick.Seeds > len(s.Seeds) {
		return fmt.Errorf("quick.seeds is %d, want 0 to %d", s.Quick.Seeds, len(s.Seeds))
	}
	return nil
}

// config is the engine.
func (r *Replica) config() (engine.Config, error) {
	for _, c := range engine.Calibrations() {
		if c.Name == r.Engine {
			c.Speed = r.Speed
			return engine.Config{Calibration: c, MaxSeqs: r.MaxSeqs, MaxBatchedTokens: r.MaxBatchedTokens, Blocks: r.Blocks}, nil
		}
	}
	return engine.Config{}, fmt.Errorf("replica.engine is %q, which is unknown", r.Engine)
}

// prefillRate is how many prompt tokens per second a replica computes, in chunks as large as they may be.
func (r *Replica) prefillRate() float64 {
	c, _ := r.config()
	speed := c.Calibration.Speed
	if speed == 0 {
		speed = 1
	}
	chunk := float64(r.MaxBatchedTokens)
	if chunk == 0 {
		chunk = 8192
	}
	return chunk * speed / (c.Calibration.Fixed + c.Calibration.PerToken*chunk)
}

func (s *Suite) slo() types.SLO {
	return types.SLO{TTFT: time.Duration(s.SLO.TTFT), TPOT: time.Duration(s.SLO.TPOT)}
}
