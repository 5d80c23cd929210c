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

// stream follows what one rank publishes. All of it happens in one goroutine: while a replay is
// made nothing is read from the live connection, so what is published meanwhile waits there, in
// order, in the buffers of the connection and in the publisher's queue, which is bounded. What is
// held back so is never more than the engine would hold for any subscriber that is slow, and
// nothing here.
type stream struct {
	*target
	source rankSource
	health *health
	teller teller
	where  position
	decode decoder

	barren int       // replays in a row that brought nothing
	cool   time.Time // when a replay may be asked for again
	// A subscription takes time to hold, so a batch may come too late for the first replay and too
	// early for the subscription. The next batch shows that. If there is none, so does a second
	// replay, at this time.
	second time.Time
}

func (t *target) newStream(s rankSource) *stream {
	h := t.newHealth(s.rank, "tcp://"+s.events)
	return &stream{target: t, source: s, health: h, teller: teller{target: t, rank: s.rank, failure: h.failure}}
}

func (s *stream) loop(ctx context.Context) {
	s.health.persist(ctx, func(ctx context.Context) error {
		err := s.session(ctx)
		s.where.disconnect()
		s.teller.state(s.where.state())
		return err
	})
}

var errPanicked = errors.New("kvevents: the Sink panicked, so what it was told is told anew")

// session connects and follows until something fails.
func (s *stream) session(ctx context.Context) error {
	conn, err := s.dial(ctx, s.source.events, zmtp.Options{Socket: "SUB", Peers: []string{"PUB", "XPUB"}})
	if err != nil {
		return err
	}
	if err := conn.Subscribe(s.source.topic); err != nil {
		return fmt.Errorf("kvevents: %w", err)
	}
	s.health.connects()
	s.barren, s.second = 0, time.Now().Add(s.opt.ReplayIdle)
	s.take(ctx, s.where.connect(s.canReplay()), nil)
	for {
		if at, ok := s.nextTry(); ok && !time.Now().Before(at) {
			s.second = time.Time{}
			s.replay(ctx)
		}
		if err := s.tellState(); err != nil {
			return err
		}
		until, _ := s.nextTry()
		ready, err := conn.Wait(until)
		if err != nil {
			return fmt.Errorf("kvevents: %w", err)
		}
		if !ready {
			continue
		}
		frames, err := conn.Receive()
		if err != nil {
			return fmt.Errorf("kvevents: %w", err)
		}
		if err := s.message(ctx, frames); err != nil {
			return err
		}
		s.health.works()
	}
}

// nextTry returns when a replay is to be made though no batch shows that one is missing, if it is.
func (s *stream) nextTry() (at time.Time, ok bool) {
	switch {
	case s.source.replay == "":
		return time.Time{}, false
	case s.where.owes():
		return s.cool, true
	case s.where.seen:
		return time.Time{}, false
	}
	return s.second, !s.second.IsZero()
}

func (s *stream) tellState() error {
	s.teller.state(s.where.state())
	if s.teller.panicked {
		// Whatever the Sink made of it, it is to begin anew.
		s.teller.panicked = false
		s.where = position{}
		s.teller.reset()
		return errPanicked
	}
	return nil
}

// message takes a message of the live connection: topic, number, batch.
func (s *stream) message(ctx context.Context, frames [][]byte) error {
	if len(frames) != 3 || len(frames[1]) != 8 {
		return notBatch(frames)
	}
	if s.source.topic != "" && string(frames[0]) != s.source.topic {
		s.counts.foreign.Add(1) // a subscription is to a prefix
		return nil
	}
	seq := binary.BigEndian.Uint64(frames[1])
	gap := s.where.synced && seq > s.where.next
	if gap {
		s.counts.gaps.Add(1)
	}
	for {
		at, events, err := s.decode.batch(frames[2])
		s.counts.skipped.Add(uint64(s.decode.skipped))
		again := s.take(ctx, s.where.live(seq, at, s.canReplay()), func() { s.apply(events, err) })
		if !again || ctx.Err() != nil {
			return nil
		}
	}
}

// notBatch is the error of a message that is none of a publisher of events.
func notBatch(frames [][]byte) error {
	sizes := make([]int, len(frames))
	for i, f := range frames {
		sizes[i] = len(f)
	}
	return &zmtp.ProtocolError{Problem: fmt.Sprintf("kvevents: a message of frames of %d bytes, want a topic, a number of 8 and a batch: is it the port of the events?", sizes)}
}

// take does what a step says. It reports whether there was a replay.
func (s *stream) take(ctx context.Context, st step, batch func()) (replayed bool) {
	if st.reset {
		s.teller.reset()
	}
	switch st.do {
	case apply:
		s.teller.state(s.where.state())
		batch()
	case replay:
		s.replay(ctx)
		return true
	}
	return false
}

// apply tells a batch, or that it cannot be read.
func (s *stream) apply(events []Event, err error) {
	if err != nil {
		s.health.tell(batchError, err)
		s.where.unreadable()
		return
	}
	s.teller.apply(events)
	for i := range events {
		if events[i].Kind == Cleared {
			s.where.cleared()
		}
	}
}

// canReplay reports whether a replay can be asked for now.
func (s *stream) canReplay() bool {
	return s.source.replay != "" && !time.Now().Before(s.cool)
}

const (
	replayTries = 3 // without a batch that was missing
	replayEnd   = math.MaxUint64
)

// replay asks for what is missing until it is there, or until that is of no use.
func (s *stream) replay(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.ReplayTimeout)
	defer cancel()
	select {
	case s.replays <- struct{}{}:
		defer func() { <-s.replays }()
	case <-ctx.Done():
	}
	err := errors.New("kvevents: nothing that was missing came")
	for s.barren < replayTries && ctx.Err() == nil {
		before := s.where.next
		again, failed := s.replayOnce(ctx)
		s.barren++
		if s.where.next != before {
			s.barren = 0
		}
		if failed == nil && !again {
			return
		}
		if failed != nil {
			err = failed
		}
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("kvevents: the replay did not end within %v: %w", s.opt.ReplayTimeout, err)
	}
	s.where.fail()
	s.barren = 0
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
