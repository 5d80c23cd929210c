package admission

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// finish ends a ticket that was let in.
func (c *Controller) finish(t *Ticket, out *types.Outcome) {
	c.landed(t)
	t.unlist()
	if x := c.cellAt(t); x != nil {
		x.since.Finished++
	}
	t.unsilence()
	t.at = nil
	if t.inGroup.of != nil {
		c.booked.remove(&t.inGroup)
	}
	t.state = ended
	t.revoke = nil
	b, f := t.band, t.flow
	b.open--
	f.inFlight--
	c.correct(t, out)
	b.rest(f, c.now)
	if c.o.Hooks.Finished != nil {
		c.events = append(c.events, event{kind: toldFinished, t: t, out: *out})
	}
	t.ep = nil
}

// enterCell notes that a ticket is booked at an endpoint. Its first token will be seen if
// the answer is streamed; else it is presumed.
func (c *Controller) enterCell(t *Ticket, x *cell) {
	t.at = x
	if !t.req.Stream {
		x.silent.push(t, &t.inShare)
		c.mayChange(x)
	}
	if c.detector.served != nil {
		x.measure(c.now)
		t.area = x.area
	}
}

// whatItShows is what the end of a ticket shows of the endpoint it was booked at.
func (c *Controller) whatItShows(t *Ticket, out *types.Outcome) (n news) {
	if t.at == nil || c.detector.served == nil {
		return n
	}
	t.at.measure(c.now)
	if !out.Busy() && !out.Served() {
		return n // of one that failed, or was given up, the time says nothing
	}
	n.ended = true
	n.served = Served{Ended: true, Busy: out.Busy(), At: c.date(), Took: c.now - t.bookedAt, Ahead: t.ahead, With: t.with}
	if took := n.served.Took.Seconds(); took > 0 {
		n.served.With = min(n.served.With, (t.at.area-t.area)/took)
	}
	n.served.Prompt = out.Usage.PromptTokens.Or(float64(t.req.Prompt.Tokens))
	n.served.Output = out.Usage.CompletionTokens.Or(max(t.output, float64(out.Tokens)))
	return n
}

// unsilence takes a ticket off those whose first token is not seen.
func (t *Ticket) unsilence() {
	switch {
	case t.presumed:
		t.at.presumed--
		t.presumed = false
	case t.at != nil && t.inShare.of != nil:
		t.at.silent.remove(&t.inShare)
	}
}

// cellAt returns the cell of the endpoint that a ticket is booked at, nil if that is not in
// the pool.
func (c *Controller) cellAt(t *Ticket) *cell {
	if t.at != nil && t.at.member {
		return t.at
	}
	return c.cellOf(t.ep)
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
