package director_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// first has the first that may compute a prompt do so for all others.
type firstHelper struct{}

func (firstHelper) Split(_ context.Context, _ *types.Request, eps, prefill []*types.Endpoint, _ bool, by []int32, _ []float64) error {
	for i, ep := range eps {
		if ep.Load != prefill[0].Load {
			by[i] = 0
		}
	}
	return nil
}

// apart returns a director of a pool of p1, p2, which compute prompts, and d1, d2, which answer.
func apart(t *testing.T, protocol disagg.Protocol, change func(*director.Options), roles ...string) (*director.Director, *datastore.Store) {
	t.Helper()
	store := newStore(t, 0, datastore.Options{})
	if roles == nil {
		roles = []string{"p1 prefill", "p2 prefill", "d1 decode", "d2 decode"}
	}
	var specs []datastore.EndpointSpec
	for i, one := range roles {
		id, role, _ := strings.Cut(one, " ")
		specs = append(specs, datastore.EndpointSpec{ID: id, Address: fmt.Sprintf("10.0.0.%d:8000", i+1), Labels: map[string]string{types.RoleLabel: role}})
	}
	require.NoError(t, store.SetEndpoints(pool, specs))
	scheduler, err := scheduling.New(scheduling.Profile{Splitter: firstHelper{}, Fallbacks: 2, Picker: plugins.MaxScore{}, Seed: 1, Scorers: []scheduling.Weighted{{
		Name: "order", Weight: 1, Scorer: scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 { return 1 - float64(ep.ID[1]-'0')/10 }),
	}}})
	require.NoError(t, err)
	o := director.Options{Store: store, Scheduler: scheduler}
	if protocol != nil {
		o.Handover = func(_, _ *types.Endpoint) disagg.Protocol { return protocol }
	}
	if change != nil {
		change(&o)
	}
	d, err := director.New(o)
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return d, store
}

const chatBody = `{"model":"food","messages":[{"role":"user","content":"hi"}]}`

func splitting(body string) director.Incoming {
	return director.Incoming{Path: "/v1/chat/completions", Body: []byte(body), Split: true}
}

const prefillAnswer = `{"choices":[{"index":0,"text":"x","finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4}},"kv_transfer_params":{"remote_engine_id":"e"}}`

func nothingHeld(t *testing.T, store *datastore.Store) {
	t.Helper()
	for _, ep := range endpoints(store) {
		require.Zero(t, ep.Load.Held(), ep.ID)
	}
}

// What any data plane does.
func TestLegs(t *testing.T) {
	d, store := apart(t, disagg.NIXL(disagg.Options{}), nil)
	route, err := d.Route(ctx, splitting(chatBody))
	require.NoError(t, err)
	legs, err := route.Legs(ctx)
	require.NoError(t, err)
	require.False(t, legs.AtOnce())
	p, leg := legs.Prefill()
	require.Equal(t, "p1", p.ID)
	require.Equal(t, "/v1/chat/completions", leg.Path)
	answer, err := legs.PrefillAnswer(502, nil, nil)
	require.Nil(t, answer)
	require.ErrorContains(t, err, "502")

	legs, err = route.Legs(ctx)
	require.NoError(t, err)
	p, _ = legs.Prefill()
	require.Equal(t, "p2", p.ID)
	answer, err = legs.PrefillAnswer(200, map[string][]string{"Content-Type": {"application/json"}}, []byte(prefillAnswer))
	require.NoError(t, err)
	require.Nil(t, answer)
	require.Contains(t, string(legs.Decode().Body), `"remote_engine_id":"e"`)
	require.Equal(t, "d1", route.Endpoint().ID)
	require.True(t, route.RestoresModel(), "the usage is corrected")
	route.Response(200, "application/json")
	out := string(route.Data([]byte(`{"choices":[],"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":9}}}`)))
	out += string(route.End())
	require.Contains(t, out, `"cached_tokens":4`)
	cached, _ := route.Usage().CachedTokens.Value()
	require.EqualValues(t, 4, cached)
	nothingHeld(t, store)
}

// If the endpoint that answers fails, the next one begins anew with somebody who computes its prompt.
func TestLegsNext(t *testing.T) {
	d, store := apart(t, disagg.NIXL(disagg.Options{}), nil)
	route, err := d.Route(ctx, splitting(chatBody))
	require.NoError(t, err)
	legs, err := route.Legs(ctx)
	require.NoError(t, err)
	_, before := legs.Prefill()
	_, err = legs.PrefillAnswer(200, nil, []byte(prefillAnswer))
	require.NoError(t, err)
	route.Failed(errors.New("refused"), false)
	require.Equal(t, "d2", route.Next().ID)
	legs, err = route.Legs(ctx)
	require.NoError(t, err)
	_, after := legs.Prefill()
	require.NotEqual(t, before.Header["X-Request-Id"], after.Header["X-Request-Id"])
	route.Done(context.Canceled)
	nothingHeld(t, store)
}

// When nobody computes the prompt, one that does so anyway is gone on to; else it is said so.
func TestLegsGiveUp(t *testing.T) {
	fail := func(route *director.Route) (legs *director.Legs, err error) {
		for {
			if legs, err = route.Legs(ctx); legs == nil {
				return legs, err
			}
			legs.PrefillFailed(errors.New("gone"), false)
		}
	}
	for name, tt := range map[string]struct {
		roles []string
		by    string // "": nobody
	}{
		"d1 itself":       {[]string{"p1 prefill", "p2 prefill", "d1 decode", "d2 decode"}, "d1"},
		"one that can":    {[]string{"p1 prefill", "p2 prefill", "d1 decode-only", "b2 both"}, "b2"},
		"one without":     {[]string{"p1 prefill", "p2 prefill", "d1 decode-only", "x2"}, "x2"},
		"nobody can":      {[]string{"p1 prefill", "p2 prefill", "d1 decode-only", "d2 decode-only"}, ""},
		"no other either": {[]string{"p1 prefill", "d1 decode-only"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, store := apart(t, disagg.NIXL(disagg.Options{}), nil, tt.roles...)
			route, err := d.Route(ctx, splitting(chatBody))
			require.NoError(t, err)
			_, err = fail(route)
			if tt.by != "" {
				require.NoError(t, err)
				require.Equal(t, tt.by, route.Endpoint().ID)
			} else {
				e := director.AsError(err)
				require.Equal(t, 503, e.Status)
				require.Equal(t, director.CodeNoPrefill, e.Code)
				require.Equal(t, []string{"1"}, e.Header()["Retry-After"])
			}
			route.Done(err)
			nothingHeld(t, store)
		})
	}
}

// What the prefill leg answers to a client's fault is the client's, and counts where it came from.
func TestLegsAnswerForClient(t *testing.T) {
	var ends []scheduling.Event
	d, store := apart(t, disagg.NIXL(disagg.Options{}), func(o *director.Options) {
		s, err := scheduling.New(scheduling.Profile{Splitter: firstHelper{}, Fallbacks: 1, Picker: plugins.MaxScore{}, Seed: 1,
			Hooks: scheduling.Hooks{Finished: func(e scheduling.Event) { ends = append(ends, e) }}})
		require.NoError(t, err)
		o.Scheduler = s
	})
	route, err := d.Route(ctx, splitting(chatBody))
	require.NoError(t, err)
	legs, err := route.Legs(ctx)
	require.NoError(t, err)
	answer, err := legs.PrefillAnswer(400, map[string][]string{"X-A": {"b"}, "Content-Length": {"2"}}, []byte("{}"))
	require.NoError(t, err)
	require.Equal(t, &director.Answer{Status: 400, Header: map[string][]string{"X-A": {"b"}}, Body: []byte("{}")}, answer)
	legs.FromPrefill()
	route.ResponseHeader(answer.Status, answer.Header)
	route.Data(answer.Body)
	route.End()
	require.Len(t, ends, 1)
	require.Equal(t, "p1", ends[0].Endpoint.ID)
	require.Equal(t, 400, ends[0].Outcome.Status)
	nothingHeld(t, store)
}

// Who does not say that it can, is never given two endpoints; nor is what cannot be handed over.
func TestWhatIsSplit(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*director.Incoming)
		split  bool
	}{
		"chat":          {func(*director.Incoming) {}, true},
		"not asked for": {func(in *director.Incoming) { in.Split = false }, false},
		"two answers":   {func(in *director.Incoming) { in.Body = []byte(`{"model":"food","messages":[],"n":2}`) }, false},
		"continued": {func(in *director.Incoming) {
			in.Path, in.Body = "/v1/responses", []byte(`{"model":"food","input":"x","previous_response_id":"r"}`)
		}, false},
		"embeddings": {func(in *director.Incoming) {
			in.Path, in.Body = "/v1/embeddings", []byte(`{"model":"food","input":"x"}`)
		}, false},
		"no generation":  {func(in *director.Incoming) { in.Path, in.Body = "/tokenize", []byte(`{"model":"food","prompt":"x"}`) }, false},
		"headers only":   {func(in *director.Incoming) { in.HeadersOnly, in.Body, in.Pool = true, nil, pool }, false},
		"outside subset": {func(in *director.Incoming) { in.HasSubset, in.Subset = true, []string{"10.0.0.3"} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, protocol := range []disagg.Protocol{nil, disagg.NIXL(disagg.Options{})} {
				d, store := apart(t, protocol, nil)
				require.Equal(t, protocol != nil, d.HandsOver())
				in := splitting(chatBody)
				tt.change(&in)
				route, err := d.Route(ctx, in)
				require.NoError(t, err)
				require.Equal(t, tt.split, route.Request.Split)
				require.Equal(t, tt.split, route.Prefill() != nil)
				legs, err := route.Legs(ctx)
				require.NoError(t, err)
				require.Equal(t, tt.split && protocol != nil, legs != nil)
				route.Done(context.Canceled)
				nothingHeld(t, store)
			}
		})
	}
}

// What a protocol or the embedder's function does wrong ends the request, and nothing is left.
func TestHandoverFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		handover func(_, _ *types.Endpoint) disagg.Protocol
		status   int // 0: the endpoint serves alone
	}{
		"no protocol": {func(_, _ *types.Endpoint) disagg.Protocol { return nil }, 0},
		"unsupported": {func(_, _ *types.Endpoint) disagg.Protocol { return fails{fmt.Errorf("x %w", disagg.ErrUnsupported)} }, 0},
		"prefill":     {func(_, _ *types.Endpoint) disagg.Protocol { return fails{fmt.Errorf("x %w", disagg.ErrPrefill)} }, 0},
		"panics":      {func(_, _ *types.Endpoint) disagg.Protocol { panic("mine") }, 500},
		"cancelled":   {func(_, _ *types.Endpoint) disagg.Protocol { return fails{context.Canceled} }, 499},
	} {
		t.Run(name, func(t *testing.T) {
			d, store := apart(t, nil, func(o *director.Options) { o.Handover = tt.handover })
			route, err := d.Route(ctx, splitting(chatBody))
			require.NoError(t, err)
			legs, err := route.Legs(ctx)
			require.Nil(t, legs)
			if tt.status == 0 {
				require.NoError(t, err)
				require.Nil(t, route.Prefill())
				require.NotZero(t, route.Endpoint().Load.PrefillTokens())
			} else {
				require.Equal(t, tt.status, director.AsError(err).Status)
			}
			route.Done(err)
			nothingHeld(t, store)
		})
	}
}

// fails is a protocol that fails.
type fails struct{ err error }

func (f fails) Begin(context.Context, disagg.Request) (disagg.Handover, error) { return nil, f.err }

// Admission control counts those that answer alone, and leaves those that compute prompts as they are.
func TestAdmissionCountsWhoAnswers(t *testing.T) {
	d, store := apart(t, disagg.NIXL(disagg.Options{}), func(o *director.Options) {
		o.Admission = func(types.NamespacedName) *admission.Options {
			return &admission.Options{Detector: admission.Concurrency{Requests: 1}}
		}
	})
	var routes []*director.Route
	for _, want := range []string{"d1", "d2"} {
		route, err := d.Route(ctx, splitting(chatBody))
		require.NoError(t, err)
		require.Equal(t, want, route.Endpoint().ID)
		require.Equal(t, "p1", route.Prefill().ID)
		routes = append(routes, route)
	}
	in := splitting(chatBody)
	in.MaxWait = time.Millisecond
	_, err := d.Route(ctx, in)
	require.Equal(t, 429, director.AsError(err).Status, "both that answer are busy: %v", err)
	for _, route := range routes {
		route.Done(context.Canceled)
	}
	nothingHeld(t, store)
}

// What engines take for the words of gateways, no client may say where they would be heard.
func TestReserved(t *testing.T) {
	body := strings.TrimSuffix(chatBody, "}") + `,"kv_transfer_params":{"remote_host":"10.0.0.9"}}`
	in := director.Incoming{Path: "/v1/chat/completions", Body: []byte(body)}
	d, _ := apart(t, nil, nil)
	_, err := d.Route(ctx, in)
	e := director.AsError(err)
	require.Equal(t, 400, e.Status)
	require.Equal(t, director.CodeReserved, e.Code)
	require.Equal(t, "kv_transfer_params", e.Param)

	plain := newDirector(t, newStore(t, 2, datastore.Options{}), nil)
	route, err := plain.Route(ctx, in)
	require.NoError(t, err, "nobody has a role: it is as ever")
	route.Done(context.Canceled)

	for name := range map[string]bool{"X-Data-Parallel-Rank": true, "x_data_parallel_rank": true, "X-Prefiller-Host-Port": true} {
		h := map[string][]string{name: {"1"}, "Accept": {"x"}}
		director.StripControlHeaders(h)
		require.Equal(t, map[string][]string{"Accept": {"x"}}, h)
	}
}
