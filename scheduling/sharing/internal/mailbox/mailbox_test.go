package mailbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQueueTheOldestGivesWay(t *testing.T) {
	q := newQueue(3)
	for i := range 5 {
		q.put([]byte{byte(i)})
	}
	require.EqualValues(t, 2, q.lost.Load())
	for i := 2; i < 5; i++ {
		require.Equal(t, []byte{byte(i)}, <-q.messages)
	}
	q.put([]byte{9})
	q.clear()
	require.EqualValues(t, 3, q.lost.Load())
	require.Empty(t, q.messages)
}

// Of what many put in at once, all is either taken or counted as lost.
func TestQueueConcurrent(t *testing.T) {
	const writers, each = 8, 500
	q := newQueue(4)
	done := make(chan struct{})
	for range writers {
		go func() {
			for range each {
				q.put([]byte{1})
			}
			done <- struct{}{}
		}()
	}
	taken := 0
	for ended := 0; ended < writers; {
		select {
		case <-q.messages:
			taken++
		case <-done:
			ended++
		}
	}
	taken += len(q.messages)
	require.EqualValues(t, writers*each, uint64(taken)+q.lost.Load())
}

// run runs an outbox until the test, or what stop ends, is over.
func run(t *testing.T, b interface{ Run(context.Context) }) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { b.Run(ctx); close(ended) }()
	return func() { cancel(); <-ended }
}

func TestOutboxSendsACopyInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		s := NewOutbox(64, time.Second, func(_ context.Context, batch [][]byte) error {
			require.LessOrEqual(t, len(batch), 16)
			for _, msg := range batch {
				got = append(got, string(msg))
			}
			return nil
		})
		msg, want := make([]byte, 0, 8), []string(nil)
		for i := range 40 {
			msg = fmt.Appendf(msg[:0], "m%d", i)
			require.NoError(t, s.Put(msg))
			want = append(want, string(msg))
		}
		stop := run(t, s)
		synctest.Wait()
		stop()
		require.Equal(t, want, got)
		require.Equal(t, OutStats{Messages: 40, Bytes: 10*2 + 30*3}, s.Stats())
	})
}

// While messages cannot be sent, those that come are refused with the reason, none is kept, and attempts are
// made ever more seldom, but at least once a second.
func TestOutboxFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down, away := true, errors.New("away")
		var attempts []time.Time
		var got int
		s := NewOutbox(4, time.Second, func(_ context.Context, batch [][]byte) error {
			if down {
				attempts = append(attempts, time.Now())
				return away
			}
			got += len(batch)
			return nil
		})
		defer run(t, s)()

		require.NoError(t, s.Put([]byte("first")), "nothing is known yet")
		synctest.Wait()
		require.ErrorIs(t, s.Put([]byte("second")), away)
		require.ErrorIs(t, s.Stats().Err, away)

		start := time.Now()
		for time.Since(start) < 10*time.Second {
			_ = s.Put([]byte("more"))
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		require.Less(t, attempts[2].Sub(attempts[0]), 200*time.Millisecond)
		require.InDelta(t, 15, len(attempts), 3)
		for i, at := range attempts[1:] {
			require.LessOrEqual(t, at.Sub(attempts[i]), time.Second+20*time.Millisecond)
		}
		require.Error(t, s.Stats().Err)

		down = false
		time.Sleep(time.Second)
		require.NoError(t, s.Put([]byte("at last")))
		synctest.Wait()
		require.Equal(t, 1, got, "nothing old is sent")
		stats := s.Stats()
		require.NoError(t, stats.Err)
		require.EqualValues(t, 1, stats.Messages)
		require.EqualValues(t, 1002, stats.Dropped)
	})
}

// A send that hangs makes nobody wait; what is too much for the queue gives way to what is newer.
func TestOutboxHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		s := NewOutbox(4, time.Second, func(ctx context.Context, _ [][]byte) error {
			calls.Add(1)
			<-ctx.Done()
			return ctx.Err()
		})
		defer run(t, s)()
		require.NoError(t, s.Put(nil))
		synctest.Wait()
		start := time.Now()
		for range 100 {
			require.NoError(t, s.Put([]byte("x")))
		}
		require.Zero(t, time.Since(start))
		time.Sleep(time.Second)
		synctest.Wait()
		require.ErrorIs(t, s.Stats().Err, context.DeadlineExceeded)
		require.EqualValues(t, 1, calls.Load())
		require.EqualValues(t, 101, s.Stats().Dropped)
	})
}

// What waits when Run has to end is sent still, within the time of one attempt, unless the last has failed.
func TestOutboxEnd(t *testing.T) {
	for _, tt := range []struct {
		name          string
		takes         time.Duration // each attempt
		fails         bool
		waits         int
		sent, dropped int
		ends          time.Duration
	}{
		{"nothing waits", 0, false, 0, 1, 0, 0},
		{"all is sent", 0, false, 40, 41, 0, 0},
		{"what there is time for", 400 * time.Millisecond, false, 40, 1 + 32, 8, 1400 * time.Millisecond},
		{"in vain", 400 * time.Millisecond, true, 40, 0, 41, 400 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := NewOutbox(64, time.Second, func(ctx context.Context, _ [][]byte) error {
					Sleep(ctx, tt.takes)
					if tt.fails {
						return errors.New("away")
					}
					return ctx.Err()
				})
				stop := run(t, b)
				require.NoError(t, b.Put([]byte("x")))
				synctest.Wait() // it is being sent
				for range tt.waits {
					require.NoError(t, b.Put([]byte("x")))
				}
				start := time.Now()
				stop()
				require.Equal(t, tt.ends, time.Since(start))
				require.EqualValues(t, tt.sent, b.Stats().Messages)
				require.EqualValues(t, tt.dropped, b.Stats().Dropped)
			})
		})
	}
}

func TestBackoff(t *testing.T) {
	for failures, most := range []time.Duration{50, 100, 200, 400, 800, 1000, 1000} {
		most *= time.Millisecond
		for range 100 {
			wait := Backoff(failures)
			require.LessOrEqual(t, wait, most)
			require.Greater(t, wait, most*3/4-1)
		}
	}
	require.LessOrEqual(t, Backoff(math.MaxInt), time.Second)
}

// While handle is busy, the newest wait; a message that makes it panic is lost, and no other; none is handled when
// Run has returned.
func TestInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewInbox(3, 5)
		var got []string
		free := make(chan struct{})
		handle := func(msg []byte) {
			got = append(got, string(msg))
			if len(got) == 1 {
				<-free
			}
			if string(msg) == "boom" {
				panic("handled badly")
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { b.Run(ctx, handle); close(ended) }()
		b.Put([]byte("first"))
		synctest.Wait()
		for _, msg := range []string{"old", "longer", "boom", "", "new", "x"} {
			b.Put([]byte(msg))
		}
		require.EqualValues(t, 3, b.Stats().Missed)
		close(free)
		synctest.Wait()
		require.Equal(t, []string{"first", "boom", "new", "x"}, got)
		stats := b.Stats()
		require.ErrorContains(t, stats.PanicErr, "handled badly")
		require.ErrorContains(t, stats.PanicErr, "TestInbox")
		stats.PanicErr = nil
		require.Equal(t, InStats{Messages: 7, Bytes: 22, Missed: 3, Panics: 1}, stats)
		cancel()
		<-ended
		b.Put([]byte("late"))
		synctest.Wait()
		require.Len(t, got, 4)
	})
}
