package simulation

import (
	"math"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/types"
)

// ImageChat is people who show pictures to a model and talk about them. A session begins with the system
// prompt that all share, a picture and a question; each turn's prompt is the one before, what the model
// answered, perhaps another picture, and a question. A turn begins after a while of reading and thinking.
// Some pictures are popular: many sessions show them.
//
// What a session draws depends on the seed and its number alone.
type ImageChat struct {
	// Rate, CV and Vary are those of Arrivals, of sessions: default 1 per second, 1,
	// constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Turns is the mean of the turns after the first, which are exponential and
	// rounded, 0 to 10,000. Default 3; negative: none.
	Turns float64 `json:"turns,omitempty"`
	// MaxTurns is how many turns a session has at most. Default 12; at most 10,000.
	MaxTurns int `json:"max_turns,omitempty"`
	// MaxPrompt ends a session before a turn whose prompt would have more tokens.
	// Default 32,768.
	MaxPrompt int `json:"max_prompt,omitempty"`
	// SystemTokens is the length of the system prompt. Default 256.
	SystemTokens int `json:"system_tokens,omitempty"`
	// Pictures is the part of the turns after the first that bring one, 0 to 1. Default 0.4; negative: none.
	Pictures float64 `json:"pictures,omitempty"`
	// Repeat is the part of these that the session has shown before. Default 0.2; negative: none.
	Repeat float64 `json:"repeat,omitempty"`
	// MinPixels and MaxPixels bound the size of pictures; its logarithm is uniform. Default 200,704 (448 x 448)
	// and 3,211,264 (1792 x 1792); at most 16,777,216.
	MinPixels int `json:"min_pixels,omitempty"`
	MaxPixels int `json:"max_pixels,omitempty"`
	// Patch is the side of the square of pixels that becomes one token. Default 28; 1 to 256.
	Patch int `json:"patch,omitempty"`
	// Popular is how many popular pictures there are, shown by Zipf's law with exponent Skew, and PopularShare which
	// part of pictures is one of them. Default 100, 1 and 0.3; at most 100,000, 5 and 1; negative: 0.
	Popular      int     `json:"popular,omitempty"`
	Skew         float64 `json:"skew,omitempty"`
	PopularShare float64 `json:"popular_share,omitempty"`
	// Addresses is the part of the pictures that requests have by address, so that no gateway knows their sizes,
	// 0 to 1. Default 0.
	Addresses float64 `json:"addresses,omitempty"`
	// Question is the length of what people write. Default: lognormal, median 40, sigma 0.8.
	Question Length `json:"question,omitzero"`
	// Output is the length of what the model answers. Default: lognormal, median 120,
	// sigma 0.8.
	Output Length `json:"output,omitzero"`
	// Think is the median, in seconds, of the lognormal time between the end of a
	// turn and the next, and ThinkSigma its sigma. Default 8 and 1; at most 86,400
	// and 5; negative: none.
	Think      float64 `json:"think_s,omitempty"`
	ThinkSigma float64 `json:"think_sigma,omitempty"`
}

func (a ImageChat) arrivals() Arrivals { return Arrivals{withDefault(a.Rate, 1), a.CV, a.Vary} }

func (a ImageChat) withDefaults() ImageChat {
	a.Turns = max(0, withDefault(a.Turns, 3))
	a.MaxTurns = withDefault(a.MaxTurns, 12)
	a.MaxPrompt = withDefault(a.MaxPrompt, 32_768)
	a.SystemTokens = withDefault(a.SystemTokens, 256)
	a.Pictures = max(0, withDefault(a.Pictures, .4))
	a.Repeat = max(0, withDefault(a.Repeat, .2))
	a.MinPixels = withDefault(a.MinPixels, 448*448)
	a.MaxPixels = withDefault(a.MaxPixels, 1792*1792)
	a.Patch = withDefault(a.Patch, 28)
	a.Popular = withDefault(a.Popular, 100)
	a.Skew = max(0, withDefault(a.Skew, 1))
	a.PopularShare = max(0, withDefault(a.PopularShare, .3))
	a.Question = a.Question.or(Length{Kind: LengthLogNormal, Median: 40, Sigma: .8})
	a.Output = a.Output.or(Length{Kind: LengthLogNormal, Median: 120, Sigma: .8})
	a.Think = max(0, withDefault(a.Think, 8))
	a.ThinkSigma = max(0, withDefault(a.ThinkSigma, 1))
	return a
}

// Validate reports the first field that is out of its limits.
func (a ImageChat) Validate() error {
	a = a.withDefaults()
	c := checker{kind: "image-chat"}
	c.arrivals(a.arrivals())
	c.floatRange("turns", a.Turns, 0, 10_000)
	c.intRange("max_turns", a.MaxTurns, 1, 10_000)
	c.intRange("max_prompt", a.MaxPrompt, 1, maxTokens)
	c.intRange("system_tokens", a.SystemTokens, 1, maxTokens)
	c.floatRange("pictures", a.Pictures, 0, 1)
	c.floatRange("repeat", a.Repeat, 0, 1)
	c.intRange("max_pixels", a.MaxPixels, 1, 1<<24)
	c.intRange("min_pixels", a.MinPixels, 1, a.MaxPixels)
	c.intRange("patch", a.Patch, 1, 256)
	c.intRange("popular", a.Popular, 1, 100_000)
	c.floatRange("skew", a.Skew, 0, 5)
	c.floatRange("popular_share", a.PopularShare, 0, 1)
	c.floatRange("addresses", a.Addresses, 0, 1)
	c.length("question", a.Question)
	c.length("output", a.Output)
	c.floatRange("think_s", a.Think, 0, 86_400)
	c.floatRange("think_sigma", a.ThinkSigma, 0, 5)
	return c.err
}

// Start makes the stream of one run.
func (a ImageChat) Start(seed uint64) Source {
	if err := a.Validate(); err != nil {
		return broken{err}
	}
	a = a.withDefaults()
	return &showing{
		spec:     a,
		times:    a.arrivals().Times(seed),
		seed:     derive(uint64(newIDs(seed, "image-chat")), streamSession),
		popular:  zipf(a.Popular, a.Skew),
		system:   newIDs(seed, "image-chat/system"),
		pictures: newIDs(seed, "image-chat/popular"),
		question: a.Question.Sampler(),
		output:   a.Output.Sampler(),
	}
}

// MeanRate returns sessions per second, before Vary.
func (a ImageChat) MeanRate() float64 { return a.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many sessions per second.
func (a ImageChat) AtRate(rate float64) (Spec, error) { a.Rate = rate; return a, nil }

// showing is a run of ImageChat. What it knows of a session is in the Tag of the job under way, a turn.
type showing struct {
	spec             ImageChat
	times            *ArrivalTimes
	seed             uint64
	n                uint64 // sessions so far
	popular          popularity
	system, pictures idSpace
	question, output *LengthSampler
}

// The draws of a turn that has a picture, beside those of an agent's.
const (
	drawPicture uint64 = iota
	drawRepeat
	drawWhich
	drawPopular
	drawAddress
	drawPixels
	drawAspect
	pictureDraws
)

func (t turn) drawMedia(quantity uint64) float64 {
	return unitOf(derive(derive(t.session, streamMedia), uint64(t.number)*pictureDraws+quantity))
}

func (s *showing) Next() (Job, bool) {
	at, ok := s.times.Next()
	if !ok {
		return Job{}, false
	}
	t := turn{session: derive(s.seed, s.n)}
	s.n++
	more := math.Round(-s.spec.Turns * math.Log1p(-t.draw(drawTurns)))
	t.last = min(s.spec.MaxTurns-1, int(min(more, 1e6)))
	first := Job{
		Arrival: at, Session: "viewer-" + strconv.FormatUint(t.session, 36),
		Content: []Segment{{s.system.id(0), s.spec.SystemTokens}},
	}
	return s.turn(first, t, true), true
}

// turn completes a job whose content is what was before the turn.
func (s *showing) turn(j Job, t turn, picture bool) Job {
	if picture {
		m, tokens := s.picture(t, j.Media)
		j.Media = append(j.Media[:len(j.Media):len(j.Media)], m)
		j.Content = append(j.Content, Segment{m.ID, tokens})
	}
	j.Content = append(j.Content, Segment{t.ids().id(0), s.question.Quantile(t.draw(drawTask))})
	j.Output = s.output.Quantile(t.draw(drawOutput))
	if t.number < t.last {
		j.OutputID, j.Tag = t.ids().id(1), t
	}
	return j
}

// picture draws the picture of a turn, behind others that the session has shown.
func (s *showing) picture(t turn, before []Media) (Media, int) {
	if n := len(before); n > 0 && t.drawMedia(drawRepeat) < s.spec.Repeat {
		m := before[min(n-1, int(t.drawMedia(drawWhich)*float64(n)))]
		return m, s.tokens(&m)
	}
	m := Media{ID: t.ids().id(2), Kind: types.Image, Address: t.drawMedia(drawAddress) < s.spec.Addresses}
	size, aspect := t.drawMedia(drawPixels), t.drawMedia(drawAspect)
	if t.drawMedia(drawPopular) < s.spec.PopularShare {
		m.ID = s.pictures.id(uint64(s.popular.at(t.drawMedia(drawWhich))))
		size, aspect = unitOf(derive(m.ID, drawPixels)), unitOf(derive(m.ID, drawAspect))
		m.Address = unitOf(derive(m.ID, drawAddress)) < s.spec.Addresses
	}
	least, most := float64(s.spec.MinPixels), float64(s.spec.MaxPixels)
	pixels := least * math.Pow(most/least, size)
	aspects := [...]float64{1, 4. / 3, 3. / 4, 16. / 9}
	side := math.Sqrt(pixels * aspects[int(aspect*float64(len(aspects)))])
	m.Width, m.Height = max(1, int(math.Round(side))), max(1, int(math.Round(pixels/side)))
	return m, s.tokens(&m)
}

// tokens is how many a picture becomes: each side is rounded to whole patches, and cut if these are more
// than the largest picture has.
func (s *showing) tokens(m *Media) int {
	patches := func(side, up int) int { return max(1, (side+up)/s.spec.Patch) }
	most := max(1, s.spec.MaxPixels/(s.spec.Patch*s.spec.Patch))
	if n := patches(m.Width, s.spec.Patch/2) * patches(m.Height, s.spec.Patch/2); n <= most {
		return n
	}
	return patches(m.Width, 0) * patches(m.Height, 0)
}

// Done returns the next turn of the session.
func (s *showing) Done(j *Job, at time.Duration, served bool) (Job, bool) {
	t, ok := j.Tag.(turn)
	if !ok || !served {
		return Job{}, false
	}
	t.number++
	content := make([]Segment, 0, len(j.Content)+3)
	content = append(append(content, j.Content...), Segment{j.OutputID, j.Output})
	next := Job{Arrival: at + thinking(t, s.spec.Think, s.spec.ThinkSigma), Session: j.Session, Content: content, Media: j.Media}
	next = s.turn(next, t, t.drawMedia(drawPicture) < s.spec.Pictures)
	if next.Prompt() > s.spec.MaxPrompt {
		return Job{}, false
	}
	return next, true
}

var (
	_ RatedSpec = ImageChat{}
	_ Source    = (*showing)(nil)
)
