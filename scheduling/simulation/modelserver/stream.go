package modelserver

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// stream is a request between its handler and the engine's loop. The loop
// counts tokens up; the handler writes what is new whenever it gets to run, so
// a handler that lags writes several at once and never holds the engine up.
type stream struct {
	// Set by the handler before the stream is submitted.
	request engine.Request
	arrived time.Time
	eager   bool // wants to hear of every token, not only of the last
	cut     bool // ends for its length, not by itself

	id uint64 // owned by the loop

	cached   int          // prompt tokens found in the prefix cache; set before produced leaves 0
	produced atomic.Int64 // tokens
	ended    atomic.Bool  // nothing more will come
	news     chan struct{}
}

func newStream() *stream { return &stream{arrived: time.Now(), news: make(chan struct{}, 1)} }

// notify wakes the handler, or lets it go round once more if it is awake.
func (s *stream) notify() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// wait returns the number of tokens when there is news, and whether it is the
// last.
func (s *stream) wait(ctx context.Context) (produced int, ended bool, err error) {
	select {
	case <-s.news:
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	// In this order: no token comes after ended.
	ended = s.ended.Load()
	return int(s.produced.Load()), ended, nil
}
