package suite

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
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
	// Replicas is the least and the largest fleet. Default 4 and 20.
	Replicas [2]int `json:"replicas"`
}

// family draws the workload of a scenario, and what else it is about.
type family func(d *drawer, s *Scenario) workload

type workload = map[string]any

// Families returns the names of all families of workloads.
func Families() []string { return slices.Sorted(maps.Keys(families())) }

// scenarios returns what is drawn. Two draws of one number are the same, and what is drawn of
// one family does not depend on the others.
func (o *Draw) scenarios() ([]Scenario, error) {
	if len(o.Families) == 0 {
		return nil, fmt.Errorf("draw.families is empty, want some of %s", strings.Join(Families(), ", "))
	}
	if o.Each < 0 || o.Each > 100 {
		return nil, fmt.Errorf("draw.each is %d, want 1 to 100", o.Each)
	}
	o.Replicas = cmp.Or(o.Replicas, [2]int{4, 20})
	if o.Replicas[0] < 2 || o.Replicas[0] > o.Replicas[1] || o.Replicas[1] > 1000 {
		return nil, fmt.Errorf("draw.replicas is %v, want two numbers from 2 to 1000, the least first", o.Replicas)
	}
	var all []Scenario
	for _, name := range o.Families {
		make := families()[name]
		if make == nil {
			return nil, fmt.Errorf("draw.families has %q, want some of %s", name, strings.Join(Families(), ", "))
		}
		for i := range max(o.Each, 1) {
			s, err := o.scenario(name, i, make)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

func (o *Draw) scenario(name string, i int, make family) (Scenario, error) {
	seed := o.Number
	for _, b := range []byte(fmt.Sprint(name, "/", i)) {
		seed = (seed ^ uint64(b)) * 0x100000001b3
	}
	d := &drawer{types.NewRand(seed)}
	s := Scenario{Name: fmt.Sprintf("%s %d", name, i+1), Family: name}
	s.Fleet.Replicas = int(d.log(float64(o.Replicas[0]), float64(o.Replicas[1])) + .5)
	s.Fleet.Engine = pick(d, "llama-3.1-8b-h100", "llama-3.1-8b-h100", "llama-2-7b-h100", "qwen3-30b-a3b-h100", "qwen3-32b-2xh100", "llama-3-70b-4xh100")
	s.Loads = []float64{pick(d, .5, .7, .8, .9)}
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

func lognormal(median int, sigma float64, most int) workload {
	return workload{"kind": "lognormal", "median": median, "sigma": sigma, "max": most}
}

func normal(mean int, part float64) workload {
	return workload{"kind": "normal", "mean": mean, "sd": math.Round(part * float64(mean))}
}

func families() map[string]family {
	return map[string]family{
		"chat": func(d *drawer, s *Scenario) workload {
			return workload{"kind": "sharegpt", "cv": pick(d, 1., 1, 2)}
		},
		"tenants": func(d *drawer, s *Scenario) workload {
			return workload{
				"kind": "shared-prefix", "groups": d.tokens(10, 500), "system_tokens": d.tokens(500, 5000), "skew": d.between(0, 1.2),
				"question": normal(d.tokens(50, 500), .5), "output": normal(d.tokens(50, 400), .5),
			}
		},
		// Short chats, and prompts of some thousands of tokens.
		"bimodal": func(d *drawer, s *Scenario) workload {
			long := workload{"kind": "sharegpt", "rate": d.between(.05, .4), "input": normal(d.tokens(2000, 8000), .2), "output": normal(d.tokens(50, 400), .5)}
			return workload{"kind": "mix", "parts": []any{workload{"kind": "sharegpt", "rate": 1}, long}}
		},
		"rag": func(d *drawer, s *Scenario) workload {
			return workload{
				"kind": "rag", "system_tokens": d.tokens(100, 1000), "corpus": d.tokens(200, 20_000), "skew": d.between(.5, 1.2),
				"chunks": 2 + d.IntN(9), "chunk_tokens": d.tokens(128, 1024), "output": normal(d.tokens(50, 400), .5),
			}
		},
		"agents": func(d *drawer, s *Scenario) workload {
			return workload{
				"kind": "agentic", "turns": float64(3 + d.IntN(12)), "apps": 2 + d.IntN(20), "system_tokens": d.tokens(500, 6000),
				"output": lognormal(d.tokens(50, 200), .8, 2000), "tool": lognormal(d.tokens(100, 800), 1, 8000), "think_s": d.between(.5, 4),
			}
		},
		// Completion of code: context of a repository, answers of a line or two.
		"code": func(d *drawer, s *Scenario) workload {
			return workload{
				"kind": "shared-prefix", "groups": d.tokens(50, 2000), "system_tokens": d.tokens(800, 4000), "skew": d.between(.6, 1.1),
				"question": lognormal(d.tokens(50, 300), .6, 2000), "output": normal(d.tokens(15, 60), .5),
			}
		},
		"summaries": func(d *drawer, s *Scenario) workload {
			return workload{"kind": "sharegpt", "input": lognormal(d.tokens(2000, 7000), .5, 20_000), "output": normal(d.tokens(80, 300), .4)}
		},
		"reasoning": func(d *drawer, s *Scenario) workload {
			return workload{"kind": "sharegpt", "input": lognormal(d.tokens(100, 400), .7, 4000), "output": lognormal(d.tokens(600, 2000), .8, 8000)}
		},
		"business": func(d *drawer, s *Scenario) workload {
			return workload{
				"kind": "b2b", "customers": d.tokens(30, 300), "system_tokens": d.tokens(2000, 6000), "questions": 2 + d.IntN(20),
				"question_tokens": d.tokens(200, 1200), "skew": d.between(0, 1), "output": normal(d.tokens(100, 800), .3),
			}
		},
		"adapters": func(d *drawer, s *Scenario) workload {
			return workload{"kind": "multi-lora", "adapters": 4 + d.IntN(40), "skew": d.between(.3, 1.2)}
		},
		// Tenants share prefixes: who asks says nothing of what is cached.
		"shared-tenants": func(d *drawer, s *Scenario) workload {
			return workload{
				"kind":     "criticality",
				"workload": families()["tenants"](d, s),
				"classes":  []any{workload{"share": 1, "tenants": d.tokens(20, 1000), "skew": d.between(0, 1)}},
			}
		},
		// All have the same SLO, tight or not.
		"slo": func(d *drawer, s *Scenario) workload {
			ttft, tpot := pick(d, 100, 200, 500, 1000), pick(d, 20, 30, 50)
			s.Goodput = Goodput{TTFT: Duration(ttft) * Duration(time.Millisecond), TPOT: Duration(tpot) * Duration(time.Millisecond)}
			return workload{
				"kind":     "criticality",
				"workload": families()[pick(d, "chat", "tenants", "bimodal")](d, s),
				"classes":  []any{workload{"share": 1, "ttft_slo_s": float64(ttft) / 1000, "tpot_slo_s": float64(tpot) / 1000}},
			}
		},
		// Half of the fleet restarts, with empty caches.
		"restarts": func(d *drawer, s *Scenario) workload {
			half := make([]int, s.Fleet.Replicas/2)
			for i := range half {
				half[i] = i
			}
			s.Faults = []Fault{{At: Duration(45 * time.Second), Kind: "restart", Replicas: half}}
			s.Loads = []float64{pick(d, .5, .6, .7)}
			return families()["tenants"](d, s)
		},
		// One server dies or hangs and comes back.
		"failures": func(d *drawer, s *Scenario) workload {
			s.Loads = []float64{pick(d, .4, .5, .6)}
			if d.IntN(2) == 0 {
				s.Faults = []Fault{{At: Duration(30 * time.Second), Kind: "hang", Replicas: []int{0}, For: Duration(20 * time.Second)}}
			} else {
				s.Faults = []Fault{
					{At: Duration(30 * time.Second), Kind: "die", Replicas: []int{0}},
					{At: Duration(50 * time.Second), Kind: "restart", Replicas: []int{0}},
				}
			}
			return families()["chat"](d, s)
		},
		// APIs that are late, answers that do not stream, tokens that are estimated.
		"irregular": func(d *drawer, s *Scenario) workload {
			s.World = World{Jitter: Duration(d.log(1, 10) * float64(time.Millisecond)), Unstreamed: pick(d, 0, .3, .8), TokenError: pick(d, 0, .3)}
			s.Fleet.Noise = pick(d, Noise{}, Noise{Spread: .2})
			return families()[pick(d, "chat", "tenants")](d, s)
		},
		"unequal": func(d *drawer, s *Scenario) workload {
			s.Fleet.Speeds = pick(d, []float64{1, .5}, []float64{1, .8, .6}, []float64{1, 1, 1, .35}, []float64{.9, 1.1})
			return families()[pick(d, "chat", "tenants", "bimodal")](d, s)
		},
		"gateways": func(d *drawer, s *Scenario) workload {
			s.Gateways = pick(d, 2, 4, 8)
			return families()[pick(d, "chat", "tenants", "agents")](d, s)
		},
	}
}
