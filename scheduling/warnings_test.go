package scheduling_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// What an embedder forgot is told once, and what is as it should be is not told of.
func TestWarned(t *testing.T) {
	list := func(eps ...*types.Endpoint) []*types.Endpoint { return eps }
	a, b := types.NewEndpoint("a", "a:1"), types.NewEndpoint("b", "b:1")
	b.Slot = 1
	slotted := func(ep *types.Endpoint) *types.Endpoint { ep.Slot = 2; return ep }
	ranked := func(ep *types.Endpoint, index int) *types.Endpoint {
		ep.Rank, ep.Slot = types.Rank{Index: index, Of: 2}, uint32(2+index)
		return ep
	}
	whole := types.TextPrompt("hello")
	for name, tt := range map[string]struct {
		prompt types.Prompt
		eps    []*types.Endpoint
		want   error
		says   string
	}{
		"all there":      {whole, list(a, b), nil, ""},
		"no prompt":      {types.Prompt{Tokens: 5}, list(a, b), scheduling.ErrNoPrompt, "types.TextPrompt"},
		"without one":    {types.Prompt{Spans: []types.Span{}}, list(a, b), nil, ""},
		"no slots":       {whole, list(a, types.NewEndpoint("c", "c:1")), scheduling.ErrNoSlots, `(endpoint 1, ID "c", Slot 0)`},
		"no address":     {whole, list(a, slotted(types.NewEndpoint("c", ""))), scheduling.ErrAddress, `that of endpoint 1, ID "c", is empty, want host:port`},
		"same address":   {whole, list(a, b, slotted(types.NewEndpoint("c", "a:1"))), scheduling.ErrAddress, `that of endpoint 2, "a:1", is that of endpoint 0 too`},
		"ranks":          {whole, list(a, ranked(types.NewEndpoint("r0", "c:1"), 0), ranked(types.NewEndpoint("r1", "c:1"), 1)), nil, ""},
		"nothing booked": {whole, list(a, &types.Endpoint{ID: "c", Address: "c:1", Slot: 2}), scheduling.ErrNoLoad, `(endpoint 1, ID "c", has none)`},
	} {
		t.Run(name, func(t *testing.T) {
			var told []error
			p := plugins.Default()
			p.Hooks.Warned = func(_ *types.Request, err error) { told = append(told, err) }
			s := mustNew(t, p)
			for range 3 {
				if d, err := s.Schedule(ctx, &types.Request{Prompt: tt.prompt}, tt.eps); err == nil {
					d.Done(types.Outcome{})
				}
			}
			if tt.want == nil {
				require.Empty(t, told)
				return
			}
			require.Len(t, told, 1)
			require.ErrorIs(t, told[0], tt.want)
			require.ErrorContains(t, told[0], tt.says)
		})
	}
}

// A hook that panics is told of, and the decision goes on.
func TestWarnedPanics(t *testing.T) {
	var failed *scheduling.PluginError
	p := plugins.Default()
	p.Hooks.Warned = func(*types.Request, error) { panic("no") }
	p.Hooks.PluginFailed = func(_ *types.Request, err *scheduling.PluginError) { failed = err }
	d, err := mustNew(t, p).Schedule(ctx, new(types.Request), servers(2))
	require.NoError(t, err)
	d.Done(types.Outcome{})
	require.Equal(t, "Warned", failed.Plugin)
}

// A prompt of which only the spans are known has the size that they have.
func TestPromptIsEstimated(t *testing.T) {
	req := &types.Request{Body: []byte("{0123456789abcdef}"), Prompt: types.Prompt{Spans: []types.Span{{Start: 1, End: 9}, {Start: 9, End: 17}}}}
	d, err := mustNew(t, plugins.Default()).Schedule(ctx, req, servers(2))
	require.NoError(t, err)
	require.EqualValues(t, 4, d.Endpoint.Load.PrefillTokens())
	d.Done(types.Outcome{})
}
