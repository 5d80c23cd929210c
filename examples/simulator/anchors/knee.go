package anchors

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// rated is a workload whose rate can be set.
type rated interface {
	simulation.Spec
	AtRate(float64) (simulation.Spec, error)
}

// knee returns the largest rate, to within 2 %, that the fleet of c keeps up with
// under a policy: jobs under way do not grow while jobs arrive.
func knee(ctx context.Context, c simulation.Config, policy simulation.Policy) (float64, error) {
	c.Policy = policy
	c.Drain = c.Duration // what overload is, is seen by then
	w, ok := c.Workload.(rated)
	if !ok {
		return 0, fmt.Errorf("the rate of %T cannot be set", c.Workload)
	}
	low, high := 0.0, math.Inf(1)
	for rate := float64(len(c.Fleet.Replicas)); high > 1.02*low; {
		at, err := w.AtRate(rate)
		if err != nil {
			return 0, err
		}
		c.Workload = at
		r, err := simulation.Run(ctx, c)
		if err != nil {
			return 0, err
		}
		if r.Steady {
			low = rate
		} else {
			high = rate
		}
		switch {
		case math.IsInf(high, 1):
			rate *= 2
		case low == 0:
			rate /= 2
		default:
			rate = math.Sqrt(low * high)
		}
		if rate < 1e-3 || rate > 1e6 {
			return 0, fmt.Errorf("no rate up to %g and down to %g divides what the fleet keeps up with from what it does not", rate, rate)
		}
	}
	return low, nil
}

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

// AtRate returns the workload at another rate.
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
