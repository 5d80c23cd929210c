package sharingtest

import (
	"runtime"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/sharing"
)

// Fleet is where the transports of a subtest live: its members hear each other, and nobody else does.
type Fleet struct {
	// Open returns a new transport of a member, one of Names, or ends the test. The kit closes it. A name is
	// opened again only when its transport was closed.
	Open func(t *testing.T, name string) sharing.Transport
	// Cut takes a member off the network, so that it hears nobody and nobody hears it, and Heal undoes all
	// that. Nil: partition is skipped.
	Cut  func(name string)
	Heal func()
	// Patience is how long something may take that has to happen. Default 10s.
	Patience time.Duration
	// HeapGrowth is how much memory may wait for one slow member, in bytes. Default 32 MiB.
	HeapGrowth int64
}

// Names returns the names of all members that a test may open.
func Names() []string { return []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} }

// Run tests a transport. fleet is called once for each subtest, which has the fleet for itself. Since goroutines are
// counted, nothing else should run at the same time. It takes a few seconds.
func Run(t *testing.T, fleet func(t *testing.T) Fleet) {
	before := runtime.NumGoroutine()
	patience := time.Duration(0)
	for _, test := range []struct {
		name string
		run  func(*world)
	}{
		{"reach", (*world).reach},
		{"sizes", (*world).sizes},
		{"too_long", (*world).tooLong},
		{"concurrent", (*world).concurrent},
		{"bursts", (*world).bursts},
		{"slow", (*world).slow},
		{"close", (*world).close},
		{"returns", (*world).returns},
		{"late", (*world).late},
		{"context", (*world).context},
		{"panics", (*world).panics},
		{"partition", (*world).partition},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, fleet(t))
			patience = max(patience, w.fleet.Patience)
			defer w.end()
			test.run(w)
		})
	}
	t.Run("goroutines", func(t *testing.T) {
		if left := settled(before+1, patience); left > before+1 { // with this subtest's own
			buf := make([]byte, 1<<16)
			t.Errorf("%d goroutines are left of %d when all is closed:\n%s", left, before+1, buf[:runtime.Stack(buf, true)])
		}
	})
}

// settled waits until there are no more goroutines than before, and returns how many there are.
func settled(before int, patience time.Duration) int {
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if n := runtime.NumGoroutine(); n <= before || time.Now().After(until) {
			return n
		}
	}
}
