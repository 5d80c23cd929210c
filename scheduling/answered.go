package scheduling

import "github.com/inferpick/inferpick/types"

// An AnswerTracker is a Tracker that is also told of answers after which the server goes on working at the request.
type AnswerTracker interface {
	Tracker
	// Answered is called at most once for a decision, between Picked and Finished. out says how the answer went.
	// Afterwards the request has no Body, and of its Prompt no more than the sizes and Media.
	Answered(req *types.Request, ep *types.Endpoint, out types.Outcome)
}

// Answered reports that the server has answered as out says and goes on working at the request, until Done: clients ask
// for what comes of it by other requests (a job), or the answer is a connection (a session). The booking stays; if it
// expires, see Alive, the request ends as out says and not with ErrExpired. Body and prompt of the request are let go:
// Answered reports whether they are read no more, so that their memory may be used for something else. After Done, and when
// it is called again, it does nothing and returns false.
func (d *Decision) Answered(out types.Outcome) (letGo bool) {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	if d.done || d.answer != nil {
		d.mu.Unlock()
		return false
	}
	out = d.timed(out, now)
	d.answer = &out
	d.scheduler.renew(d, now)
	e := event{kind: answered, at: now, Event: d.event(d.current)}
	e.Outcome = out
	d.tell(e)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.letGo
}

// forgetPrompt lets go of what is long in the request. It is called by who delivers an event.
func (d *Decision) forgetPrompt() {
	d.Request.Body, d.Request.Prompt.Data, d.Request.Prompt.Spans = nil, nil, noSpans
	d.mu.Lock()
	defer d.mu.Unlock()
	d.letGo = true
}

// noSpans say that there is no prompt, and not that it was not looked for.
var noSpans = []types.Span{}

// expired returns how a decision ends whose owner has given no sign of life.
func (d *Decision) expired() types.Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answer != nil {
		return *d.answer
	}
	return types.Outcome{Err: ErrExpired}
}
