package cost

import "math"

// Model says what a request costs at a server. Everything in it is fixed.
type Model struct {
	Weights
	Engine Engine
}

// Weights are what a second counts for, and what else is a matter of choice: see
// plugins.CostOptions.
type Weights struct {
	FirstToken, Output     float64
	Recompute              float64
	LongPrefill, LongSteps float64
	Join                   float64
	KVPressure             float64
	AdapterSlot            float64
	AdapterLoad            float64
	Home, Lean             float64
	Price, PriceWithoutSLO float64
}

// Engine is how long a continuously batching engine takes: a step of n sequences with k tokens
// of context in all takes Step + n·Sequence + k·Context seconds, and every prompt token in it
// Token seconds more, times 1 + Attention·(tokens before it).
type Engine struct {
	Step, Sequence, Context float64
	Token, Attention        float64
	Batch                   float64 // most tokens in a step

	// Its encoder takes for one picture, sound or film EncodeItem, and for each of the tokens that come of it
	// EncodeToken·(1 + EncodeAttention·tokens) more.
	EncodeItem, EncodeToken, EncodeAttention float64
	// A diffusion model takes for each token of the latents and each pass DenoiseToken·(1 + DenoiseAttention·latents),
	// and Pixel for each pixel that is decoded at the end.
	DenoiseToken, DenoiseAttention float64
	Pixel                          float64
}

// at returns the engine of a fleet with these rates, but for the factors of steps and tokens
// themselves. By how much a step grows is not known of a fleet whose load is even. A machine that
// is slow takes longer for all; one that has a larger model on more of them takes longer for a step,
// which streams the weights, than for what the sequences in it need. How long it takes for prompt
// tokens tells the two apart: growth is taken to lie between, at the geometric mean.
func (e Engine) at(r Rates) Engine {
	between := math.Sqrt(r.Token / r.Step)
	e.Sequence *= between
	e.Context *= between
	return e
}

// Prefill is how long the engine takes to compute the last tokens of a prompt besides the
// step, where one token takes so many seconds.
func (e *Engine) Prefill(token float64, prompt, compute Tokens) Seconds {
	return Seconds(token * float64(compute) * (1 + e.Attention*float64(prompt-compute/2)))
}

// prefill is Prefill for a prompt of so many items that are computed apart from each other; 0: it is one.
func (e *Engine) prefill(token float64, prompt, compute Tokens, items float64) Seconds {
	if items > 1 {
		prompt /= Tokens(items)
		return Seconds(items) * e.Prefill(token, prompt, compute/Tokens(items))
	}
	return e.Prefill(token, prompt, compute)
}

// Encode is how long the engine takes to encode a picture, sound or film of so many tokens.
func (e *Engine) Encode(tokens Tokens) Seconds {
	t := float64(tokens)
	return Seconds(e.EncodeItem + e.EncodeToken*t*(1+e.EncodeAttention*t))
}

// Query is what a decision asks of all servers alike.
type Query struct {
	Prompt, Output Tokens  // Output is what is expected
	Items          float64 // above 0: the prompt is of so many items, computed apart from each other, and nothing of it stays
	PerBlock       Tokens  // in a block of the prompt
	Now            Seconds // when it is asked
	At             Seconds // when the request reaches an engine
	Way            Seconds // until then, and what first tokens take beyond all that is in the model

	Arriving float64 // requests of this process that come to a server in a second, in the mean of all

	// Of a prompt that is all there is to compute:
	Coming      float64 // requests of this process that come in a second to all servers
	Least, Next Seconds // the least wait at any server, and that at the next best; 0: not known

	Best   Tokens  // most tokens cached at one server, or expected at the home
	Peer   Tokens  // most tokens cached at one server, for others to pull; 0: none can
	Else   float64 // part of the prompt that is cached nowhere
	Share  float64 // 1/(1 + requests in flight that begin alike, for each copy)
	Scarce float64 // part of the servers whose adapter slots are full
	Home   Seconds // what it is worth to go to the prompt's home, weighted
	Lean   float64 // part of the cost of output by which a server that only this process uses is better
	Mine   float64 // part of the requests at the servers that are this process's

	Encode      Seconds // base seconds of encoding all of its media
	LeastEncode Seconds // of those that are left at the server that has seen the most of them
	PerEncode   float64 // a base second of encoding takes as long as so many of prefill, by Figures.Token in place of Engine.Token

	SLO       Targets
	EmptyStep float64 // seconds of a step that serves nobody
	Dearest   float64 // cost per hour
}

// Cached is how many tokens of the prompt so many blocks are: an engine always computes the last.
func (q *Query) Cached(held Blocks) Tokens {
	if held == 0 {
		return 0
	}
	return min(Tokens(held)*q.PerBlock, q.Prompt-1)
}

// Context is what the request holds in the KV cache, at half of its output.
func (q *Query) Context() Tokens { return q.Prompt + q.Output/2 }

// Place is what the query asks of one server beside its Figures.
type Place struct {
	Hit     Tokens  // cached there
	Claimed Claimed // by decisions under way
	Delay   Seconds // by the LoRA adapter
	Encode  Seconds // base seconds of encoding the media that it has not seen
	Backlog Seconds // until what is to be denoised there is done
	Denoise Seconds // of denoising what the request asks for
	Home    bool    // is it the prompt's
	Special bool    // it has terms that most do not have: see Model.special
	PerHour float64 // what it costs
}

// Claimed is what decisions under way add to a server.
type Claimed struct {
	Requests float64
	Output   float64 // to Figures.OutputCost
}

// Terms are what a request costs at one server.
type Terms struct {
	Wait    Seconds // until its prefill is computed; not weighted
	Prefill Seconds // of its own, media included; not weighted
	Encode  Seconds // the part of Prefill that encodes media; not weighted
	Denoise Seconds // of its own; not weighted
	Output  Seconds
	Disturb Seconds
	Join    Seconds
	KV      Seconds
	Adapter Seconds // by which its adapter delays it; not weighted
	Home    Seconds // below 0 at the prompt's home
	SLO     Seconds
	Price   Seconds

	First Seconds // until the first token, the adapter left out
	Late  float64 // part by which the SLO's targets are missed
}

// sum is what the terms come to, in weighted seconds.
func (m *Model) sum(t *Terms) Seconds {
	return Seconds(m.FirstToken)*(t.Wait+t.Prefill+t.Denoise) + t.Output + t.Disturb + t.Join + t.KV +
		Seconds(m.FirstToken)*t.Adapter + t.Home + t.SLO + t.Price
}

// Terms fills in t, and returns the sum of it in weighted seconds. Decisions, SLOs and
// explanations are all made of it. It must be quick: it runs for each server in each decision,
// so that what most of these do is inlined.
func (m *Model) Terms(q *Query, f *Figures, p *Place, t *Terms) Seconds {
	compute := q.Prompt - p.Hit
	if compute < 1 { // as everywhere here in place of max, which looks for NaN and -0
		compute = 1
	}
	own := m.Engine.Prefill(float64(f.Token), q.Prompt, compute)
	if q.Items > 0 {
		own = m.Engine.prefill(float64(f.Token), q.Prompt, compute, q.Items)
	}
	encode := Seconds(0)
	if p.Encode > 0 {
		encode = Seconds(float64(p.Encode) * q.PerEncode * float64(f.Token))
		own += encode
	}
	step, beside := until(float64(q.At), float64(f.StepEnds), float64(f.Pending), float64(f.Step), float64(f.Decoding))
	queued, joining := float64(f.Queued), f.JoinedAt(q.At)
	if p.Claimed.Requests > 0 {
		step, beside, queued = p.Claimed.before(q, f, compute, own, step)
		joining += p.Claimed.Requests
	}
	wait := m.wait(q, f, compute, step, beside, queued)
	output, disturb, kv := m.output(q, f, &p.Claimed), m.disturb(q, f, p.Hit, own), m.pressure(q, f, compute)
	join := Seconds(m.Join*m.FirstToken*(joining+q.Behind(f, wait))) * own
	if q.Items > 0 {
		kv = 0 // nothing of it stays
		_, held := q.HoldsUp(wait, own)
		join = Seconds(m.FirstToken) * held
	}
	wait += p.Backlog
	// Field by field: a whole one would be made elsewhere and copied.
	t.Wait, t.Prefill, t.Output, t.Disturb, t.Join, t.KV, t.First = wait, own, output, disturb, join, kv, wait+own
	t.Adapter, t.Home, t.SLO, t.Price, t.Late, t.Encode, t.Denoise = 0, 0, 0, 0, 0, encode, 0
	if p.Special {
		m.special(q, f, p, t)
		return m.sum(t)
	}
	return Seconds(m.FirstToken)*(wait+own) + output + disturb + join + kv
}

// wait is the time until the prefill of a request is computed, without that itself: the rest
// of the step under way, the prefills before it in the next one, and the step that it is in;
// the steps before that, where more is queued than one holds; and where the KV cache is full,
// the time until those that decode have ended and given back their part.
func (m *Model) wait(q *Query, f *Figures, compute Tokens, step, beside, queued float64) Seconds {
	decode := float64(f.Step)
	wait := step + (float64(q.Way) + beside + decode)
	if all := queued + float64(compute); all >= m.Engine.Batch {
		wait += decode * math.Floor(all/m.Engine.Batch)
	}
	if short := float64(f.KV) + float64(compute)*float64(f.PerKV) - 1; short > 0 && f.KV > 0 && f.PerKV > 0 {
		wait += min(short/float64(f.KV), 1) * float64(q.Output) * decode
	}
	return Seconds(wait)
}

// Behind is how many requests are expected behind one that waits so long for its prefill, while those
// before it are computed: what they wait for is longer by its prefill.
func (q *Query) Behind(f *Figures, wait Seconds) float64 {
	backlog := float64(wait-q.Way) - ownSteps*float64(f.Step)
	if backlog <= 0 {
		return 0
	}
	return q.Arriving * backlog
}

// HoldsUp is how many requests are held up by one that is only to be computed, where it waits so long and takes so long
// itself, and for how long in sum. Those that come go where they wait the least. So they are held up only where this one
// waits the least itself, and until another server is free: what is long is better off behind what is long than where
// all servers are taken by such (Harchol-Balter, Crovella and Murta, "On Choosing a Task Assignment Policy for a
// Distributed Server System", Journal of Parallel and Distributed Computing 59, 1999).
func (q *Query) HoldsUp(wait, own Seconds) (requests float64, sum Seconds) {
	free := q.Least
	if wait <= q.Least {
		free = q.Next
	}
	until := min(wait+own, free)
	if until <= wait {
		return 0, 0
	}
	return q.Coming * float64(until-wait), Seconds(q.Coming) * (until*until - wait*wait) / 2
}

// before is what until returns, and what is queued, if decisions under way were booked: as if
// Server.Add had been called for each, with the same prompt.
func (c *Claimed) before(q *Query, f *Figures, compute Tokens, own Seconds, wait float64) (step, beside, queued float64) {
	ends, pending := float64(f.StepEnds), float64(f.Pending)
	if ends <= float64(q.At) {
		ends, pending = float64(q.At)+wait, 0
	}
	step, beside = until(float64(q.At), ends, pending+c.Requests*float64(own), float64(f.Step), float64(f.Decoding))
	return step, beside, float64(f.Queued) + c.Requests*float64(compute)
}

// output is the time of the request's own output, and what that takes from the others there.
func (m *Model) output(q *Query, f *Figures, claimed *Claimed) Seconds {
	cost := float64(q.Output) * (float64(f.OutputCost) + claimed.Output + float64(f.PerContext)*float64(q.Context()))
	if q.Lean > 0 {
		cost *= 1 - q.Lean*(float64(f.Mine)-q.Mine)
	}
	return Seconds(cost)
}

// disturb is what its prefill takes from those that decode: as far as another server would
// have saved it, and as far as it is very long. What is saved of a prompt of which most must be
// computed anywhere is not worth waiting for. The more of the time prefills take already, the longer
// all that is there and comes meanwhile is held up.
func (m *Model) disturb(q *Query, f *Figures, hit Tokens, own Seconds) Seconds {
	decoding := float64(f.Decoding)
	recompute := m.Recompute * (1 - q.Else) / (1 - float64(f.Stalled))
	cost := decoding * recompute * q.Share * float64(f.Token) * float64(q.Best-hit)
	if long := float64(own) - m.LongSteps*float64(f.Step); long > 0 {
		cost += decoding * m.LongPrefill * long
	}
	return Seconds(cost)
}

// pressure is by how much the cost of a full KV cache grows with what the request adds to it. What
// is cached is shared, and adds nothing: where memory is short, that is what it is worth.
func (m *Model) pressure(q *Query, f *Figures, compute Tokens) Seconds {
	perKV := float64(f.PerKV)
	if perKV <= 0 {
		return 0
	}
	k := float64(f.KV)
	return Seconds(m.KVPressure * (full(k+float64(compute+q.Output)*perKV) - full(k)))
}

// full is the cost of a KV cache of which a part k is in use: k/(1-k), and beyond mostKV a line.
func full(k float64) float64 {
	if k > mostKV {
		return mostKV/(1-mostKV) + (k-mostKV)/((1-mostKV)*(1-mostKV))
	}
	return k / (1 - k)
}

// reencode is what encoding media takes from those that decode there, as far as another server has seen them:
// as disturb has it for the prompt.
func (m *Model) reencode(q *Query, f *Figures, p *Place) Seconds {
	avoidable := p.Encode - q.LeastEncode
	if avoidable <= 0 || q.Encode <= 0 {
		return 0
	}
	seen := 1 - float64(q.LeastEncode/q.Encode)
	return Seconds(float64(f.Decoding)*m.Recompute*seen/(1-float64(f.Stalled))*q.PerEncode*float64(f.Token)) * avoidable
}

// special adds the terms that most requests do not have.
func (m *Model) special(q *Query, f *Figures, p *Place, t *Terms) {
	if t.Encode > 0 {
		t.Disturb += m.reencode(q, f, p)
	}
	t.Adapter = p.Delay
	if p.Home {
		t.Home = -q.Home
	}
	if q.SLO == (Targets{}) {
		t.Price = price(m.PriceWithoutSLO, q, p)
		return
	}
	m.slo(q, f, t)
	t.Price = price(m.Price, q, p)
	if t.Late > 0 {
		t.Price = Seconds(m.Price) // it is no bargain
	}
}

// price is what the server's price is worth, as a part of the dearest.
func price(weight float64, q *Query, p *Place) Seconds {
	if q.Dearest <= 0 {
		return 0
	}
	return Seconds(weight * p.PerHour / q.Dearest)
}
