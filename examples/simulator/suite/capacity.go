package suite

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Capacity is how much each policy keeps up with in a scenario, as simulation.Capacity has it:
// with Poisson arrivals, one gateway, metrics every 50 ms and nothing irregular.
type Capacity struct {
	Scenario string
	Family   string
	// Rates are jobs, or sessions, per second, in the order of Result.Policies.
	Rates []float64
}

// site is a workload on a fleet, whose capacity is measured.
type site struct {
	*Scenario
	config simulation.Config // without Policy
	key    string            // of records
	rate   float64           // capacity
}

// measure finds the capacity of each fleet and workload that has loads.
func (p *player) measure(plans []plan) ([]site, error) {
	// Several scenarios may have the same, seen by one gateway that scrapes as usual:
	// how the metrics are read, and bursts, do not change what the fleet can serve in
	// the long run. Noise may, by what stalls take; without it a noisy case is played
	// at the rate of the quiet one, and so is comparable.
	index := map[[2]string]int{}
	var sites []site
	of := make([]int, len(plans))
	for i := range plans {
		c := &plans[i]
		if of[i] = -1; len(c.Loads) == 0 {
			continue
		}
		spec, smooth, err := c.withoutBursts()
		if err != nil {
			return nil, err
		}
		k := [2]string{smooth, fmt.Sprint(c.Fleet.quiet().key(), c.config.Duration)}
		if _, ok := index[k]; !ok {
			index[k] = len(sites)
			sites = append(sites, p.site(c, spec))
		}
		of[i] = index[k]
	}
	err := p.each(len(sites), 0, capacityPart, func(i int, _ func(float64)) (what string, err error) {
		sites[i].rate, err = p.capacity(&sites[i], p.o.Capacity)
		return "capacity of " + sites[i].Name, err
	})
	for i := range plans {
		if of[i] >= 0 {
			plans[i].capacity = sites[of[i]].rate
		}
	}
	return sites, err
}

func (p *player) site(c *plan, spec simulation.Spec) site {
	config, fleet := c.config, c.Fleet.quiet()
	config.Fleet, config.Workload, config.Seed = fleet.fleet(), spec, p.seeds[0]
	config.Gateways, config.Scrape, config.World, config.Faults = 1, simulation.Scrape{}, simulation.World{}, nil
	config.Sharing, config.Shares, config.Sticky = simulation.Sharing{}, nil, false
	return site{Scenario: c.Scenario, config: config, key: c.clean().key(p, fleet, 0)}
}

// capacity measures that of a site under a policy: near the site's own, once that is known.
func (p *player) capacity(s *site, policy simulation.Policy) (float64, error) {
	rec := Record{Case: s.key, Policy: "capacity of " + policy.Name, Seed: s.config.Seed}
	if known, ok := p.o.Records.find(rec); ok {
		return known.Rate, nil
	}
	config := s.config
	config.Policy = policy
	var err error
	if s.rate > 0 {
		rec.Rate, err = simulation.CapacityNear(p.ctx, config, s.rate)
	} else {
		rec.Rate, err = simulation.Capacity(p.ctx, config)
	}
	if err != nil {
		return 0, fmt.Errorf("suite: capacity of scenario %q under %s: %w", s.Name, policy.Name, err)
	}
	return rec.Rate, p.o.Records.add(rec)
}

// measureOwn finds the capacity of each policy, in the first scenario of each family.
func (p *player) measureOwn(sites []site) ([]Capacity, error) {
	var all []Capacity
	var at []*site
	for i := range sites {
		s := &sites[i]
		if s.Family != "" && slices.ContainsFunc(all, func(c Capacity) bool { return c.Family == s.Family }) {
			continue
		}
		at = append(at, s)
		all = append(all, Capacity{s.Name, s.Family, make([]float64, len(p.policies))})
	}
	err := p.each(len(all)*len(p.policies), capacityPart, ownPart, func(i int, _ func(float64)) (what string, err error) {
		s, policy := i/len(p.policies), i%len(p.policies)
		all[s].Rates[policy], err = p.capacity(at[s], p.policies[policy])
		return fmt.Sprintf("capacity of %s, %s", all[s].Scenario, p.policies[policy].Name), err
	})
	return all, err
}

func (r *Result) writeCapacities(out io.Writer) {
	if len(r.Capacities) == 0 {
		return
	}
	fmt.Fprintln(out, "\nCAPACITY by policy: the rate up to which each keeps up, to within 2 %, as a part of the best one's")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "case\tbest\t")
	for _, policy := range r.Policies {
		fmt.Fprintf(w, "%s\t", policy)
	}
	least, means := make([]float64, len(r.Policies)), make([]geometric, len(r.Policies))
	for _, c := range r.Capacities {
		best := slices.Max(c.Rates)
		fmt.Fprintf(w, "\n%s\t%.4g/s\t", c.Scenario, best)
		for j, rate := range c.Rates {
			fmt.Fprintf(w, "%.3f\t", rate/best)
			if least[j] == 0 || rate/best < least[j] {
				least[j] = rate / best
			}
			means[j].add(rate / best)
		}
	}
	fmt.Fprint(w, "\nleast\t\t")
	for _, v := range least {
		fmt.Fprintf(w, "%.3f\t", v)
	}
	fmt.Fprint(w, "\nmean\t\t")
	for _, m := range means {
		fmt.Fprintf(w, "%.3f\t", m.mean())
	}
	fmt.Fprintln(w)
	w.Flush()
}
