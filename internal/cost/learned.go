package cost

import "math"

// Learned is by how much one server differs from the others of its fleet: as logarithms of
// factors, of a step, and of a prompt token beyond that. A server that is slow at the one is
// taken to be as slow at the other until it shows otherwise.
//
// Servers are alike until there is evidence that they are not: what differs by no more than
// chance and a crude model make it differ counts as nothing, else servers that are alike
// drift apart, and the one that seems the fastest gets everything. And evidence grows old: a
// server that seemed slow once is asked again. The zero value has seen nothing.
type Learned struct {
	step, token  offset
	told         offset  // of a prompt token, as the server told it last; its weight is 0 or 1
	seen         float64 // when what was learned was last aged
	heard, fresh float64 // when something was learned last, and how much of it was news
	slowly       bool    // it is learned slowly, and grows old slowly
}

// fades is the time constant with which evidence about an idle server fades.
func (s *Learned) fades() float64 {
	if s.slowly {
		return slowAge
	}
	return serverAge
}

// offset is a weighted mean of logarithms, and how much is to be made of it.
type offset struct {
	mean, spread float64 // spread: of the squares around it
	weight       float64
}

// Compare learns how s differs from a time that was exp(off) times as long as expected of it,
// of which the given parts, 0 to 1, were expected to be steps and prefill. It was that of a
// request, or of a part of one, that was there for so many seconds up to now. weight, 0 to 1,
// is how much it says. now is in seconds, of any clock that goes forward.
func (f *Fleet) Compare(s *Learned, there, off, steps, prefill, weight, now float64) {
	if off != off || steps != steps || prefill != prefill || !(weight > 0) {
		return
	}
	weight *= f.confidence() * s.news(there, now)
	// Of all the ways to explain it, the one that changes the least.
	share := off / max(steps*steps+prefill*prefill, .05)
	step, token := s.Difference(f.Common(), now)
	f.Forget(s)
	s.age(now)
	s.step.add(step+steps*share, weight*steps*steps)
	s.token.add(token+prefill*share, weight*prefill*prefill)
	f.count(s, 1)
}

// news is how much of what was seen in the seconds up to now was not seen before.
func (s *Learned) news(seconds, now float64) float64 {
	if now != s.heard || s.fresh == 0 { // else it is of the same request
		s.fresh = min(max((now-s.heard)/min(max(seconds, shortMoment), longMoment), leastNews), 1)
		s.heard = now
	}
	return s.fresh
}

// Forget takes s out of what the servers of a fleet have in common: it has gone.
func (f *Fleet) Forget(s *Learned) { f.count(s, -1) }

// count adds s to what the servers of a fleet have in common so many times.
func (f *Fleet) count(s *Learned, times float64) {
	f.step.add(&s.step, times)
	f.token.add(&s.token, times)
	f.told.add(&s.told, times)
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

// Common is what the servers of a fleet have in common.
type Common struct {
	Step, Token float64 // mean of what was learned of them, as logarithms
	Left        float64 // part of the squares of times that is not explained, 0 to 1
}

// Common returns that of the fleet.
func (f *Fleet) Common() Common { return Common{f.step.mean(), f.token.mean(), f.left} }

// Difference returns what is believed of s: the logarithms of the factors by which its steps
// take longer than those of others, and its prefills beyond that.
func (s *Learned) Difference(c Common, now float64) (step, token float64) {
	keep := 1.
	if now > s.seen {
		keep = math.Exp(-(now - s.seen) / s.fades())
	}
	wrong := modelError + crudeError*c.Left
	return s.step.beyond(c.Step, keep, wrong), s.token.beyond(c.Token, keep, wrong)
}

// confidence is how far what is left of a time, after what is believed of the fleet, says
// something of a server: little while that changes with every answer.
func (f *Fleet) confidence() float64 { return min(f.seen/fleetKnown, 1) }

func (s *Learned) age(now float64) {
	if now <= s.seen {
		return
	}
	keep := math.Exp(-(now - s.seen) / s.fades())
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
// that age has left, and wrong a difference that the model makes by itself: it does not shrink with
// evidence as chance does, and counts once.
func (o *offset) beyond(all, keep, wrong float64) float64 {
	w, mean := o.weight*keep, o.mean-all
	if w <= 0 || mean == 0 {
		return 0
	}
	variance := (o.spread*w + serverChance*serverDoubt) / (w + serverDoubt)
	limit := math.Hypot(significant*math.Sqrt(variance/w), wrong)
	return mean * max(1-limit*limit/(mean*mean), 0)
}
