package bound

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// fleet is the servers, seen as one.
type fleet struct {
	engine.Calibration
	slow  float64 // a second at speed 1 takes so long on the fastest server
	speed float64 // of all servers together
	whole float64 // tokens of prompts in a full step, at least
	api   float64 // seconds, both ways
}

// linear is h: the seconds of a step's linear layers.
func (f *fleet) linear(tokens float64) float64 { return math.Hypot(f.WeightFloor, f.PerToken*tokens) }

// first returns the seconds to a job's first token if it is alone.
func (f *fleet) first(j *job) float64 {
	weights := math.Hypot(j.chunks*f.WeightFloor, f.PerToken*j.compute)
	return f.api + f.slow*(j.chunks*(f.Fixed+f.PerSequence)+weights+f.PrefillAttention*j.pairs)
}

// token returns the seconds for each later token if it is alone.
func (f *fleet) token(j *job) float64 {
	return f.slow * (f.Fixed + f.PerSequence + f.linear(1) + f.PerContextToken*j.context())
}

// alone returns the seconds that a job takes if it is.
func (f *fleet) alone(j *job) float64 { return f.first(j) + j.decodes*f.token(j) }

// prices are what jobs cost at one λ, with h replaced by its tangent at a size of step.
type prices struct {
	*fleet
	lambda  float64
	tangent float64 // tokens
	fixed   float64 // seconds of a step, at speed 1
	each    float64 // seconds that a decode adds to it, without its context
	slope   float64 // seconds that a token does
}

func (f *fleet) at(lambda, tangent float64) prices {
	p := prices{fleet: f, lambda: lambda, tangent: tangent}
	p.slope = f.PerToken * f.PerToken * tangent / f.linear(tangent)
	p.fixed = f.Fixed + f.linear(tangent) - p.slope*tangent
	p.each = f.PerSequence + p.slope
	return p
}

// phi is φ: by how much the linear layers of so many tokens lengthen a step.
func (p *prices) phi(tokens float64) float64 {
	if tokens <= p.tangent {
		return p.slope * tokens
	}
	return p.Fixed + p.linear(tokens) - p.fixed
}

// prefill returns by how much a prefill lengthens steps. All chunks of a prompt but the last
// are in full steps, where a token costs the most: the last one is taken to be as long as is
// cheapest, which is where φ grows as fast.
func (p *prices) prefill(j *job) float64 {
	full, last := p.phi(p.whole)/p.whole, j.compute
	if full < p.PerToken {
		last = min(last, p.WeightFloor*full/p.PerToken/math.Sqrt(p.PerToken*p.PerToken-full*full))
	}
	return p.phi(last) + full*(j.compute-last) + j.chunks*p.PerSequence + p.PrefillAttention*j.pairs
}

// decode returns κ, of a decode that reads so much context.
func (p *prices) decode(context float64) float64 {
	each := p.each + p.PerContextToken*context
	m := max(1, math.Sqrt(p.lambda*p.fixed/(p.slow*each)))
	return (p.slow*m + p.lambda) * (p.fixed/m + each)
}

// decodes returns the price of all of a job's decodes. κ is concave in the context: the mean is
// no less than that of the first and the last.
func (p *prices) decodes(j *job) float64 {
	return j.decodes * (p.decode(j.prompt+1) + p.decode(j.prompt+j.decodes)) / 2
}

// job returns the price of all of a job, with what it waits for the API.
func (p *prices) job(j *job) float64 {
	return p.api + p.slow*j.chunks*p.fixed + (p.slow+p.lambda)*p.prefill(j) + p.decodes(j)
}

// least returns the price of a job's decodes if nobody waits for them: of their time in steps
// as large as one likes.
func (p *prices) least(j *job) float64 {
	return p.lambda * j.decodes * (p.each + p.PerContextToken*j.context())
}

func seconds(d, otherwise time.Duration) float64 {
	if d == 0 {
		d = otherwise
	}
	return max(d, 0).Seconds()
}
