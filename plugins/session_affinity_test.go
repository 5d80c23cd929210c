package plugins_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// turn returns a request of a session, decided so long after the epoch.
func turn(session string, after time.Duration) *types.Request {
	req := schedulingtest.Request("hello")
	req.SessionID, req.Now = session, epoch.Add(after)
	return req
}

var noOpinion = []float64{nan, nan, nan}

func TestSessionAffinity(t *testing.T) {
	eps := idle(3)
	ended := func(s *plugins.SessionAffinity, ep *types.Endpoint, out types.Outcome) {
		s.Finished(turn("s", 0), ep, out)
	}
	tests := []struct {
		name string
		o    plugins.SessionOptions
		do   func(*plugins.SessionAffinity)
		ask  *types.Request
		want []float64
	}{
		{"new", plugins.SessionOptions{}, func(*plugins.SessionAffinity) {}, turn("s", 0), noOpinion},
		{"where the last request went", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
		}, turn("s", time.Second), []float64{0, 1, 0}},
		{"moved", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
			s.Picked(turn("s", 1), eps[2])
		}, turn("s", time.Second), []float64{0, 0, 1}},
		{"another session", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
		}, turn("t", 0), noOpinion},
		{"no session", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("", 0), eps[1])
		}, turn("", 0), noOpinion},
		{"that endpoint is no candidate", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), schedulingtest.Endpoint("elsewhere"))
		}, turn("s", 0), noOpinion},
		{"another endpoint under the same name", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), idle(2)[1])
		}, turn("s", 0), noOpinion},
		{"a newer reading is the same endpoint", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1].WithMetrics(types.Metrics{}))
		}, turn("s", 0), []float64{0, 1, 0}},
		{"no ledger, no identity", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), &types.Endpoint{ID: "bare"})
		}, turn("s", 0), noOpinion},

		{"within the default TTL", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[0])
		}, turn("s", plugins.DefaultSessionTTL), []float64{1, 0, 0}},
		{"beyond the default TTL", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[0])
		}, turn("s", plugins.DefaultSessionTTL+1), noOpinion},
		{"beyond a TTL", plugins.SessionOptions{TTL: time.Minute}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[0])
		}, turn("s", time.Minute+1), noOpinion},
		{"each request renews", plugins.SessionOptions{TTL: time.Minute}, func(s *plugins.SessionAffinity) {
			for i := range 10 {
				s.Picked(turn("s", time.Duration(i)*50*time.Second), eps[0])
			}
		}, turn("s", 500*time.Second), []float64{1, 0, 0}},
		{"asking does not renew", plugins.SessionOptions{TTL: time.Minute}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[0])
			_ = s.Score(ctx, turn("s", 50*time.Second), eps, make([]float64, 3))
		}, turn("s", 70*time.Second), noOpinion},

		{"failed", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
			ended(s, eps[1], types.Outcome{Err: errors.New("reset")})
		}, turn("s", 0), noOpinion},
		{"failed with a status", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
			ended(s, eps[1], types.Outcome{Status: 500})
		}, turn("s", 0), noOpinion},
		{"the client's fault", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
			ended(s, eps[1], types.Outcome{Status: 400})
			ended(s, eps[1], types.Outcome{Cancelled: true})
		}, turn("s", 0), []float64{0, 1, 0}},
		{"succeeded", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
			ended(s, eps[1], types.Outcome{Status: 200})
		}, turn("s", 0), []float64{0, 1, 0}},
		{"an earlier request failed elsewhere", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[0])
			s.Picked(turn("s", 0), eps[1])
			ended(s, eps[0], types.Outcome{Status: 500})
		}, turn("s", 0), []float64{0, 1, 0}},
		{"a failure of a session that is not known", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			ended(s, eps[0], types.Outcome{Status: 500})
		}, turn("s", 0), noOpinion},
		{"retried elsewhere", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[0])
			ended(s, eps[0], types.Outcome{Retried: true})
			s.Picked(turn("s", 0), eps[2])
			ended(s, eps[2], types.Outcome{Status: 200})
		}, turn("s", 0), []float64{0, 0, 1}},
		{"forgotten", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
			s.Forget(eps[1])
		}, turn("s", 0), noOpinion},
		{"another endpoint forgotten", plugins.SessionOptions{}, func(s *plugins.SessionAffinity) {
			s.Picked(turn("s", 0), eps[1])
			s.Forget(eps[0])
		}, turn("s", 0), []float64{0, 1, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustSessions(t, tt.o)
			tt.do(s)
			if got := schedulingtest.Score(t, s, tt.ask, eps...); !sameScores(got, tt.want) {
				t.Errorf("Score = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSessionAffinityTenants(t *testing.T) {
	s, eps := mustSessions(t, plugins.SessionOptions{}), idle(2)
	ask := func(tenant, session string) []float64 {
		req := turn(session, 0)
		req.FairnessID = tenant
		return schedulingtest.Score(t, s, req, eps...)
	}
	for i, tenant := range []string{"red", "blue"} {
		req := turn("same", 0)
		req.FairnessID = tenant
		s.Picked(req, eps[i])
	}
	for _, tt := range []struct {
		tenant, session string
		want            []float64
	}{
		{"red", "same", []float64{1, 0}},
		{"blue", "same", []float64{0, 1}},
		{"", "same", []float64{nan, nan}},
		{"reds", "ame", []float64{nan, nan}},
		{"re", "dsame", []float64{nan, nan}},
	} {
		if got := ask(tt.tenant, tt.session); !sameScores(got, tt.want) {
			t.Errorf("tenant %q, session %q: Score = %v, want %v", tt.tenant, tt.session, got, tt.want)
		}
	}
}

// TestSessionAffinityCanary: part of a session's requests go to another target
// model on other endpoints; then the session has no home among the candidates,
// and that must neither block nor bias.
func TestSessionAffinityCanary(t *testing.T) {
	sessions := mustSessions(t, plugins.SessionOptions{})
	s := mustNew(t, seeded(scheduling.Profile{
		Scorers: []scheduling.Weighted{{Name: "session", Scorer: sessions, Weight: 1}},
		Picker:  plugins.MaxScore{},
	}))
	stable, canary := idle(4), idle(4)
	c := counts{}
	for i := range 400 {
		session := fmt.Sprint(i)
		home := mustSchedule(t, s, turn(session, 0), stable)
		home.Done(types.Outcome{Status: 200})
		if d := mustSchedule(t, s, turn(session, 0), stable); d.Endpoint != home.Endpoint {
			t.Fatalf("the second request goes to %s, want %s", d.Endpoint.ID, home.Endpoint.ID)
		}
		c[mustSchedule(t, s, turn(session, 0), canary).Endpoint.ID]++
	}
	for _, ep := range canary {
		if n := c[ep.ID]; n < 60 || n > 140 { // 100, standard deviation 9
			t.Errorf("canary endpoints were chosen %v, want about 100 each", c)
			break
		}
	}
}

// TestTrapSessionMapWithoutBound: ids are the client's to invent.
func TestTrapSessionMapWithoutBound(t *testing.T) {
	oneGoroutine(t)
	s := mustSessions(t, plugins.SessionOptions{MaxSessions: 100})
	eps := idle(3)
	for i := range 10000 {
		s.Picked(turn(fmt.Sprint("session ", i), 0), eps[i%3])
		s.Picked(turn("regular", 0), eps[1])
		if n := s.Len(); n > 100 {
			t.Fatalf("%d sessions are remembered, the bound is 100", n)
		}
	}
	known := func(id string) bool {
		return !sameScores(schedulingtest.Score(t, s, turn(id, 0), eps...), noOpinion)
	}
	if s.Len() != 100 || !known("regular") || !known("session 9999") || !known("session 9901") || known("session 9900") || known("session 0") {
		t.Errorf("of %d sessions the 100 used last are to be remembered", s.Len())
	}
	for _, ep := range eps {
		s.Forget(ep)
	}
	if n := s.Len(); n != 0 {
		t.Errorf("%d sessions are left after all endpoints have gone", n)
	}
	// The length of an id takes no memory either: the map keeps a hash.
	long := strings.Repeat("x", 1<<20)
	for i := range 200 {
		s.Picked(turn(fmt.Sprint(long, i), 0), eps[0])
	}
	if s.Len() != 100 || !known(fmt.Sprint(long, 199)) {
		t.Errorf("%d sessions with long ids are remembered, want 100", s.Len())
	}
}

// TestSessionAffinityForgetsTheLongestUnused: use, not age, decides who goes.
func TestSessionAffinityForgetsTheLongestUnused(t *testing.T) {
	s, eps := mustSessions(t, plugins.SessionOptions{MaxSessions: 3}), idle(1)
	for _, id := range []string{"a", "b", "c", "a", "d"} {
		s.Picked(turn(id, 0), eps[0])
	}
	for id, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		require.Equal(t, want, schedulingtest.Score(t, s, turn(id, 0), eps...)[0] == 1, "session %s is remembered", id)
	}
}

func TestSessionOptions(t *testing.T) {
	for _, tt := range []struct {
		o    plugins.SessionOptions
		text string
	}{
		{plugins.SessionOptions{MaxSessions: -1}, "maxSessions is -1"},
		{plugins.SessionOptions{MaxSessions: plugins.LimitMaxSessions + 1}, "maxSessions is 16777217"},
		{plugins.SessionOptions{TTL: -time.Second}, "ttl is -1s"},
	} {
		if s, err := plugins.NewSessionAffinity(tt.o); s != nil || err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("NewSessionAffinity(%+v): %v, want an error with %q", tt.o, err, tt.text)
		}
	}
	if s := mustSessions(t, plugins.SessionOptions{MaxSessions: plugins.LimitMaxSessions}); s.Len() != 0 {
		t.Errorf("a new one remembers %d sessions", s.Len())
	}
}

// TestSessionAffinityConcurrency runs everything at once; run it with -race.
func TestSessionAffinityConcurrency(t *testing.T) {
	s, eps := mustSessions(t, plugins.SessionOptions{MaxSessions: 50}), idle(4)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			scores := make([]float64, len(eps))
			for i := range 300 {
				req, ep := turn(fmt.Sprint(i%70), time.Duration(i)*time.Second), eps[(g+i)%len(eps)]
				_ = s.Score(ctx, req, eps, scores)
				s.Picked(req, ep)
				s.Describe(req, ep)
				s.Finished(req, ep, types.Outcome{Status: 200 + 300*(i%2)})
				if i%50 == 0 {
					s.Forget(ep)
				}
			}
		})
	}
	wg.Wait()
	if n := s.Len(); n > 50 {
		t.Errorf("%d sessions are remembered, the bound is 50", n)
	}
}
