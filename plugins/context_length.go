package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// DefaultContextLabel is the label that ContextLength reads.
const DefaultContextLabel = "llm-d.ai/context-length-range"

// ContextLength is a Scorer for servers that are each for prompts of some length, which a
// label says as "0-2048", in tokens, both included. Where the prompt is in the range the
// score is above 0.3: 0.3 + 0.7·(0.7/(1 + width/10000) + 0.3·(max-n)/width), more the
// narrower the range is. Where it is d tokens beyond it is 0.3/(1 + d/1000), and 0 where
// the label is no range. Without the label it is 0.5. It is the scorer of llm-d's
// context-length-aware; ContextLengthFilter is its filter.
type ContextLength struct {
	// Label is the label's name. Default DefaultContextLabel.
	Label string `json:"label,omitempty"`
}

// Score implements scheduling.Scorer.
func (s ContextLength) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	n := float64(req.Prompt.Tokens)
	for i, ep := range eps {
		low, high, is := s.rangeOf(ep)
		switch width := high - low; {
		case is == noLabel:
			scores[i] = 0.5
		case is == badLabel:
			scores[i] = 0
		case n > high:
			scores[i] = 0.3 / (1 + (n-high)/1000)
		case n < low:
			scores[i] = 0.3 / (1 + (low-n)/1000)
		case width == 0:
			scores[i] = 1
		default:
			scores[i] = 0.3 + 0.7*(0.7/(1+width/10000)+0.3*(high-n)/width)
		}
	}
	return nil
}

// ContextLengthFilter is a ContextLength that is a Filter too: it keeps the servers in whose
// range the prompt is, and those without the label.
type ContextLengthFilter struct{ ContextLength }

// Filter implements scheduling.Filter.
func (f ContextLengthFilter) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	for i, ep := range eps {
		keep[i] = keep[i] && f.fits(req, ep)
	}
	return nil
}

func (s ContextLength) fits(req *types.Request, ep *types.Endpoint) bool {
	low, high, is := s.rangeOf(ep)
	n := float64(req.Prompt.Tokens)
	return is == noLabel || is == goodLabel && n >= low && n <= high
}

// Constraint implements scheduling.Constrainer.
func (f ContextLengthFilter) Constraint(req *types.Request, eps []*types.Endpoint) scheduling.Constraint {
	var name strings.Builder
	labels := map[string]bool{}
	for _, ep := range eps { // requests have the same endpoints if they are in the same ranges
		label, ok := ep.Labels[f.label()]
		if ok && !labels[label] && f.fits(req, ep) {
			labels[label] = true
			name.WriteString(label + " ")
		}
	}
	tokens := req.Prompt.Tokens
	return scheduling.Constraint{Name: "context " + name.String(), Match: func(ep *types.Endpoint) bool {
		return f.fits(&types.Request{Prompt: types.Prompt{Tokens: tokens}}, ep)
	}}
}

// Describe implements scheduling.Describer.
func (s ContextLength) Describe(req *types.Request, ep *types.Endpoint) string {
	if label, ok := ep.Labels[s.label()]; ok {
		return fmt.Sprintf("%d tokens of %s", req.Prompt.Tokens, label)
	}
	return "for any length"
}

func (s ContextLength) label() string {
	if s.Label == "" {
		return DefaultContextLabel
	}
	return s.Label
}

// labelled says what a label is.
type labelled uint8

const (
	noLabel labelled = iota
	badLabel
	goodLabel
)

// rangeOf reads the label of an endpoint.
func (s ContextLength) rangeOf(ep *types.Endpoint) (low, high float64, is labelled) {
	label, ok := ep.Labels[s.label()]
	if !ok {
		return 0, 0, noLabel
	}
	from, to, ok := strings.Cut(label, "-")
	low, high = tokensOf(from), tokensOf(to)
	if !ok || !(low >= 0 && low <= high) {
		return 0, 0, badLabel
	}
	return low, high, goodLabel
}

// tokensOf reads a number of tokens, with blanks around it; -1 if it is none.
func tokensOf(s string) (n float64) {
	s = strings.TrimSpace(s)
	if s == "" {
		return -1
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = 10*n + float64(s[i]-'0')
	}
	return n
}

func newContextLengthFrom(p json.RawMessage) (any, error) {
	var c struct {
		ContextLength
		EnableFiltering bool `json:"enableFiltering"`
	}
	if err := Parameters(p, &c); err != nil {
		return nil, err
	}
	if c.EnableFiltering {
		return ContextLengthFilter{c.ContextLength}, nil
	}
	return c.ContextLength, nil
}

var (
	_ scheduling.Scorer      = ContextLength{}
	_ scheduling.Describer   = ContextLength{}
	_ scheduling.Filter      = ContextLengthFilter{}
	_ scheduling.Constrainer = ContextLengthFilter{}
)
