package plugins

import (
	"fmt"
	"math"
	"strings"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/internal/mediaindex"
	"github.com/inferpick/inferpick/types"
)

// MediaOptions configure what is remembered of the pictures, sounds and films that endpoints have seen: one that comes
// again to where it was seen need not be encoded again.
type MediaOptions struct {
	// Entries bounds what is remembered: one for each of them and each endpoint that has seen it, of about 80 bytes;
	// the least recently used go first. Default 65,536.
	Entries int `json:"entries,omitempty"`
	// EndpointTokens is how many tokens of them an endpoint is assumed to keep encoded, those that were used last.
	// Default 16,384, about what engines keep unless they are told otherwise.
	EndpointTokens int `json:"endpointTokens,omitempty"`
}

// costedMedia is what Cost keeps with a request about the media in its prompt.
type costedMedia struct {
	keys   []uint64       // of the first ones
	tokens []int          // of these
	base   []cost.Seconds // of encoding these
	ends   []int          // where they end in the prompt, in bytes; the largest number: not known
	all    cost.Seconds   // of encoding all
	rest   cost.Seconds   // of encoding those beyond keys

	guessed cost.Tokens // of those of unknown size, as the request has them
	factor  float64     // by which these are expected to be more

	seen  []uint64 // which each endpoint has seen: see mediaindex.Index.Seen
	noted uint64   // those that the endpoint chosen last has seen by this request alone
}

// mediaOf returns what is kept about the media in a prompt for a model; nil: there are none.
func (c *Cost) mediaOf(p *types.Prompt, model uint64) *costedMedia {
	if len(p.Media) == 0 {
		return nil
	}
	n := min(len(p.Media), mediaindex.MaxMedia)
	m := &costedMedia{keys: make([]uint64, n), tokens: make([]int, n), base: make([]cost.Seconds, n), ends: make([]int, n), factor: 1}
	for i := range p.Media {
		if one := &p.Media[i]; one.Guessed {
			m.guessed += cost.Tokens(max(one.Tokens, 0))
		}
	}
	if m.guessed > 0 {
		m.factor = c.usual.Media(model)
	}
	for i := range p.Media {
		one := &p.Media[i]
		tokens := m.tokensOf(one)
		base := c.model.Engine.Encode(tokens)
		m.all += base
		if i >= n {
			m.rest += base
			continue
		}
		m.keys[i], m.tokens[i], m.base[i], m.ends[i] = one.Key, int(tokens), base, endOf(p, one.Span)
	}
	return m
}

// tokensOf returns how many tokens one of the media is expected to be.
func (m *costedMedia) tokensOf(one *types.Media) cost.Tokens {
	tokens := cost.Tokens(max(one.Tokens, 0))
	if one.Guessed {
		tokens = cost.Tokens(math.Round(float64(tokens) * m.factor))
	}
	return tokens
}

// more returns how many tokens the media of unknown size are expected to have beyond those that the request has. m may be
// nil.
func (m *costedMedia) more() cost.Tokens {
	if m == nil {
		return 0
	}
	return cost.Tokens(math.Round(float64(m.guessed) * (m.factor - 1)))
}

// learnMedia learns from a served request how many tokens its media of unknown size were.
func (c *Cost) learnMedia(req *types.Request, r *costed, u *types.Usage) {
	if prompt, ok := u.PromptTokens.Value(); ok && r.media != nil && r.media.guessed > 0 {
		c.usual.AddMedia(r.model, r.media.guessed, cost.Tokens(req.Prompt.Tokens)-r.media.guessed, cost.Tokens(prompt))
	}
}

// endOf returns where a span ends in the prompt, in bytes of the prompt's spans up to there; the largest number: it is
// not in them.
func endOf(p *types.Prompt, of types.Span) (end int) {
	end = math.MaxInt
	if of.End <= of.Start {
		return end
	}
	before := 0
	for _, s := range p.Spans {
		if of.Start < s.End && s.Start < of.End {
			end = before + min(of.End, s.End) - s.Start
		}
		before += s.End - s.Start
	}
	return end
}

// left returns the base seconds of encoding what is left at an endpoint, by its place in the index of media: what it
// has not seen, and what is not in the part of the prompt that it has cached, of so many bytes.
func (m *costedMedia) left(place *costCell, cached int) (base cost.Seconds) {
	base = m.rest
	seen := m.seenAt(place)
	for i, s := range m.base {
		if seen&(1<<i) == 0 && m.ends[i] > cached {
			base += s
		}
	}
	return base
}

// seenAt returns which media an endpoint has seen.
func (m *costedMedia) seenAt(cell *costCell) uint64 {
	if slot := int(cell.media.Load()) - 1; slot >= 0 && slot < len(m.seen) {
		return m.seen[slot]
	}
	return 0
}

// askMedia fills in what a question is about the media of a request.
func (c *Cost) askMedia(r *costed, a *question, seen []costSeen, rates *cost.Rates) {
	q, m := &a.query, r.media
	m.seen = c.media.Seen(m.keys, m.seen)
	q.Encode, q.LeastEncode = m.all, m.all
	q.PerEncode = rates.Encode / (c.model.Engine.Token * rates.Token)
	for k := range seen {
		if s := &seen[k]; s.cell != nil {
			q.LeastEncode = min(q.LeastEncode, m.left(s.cell, c.bytesOf(s.blocks)))
		}
	}
}

// bytesOf is how many bytes of a prompt so many blocks are.
func (c *Cost) bytesOf(blocks cost.Blocks) int {
	return int(blocks) * c.prefix.index.Options().BlockBytes
}

// seesMedia notes that an endpoint will have seen the media of a request, and returns the base seconds of encoding those
// that it has not. Caller must hold s.mu.
func (c *Cost) seesMedia(r *costed, s *costServer, at *recorded) cost.Seconds {
	m := r.media
	if m == nil {
		return 0
	}
	m.noted = 0
	m.seen = c.media.Seen(m.keys, m.seen)
	left := m.left(s.cell, c.bytesOf(cost.Blocks(at.before)))
	if s.gone {
		return left
	}
	if s.cell.media.Load() == 0 {
		s.cell.media.Store(int32(c.media.Add()) + 1)
	}
	slot := int(s.cell.media.Load()) - 1
	for i, key := range m.keys {
		if key != 0 && !c.media.Sees(slot, key, m.tokens[i]) {
			m.noted |= 1 << i
		}
	}
	return left
}

// unseeMedia takes that back, of a request that came to nothing. Caller must hold s.mu.
func (c *Cost) unseeMedia(r *costed, s *costServer) {
	if r.media == nil || r.media.noted == 0 {
		return
	}
	for i, key := range r.media.keys {
		if r.media.noted&(1<<i) != 0 {
			c.media.Forget(int(s.cell.media.Load())-1, key)
		}
	}
	r.media.noted = 0
}

// forgetMedia forgets what an endpoint has seen: it has gone. Caller must hold s.mu.
func (c *Cost) forgetMedia(s *costServer) {
	if slot := s.cell.media.Swap(0); slot != 0 {
		c.media.Remove(int(slot) - 1)
	}
}

// describeMedia is costedMedia.describe; nothing where there are none.
func (r *costed) describeMedia(p *types.Prompt, cell *costCell, cached int) string {
	if r.media == nil {
		return ""
	}
	return r.media.describe(p, cell, cached)
}

// describe says what is encoded at an endpoint, for people.
func (m *costedMedia) describe(p *types.Prompt, cell *costCell, cached int) string {
	var kinds [types.OtherMedia + 1]int
	tokens, guessed := 0, 0
	for i := range p.Media {
		one := &p.Media[i]
		kinds[min(one.Kind, types.OtherMedia)]++
		tokens += int(m.tokensOf(one))
		if one.Guessed {
			guessed++
		}
	}
	kinds[types.OtherMedia] += kinds[0]
	var b strings.Builder
	for _, kind := range []types.MediaKind{types.Image, types.Audio, types.Video, types.OtherMedia} {
		if n := kinds[kind]; n > 0 {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			b.WriteString(several(n, mediaNames[kind]))
		}
	}
	fmt.Fprintf(&b, " of %d tokens", tokens)
	seen, inPrefix := m.seenAt(cell), 0
	before := 0
	for i := range m.keys {
		switch {
		case m.ends[i] <= cached:
			inPrefix++
		case seen&(1<<i) != 0:
			before++
		}
	}
	if inPrefix > 0 {
		fmt.Fprintf(&b, ", %d in what is cached", inPrefix)
	}
	if before > 0 {
		fmt.Fprintf(&b, ", %d seen there before", before)
	}
	if guessed > 0 {
		fmt.Fprintf(&b, ", %d of unknown size", guessed)
	}
	return b.String()
}

var mediaNames = [...]string{types.Image: "image", types.Audio: "sound", types.Video: "film", types.OtherMedia: "other medium"}

// several says how many there are of what has a name.
func several(n int, name string) string {
	if n != 1 {
		if strings.HasSuffix(name, "medium") {
			name = strings.TrimSuffix(name, "um") + "a"
		} else {
			name += "s"
		}
	}
	return fmt.Sprintf("%d %s", n, name)
}
