package anchors

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// tenants is independent requests that begin with one of a number of system
// prompts and go on with a question of their own.
type tenants struct {
	rate                             float64
	tenants, system, question, reply int
}

// Validate implements simulation.Spec.
func (w tenants) Validate() error {
	if !(w.rate > 0) || w.tenants < 1 || w.system+w.question < 1 || w.reply < 1 {
		return fmt.Errorf("a workload of %+v", w)
	}
	return nil
}

// MeanRate implements simulation.RatedSpec.
func (w tenants) MeanRate() float64 { return w.rate }

// AtRate implements simulation.RatedSpec.
func (w tenants) AtRate(rate float64) (simulation.Spec, error) {
	w.rate = rate
	return w, nil
}

// Start implements simulation.Spec.
func (w tenants) Start(seed uint64) simulation.Source {
	return &tenantsSource{tenants: w, rng: rand.New(rand.NewPCG(seed, 0x74656e616e74))}
}

type tenantsSource struct {
	tenants
	rng *rand.Rand
	at  float64 // seconds
	id  uint64
}

// Next implements simulation.Source.
func (s *tenantsSource) Next() (simulation.Job, bool) {
	s.at += s.rng.ExpFloat64() / s.rate
	s.id++
	return simulation.Job{
		Arrival: time.Duration(s.at * float64(time.Second)),
		Content: []simulation.Segment{
			{ID: 1<<48 + s.rng.Uint64N(uint64(s.tenants.tenants)), Tokens: s.system},
			{ID: s.id, Tokens: s.question},
		},
		Output: s.reply,
	}, true
}

// Done implements simulation.Source.
func (s *tenantsSource) Done(*simulation.Job, time.Duration, bool) (simulation.Job, bool) {
	return simulation.Job{}, false
}
