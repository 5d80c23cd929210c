package plugins_test

import (
	"context"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// undecided is a fleet of equal servers and the requests for which a server was chosen, each
// with the next look at the fleet, while none was booked yet.
type undecided struct {
	t       *testing.T
	cost    *plugins.Cost
	servers []*types.Endpoint
	now     time.Time
	sent    []*types.Request
	at      []int
}

func newUndecided(t *testing.T, servers int) *undecided {
	c, err := plugins.NewCost(plugins.CostOptions{})
	require.NoError(t, err)
	u := &undecided{t: t, cost: c, now: time.Unix(1_000_000_000, 0)}
	for i := range servers {
		u.servers = append(u.servers, types.NewEndpoint(string(rune('a'+i)), "10.0.0.1:80"))
	}
	return u
}

// look decides for one more request, as the scheduler does with plugins.MaxScore.
func (u *undecided) look(slo types.SLO) (costs []float64) {
	req := &types.Request{Model: "m", Now: u.now, SLO: slo, Rand: types.NewRand(uint64(len(u.sent)))}
	req.Prompt.Tokens = 100
	costs = make([]float64, len(u.servers))
	if err := u.cost.Cost(context.Background(), req, u.servers, costs); err != nil {
		u.t.Fatal(err)
	}
	scores := make([]float64, len(costs))
	for i, v := range costs {
		scores[i] = -v
	}
	at, err := plugins.MaxScore{}.Pick(context.Background(), req, u.servers, scores)
	if err != nil {
		u.t.Fatal(err)
	}
	u.sent, u.at = append(u.sent, req), append(u.at, at)
	return costs
}

func (u *undecided) shares() []int {
	n := make([]int, len(u.servers))
	for _, at := range u.at {
		n[at]++
	}
	return n
}

// TestDecisionsAtTheSameMoment: where many decide before the first of them is booked, because
// bookings wait for those that look, they do not all go to the server that is the best by next
// to nothing.
func TestDecisionsAtTheSameMoment(t *testing.T) {
	for name, slo := range map[string]types.SLO{"plain": {}, "SLO": {TTFT: 10 * time.Second}, "SLO that is missed": {TTFT: time.Microsecond}} {
		t.Run(name, func(t *testing.T) {
			u := newUndecided(t, 3)
			u.look(slo)
			u.cost.Picked(u.sent[0], u.servers[u.at[0]]) // so that two are better than the third
			for range 44 {
				u.look(slo)
			}
			for i, n := range u.shares() {
				if n > 17 {
					t.Errorf("server %d got %d of 45: %v", i, n, u.shares())
				}
			}
			// What has been booked is no claim any more.
			for i, req := range u.sent[1:] {
				u.cost.Picked(req, u.servers[u.at[i+1]])
			}
			for i, req := range u.sent {
				u.cost.Finished(req, u.servers[u.at[i]], types.Outcome{Status: 200, Cancelled: true})
			}
			if costs := u.look(slo); costs[0] != costs[1] || costs[1] != costs[2] {
				t.Errorf("costs of idle servers after all that: %v", costs)
			}
		})
	}
}

// TestDecisionsThatComeToNothing: of a decision that nobody booked, or only wanted explained,
// nothing is left.
func TestDecisionsThatComeToNothing(t *testing.T) {
	u := newUndecided(t, 2)
	first := u.look(types.SLO{})
	u.cost.Items(u.sent[0], u.servers[0])
	if again := u.look(types.SLO{}); again[0] != first[0] || again[1] != first[1] {
		t.Errorf("costs %v after an explanation, %v before", again, first)
	}
	for range 100 {
		u.look(types.SLO{})
	}
	u.now = u.now.Add(100 * time.Millisecond)
	if later := u.look(types.SLO{}); later[0] != first[0] || later[1] != first[1] {
		t.Errorf("costs %v after decisions that nobody booked, %v before", later, first)
	}
}
