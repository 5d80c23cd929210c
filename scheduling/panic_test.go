package scheduling_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// mine is a plugin and all hooks in one, that does something of its own when it is called
// as it is told to.
type mine struct {
	at string
	do func()
}

func (m *mine) called(at string) {
	if m.at == at {
		m.do()
	}
}

func (m *mine) Filter(context.Context, *types.Request, []*types.Endpoint, []bool) error {
	m.called("filter")
	return nil
}
func (m *mine) Score(context.Context, *types.Request, []*types.Endpoint, []float64) error {
	m.called("scorer")
	return nil
}
func (m *mine) Cost(context.Context, *types.Request, []*types.Endpoint, []float64) error {
	m.called("cost")
	return nil
}
func (m *mine) Pick(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) {
	m.called("picker")
	return 0, nil
}
func (m *mine) Picked(*types.Request, *types.Endpoint)                  { m.called("picked") }
func (m *mine) FirstToken(*types.Request, *types.Endpoint)              { m.called("first token") }
func (m *mine) Finished(*types.Request, *types.Endpoint, types.Outcome) { m.called("finished") }
func (m *mine) Answered(*types.Request, *types.Endpoint, types.Outcome) { m.called("answered") }
func (m *mine) Reread(*types.Request)                                   { m.called("reread") }
func (m *mine) Forget(*types.Endpoint)                                  { m.called("forget") }
func (m *mine) CachedTokens(*types.Request, *types.Endpoint) int        { m.called("cached tokens"); return 0 }
func (m *mine) ExpectedOutput(*types.Request) int                       { m.called("expected output"); return 1 }
func (m *mine) Describe(*types.Request, *types.Endpoint) string         { m.called("describe"); return "" }
func (m *mine) Items(*types.Request, *types.Endpoint) []scheduling.CostItem {
	m.called("items")
	return nil
}
func (m *mine) Patience(*types.Request, *types.Endpoint) time.Duration {
	m.called("patience")
	return 0
}
func (m *mine) Constraint(*types.Request, []*types.Endpoint) scheduling.Constraint {
	m.called("constraint")
	return scheduling.Constraint{}
}
func (m *mine) Done(types.Outcome) { m.called("ender") }
func (m *mine) now() time.Time     { m.called("clock"); return time.Now() }

func (m *mine) profile() scheduling.Profile {
	return scheduling.Profile{
		Filters: []scheduling.Named{{Filter: m}}, Scorers: []scheduling.Weighted{{Scorer: m, Weight: 1}}, Costs: []scheduling.Costed{{Coster: m}}, Picker: m,
		Fallbacks: 1, Now: m.now,
		Hooks: scheduling.Hooks{
			Scheduled:  func(scheduling.Event) { m.called("hook scheduled") },
			Rejected:   func(*types.Request, error) { m.called("hook rejected") },
			FirstToken: func(scheduling.Event) { m.called("hook first token") },
			Retried:    func(scheduling.Event) { m.called("hook retried") },
			Finished:   func(scheduling.Event) { m.called("hook finished") },
		},
	}
}

// places are all the calls of user code.
var places = []string{
	"filter", "scorer", "cost", "picker", "picked", "first token", "finished", "forget", "cached tokens", "expected output",
	"describe", "items", "patience", "constraint", "ender", "clock", "change", "reread", "answered",
	"hook scheduled", "hook rejected", "hook first token", "hook retried", "hook finished",
}

// live leads a request through all that can happen to it, and one more that is refused.
func live(s *scheduling.Scheduler, eps []*types.Endpoint, ender scheduling.Ender) {
	req := schedulingtest.Request("hello")
	s.Constraint(req, eps)
	_, _ = s.Explain(ctx, schedulingtest.Request("why"), eps)
	if d, err := s.Schedule(ctx, req, eps); err == nil {
		d.EndWith(ender)
		d.Patience()
		d.Reread(func(*types.Request) {
			if m, ok := ender.(*mine); ok {
				m.called("change")
			}
		})
		d.FirstToken()
		d.Retry(d.Fallbacks[0], types.Outcome{Status: 503})
		d.FirstToken()
		d.Answered(types.Outcome{Status: 200})
		d.Done(types.Outcome{Status: 200})
	}
	_, _ = s.Schedule(ctx, schedulingtest.Request("nowhere"), nil)
	s.Forget(eps[1])
}

// A plugin or hook that panics ends no process, leaves no booking behind, is told of, and
// keeps nobody else from being told.
func TestPanicAnywhere(t *testing.T) {
	for _, at := range places {
		t.Run(at, func(t *testing.T) {
			m := &mine{at: at, do: func() { panic(errOops) }}
			rec := &recorder{}
			p := m.profile()
			p.Trackers = []scheduling.Tracker{rec}
			var told []*scheduling.PluginError
			p.Hooks.PluginFailed = func(_ *types.Request, err *scheduling.PluginError) {
				told = append(told, err)
				panic("this one, too")
			}
			s := mustNew(t, p)
			eps := endpoints("a", "b")
			require.NotPanics(t, func() { live(s, eps, m) })
			if load(eps[0]) != [3]int64{} || load(eps[1]) != [3]int64{} || s.Open() != 0 {
				t.Errorf("the ledgers are %v and %v, open %d", load(eps[0]), load(eps[1]), s.Open())
			}
			if quiet := at == "describe" || at == "items"; !quiet {
				var p *scheduling.PanicError
				if len(told) == 0 || !errors.As(told[0], &p) || !errors.Is(told[0], errOops) || len(p.Stack) == 0 {
					t.Errorf("told of %v", told)
				}
			}
			if at != "filter" && at != "picker" && !slices.Contains(rec.log, "finished b false") {
				t.Errorf("the other tracker heard only %v", rec.log)
			}
			m.at = ""
			rec.log = nil
			live(s, endpoints("a", "b"), m)
			if !slices.Contains(rec.log, "finished b false") {
				t.Errorf("afterwards it heard %v", rec.log)
			}
		})
	}
}

var errOops = errors.New("oops")

// There is no hook that the tests of panics do not know.
func TestPanicsOfAllHooks(t *testing.T) {
	elsewhere := []string{"PluginFailed", "Warned", "Prefilled"} // each with what else is of its kind
	for _, hook := range guardtest.Functions(t, scheduling.Hooks{}) {
		if !slices.Contains(elsewhere, hook) {
			require.Contains(t, strings.ReplaceAll(strings.Join(places, " "), " ", ""), "hook"+strings.ToLower(hook))
		}
	}
}

// A plugin that ends its goroutine, as t.Fatal in a test does, leaves nothing behind.
func TestGoexitAnywhere(t *testing.T) {
	for _, at := range places {
		if at == "ender" || at == "forget" || at == "change" || at == "clock" || at == "reread" || at == "answered" { // these are not called, or by the test itself
			continue
		}
		t.Run(at, func(t *testing.T) {
			m := &mine{at: at, do: runtime.Goexit}
			s := mustNew(t, m.profile())
			eps := endpoints("a", "b")
			var wg sync.WaitGroup
			wg.Go(func() {
				d, err := s.Schedule(ctx, schedulingtest.Request("hello"), eps)
				if err != nil {
					return
				}
				defer d.Done(types.Outcome{Cancelled: true})
				d.FirstToken()
				d.Retry(d.Fallbacks[0], types.Outcome{Status: 503})
			})
			wg.Wait()
			s.Expire(time.Now().Add(24 * time.Hour))
			if load(eps[0]) != [3]int64{} || load(eps[1]) != [3]int64{} || s.Open() != 0 {
				t.Errorf("the ledgers are %v and %v, open %d", load(eps[0]), load(eps[1]), s.Open())
			}
		})
	}
}

// Whatever a plugin or hook calls, nothing waits for itself.
func TestCallsFromWithin(t *testing.T) {
	for _, at := range places {
		t.Run(at, func(t *testing.T) {
			m := &mine{at: at}
			s := mustNew(t, m.profile())
			eps := endpoints("a", "b")
			var current *scheduling.Decision
			m.do = func() {
				at := m.at
				m.at = "" // once
				defer func() { m.at = at }()
				s.Open()
				s.Expire(time.Time{})
				s.Forget(eps[0])
				live(s, endpoints("c", "d"), nil)
				if d := current; d != nil {
					d.Current()
					d.FirstToken()
					d.Retry(eps[0], types.Outcome{})
					d.Done(types.Outcome{})
				}
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				d, err := s.Schedule(ctx, schedulingtest.Request("hello"), eps)
				if err != nil {
					t.Error(err)
					return
				}
				d.EndWith(m)
				current = d
				d.FirstToken()
				d.Retry(d.Fallbacks[0], types.Outcome{Status: 503})
				d.Done(types.Outcome{Status: 200})
				live(s, eps, m)
			}()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("it hangs")
			}
			if load(eps[0]) != [3]int64{} || load(eps[1]) != [3]int64{} || s.Open() != 0 {
				t.Errorf("the ledgers are %v and %v, open %d", load(eps[0]), load(eps[1]), s.Open())
			}
		})
	}
}

// ends counts.
type ends []types.Outcome

func (e *ends) Done(out types.Outcome) { *e = append(*e, out) }

// What ends with a decision does so once, however that ends.
func TestEndWith(t *testing.T) {
	now := time.Unix(1000, 0)
	s := mustNew(t, scheduling.Profile{Picker: first, BookingTTL: time.Minute, Now: func() time.Time { return now }})
	eps := endpoints("a")
	schedule := func() *scheduling.Decision {
		d, err := s.Schedule(ctx, schedulingtest.Request("hi"), eps)
		require.NoError(t, err)
		return d
	}
	var done, expired, late ends
	d := schedule()
	d.EndWith(&done)
	d.Done(types.Outcome{Status: 201})
	d.Done(types.Outcome{})
	schedule().EndWith(&expired)
	now = now.Add(time.Hour)
	s.Expire(now)
	d = schedule()
	d.Done(types.Outcome{Status: 202})
	d.EndWith(&late)
	if len(done) != 1 || done[0].Status != 201 || len(expired) != 1 || !errors.Is(expired[0].Err, scheduling.ErrExpired) || len(late) != 1 || late[0].Status != 202 {
		t.Errorf("done: %v\nexpired: %v\nlate: %v", done, expired, late)
	}
}

// A booking of which there are signs of life stays for as long as there are.
func TestAliveKeepsTheBooking(t *testing.T) {
	now := time.Unix(1000, 0)
	s := mustNew(t, scheduling.Profile{Picker: first, BookingTTL: time.Minute, Now: func() time.Time { return now }})
	eps := endpoints("a")
	d, err := s.Schedule(ctx, schedulingtest.Request("hi"), eps)
	require.NoError(t, err)
	for range 60 * 24 {
		now = now.Add(time.Minute)
		d.Alive()
		s.Expire(now)
	}
	if s.Open() != 1 || eps[0].Load.Requests() != 1 {
		t.Fatalf("after a day of signs of life %d are open", s.Open())
	}
	now = now.Add(2 * time.Minute)
	s.Expire(now)
	now = now.Add(2 * time.Minute)
	s.Expire(now)
	if s.Open() != 0 || load(eps[0]) != [3]int64{} {
		t.Errorf("after the last one %d are open, the ledger is %v", s.Open(), load(eps[0]))
	}
}

// The attempt that a retry leaves is told with how it ended.
func TestRetryTellsHowTheAttemptEnded(t *testing.T) {
	var heard []types.Outcome
	s := mustNew(t, scheduling.Profile{Picker: first, Fallbacks: 1, Hooks: scheduling.Hooks{Retried: func(e scheduling.Event) { heard = append(heard, e.Outcome) }}})
	d, err := s.Schedule(ctx, schedulingtest.Request("hi"), endpoints("a", "b"))
	require.NoError(t, err)
	defer d.Done(types.Outcome{})
	d.Retry(d.Fallbacks[0], types.Outcome{Status: 503, RetryAfter: time.Second})
	if len(heard) != 1 || heard[0].Status != 503 || heard[0].RetryAfter != time.Second || !heard[0].Retried {
		t.Errorf("heard %+v", heard)
	}
}
