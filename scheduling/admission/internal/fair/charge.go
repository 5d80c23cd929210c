package fair

// Amount is how much an item asks for.
type Amount struct {
	Prompt    int     // tokens
	MaxOutput int     // a limit of its own on the tokens of output, 0: none
	Output    int     // that it lets expect itself, 0: it does not
	Silent    bool    // nothing is put out
	Beside    float64 // weighted tokens that are neither of the prompt nor of output
}

// Estimate works out what an item will be charged: by the outputs of its tenant's requests
// of late, unless it says itself how long they are, but for a limit of its own.
func (q *Queues) Estimate(it *Item, a Amount) {
	output := it.flow.output
	if output == 0 {
		output = q.output
	}
	if output == 0 {
		output = q.c.OutputTokens
	}
	if a.Output > 0 {
		output = float64(a.Output)
	}
	if a.MaxOutput > 0 {
		output = min(output, float64(a.MaxOutput))
	}
	if a.Silent {
		output = 0
	}
	it.Output, it.Beside = output, a.Beside
	it.Charge = q.charge(float64(a.Prompt), output) + a.Beside
}

// Learn takes note of how many tokens an item's output really had.
func (q *Queues) Learn(it *Item, output float64) {
	const rate = 0.05
	average(&it.flow.output, output, rate)
	average(&q.output, output, rate/5)
}

func (q *Queues) charge(prompt, output float64) float64 {
	return q.c.InputWeight*prompt + q.c.OutputWeight*output
}

func average(mean *float64, v, rate float64) {
	if *mean == 0 {
		*mean = v
	} else {
		*mean += rate * (v - *mean)
	}
}
