package suite

import (
	"maps"
	"math"
	"slices"
	"time"
)

// family draws the workload of a scenario, and what else it is about. README.md has a
// table of them.
type family func(d *drawer, s *Scenario) workload

type workload = map[string]any

// Families returns the names of all families of workloads.
func Families() []string { return slices.Sorted(maps.Keys(families())) }

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
		// Each has its own SLO, or none.
		"slo-mix": func(d *drawer, s *Scenario) workload {
			return workload{
				"kind":     "criticality",
				"workload": families()[pick(d, "chat", "tenants", "bimodal")](d, s),
				"classes": []any{
					workload{"share": d.between(.2, 1), "ttft_slo_s": pick(d, .1, .2, .5), "tpot_slo_s": pick(d, .02, .03)},
					workload{"share": d.between(.2, 1), "ttft_slo_s": pick(d, 1., 2, 5), "tpot_slo_s": pick(d, .05, .1)},
					workload{"share": d.between(.2, 1)},
				},
			}
		},
		// For some seconds a crowd asks about one document that is new to all servers.
		"flash": func(d *drawer, s *Scenario) workload {
			const mean = .02 // rate of the crowd as a part of the others', before it varies
			s.Loads = []float64{pick(d, .4, .5, .6)}
			others := families()[pick(d, "chat", "tenants")](d, s)
			others["rate"] = 1
			most, long := d.between(.3, 1), d.between(3, 8)
			crowd := workload{
				"kind": "shared-prefix", "rate": mean, "groups": 1, "system_tokens": d.tokens(1000, 12_000),
				"question": normal(d.tokens(20, 100), .5), "output": normal(d.tokens(50, 300), .5),
				"vary": workload{"kind": "steps", "steps": []any{
					workload{"at_s": 0, "factor": 0},
					workload{"at_s": 25, "factor": most / mean},
					workload{"at_s": 25 + long, "factor": most / mean / 4},
					workload{"at_s": 25 + 3*long, "factor": 0},
				}},
			}
			return workload{"kind": "mix", "parts": []any{others, crowd}}
		},
		// Half of the fleet restarts, with empty caches.
		"restarts": func(d *drawer, s *Scenario) workload {
			s.Faults = []Fault{{At: Duration(30 * time.Second), Kind: "restart", Replicas: upTo(0, s.Fleet.Replicas/2)}}
			s.Loads = []float64{pick(d, .5, .6, .7)}
			return families()[pick(d, "tenants", "tenants", "rag", "business")](d, s)
		},
		// Some servers join and others leave, in either order.
		"scaling": func(d *drawer, s *Scenario) workload {
			n := s.Fleet.Replicas
			join := Fault{Kind: "add", Replicas: upTo(n, n+1+d.IntN(max(n/2, 1)))}
			leave := Fault{Kind: "remove", Replicas: upTo(0, 1+d.IntN(max(n/3, 1)))}
			s.Faults = []Fault{join, leave}
			if d.IntN(2) == 0 {
				s.Faults = []Fault{leave, join}
			}
			s.Faults[0].At, s.Faults[1].At = Duration(25*time.Second), Duration(38*time.Second)
			s.Loads = []float64{pick(d, .4, .5, .6)}
			return families()[pick(d, "chat", "tenants", "agents")](d, s)
		},
		// One server dies or hangs and comes back.
		"failures": func(d *drawer, s *Scenario) workload {
			s.Loads = []float64{pick(d, .4, .5, .6)}
			if d.IntN(2) == 0 {
				s.Faults = []Fault{{At: Duration(25 * time.Second), Kind: "hang", Replicas: []int{0}, For: Duration(15 * time.Second)}}
			} else {
				s.Faults = []Fault{
					{At: Duration(25 * time.Second), Kind: "die", Replicas: []int{0}},
					{At: Duration(40 * time.Second), Kind: "restart", Replicas: []int{0}},
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

func lognormal(median int, sigma float64, most int) workload {
	return workload{"kind": "lognormal", "median": median, "sigma": sigma, "max": most}
}

func normal(mean int, part float64) workload {
	return workload{"kind": "normal", "mean": mean, "sd": math.Round(part * float64(mean))}
}

// upTo returns from, from+1, … to-1.
func upTo(from, to int) (all []int) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}
