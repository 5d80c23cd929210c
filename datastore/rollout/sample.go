package rollout

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Sample is what is judged of one request, or of one attempt of it.
type Sample struct {
	// Target is the model that the server was asked for.
	Target string
	// Sent is when the request was sent. Of requests from before a window began only failures count there.
	Sent time.Time
	// Failed: 5xx, 404, a timeout, a connection that failed or was reset.
	Failed bool
	// Empty: it was answered without a token and without a call of a tool. Known only if Told is set.
	Empty, Told bool
	// TTFT and TPOT are times of streamed answers. 0: not known, or not to be believed.
	TTFT, TPOT time.Duration
	// Uncached is how many tokens of the prompt had to be computed; -1: not known.
	Uncached int
	// Tokens is the length of the answer; -1: not known.
	Tokens int
	// Finish is why the answer has ended.
	Finish uint8
}

// SampleOf returns what is judged of a request that has ended, or of an attempt that was retried elsewhere, as a
// scheduling.Tracker hears of it (req.Now is the time). It is false for what says nothing of the target: what was
// never sent, what the client cancelled or did wrong, and refusals because of load (429).
func SampleOf(req *types.Request, o types.Outcome) (Sample, bool) { panic("soon") }
