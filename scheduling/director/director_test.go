package director_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var (
	ctx  = context.Background()
	pool = types.NamespacedName{Namespace: "default", Name: "pool"}
)

// manifests: "food" is critical and split over two targets, "bulk" may be shed,
// "fast" is an objective.
const manifests = `
{"apiVersion":"inference.networking.k8s.io/v1","kind":"InferencePool","metadata":{"name":"pool"},
 "spec":{"selector":{"matchLabels":{"app":"x"}},"targetPorts":[{"number":8000}]}}
{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"food"},
 "spec":{"modelName":"food","criticality":"Critical","poolRef":{"name":"pool"},"targetModels":[{"name":"food-v1","weight":1}]}}
{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"bulk"},
 "spec":{"modelName":"bulk","criticality":"Sheddable","poolRef":{"name":"pool"}}}
{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceObjective","metadata":{"name":"fast"},
 "spec":{"priority":7,"poolRef":{"name":"pool"}}}`

// newStore returns a store with the manifests and n endpoints ep-0, ep-1, …
// at 10.0.0.1:8000, 10.0.0.2:8000, …, idle and just read.
func newStore(t testing.TB, n int, o datastore.Options) *datastore.Store {
	t.Helper()
	store := datastore.New(o)
	objs, err := types.DecodeManifests([]byte(manifests))
	require.NoError(t, err)
	require.NoError(t, store.Apply(objs...))
	var specs []datastore.EndpointSpec
	for i := range n {
		specs = append(specs, datastore.EndpointSpec{ID: fmt.Sprintf("ep-%d", i), Address: fmt.Sprintf("10.0.%d.%d:8000", i/250, i%250+1)})
	}
	require.NoError(t, store.SetEndpoints(pool, specs))
	setMetrics(store, 0, 0.1)
	return store
}

// setMetrics gives all endpoints the same fresh reading.
func setMetrics(store *datastore.Store, waiting, kv float64) {
	for _, ep := range endpoints(store) {
		store.UpdateMetrics(ep.Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(waiting), Running: types.Known(1), KVUsage: types.Known(kv)})
	}
}

func endpoints(store *datastore.Store) []*types.Endpoint {
	return store.Snapshot().Pool(pool).Endpoints()
}

func newDirector(t testing.TB, store *datastore.Store, change func(*director.Options)) *director.Director {
	t.Helper()
	s, err := scheduling.New(plugins.Default())
	require.NoError(t, err)
	o := director.Options{Store: store, Scheduler: s, TrustRequestHeaders: true}
	if change != nil {
		change(&o)
	}
	d, err := director.New(o)
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return d
}

func chat(model string) []byte {
	return []byte(`{"model":"` + model + `","seed":12345678901234567890,"messages":[{"role":"user","content":"hello"}]}`)
}

func incoming(model string, header ...string) director.Incoming {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return director.Incoming{Path: "/v1/chat/completions", Header: h, Body: chat(model)}
}

func zeroLedgers(t *testing.T, eps []*types.Endpoint) {
	t.Helper()
	for _, ep := range eps {
		if l := ep.Load; l.Requests() != 0 || l.PrefillTokens() != 0 || l.ContextTokens() != 0 {
			t.Errorf("the ledger of %s is %d requests, %d prefill, %d context in the end", ep.ID, l.Requests(), l.PrefillTokens(), l.ContextTokens())
		}
	}
}

func TestRoute(t *testing.T) {
	store := newStore(t, 4, datastore.Options{})
	var out types.Outcome
	p := plugins.Default()
	p.Hooks.Finished = func(e scheduling.Event) {
		o := e.Outcome
		out = o
	}
	s, _ := scheduling.New(p)
	d := newDirector(t, store, func(o *director.Options) { o.Scheduler, o.RestoreModel = s, true })

	route, err := d.Route(ctx, incoming("food", "x-request-id", "r1", director.HeaderFairness, "tenant", "x-slo-ttft-ms", "250.5", "X-Session-Id", "s1"))
	require.NoError(t, err)
	if want := strings.Replace(string(chat("food")), `"food"`, `"food-v1"`, 1); string(route.Body) != want {
		t.Errorf("Body = %s, want %s", route.Body, want)
	}
	req := &route.Request
	if req.Model != "food" || req.TargetModel != "food-v1" || req.Priority != types.PriorityCritical || req.ID != "r1" ||
		req.FairnessID != "tenant" || req.SessionID != "s1" || req.SLO.TTFT != 250500*time.Microsecond || route.Pool != pool {
		t.Errorf("Request = %+v, pool %v", req, route.Pool)
	}
	ep := route.Endpoint()
	if ep.Load.Requests() != 1 || ep.Load.PrefillTokens() == 0 {
		t.Errorf("the ledger is %d requests, %d prefill", ep.Load.Requests(), ep.Load.PrefillTokens())
	}
	require.True(t, route.RestoresModel(), "RestoresModel = false")
	route.Response(200, "text/event-stream")
	var got strings.Builder
	got.Write(route.Data([]byte(`data: {"model":"food-v1","choices":[{"delta":{"role":"assistant"}}]}` + "\n\n")))
	if ep.Load.PrefillTokens() == 0 {
		t.Error("a chunk with a role only released the prefill")
	}
	got.Write(route.Data([]byte(`data: {"model":"food-v1","choices":[{"delta":{"content":"hi"}}]}` + "\n\n")))
	if ep.Load.PrefillTokens() != 0 {
		t.Error("the first token did not release the prefill")
	}
	got.Write(route.Data([]byte(`data: {"model":"food-v1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}` + "\n\ndata: [DONE]\n\n")))
	got.Write(route.End())
	route.Done(errors.New("late"))
	if strings.Contains(got.String(), "food-v1") || strings.Count(got.String(), `"model":"food"`) != 3 {
		t.Errorf("the response passed as %s", got.String())
	}
	if out.Err != nil || out.Status != 200 || out.Usage.CachedTokens.Or(-1) != 4 || out.Usage.PromptTokens.Or(-1) != 9 || out.Usage.CompletionTokens.Or(-1) != 2 {
		t.Errorf("Outcome = %+v", out)
	}
	zeroLedgers(t, endpoints(store))
}

func TestRouteErrors(t *testing.T) {
	big := director.Incoming{Path: "/v1/chat/completions", Body: chat(strings.Repeat("x", 2000))}
	tests := []struct {
		name    string
		in      director.Incoming
		store   datastore.Options
		n       int
		waiting float64
		status  int
		code    string
		text    string
	}{
		{name: "malformed", in: director.Incoming{Path: "/v1/chat/completions", Body: []byte(`{"model":`)}, n: 1, status: 400, code: openai.CodeInvalidJSON},
		{name: "no model", in: director.Incoming{Path: "/v1/chat/completions", Body: []byte(`{"messages":[]}`)}, n: 1, status: 400, code: openai.CodeMissing, text: "model"},
		{name: "too large", in: big, n: 1, status: 413, code: openai.CodeTooLarge},
		{name: "bad SLO", in: incoming("food", director.HeaderTPOT, "fast"), n: 1, status: 400, code: director.CodeBadHeader, text: `"fast"`},
		{name: "unknown model", in: incoming("nope"), store: datastore.Options{UnknownModels: datastore.Refuse}, n: 1, status: 404, code: director.CodeModelNotFound, text: "nope"},
		{name: "no endpoints", in: incoming("food"), n: 0, status: 503, code: director.CodeNoEndpoint},
		{name: "empty subset", in: func() director.Incoming { i := incoming("food"); i.HasSubset = true; return i }(), n: 2, status: 503, code: director.CodeNoEndpoint},
		{name: "unknown pool", in: func() director.Incoming {
			i := incoming("food")
			i.Pool = types.NamespacedName{Name: "other"}
			return i
		}(), n: 2, status: 503, code: director.CodeNoEndpoint, text: "food"},
		{name: "shed", in: incoming("bulk"), n: 2, waiting: 50, status: 429, code: director.CodeSaturated, text: "busy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := newStore(t, tt.n, tt.store)
			setMetrics(store, tt.waiting, 0.1)
			d := newDirector(t, store, func(o *director.Options) {
				o.Limits.MaxBytes = 1000
				o.RetryAfter = 1500 * time.Millisecond
			})
			route, err := d.Route(ctx, tt.in)
			if route != nil || err == nil {
				t.Fatalf("Route = %v, %v, want an error", route, err)
			}
			e := director.AsError(err)
			if e.Status != tt.status || e.Code != tt.code || !strings.Contains(e.Message, tt.text) {
				t.Errorf("error = %d %s %q, want %d %s with %q", e.Status, e.Code, e.Message, tt.status, tt.code, tt.text)
			}
			var body struct {
				Error struct{ Message, Code string }
			}
			if json.Unmarshal(e.Body(), &body) != nil || body.Error.Message == "" || body.Error.Code != tt.code {
				t.Errorf("Body = %s", e.Body())
			}
			if strings.Contains(e.Message, "datastore:") || strings.Contains(e.Message, "scheduling:") {
				t.Errorf("the client is told %q", e.Message)
			}
			retry := http.Header(e.Header()).Get("Retry-After")
			if (retry == "2") != (tt.status == 429) {
				t.Errorf("Retry-After = %q", retry)
			}
			if _, err := d.Explain(ctx, tt.in); err == nil {
				t.Error("Explain had no error")
			}
			zeroLedgers(t, endpoints(store))
		})
	}
}

// Messages has its own form of errors.
func TestErrorBodyOfMessages(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	_, err := d.Route(ctx, director.Incoming{Path: "/v1/messages", Body: []byte(`{}`)})
	if got := string(director.AsError(err).Body()); !strings.HasPrefix(got, `{"type":"error"`) {
		t.Errorf("Body = %s", got)
	}
}

// A pool that is full is a 429 for who may be shed; a pool that is empty is a 503.
func TestTrap429ForWhatIsA503(t *testing.T) {
	store := newStore(t, 2, datastore.Options{})
	d := newDirector(t, store, nil)
	for _, tt := range []struct {
		model   string
		waiting float64
		status  int
	}{
		{"bulk", 0, 0}, {"other", 0, 0}, {"food", 0, 0},
		{"bulk", 50, 429}, {"other", 50, 0}, {"food", 50, 0},
		{"bulk", 500, 429}, {"other", 500, 429}, {"food", 500, 0},
	} {
		setMetrics(store, tt.waiting, 0.1)
		route, err := d.Route(ctx, incoming(tt.model))
		status := 0
		if err != nil {
			status = director.AsError(err).Status
		} else {
			route.Done(nil)
		}
		if status != tt.status {
			t.Errorf("%s with %g waiting everywhere: status %d, want %d", tt.model, tt.waiting, status, tt.status)
		}
	}
	require.NoError(t, store.SetEndpoints(pool, nil))
	for _, model := range []string{"bulk", "food"} {
		if _, err := d.Route(ctx, incoming(model)); director.AsError(err).Status != 503 {
			t.Errorf("%s with no endpoints: %v, want a 503", model, err)
		}
	}
}

func TestTrapSubsetHintWhosePortIsIgnored(t *testing.T) {
	store := newStore(t, 3, datastore.Options{})
	require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "second port", Address: "10.0.0.1:8001"}))
	require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: "v6", Address: "[fd00::1]:8000"}))
	d := newDirector(t, store, nil)
	bodies := map[string]director.Incoming{ // the hint holds in every path
		"chat":    incoming("food"),
		"no body": {Path: "/v1/files"},
	}
	for _, tt := range []struct {
		subset []string
		want   string
	}{
		{[]string{"10.0.0.1:8001"}, "second port"},
		{[]string{" 10.0.0.2:8000 ", "10.9.9.9:8000"}, "ep-1"},
		{[]string{"10.0.0.3"}, "ep-2"},
		{[]string{"[fd00::1]:8000"}, "v6"},
		{[]string{"fd00::1"}, "v6"},
		{[]string{"10.0.0.1:9999"}, ""},
	} {
		for name, in := range bodies {
			in.HasSubset, in.Subset = true, tt.subset
			route, err := d.Route(ctx, in)
			if tt.want == "" {
				if director.AsError(err).Status != 503 {
					t.Errorf("%s, subset %q: %v, want a 503", name, tt.subset, err)
				}
				continue
			}
			require.NoError(t, err, "%s, subset %q", name, tt.subset)
			if route.Endpoint().ID != tt.want || len(route.Fallbacks()) != 0 {
				t.Errorf("%s, subset %q: %s with %d fallbacks, want %s alone", name, tt.subset, route.Endpoint().ID, len(route.Fallbacks()), tt.want)
			}
			route.Done(nil)
		}
	}
}

func TestTrapTwoRequestsWithTheSameRequestID(t *testing.T) {
	store := newStore(t, 3, datastore.Options{})
	d := newDirector(t, store, nil)
	a, err1 := d.Route(ctx, incoming("food", "x-request-id", "same"))
	b, err2 := d.Route(ctx, incoming("food", "x-request-id", "same"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	a.Done(nil)
	if b.Endpoint().Load.Requests() != 1 {
		t.Errorf("the end of one request released the other's booking, or leaked its own: %d in flight", b.Endpoint().Load.Requests())
	}
	b.Done(nil)
	zeroLedgers(t, endpoints(store))
}

func TestTrapControlHeadersFromClientsBelieved(t *testing.T) {
	h := map[string][]string{
		"x-gateway-destination-endpoint":        {"10.0.0.9:1"},
		"X-Gateway-Destination-Endpoint-Subset": {"10.0.0.1:8000"},
		"X-GATEWAY-DESTINATION-ENDPOINT-SERVED": {"x"},
		"Accept":                                {"*/*"},
	}
	store := newStore(t, 4, datastore.Options{})
	d := newDirector(t, store, nil)
	seen := map[string]bool{}
	for range 40 {
		in := incoming("food")
		for k, v := range h {
			in.Header[http.CanonicalHeaderKey(k)] = v
		}
		route, err := d.Route(ctx, in)
		require.NoError(t, err)
		seen[route.Endpoint().ID] = true
		defer route.Done(nil)
	}
	if len(seen) != 4 {
		t.Errorf("a subset header of a client narrowed the choice to %v", seen)
	}
	director.StripControlHeaders(h)
	if len(h) != 1 {
		t.Errorf("after StripControlHeaders there are %v", h)
	}

	strict := newDirector(t, store, func(o *director.Options) { o.TrustRequestHeaders = false })
	route, err := strict.Route(ctx, incoming("bulk", director.HeaderObjective, "fast", director.HeaderRewrite, "mine", director.HeaderFairness, "me"))
	require.NoError(t, err)
	defer route.Done(nil)
	if r := route.Request; r.Priority != types.PrioritySheddable || r.TargetModel != "bulk" || r.FairnessID != "" {
		t.Errorf("headers were read although they are to be ignored: %+v", r)
	}
	route, err = d.Route(ctx, incoming("bulk", director.HeaderObjective, "fast"))
	require.NoError(t, err)
	defer route.Done(nil)
	require.Equal(t, 7, route.Request.Priority, "priority by objective")
}

func TestFallbacks(t *testing.T) {
	store := newStore(t, 3, datastore.Options{})
	d := newDirector(t, store, nil)
	route, err := d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	tried := map[string]bool{}
	for ep := route.Endpoint(); ep != nil; ep = route.Next() {
		tried[ep.ID] = true
		if route.Endpoint() != ep || ep.Load.Requests() != 1 {
			t.Errorf("at %s: booked at %s, %d requests", ep.ID, route.Endpoint().ID, ep.Load.Requests())
		}
	}
	if len(tried) != 3 {
		t.Errorf("tried %v, want 3 endpoints", tried)
	}
	route.Done(errors.New("nobody answered"))
	zeroLedgers(t, endpoints(store))

	store = newStore(t, 3, datastore.Options{}) // of which nobody has failed
	d = newDirector(t, store, nil)
	route, err = d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	to := route.Fallbacks()[0] // the one that was tried first before is ejected
	if !route.Served(to.Address) || route.Endpoint() != to || to.Load.Requests() != 1 {
		t.Errorf("Served did not move the booking to %s", to.ID)
	}
	require.False(t, route.Served("10.9.9.9:1"), "Served believed an address that was not named")
	route.Done(nil)
	zeroLedgers(t, endpoints(store))
}

func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(*director.Route)
		want func(types.Outcome) bool
	}{
		{"client gone", func(r *director.Route) { r.Done(context.Canceled) }, func(o types.Outcome) bool { return o.Cancelled && o.Err == nil }},
		{"never answered", func(r *director.Route) { r.Done(nil) }, func(o types.Outcome) bool { return o.Cancelled }},
		{"server error", func(r *director.Route) { r.Response(500, "application/json"); r.End() }, func(o types.Outcome) bool { return o.Failed() && o.Status == 500 && o.Err == nil }},
		{"cut off", func(r *director.Route) {
			r.Response(200, "text/event-stream")
			r.Data([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"))
			r.End()
		}, func(o types.Outcome) bool { return errors.Is(o.Err, director.ErrCutOff) }},
		{"error in the stream", func(r *director.Route) {
			r.Response(200, "text/event-stream")
			r.Data([]byte("data: {\"error\":{\"message\":\"out of memory\"}}\n\ndata: [DONE]\n\n"))
			r.End()
		}, func(o types.Outcome) bool { return o.Err != nil && strings.Contains(o.Err.Error(), "out of memory") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := newStore(t, 2, datastore.Options{})
			var got []types.Outcome
			p := plugins.Classic()
			p.Hooks.Finished = func(e scheduling.Event) {
				o := e.Outcome
				got = append(got, o)
			}
			s, _ := scheduling.New(p)
			d := newDirector(t, store, func(o *director.Options) { o.Scheduler = s })
			route, err := d.Route(ctx, incoming("food"))
			require.NoError(t, err)
			tt.play(route)
			route.Done(nil)
			if len(got) != 1 || !tt.want(got[0]) {
				t.Errorf("outcomes = %+v", got)
			}
			zeroLedgers(t, endpoints(store))
		})
	}
}

func TestExplainEqualsRoute(t *testing.T) {
	store := newStore(t, 5, datastore.Options{})
	p, now := plugins.Default(), time.Now()
	p.Now = func() time.Time { return now } // what a server costs changes by the millisecond
	scheduler, err := scheduling.New(p)
	require.NoError(t, err)
	d := newDirector(t, store, func(o *director.Options) { o.Scheduler = scheduler })
	for range 20 {
		ex, err := d.Explain(ctx, incoming("food"))
		require.NoError(t, err)
		in := incoming("food")
		in.Explain = true
		route, err := d.Route(ctx, in)
		require.NoError(t, err)
		if route.Endpoint() != ex.Endpoint || route.Explanation.String() != ex.String() {
			t.Fatalf("Route chose %s, Explain said %s\n%s%s", route.Endpoint().ID, ex.Endpoint.ID, route.Explanation, ex)
		}
		defer route.Done(nil)
	}
}

// The prefix index forgets servers that go or restart, without the embedder's doing.
func TestSchedulersForgetEndpointsThatGoOrRestart(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	d := newDirector(t, store, nil)
	body := []byte(`{"model":"food","messages":[{"role":"user","content":"` + strings.Repeat("once upon a time ", 200) + `"}]}`)
	in := director.Incoming{Path: "/v1/chat/completions", Body: body}
	owed := func() int64 {
		route, err := d.Route(ctx, in)
		require.NoError(t, err)
		defer route.Done(nil)
		route.Response(200, "application/json")
		n := route.Endpoint().Load.PrefillTokens()
		route.Data([]byte(`{}`))
		return n
	}
	first, second := owed(), owed()
	if second >= first/2 {
		t.Fatalf("the second time %d of %d tokens are owed: the prefix is not known", second, first)
	}
	ep := endpoints(store)[0]
	m := ep.Metrics
	m.StartedAt = types.Known(1000)
	store.UpdateMetrics(ep.Load, m)
	m.StartedAt = types.Known(2000)
	store.UpdateMetrics(ep.Load, m)
	if got := owed(); got != first {
		t.Errorf("after a restart %d tokens are owed, want %d", got, first)
	}
	require.NoError(t, store.SetEndpoints(pool, nil))
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "ep-0", Address: "10.0.0.1:8000"}}))
	if got := owed(); got != first {
		t.Errorf("after it was removed and came back %d tokens are owed, want %d", got, first)
	}
}

func TestNewRefuses(t *testing.T) {
	store := datastore.New(datastore.Options{})
	s, _ := scheduling.New(plugins.Classic())
	for text, o := range map[string]director.Options{
		"Store":      {Scheduler: s},
		"Scheduler":  {Store: store},
		"Schedulers": {Store: store, Schedulers: map[types.NamespacedName]*scheduling.Scheduler{pool: nil}},
		"RetryAfter": {Store: store, Scheduler: s, RetryAfter: -1},
	} {
		if _, err := director.New(o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("New: %v, want an error about %s", err, text)
		}
	}
}

// What is complete is no reason to warn of anything: bodies that are read, those that are
// not, and requests without any.
func TestNoWarnings(t *testing.T) {
	store := newStore(t, 3, datastore.Options{})
	p := plugins.Default()
	p.Hooks.Warned = func(_ *types.Request, err error) { t.Error(err) }
	d := newDirector(t, store, func(o *director.Options) { o.Scheduler = schedulerOf(t, p) })
	for _, in := range []director.Incoming{
		incoming("food"), {Path: "/v1/chat/completions", HeadersOnly: true}, {Method: "GET", Path: "/health"},
		{Path: "/v1/chat/completions", Body: []byte(`{"model":"food","messages":[]}`)},
		{Path: "/v1/audio/speech", Body: []byte(`{"model":"food"}`)},
	} {
		r, err := d.Route(ctx, in)
		if err != nil {
			t.Logf("%s: %v", in.Path, err)
			continue
		}
		r.Done(nil)
	}
}

func TestEngineSessions(t *testing.T) {
	d := newDirector(t, newStore(t, 2, datastore.Options{}), func(o *director.Options) { o.EngineSessions = func(of types.NamespacedName) bool { return of == pool } })
	var sessions []string
	for range 2 {
		route, err := d.Route(ctx, incoming("food"))
		require.NoError(t, err)
		s := route.Request.EngineSession
		want := `{"session_id":"` + s + `",` + strings.Replace(string(chat("food")), `"food"`, `"food-v1"`, 1)[1:]
		require.Equal(t, want, string(route.Body))
		sessions = append(sessions, s)
		route.Done(nil)
	}
	require.NotEqual(t, sessions[0], sessions[1])
	d = newDirector(t, newStore(t, 2, datastore.Options{}), nil)
	route, err := d.Route(ctx, incoming("bulk"))
	require.NoError(t, err)
	defer route.Done(nil)
	require.Equal(t, string(chat("bulk")), string(route.Body))
}

// A prompt is what Options.Tokenize says that it is, for Route and Explain alike; without an answer it is
// bytes, also if the function panics.
func TestTokenize(t *testing.T) {
	var asked []string
	answer := func() ([]uint32, bool) { return nil, false }
	d := newDirector(t, newStore(t, 2, datastore.Options{}), func(o *director.Options) {
		o.Tokenize = func(_ context.Context, r *director.Route, among []*types.Endpoint) ([]uint32, bool) {
			require.Len(t, among, 2)
			require.Equal(t, pool, r.Pool)
			asked = append(asked, string(r.Body))
			return answer()
		}
	})
	prompt := func() types.Prompt {
		r, err := d.Route(ctx, incoming("food"))
		require.NoError(t, err)
		r.Done(nil)
		return r.Request.Prompt
	}
	bytes := prompt()
	require.Nil(t, bytes.Data)
	require.Equal(t, []string{string(chat("food-v1"))}, asked, "what the engine will get")
	answer = func() ([]uint32, bool) { panic("tokenizer") }
	require.Equal(t, bytes, prompt())
	answer = func() ([]uint32, bool) { return []uint32{1, 2, 3}, true }
	require.Equal(t, types.TokenPrompt([]uint32{1, 2, 3}), prompt())
	answer = func() ([]uint32, bool) { return []uint32{1}, false }
	require.Equal(t, bytes.Tokens, prompt().Tokens)
	_, err := d.Explain(ctx, incoming("food"))
	require.NoError(t, err)
	require.Len(t, asked, 5)
}
