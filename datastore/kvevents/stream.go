package kvevents

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/internal/zmtp"
)

// stream follows what one rank publishes, in one goroutine. While a replay is made, nothing is read
// from the live connection: what is published meanwhile waits in its buffers and then in the
// publisher's queue, in order and within the bounds that the engine has for any subscriber that is
// slow. So newer batches cannot overtake those of the replay, and take no memory here.
type stream struct {
	*target
	source rankSource
	health *health
	teller teller
	where  position
	decode decoder

	doubts int       // batches in a row that a replay should have had
	cool   time.Time // when a replay may be asked for again
	// A subscription takes time to hold, so a batch may come too late for the first replay and too
	// early for the subscription. The next batch shows that. If there is none, so does a second
	// replay, at this time.
	second time.Time
}

func (t *target) newStream(s rankSource) *stream {
	from := s.events
	if s.inbound {
		from = t.opt.Listen[s.rank]
	}
	h := t.newHealth(s.rank, "tcp://"+from)
	return &stream{
		target: t, source: s, health: h, decode: decoder{withTokens: t.opt.Tokens},
		teller: teller{target: t, rank: s.rank, failure: h.failure},
	}
}

func (s *stream) loop(ctx context.Context) {
	s.health.persist(ctx, func(ctx context.Context) error {
		panicked, err := s.health.try(func() error { return s.session(ctx) })
		if panicked { // in the middle of something
			s.anew()
		}
		s.where.disconnect()
		s.teller.state(s.where.state())
		return err
	})
}

var errPanicked = errors.New("kvevents: the Sink panicked, so what it was told is told anew")

// session connects and follows until something fails.
func (s *stream) session(ctx context.Context) error {
	conn, first, err := s.connect(ctx)
	if err != nil {
		return err
	}
	s.health.connects()
	s.second = time.Now().Add(s.opt.ReplayIdle)
	if s.take(ctx, s.where.connect(s.canReplay()), nil); s.where.synced {
		s.health.works()
	}
	if first != nil {
		if err := s.message(ctx, first); err != nil {
			return err
		}
	}
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

// connect returns a connection to the publisher, on which everything is subscribed to, and the first message
// if that was read already.
func (s *stream) connect(ctx context.Context) (conn *zmtp.Conn, first [][]byte, err error) {
	if s.source.inbound {
		return s.await(ctx)
	}
	if conn, err = s.dial(ctx, s.source.events, subscriber); err != nil {
		return nil, nil, err
	}
	if err = conn.Subscribe(s.source.topic); err != nil {
		return nil, nil, fmt.Errorf("kvevents: %w", err)
	}
	return conn, nil, nil
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
		s.anew()
		return errPanicked
	}
	return nil
}

// anew forgets what was told.
func (s *stream) anew() {
	s.where = position{}
	s.teller.reset()
}

// message takes a message of the live connection: topic, number, batch.
func (s *stream) message(ctx context.Context, frames [][]byte) error {
	if len(frames) != 3 || len(frames[1]) != 8 {
		return notBatch(frames)
	}
	if s.source.inbound && !s.named(frames[0], false) {
		return fmt.Errorf("kvevents: the topic %.100q is about another endpoint than %s", frames[0], s.plan.address)
	}
	if s.source.topic != "" && string(frames[0]) != s.source.topic {
		s.counts.foreign.Add(1) // a subscription is to a prefix
		return nil
	}
	seq := binary.BigEndian.Uint64(frames[1])
	if s.where.synced && seq > s.where.next {
		s.counts.gaps.Add(1)
	}
	for replayed := false; ; replayed = true {
		at, events, err := s.decode.batch(frames[2])
		st := s.where.live(seq, at, s.canReplay())
		if st.do == replay && replayed {
			// A replay has all that was published before, if it is the same process's.
			if s.doubts++; s.doubts == 1 {
				return errOtherProcess
			}
			s.giveUp(errOtherProcess)
			continue
		}
		s.take(ctx, st, func() { s.apply(events, err) })
		if st.do != replay {
			s.doubts = 0
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

var errOtherProcess = errors.New("kvevents: a replay lacks what was published before it: it is of another process than the connection, or keeps nothing")

// notBatch is the error of a message that is none of a publisher of events.
func notBatch(frames [][]byte) error {
	sizes := make([]int, len(frames))
	for i, f := range frames {
		sizes[i] = len(f)
	}
	return &zmtp.ProtocolError{Problem: fmt.Sprintf("kvevents: a message of frames of %d bytes, want a topic, a number of 8 and a batch: is it the port of the events?", sizes)}
}

// take does what a step says.
func (s *stream) take(ctx context.Context, st step, batch func()) {
	if st.reset {
		s.teller.reset()
	}
	switch st.do {
	case apply:
		s.teller.state(s.where.state())
		batch()
	case replay:
		s.replay(ctx)
	}
}

// apply tells a batch, or that it cannot be read.
func (s *stream) apply(events []Event, err error) {
	if err != nil {
		s.health.tell(batchError, err)
		s.where.unreadable()
		return
	}
	s.counts.skipped.Add(uint64(s.decode.skipped))
	s.teller.apply(events)
	for i := range events {
		if events[i].Kind == Cleared {
			s.where.cleared()
		}
	}
}
