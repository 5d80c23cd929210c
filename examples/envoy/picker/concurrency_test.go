package picker_test

import (
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

type profile = scheduling.Profile

// TestConcurrentStreams: thousands of exchanges at once, all open before any goes on,
// a third of which is reset; every body comes back, and nothing stays.
func TestConcurrentStreams(t *testing.T) {
	const streams = 2000
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *profile) {
			o.OnRoute = func(*director.Route) {}
		})
		client := f.dial(t)
		var opened, wg sync.WaitGroup
		opened.Add(streams)
		for i := range streams {
			wg.Go(func() {
				s := open(t, client, duplex, duplex)
				s.send(requestHeaders(false))
				s.send(requestBody(chatBody(i)[:20], false))
				opened.Done()
				opened.Wait()
				if i%3 == 0 {
					s.cancel()
					return
				}
				s.send(requestBody(chatBody(i)[20:], true))
				s.recv()
				if body, _ := s.chunks(); string(body) != routedBody(i) {
					t.Errorf("stream %d: the body came back otherwise", i)
				}
				s.send(responseHeaders(200, "text/event-stream", false))
				s.recv()
				s.send(responseBody(events, true))
				if body, _ := s.chunks(); string(body) != strings.ReplaceAll(events, "llama-8b", "chat") {
					t.Errorf("stream %d: the response came back otherwise", i)
				}
				if err := s.ends(); err != nil {
					t.Errorf("stream %d ended with %v", i, err)
				}
			})
		}
		wg.Wait()
		f.Free(t)
	})
	noMoreGoroutines(t, before)
}

func TestOptions(t *testing.T) {
	d := newFixture(t, nil).Director
	for want, o := range map[string]exchange.Options{
		"Options.Director is required":        {},
		"Options.MaxBody is -1":               {Director: d, MaxBody: -1},
		"Options.MaxDestinations is -1, want": {Director: d, MaxDestinations: -1},
		"Options.MaxStreams is -1, want":      {Director: d, MaxStreams: -1},
	} {
		if _, err := picker.New(picker.Options{Options: o}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v, want %q", err, want)
		}
	}
}
