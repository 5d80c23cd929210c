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

// AnswerOptions configure PreviousAnswer. The zero value is good.
type AnswerOptions struct {
	// MaxAnswers bounds how many answers are remembered; beyond it the one longest unused
	// is forgotten. Default DefaultMaxAnswers, about 130 bytes each; at most
	// LimitMaxSessions.
	MaxAnswers int `json:"maxAnswers,omitempty"`
	// TTL is how long an answer is remembered after it was given or continued. Default
	// DefaultAnswerTTL.
	TTL time.Duration `json:"ttl,omitempty"`
}

// PreviousAnswer is a Filter that keeps, of a request that continues an answer or asks for it
// again (types.Request.PreviousID), the endpoint alone that gave it: servers keep answers to
// themselves, and any other says 404. That holds along chains that fork, and after retries.
// All are kept where it is not known who gave the answer, or if that endpoint is no
// candidate. Answers of different tenants are different, so that nobody learns where those
// of others are.
//
// It learns from Outcome.ResponseID of requests that were served. The ready-made profiles
// have it, because it costs other requests nothing; leave it out where servers share a
// store of answers, and use SessionAffinity for the sake of their prefix caches.
//
// It is a Tracker: wire a pointer to it, made by NewPreviousAnswer, before Ejection: then a
// server that is ejected still gets what nobody else can answer. Safe for use by several
// Schedulers, which then share what they learned.
type PreviousAnswer struct{ table *stickTable }

// NewPreviousAnswer returns a PreviousAnswer, or what is wrong with o.
func NewPreviousAnswer(o AnswerOptions) (*PreviousAnswer, error) {
	t, err := newStickTable("maxAnswers", o.MaxAnswers, DefaultMaxAnswers, o.TTL, DefaultAnswerTTL)
	if err != nil {
		return nil, err
	}
	return &PreviousAnswer{t}, nil
}

// mustPreviousAnswer is NewPreviousAnswer for options that are known to be valid.
func mustPreviousAnswer(o AnswerOptions) *PreviousAnswer {
	f, err := NewPreviousAnswer(o)
	if err != nil {
		panic(err)
	}
	return f
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

// Constraint implements scheduling.Constrainer. If the endpoint goes, all others may
// serve the request.
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

// holder returns the index of the endpoint that gave the answer which req continues, or -1.
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

// FirstToken implements scheduling.Tracker.
func (f *PreviousAnswer) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker.
func (f *PreviousAnswer) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	f.table.addAnswer(req, ep, out)
}

// Forget implements scheduling.Forgetter.
func (f *PreviousAnswer) Forget(ep *types.Endpoint) { f.table.forget(ep.Load) }

// Len returns the number of answers remembered.
func (f *PreviousAnswer) Len() int { return f.table.len() }

var (
	_ scheduling.Filter      = (*PreviousAnswer)(nil)
	_ scheduling.Describer   = (*PreviousAnswer)(nil)
	_ scheduling.Constrainer = (*PreviousAnswer)(nil)
	_ scheduling.Tracker     = (*PreviousAnswer)(nil)
	_ scheduling.Forgetter   = (*PreviousAnswer)(nil)
)
