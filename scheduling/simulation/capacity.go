package simulation

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Capacity measures how many jobs (or sessions) per second the fleet of c can
// serve: the largest rate, to within 2 %, at which jobs under way do not grow for
// as long as jobs arrive, and nine in ten wait less than a twentieth of that time
// for their first token (a queue that takes longer may well grow, and is not seen
// to), or of jobs without first tokens less than a quarter for the whole answer. c.Policy decides; with none, each job goes to the replica with the fewest of
// its gateway's requests in flight. c.Duration is the length of each trial, by
// default 4 minutes; it should be several times as long as a request or session.
//
// It takes some fifteen runs. The error is that of a run, of a workload whose rate
// cannot be set, or ErrImpossible if no rate is low enough.
func Capacity(ctx context.Context, c Config) (rate float64, err error) {
	return capacity(ctx, c, float64(len(c.Fleet.Replicas)), 2)
}

// CapacityNear is Capacity where it is likely to be near a rate, which must be above 0, such
// as that of another policy: it takes some six runs.
func CapacityNear(ctx context.Context, c Config, rate float64) (float64, error) {
	return capacity(ctx, c, rate, 1.2)
}

// capacity searches from a rate on, by a factor until the capacity lies between two rates.
func capacity(ctx context.Context, c Config, rate, factor float64) (float64, error) {
	if c.Policy.Profile == nil && c.Policy.Clairvoyant == nil {
		c.Policy = Policy{Name: "fewest in flight", Profile: fewestInFlight}
	}
	if c.Duration == 0 {
		c.Duration = 4 * time.Minute
	}
	c.Jobs, c.ClosedLoop, c.CPU, c.Progress, c.ExplainJob = 0, 0, false, nil, 0
	keepsUp := func(rate float64) (bool, error) {
		w, err := WithRate(c.Workload, rate)
		if err != nil {
			return false, err
		}
		trial := c
		trial.Workload = w
		// What overload is, is seen soon: the rest need not be played to its end.
		trial.Drain = c.Duration
		r, err := Run(ctx, trial)
		if err != nil {
			return false, err
		}
		return r.Steady && r.Failed+r.Shed == 0 && r.TTFT.P90 < c.Duration.Seconds()/20 && r.Latency.P90 < c.Duration.Seconds()/4, nil
	}
	low, high := 0.0, math.Inf(1)
	for high > low*1.02 {
		ok, err := keepsUp(rate)
		if err != nil {
			return 0, err
		}
		if ok {
			low = rate
		} else {
			high = rate
		}
		switch {
		case math.IsInf(high, 1):
			rate *= factor
		case low == 0:
			if rate /= factor; rate < 1e-4 {
				return 0, fmt.Errorf("%w: the fleet does not keep up with %v jobs per second", ErrImpossible, rate)
			}
		default:
			rate = math.Sqrt(low * high)
		}
		if rate > 1e7 {
			return 0, fmt.Errorf("%w: the fleet keeps up with any rate: do the jobs take time?", ErrImpossible)
		}
	}
	return low, nil
}

// fewestInFlight is least-requests without the product's plugins, which this
// package does not import.
func fewestInFlight() scheduling.Profile {
	return scheduling.Profile{Picker: scheduling.PickerFunc(
		func(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
			best, ties := 0, 0
			least := int64(math.MaxInt64)
			for i, ep := range eps {
				switch n := ep.Load.Requests(); {
				case n < least:
					best, least, ties = i, n, 1
				case n == least:
					if ties++; req.Rand.IntN(ties) == 0 {
						best = i
					}
				}
			}
			return best, nil
		})}
}
