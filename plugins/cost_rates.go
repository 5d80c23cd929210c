package plugins

import (
	"math"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// serverRates is how much longer one server takes than servers do on average, as
// logarithms: for a step, and for a prompt token beyond that. A server that is slow at
// the one is taken to be as slow at the other until long prefills show that it is not.
type serverRates struct{ step, token float64 }

// fleetRates is how much longer all servers take than CostOptions.Engine says, as
// logarithms.
type fleetRates struct{ step, token float64 }

// stepFactor and tokenFactor are what the times of CostOptions.Engine are multiplied
// with for a server.
func (c *Cost) stepFactor(s *costServer) float64 { return math.Exp(c.fleet.step + s.rate.step) }

func (c *Cost) tokenFactor(s *costServer) float64 {
	return math.Exp(c.fleet.token + s.rate.step + s.rate.token)
}

const (
	// A request moves what is believed of the fleet by so much of what it was off, and
	// what is believed of its server; outliers count as learnLimit, a factor of 2.
	learnFleet = .01
	learnOwn   = .03
	learnLimit = .7
	// forgetOwn draws a server to the fleet: without it, the two would drift apart.
	forgetOwn = .0005
	// maxFleet and maxOwn bound the logarithms: factors of 55 and of 7.
	maxFleet = 4.
	maxOwn   = 2.
)

// learn moves a pair of rates towards an observation that took exp(off) times as long
// as was predicted. weight, 0 to 1, is how much the observation says.
func learn(fleet, own *float64, off, weight float64) {
	if off != off {
		return
	}
	off = min(max(off, -learnLimit), learnLimit) * min(weight, 1)
	*fleet = min(max(*fleet+learnFleet*off, -maxFleet), maxFleet)
	*own = min(max(*own+learnOwn*off-forgetOwn**own, -maxOwn), maxOwn)
}

// An Accelerator is how fast a model server is likely to be on it, relative to an
// H100: Decode by its memory bandwidth, Prefill by its arithmetic, from the vendors'
// data sheets (dense BF16). It is a start: Cost learns the rest.
type Accelerator struct{ Decode, Prefill float64 }

// Accelerators are those known by a part of their name, in lower case.
func Accelerators() map[string]Accelerator {
	return map[string]Accelerator{
		"h100":   {1, 1},
		"h200":   {1.43, 1},
		"b200":   {2.39, 2.27},
		"gh200":  {1.2, 1},
		"a100":   {0.6, 0.32},
		"a10g":   {0.18, 0.07},
		"a10":    {0.18, 0.13},
		"l40s":   {0.26, 0.37},
		"l4":     {0.09, 0.12},
		"t4":     {0.1, 0.066},
		"v100":   {0.27, 0.13},
		"mi300x": {1.58, 1.32},
	}
}

// startRates are those of a server that nothing has been learned of.
func (o *CostOptions) startRates(ep *types.Endpoint) serverRates {
	if v := ep.Capacity.Speed; v > 0 && !math.IsInf(v, 1) {
		r := min(max(-math.Log(v), -maxOwn), maxOwn)
		return serverRates{step: r}
	}
	label := strings.ToLower(ep.Labels[o.AcceleratorLabel])
	if label == "" {
		return serverRates{}
	}
	known, longest := Accelerator{1, 1}, 0
	for name, a := range Accelerators() {
		// The longest name that fits: "l40s" has "l4" in it.
		if len(name) > longest && strings.Contains(label, name) {
			known, longest = a, len(name)
		}
	}
	return serverRates{
		step:  min(max(-math.Log(known.Decode), -maxOwn), maxOwn),
		token: min(max(-math.Log(known.Prefill/known.Decode), -maxOwn), maxOwn),
	}
}

// prefillTime is what the engine of the options takes to compute the last compute
// tokens of a prompt, besides the step.
func (e *EngineRates) prefillTime(prompt, compute float64) float64 {
	return e.Token * compute * (1 + e.Attention*(prompt-compute/2))
}

// observe learns from how a request went that ends now. usage says what the server
// really had cached.
func (c *Cost) observe(s *costServer, r *costed, now float64, u types.Usage) {
	if c.o.FixedRates || !r.begun {
		return
	}
	tokenFactor, stepFactor := c.tokenFactor(s), c.stepFactor(s)
	if cached, ok := u.CachedTokens.Value(); ok && r.firstAfter > 0 {
		// What is above the wait and the step is the prefill. It says something if it was
		// to be most of it; to ask whether it was would count the late ones only.
		work := tokenFactor * c.o.Engine.prefillTime(r.prompt, max(r.prompt-cached, 1))
		took := max(r.firstAfter-r.predicted, r.firstAfter/10)
		if most := 2*work/(work+r.predicted) - 1; most > 0 {
			learn(&c.fleet.token, &s.rate.token, math.Log(took/work), most)
		}
	}
	if n := u.CompletionTokens.Or(0); n > 8 {
		took := now - r.firstAt
		if took <= 0 {
			return
		}
		// Decoding took as many steps as there are tokens, and the prefills that came in
		// between.
		steps := stepFactor * (n - 1) * (r.stepThen + s.step/stepFactor) / 2
		between := tokenFactor * (s.done - r.doneThen)
		learn(&c.fleet.step, &s.rate.step, math.Log(max(took-between, took/10)/steps), 1)
	}
}
