package plugins

import (
	"context"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults of PreviousAnswer.
const (
	DefaultMaxAnswers = 65536
	DefaultAnswerTTL  = time.Hour
)

// AnswerOptions configure PreviousAnswer. The zero value works.
type AnswerOptions struct {
	// MaxAnswers bounds the number of remembered responses; beyond it the least recently used one
	// is forgotten. Default DefaultMaxAnswers, at most LimitMaxSessions. Each takes about 130
	// bytes.
	MaxAnswers int `json:"maxAnswers,omitempty"`
	// TTL is how long a response is remembered after its last use. Default DefaultAnswerTTL.
	TTL time.Duration `json:"ttl,omitempty"`
}

// PreviousAnswer is a Filter that keeps, for a request that continues or fetches an earlier response
// (types.Request.PreviousID), only the endpoint that gave it: servers do not share responses, and
// any other one answers 404. It keeps all endpoints if it does not know which one gave the
// response, or if that one is not a candidate. Responses are kept apart by tenant, so that tenants
// learn nothing about each other's.
//
// It learns from Outcome.ResponseID of served requests. The ready-made profiles include it, since
// it costs other requests nothing. Leave it out if servers share a store of responses, and use
// SessionAffinity for the benefit of their prefix caches.
//
// Create it with NewPreviousAnswer, and place it before Ejection, so that an ejected server still
// gets the requests that no other can answer. It is a Tracker. It may be used by several
// Schedulers, which then share what it learned.
type PreviousAnswer struct {
	pickedOnly
	table *stickTable
}

// NewPreviousAnswer returns a PreviousAnswer, or an error that lists all invalid options.
func NewPreviousAnswer(o AnswerOptions) (*PreviousAnswer, error) {
	t, err := newStickTable("maxAnswers", o.MaxAnswers, DefaultMaxAnswers, o.TTL, DefaultAnswerTTL)
	if err != nil {
		return nil, err
	}
	return &PreviousAnswer{table: t}, nil
}

// Filter implements scheduling.Filter.
func (f *PreviousAnswer) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	i := f.holder(req, eps)
	if i < 0 {
		return nil
	}
	clear(keep)
	keep[i] = true
	return nil
}

// Screen implements scheduling.Screener.
func (f *PreviousAnswer) Screen(req *types.Request, _ *scheduling.Overview) bool {
	return req.PreviousID == ""
}

// Constraint implements scheduling.Constrainer. If the endpoint is removed, any other may serve the
// request.
func (f *PreviousAnswer) Constraint(req *types.Request, eps []*types.Endpoint) scheduling.Constraint {
	i := f.holder(req, eps)
	if i < 0 {
		return scheduling.Constraint{}
	}
	at := eps[i].Load
	return scheduling.Constraint{
		Name:  "answers of " + eps[i].ID,
		Match: func(ep *types.Endpoint) bool { return ep.Load == at }, Preferred: true,
	}
}

// holder returns the index of the endpoint that gave the response that req continues, or -1.
func (f *PreviousAnswer) holder(req *types.Request, eps []*types.Endpoint) int {
	if at := f.table.answerAt(req); at != nil {
		for i, ep := range eps {
			if ep.Load == at {
				return i
			}
		}
	}
	return -1
}

// Describe implements scheduling.Describer.
func (f *PreviousAnswer) Describe(req *types.Request, ep *types.Endpoint) string {
	if at := f.table.answerAt(req); at != nil {
		return describeAnswer(at, ep)
	}
	return ""
}

// Picked implements scheduling.Tracker.
func (f *PreviousAnswer) Picked(req *types.Request, ep *types.Endpoint) { f.table.keepAnswer(req, ep) }

// Finished implements scheduling.Tracker.
func (f *PreviousAnswer) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	f.table.addAnswer(req, ep, out)
}

// Forget implements scheduling.Forgetter.
func (f *PreviousAnswer) Forget(ep *types.Endpoint) { f.table.forget(ep.Load) }

// Len returns the number of remembered responses.
func (f *PreviousAnswer) Len() int { return f.table.len() }
