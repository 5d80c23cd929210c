package rollout

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Sample is what is judged of one request, or of one attempt of it.
type Sample struct {
	// Target is the model that the server was asked for.
	Target string
	// Sent is when the request was sent. Of requests from before a window began only failures count there.
	Sent time.Time
	// Failed: 5xx, a model that is not there, a timeout, a connection that failed or was reset.
	Failed bool
	// Status is what the server answered if it has Failed; 0: nothing, or it broke off.
	Status int
	// Refused: 4xx, but for 429 and a model that is not there: the server finds fault with the request. Of such, and of
	// those that are Busy, nothing else is known.
	Refused bool
	// Busy: 429 or 529, the server refused it because of load. That is told of, and not judged.
	Busy bool
	// Empty: it was answered without text and without a call of a tool. Known only if Told is set.
	Empty, Told bool
	// Unreadable: what came with a status of success had nothing in it that an answer has: no token, end or usage.
	Unreadable bool
	// TTFT and TPOT are times of streamed answers. 0: not known, or not to be believed.
	TTFT, TPOT time.Duration
	// Whole is the time of an answer that was not streamed, and Bytes its size. 0: not known.
	Whole time.Duration
	Bytes int
	// Uncached is how many tokens of the prompt had to be computed, as far as is known; with CacheTold the server has
	// said how many had not.
	Uncached  int
	CacheTold bool
	// Tokens is the length of the answer; -1: not known.
	Tokens int
	// Finish is how the answer has ended.
	Finish types.Finish
}

// SampleOf returns what is judged of a request that has ended, or of an attempt that was retried elsewhere, as a
// scheduling.Tracker hears of it (req.Now is the time). It is false for what says nothing of the target: what was
// never sent, and what the client cancelled. Refusals because of load (429 and 529) are Busy, which is judged by
// nothing.
//
// What a server did counts: a status from 500 on, an error of the connection, a timeout, and a 404 with which it says
// that it does not have the adapter (types.Outcome.ModelMissing): other 404s are the path's that a client has asked by,
// say. They and other 4xx are Refused: most are the fault of clients, but if the canary refuses most requests and the
// stable target does not, it is its own.
func SampleOf(req *types.Request, o types.Outcome) (Sample, bool) {
	failed := o.Failed() || o.ModelMissing
	switch {
	case o.Unsent, o.Cancelled:
		return Sample{}, false
	case o.Status == 429, o.Status == 529:
		return Sample{Target: req.Target(), Sent: req.Now.Add(-o.Duration), Busy: true, Tokens: -1}, true
	case !failed && (o.Retried || o.Status == 404 && req.PreviousID != ""): // the response may be another server's
		return Sample{}, false
	case !failed && o.Status >= 400:
		return Sample{Target: req.Target(), Sent: req.Now.Add(-o.Duration), Refused: true, Tokens: -1}, true
	}
	s := Sample{Target: req.Target(), Sent: req.Now.Add(-o.Duration), Failed: failed, Tokens: -1}
	if failed {
		if o.Err == nil {
			s.Status = o.Status
		}
		return s, true
	}
	s.Finish = o.Finish
	if n, ok := count(o.Usage.CompletionTokens); ok {
		s.Tokens = n
	}
	s.empty(req, &o)
	_, prompt := count(o.Usage.PromptTokens)
	s.Unreadable = o.Status != 0 && o.Finish == types.FinishUnknown && o.Tokens == 0 && s.Tokens < 0 && !prompt
	s.times(req, &o)
	return s, true
}

// empty says whether nothing was said. Engines count the token that ends an answer, so that one of a single token which
// has stopped may be empty: of a stream the events tell, else it is taken for one, for both targets alike.
func (s *Sample) empty(req *types.Request, o *types.Outcome) {
	ended := o.Finish != types.FinishUnknown // else it may be an embedding, which has no tokens
	switch {
	case s.Tokens >= 0:
		s.Told = s.Tokens > 0 || ended
		s.Empty = ended && o.Tokens == 0 && o.Finish != types.FinishTools &&
			(s.Tokens == 0 || s.Tokens == 1 && o.Finish == types.FinishStop)
	case req.Stream:
		s.Told = ended
		s.Empty = o.Tokens == 0 && o.Finish == types.FinishStop
	}
}

// times fills in those of an answer.
func (s *Sample) times(req *types.Request, o *types.Outcome) {
	if !req.Stream {
		s.whole(req, o)
		return
	}
	if o.TTFT <= 0 || o.TTFT > o.Duration {
		return
	}
	tokens := o.Tokens
	if s.Tokens >= 0 {
		tokens = s.Tokens
	}
	took := o.Duration - o.TTFT
	if tokens > leastDecoded {
		if o.Reads > 0 && o.Reads*collected < tokens || took.Seconds() < instant*o.Duration.Seconds() {
			return // something on the way has held it back
		}
	}
	s.TTFT = o.TTFT
	s.prompt(req, o)
	if tokens > 1 && o.Stalled.Seconds() <= mostStalled*took.Seconds() {
		s.TPOT = (took - o.Stalled) / time.Duration(tokens-1)
	}
}

// whole fills in the time of an answer that was not streamed.
func (s *Sample) whole(req *types.Request, o *types.Outcome) {
	if o.Duration <= 0 || o.Stalled.Seconds() > mostStalled*o.Duration.Seconds() {
		return
	}
	s.Whole, s.Bytes = o.Duration-o.Stalled, int(min(max(o.ResponseBytes, 0), math.MaxInt32))
	s.prompt(req, o)
}

// prompt fills in how much of it had to be computed.
func (s *Sample) prompt(req *types.Request, o *types.Outcome) {
	prompt := req.Prompt.Tokens
	if n, ok := count(o.Usage.PromptTokens); ok && n > 0 {
		prompt = n
	}
	s.Uncached = prompt
	if n, ok := count(o.Usage.CachedTokens); ok && n <= prompt {
		s.Uncached, s.CacheTold = prompt-n, true
	}
}

// What of the times of an answer is believed, as internal/cost has it.
const (
	leastDecoded = 8   // tokens above which their times must make sense
	collected    = 8   // tokens for each piece of the response above which something on the way buffers them
	instant      = .05 // share of the whole time below which all of them came at once
	mostStalled  = .2  // share of the time since the first token for which a client may have left data unread
)

// count returns what a server reported as a number of tokens. What none can be is taken as not reported.
func count(g types.Gauge) (int, bool) {
	v, ok := g.Value()
	if !ok || !(v >= 0 && v <= math.MaxInt32) {
		return 0, false
	}
	return int(v), true
}
