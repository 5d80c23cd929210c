package cost

import (
	"math"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/types"
)

// Server is the state of one server: this process's own requests there, what the engine
// reported beyond them, how fast it is, and when its steps end. It is guarded by its owner's
// lock. Make it with NewServer.
type Server struct {
	reported
	Adapters Adapters

	// Own requests.
	requests   int
	prefilling int                // of these, without a first token
	waiting    list.List[Request] // those, oldest first
	queued     Tokens             // that they have to compute
	owed       float64            // the same in base seconds
	context    Tokens             // of all of them, at half of their output
	computed   Tokens             // that take up KV cache of their own
	encodes    float64            // base seconds of encoding in owed
	filling    Seconds            // when the last prefill ended, or after a pause the next was sent
	paused     bool               // it is the latter
	diffusion  *diffusion         // what is to be denoised; nil: nothing ever was

	told     Peers   // what other gateways have there, as they say
	peers    Peers   // the same, averaged over a moment
	averaged Seconds // when that was

	// The rhythm of its steps.
	stepEnds Seconds // when the one under way is believed to end
	pending  Seconds // of prefill that go into the next one
	joining  int     // requests of which that is

	// How fast it is.
	start   Start
	learned Learned
	done    float64 // base seconds of prefill so far
	encoded float64 // of these, base seconds of encoding
	sent    Fading  // base seconds of prefill

	// What follows from all that: see Derive.
	longer     Start   // how much longer it takes than the others, as Start has it
	believed   float64 // how far the reading is, 0 to 1
	foreign    float64 // requests of others, as far as that
	decoding   float64 // sequences, those of others included
	baseStep   float64 // base seconds of a step that only decodes
	step       float64 // seconds of it
	mine       float64 // part of the requests there that are this process's, averaged
	carried    float64 // the most requests of late of which it is known that they were served together
	token      float64 // seconds of prefill for one token
	stalled    float64 // part of the time in which those that decode wait for prefills
	outputCost float64 // weighted seconds that one more token of output costs here
	perContext float64 // the same for each token of the request's own context
	perClaim   float64 // by how much outputCost grows with one more request, without crowded
	kv         float64 // part of the KV cache that is believed to be in use
}

// Start is what a server is taken for when it is met, as logarithms of how much longer it
// takes than servers do on average: for a step, and for a prompt token beyond that.
type Start struct{ Step, Token float64 }

// NewServer returns a server that nothing is known of.
func NewServer(start Start) *Server { return &Server{start: start, stepEnds: Seconds(math.Inf(-1))} }

// View is what the servers of a fleet have in common, at one time.
type View struct {
	Rates    Rates
	Common   Common
	Late     Seconds // that first tokens take longer than the model has it
	Foreign  float64 // requests of others at all servers, as far as they are believed in
	Believed float64 // servers, as far as their readings are
	Peers    float64 // how far to follow what peers tell: Witness.Peers
	Context  Tokens  // of a request in the mean, at half of its output

	// Diffusion is how long diffusion models take; nil: none is known of.
	Diffusion *Diffusing
}

// difference is what is believed of it: what it was taken for when it was met, and what was
// learned since, as logarithms of how much longer it takes than servers do on average.
func (s *Server) difference(c Common, now Seconds) (step, token float64) {
	step, token = s.learned.Difference(c, float64(now))
	return s.start.Step + step, s.start.Token + token
}

// Requests returns how many own requests are there, and how many of them wait for a first
// token.
func (s *Server) Requests() (n, prefilling int) { return s.requests, s.prefilling }

// Trusted works out anew how far its reading is to be trusted, and returns by how much that
// changes View.Foreign and View.Believed.
func (s *Server) Trusted(now Seconds) (foreign, believed float64) {
	wasForeign, wasBelieved := s.foreign, s.believed
	s.believed, s.foreign = 0, 0
	if s.known {
		s.believed = trust(s.age(now))
		s.foreign = s.believed * max(s.raw, 0)
	}
	return s.foreign - wasForeign, s.believed - wasBelieved
}

// Trust returns what it is a part of View.Foreign and View.Believed.
func (s *Server) Trust() (foreign, believed float64) { return s.foreign, s.believed }

// Peers is what other gateways say that they have at a server. What they have to compute there is not in it: it is
// computed before their word comes.
type Peers struct {
	Requests, Prefilling float64 // Prefilling: of the requests, those without a first token
	Context              Tokens
	Denoise              float64 // tokens of latents times passes
}

// times returns a part of p.
func (p Peers) times(part float64) Peers {
	return Peers{p.Requests * part, p.Prefilling * part, p.Context * Tokens(part), p.Denoise * part}
}

// peersThere returns what is believed of what peers have there: by their word, as far as that is to be followed,
// and otherwise by readings, which may know of more.
func (s *Server) peersThere(v *View) (peers Peers, more float64) {
	doubt := (1 - v.Peers) * s.believed
	if doubt <= 0 || s.peers == (Peers{}) {
		return s.peers, 0
	}
	read := max(max(s.all, 0)-max(s.raw, 0), 0)
	if read >= s.peers.Requests {
		return s.peers, doubt * (read - s.peers.Requests)
	}
	return s.peers.times(1 - doubt*(1-read/s.peers.Requests)), 0
}

// SetPeers takes over what other gateways have there, and returns by how many requests that is more than before.
// Derive is to be called after it.
func (s *Server) SetPeers(p Peers) (more float64) {
	more = p.Requests - s.told.Requests
	s.told = p
	return more
}

// averagePeers has what peers say count up to now. What they tell is a moment old, so that what it was before says
// as much of what it is; and gateways that all follow the last word at once go to the same server.
func (s *Server) averagePeers(now Seconds) {
	if s.peers == s.told {
		s.averaged = now
		return
	}
	gain := 1 - math.Exp(-max(float64(now-s.averaged), 0)/peersMoment)
	s.averaged = max(s.averaged, now)
	if gain > .99 {
		s.peers = s.told
		return
	}
	s.peers.Requests += gain * (s.told.Requests - s.peers.Requests)
	s.peers.Prefilling += gain * (s.told.Prefilling - s.peers.Prefilling)
	s.peers.Context += Tokens(gain) * (s.told.Context - s.peers.Context)
	s.peers.Denoise += gain * (s.told.Denoise - s.peers.Denoise)
}

// Derive works out what follows from the state, after anything has changed. ledger is how many
// requests all of this process has there: other Schedulers book in the same.
func (s *Server) Derive(m *Model, v *View, ledger float64, now Seconds) {
	e := m.Engine.at(v.Rates)
	s.averagePeers(now)
	foreign := s.foreign
	// Where nothing is known there are as many as elsewhere.
	if s.believed < 1 && v.Believed > leastBelieved {
		foreign += (1 - s.believed) * v.Foreign / v.Believed
	}
	foreign += max(ledger-float64(s.requests), 0)
	peers, more := s.peersThere(v)
	foreign += more
	own := float64(s.requests)
	if s.diffusion != nil {
		own -= float64(s.diffusion.n) // they are no sequences
	}
	n := own + foreign + peers.Requests
	reading := float64(s.context) + foreign*float64(v.Context) + float64(peers.Context)
	s.decoding = max(n-float64(s.prefilling)-peers.Prefilling, 0)
	step, token := s.difference(v.Common, now)
	s.longer = Start{step, token}
	slower := math.Exp(step)
	f, grown := v.Rates.Step*slower, v.Rates.Growth*slower*m.grown(1)
	growing := f*(e.Sequence*n+e.Context*reading) + grown*n
	s.perClaim = (m.Output + 1) * (f*(e.Sequence+e.Context*float64(v.Context)) + grown)
	s.baseStep = e.Step + e.Sequence*s.decoding + e.Context*reading*s.decoding/max(n, 1)
	s.step = f*s.baseStep + grown*s.decoding
	s.token = e.Token * v.Rates.Token * slower * math.Exp(token)
	s.stalled = s.stalls(m, now)
	s.outputCost = m.Output*(f*(e.Step+e.Sequence)+grown+growing)/(1-s.stalled) + growing
	s.perContext = f * m.Output * e.Context
	s.outputCost += s.crowded(m, own)
	if n > 0 {
		s.mine += mineGain * (own/n - s.mine)
	}
	s.kv = 0
	if kvTokens := s.last.KVTokens; kvTokens > 0 {
		s.kv = float64(s.computed+peers.Context) / kvTokens
		if k, ok := s.last.KVUsage.Value(); ok && s.believed > 0 {
			s.kv = k*s.stay() + float64(s.since)/kvTokens
		}
	}
	s.deriveDiffusion(m, v, peers.Denoise, foreign, now)
}

// stalls returns the part of the time in which prefills of this process's requests hold up what
// decodes, as it was of late. Those of others are left out: from the few requests that one of many
// gateways has at a server they cannot be told.
func (s *Server) stalls(m *Model, now Seconds) float64 {
	return min(s.sent.PerSecond(now)*s.token/m.Engine.Token, mostStalls)
}

// Figures returns what decisions look at.
func (s *Server) Figures() Figures {
	f := Figures{
		StepEnds: s.stepEnds, Pending: float32(s.pending), Queued: float32(s.queued),
		Step: float32(s.step), Token: float32(s.token), Decoding: float32(s.decoding),
		OutputCost: float32(s.outputCost), PerContext: float32(s.perContext),
		KV: float32(s.kv), Mine: float32(s.mine), Joining: float32(s.joining), Stalled: float32(s.stalled),
	}
	if s.last.KVTokens > 0 {
		f.PerKV = float32(1 / s.last.KVTokens)
	}
	return f
}

// crowded is what outputCost is more for the wait of a request beyond those that s carries,
// where so many were sent.
func (s *Server) crowded(m *Model, sent float64) float64 {
	most := carriedMore * max(s.carried, leastCarried)
	if sent < most {
		return 0
	}
	return m.Output * s.step * (sent + 1 - most) / most
}

// Served is told that a request was answered as it should be, before it is removed.
func (s *Server) Served(r *Request) {
	r.served = true
	if r.Kind != types.Denoises {
		s.carry(r.crowd + 1)
	}
}

// carry is told of so many requests that are, or were, served together.
func (s *Server) carry(requests float64) {
	s.carried = max(s.carried-(s.carried-float64(s.requests))/carriedMemory, requests)
}

// ClaimedBy returns what so many decisions under way add.
func (s *Server) ClaimedBy(m *Model, requests float64) Claimed {
	sent := float64(s.requests)
	return Claimed{requests, requests*s.perClaim + s.crowded(m, sent+requests) - s.crowded(m, sent)}
}

// Add enters a request that is sent now and of which hit tokens are cached there. Derive is to
// be called after it.
func (s *Server) Add(r *Request, hit Tokens, m *Model, v *View, now Seconds) {
	s.expire(now)
	r.sent, r.begun = now, false
	if s.diffusion != nil {
		s.diffusion.came(r.Kind == types.Denoises)
	}
	if r.Kind == types.Denoises {
		s.addDenoise(r, v, now)
		return
	}
	r.fills = max(r.Prompt-hit, 1)
	r.compute = r.fills
	if r.Apart {
		r.compute = 1
	}
	r.perEncode = v.Rates.Encode / v.Rates.Token
	r.base = float64(m.Engine.prefill(m.Engine.Token, r.Prompt, r.compute, r.Items)) + float64(r.Encode)*r.perEncode
	r.work = Seconds(r.base * s.token / m.Engine.Token)
	transport := Seconds(v.Rates.Transport)
	at := now + transport
	w, beside := until(float64(at), float64(s.stepEnds), float64(s.pending), s.step, s.decoding)
	wait := Seconds(w)
	r.wait, r.steps = wait, 1+math.Floor(float64(s.queued+r.compute)/m.Engine.Batch)
	r.predicted = transport + wait + Seconds(beside) + Seconds(s.step*r.steps)
	r.late = v.Late
	r.predicted += r.late
	r.ahead, r.joined, r.behind, r.crowd = s.owed, beside*s.perSecond(m), float64(s.prefilling), float64(s.requests)
	r.encodes = s.encodes
	r.stepThen, r.beside, r.doneThen, r.encoded = s.baseStep, s.decoding, s.done, s.encoded
	if r.Kind == types.Pools {
		r.fills = 0
	}
	if s.waiting.Head == nil {
		s.filling, s.paused = now, true
	}
	r.filling, r.paused = s.filling, s.paused
	if !r.Apart { // else it is not known when it comes there
		if s.stepEnds <= at {
			s.stepEnds, s.pending, s.joining = at+wait, 0, 0
		}
		s.pending += r.work
		s.joining++
		s.sent.Add(r.base, now)
	}
	s.enqueue(r)
	s.requests++
	s.since += r.fills
	s.context += r.Context()
	s.computed += r.keeps()
}

// keeps is what r takes up of the KV cache that is not shared, at half of its output.
func (r *Request) keeps() Tokens {
	if r.Kind == types.Pools {
		return 0
	}
	return r.fills + r.Output/2
}

// enqueue puts r behind those that wait for their first token.
func (s *Server) enqueue(r *Request) {
	s.waiting.Push(r, &r.waiting)
	s.prefilling++
	s.queued += r.compute
	s.owed += r.base
	s.encodes += float64(r.Encode)
}

// perSecond is the base seconds of prefill in a second.
func (s *Server) perSecond(m *Model) float64 {
	if s.token > 0 {
		return m.Engine.Token / s.token
	}
	return 0
}

// First is told of the first token of a request. Derive and Began are to be called after it.
func (s *Server) First(r *Request, now Seconds) {
	r.begun, r.firstAt, r.firstAfter = true, now, now-r.sent
	s.prefilled(r, now)
	s.carry(float64(s.requests - s.prefilling))
}

// Began is told that the first token of r, which came now, is in what was derived.
func (s *Server) Began(r *Request, v *View, now Seconds) {
	s.StepEnded(v, now)
	r.stepThen, r.beside, r.doneThen, r.encoded = s.baseStep, s.decoding, s.done, s.encoded
}

// prefilled takes r out of those that wait for their first token.
func (s *Server) prefilled(r *Request, now Seconds) {
	if r.waiting.Of == nil {
		return
	}
	s.waiting.Remove(&r.waiting)
	s.filling, s.paused = now, false
	s.prefilling--
	s.queued -= r.compute
	s.owed -= r.base
	s.done += r.base
	s.encodes -= float64(r.Encode)
	s.encoded += float64(r.Encode)
	if s.prefilling == 0 {
		s.queued, s.owed, s.encodes = 0, 0, 0 // no dust of many additions
	}
}

// expire lets go of prefills that must be over by now although nobody saw a first
// token: a response that is not streamed shows none before its end.
func (s *Server) expire(now Seconds) {
	at := s.waiting.Head
	for n := 0; at != nil && n < manyPrefills; n++ {
		r := at.Of
		at = at.Next
		if !r.Streamed && r.Kind != types.Pools && now > r.sent+r.predicted+r.work {
			s.prefilled(r, now)
		}
	}
}

// Remove takes r off at its end. Derive is to be called after it, and then StepEnded if the
// server answered, or else Settle.
func (s *Server) Remove(r *Request, now Seconds) {
	s.expire(now)
	s.endsOne(now)
	s.requests--
	if r.Kind == types.Denoises {
		s.removeDenoise(r, now)
		return
	}
	s.prefilled(r, now)
	s.context -= r.Context()
	s.computed -= r.keeps()
	if s.requests == 0 {
		s.context, s.computed = 0, 0
	}
}

// Read takes over another reading. Trusted and Derive are to be called after it. What it returns is for Witness.
func (s *Server) Read(r Reading) (byPeers, byReadings float64, ok bool) { return s.read(r) }

// Facts are what explanations say of a server.
type Facts struct {
	Prefilling int
	Decoding   float64
	Step       Seconds // of one that only decodes
	Token      float64 // seconds of prefill for one
	KV         float64 // part of the KV cache in use
	KVKnown    bool

	StepFactor, TokenFactor float64 // by which it takes longer than the others
}

// Facts returns what was derived last.
func (s *Server) Facts() Facts {
	return Facts{
		s.prefilling, s.decoding, Seconds(s.step), s.token, s.kv, s.last.KVTokens > 0,
		math.Exp(s.longer.Step), math.Exp(s.longer.Step + s.longer.Token),
	}
}

// Speed returns how many seconds a prompt token takes, a step that serves nobody, and how much longer a step is for each
// request of mean length in it, by what was derived last.
func (s *Server) Speed(m *Model, v *View) (token, step, sequence float64) {
	own := math.Exp(s.longer.Step)
	e := m.Engine.at(v.Rates)
	sequence = own * (v.Rates.Step*(e.Sequence+e.Context*float64(v.Context)) + v.Rates.Growth*m.grown(1))
	return s.token, own * v.Rates.Step * e.Step, sequence
}

// AdapterDelay is Adapters.Delay for a request of so much output on a server with so many slots.
func (s *Server) AdapterDelay(m *Model, id AdapterID, slots float64, output Tokens, scarce float64) (Seconds, string) {
	return s.Adapters.Delay(m, id, int(min(slots, maxAdapterStates)), float64(output)*s.step, scarce)
}
