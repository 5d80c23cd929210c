package plugins_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// apart returns idle endpoints with roles, named by them: p0, p1, d2, b3 for "ppdb"; b has both roles.
func apart(letters string) []*types.Endpoint {
	eps := idle(len(letters))
	for i, l := range letters {
		eps[i].ID = string(l) + string(rune('0'+i))
		eps[i].Roles = map[rune]types.Roles{'p': types.RolePrefill, 'd': types.RoleDecode, 'b': types.RolePrefill | types.RoleDecode, 'n': types.RoleDecode | types.RoleNotAlone}[l]
	}
	return eps
}

// splitting is a request of a data plane that can have the prompt computed elsewhere.
func splitting(prompt string) *types.Request {
	req := schedulingtest.Request(prompt)
	req.Split = true
	return req
}

func mustStaged(t testing.TB, o plugins.StagedOptions, cache *plugins.PrefixCache) *plugins.Staged {
	t.Helper()
	if o.Picker == nil {
		o.Picker = plugins.MaxScore{}
	}
	s, err := plugins.NewStaged(o, cache)
	require.NoError(t, err)
	return s
}

// byID is a Scorer that gives the endpoints of some IDs 1 and others 0.
func byID(ids ...string) scheduling.Scorer {
	return scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
		for _, id := range ids {
			if ep.ID == id {
				return 1
			}
		}
		return 0
	})
}

func prefillID(d *scheduling.Decision) string {
	if p := d.Prefill(); p != nil {
		return p.ID
	}
	return ""
}

// TestStagedDecides: for which requests another endpoint computes the prompt, and which.
func TestStagedDecides(t *testing.T) {
	const prompt = 4000 // bytes, 1,000 tokens
	prefer := []scheduling.Weighted{{Scorer: byID("p1", "b3"), Weight: 1}}
	for _, tt := range []struct {
		name, fleet string
		o           plugins.StagedOptions
		request     func(*types.Request)
		cached      int // bytes of the prompt that the endpoints that answer have
		want        string
	}{
		{"always", "ppdd", plugins.StagedOptions{Always: true}, nil, 0, "p1"},
		{"always, however short", "ppdd", plugins.StagedOptions{Always: true}, func(r *types.Request) { r.Prompt = types.TextPrompt("x") }, 0, "p1"},
		{"always, if it is long", "ppdd", plugins.StagedOptions{Always: true, PromptTokens: 1001}, nil, 0, ""},
		{"nobody to do it", "ddd", plugins.StagedOptions{Always: true}, nil, 0, ""},
		{"the best for it is who answers", "dddb", plugins.StagedOptions{Always: true}, nil, 0, ""},
		{"long enough", "ppdd", plugins.StagedOptions{UncachedTokens: 1000}, nil, 0, "p1"},
		{"too short", "ppdd", plugins.StagedOptions{UncachedTokens: 1001}, nil, 0, ""},
		{"enough is missing", "ppdd", plugins.StagedOptions{UncachedTokens: 500}, nil, 2000 / 256 * 256, "p1"},
		{"most is cached", "ppdd", plugins.StagedOptions{UncachedTokens: 500}, nil, 2304, ""},
		{"as many tokens as that", "ppdd", plugins.StagedOptions{UncachedTokens: 500, PromptTokens: 1000}, nil, 0, "p1"},
		{"fewer tokens than that", "ppdd", plugins.StagedOptions{UncachedTokens: 500, PromptTokens: 1001}, nil, 0, ""},
		{"unknown prompt", "ppdd", plugins.StagedOptions{UncachedTokens: 1}, func(r *types.Request) { r.Prompt = types.Prompt{} }, 0, ""},
		{"text alone", "ppdd", plugins.StagedOptions{Always: true, MediaOnly: true}, nil, 0, ""},
		{"an image", "ppdd", plugins.StagedOptions{Always: true, MediaOnly: true}, func(r *types.Request) { r.Prompt.Images = 1 }, 0, "p1"},
		{"speech", "ppdd", plugins.StagedOptions{Always: true, MediaOnly: true}, func(r *types.Request) { r.Prompt.Audio = 1 }, 0, "p1"},
		{"one that cannot do it itself", "ppn", plugins.StagedOptions{UncachedTokens: 5000}, nil, 0, "p1"},
		{"a plane that cannot", "ppdd", plugins.StagedOptions{Always: true}, func(r *types.Request) { r.Split = false }, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cache := mustPrefix(t, plugins.PrefixOptions{})
			tt.o.Scorers = prefer
			fleet := apart(tt.fleet)
			s := mustNew(t, seeded(scheduling.Profile{
				Scorers:  []scheduling.Weighted{{Scorer: cache}, {Scorer: byID("d3", "b3"), Weight: 1}},
				Splitter: mustStaged(t, tt.o, cache), Picker: plugins.MaxScore{},
			}))
			req := splitting(text(1, prompt))
			if tt.cached > 0 {
				for _, ep := range fleet {
					if ep.Roles.Answers() {
						cache.Picked(schedulingtest.Request(text(1, prompt)[:tt.cached]), ep)
					}
				}
			}
			if tt.request != nil {
				tt.request(req)
			}
			d := mustSchedule(t, s, req, fleet)
			require.Equal(t, tt.want, prefillID(d))
			require.NotEqual(t, byte('p'), d.Endpoint.ID[0], "who answers has the role for it")
			d.Done(types.Outcome{})
			for _, ep := range fleet {
				require.Zero(t, ep.Load.Requests(), ep.ID)
			}
		})
	}
}

// TestStagedChoosesAsAProfile: with the same plugins it chooses whom a profile would choose among the
// endpoints that compute prompts.
func TestStagedChoosesAsAProfile(t *testing.T) {
	values := func(seed uint64, bad bool) func(*types.Endpoint) float64 {
		return func(ep *types.Endpoint) float64 {
			r := rand.New(rand.NewPCG(seed, uint64(ep.ID[1])))
			switch v := r.Float64(); {
			case bad && v < 0.2:
				return nan
			case bad && v < 0.3:
				return math.Inf(1)
			case bad && v < 0.4:
				return -7
			}
			return r.Float64()
		}
	}
	for n := range uint64(200) {
		var scorers []scheduling.Weighted
		for i := range n % 3 {
			v := values(n*10+i, i == 1)
			scorers = append(scorers, scheduling.Weighted{Name: string(rune('a' + i)), Weight: float64(i + 1), Scorer: scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 { return v(ep) })})
		}
		v := values(n*10+9, n%2 == 0)
		costs := []scheduling.Costed{{Name: "cost", Coster: scheduling.CosterFunc(func(_ context.Context, _ *types.Request, eps []*types.Endpoint, costs []float64) error {
			for i, ep := range eps {
				costs[i] = v(ep)
			}
			return nil
		})}}
		fleet := apart("pppppppd")
		s := mustNew(t, seeded(scheduling.Profile{
			Splitter: mustStaged(t, plugins.StagedOptions{Always: true, Scorers: scorers, Costs: costs}, nil), Picker: plugins.MaxScore{},
		}))
		d := mustSchedule(t, s, splitting("hi"), fleet)
		got := prefillID(d)
		d.Done(types.Outcome{})

		for _, ep := range fleet {
			ep.Roles = 0
		}
		alone := mustSchedule(t, mustNew(t, seeded(scheduling.Profile{Scorers: scorers, Costs: costs, Picker: plugins.MaxScore{}})), splitting("hi"), fleet[:7])
		require.Equal(t, alone.Endpoint.ID, got, "run %d", n)
	}
}

// TestStagedFails: what fails in it is told, and the request is served by one endpoint.
func TestStagedFails(t *testing.T) {
	for name, o := range map[string]plugins.StagedOptions{
		"scorer": {Scorers: []scheduling.Weighted{{Name: "s", Weight: 1, Scorer: scheduling.ScorerFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) error {
			return errors.New("is broken")
		})}}},
		"cost": {Costs: []scheduling.Costed{{Name: "c", Coster: scheduling.CosterFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) error {
			panic("is broken")
		})}}},
		"picker": {Picker: scheduling.PickerFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) { return 9, nil })},
	} {
		t.Run(name, func(t *testing.T) {
			o.Always = true
			var told error
			p := seeded(scheduling.Profile{Splitter: mustStaged(t, o, nil), Picker: plugins.MaxScore{}})
			p.Hooks.PluginFailed = func(_ *types.Request, err *scheduling.PluginError) { told = err }
			d := mustSchedule(t, mustNew(t, p), splitting("hi"), apart("pd"))
			require.Equal(t, "d1", d.Endpoint.ID)
			require.Empty(t, prefillID(d))
			require.Error(t, told)
			require.Contains(t, told.Error(), map[string]string{"scorer": `scorer "s": is broken`, "cost": "is broken", "picker": "picker chose 9 of 1"}[name])
		})
	}
}

// TestStagedLearns: its scorers learn where prompts are computed, also those that the profile itself has
// not; so prompts that begin alike are computed at one endpoint.
func TestStagedLearns(t *testing.T) {
	cache := mustPrefix(t, plugins.PrefixOptions{})
	s := mustNew(t, seeded(scheduling.Profile{
		Splitter: mustStaged(t, plugins.StagedOptions{Always: true, Scorers: []scheduling.Weighted{{Scorer: cache, Weight: 1}}, Picker: plugins.MaxScore{}}, nil),
		Picker:   plugins.Random{},
	}))
	fleet := apart("ppppdddd")
	by := map[int]map[string]bool{}
	for i := range 40 {
		d := mustSchedule(t, s, splitting(text(i%2, 3000)), fleet)
		if by[i%2] == nil {
			by[i%2] = map[string]bool{}
		}
		by[i%2][prefillID(d)] = true
		d.PrefillDone(types.Outcome{Status: 200})
		d.Done(types.Outcome{Status: 200})
	}
	require.Len(t, by[0], 1)
	require.Len(t, by[1], 1)
}

func TestNewStaged(t *testing.T) {
	for want, o := range map[string]plugins.StagedOptions{
		"plugins: picker is required":                              {Always: true},
		"uncachedTokens is 0, want above 0, or always: true":       {Picker: plugins.MaxScore{}},
		"uncachedTokens is -1, want at least 0":                    {Picker: plugins.MaxScore{}, UncachedTokens: -1},
		"promptTokens is -1, want at least 0":                      {Picker: plugins.MaxScore{}, Always: true, PromptTokens: -1},
		"uncachedTokens is 5, but always is set: want one of them": {Picker: plugins.MaxScore{}, Always: true, UncachedTokens: 5},
	} {
		_, err := plugins.NewStaged(o, nil)
		require.ErrorContains(t, err, want)
	}
}

const stagedJSON = `{
	"plugins": [
		{"type": "healthy-filter"},
		{"type": "label-filter", "name": "fast", "parameters": {"match": {"fast": "yes"}}},
		{"type": "label-filter", "name": "answers", "parameters": {"match": {"answers": "yes"}}},
		{"type": "prefix-cache-scorer"},
		{"type": "queue-scorer"},
		{"type": "max-score-picker"},
		{"type": "staged-splitter", "parameters": {"uncachedTokens": 100, "plugins": [
			{"pluginRef": "healthy-filter"}, {"pluginRef": "fast"}, {"pluginRef": "queue-scorer", "weight": 2}, {"pluginRef": "max-score-picker"}]}}
	],
	"schedulingProfiles": [{
		"name": "staged",
		"plugins": [{"pluginRef": "healthy-filter"}, {"pluginRef": "answers"}, {"pluginRef": "prefix-cache-scorer"}, {"pluginRef": "max-score-picker"}, {"pluginRef": "staged-splitter"}]
	}]
}`

// TestStagedDeclared: filters of its own take the place of the profile's.
func TestStagedDeclared(t *testing.T) {
	profiles, err := plugins.NewRegistry().Load([]byte(stagedJSON))
	require.NoError(t, err)
	s := mustNew(t, seeded(profiles["staged"]))
	fleet := apart("pppdd")
	fleet[1].Labels = map[string]string{"fast": "yes"}
	fleet[2].Labels, fleet[2].State = fleet[1].Labels, types.Draining
	fleet[4].Labels = map[string]string{"answers": "yes"}
	for _, long := range []bool{false, true, true} {
		prompt, want := "hi", ""
		if long {
			prompt, want = text(1, 4000), "p1"
		}
		d := mustSchedule(t, s, splitting(prompt), fleet)
		require.Equal(t, "d4", d.Endpoint.ID)
		require.Equal(t, want, prefillID(d))
		if long {
			prompt = ""
		}
		d.PrefillDone(types.Outcome{Status: 503})
		d.Done(types.Outcome{Err: errors.New("gone")}) // so that nothing stays cached
	}
	d := mustSchedule(t, s, splitting(text(1, 4000)), fleet)
	d.FirstToken()
	d.Done(types.Outcome{Status: 200})
	require.Empty(t, prefillID(mustSchedule(t, s, splitting(text(1, 4000)), fleet)), "who answered has it now")
}

func TestStagedDeclaredErrors(t *testing.T) {
	for parameters, want := range map[string]string{
		``: "plugins[0].parameters.plugins is empty, want a picker at least",
		`{"always": true, "plugins": [{"pluginRef": "queue-scorer"}]}`:                                              "plugins[0].parameters.plugins has no picker, want one",
		`{"always": true, "plugins": [{"pluginRef": "gone"}]}`:                                                      `plugins[0].parameters.plugins[0].pluginRef is "gone"`,
		`{"always": true, "plugins": [{"pluginRef": "s"}, {"pluginRef": "max-score-picker"}]}`:                      "plugins[0].parameters.plugins has a splitter, want filters, scorers and a picker",
		`{"plugins": [{"pluginRef": "max-score-picker"}]}`:                                                          "plugins[0].parameters.uncachedTokens is 0, want above 0, or always: true",
		`{"uncachedTokens": 5, "prefixPluginName": "queue-scorer", "plugins": [{"pluginRef": "max-score-picker"}]}`: `"queue-scorer", which has no prefix index`,
		`{"always": true, "picker": 1, "plugins": [{"pluginRef": "max-score-picker"}]}`:                             "picker",
		`{"always": true, "plugins": [{"pluginRef": "max-score-picker", "weight": 2}]}`:                             "plugins[0].parameters.plugins[0].weight is for scorers",
	} {
		if parameters != "" {
			parameters = `, "parameters": ` + parameters
		}
		_, err := plugins.NewRegistry().Load([]byte(`{"plugins": [{"type": "staged-splitter", "name": "s"` + parameters + `}, {"type": "queue-scorer"}, {"type": "max-score-picker"}],
			"schedulingProfiles": [{"name": "x", "plugins": [{"pluginRef": "s"}, {"pluginRef": "max-score-picker"}]}]}`))
		require.ErrorContains(t, err, want, parameters)
	}
}

// TestStagedAllocates: nothing.
func TestStagedAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop at random under the race detector")
	}
	cache := mustPrefix(t, plugins.PrefixOptions{})
	s := mustStaged(t, plugins.StagedOptions{UncachedTokens: 100, Scorers: []scheduling.Weighted{{Name: "queue", Weight: 1, Scorer: plugins.QueueDepth{}}}}, cache)
	eps := apart("ppppppppdddddddd")
	by, gains := make([]int32, 8), make([]float64, 8)
	req := splitting(text(1, 4000))
	req.Rand = types.NewRand(1)
	run := func() {
		if err := s.Split(ctx, req, eps[8:], eps[:8], false, by, gains); err != nil {
			t.Fatal(err)
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n > 0 {
		t.Errorf("Split allocates %v times, want 0", n)
	}
	require.NotEqual(t, int32(-1), by[0])
}
