package scheduling_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// split is a Splitter that prefers the first that may compute a prompt, and the rest in order.
type split struct {
	gain  float64
	worse bool // by itself is better
	takes time.Duration
	err   error
	seen  []string
}

func (s *split) Split(_ context.Context, _ *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, gains []float64) error {
	if len(prefill) == 0 {
		return nil
	}
	s.seen = append(s.seen, ids(eps)+" by "+ids(prefill))
	for i := range eps {
		by[i], gains[i] = 0, s.gain
		if prefill[0].Load == eps[i].Load || s.worse && !must {
			by[i] = -1
		}
	}
	return s.err
}

func (s *split) PrefillTime(*types.Request, *types.Endpoint) time.Duration { return s.takes }

// legs records what a PrefillTracker is told.
type legs struct{ recorder }

func (l *legs) PrefillPicked(_ *types.Request, prefill, answer *types.Endpoint) {
	l.say("prefill " + prefill.ID + " for " + answer.ID)
}

func (l *legs) PrefillFinished(_ *types.Request, prefill *types.Endpoint, out types.Outcome) {
	how := "failed"
	if out.Served() {
		how = "served"
	} else if out.Cancelled {
		how = "cancelled"
	}
	l.say("prefilled " + prefill.ID + " " + how)
}

func withRoles(roles map[string]types.Roles, names ...string) []*types.Endpoint {
	eps := endpoints(names...)
	for _, ep := range eps {
		ep.Roles = roles[ep.ID]
	}
	return eps
}

var roles = map[string]types.Roles{
	"p1": types.RolePrefill, "p2": types.RolePrefill, "p3": types.RolePrefill, "p4": types.RolePrefill,
	"d1": types.RoleDecode, "d2": types.RoleDecode, "only": types.RoleDecode | types.RoleNotAlone, "both": types.RolePrefill | types.RoleDecode, "enc": types.RoleEncode,
}

func splittable(tokens int) *types.Request {
	r := schedulingtest.Request("hello")
	r.Prompt.Tokens, r.Split = tokens, true
	return r
}

func splitter(t *testing.T, s *split, l *legs) *scheduling.Scheduler {
	p := scheduling.Profile{Splitter: s, Picker: first, Fallbacks: 1, OutputTokens: 10, Seed: 1}
	if l != nil {
		p.Trackers = []scheduling.Tracker{l}
	}
	return mustNew(t, p)
}

// Endpoints that may not answer never get a whole request, whether anybody can split one or not.
func TestRolesAreAConstraint(t *testing.T) {
	s := mustNew(t, scheduling.Profile{Picker: first, Seed: 1})
	d, err := s.Schedule(ctx, splittable(10), withRoles(roles, "p1", "enc", "d1"))
	require.NoError(t, err)
	require.Equal(t, "d1", d.Endpoint.ID)
	require.Nil(t, d.Prefill())
	d.Done(types.Outcome{})

	_, err = s.Schedule(ctx, splittable(10), withRoles(roles, "p1", "enc"))
	require.ErrorIs(t, err, scheduling.ErrNoEndpoint)
	require.EqualError(t, err, "scheduling: no endpoint can serve the request: none of 2 candidates may answer, by their roles")

	ex, err := s.Explain(ctx, splittable(10), withRoles(roles, "p1", "d1"))
	require.NoError(t, err)
	require.Equal(t, "role", ex.Candidates[0].FilteredBy)
	require.Equal(t, "prefill", ex.Candidates[0].FilterDetail)
}

func TestSplit(t *testing.T) {
	for name, tt := range map[string]struct {
		split  split
		whole  bool
		eps    []*types.Endpoint
		answer string
		by     string // "": nobody else
		asked  []string
	}{
		"better":           {eps: withRoles(roles, "p1", "d1", "d2"), answer: "d1", by: "p1", asked: []string{"d1 d2 by p1"}},
		"worse":            {split: split{worse: true}, eps: withRoles(roles, "p1", "d1"), answer: "d1", asked: []string{"d1 by p1"}},
		"not to be split":  {whole: true, eps: withRoles(roles, "p1", "d1"), answer: "d1"},
		"nobody helps":     {eps: withRoles(roles, "d1", "d2"), answer: "d1"},
		"no roles":         {eps: endpoints("a", "b"), answer: "a"},
		"both":             {eps: withRoles(roles, "both", "d1"), answer: "both", asked: []string{"both d1 by both"}},
		"it fails":         {split: split{err: errors.New("no")}, eps: withRoles(roles, "p1", "d1"), answer: "d1", asked: []string{"d1 by p1"}},
		"not a number":     {split: split{gain: math.NaN()}, eps: withRoles(roles, "p1", "d1"), answer: "d1", by: "p1", asked: []string{"d1 by p1"}},
		"unlabelled alone": {eps: append(endpoints("a"), withRoles(roles, "p1")...), answer: "a", by: "p1", asked: []string{"a by p1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := splitter(t, &tt.split, nil)
			req := splittable(100)
			req.Split = !tt.whole
			d, err := s.Schedule(ctx, req, tt.eps)
			require.NoError(t, err)
			require.Equal(t, tt.answer, d.Endpoint.ID)
			if tt.by == "" {
				require.Nil(t, d.Prefill())
			} else {
				require.Equal(t, tt.by, d.Prefill().ID)
			}
			require.Equal(t, tt.asked, tt.split.seen)
			d.Done(types.Outcome{})
			ex, err := s.Explain(ctx, req, tt.eps)
			require.NoError(t, err)
			require.Equal(t, tt.answer, ex.Endpoint.ID)
			if len(tt.asked) > 0 && tt.split.err == nil {
				require.NotNil(t, ex.Apart, "the best pair is shown whether it is chosen or not")
				require.NotNil(t, ex.Alone, "and the best endpoint")
			}
			for _, ep := range tt.eps {
				require.Zero(t, ep.Load.Held(), ep.ID)
			}
		})
	}
}

// Who may not serve a request alone is left out if nobody helps.
func TestNotAlone(t *testing.T) {
	eps := withRoles(roles, "p1", "only", "d1")
	s := splitter(t, &split{worse: true}, nil)
	d, err := s.Schedule(ctx, splittable(10), eps)
	require.NoError(t, err)
	require.Equal(t, "d1", d.Endpoint.ID)
	require.ErrorContains(t, d.RetryApart(ctx, eps[1], types.Outcome{}, eps[1:]), "only answers only where another does, by its role decode-only")
	require.NoError(t, d.RetryApart(ctx, eps[1], types.Outcome{}, eps))
	require.Equal(t, "p1", d.Prefill().ID)
	d.PrefillDone(types.Outcome{Status: 500})
	require.ErrorIs(t, d.Alone(types.Outcome{}, eps), scheduling.ErrNoPrefill)
	d.Done(types.Outcome{})

	_, err = s.Schedule(ctx, splittable(10), eps[:2])
	require.EqualError(t, err, "scheduling: no endpoint can serve the request: none of 2 candidates may answer, by their roles")
	ex, err := s.Explain(ctx, splittable(10), eps)
	require.NoError(t, err)
	require.Equal(t, "decode-only", ex.Candidates[1].FilterDetail)

	d, err = splitter(t, &split{}, nil).Schedule(ctx, splittable(10), eps[:2])
	require.NoError(t, err)
	require.Equal(t, "only", d.Endpoint.ID)
	d.Done(types.Outcome{})
}

// Filters hold for those that compute prompts, too, each list for itself.
func TestSplitFilters(t *testing.T) {
	s := &split{}
	sched := mustNew(t, scheduling.Profile{Splitter: s, Picker: first, Filters: []scheduling.Named{{Filter: without("p1", "d1")}}})
	d, err := sched.Schedule(ctx, splittable(1), withRoles(roles, "p1", "d1", "p2", "d2"))
	require.NoError(t, err)
	require.Equal(t, "d2", d.Endpoint.ID)
	require.Equal(t, "p2", d.Prefill().ID)
	d.Done(types.Outcome{})
	d, err = sched.Schedule(ctx, splittable(1), withRoles(roles, "p1", "d2"))
	require.NoError(t, err)
	require.Nil(t, d.Prefill(), "none is left")
	d.Done(types.Outcome{})
}

// The stages are booked and released at their own moments.
func TestSplitLife(t *testing.T) {
	l := new(legs)
	s := splitter(t, &split{}, l)
	eps := withRoles(roles, "p1", "d1")
	p, a := eps[0], eps[1]
	d, err := s.Schedule(ctx, splittable(100), eps)
	require.NoError(t, err)
	require.Equal(t, types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: 100, ContextTokens: 100}, p.Load.Held())
	require.Equal(t, types.Booking{Requests: 1, Prefilling: 1, ContextTokens: 110}, a.Load.Held())
	d.PrefillDone(types.Outcome{Status: 200})
	d.PrefillDone(types.Outcome{Status: 500}) // of no effect
	require.Equal(t, types.Booking{ContextTokens: 100}, p.Load.Held(), "the KV cache waits to be fetched")
	require.Equal(t, p, d.Prefill())
	d.FirstToken()
	require.Zero(t, p.Load.Held())
	require.Equal(t, types.Booking{Requests: 1, ContextTokens: 110}, a.Load.Held())
	d.Done(types.Outcome{})
	require.Zero(t, a.Load.Held())
	require.Equal(t, []string{"prefill p1 for d1", "picked d1", "prefilled p1 served", "first d1", "finished d1 false"}, l.log)
}

func TestPrefillFails(t *testing.T) {
	l := new(legs)
	s := splitter(t, &split{}, l)
	eps := withRoles(roles, "p1", "p2", "p3", "p4", "d1")
	d, err := s.Schedule(ctx, splittable(100), eps)
	require.NoError(t, err)
	for _, next := range []string{"p2", "p3"} {
		require.Nil(t, d.PrefillAgain(ctx, eps), "one is at it")
		d.PrefillDone(types.Outcome{Status: 503})
		require.Nil(t, d.Prefill())
		require.Equal(t, next, d.PrefillAgain(ctx, eps).ID)
	}
	d.PrefillDone(types.Outcome{Err: errors.New("gone")})
	require.Nil(t, d.PrefillAgain(ctx, eps), "three were enough")
	require.NoError(t, d.Alone(types.Outcome{Unsent: true}, eps))
	require.EqualValues(t, 100, eps[4].Load.PrefillTokens(), "it computes the prompt now")
	d.Done(types.Outcome{})
	for _, ep := range eps {
		require.Zero(t, ep.Load.Held(), ep.ID)
	}
	require.Equal(t, []string{
		"prefill p1 for d1", "picked d1", "prefilled p1 failed", "prefill p2 for d1", "prefilled p2 failed", "prefill p3 for d1", "prefilled p3 failed",
		"finished d1 true", "picked d1", "finished d1 false",
	}, l.log)
}

// Not all endpoints that answer come to compute prompts when those fail that should.
func TestAloneIsBounded(t *testing.T) {
	how := &split{}
	s := splitter(t, how, nil)
	eps := withRoles(roles, "p1", "d1")
	fails := func() *scheduling.Decision {
		d, err := s.Schedule(ctx, splittable(100), eps)
		require.NoError(t, err)
		d.PrefillDone(types.Outcome{Status: 500})
		return d
	}
	one, two := fails(), fails()
	require.NoError(t, one.Alone(types.Outcome{Unsent: true}, eps))
	err := two.Alone(types.Outcome{Unsent: true}, eps)
	require.ErrorIs(t, err, scheduling.ErrNoPrefill)
	require.ErrorContains(t, err, "Profile.Alone.Share")
	one.FirstToken()
	require.NoError(t, two.Alone(types.Outcome{Unsent: true}, eps), "the first has its prompt computed")
	one.Done(types.Outcome{})
	two.Done(types.Outcome{})

	how.takes = 1100 * time.Millisecond
	slow := fails()
	require.ErrorContains(t, slow.Alone(types.Outcome{Unsent: true}, eps), "d1 would take 1.1s for it itself, and Profile.Alone.Prefill is 1s")
	slow.Done(types.Outcome{})
	how.takes = 0
	three := fails()
	require.NoError(t, three.Alone(types.Outcome{Unsent: true}, eps), "nothing is left of the others")
	three.Done(types.Outcome{})
}

func TestRetryApart(t *testing.T) {
	l := new(legs)
	s := splitter(t, &split{}, l)
	eps := withRoles(roles, "p1", "d1", "d2")
	d, err := s.Schedule(ctx, splittable(100), eps)
	require.NoError(t, err)
	d.PrefillDone(types.Outcome{Status: 200})
	d.RetryApart(ctx, eps[2], types.Outcome{Status: 503}, eps)
	require.Equal(t, "p1", d.Prefill().ID)
	require.Equal(t, "d2", d.Current().ID)
	require.Zero(t, eps[1].Load.Held())
	require.EqualValues(t, 100, eps[0].Load.PrefillTokens())
	d.Retry(eps[1], types.Outcome{Status: 503})
	require.Nil(t, d.Prefill())
	require.Zero(t, eps[0].Load.Held())
	d.Done(types.Outcome{})
	require.Equal(t, []string{
		"prefill p1 for d1", "picked d1", "prefilled p1 served", "finished d1 true", "prefill p1 for d2", "picked d2",
		"prefilled p1 cancelled", "finished d2 true", "picked d1", "finished d1 false",
	}, l.log)
}

// Whatever happens at once, and in whatever order, nothing stays booked, and each start has its end.
func TestSplitConcurrently(t *testing.T) {
	for seed := range uint64(200) {
		l := new(legs)
		s := splitter(t, &split{}, l)
		eps := withRoles(roles, "p1", "p2", "p3", "d1", "d2")
		d, err := s.Schedule(ctx, splittable(100), eps)
		require.NoError(t, err)
		var all sync.WaitGroup
		for g := range uint64(3) {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, g))
				for range 6 {
					switch rnd.IntN(7) {
					case 0:
						d.PrefillDone(types.Outcome{Status: 200})
					case 1:
						d.PrefillDone(types.Outcome{Status: 500})
					case 2:
						d.PrefillAgain(ctx, eps)
					case 3:
						_ = d.Alone(types.Outcome{Unsent: true}, eps)
					case 4:
						_ = d.RetryApart(ctx, eps[3+rnd.IntN(2)], types.Outcome{}, eps)
					case 5:
						d.FirstToken()
					case 6:
						if rnd.IntN(4) == 0 {
							d.Done(types.Outcome{})
						}
					}
				}
			})
		}
		all.Wait()
		d.Done(types.Outcome{})
		require.Eventually(t, d.Settled, time.Second, time.Microsecond)
		for _, ep := range eps {
			require.Zero(t, ep.Load.Held(), "%s, seed %d", ep.ID, seed)
		}
		starts := map[byte]int{}
		for _, line := range l.log {
			switch {
			case len(line) > 10 && line[:10] == "prefilled ":
				starts['l']--
			case line[:8] == "prefill ":
				starts['l']++
			case line[:6] == "picked":
				starts['r']++
			case line[:6] == "finish":
				starts['r']--
			}
		}
		require.Zero(t, starts['l'], "seed %d: %v", seed, l.log)
		require.Zero(t, starts['r'], "seed %d: %v", seed, l.log)
		// What served alone is not counted any more.
		d, err = s.Schedule(ctx, splittable(100), eps)
		require.NoError(t, err)
		d.PrefillDone(types.Outcome{Status: 500})
		require.NoError(t, d.Alone(types.Outcome{Unsent: true}, eps))
		d.Done(types.Outcome{})
	}
}
