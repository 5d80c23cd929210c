package cost

import (
	"encoding/binary"
	"math"

	"github.com/inferpick/inferpick/internal/figures"
)

// This file is what was learned as bytes, for a process that begins where another one ended. Who reads them believes
// only what learning could have come to: the first error of the figures.Reader says what was not.

const (
	// mostFactor is an upper bound of factors that are believed of a snapshot, as leastFactor is a lower one of all.
	mostFactor = 1 / leastFactor
	// mostSquare is more than any sum of squares of rows comes to.
	mostSquare = fleetMemory * mostFactor * mostFactor
	// mostLate is a bound of how late a first token is believed to be, in seconds.
	mostLate = 3600
	// rounding is by which part sums may contradict each other.
	rounding = 1e-6
)

// Append appends what is believed of the fleet, and the sums that it comes from, but for what its servers have in
// common: that comes from the servers.
func (l *Learner) Append(dst []byte) []byte {
	dst = l.denoising.append(l.fleet.append(dst))
	dst = figures.AppendFloat(dst, l.late.value)
	return figures.AppendFloat(dst, l.late.spread)
}

func (f *Fleet) append(dst []byte) []byte {
	for i := range terms {
		for _, v := range f.a[i][:i+1] {
			dst = figures.AppendFloat(dst, v)
		}
	}
	for _, v := range f.b {
		dst = figures.AppendFloat(dst, v)
	}
	for _, v := range f.x {
		dst = figures.AppendFloat(dst, v)
	}
	for _, v := range []float64{f.c, f.left, f.seen} {
		dst = figures.AppendFloat(dst, v)
	}
	return dst
}

// ReadLearner reads what Append wrote, of a Learner that believed in the same start.
func ReadLearner(r *figures.Reader, start Rates) *Learner {
	l := NewLearner(start)
	l.fleet.read(r)
	l.denoising.read(r)
	l.late.value = r.Float("lateness", -mostLate, mostLate)
	l.late.spread = r.Float("spread of the lateness", 0, mostLate)
	return l
}

func (f *Fleet) read(r *figures.Reader) {
	for i := range terms {
		for j := range i + 1 {
			v := r.Float("sum of products of terms", 0, mostSquare)
			f.a[i][j], f.a[j][i] = v, v
		}
	}
	for i := range f.b {
		f.b[i] = r.Float("sum of products with the time", 0, mostSquare)
	}
	for i := range f.x {
		f.x[i] = r.Float("factor of a rate", 0, mostFactor)
	}
	f.c = r.Float("sum of squares of times", 0, (1+longer)*fleetMemory*(1+rounding))
	f.left = r.Float("part that is not explained", 0, 1)
	f.seen = r.Float("number of rows", 0, fleetMemory)
	if r.Err() == nil && !f.consistent() {
		r.Failf("has sums of rows that contradict each other, or its rates")
	}
}

// consistent reports whether the sums can be those of rows, and what follows from them with the prior is in the range
// of what is believed, as what was believed is.
func (f *Fleet) consistent() bool {
	var sums [terms + 1][terms + 1]float64
	for i := range terms {
		copy(sums[i][:], f.a[i][:])
		sums[i][terms], sums[terms][i] = f.b[i], f.b[i]
	}
	sums[terms][terms] = f.c
	if !semidefinite(sums) {
		return false
	}
	for _, x := range [][terms]float64{f.x, solve(f.withPrior())} {
		for i, v := range x {
			if !(v >= leastFactor || i == growth && v >= 0) || v > mostFactor {
				return false
			}
		}
	}
	return true
}

// semidefinite reports whether a matrix can be one of sums of products, but for rounding: by Cholesky's
// decomposition, with 1 in the diagonal.
func semidefinite(a [terms + 1][terms + 1]float64) bool {
	var l [terms + 1][terms + 1]float64
	for i := range a {
		for j := range i + 1 {
			scale := math.Sqrt(a[i][i]) * math.Sqrt(a[j][j])
			sum := 1.
			switch {
			case scale == 0 && a[i][j] != 0:
				return false
			case scale == 0:
				sum = 0
			case i != j:
				sum = a[i][j] / scale
			}
			for k := range j {
				sum -= l[i][k] * l[j][k]
			}
			switch {
			case i != j && l[j][j] > rounding:
				l[i][j] = sum / l[j][j]
			case i != j && math.Abs(sum) > math.Sqrt(rounding):
				return false
			case i == j && sum < -rounding:
				return false
			case i == j:
				l[i][i] = math.Sqrt(max(sum, 0))
			}
		}
	}
	return true
}

// Kept is what is kept of a server.
type Kept struct {
	start         Start
	learned       Learned
	denoising     Learned
	carried, mine float64
}

// Keep returns what is to be kept of s.
func (s *Server) Keep() Kept {
	k := Kept{start: s.start, learned: s.learned, carried: s.carried, mine: s.mine}
	if s.diffusion != nil {
		k.denoising = s.diffusion.learned
	}
	return k
}

// Resume takes over what was kept of s, of which the fleet knows by Learner.Expect, in place of what was learned. It
// reports false, and does nothing, if s is taken for another kind of server than it was then.
func (s *Server) Resume(k *Kept) bool {
	if math.Abs(s.start.Step-k.start.Step) > rounding || math.Abs(s.start.Token-k.start.Token) > rounding {
		return false
	}
	s.learned, s.carried, s.mine = k.learned, k.carried, k.mine
	if k.denoising.step.weight > 0 {
		s.diffuses().learned = k.denoising
	}
	return true
}

// Expect counts what was kept of a server in what the servers of the fleet have in common: it will be Resume'd, or
// Dismiss'ed.
func (l *Learner) Expect(k *Kept) {
	l.fleet.count(&k.learned, 1)
	l.denoising.count(&k.denoising, 1)
}

// Dismiss takes back Expect.
func (l *Learner) Dismiss(k *Kept) {
	l.fleet.count(&k.learned, -1)
	l.denoising.count(&k.denoising, -1)
}

// mostLogarithm bounds the logarithms of factors that are believed of a snapshot.
var mostLogarithm = math.Log(mostFactor)

// Append appends what is kept, as it is at now.
func (k *Kept) Append(dst []byte, now Seconds) []byte {
	for _, v := range []float64{k.start.Step, k.start.Token, k.carried, k.mine} {
		dst = figures.AppendFloat(dst, v)
	}
	return k.denoising.append(k.learned.append(dst, now), now)
}

func (s *Learned) append(dst []byte, now Seconds) []byte {
	for _, v := range []float64{float64(now) - s.seen, float64(now) - s.heard, s.fresh} {
		dst = figures.AppendFloat(dst, v)
	}
	for _, o := range []*offset{&s.step, &s.token, &s.told} {
		for _, v := range []float64{o.mean, o.spread, o.weight} {
			dst = figures.AppendFloat(dst, v)
		}
	}
	return dst
}

// KeptSize is how many bytes Kept.Append appends.
const KeptSize = (4 + 2*12) * 8

// ReadKept reads what Append wrote at a time that was then by the clock of this process.
func ReadKept(r *figures.Reader, then Seconds) (k Kept) {
	k.start.Step = r.Float("logarithm of what a step takes", -mostLogarithm, mostLogarithm)
	k.start.Token = r.Float("logarithm of what a token takes", -mostLogarithm, mostLogarithm)
	k.carried = r.Float("number of requests served together", 0, mostTokens)
	k.mine = r.Float("part of the requests", 0, 1)
	k.learned.read(r, then)
	k.denoising.read(r, then)
	k.denoising.slowly = true
	return k
}

func (s *Learned) read(r *figures.Reader, then Seconds) {
	const ever = 1e9 // seconds
	s.seen = float64(then) - r.Float("time since a server was compared", -ever, ever)
	s.heard = float64(then) - r.Float("time since a server was heard", -ever, ever)
	s.fresh = r.Float("part that is news", 0, 1)
	for _, o := range []*offset{&s.step, &s.token} {
		o.mean = r.Float("logarithm of a difference", -mostOff, mostOff)
		o.spread = r.Float("spread of a difference", 0, 4*mostOff*mostOff)
		o.weight = r.Float("weight of a difference", 0, serverMemory)
	}
	s.told.mean = r.Float("logarithm of what was told", -mostLogarithm, mostLogarithm)
	s.told.spread = r.Float("spread of what was told", 0, 0)
	s.told.weight = r.Float("weight of what was told", 0, 1)
}

// Append appends what is known.
func (o *Outputs) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, o.all.packed.Load())
	return appendMeans(appendMeans(dst, o.models[:]), o.pairs[:])
}

// appendMeans appends those of which something is known.
func appendMeans(dst []byte, table []mean) []byte {
	at := len(dst)
	dst = append(dst, 0, 0)
	n := 0
	for i := range table {
		if packed := table[i].packed.Load(); packed != 0 {
			dst = binary.BigEndian.AppendUint16(dst, uint16(i))
			dst = binary.BigEndian.AppendUint64(dst, packed)
			n++
		}
	}
	binary.BigEndian.PutUint16(dst[at:], uint16(n))
	return dst
}

// readMeans reads what appendMeans wrote.
func readMeans(r *figures.Reader, table []mean) {
	for range r.Uint16() {
		i := int(r.Uint16())
		if r.Err() != nil || i >= len(table) {
			r.Failf("has a mean at %d, want less than %d", i, len(table))
			return
		}
		table[i].read(r)
	}
}

// ReadOutputs reads what Append wrote.
func ReadOutputs(r *figures.Reader) *Outputs {
	o := new(Outputs)
	o.all.read(r)
	readMeans(r, o.models[:])
	readMeans(r, o.pairs[:])
	return o
}

func (m *mean) read(r *figures.Reader) {
	packed := r.Uint64()
	value, n := m.of(packed)
	if none := packed == 0; !none && !(value > 0 && value <= mostTokens && n > 0 && n <= outputMemory) {
		r.Failf("has %g as the mean of %g answers, want above 0 to %g, of at most %d", value, n, float64(mostTokens), outputMemory)
		return
	}
	m.packed.Store(packed)
}

func (u *Usual) all() [4]*means { return [...]*means{&u.passes, &u.latents, &u.output, &u.media} }

// Append appends what is known.
func (u *Usual) Append(dst []byte) []byte {
	for _, m := range u.all() {
		dst = appendMeans(binary.BigEndian.AppendUint64(dst, m.all.packed.Load()), m.models[:])
	}
	return dst
}

// ReadUsual reads what Append wrote.
func ReadUsual(r *figures.Reader) *Usual {
	u := new(Usual)
	for _, m := range u.all() {
		m.all.read(r)
		readMeans(r, m.models[:])
	}
	return u
}

// Take makes what is known to one what another knows.
func (u *Usual) Take(from *Usual) {
	others := from.all()
	for i, m := range u.all() {
		other := others[i]
		m.all.packed.Store(other.all.packed.Load())
		for k := range m.models {
			m.models[k].packed.Store(other.models[k].packed.Load())
		}
	}
}

// Take makes what is known to one what another knows.
func (o *Outputs) Take(from *Outputs) {
	o.all.packed.Store(from.all.packed.Load())
	for i := range o.models {
		o.models[i].packed.Store(from.models[i].packed.Load())
	}
	for i := range o.pairs {
		o.pairs[i].packed.Store(from.pairs[i].packed.Load())
	}
}

// Append appends what was learned.
func (h *Hops) Append(dst []byte) []byte {
	for i := range h.classes {
		c := &h.classes[i]
		for _, v := range []float64{c.n, c.tokens, c.squares, c.took, c.product, float64(c.now.Setup), float64(c.now.Token)} {
			dst = figures.AppendFloat(dst, v)
		}
	}
	return dst
}

// ReadHops reads what Append wrote, of so many classes.
func ReadHops(r *figures.Reader, classes int) *Hops {
	const most = hopMemory + 2*hopPrior
	h := &Hops{make([]hops, classes)}
	for i := range h.classes {
		c := &h.classes[i]
		c.n = r.Float("number of hand-overs", hopPrior, most)
		c.tokens = r.Float("tokens handed over", 0, most*mostTokens)
		c.squares = r.Float("squares of tokens handed over", 0, most*mostTokens*mostTokens)
		c.took = r.Float("time of hand-overs", 0, most*mostLate)
		c.product = r.Float("product of tokens and time of hand-overs", 0, most*mostTokens*mostLate)
		c.now.Setup = Seconds(r.Float("setup of a hand-over", 0, mostLate))
		c.now.Token = Seconds(r.Float("time of a hand-over by the token", 0, mostLate))
		if r.Err() == nil && !(c.tokens*c.tokens <= c.n*c.squares*(1+rounding)) {
			r.Failf("has sums of hand-overs that contradict each other")
		}
	}
	return h
}

// Append appends what was learned.
func (p *TierPrices) Append(dst []byte) []byte {
	for i := range p.learned {
		dst = figures.AppendFloat(dst, p.learned[i].Load())
	}
	return dst
}

// ReadTierPrices reads what Append wrote.
func ReadTierPrices(r *figures.Reader) *TierPrices {
	p := new(TierPrices)
	for i, start := range startPrice {
		p.learned[i].Store(r.Float("price of a tier", -start, mostPrice-start))
	}
	return p
}

// Take makes the prices those of another.
func (p *TierPrices) Take(from *TierPrices) {
	for i := range p.learned {
		p.learned[i].Store(from.learned[i].Load())
	}
}

// leastHead is what must be left of a prompt, as a part of one, for a beginning to be kept.
const leastHead = .02

// Append appends the beginnings that count.
func (h *Heads) Append(dst []byte) []byte {
	dst = figures.AppendFloat(dst, float64(h.one))
	dst = figures.AppendFloat(dst, float64(h.all))
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	n := uint32(0)
	for i, count := range h.counts {
		if count > leastHead*h.one {
			dst = binary.BigEndian.AppendUint16(dst, uint16(i))
			dst = binary.BigEndian.AppendUint32(dst, math.Float32bits(count))
			n++
		}
	}
	binary.BigEndian.PutUint32(dst[at:], n)
	return dst
}

// ReadHeads reads what Append wrote.
func ReadHeads(r *figures.Reader) *Heads {
	h := new(Heads)
	h.one = float32(r.Float("count of a prompt", 0, mostCount))
	h.all = float32(r.Float("count of all prompts", 0, 2*headMemory*mostCount))
	for range r.Uint32() {
		if r.Err() != nil {
			break
		}
		i, bits := r.Uint16(), r.Uint32()
		count := math.Float32frombits(bits)
		if !(count >= 0 && count <= float32(len(depths))*h.all) {
			r.Failf("has %g as the count of a beginning, of %g prompts", count, h.all)
			break
		}
		h.counts[i] = count
	}
	return h
}

// Append appends the rates.
func (r Rates) Append(dst []byte) []byte {
	for _, v := range []float64{r.Transport, r.Step, r.Growth, r.Token, r.Encode} {
		dst = figures.AppendFloat(dst, v)
	}
	return dst
}

// ReadRates reads what Append wrote.
func ReadRates(r *figures.Reader) Rates {
	return Rates{
		Transport: r.Float("time on the way", 0, mostLate), Step: r.Float("factor of a step", leastFactor, mostFactor),
		Growth: r.Float("growth of a step", 0, mostFactor), Token: r.Float("factor of a prompt token", leastFactor, mostFactor),
		Encode: r.Float("factor of encoding", leastFactor, mostFactor),
	}
}

// ReadContext reads the mean of Request.Context; 0: nothing was seen.
func ReadContext(r *figures.Reader) Tokens {
	return Tokens(r.Float("tokens of a request", 0, 2*mostTokens))
}
