package admission

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// finish ends a ticket that was let in.
func (c *Controller) finish(t *Ticket, out *types.Outcome, now time.Time) {
	c.landed(t)
	t.unlist()
	t.state = ended
	t.revoke = nil
	b, f := t.band, t.flow
	b.open--
	f.inFlight--
	c.correct(t, out)
	b.rest(f, now)
	if cell := c.cellOf(t.ep); cell != nil {
		cell.since.Finished++
	}
	c.happened(t.ep, now)
	if h := c.o.Hooks.Finished; h != nil {
		h(t, *out)
	}
	t.ep = nil
}

// estimate works out what a request will be charged.
func (c *Controller) estimate(t *Ticket) {
	out := t.flow.output
	if out == 0 {
		out = c.output
	}
	if out == 0 {
		out = float64(c.o.OutputTokens)
	}
	if m := t.req.MaxTokens; m > 0 {
		out = min(out, float64(m))
	}
	t.output = out
	t.charge = c.o.InputWeight*float64(t.req.Prompt.Tokens) + c.o.OutputWeight*out
}

// correct makes the charge what the request really took.
func (c *Controller) correct(t *Ticket, out *types.Outcome) {
	in, output := float64(t.req.Prompt.Tokens), t.output
	reported := false
	if v, ok := out.Usage.PromptTokens.Value(); ok && v >= 0 {
		in = v
	}
	if v, ok := out.Usage.CompletionTokens.Value(); ok && v >= 0 {
		output, reported = v, true
	} else if !t.first && (out.Cancelled || out.Failed()) {
		output = 0
		if t.ep == nil {
			in = 0 // it never got to a server
		}
	}
	if reported {
		const rate = 0.05
		average(&t.flow.output, output, rate)
		average(&c.output, output, rate/5)
	}
	real := c.o.InputWeight*in + c.o.OutputWeight*output
	t.band.counts.Tokens += real - t.charge
	t.flow.spend(real - t.charge)
	t.charge = real
	c.budgets.correct(t, in+output)
}

func average(mean *float64, v, rate float64) {
	if *mean == 0 {
		*mean = v
	} else {
		*mean += rate * (v - *mean)
	}
}

// learnTTFT keeps the mean and deviation of times to first token, as TCP does of round
// trips.
func (c *Controller) learnTTFT(took time.Duration) {
	v := took.Seconds()
	if c.ttft == 0 {
		c.ttft, c.ttftDev = v, v/2
		return
	}
	c.ttftDev += 0.05 * (math.Abs(v-c.ttft) - c.ttftDev)
	c.ttft += 0.02 * (v - c.ttft)
}

// expectedTTFT is what nine in ten requests do not exceed.
func (c *Controller) expectedTTFT() time.Duration {
	return time.Duration((c.ttft + 2*c.ttftDev) * float64(time.Second))
}
