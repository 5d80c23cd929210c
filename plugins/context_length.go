package plugins

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// DefaultContextLabel is the default of ContextLength.Label.
const DefaultContextLabel = "llm-d.ai/context-length-range"

// ContextLength is a Scorer for fleets in which servers are dedicated to prompts of certain
// lengths. A label such as "0-2048" gives a server's range in tokens, inclusive. For a prompt of
// n tokens the score is
//
//   - 0.3 + 0.7·(0.7/(1 + width/10000) + 0.3·(max-n)/width) within the range, higher for narrower
//     ranges,
//   - 0.3/(1 + d/1000) if it is d tokens outside,
//   - 0.5 without the label, and 0 if the label is not a range.
//
// It is the scorer of llm-d's context-length-aware; ContextLengthFilter is its filter.
type ContextLength struct {
	// Label is the name of the label. Default DefaultContextLabel.
	Label string `json:"label,omitempty"`
}

// Score implements scheduling.Scorer.
func (s ContextLength) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	n := float64(req.Prompt.Tokens)
	for i, ep := range eps {
		low, high, status := s.rangeOf(ep)
		switch width := high - low; {
		case status == noLabel:
			scores[i] = 0.5
		case status == badLabel:
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

// ContextLengthFilter is a ContextLength that is also a Filter: it keeps servers whose range
// includes the prompt, and those without the label.
type ContextLengthFilter struct{ ContextLength }

// Filter implements scheduling.Filter.
func (f ContextLengthFilter) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	for i, ep := range eps {
		keep[i] = keep[i] && f.fits(req, ep)
	}
	return nil
}

func (s ContextLength) fits(req *types.Request, ep *types.Endpoint) bool {
	low, high, status := s.rangeOf(ep)
	n := float64(req.Prompt.Tokens)
	return status == noLabel || status == goodLabel && n >= low && n <= high
}

// Constraint implements scheduling.Constrainer.
func (f ContextLengthFilter) Constraint(req *types.Request, eps []*types.Endpoint) scheduling.Constraint {
	var name strings.Builder
	labels := map[string]bool{}
	for _, ep := range eps { // requests in the same ranges have the same endpoints
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

func (s ContextLength) label() string { return cmp.Or(s.Label, DefaultContextLabel) }

type labelStatus uint8

const (
	noLabel labelStatus = iota
	badLabel
	goodLabel
)

// rangeOf parses the label of an endpoint.
func (s ContextLength) rangeOf(ep *types.Endpoint) (low, high float64, status labelStatus) {
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

// tokensOf parses a number of tokens, with white space around it; -1 if it is not one.
func tokensOf(s string) (n float64) {
	s = strings.TrimSpace(s)
	if s == "" {
		return -1
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + float64(c-'0')
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
