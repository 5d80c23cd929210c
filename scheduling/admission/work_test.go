package admission_test

import (
	"context"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// A tenant is charged for what it asks for, whatever that is, and at the end for what it took.
func TestChargeByKindOfWork(t *testing.T) {
	picture := types.Denoise{Passes: 100, Latents: 4096}
	for name, tt := range map[string]struct {
		work           types.Work
		usage          types.Usage
		charged, ended float64
	}{
		"text":           {types.Work{}, types.Usage{PromptTokens: types.Known(90.), CompletionTokens: types.Known(10.)}, 100 + 2*50, 90 + 2*10},
		"speech":         {types.Work{Output: 300}, types.Usage{CompletionTokens: types.Known(200.)}, 100 + 2*300, 100 + 2*200},
		"embeddings":     {types.Work{Kind: types.Pools, Items: 2048}, types.Usage{PromptTokens: types.Known(90.)}, 100, 90},
		"picture":        {types.Work{Kind: types.Denoises, Denoise: picture}, types.Usage{}, 100 + .5*409600, 100 + .5*409600},
		"of no size":     {types.Work{Kind: types.Denoises}, types.Usage{}, 100 + .5*204800, 100 + .5*204800},
		"of a huge size": {types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: 1e200, Latents: 1e200}}, types.Usage{}, 100 + .5e12, 100 + .5e12},
	} {
		c, err := admission.New(admission.Options{
			Detector: admission.Concurrency{Requests: 1}, Tuning: admission.Tuning{OutputTokens: 50, DenoiseWeight: .5},
			Budgets: []admission.Budget{{Tenant: "*", TokensPerMinute: 1e15}},
		})
		require.NoError(t, err)
		ep := types.NewEndpoint("e", "10.0.0.1:8000")
		c.SetEndpoints([]*types.Endpoint{ep})
		req := &types.Request{FairnessID: "a", Prompt: types.Prompt{Tokens: 100}, Work: tt.work}
		ticket, _, err := c.Admit(context.Background(), admission.Arrival{Request: req})
		require.NoError(t, err)
		require.Equal(t, tt.charged, ticket.Charge(), name)
		ticket.Booked(ep)
		ticket.Done(types.Outcome{Status: 200, Usage: tt.usage})
		require.Equal(t, tt.ended, ticket.Charge(), name)
	}
}

// Of one that was given up before it got to a server nothing is charged.
func TestNothingIsChargedForWorkThatWasNotSent(t *testing.T) {
	c, err := admission.New(admission.Options{Detector: admission.Concurrency{Requests: 1}})
	require.NoError(t, err)
	c.SetEndpoints([]*types.Endpoint{types.NewEndpoint("e", "10.0.0.1:8000")})
	ticket, _, err := c.Admit(context.Background(), admission.Arrival{Request: &types.Request{Work: types.Work{Kind: types.Denoises}}})
	require.NoError(t, err)
	ticket.Done(types.Outcome{Cancelled: true})
	require.Zero(t, ticket.Charge())
}

// A tenant of pictures and one of texts share by what they ask for, not by the number of requests.
func TestBudgetOfTokensCountsPictures(t *testing.T) {
	c, err := admission.New(admission.Options{Detector: admission.Concurrency{Requests: 1000}, Budgets: []admission.Budget{{Tenant: "a", TokensPerMinute: 1_000_000}}})
	require.NoError(t, err)
	c.SetEndpoints([]*types.Endpoint{types.NewEndpoint("e", "10.0.0.1:8000")})
	admit := func(w types.Work) error {
		_, _, err := c.Admit(context.Background(), admission.Arrival{Request: &types.Request{FairnessID: "a", Prompt: types.Prompt{Tokens: 10}, Work: w}})
		return err
	}
	large := types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: 100, Latents: 9216}}
	require.NoError(t, admit(large))
	require.ErrorContains(t, admit(large), "token")
	require.NoError(t, admit(types.Work{Kind: types.Pools}))
}

// A diffusion server works on one at a time: it is full with a few, however long they take.
func TestLearnedConcurrencyOfOneAtATime(t *testing.T) {
	l := new(admission.LearnedConcurrency)
	ep := types.NewEndpoint("e", "10.0.0.1:8000")
	ep.Load.Book(types.Booking{Requests: 1, Denoise: 1})
	at := time.Unix(1000, 0)
	var free time.Time
	type job struct {
		sent, ends time.Time
		tokens     float64
		with       float64
	}
	var jobs []job
	sizes := []float64{20 * 1024, 50 * 4096, 28 * 2304, 50 * 9216}
	for i := range 400 {
		fill := l.Fill(admission.Query{Now: at}, ep)
		most := int(1 / fill) // one is booked
		if i < 24 {
			most = 1 // there is little to do at first
		}
		for len(jobs) < max(most, 1) {
			n := sizes[(i+len(jobs))%len(sizes)]
			if free.Before(at) {
				free = at
			}
			free = free.Add(time.Duration(n * 50e-6 * float64(time.Second)))
			jobs = append(jobs, job{at, free, n, float64(len(jobs) + 1)})
		}
		j := jobs[0]
		jobs = jobs[1:]
		at = j.ends
		l.Served(ep, admission.Served{Ended: true, At: at, Took: j.ends.Sub(j.sent), With: j.with, Prompt: j.tokens, Denoises: true})
		require.GreaterOrEqual(t, l.Fill(admission.Query{Now: at}, ep), 1/6., "it has room for six at most")
	}
	require.LessOrEqual(t, l.Fill(admission.Query{Now: at}, ep), 1/2., "and for one that waits beside the one under way")
}
