package picker_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// sidecarHeaders are all that a client must not be able to set.
var sidecarHeaders = []string{
	"x-prefiller-host-port", "x-encoder-hosts-ports", "x-data-parallel-host-port", "x-kv-cache-source-host-port",
	"x-llm-d-prefiller-host-port", "x-llm-d-encoder-hosts-ports", "x-llm-d-kv-cache-source-host-port",
}

// newApart returns a fixture whose endpoints have roles: a, b and c of "pdb" compute prompts, answer, and
// do both.
func newApart(t *testing.T, roles string, change func(*picker.Options, *scheduling.Profile)) *fixture {
	t.Helper()
	staged, err := plugins.NewStaged(plugins.StagedOptions{Always: true, Picker: byName{}}, nil)
	require.NoError(t, err)
	f := newFixture(t, func(o *picker.Options, _ *director.Options, p *scheduling.Profile) {
		p.Splitter = staged
		if change != nil {
			change(o, p)
		}
	})
	var specs []datastore.EndpointSpec
	for i, r := range roles {
		specs = append(specs, datastore.EndpointSpec{ID: string(rune('a' + i)), Address: addresses[i], Labels: map[string]string{"app": "llama"},
			Roles: map[rune]types.Roles{'p': types.RolePrefill, 'd': types.RoleDecode, 'b': types.RolePrefill | types.RoleDecode, 'e': types.RoleEncode, 'o': types.RoleDecode | types.RoleNotAlone}[r]})
	}
	require.NoError(t, f.store.SetEndpoints(types.NamespacedName{Name: "llama"}, specs))
	return f
}

// TestSidecarHeaders: who computes the prompt for the endpoint that answers, and who encodes, is told in
// headers, under both of their names; whatever a client says of it is taken away.
func TestSidecarHeaders(t *testing.T) {
	encoders := func(ended *int) func(*picker.Options, *scheduling.Profile) {
		return func(o *picker.Options, _ *scheduling.Profile) {
			o.Apart = func(context.Context, *director.Incoming, *director.Route) exchange.Apart {
				return exchange.Apart{Encoders: []string{"10.0.0.7:1", "[fd00::8]:2"}, Encoded: func() { *ended++ }}
			}
		}
	}
	port := func(o *picker.Options, _ *scheduling.Profile) {
		o.Apart = func(context.Context, *director.Incoming, *director.Route) exchange.Apart {
			return exchange.Apart{PrimaryPort: 9000}
		}
	}
	ended := 0
	for _, tt := range []struct {
		name, roles, path string
		change            func(*picker.Options, *scheduling.Profile)
		destination       string
		want              map[string]string
	}{
		{"prefill", "pdd", "/v1/chat/completions", nil, "10.0.0.2:8000,[fd00::3]:8000", map[string]string{"x-prefiller-host-port": "10.0.0.1:8000", "x-llm-d-prefiller-host-port": "10.0.0.1:8000"}},
		{"IPv6", "dbp", "/v1/completions", func(_ *picker.Options, p *scheduling.Profile) {
			last, _ := plugins.NewStaged(plugins.StagedOptions{Always: true, Picker: scheduling.PickerFunc(func(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
				return len(eps) - 1, nil
			})}, nil)
			p.Splitter = last
		}, "10.0.0.1:8000,10.0.0.2:8000", map[string]string{"x-prefiller-host-port": "[fd00::3]:8000", "x-llm-d-prefiller-host-port": "[fd00::3]:8000"}},
		{"a fallback does not ask itself", "dbd", "/v1/chat/completions?x=y", nil, "10.0.0.1:8000,[fd00::3]:8000", map[string]string{"x-prefiller-host-port": "10.0.0.2:8000", "x-llm-d-prefiller-host-port": "10.0.0.2:8000"}},
		{"nobody computes prompts", "ddd", "/v1/chat/completions", nil, allThree, map[string]string{}},
		{"what side-cars hand over as it is", "pdd", "/v1/embeddings", nil, "10.0.0.2:8000,[fd00::3]:8000", map[string]string{}},
		{"encoders", "ddd", "/v1/responses", encoders(&ended), allThree, map[string]string{"x-encoder-hosts-ports": "10.0.0.7:1,[fd00::8]:2", "x-llm-d-encoder-hosts-ports": "10.0.0.7:1,[fd00::8]:2"}},
		{"a rank", "ddd", "/v1/chat/completions", port, "10.0.0.1:9000", map[string]string{"x-data-parallel-host-port": "10.0.0.1:8000"}},
	} {
		for _, mode := range []picker.BodyMode{duplex, buffered} {
			t.Run(tt.name+" "+mode.String(), func(t *testing.T) {
				ended = 0
				f := newApart(t, tt.roles, tt.change)
				s := open(t, f.dial(t), mode, none)
				headers := []string{":path", tt.path}
				for _, name := range sidecarHeaders {
					headers = append(headers, name, "10.9.9.9:1")
				}
				s.send(requestHeaders(false, headers...))
				if mode == buffered {
					early := mutationOf(t, s.recv().GetRequestHeaders().GetResponse().GetHeaderMutation())
					require.Subset(t, early.removed, sidecarHeaders)
				}
				body := `{"model": "chat", "input": "hi", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}`
				s.send(requestBody(body, true))
				m := s.recv()
				mutated := m.GetRequestHeaders().GetResponse().GetHeaderMutation()
				if mode == buffered {
					mutated = m.GetRequestBody().GetResponse().GetHeaderMutation()
				} else {
					s.chunks()
				}
				require.Equal(t, tt.destination, destinationOf(t, m, mutated))
				got := mutationOf(t, mutated)
				for _, name := range sidecarHeaders {
					value, set := got.set[name]
					require.Equal(t, tt.want[name], value, name)
					require.NotEqual(t, set, slices.Contains(got.removed, name), "%s is set or removed, and not both", name)
				}
				answered := with(responseHeaders(200, "application/json", true), "envoy.lb", servedKey, firstOf(tt.destination))
				require.Zero(t, ended)
				s.send(answered)
				s.recv()
				s.s.CloseSend()
				require.NoError(t, s.ends())
				f.free(t)
				require.Len(t, f.outcomes, 1, "it was not moved elsewhere")
				if len(tt.want) > 0 && tt.want["x-encoder-hosts-ports"] != "" {
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
			f := newApart(t, "pdd", func(o *picker.Options, _ *scheduling.Profile) {
				o.Apart = func(context.Context, *director.Incoming, *director.Route) exchange.Apart {
					return exchange.Apart{Encoders: []string{"10.0.0.7:1"}, Encoded: func() { encoded <- true }}
				}
			})
			s := open(t, f.dial(t), duplex, none)
			s.send(requestHeaders(false))
			s.send(requestBody(chatBody(10), true))
			s.recv()
			s.chunks()
			require.EqualValues(t, 1, f.load("a"))
			require.EqualValues(t, 1, f.load("b"))
			require.Empty(t, encoded)
			end(s)
			f.free(t)
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
	f := newApart(t, "ppd", func(_ *picker.Options, p *scheduling.Profile) {
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
		f.free(t)
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
	f := newApart(t, "ppo", func(_ *picker.Options, p *scheduling.Profile) {
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
		f.free(t)
	}
	require.Len(t, asked, 1, "the one that has the prompt, and not %v", asked)
	require.NotContains(t, asked, "", "somebody is named")
}
