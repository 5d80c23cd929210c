package fair

// Estimate works out what an item will be charged: by the outputs of its tenant's requests
// of late, but for a limit of its own, 0 for none.
func (q *Queues) Estimate(it *Item, prompt, maxOutput int) {
	output := it.flow.output
	if output == 0 {
		output = q.output
	}
	if output == 0 {
		output = q.c.OutputTokens
	}
	if maxOutput > 0 {
		output = min(output, float64(maxOutput))
	}
	it.Output = output
	it.Charge = q.charge(float64(prompt), output)
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
