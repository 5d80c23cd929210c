package picker_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// newApart returns a picker in front of endpoints with roles.
func newApart(t *testing.T, roles string, change func(*exchange.Options, *scheduling.Profile)) *fixture {
	t.Helper()
	return of(t, exchangetest.NewApart(t, roles, func(o *exchange.Options, _ *director.Options, p *scheduling.Profile) {
		if change != nil {
			change(o, p)
		}
	}))
}

// TestSidecarHeaders: who computes the prompt for the endpoint that answers, and who encodes, is told in
// headers, under both of their names; whatever a client says of it is taken away.
func TestSidecarHeaders(t *testing.T) {
	for _, tt := range exchangetest.Sidecars {
		for _, mode := range []picker.BodyMode{duplex, buffered} {
			t.Run(tt.Name+" "+mode.String(), func(t *testing.T) {
				ended := 0
				f := newApart(t, tt.Roles, func(o *exchange.Options, p *scheduling.Profile) {
					if tt.Change != nil {
						tt.Change(o, p, func() { ended++ })
					}
				})
				s := open(t, f.dial(t), mode, none)
				headers := []string{":path", tt.Path}
				for _, name := range exchangetest.SidecarHeaders {
					headers = append(headers, name, "10.9.9.9:1")
				}
				s.send(requestHeaders(false, headers...))
				if mode == buffered {
					early := mutationOf(t, s.recv().GetRequestHeaders().GetResponse().GetHeaderMutation())
					require.Subset(t, early.removed, exchangetest.SidecarHeaders)
				}
				s.send(requestBody(exchangetest.SidecarBody, true))
				m := s.recv()
				mutated := m.GetRequestHeaders().GetResponse().GetHeaderMutation()
				if mode == buffered {
					mutated = m.GetRequestBody().GetResponse().GetHeaderMutation()
				} else {
					s.chunks()
				}
				require.Equal(t, tt.Destination, destinationOf(t, m, mutated))
				got := mutationOf(t, mutated)
				for _, name := range exchangetest.SidecarHeaders {
					value, set := got.set[name]
					require.Equal(t, tt.Want[name], value, name)
					require.NotEqual(t, set, slices.Contains(got.removed, name), "%s is set or removed, and not both", name)
				}
				answered := with(responseHeaders(200, "application/json", true), "envoy.lb", servedKey, firstOf(tt.Destination))
				require.Zero(t, ended)
				s.send(answered)
				s.recv()
				s.s.CloseSend()
				require.NoError(t, s.ends())
				f.Free(t)
				require.Len(t, f.Outcomes, 1, "it was not moved elsewhere")
				if len(tt.Want) > 0 && tt.Want["x-encoder-hosts-ports"] != "" {
					require.Equal(t, 1, ended)
				}
			})
		}
	}
}

func firstOf(list string) string {
	for i, c := range list {
		if c == ',' {
			return list[:i]
		}
	}
	return list
}

// TestSidecarLedger: a prompt is booked at who computes it until the answer begins, or the request ends
// before; so it is at encoders.
func TestSidecarLedger(t *testing.T) {
	for name, end := range map[string]func(*stream){
		"answered": func(s *stream) {
			s.send(responseHeaders(200, "application/json", true))
			s.recv()
			s.s.CloseSend()
		},
		"failed": func(s *stream) {
			s.send(responseHeaders(502, "text/plain", true))
			s.recv()
			s.s.CloseSend()
		},
		"cancelled": func(s *stream) { s.cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			encoded := make(chan bool, 9)
			f := newApart(t, "pdd", func(o *exchange.Options, _ *scheduling.Profile) {
				o.Apart = func(context.Context, *director.Incoming, *director.Route) exchange.Apart {
					return exchange.Apart{Encoders: []string{"10.0.0.7:1"}, Encoded: func() { encoded <- true }}
				}
			})
			s := open(t, f.dial(t), duplex, none)
			s.send(requestHeaders(false))
			s.send(requestBody(chatBody(10), true))
			s.recv()
			s.chunks()
			require.EqualValues(t, 1, f.Load("a"))
			require.EqualValues(t, 1, f.Load("b"))
			require.Empty(t, encoded)
			end(s)
			f.Free(t)
			<-encoded
			require.Empty(t, encoded, "once")
		})
	}
}

// TestSidecarLearns: prompts that begin alike are computed at one endpoint, which has them from the first
// answer on, and of which nothing else is learned.
func TestSidecarLearns(t *testing.T) {
	cache, err := plugins.NewPrefixCache(plugins.PrefixOptions{})
	require.NoError(t, err)
	random := scheduling.EachScorer(func(req *types.Request, _ *types.Endpoint) float64 { return req.Rand.Float64() / 2 })
	staged, err := plugins.NewStaged(plugins.StagedOptions{
		Always: true, Scorers: []scheduling.Weighted{{Scorer: random, Name: "random", Weight: 1}, {Scorer: cache, Name: "cache", Weight: 1}}, Picker: plugins.MaxScore{},
	}, cache)
	require.NoError(t, err)
	var told []types.Outcome
	f := newApart(t, "ppd", func(_ *exchange.Options, p *scheduling.Profile) {
		p.Splitter = staged
		p.Hooks.Prefilled = func(e scheduling.Event) { told = append(told, e.Outcome) }
	})
	asked := map[string]int{}
	for range 12 {
		s := open(t, f.dial(t), duplex, none)
		s.send(requestHeaders(false))
		s.send(requestBody(chatBody(500), true))
		asked[mutationOf(t, s.recv().GetRequestHeaders().GetResponse().GetHeaderMutation()).set["x-prefiller-host-port"]]++
		s.chunks()
		s.send(responseHeaders(200, "application/json", true))
		s.recv()
		s.s.CloseSend()
		require.NoError(t, s.ends())
		f.Free(t)
	}
	require.Len(t, asked, 1, "%v", asked)
	require.Len(t, told, 12)
	require.False(t, told[0].Served())
	require.False(t, told[0].Failed())
}

// TestSidecarByDefault: the default policy names who computes the prompt for an endpoint that does not answer alone, and
// takes both to hold the prompt when it is answered.
func TestSidecarByDefault(t *testing.T) {
	costs := plugins.Default().Costs
	f := newApart(t, "ppo", func(_ *exchange.Options, p *scheduling.Profile) {
		p.Splitter, p.Costs, p.Picker = nil, costs, plugins.MaxScore{}
	})
	asked := map[string]int{}
	for range 6 {
		s := open(t, f.dial(t), duplex, none)
		s.send(requestHeaders(false))
		s.send(requestBody(chatBody(4000), true))
		m := s.recv()
		mutated := m.GetRequestHeaders().GetResponse().GetHeaderMutation()
		require.Equal(t, addresses[2], destinationOf(t, m, mutated))
		asked[mutationOf(t, mutated).set["x-prefiller-host-port"]]++
		s.chunks()
		s.send(responseHeaders(200, "application/json", true))
		s.recv()
		s.s.CloseSend()
		require.NoError(t, s.ends())
		f.Free(t)
	}
	require.Len(t, asked, 1, "the one that has the prompt, and not %v", asked)
	require.NotContains(t, asked, "", "somebody is named")
}
