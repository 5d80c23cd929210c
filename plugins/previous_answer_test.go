package plugins_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func mustAnswers(t testing.TB, o plugins.AnswerOptions) *plugins.PreviousAnswer {
	t.Helper()
	f, err := plugins.NewPreviousAnswer(o)
	require.NoError(t, err)
	return f
}

// continuing returns a request of a tenant and session that continues an answer.
func continuing(previous, session, tenant string, after time.Duration) *types.Request {
	req := turn(session, after)
	req.PreviousID, req.FairnessID = previous, tenant
	return req
}

func answer(id string) types.Outcome { return types.Outcome{Status: 200, ResponseID: id} }

// TestPreviousAnswer runs each case on both plugins that know where answers are.
func TestPreviousAnswer(t *testing.T) {
	eps := idle(3)
	type life = func(req *types.Request, ep *types.Endpoint, out types.Outcome)
	for _, tt := range []struct {
		name string
		do   func(life, scheduling.Forgetter)
		ask  *types.Request
		want string // IDs
	}{
		{"of nobody known", func(life, scheduling.Forgetter) {}, continuing("r1", "", "", 0), ""},
		{"given", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
		}, continuing("r1", "", "", time.Minute), "ep-1"},
		{"another one", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
		}, continuing("r11", "", "", 0), ""},
		{"none is asked for", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
		}, continuing("", "", "", 0), ""},
		{"it had no id", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer(""))
		}, continuing("", "", "", 0), ""},
		{"a chain", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
			l(continuing("r1", "", "", 0), eps[1], answer("r2"))
		}, continuing("r2", "", "", 0), "ep-1"},
		{"a chain that forks", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
			l(continuing("r1", "", "", 0), eps[1], answer("r2"))
			l(continuing("r1", "", "", 0), eps[2], answer("r3")) // that server had it as well
		}, continuing("r1", "", "", 0), "ep-1"},
		{"the other branch", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
			l(continuing("r1", "", "", 0), eps[1], answer("r2"))
			l(continuing("r1", "", "", 0), eps[2], answer("r3"))
		}, continuing("r3", "", "", 0), "ep-2"},
		{"another tenant's", func(l life, _ scheduling.Forgetter) {
			l(continuing("", "", "red", 0), eps[1], answer("r1"))
		}, continuing("r1", "", "blue", 0), ""},
		{"a tenant whose name ends where an id begins", func(l life, _ scheduling.Forgetter) {
			l(continuing("", "", "a", 0), eps[1], answer("br1"))
		}, continuing("r1", "", "ab", 0), ""},
		{"a tenant with a zero byte", func(l life, _ scheduling.Forgetter) {
			l(continuing("", "", "a\x00b", 0), eps[1], answer("r1"))
		}, continuing("b\x00r1", "", "a", 0), ""},
		{"retried elsewhere", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[0], types.Outcome{Status: 500, Retried: true, ResponseID: "r0"})
			l(turn("", 0), eps[2], answer("r1"))
		}, continuing("r1", "", "", 0), "ep-2"},
		{"an attempt that was left", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[0], types.Outcome{Status: 200, Retried: true, ResponseID: "r1"})
		}, continuing("r1", "", "", 0), ""},
		{"failed", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[0], types.Outcome{Status: 200, Err: errors.New("cut off"), ResponseID: "r1"})
		}, continuing("r1", "", "", 0), ""},
		{"refused", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[0], types.Outcome{Status: 404, ResponseID: "r1"})
		}, continuing("r1", "", "", 0), ""},
		{"cancelled", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[0], types.Outcome{Status: 200, Cancelled: true, ResponseID: "r1"})
		}, continuing("r1", "", "", 0), ""},
		{"it fails later", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[0], answer("r1"))
			l(continuing("r1", "", "", 0), eps[0], broken)
		}, continuing("r1", "", "", 0), "ep-0"},
		{"a server of the same name", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), idle(1)[0], answer("r1"))
		}, continuing("r1", "", "", 0), ""},
		{"no ledger", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), &types.Endpoint{ID: "bare"}, answer("r1"))
		}, continuing("r1", "", "", 0), ""},
		{"forgotten", func(l life, f scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
			l(turn("", 0), eps[2], answer("r2"))
			f.Forget(eps[1])
		}, continuing("r1", "", "", 0), ""},
		{"another one forgotten", func(l life, f scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
			f.Forget(eps[2])
		}, continuing("r1", "", "", 0), "ep-1"},
		{"as long as it is kept", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
		}, continuing("r1", "", "", time.Minute), "ep-1"},
		{"for too long", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
		}, continuing("r1", "", "", time.Minute+1), ""},
		{"continued in time", func(l life, _ scheduling.Forgetter) {
			l(turn("", 0), eps[1], answer("r1"))
			l(continuing("r1", "", "", 50*time.Second), eps[1], types.Outcome{Status: 200})
		}, continuing("r1", "", "", 100*time.Second), "ep-1"},
		{"whatever its session", func(l life, _ scheduling.Forgetter) {
			l(turn("s", 0), eps[1], answer("r1"))
			l(turn("s", 0), eps[2], answer("r2"))
		}, continuing("r1", "s", "", 0), "ep-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := mustAnswers(t, plugins.AnswerOptions{TTL: time.Minute})
			s := mustSessions(t, plugins.SessionOptions{TTL: time.Minute})
			for _, plugin := range []interface {
				scheduling.Tracker
				scheduling.Forgetter
			}{f, s} {
				tt.do(func(req *types.Request, ep *types.Endpoint, out types.Outcome) {
					plugin.Picked(req, ep)
					plugin.Finished(req, ep, out)
				}, plugin)
			}
			want, scores := tt.want, []float64{nan, nan, nan}
			if want == "" {
				want = "ep-0 ep-1 ep-2"
			} else {
				scores = []float64{0, 0, 0}
				scores[want[3]-'0'] = 1
			}
			if got := strings.Join(schedulingtest.Filter(t, f, tt.ask, eps...), " "); got != want {
				t.Errorf("Filter keeps %q, want %q", got, want)
			}
			if got := schedulingtest.Score(t, s, tt.ask, eps...); !sameScores(got, scores) {
				t.Errorf("Score = %v, want %v", got, scores)
			}
			c := f.Constraint(tt.ask, eps)
			for _, ep := range eps {
				if got := c.Match == nil || c.Match(ep.WithMetrics(types.Metrics{})); got != strings.Contains(want, ep.ID) {
					t.Errorf("Constraint matches %s: %v", ep.ID, got)
				}
			}
			if gone := append([]*types.Endpoint{}, idle(2)...); f.Constraint(tt.ask, gone).Match != nil || len(schedulingtest.Filter(t, f, tt.ask, gone...)) != 2 {
				t.Errorf("other servers are struck out when the one has gone")
			}
		})
	}
}

// TestTrapSessionsOfTenants: the border between tenant and session is not to be moved by
// whoever chooses either.
func TestTrapSessionsOfTenants(t *testing.T) {
	for _, pair := range [][2]string{{"a\x00b", "c"}, {"a", "\x00b"}, {strings.Repeat("t", 200), "x"}} {
		s, eps := mustSessions(t, plugins.SessionOptions{}), idle(2)
		s.Picked(continuing("", pair[1], pair[0], 0), eps[0])
		all := pair[0] + "\x00" + pair[1]
		for i := range len(all) {
			tenant, session := all[:i], strings.TrimPrefix(all[i:], "\x00")
			if session == "" || tenant == pair[0] && session == pair[1] {
				continue
			}
			if got := schedulingtest.Score(t, s, continuing("", session, tenant, 0), eps...); got[0] == got[0] {
				t.Errorf("tenant %q, session %q is taken for tenant %q, session %q", tenant, session, pair[0], pair[1])
			}
		}
	}
	// An answer is no session, whatever its name.
	s, eps := mustSessions(t, plugins.SessionOptions{}), idle(2)
	s.Finished(turn("", 0), eps[0], answer("x"))
	if got := schedulingtest.Score(t, s, turn("x", 0), eps...); got[0] == got[0] {
		t.Errorf("the session x is taken for the answer x: %v", got)
	}
	// Sessions that differ only far behind are different.
	long := strings.Repeat("x", 1000)
	s.Picked(turn(long+"1", 0), eps[0])
	if got := schedulingtest.Score(t, s, turn(long+"2", 0), eps...); got[0] == got[0] {
		t.Errorf("long sessions with the same beginning are one: %v", got)
	}
}

// TestTrapAnswersWithoutBound: ids are the servers' and, as far as those echo them, the
// clients'.
func TestTrapAnswersWithoutBound(t *testing.T) {
	f, s := mustAnswers(t, plugins.AnswerOptions{MaxAnswers: 100}), mustSessions(t, plugins.SessionOptions{MaxSessions: 100})
	eps := idle(3)
	for i := range 5000 {
		req := turn(fmt.Sprint(i), 0)
		s.Picked(req, eps[i%3])
		s.Finished(req, eps[i%3], answer(fmt.Sprint("r", i)))
		f.Finished(req, eps[i%3], answer(fmt.Sprint("r", i)))
		f.Finished(req, eps[1], answer("kept"))
		if f.Len() > 100 || s.Len() > 100 {
			t.Fatalf("%d answers, and %d sessions and answers are remembered, the bound is 100", f.Len(), s.Len())
		}
	}
	if got := schedulingtest.Filter(t, f, continuing("kept", "", "", 0), eps...); len(got) != 1 {
		t.Errorf("an answer in use was forgotten before others")
	}
	for _, ep := range eps {
		f.Forget(ep)
		s.Forget(ep)
	}
	if f.Len() != 0 || s.Len() != 0 {
		t.Errorf("%d answers, and %d sessions and answers are left when all endpoints have gone", f.Len(), s.Len())
	}
	for _, o := range []plugins.AnswerOptions{{MaxAnswers: -1}, {MaxAnswers: plugins.LimitMaxSessions + 1}, {TTL: -1}} {
		if f, err := plugins.NewPreviousAnswer(o); f != nil || err == nil {
			t.Errorf("NewPreviousAnswer(%+v): no error", o)
		}
	}
}

// TestTrapChainsOfAnswers: in every ready-made profile whoever continues an answer gets to
// the server that gave it, along chains that fork, with retries, while one server is out.
func TestTrapChainsOfAnswers(t *testing.T) {
	for name, p := range map[string]scheduling.Profile{
		"Default": plugins.Default(), "Classic": plugins.Classic(), "LeastRequests": plugins.LeastRequests(),
		"RoundRobin": plugins.RoundRobinProfile(), "Random": plugins.RandomProfile(), "DecisionTree": plugins.DecisionTree(),
	} {
		s, eps, rnd := mustNew(t, seeded(p)), idle(4), rand.New(rand.NewPCG(1, 1))
		at, ids := map[string]*types.Endpoint{}, []string{}
		for i := range 400 {
			req := schedulingtest.Request(fmt.Sprint("request ", i))
			if len(ids) > 0 && i%4 > 0 {
				req.PreviousID = ids[rnd.IntN(len(ids))]
			}
			d := mustSchedule(t, s, req, eps)
			if want := at[req.PreviousID]; want != nil && (d.Endpoint != want || len(d.Fallbacks) > 0) {
				t.Fatalf("%s: request %d goes to %s with %d fallbacks, the answer is at %s", name, i, d.Endpoint.ID, len(d.Fallbacks), want.ID)
			}
			if i%5 == 0 && len(d.Fallbacks) > 0 {
				d.Retry(d.Fallbacks[0], types.Outcome{Err: errors.New("reset")})
			}
			id := fmt.Sprint("resp_", i)
			at[id] = d.Current()
			ids = append(ids, id)
			d.Done(answer(id))
		}
	}
}

func TestPreviousAnswerDeclared(t *testing.T) {
	load := func(parameters string) (*plugins.PreviousAnswer, error) {
		profiles, err := plugins.NewRegistry().Load([]byte(declare(
			`{"type": "previous-answer-filter", "parameters": `+parameters+`}, {"type": "random-picker"}`,
			`{"name": "p", "plugins": [{"pluginRef": "previous-answer-filter"}, {"pluginRef": "random-picker"}]}`)))
		if err != nil {
			return nil, err
		}
		return profiles["p"].Filters[0].Filter.(*plugins.PreviousAnswer), nil
	}
	f, err := load(`{"maxAnswers": 2, "ttl": "1m"}`)
	require.NoError(t, err)
	eps := idle(2)
	for i := range 5 {
		f.Finished(turn("", 0), eps[0], answer(fmt.Sprint(i)))
	}
	if f.Len() != 2 || len(schedulingtest.Filter(t, f, continuing("4", "", "", time.Minute), eps...)) != 1 ||
		len(schedulingtest.Filter(t, f, continuing("4", "", "", time.Minute+1), eps...)) != 2 {
		t.Errorf("the parameters have no effect: %d answers", f.Len())
	}
	for _, bad := range []string{`{"maxSessions": 2}`, `{"ttl": "soon"}`, `{"ttl": "-1s"}`, `{"maxAnswers": -1}`} {
		if _, err := load(bad); err == nil {
			t.Errorf("parameters %s: no error", bad)
		}
	}
}
