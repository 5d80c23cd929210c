package kvevents

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/inferpick/inferpick/internal/zmtp"
)

// canReplay reports whether a replay can be asked for now.
func (s *stream) canReplay() bool {
	return s.source.replay != "" && !time.Now().Before(s.cool)
}

const (
	replayTries = 3 // in a row that bring nothing that was missing
	replayEnd   = math.MaxUint64
)

// replay asks for what is missing until it is there, or until that is of no use.
func (s *stream) replay(parent context.Context) {
	ctx, cancel := context.WithTimeout(parent, s.opt.ReplayTimeout)
	defer cancel()
	err := errors.New("kvevents: nothing that was missing came")
	for tries := 0; tries < replayTries && ctx.Err() == nil; tries++ {
		before := s.where.next
		again, failed := s.replayOnce(ctx)
		switch {
		case failed != nil:
			err = failed
		case !again:
			return
		}
		if s.where.next != before {
			tries = -1
		}
	}
	if parent.Err() != nil { // what went wrong is that it was cancelled
		s.where.fail()
		return
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("kvevents: the replay did not end within %v: %w", s.opt.ReplayTimeout, err)
	}
	s.giveUp(err)
}

// giveUp goes on without what is missing, for a while.
func (s *stream) giveUp(err error) {
	s.where.fail()
	s.cool = time.Now().Add(s.opt.ReplayCooldown)
	s.health.tell(replayError, err)
}

// replayOnce asks once, and tells what comes. It reports whether to ask again.
func (s *stream) replayOnce(ctx context.Context) (again bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.counts.replays.Add(1)
	conn, err := s.dial(ctx, s.source.replay, zmtp.Options{Socket: "DEALER", Peers: []string{"ROUTER"}})
	if err != nil {
		return false, err
	}
	select { // not before: a port that does not answer takes no other's turn
	case s.replays <- struct{}{}:
		defer func() { <-s.replays }()
	case <-ctx.Done():
		return false, fmt.Errorf("kvevents: %d other replays are under way", s.opt.Replays)
	}
	from := s.where.begin()
	if err := conn.Send(nil, binary.BigEndian.AppendUint64(nil, from)); err != nil {
		return false, fmt.Errorf("kvevents: %w", err)
	}
	for {
		ready, err := conn.Wait(time.Now().Add(s.opt.ReplayIdle))
		if err == nil && !ready {
			err = fmt.Errorf("kvevents: no batch of the replay from %d within %v", from, s.opt.ReplayIdle)
		}
		if err != nil {
			return false, err
		}
		frames, err := conn.Receive()
		if err != nil {
			return false, err
		}
		seq, payload, err := splitReplay(frames)
		if err != nil {
			return false, err
		}
		if seq == replayEnd {
			return s.takeReplayed(s.where.end(), nil), nil
		}
		at, events, failed := s.decode.batch(payload)
		if s.takeReplayed(s.where.replayed(seq, at), func() { s.apply(events, failed) }) {
			return true, nil
		}
	}
}

// takeReplayed does what a step within a replay says. It reports whether to ask again.
func (s *stream) takeReplayed(st step, batch func()) (again bool) {
	if st.reset {
		s.teller.reset()
	}
	if st.do == apply {
		s.teller.state(s.where.state())
		s.counts.replayed.Add(1)
		batch()
	}
	return st.do == replay
}

// splitReplay returns the parts of a message of a replay: nothing, the topic, which vLLM before
// 0.26 leaves out, the number and the batch.
func splitReplay(frames [][]byte) (seq uint64, payload []byte, err error) {
	all := frames
	if len(frames) > 2 && len(frames[0]) == 0 {
		frames = frames[1:]
	}
	if len(frames) == 3 {
		frames = frames[1:]
	}
	if len(frames) != 2 || len(frames[0]) != 8 {
		return 0, nil, notBatch(all)
	}
	return binary.BigEndian.Uint64(frames[0]), frames[1], nil
}
