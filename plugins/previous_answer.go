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
	DefaultAnswerKeep = 24 * time.Hour
)

// AnswerOptions configure PreviousAnswer. The zero value works.
type AnswerOptions struct {
	// MaxAnswers bounds the number of remembered responses, jobs and files; beyond it the least recently
	// used one is forgotten. Default DefaultMaxAnswers, at most LimitMaxSessions. Each takes about 180
	// bytes. Those that other gateways tell of take at most half of it from those used here.
	MaxAnswers int `json:"maxAnswers,omitempty"`
	// TTL is how long a response, job or file is remembered after its last use. Default DefaultAnswerTTL.
	TTL time.Duration `json:"ttl,omitempty"`
	// Keep is how long one is remembered at most, whether it is used or not, of which its server says until
	// when it keeps it. Default DefaultAnswerKeep. Other gateways remember it for their TTL.
	Keep time.Duration `json:"keep,omitempty"`
	// MaxUntold bounds how many of them wait to be told to other gateways; beyond it the oldest is not
	// told. Default DefaultMaxUntold, at most LimitMaxSessions.
	MaxUntold int `json:"maxUntold,omitempty"`
}

// PreviousAnswer is a Filter that keeps, for a request that continues or asks for what a server has made
// before (types.Request.PreviousID), only the endpoint that has it: a response, a job such as a film that is
// being made or a batch, a file. Servers do not share these, and any other one answers 404. It keeps all
// endpoints if it does not know which one has it, or if that one is not a candidate. What tenants have is
// kept apart, so that they learn nothing about each other's.
//
// It learns from Outcome.ResponseID and OtherIDs of requests that were served, or answered with more to come
// (scheduling.AnswerTracker). The ready-made profiles include it, since it costs other requests nothing. Leave
// it out if servers share a store of all this, and use SessionAffinity for the benefit of their prefix caches.
//
// Gateways that share what they know (package scheduling/sharing) tell each other of them: it is a
// sharing.BindingPart and, for those that restart, a sharing.SnapshotPart. What this gateway saw a server
// answer no peer can deny.
//
// Create it with NewPreviousAnswer, and place it before Ejection, so that an ejected server still
// gets the requests that no other can answer. It is a Tracker. It may be used by several
// Schedulers, which then share what it learned.
type PreviousAnswer struct {
	pickedOnly
	*stickTable
}

// NewPreviousAnswer returns a PreviousAnswer, or an error that lists all invalid options.
func NewPreviousAnswer(o AnswerOptions) (*PreviousAnswer, error) {
	t, err := newStickTable("previous-answer", answersOnly, "maxAnswers",
		stickBounds{o.MaxAnswers, o.TTL, o.MaxUntold, o.Keep},
		stickBounds{DefaultMaxAnswers, DefaultAnswerTTL, DefaultMaxUntold, DefaultAnswerKeep})
	if err != nil {
		return nil, err
	}
	return &PreviousAnswer{stickTable: t}, nil
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

// holder returns the index of the endpoint that has what req continues or asks for, or -1.
func (f *PreviousAnswer) holder(req *types.Request, eps []*types.Endpoint) int {
	return f.find(f.answerAt(req), eps)
}

// Describe implements scheduling.Describer.
func (f *PreviousAnswer) Describe(req *types.Request, ep *types.Endpoint) string {
	if at := f.answerAt(req); at.known() {
		return describeAnswer(at, ep)
	}
	return ""
}

// Picked implements scheduling.Tracker.
func (f *PreviousAnswer) Picked(req *types.Request, ep *types.Endpoint) { f.keepAnswer(req, ep) }

// Finished implements scheduling.Tracker.
func (f *PreviousAnswer) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	f.addAnswer(req, ep, out)
}

// Answered implements scheduling.AnswerTracker: what is asked for from now on is there.
func (f *PreviousAnswer) Answered(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	f.addAnswer(req, ep, out)
}

// Forget implements scheduling.Forgetter.
func (f *PreviousAnswer) Forget(ep *types.Endpoint) { f.forget(ep) }
