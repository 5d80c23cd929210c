package httptransport_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
)

const (
	chatPath        = "/v1/chat/completions"
	completionsPath = "/v1/completions"
)

// always has every prompt computed elsewhere, by the one with the fewest requests.
type always struct {
	takes    time.Duration // to compute a prompt
	patience time.Duration
}

func (s always) Split(_ context.Context, _ *types.Request, eps, prefill []*types.Endpoint, _ bool, by []int32, _ []float64) error {
	least := 0
	for i, ep := range prefill {
		if ep.Load.Requests() < prefill[least].Load.Requests() {
			least = i
		}
	}
	for i, ep := range eps {
		if ep.Load != prefill[least].Load {
			by[i] = int32(least)
		}
	}
	return nil
}

func (s always) PrefillTime(*types.Request, *types.Endpoint) time.Duration { return s.takes }

func (s always) Patience(*types.Request, *types.Endpoint) time.Duration { return s.patience }

// Score has a plugin that is impatient in the profile.
func (s always) Score(_ context.Context, _ *types.Request, _ []*types.Endpoint, scores []float64) error {
	clear(scores)
	return nil
}

// apart is a gateway in front of fake engines that serve together.
type apart struct {
	c         *dt.Cluster
	store     *datastore.Store
	director  *director.Director
	transport *httptransport.Transport
	front     *httptest.Server
	client    *http.Client

	mu        sync.Mutex
	finished  []types.Outcome
	prefilled []scheduling.Event
	ignored   []string
	encoded   []director.EncodeStats
	encodes   []types.Outcome
	base      *http.Transport
	log       bytes.Buffer
}

// Write has the log of the gateway in what a test that fails says.
func (a *apart) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.Write(p)
}

func (a *apart) logged() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String()
}

// setup is what tests change.
type setup struct {
	profile   scheduling.Profile
	director  director.Options
	transport func(*httptransport.Transport)
	encode    func(*director.Encoding)
	disagg    disagg.Options
	roles     map[string]string // by id; default: "prefill" and "decode"
}

func newApart(t testing.TB, o dt.Options, change func(*setup)) *apart {
	t.Helper()
	a := &apart{c: dt.New(o)}
	a.base = &http.Transport{MaxIdleConnsPerHost: 64}
	s := setup{
		profile: scheduling.Profile{
			Splitter: always{}, Scorers: []scheduling.Weighted{{Name: "order", Weight: 1, Scorer: scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
				return 0.9/(1+float64(ep.Load.Requests())) - float64(ep.ID[1]-'0')/1000
			})}},
			Picker: plugins.MaxScore{}, Fallbacks: 2, OutputTokens: 8, Seed: 1,
		},
		disagg: disagg.Options{PortLabel: "bootstrap", Query: httptransport.Query(a.base)},
	}
	if change != nil {
		change(&s)
	}
	s.profile.Hooks.Finished = func(e scheduling.Event) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.finished = append(a.finished, e.Outcome)
	}
	s.profile.Hooks.Prefilled = func(e scheduling.Event) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.prefilled = append(a.prefilled, e)
	}
	a.store = datastore.New(datastore.Options{})
	add := func(engines []*dt.Engine, role, letter string) {
		for i, e := range engines {
			id := fmt.Sprintf("%s%d", letter, i)
			labels := map[string]string{types.RoleLabel: role}
			if own, ok := s.roles[id]; ok {
				labels[types.RoleLabel] = own
			}
			if e.Bootstrap() != "" {
				_, port, _ := net.SplitHostPort(e.Bootstrap())
				labels["bootstrap"] = port
			}
			require.NoError(t, a.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: id, Address: e.Address(), Labels: labels}))
		}
	}
	add(a.c.Prefill, "prefill", "p")
	add(a.c.Decode, "decode", "d")
	add(a.c.Plain, "", "x")
	add(a.c.Encode, "encode", "e")
	var err error
	s.director.Store, s.director.Logger = a.store, slog.New(slog.NewTextHandler(a, nil))
	s.director.Scheduler, err = scheduling.New(s.profile)
	require.NoError(t, err)
	if o.Encode > 0 && s.director.Encode == nil {
		s.director.Encode = a.encoding(t, o.EC)
		if s.encode != nil {
			s.encode(s.director.Encode)
		}
	}
	if s.director.Handover == nil {
		protocol, err := disagg.ByName(map[dt.Protocol]string{dt.NIXL: "nixl", dt.Mooncake: "mooncake", dt.SGLang: "sglang", dt.TensorRT: "trtllm"}[o.Protocol], s.disagg)
		require.NoError(t, err)
		s.director.Handover = func(_, _ *types.Endpoint) disagg.Protocol { return protocol }
	}
	s.director.OnIgnored = func(_ *director.Route, ep *types.Endpoint) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ignored = append(a.ignored, ep.ID)
	}
	a.director, err = director.New(s.director)
	require.NoError(t, err)
	a.transport = &httptransport.Transport{Director: a.director, Base: a.base, NameEndpoint: true}
	if s.transport != nil {
		s.transport(a.transport)
	}
	a.front = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {}, Transport: a.transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
	})
	a.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(a.close)
	return a
}

func (a *apart) close() {
	a.client.CloseIdleConnections()
	a.front.Close()
	a.director.Close()
	a.base.CloseIdleConnections()
	a.c.Close()
}

// given is what a client got.
type given struct {
	status int
	header http.Header
	body   []byte
	err    error // of the body, if there was a head
}

func (a *apart) ask(ctx context.Context, path, body string) given {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.front.URL+path, strings.NewReader(body))
	if err != nil {
		return given{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Request-Id", "client 1")
	resp, err := a.client.Do(req)
	if err != nil {
		return given{err: err}
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return given{resp.StatusCode, resp.Header, all, err}
}

// right requires that the client got the right answer.
func (a *apart) right(t testing.TB, path, body string, g given) dt.Answer {
	t.Helper()
	require.NoError(t, g.err)
	require.Equal(t, 200, g.status, "%s\n%s\n%v", g.body, a.logged(), a.c.Legs())
	answer, err := dt.Read(g.body)
	require.NoError(t, err, "%s", g.body)
	want, err := a.c.Want(path, []byte(body))
	require.NoError(t, err)
	same := answer
	if same.Usage != nil {
		usage := *same.Usage
		usage.Details.Cached = 0
		same.Usage = &usage
	}
	require.Equal(t, want, same)
	return answer
}

// quietNow requires that nothing is left: nothing booked, no leg, no KV.
func (a *apart) quietNow(t testing.TB) {
	t.Helper()
	require.NoError(t, a.c.Check())
	a.empty(t)
}

func (a *apart) empty(t testing.TB) {
	t.Helper()
	for _, ep := range a.store.Snapshot().Pool(pool).Endpoints() {
		require.Eventually(t, func() bool { return ep.Load.Held() == types.Booking{} }, 2*time.Second, time.Millisecond, "%s holds %+v", ep.ID, ep.Load.Held())
	}
}

// told requires that hooks were told of so many ends. It is to be called when all is quiet.
func (a *apart) told(t testing.TB, finished, prefilled int) {
	t.Helper()
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.finished) == finished && len(a.prefilled) == prefilled
	}, time.Second, time.Millisecond)
}

func protocols() []dt.Protocol { return []dt.Protocol{dt.NIXL, dt.Mooncake, dt.SGLang, dt.TensorRT} }

func eachProtocol(t *testing.T, test func(t *testing.T, p dt.Protocol)) {
	for _, p := range protocols() {
		t.Run(p.String(), func(t *testing.T) { test(t, p) })
	}
}

// bodies are what clients ask.
var bodies = map[string]struct{ path, body string }{
	"chat":       {chatPath, `{"model":"m", "messages":[{"role":"user","content":"why is the sky  blue \u00e9"}],"user":"u1","seed":12345678901234567890,"max_completion_tokens":5}`},
	"chat all":   {chatPath, `{"model":"m","messages":[{"role":"user","content":"hi"}],"user":"u2"}`},
	"chat sse":   {chatPath, `{"model":"m","messages":[{"role":"user","content":"hi"}],"user":"u3","stream":true,"stream_options":{"include_usage":true},"max_tokens":20}`},
	"completion": {completionsPath, `{"model":"m","prompt":"once upon a time","user":"u4","max_tokens":3}`},
	"sse":        {completionsPath, `{"model":"m","prompt":[1,2,3],"user":"u5","stream":true}`},
}

const streamedChat = `{"model":"m","messages":[{"role":"user","content":"hello there"}],"stream":true,"stream_options":{"include_usage":true},"user":"u"}`

// Whatever a client asks, two engines answer as one would, and what they say of each other's caches
// does not reach the client.
func TestApart(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol dt.Protocol) {
		for name, b := range bodies {
			t.Run(name, func(t *testing.T) {
				behaviour := dt.Behaviour{CachedTokens: 2, OldUsage: true}
				if protocol == dt.Mooncake || protocol == dt.SGLang {
					behaviour.TokenTime = 5 * time.Millisecond // so that the prefill leg ends first
				}
				a := newApart(t, dt.Options{Protocol: protocol, Prefill: 2, Decode: 2, Behaviour: behaviour}, nil)
				g := a.ask(t.Context(), b.path, b.body)
				answer := a.right(t, b.path, b.body, g)
				require.Equal(t, "d0", g.header.Get(httptransport.HeaderEndpoint))
				if answer.Usage != nil {
					require.Equal(t, 2, answer.Usage.Details.Cached, "what the prefill engine had")
				}
				a.quietNow(t)
				stats := a.c.Stats()
				require.Equal(t, []int{1, 1, 0, 1}, []int{stats.Prefill, stats.Decode, stats.Ordinary, stats.Transferred})
				for _, leg := range a.c.Legs() {
					require.Regexp(t, `^client1-[A-Z2-7]{16}$`, leg.RequestID)
				}
				a.told(t, 1, 1)
				require.False(t, a.finished[0].Usage.CachedTokens.IsKnown(), "none of its own")
				require.True(t, a.finished[0].Served())
				if protocol != dt.SGLang || name != "sse" { // where the prefill engine streams, too, without usage
					require.Equal(t, types.Known(2), a.prefilled[0].Outcome.Usage.CachedTokens)
				}
				require.True(t, a.prefilled[0].Outcome.Served())
			})
		}
	})
}

// Where two engines serve every request, what one alone would be asked is not sent to two.
func TestNotApart(t *testing.T) {
	for name, b := range map[string]struct{ path, body string }{
		"two answers": {chatPath, `{"model":"m","messages":[{"role":"user","content":"hi"}],"n":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t, dt.Options{Protocol: dt.NIXL}, nil)
			require.Equal(t, 200, a.ask(t.Context(), b.path, b.body).status)
			require.Equal(t, 1, a.c.Stats().Ordinary)
			a.quietNow(t)
		})
	}
}

// No goroutine, leg or booking is left by anything that tests here do.
func noLeaks(t *testing.T, do func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	do()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// side is a test beside others: they wait much and do little.
type side struct {
	testing.TB
	name string

	mu      sync.Mutex
	cleanup []func()
}

func (s *side) Errorf(format string, args ...any) { s.TB.Errorf(s.name+": "+format, args...) }
func (s *side) FailNow()                          { runtime.Goexit() }
func (s *side) Helper()                           {}
func (s *side) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanup = append(s.cleanup, f)
}

// together runs tests by their names, some at a time.
func together(t *testing.T, tests map[string]func(t testing.TB)) {
	t.Helper()
	most := 64
	if raceEnabled { // in which they do ten times as much
		most = 24
	}
	room := make(chan struct{}, most)
	var all sync.WaitGroup
	for name, test := range tests {
		room <- struct{}{}
		all.Go(func() {
			s := &side{TB: t, name: name}
			defer func() {
				for _, f := range s.cleanup {
					f()
				}
				<-room
			}()
			test(s)
		})
	}
	all.Wait()
}

// notAlone are the roles of engines that answer only where another computes the prompt.
var notAlone = map[string]string{"d0": "decode-only", "d1": "decode-only", "d2": "decode-only"}

func limits(prefill time.Duration, share float64) scheduling.AloneLimits {
	return scheduling.AloneLimits{Prefill: prefill, Share: share}
}
