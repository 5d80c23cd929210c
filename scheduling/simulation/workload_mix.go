package simulation

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

// Mix is several workloads at once, each as if it were alone: their jobs are
// merged by arrival, and nothing of their content is in common.
type Mix struct {
	// Parts are the workloads, 1 to 64, each with its own rate.
	Parts []Spec
}

const maxParts = 64

// Validate reports what is wrong with the parts.
func (m Mix) Validate() error {
	c := checker{kind: "mix"}
	c.intRange("number of parts", len(m.Parts), 1, maxParts)
	if c.err != nil {
		return c.err
	}
	for i, p := range m.Parts {
		c.nested(fmt.Sprintf("parts[%d]", i), p)
	}
	return c.err
}

// Start makes the stream of one run.
func (m Mix) Start(seed uint64) Source {
	if err := m.Validate(); err != nil {
		return broken{err}
	}
	s := &mixed{}
	for i, p := range m.Parts {
		part := &mixedPart{Source: p.Start(derive(derive(seed, streamPart), uint64(i)))}
		part.head, part.more = part.Next()
		s.parts = append(s.parts, part)
	}
	return s
}

// MeanRate returns the sum of the parts' rates, or 0 if that of one is unknown.
func (m Mix) MeanRate() float64 {
	sum := 0.0
	for _, p := range m.Parts {
		r := Rate(p)
		if r == 0 {
			return 0
		}
		sum += r
	}
	return sum
}

// AtRate returns the same mix with all parts faster or slower by the same factor,
// so that their rates add up to rate.
func (m Mix) AtRate(rate float64) (Spec, error) {
	now := m.MeanRate()
	if now == 0 {
		return nil, fmt.Errorf("%w: a part of the mix does not know its rate", ErrNoRate)
	}
	next := Mix{Parts: make([]Spec, len(m.Parts))}
	for i, p := range m.Parts {
		part, err := WithRate(p, Rate(p)*rate/now)
		if err != nil {
			return nil, fmt.Errorf("simulation: mix: parts[%d]: %w", i, inner(err))
		}
		next.Parts[i] = part
	}
	return next, nil
}

// mixJSON is how a Mix is written.
type mixJSON struct {
	Parts []json.RawMessage `json:"parts"`
}

// MarshalJSON writes the parts, each as EncodeSpec does.
func (m Mix) MarshalJSON() ([]byte, error) {
	raw := mixJSON{Parts: []json.RawMessage{}}
	for i, p := range m.Parts {
		data, err := EncodeSpec(p)
		if err != nil {
			return nil, fmt.Errorf("parts[%d]: %w", i, err)
		}
		raw.Parts = append(raw.Parts, data)
	}
	return json.Marshal(raw)
}

// UnmarshalJSON reads what MarshalJSON writes. Fields it does not know are errors.
func (m *Mix) UnmarshalJSON(data []byte) error { return unmarshalSpec(m, data) }

func (m *Mix) decode(doc *strictjson.Document, depth int) error {
	var raw mixJSON
	if err := doc.Decode(&raw); err != nil {
		return err
	}
	if len(raw.Parts) > maxParts {
		return fmt.Errorf("parts has %d entries, want 1 to %d", len(raw.Parts), maxParts)
	}
	m.Parts = nil
	for i, data := range raw.Parts {
		p, err := decodeSpec(data, depth-1)
		if err != nil {
			return check.Under(fmt.Sprintf("parts[%d]", i), err)
		}
		m.Parts = append(m.Parts, p)
	}
	return nil
}

// mixed is a run of Mix.
type mixed struct{ parts []*mixedPart }

// mixedPart is one part with the job that comes next.
type mixedPart struct {
	Source
	head Job
	more bool
}

// mixedTag leads a job back to its part. A part that leaves no Tag of its own, and
// so expects none, costs nothing: then the Tag is the *mixedPart itself.
type mixedTag struct {
	part *mixedPart
	tag  any
}

func (p *mixedPart) tagged(j Job) Job {
	if j.Tag == nil {
		j.Tag = p
	} else {
		j.Tag = mixedTag{p, j.Tag}
	}
	return j
}

func (s *mixed) Next() (Job, bool) {
	var first *mixedPart
	for _, p := range s.parts {
		if p.more && (first == nil || p.head.Arrival < first.head.Arrival) {
			first = p
		}
	}
	if first == nil {
		return Job{}, false
	}
	j := first.head
	first.head, first.more = first.Source.Next()
	return first.tagged(j), true
}

func (s *mixed) Done(j *Job, at time.Duration, served bool) (Job, bool) {
	var part *mixedPart
	own := j.Tag
	switch tag := own.(type) {
	case *mixedPart:
		part, j.Tag = tag, nil
	case mixedTag:
		part, j.Tag = tag.part, tag.tag
	default:
		return Job{}, false
	}
	next, ok := part.Source.Done(j, at, served)
	j.Tag = own
	if !ok {
		return Job{}, false
	}
	return part.tagged(next), true
}

// Err returns the first part's reason for having no jobs that is an error.
func (s *mixed) Err() error {
	for _, p := range s.parts {
		if err := sourceErr(p.Source); err != nil {
			return err
		}
	}
	return nil
}

var (
	_ RatedSpec = Mix{}
	_ Source    = (*mixed)(nil)
)
