package policies_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var ctx = context.Background()

// clock is the time of a test.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) wait(d time.Duration) { c.now = c.now.Add(d) }

// start returns a scheduler of the profile under the clock.
func start(t testing.TB, p scheduling.Profile, c *clock) *scheduling.Scheduler {
	t.Helper()
	p.Seed, p.Now = 1, func() time.Time { return c.now }
	s, err := scheduling.New(p)
	require.NoError(t, err)
	return s
}

// idle returns n endpoints a, b, c, … that were read at the clock's time and have
// nothing to do.
func idle(c *clock, n int) []*types.Endpoint {
	eps := make([]*types.Endpoint, n)
	for i := range eps {
		eps[i] = endpoint(c, string(rune('a'+i)))
	}
	return eps
}

func endpoint(c *clock, id string, options ...schedulingtest.EndpointOption) *types.Endpoint {
	ep := schedulingtest.Endpoint(id, options...)
	ep.Metrics.UpdatedAt = c.now
	return ep
}

// blocks returns a prompt of n blocks of 64 bytes, or 16 tokens, of each topic.
func blocks(parts ...any) *types.Request {
	var b strings.Builder
	for i := 0; i < len(parts); i += 2 {
		for k := range parts[i+1].(int) {
			b.WriteString((fmt.Sprintf("%v %d", parts[i], k) + strings.Repeat(".", 64))[:64])
		}
	}
	return schedulingtest.Request(b.String())
}

// send schedules req with no choice but ep.
func send(t testing.TB, s *scheduling.Scheduler, req *types.Request, ep *types.Endpoint) *scheduling.Decision {
	t.Helper()
	d, err := s.Schedule(ctx, req, []*types.Endpoint{ep})
	require.NoError(t, err)
	return d
}

// serve is send, to its end.
func serve(t testing.TB, s *scheduling.Scheduler, req *types.Request, ep *types.Endpoint) {
	t.Helper()
	d := send(t, s, req, ep)
	d.FirstToken()
	d.Done(types.Outcome{Status: 200})
}

// order returns the IDs of all endpoints as a rule orders them: = between those
// with the same score, which are in the order of the list, > between the others.
// Struck out ones are left out.
func order(t testing.TB, s *scheduling.Scheduler, req *types.Request, eps []*types.Endpoint) string {
	t.Helper()
	x := explain(t, s, req, eps)
	var out strings.Builder
	last := 0.0
	for done := map[string]bool{}; ; {
		var best *scheduling.Candidate
		for i := range x.Candidates {
			c := &x.Candidates[i]
			if c.FilteredBy == "" && !done[c.ID] && (best == nil || c.Total > best.Total) {
				best = c
			}
		}
		if best == nil {
			break
		}
		switch {
		case out.Len() == 0:
		case best.Total == last:
			out.WriteString("=")
		default:
			out.WriteString(">")
		}
		out.WriteString(best.ID)
		done[best.ID], last = true, best.Total
	}
	first, _, _ := strings.Cut(out.String(), ">")
	if chosen := x.Chosen(); chosen == nil || !strings.Contains(first, chosen.ID) {
		t.Errorf("chosen is %v, want one of %s", chosen, first)
	}
	return out.String()
}

func explain(t testing.TB, s *scheduling.Scheduler, req *types.Request, eps []*types.Endpoint) *scheduling.Explanation {
	t.Helper()
	x, err := s.Explain(ctx, req, eps)
	require.NoError(t, err)
	return x
}

// detail is what the last scorer of the profile says of the endpoint.
func detail(t testing.TB, s *scheduling.Scheduler, req *types.Request, eps []*types.Endpoint, i int) string {
	t.Helper()
	terms := explain(t, s, req, eps).Candidates[i].Terms
	return terms[len(terms)-1].Detail
}

// book puts requests and uncached tokens in flight.
func book(ep *types.Endpoint, requests, tokens int64) {
	ep.Load.Book(types.Booking{Requests: requests, PrefillTokens: tokens})
}
