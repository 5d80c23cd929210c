package bound

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// Bound is what each figure of a Report is at least, in seconds, for any policy that serves
// all jobs. Max is not bounded; what is 0 neither.
type Bound struct {
	TTFT, TPOT, E2E simulation.Distribution
}

// Of returns the bound of a case; its Policy, Scrape and Gateways do not matter. end is when
// the last job was served: the bound is one of policies that take no longer. 0: not known,
// and TPOT is that of a job that is alone.
//
// The error wraps ErrUnknown for what has no bound: sessions, closed loops, replicas of
// several models, and engines whose steps are irregular.
func Of(c simulation.Config, end time.Duration) (Bound, error) {
	f, e, err := pool(&c)
	if err != nil {
		return Bound{}, err
	}
	jobs, err := draw(&c)
	if err != nil {
		return Bound{}, err
	}
	adapters := slices.ContainsFunc(jobs, func(j job) bool { return j.adapter != "" })
	prefill(jobs, adapters || c.World.Jitter > 0 || len(c.Faults) > 0, &e)
	jobs = slices.DeleteFunc(jobs, func(j job) bool { return !j.counted })
	if len(jobs) == 0 {
		return Bound{}, fmt.Errorf("%w: no job counts", ErrUnknown)
	}
	k := &setting{fleet: f, jobs: jobs, from: c.Warmup.Seconds(), arrivals: c.Duration.Seconds(), end: end.Seconds()}
	if c.Duration == 0 {
		k.arrivals = jobs[len(jobs)-1].arrival.Seconds()
	}
	b := k.bound()
	if c.World.Jitter > 0 { // a first token that is late makes those after it seem fast
		b.TPOT = simulation.Distribution{}
	}
	return b, nil
}

// pool returns the fleet seen as one server, and what its engines have in common.
func pool(c *simulation.Config) (*fleet, engine.Config, error) {
	unknown := func(what string) (*fleet, engine.Config, error) {
		return nil, engine.Config{}, fmt.Errorf("%w: %s", ErrUnknown, what)
	}
	if c.ClosedLoop > 0 {
		return unknown("when jobs of a closed loop arrive depends on the policy")
	}
	f := &fleet{api: seconds(c.APIIn, 4*time.Millisecond) + seconds(c.APIOut, time.Millisecond), slow: math.Inf(1)}
	var first engine.Config
	all := slices.Clone(c.Fleet.Replicas)
	for _, fault := range c.Faults {
		if fault.Kind == simulation.Add { // it can do no more than if it had been there
			all = append(all, fault.Replica)
		}
	}
	for i, r := range all {
		if r.Diffusion != nil {
			return unknown("servers of diffusion models")
		}
		sized, err := engine.New(r.Engine)
		if err != nil {
			return nil, first, err
		}
		e := sized.Config()
		if e.Noise.Spread > 0 {
			return unknown("steps are irregular, and may be shorter than their mean")
		}
		f.slow = min(f.slow, 1/e.Calibration.Speed)
		f.speed += e.Calibration.Speed
		e.Calibration.Speed, e.Noise = 1, engine.Noise{}
		if i == 0 {
			first = e
		}
		if e != first {
			return unknown("replicas differ by more than their speed")
		}
	}
	f.Calibration = first.Calibration
	f.whole = float64(max(1, first.MaxBatchedTokens-first.MaxSeqs))
	return f, first, nil
}

// setting is one case.
type setting struct {
	*fleet
	jobs                []job // that count
	from, arrivals, end float64
}

func (k *setting) bound() (b Bound) {
	var first, token, whole []float64
	for i := range k.jobs {
		j := &k.jobs[i]
		first = append(first, k.first(j))
		whole = append(whole, k.alone(j))
		if j.decodes > 0 {
			token = append(token, k.token(j))
		}
	}
	b.TTFT, b.TPOT, b.E2E = distribution(first), distribution(token), distribution(whole)
	b.E2E.Mean = max(b.E2E.Mean, k.mean())
	if k.end > 0 && len(token) > 0 {
		k.tokenTimes(&b.TPOT)
	}
	return b
}

// distribution is that of a Report.
func distribution(values []float64) (d simulation.Distribution) {
	if len(values) == 0 {
		return d
	}
	slices.Sort(values)
	at := func(q float64) float64 { return values[int(q*float64(len(values)))] }
	d = simulation.Distribution{Count: len(values), P50: at(.5), P90: at(.9), P99: at(.99)}
	for _, v := range values {
		d.Mean += v / float64(len(values))
	}
	return d
}
