package plugins_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

var (
	_ sharing.PrefixPart = (*plugins.PrefixCache)(nil)
	_ sharing.PrefixPart = (*plugins.Cost)(nil)
	_ sharing.LoadPart   = (*plugins.Cost)(nil)
)

// exchange tells b what a has placed.
func exchange(a, b sharing.PrefixPart, now time.Time) (anchors int) {
	for range 2 { // all is told twice
		a.SharePlacements(func(p types.Placement) {
			anchors += len(p.Anchors)
			b.HearPlacement(p, now)
		})
	}
	return anchors
}

func promptOf(text string) *types.Request {
	return &types.Request{
		Model: "m", Body: []byte(text), Now: time.Unix(1000, 0),
		Prompt: types.Prompt{Spans: []types.Span{{End: len(text)}}, Bytes: len(text), Tokens: len(text) / 4},
	}
}

// What one gateway has sent to a server another one finds there: as far as the anchors reach, and of the
// conversation's own part, not only of what all begin with.
func TestPlacementsAreShared(t *testing.T) {
	a, b := mustPrefix(t, plugins.PrefixOptions{}), mustPrefix(t, plugins.PrefixOptions{})
	of := func() []*types.Endpoint {
		return []*types.Endpoint{types.NewEndpoint("one", "10.0.0.1:80"), types.NewEndpoint("two", "10.0.0.2:80")}
	}
	atA, atB := of(), of()
	now := time.Unix(1000, 0)
	require.Zero(t, exchange(a, b, now), "nothing is kept before it is asked for")

	system := strings.Repeat("You are a helpful assistant. ", 200) // 22 blocks
	talk := system + strings.Repeat("What about this? ", 200)      // 35 blocks
	a.Picked(promptOf(system+"x"), atA[1])
	a.Picked(promptOf(talk), atA[0])
	require.Positive(t, exchange(a, b, now))

	score := func(p *plugins.PrefixCache, text string, eps []*types.Endpoint) []float64 {
		scores := make([]float64, len(eps))
		require.NoError(t, p.Score(context.Background(), promptOf(text), eps, scores))
		return scores
	}
	more := talk + strings.Repeat("And that? ", 30)
	own, heard := score(a, more, atA), score(b, more, atB)
	for i := range own {
		require.LessOrEqual(t, heard[i], own[i])
	}
	require.InDelta(t, own[0], heard[0], .1)
	require.Greater(t, heard[0], heard[1], "the conversation is at the first")

	// The prompts that begin like it.
	require.InDelta(t, score(a, system+strings.Repeat("Another. ", 100), atA)[1], score(b, system+strings.Repeat("Another. ", 100), atB)[1], .1)

	// What b knows already it tells of no more, but of what is new.
	exchange(b, a, now)
	b.Picked(promptOf(talk), atB[0])
	require.Zero(t, exchange(b, a, now))
	b.Picked(promptOf(more), atB[0])
	require.Positive(t, exchange(b, a, now))

	// What was heard of a server before it restarted is not of the new one.
	c, again := mustPrefix(t, plugins.PrefixOptions{}), strings.Repeat("again ", 500)
	atC := of()
	score(c, "x", atC)
	a.Picked(promptOf(again), atA[0])
	exchange(a, c, now)
	score(c, "y", atC)
	require.NotZero(t, score(c, again, atC)[0])
	exchange(b, c, now)
	c.Forget(atC[0])
	require.Zero(t, score(c, again, atC)[0])
	require.Zero(t, score(c, talk, atC)[0])
}

// Words about servers that are not known yet wait for them; nothing is believed for ever.
func TestPlacementsWait(t *testing.T) {
	text := strings.Repeat("a prompt that was sent elsewhere ", 100)
	for _, late := range []time.Duration{0, time.Hour} {
		a, b := mustPrefix(t, plugins.PrefixOptions{}), mustPrefix(t, plugins.PrefixOptions{})
		ep := types.NewEndpoint("one", "10.0.0.1:80")
		exchange(a, b, time.Unix(1000, 0))
		a.Picked(promptOf(text), ep)
		exchange(a, b, time.Unix(1000, 0))
		req := promptOf(text)
		req.Now = req.Now.Add(late)
		scores := make([]float64, 1)
		require.NoError(t, b.Score(context.Background(), req, []*types.Endpoint{types.NewEndpoint("one", "10.0.0.1:80")}, scores))
		require.Equal(t, late == 0, scores[0] > .9)
	}
}

// A decision counts what peers have at a server at once, and no longer when they have not.
func TestCostCountsPeers(t *testing.T) {
	cost, err := plugins.NewCost(plugins.CostOptions{})
	require.NoError(t, err)
	now := time.Unix(1000, 0)
	s := scheduling.Must(scheduling.New(scheduling.Profile{
		Costs: []scheduling.Costed{{Coster: cost}}, Picker: plugins.MaxScore{}, Now: func() time.Time { return now },
	}))
	eps := []*types.Endpoint{types.NewEndpoint("one", "10.0.0.1:80"), types.NewEndpoint("two", "10.0.0.2:80")}
	best := func() string {
		x, err := s.Explain(context.Background(), promptOf("hello"), eps)
		require.NoError(t, err)
		return x.Endpoint.ID
	}
	first := best()
	changed := func(ep *types.Endpoint) {
		cost.PeersChanged([]*types.Endpoint{ep}, now)
		now = now.Add(10 * time.Second)
		cost.PeersChanged([]*types.Endpoint{ep}, now)
	}
	for i, ep := range eps {
		busy := types.Booking{Requests: 20, ContextTokens: 20_000}
		ep.Load.SetPeers(busy)
		changed(ep)
		require.Equal(t, eps[1-i].ID, best())
		ep.Load.SetPeers(types.Booking{})
		changed(ep)
	}
	require.Equal(t, first, best())
}

// Decisions, and what is told and heard, go on beside each other.
func TestPlacementsConcurrently(t *testing.T) {
	caches := []*plugins.PrefixCache{mustPrefix(t, plugins.PrefixOptions{}), mustPrefix(t, plugins.PrefixOptions{})}
	ep := types.NewEndpoint("one", "10.0.0.1:80")
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 200 {
				req := promptOf(strings.Repeat(string(rune('a'+i%26)), 2000+100*g))
				caches[g%2].Picked(req, ep)
				caches[g%2].Finished(req, ep, types.Outcome{Status: 200})
			}
		})
	}
	for g := range 2 {
		all.Go(func() {
			for range 200 {
				exchange(caches[g], caches[1-g], time.Unix(1000, 0))
				if g == 0 {
					caches[0].Forget(types.NewEndpoint("two", "10.0.0.2:80"))
				}
			}
		})
	}
	all.Wait()
}
