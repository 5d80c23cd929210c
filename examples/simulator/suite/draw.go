package suite

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Draw makes scenarios out of a number: of each family so many, with a fleet, a load, lengths
// and all else drawn. Whoever has not seen the number cannot have tuned anything for them.
type Draw struct {
	// Number is what everything is drawn from. Change it before a claim.
	Number uint64 `json:"number"`
	// Each is how many scenarios there are of each family. Default 1.
	Each int `json:"each"`
	// Families are their names: see Families. Required.
	Families []string `json:"families"`
	// Replicas is the least and the largest fleet. Default 4 and 40.
	Replicas [2]int `json:"replicas"`
	// Seeds is how many seeds each scenario is played with, unless Suite.Seeds names
	// them: Number and those after it. Default 1.
	Seeds int `json:"seeds"`
	// Large is the Scenario.Duration of fleets of more than LargeFleet replicas, which see
	// as many jobs in less time. Default: that of the suite.
	Large Duration `json:"large"`
}

// LargeFleet is how many replicas a fleet has that is not yet large.
const LargeFleet = 16

// scenarios returns what is drawn. Two draws of one number are the same, and what is drawn of
// one family does not depend on the others.
func (o *Draw) scenarios() ([]Scenario, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var all []Scenario
	for _, name := range o.Families {
		drawn, err := o.family(name, families()[name])
		if err != nil {
			return nil, err
		}
		all = append(all, drawn...)
	}
	return all, nil
}

// check reports the first thing that is wrong, and fills defaults in.
func (o *Draw) check() error {
	if len(o.Families) == 0 {
		return fmt.Errorf("draw.families is empty, want some of %s", strings.Join(Families(), ", "))
	}
	for i, name := range o.Families {
		if families()[name] == nil {
			return fmt.Errorf("draw.families has %q, want some of %s", name, strings.Join(Families(), ", "))
		}
		if slices.Contains(o.Families[:i], name) {
			return fmt.Errorf("draw.families has %q twice", name)
		}
	}
	if o.Each < 0 || o.Each > 100 {
		return fmt.Errorf("draw.each is %d, want 1 to 100", o.Each)
	}
	if o.Seeds < 0 || o.Seeds > 100 {
		return fmt.Errorf("draw.seeds is %d, want 1 to 100", o.Seeds)
	}
	o.Each, o.Seeds = max(o.Each, 1), max(o.Seeds, 1)
	o.Replicas = cmp.Or(o.Replicas, [2]int{4, 40})
	if o.Replicas[0] < 2 || o.Replicas[0] > o.Replicas[1] || o.Replicas[1] > 1000 {
		return fmt.Errorf("draw.replicas is %v, want two numbers from 2 to 1000, the least first", o.Replicas)
	}
	return nil
}

// seeds are those that each scenario is played with.
func (o *Draw) seeds() []uint64 {
	seeds := make([]uint64, o.Seeds)
	for i := range seeds {
		seeds[i] = o.Number + uint64(i)
	}
	return seeds
}

// family draws the scenarios of one family, no two alike.
func (o *Draw) family(name string, make family) ([]Scenario, error) {
	var all []Scenario
	seen := map[string]bool{}
	for i := 0; len(all) < o.Each; i++ {
		if i == 100*o.Each {
			return nil, fmt.Errorf("draw.each is %d, and of the family %q there are %d different scenarios", o.Each, name, len(all))
		}
		s, err := o.scenario(name, i, make)
		if err != nil {
			return nil, err
		}
		what, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		if seen[string(what)] {
			continue
		}
		seen[string(what)] = true
		s.Name = fmt.Sprintf("%s %d", name, len(all)+1)
		all = append(all, s)
	}
	return all, nil
}

// scenario makes the i-th try at a scenario of the family.
func (o *Draw) scenario(name string, i int, make family) (Scenario, error) {
	seed := o.Number
	for _, b := range []byte(fmt.Sprint(name, "/", i)) {
		seed = (seed ^ uint64(b)) * 0x100000001b3
	}
	d := &drawer{types.NewRand(seed)}
	s := Scenario{Family: name}
	s.Fleet.Replicas = int(d.log(float64(o.Replicas[0]), float64(o.Replicas[1])) + .5)
	s.Fleet.Engine = pick(d, "llama-3.1-8b-h100", "llama-3.1-8b-h100", "llama-2-7b-h100", "qwen3-30b-a3b-h100", "qwen3-32b-2xh100", "llama-3-70b-4xh100")
	s.Loads = []float64{pick(d, .5, .7, .8, .9)}
	if s.Fleet.Replicas > LargeFleet {
		s.Duration = o.Large
	}
	s.Goodput = Goodput{TTFT: Duration(time.Second), TPOT: Duration(50 * time.Millisecond)}
	data, err := json.Marshal(make(d, &s))
	s.Workload = data
	return s, err
}

// drawer draws figures.
type drawer struct{ types.Rand }

// log returns a number from lo to hi, all orders of magnitude equally likely.
func (d *drawer) log(lo, hi float64) float64 {
	return math.Exp(math.Log(lo) + d.Float64()*(math.Log(hi)-math.Log(lo)))
}

// tokens is log, to two digits.
func (d *drawer) tokens(lo, hi float64) int {
	v := d.log(lo, hi)
	unit := math.Pow(10, math.Floor(math.Log10(v))-1)
	return int(math.Round(v/unit) * unit)
}

func (d *drawer) between(lo, hi float64) float64 {
	return math.Round(100*(lo+d.Float64()*(hi-lo))) / 100
}

func pick[T any](d *drawer, of ...T) T { return of[d.IntN(len(of))] }
