package simulation

import (
	"time"

	"github.com/inferpick/inferpick/internal/heap"
)

// event is something that will happen.
type event struct {
	at        time.Duration
	seq       uint64 // events of one moment happen in the order in which they were planned
	kind      eventKind
	a, b      int32 // replica and gateway, by kind
	live      *live
	reading   reading // scrapeDone
	passed    passed
	timer     *timerFunc
	published *published
	message   *message
}

type eventKind uint8

const (
	arrive         eventKind = iota // live comes to a gateway
	submit                          // live comes to the engine of replica a
	submitPrompt                    // live's prompt comes to the engine that computes it for another
	answeredPrompt                  // its gateway hears that this is done
	transferred                     // a transfer may have ended
	leaseEnds                       // of replica a; b is the incarnation of its engine
	stepEnds                        // of replica a; b is the incarnation of its engine
	hears                           // live's gateway hears from replica a, whose incarnation was b
	scrapeNow                       // gateway b reads replica a
	scrapeDone                      // the reading is there
	giveUp                          // live's client gives up if it has no token
	admitted                        // live was let in, or refused, after it waited
	timer                           // of gateway b
	fault                           // number a
	resume                          // replica a goes on; b is the incarnation of its engine
	told                            // gateway b hears what replica a has published
	replayed                        // gateway b has what it missed of replica a
	tellOthers                      // gateway b, whose incarnation is a, tells the others what it knows
	hearOther                       // gateway b hears of another
	scaleNow                        // the Scaler is asked
	scaleSample                     // a Sampler looks
	serves                          // the replica of order a does
	graceOver                       // of replica a, which was removed
	sample
)

// eventQueue is what will happen, by time. Events that are over are used again, so that it
// does not allocate for each.
type eventQueue struct {
	heap heap.Heap[planned]
	seq  uint64
	free []*planned
}

// planned is an event in the queue.
type planned struct {
	event
	place int
}

func (q *eventQueue) push(e event) {
	q.seq++
	e.seq = q.seq
	var p *planned
	if last := len(q.free) - 1; last >= 0 {
		p, q.free = q.free[last], q.free[:last]
	} else {
		p = new(planned)
	}
	p.event = e
	q.heap.Push(heap.Item[planned]{Key: int64(e.at), Seq: e.seq, At: &p.place, Of: p})
}

// pop returns the next event. The queue must not be empty.
func (q *eventQueue) pop() event {
	p := q.heap[0].Of
	q.heap.Remove(0)
	e := p.event
	p.event = event{}
	q.free = append(q.free, p)
	return e
}
