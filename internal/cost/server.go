package cost

import "math"

// Server is by how much one server differs from the others of its fleet: as logarithms of
// factors, of a step, and of a prompt token beyond that. A server that is slow at the one is
// taken to be as slow at the other until it shows otherwise.
//
// Servers are alike until there is evidence that they are not: what differs by no more than
// chance and a crude model make it differ counts as nothing, else servers that are alike
// drift apart, and the one that seems the fastest gets everything. And evidence grows old: a
// server that seemed slow once is asked again. The zero value has seen nothing.
type Server struct {
	step, token  offset
	seen         float64 // when what was learned was last aged
	heard, fresh float64 // when something was learned last, and how much of it was news
}

// offset is a weighted mean of logarithms, and how much is to be made of it.
type offset struct {
	mean, spread float64 // spread: of the squares around it
	weight       float64
}

const (
	// serverMemory bounds the weight of what was seen of a server.
	serverMemory = 100
	// serverChance is the variance of one observation until it is known, and
	// serverDoubt what that counts as.
	serverChance = .3
	serverDoubt  = 3
	// modelError is by how much servers that are alike seem to differ because they are
	// loaded differently and the model is crude, at least, and crudeError how much more by
	// the part of the times that it does not explain.
	modelError = .05
	crudeError = .6
	// significant is how many standard deviations are evidence.
	significant = 2.5
	// serverAge is the time constant in seconds with which evidence loses its weight while
	// nothing is seen: an idle server is believed to be like the others after a few of them.
	serverAge = 120
	// What slows a server down does so for a moment as a rule: for as long as a request takes,
	// because those that were there together met the same, but for shortMoment at least, and
	// longMoment at most, in seconds: what lasts longer is worth knowing. All that is seen
	// within a moment is evidence of one thing; what comes at once counts as leastNews.
	shortMoment = .1
	longMoment  = 2
	leastNews   = .01
	// fleetKnown is after how many rows a fleet is known well enough to compare its servers.
	fleetKnown = 30
	// mostOff bounds an observation: a factor of 20.
	mostOff = 3
)

// Compare learns how s differs from a time that was exp(off) times as long as expected of it,
// of which the given parts, 0 to 1, were expected to be steps and prefill. It was that of a
// request, or of a part of one, that was there for so many seconds up to now. weight, 0 to 1,
// is how much it says. now is in seconds, of any clock that goes forward.
func (f *Fleet) Compare(s *Server, there, off, steps, prefill, weight, now float64) {
	if off != off || steps != steps || prefill != prefill || !(weight > 0) {
		return
	}
	weight *= f.confidence() * s.news(there, now)
	// Of all the ways to explain it, the one that changes the least.
	share := off / max(steps*steps+prefill*prefill, .05)
	step, token := f.Difference(s, now)
	f.Forget(s)
	s.age(now)
	s.step.add(step+steps*share, weight*steps*steps)
	s.token.add(token+prefill*share, weight*prefill*prefill)
	f.step.add(&s.step, 1)
	f.token.add(&s.token, 1)
}

// news is how much of what was seen in the seconds up to now was not seen before.
func (s *Server) news(seconds, now float64) float64 {
	if now != s.heard || s.fresh == 0 { // else it is of the same request
		s.fresh = min(max((now-s.heard)/min(max(seconds, shortMoment), longMoment), leastNews), 1)
		s.heard = now
	}
	return s.fresh
}

// Forget takes s out of what the servers of a fleet have in common: it has gone.
func (f *Fleet) Forget(s *Server) {
	f.step.add(&s.step, -1)
	f.token.add(&s.token, -1)
}

// common is the mean of what was learned of all servers, each by its weight.
type common struct{ sum, weight float64 }

func (c *common) add(o *offset, times float64) {
	c.sum += times * o.weight * o.mean
	c.weight += times * o.weight
}

func (c *common) mean() float64 {
	if c.weight < 1e-9 {
		return 0
	}
	return c.sum / c.weight
}

// Difference returns what is believed of s: the logarithms of the factors by which its steps
// take longer than those of others, and its prefills beyond that.
func (f *Fleet) Difference(s *Server, now float64) (step, token float64) {
	keep := 1.
	if now > s.seen {
		keep = math.Exp(-(now - s.seen) / serverAge)
	}
	wrong := modelError + crudeError*f.left
	return s.step.beyond(f.step.mean(), keep, wrong), s.token.beyond(f.token.mean(), keep, wrong)
}

// confidence is how far what is left of a time, after what is believed of the fleet, says
// something of a server: little while that changes with every answer.
func (f *Fleet) confidence() float64 { return min(f.seen/fleetKnown, 1) }

func (s *Server) age(now float64) {
	if now <= s.seen {
		return
	}
	keep := math.Exp(-(now - s.seen) / serverAge)
	s.step.weight *= keep
	s.token.weight *= keep
	s.seen = now
}

func (o *offset) add(v, weight float64) {
	if weight <= 0 {
		return
	}
	v = min(max(v, -mostOff), mostOff)
	o.weight = min(o.weight+weight, serverMemory)
	gain := min(weight/o.weight, 1)
	d := v - o.mean
	o.mean += gain * d
	o.spread += gain * ((1-gain)*d*d - o.spread)
}

// beyond is by how much the mean differs from that of all, as far as that is significant (the
// non-negative garrote: Breiman, Technometrics 37(4), 1995). keep is the part of the weight
// that age has left.
func (o *offset) beyond(all, keep, wrong float64) float64 {
	w, mean := o.weight*keep, o.mean-all
	if w <= 0 || mean == 0 {
		return 0
	}
	variance := (o.spread*w + serverChance*serverDoubt) / (w + serverDoubt)
	limit := significant * math.Sqrt(variance/w+wrong*wrong)
	return mean * max(1-limit*limit/(mean*mean), 0)
}
