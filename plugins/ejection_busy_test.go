package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var unsent = types.Outcome{Unsent: true, Err: errors.New("no route to host")}

func busyFor(status int, after time.Duration) types.Outcome {
	return types.Outcome{Status: status, RetryAfter: after}
}

// wantSpared checks that a gets nothing for just so long, and then is in as before.
func (w *ward) wantSpared(d time.Duration, when string) {
	w.t.Helper()
	w.wantEjected(d, when)
	w.wantSays(0, "")
	if n := w.f.Ejected(); n != 0 {
		w.t.Errorf("%s: Ejected = %d, want 0", when, n)
	}
}

// TestTrapBusyIsNotDead: a server that says that it has too much to do is left alone for
// as long as it asks.
func TestTrapBusyIsNotDead(t *testing.T) {
	type o = plugins.EjectionOptions
	for _, tt := range []struct {
		name string
		o    o
		out  types.Outcome
		want time.Duration
	}{
		{"503", o{}, busyFor(503, 0), plugins.DefaultEjectionSpare},
		{"429", o{}, busyFor(429, 0), plugins.DefaultEjectionSpare},
		{"429 of which the rest was cut off", o{}, types.Outcome{Status: 429, Err: io.ErrUnexpectedEOF}, plugins.DefaultEjectionSpare},
		{"retried elsewhere", o{}, types.Outcome{Status: 503, Retried: true}, plugins.DefaultEjectionSpare},
		{"the client did not wait for the end", o{}, types.Outcome{Status: 503, Cancelled: true}, plugins.DefaultEjectionSpare},
		{"it asks for less", o{}, busyFor(503, 20*time.Millisecond), 20 * time.Millisecond},
		{"it asks for more", o{}, busyFor(429, 7*time.Second), 7 * time.Second},
		{"it asks for far too much", o{}, busyFor(429, 100*time.Hour), plugins.DefaultEjectionMaxSpare},
		{"own times", o{Spare: 3 * time.Second, MaxSpare: 5 * time.Second}, busyFor(503, 0), 3 * time.Second},
		{"own times, asked for", o{Spare: 3 * time.Second, MaxSpare: 5 * time.Second}, busyFor(503, time.Minute), 5 * time.Second},
		{"a bound below the default", o{MaxSpare: 10 * time.Millisecond}, busyFor(503, 0), 10 * time.Millisecond},
		{"a default above the bound", o{Spare: time.Minute}, busyFor(503, time.Hour), time.Minute},
		{"one failure is enough for others", o{Failures: 1}, busyFor(503, 0), plugins.DefaultEjectionSpare},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWard(t, tt.o)
			for i := range 5 { // no doubling
				w.sends(0, 1, tt.out)
				w.wantSpared(tt.want, fmt.Sprintf("time %d", i+1))
			}
			w.send(0)
			w.send(0)
			w.wantKept("a b c", "with two requests in flight, as there is no probation")
		})
	}
	t.Run("between failures", func(t *testing.T) {
		w := newWard(t, plugins.EjectionOptions{})
		w.sends(0, 2, broken)
		w.sends(0, 5, busyFor(503, 0))
		w.wantSpared(plugins.DefaultEjectionSpare, "after two failures")
		w.sends(0, 1, broken)
		w.wantEjected(time.Second, "the third failure")
	})
	t.Run("on probation", func(t *testing.T) {
		w := newWard(t, plugins.EjectionOptions{})
		w.sends(0, 1, unreached)
		w.sleep(time.Second)
		w.sends(0, 1, busyFor(503, 0))
		w.wantSays(0, "busy, spared for 500ms more")
		w.wantEjected(500*time.Millisecond, "busy on probation")
		w.wantSays(0, "on probation")
		w.sends(0, 1, broken)
		w.wantEjected(2*time.Second, "failed on probation")
	})
	t.Run("longer than its ejection", func(t *testing.T) {
		w := newWard(t, plugins.EjectionOptions{})
		v := w.send(0)
		v.end(busyFor(503, 3*time.Second))
		w.sends(0, 1, unreached)
		w.wantEjected(3*time.Second, "spared, then ejected")
	})
	t.Run("the longest counts", func(t *testing.T) {
		w := newWard(t, plugins.EjectionOptions{})
		w.sends(0, 1, busyFor(429, 5*time.Second))
		w.sends(0, 1, busyFor(429, time.Second))
		w.wantSpared(5*time.Second, "asked twice")
	})
	t.Run("all are", func(t *testing.T) {
		w := newWard(t, plugins.EjectionOptions{})
		w.sends(0, 1, busyFor(429, 5*time.Second))
		w.sends(1, 1, unreached)
		w.sends(2, 1, busyFor(503, 0))
		w.wantKept("a b c", "when all are struck out")
		w.sleep(time.Millisecond)
		w.sends(0, 1, served)
		w.wantKept("a", "when a serves what was sent to it after all")
	})
	t.Run("requests of before", func(t *testing.T) {
		w := newWard(t, plugins.EjectionOptions{})
		v := w.send(0)
		w.sleep(time.Millisecond)
		w.sends(0, 1, busyFor(503, 0))
		v.end(served)
		w.wantSpared(500*time.Millisecond, "after one of before was served")
	})
}

// TestTrapOneRequestManyServers: one request costs at most one server its traffic,
// whatever it does to how many.
func TestTrapOneRequestManyServers(t *testing.T) {
	retried := func(o types.Outcome) types.Outcome {
		o.Retried = true
		return o
	}
	outs := map[string]types.Outcome{
		"503": busyFor(503, 0), "429": busyFor(429, time.Minute), "500": broken, "no answer": unreached,
		"broken off": cutOff, "no status": {Status: 999}, "moved on": {}, "deadline": late,
	}
	for _, failures := range []int{1, 3} {
		for name, first := range outs {
			for name2, then := range outs {
				t.Run(fmt.Sprintf("failures=%d/%s, then %s", failures, name, name2), func(t *testing.T) {
					w := newWard(t, plugins.EjectionOptions{Failures: failures})
					struck := func() (n int) {
						for _, ep := range w.eps {
							if w.f.Describe(w.request(), ep) != "" {
								n++
							}
						}
						return n
					}
					for range 2 { // three in a row at each, if they counted
						req := w.request()
						for i, ep := range w.eps {
							w.f.Picked(req, ep)
							if i == 2 {
								w.f.FirstToken(req, ep)
							}
							w.f.Finished(req, ep, retried(first))
							w.f.Picked(req, ep)
							if i < 2 {
								w.f.Finished(req, ep, retried(then))
							} else {
								w.f.Finished(req, ep, then)
							}
						}
						if n := struck(); n > 1 {
							t.Fatalf("%d servers are struck out after one request", n)
						}
						for _, ep := range w.eps {
							w.f.Forget(ep)
						}
					}
				})
			}
		}
	}
	// In a row, too: three requests that fail everywhere eject the first that they met.
	w := newWard(t, plugins.EjectionOptions{})
	for range 3 {
		req := w.request()
		for range 4 {
			for i, ep := range w.eps {
				w.f.Picked(req, ep)
				w.f.Finished(req, ep, types.Outcome{Status: 500, Retried: i < 2})
			}
		}
	}
	w.wantKept("b c", "after three requests that failed everywhere")
	// On probation: one that has put out a server before is no trial.
	w.sleep(time.Second)
	req := w.request()
	w.f.Picked(req, w.eps[1])
	w.f.Finished(req, w.eps[1], types.Outcome{Err: io.EOF, Retried: true})
	w.f.Picked(req, w.eps[0])
	w.f.Finished(req, w.eps[0], unreached)
	w.wantKept("a c", "after a request that failed at b first")
	w.wantSays(0, "on probation")
	// A success counts, whatever was before.
	req = w.request()
	w.f.Picked(req, w.eps[2])
	w.f.Finished(req, w.eps[2], types.Outcome{Status: 500, Retried: true})
	w.f.Picked(req, w.eps[0])
	w.f.Finished(req, w.eps[0], served)
	w.wantSays(0, "")
}

// TestEjectionVerdicts: what one outcome does.
func TestEjectionVerdicts(t *testing.T) {
	type o = types.Outcome
	failed := errors.New("failed")
	const in, out, row = "in", "out at once", "out in a row"
	for _, tt := range []struct {
		name string
		o    o
		want string
	}{
		{"not sent", unsent, in},
		{"not sent, retried", o{Unsent: true, Retried: true, Err: failed}, in},
		{"not sent, with a status of the gateway's", o{Unsent: true, Status: 502}, in},
		{"no answer", o{Err: failed}, out},
		{"no answer, retried", o{Err: failed, Retried: true}, out},
		{"a status below 200", o{Status: 101}, out},
		{"a status of one", o{Status: 1}, out},
		{"a status above 599", o{Status: 600}, out},
		{"a status below 0", o{Status: -5}, out},
		{"500", o{Status: 500}, row},
		{"502, retried", o{Status: 502, Retried: true}, row},
		{"504 with an error, retried", o{Status: 504, Err: failed, Retried: true}, row},
		{"599", o{Status: 599}, row},
		{"200 that is cut off, retried", o{Status: 200, Err: failed, Retried: true}, row},
		{"200 that could not be used", o{Status: 200, Retried: true}, row},
		{"400", o{Status: 400, Retried: true}, in},
		{"499", o{Status: 499, Err: failed}, in},
		{"302", o{Status: 302}, in},
		{"501", o{Status: 501}, in},
		{"501 in a 200", o{Status: 501, Err: failed}, in},
		{"529", o{Status: 529}, out}, // spared, as after 503
		{"503", o{Status: 503}, out},
		{"left by the data plane", o{Retried: true, Err: context.DeadlineExceeded}, in},
		{"a client that went away", o{Cancelled: true}, in},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWard(t, plugins.EjectionOptions{})
			got := in
			for i := range 4 {
				w.sends(0, 1, tt.o)
				if w.kept() == "b c" {
					got = map[int]string{0: out, 2: row}[i]
					break
				}
			}
			require.Equal(t, tt.want, got, "after %+v the server", tt.o)
		})
	}
}

// TestEjectionTellsLoad: who asks for room sees the same as who decides.
func TestEjectionTellsLoad(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	want := func(out bool, until time.Duration, when string) {
		t.Helper()
		got, is := w.eps[0].Load.Out(epoch.Add(w.now))
		wantUntil := epoch.Add(until)
		if until < 0 {
			wantUntil = types.Forever
		}
		if is != out || out && !got.Equal(wantUntil) {
			t.Errorf("%s: Out = %v, %v, want %v, %v", when, got, is, wantUntil, out)
		}
		if kept := w.kept(); (kept == "b c") != out {
			t.Errorf("%s: Filter keeps %q", when, kept)
		}
	}
	want(false, 0, "new")
	w.sends(0, 1, unreached)
	want(true, time.Second, "ejected")
	w.sleep(time.Second)
	want(false, 0, "on probation")
	v := w.send(0)
	want(true, -1, "on probation, with a trial")
	w.sleep(time.Hour)
	want(true, -1, "with a long trial")
	v.end(expired)
	want(false, 0, "the trial said nothing")
	v = w.send(0)
	v.end(unsent)
	want(false, 0, "the trial was not sent")
	now := w.now
	w.sends(0, 1, broken)
	want(true, now+2*time.Second, "it failed")
	w.sleep(2 * time.Second)
	v = w.send(0).token()
	want(false, 0, "it answers")
	v.end(served)
	now = w.now
	w.sends(0, 1, busyFor(503, 0))
	want(true, now+500*time.Millisecond, "it is busy")
	w.sleep(500 * time.Millisecond)
	want(false, 0, "it was spared")
	w.sends(0, 1, unreached)
	w.f.Forget(w.eps[0])
	want(false, 0, "forgotten")
	w.eps[0].Load.Retire()
	w.sends(0, 1, unreached)
	want(false, 0, "gone")
}

// TestEjectionPatience: only where a request is a trial, and for a time that fits the pool.
func TestEjectionPatience(t *testing.T) {
	w := newWard(t, plugins.EjectionOptions{})
	ask := func(i int, change ...func(*types.Request)) time.Duration {
		req := w.request()
		for _, c := range change {
			c(req)
		}
		return w.f.Patience(req, w.eps[i])
	}
	learn := func(n int, took time.Duration) {
		for range n {
			v := w.send(1)
			w.sleep(took)
			v.end(served)
		}
	}
	if d := ask(0); d != 0 {
		t.Errorf("in health: Patience = %v, want 0", d)
	}
	w.sends(0, 1, busyFor(503, 0))
	if d := ask(0); d != 0 {
		t.Errorf("busy: Patience = %v, want 0", d)
	}
	w.sends(0, 1, unreached)
	w.sleep(time.Second)
	require.Equal(t, plugins.UnknownPatience, ask(0), "before anything is known: Patience")
	if d := ask(1); d != 0 {
		t.Errorf("of a healthy one beside it: Patience = %v, want 0", d)
	}
	learn(100, time.Millisecond)
	require.Equal(t, plugins.MinPatience, ask(0), "in a quick pool: Patience")
	for _, other := range []func(*types.Request){
		func(r *types.Request) { r.Stream = true },
		func(r *types.Request) { r.Prompt.Tokens = 1 << 20 },
		func(r *types.Request) { r.MaxTokens = 10 },
	} {
		require.Equal(t, plugins.UnknownPatience, ask(0, other), "for a request of another kind: Patience")
	}
	learn(300, 200*time.Millisecond)
	if d := ask(0); d < 250*time.Millisecond || d > 500*time.Millisecond {
		t.Errorf("where 200 ms are usual: Patience = %v, want somewhat more", d)
	}
	learn(500, time.Minute)
	if d := ask(0); d < time.Minute || d > 2*time.Minute {
		t.Errorf("where a minute is usual: Patience = %v, so that no server that works again would pass the trial", d)
	}
	w.sends(0, 1, types.Outcome{Retried: true, Err: fmt.Errorf("left: %w", context.DeadlineExceeded)})
	w.wantSays(0, "ejected for 2s more after a request on probation without a sign of life")
	w.sleep(2 * time.Second)
	w.sends(0, 1, served)
	if d := ask(0); d != 0 {
		t.Errorf("when it serves again: Patience = %v, want 0", d)
	}
}
