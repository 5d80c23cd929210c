package picker_test

import (
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling/director"
)

// TestMaxStreams: one too many is told so, and has its turn when another is over.
func TestMaxStreams(t *testing.T) {
	var log logbuffer.Buffer
	f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) {
		o.MaxStreams, o.Logger = 2, slog.New(slog.NewTextHandler(&log, nil))
	})
	client := f.dial(t)
	var first *stream
	for range 2 {
		first = open(t, client, duplex, duplex)
		first.send(requestHeaders(false))
		first.send(requestBody(chatBody(1), true))
		first.recv()
	}
	for range 3 { // what was refused takes no place
		s := open(t, client, duplex, duplex)
		s.send(requestHeaders(false))
		if err := s.ends(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "2 streams are open") {
			t.Errorf("the third stream ended with %v", err)
		}
	}
	require.Equal(t, 1, strings.Count(log.String(), "streams are open"), "a flood is told of once a minute")
	first.cancel()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		s := open(t, client, duplex, duplex)
		s.send(requestHeaders(false))
		s.send(requestBody(chatBody(1), true))
		if _, err := s.s.Recv(); err == nil {
			return
		}
		require.False(t, time.Now().After(deadline), "there is no room after one has left")
	}
}

// TestIdleTimeout: a stream on which nothing comes ends in every phase, with a status, and
// what it had booked is given back; one that goes on does not.
func TestIdleTimeout(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		const idle = 2 * time.Second // longer than a busy machine takes from step to step
		f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) {
			o.IdleTimeout, o.OnRoute = idle, func(*director.Route) {}
		})
		client := f.dial(t)
		steps := []func(*stream){
			func(s *stream) { s.send(requestHeaders(false)) },
			func(s *stream) { s.send(requestBody(chatBody(1)[:30], false)) },
			func(s *stream) { s.send(requestBody(chatBody(1)[30:], true)); s.recv(); s.chunks() },
			func(s *stream) { s.send(responseHeaders(200, "text/event-stream", false)); s.recv() },
			func(s *stream) { s.send(responseBody(events[:200], false)); s.recv() },
		}
		var wg sync.WaitGroup
		for n := range len(steps) + 1 {
			s := open(t, client, duplex, duplex)
			start := time.Now()
			for _, step := range steps[:n] {
				start = time.Now()
				step(s)
			}
			wg.Go(func() {
				_, err := s.s.Recv()
				if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "nothing came on the stream for 2s") {
					t.Errorf("after %d steps the stream ended with %v", n, err)
				}
				if d := time.Since(start); d < idle-50*time.Millisecond {
					t.Errorf("after %d steps the stream ended after %v", n, d)
				}
			})
		}
		wg.Wait()
		f.Free(t)
	})
	noMoreGoroutines(t, before)
}

// TestNotIdle: a request that waits to be let in is not idle, however long that takes.
func TestNotIdle(t *testing.T) {
	f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) {
		o.IdleTimeout = 500 * time.Millisecond
		o.OnRoute = func(*director.Route) { time.Sleep(1200 * time.Millisecond) }
	})
	s := open(t, f.dial(t), duplex, duplex)
	s.send(requestHeaders(false))
	s.send(requestBody(chatBody(1), true))
	if got := metadataDestination(s.recv()); got != allThree {
		t.Errorf("destination is %q", got)
	}
}

// TestNoIdleTimeout: there may be none.
func TestNoIdleTimeout(t *testing.T) {
	f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) { o.IdleTimeout = -1 })
	s := begin(t, f, duplex, duplex)
	s.send(responseHeaders(204, "", true))
	s.recv()
	require.NoError(t, s.ends())
	f.Free(t)
}
