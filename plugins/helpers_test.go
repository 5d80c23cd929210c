package plugins_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var (
	ctx = context.Background()
	nan = math.NaN()
)

func mustNew(t testing.TB, p scheduling.Profile) *scheduling.Scheduler {
	t.Helper()
	s, err := scheduling.New(p)
	require.NoError(t, err)
	return s
}

// seeded returns p with repeatable choices and readings that do not age while a
// slow machine runs the test.
func seeded(p scheduling.Profile) scheduling.Profile {
	p.Seed, p.MetricsTTL = 1, time.Hour
	return p
}

func mustSchedule(t testing.TB, s *scheduling.Scheduler, req *types.Request, eps []*types.Endpoint) *scheduling.Decision {
	t.Helper()
	d, err := s.Schedule(ctx, req, eps)
	require.NoError(t, err)
	return d
}

func mustPrefix(t testing.TB, o plugins.PrefixOptions) *plugins.PrefixCache {
	t.Helper()
	p, err := plugins.NewPrefixCache(o)
	require.NoError(t, err)
	return p
}

func mustSessions(t testing.TB, o plugins.SessionOptions) *plugins.SessionAffinity {
	t.Helper()
	s, err := plugins.NewSessionAffinity(o)
	require.NoError(t, err)
	return s
}

// idle returns n endpoints that were read just now and have nothing to do.
func idle(n int) []*types.Endpoint {
	eps := make([]*types.Endpoint, n)
	for i := range eps {
		eps[i] = schedulingtest.Endpoint(fmt.Sprintf("ep-%d", i))
		eps[i].Slot = uint32(i)
	}
	return eps
}

// text returns n bytes of prompt in which every stretch is that topic's own.
func text(topic any, n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%v, sentence %d. ", topic, i)
	}
	return b.String()[:n]
}

// sameScores compares exactly; NaN equals NaN.
func sameScores(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return x == y || x != x && y != y })
}

// counts is how often each endpoint was chosen, by its ID.
type counts map[string]int

// most returns the endpoint that was chosen most, and how often.
func (c counts) most() (id string, n int) {
	for k, v := range c {
		if v > n {
			id, n = k, v
		}
	}
	return id, n
}

// profiles returns those that are compared in the traps, new ones at each call.
func profiles() map[string]scheduling.Profile {
	return map[string]scheduling.Profile{
		"Classic":             seeded(plugins.Classic()),
		"ClassicWithInFlight": seeded(plugins.ClassicWithInFlight()),
	}
}

// oneGoroutine skips a long test with the race detector, which sees nothing in it.
func oneGoroutine(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("it is one goroutine, and long")
	}
}
