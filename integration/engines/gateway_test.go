package engines_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/scheduling/director/tokenize"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var pool = types.NamespacedName{Name: "pool"}

// gateway is the wiring of examples/reverseproxy, and what tests want to see of it.
type gateway struct {
	URL      string
	store    *datastore.Store
	director *director.Director
	outcomes *outcomes
	ledger   *ledger // of events, nil without
	sink     *plugins.KVSink
	events   *kvevents.Subscriber
	tokens   *tokenize.Client // nil without

	mu   sync.Mutex
	whys map[string]*scheduling.Explanation // by request id
	stop func()
}

// setup says in what a gateway differs from one with plugins.Default.
type setup struct {
	profile *scheduling.Profile
	// listen makes it listen to KV events; the Sink is filled in.
	listen *kvevents.Options
	// unnamed leaves requests without a session_id although it listens.
	unnamed bool
	// tokens has the servers tokenize prompts, or tokenize if it is set, and events bring token ids; requests
	// have no session_id.
	tokens   bool
	tokenize func(ctx context.Context, r *director.Route, among []*types.Endpoint) ([]uint32, bool)
	// roles are those of the servers, by their addresses; handover is between two that have one each.
	roles    map[string]types.Roles
	handover disagg.Protocol
}

// newGateway starts a gateway before servers until the end of the test.
func newGateway(t *testing.T, addresses ...string) *gateway {
	t.Helper()
	return newGatewayWith(t, setup{}, addresses...)
}

func newGatewayWith(t *testing.T, o setup, addresses ...string) *gateway {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g := &gateway{store: datastore.New(datastore.Options{}), outcomes: &outcomes{}, whys: make(map[string]*scheduling.Explanation)}
	for _, address := range addresses {
		if err := g.store.UpsertEndpoint(pool, datastore.EndpointSpec{Address: address, Roles: o.roles[address]}); err != nil {
			t.Fatal(err)
		}
	}
	profile := plugins.Default()
	if o.profile != nil {
		profile = *o.profile
	}
	profile.Trackers = append(profile.Trackers, g.outcomes)
	scheduler, err := scheduling.New(profile)
	if err != nil {
		t.Fatal(err)
	}
	do := director.Options{
		Store: g.store, Scheduler: scheduler,
		EngineSessions: func(types.NamespacedName) bool { return o.listen != nil && !o.unnamed && !o.tokens },
	}
	if o.tokens {
		g.tokens, err = tokenize.New(tokenize.Options{Budget: time.Second}) // these servers have the processor for themselves
		require.NoError(t, err)
		do.Tokenize = g.tokens.Of
	}
	if o.tokenize != nil {
		do.Tokenize = o.tokenize
	}
	if o.handover != nil {
		do.Handover = func(_, _ *types.Endpoint) disagg.Protocol { return o.handover }
	}
	if g.director, err = director.New(do); err != nil {
		t.Fatal(err)
	}
	scraper, err := scrape.New(g.store, scrape.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = scraper.Run(ctx) })
	if o.listen != nil {
		g.listen(t, profile, o)
		running.Go(func() { _ = g.events.Run(ctx) })
	}
	transport := httptransport.New(g.director)
	transport.NameEndpoint, transport.Explain = true, true
	transport.OnRoute = func(req *http.Request, route *director.Route) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.whys[req.Header.Get(director.HeaderRequestID)] = route.Explanation
	}
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport, FlushInterval: -1,
		ErrorLog: log.New(io.Discard, "", 0), // tests break answers off
	})
	g.URL = front.URL
	g.stop = sync.OnceFunc(func() {
		front.CloseClientConnections()
		front.Close()
		transport.CloseIdleConnections()
		g.director.Close()
		cancel()
		running.Wait()
	})
	t.Cleanup(g.stop)
	return g
}

// listen makes the subscriber of a gateway.
func (g *gateway) listen(t *testing.T, profile scheduling.Profile, with setup) {
	t.Helper()
	var err error
	o, k := *with.listen, plugins.KVOptions{}
	if with.tokens {
		o.Tokens, k.Model = true, vllm.ModelName
	}
	if g.sink, err = plugins.KVSinkOf(profile, k); err != nil {
		t.Fatal(err)
	}
	g.ledger = newLedger(g.sink)
	o.Sink = g.ledger
	if o.OnFailure == nil {
		o.OnFailure = func(f kvevents.Failure) { t.Logf("listening: %s: %v", f.URL, f.Err) }
	}
	if g.events, err = kvevents.New(g.store, o); err != nil {
		t.Fatal(err)
	}
}

// endpoints returns what the gateway knows of its servers now.
func (g *gateway) endpoints() []*types.Endpoint { return g.store.Snapshot().Pool(pool).Endpoints() }

// filtered returns the addresses that the policy leaves out for a good request, and why.
// Where it would leave out all it leaves out none, so that a spare one is added meanwhile.
func (g *gateway) filtered(t *testing.T) map[string]string {
	t.Helper()
	const spare = "127.0.0.1:1"
	if err := g.store.UpsertEndpoint(pool, datastore.EndpointSpec{Address: spare}); err != nil {
		t.Fatal(err)
	}
	defer g.store.RemoveEndpoint(pool, spare)
	x, err := g.director.Explain(context.Background(), director.Incoming{
		Path: "/v1/chat/completions", Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(question{}.body()),
	})
	if x == nil {
		t.Fatalf("no explanation: %v", err)
	}
	out := make(map[string]string)
	for _, c := range x.Candidates {
		if c.FilteredBy != "" && c.Address != spare {
			out[c.Address] = c.FilteredBy + ": " + c.FilterDetail
		}
	}
	return out
}

var (
	sayStep  = regexp.MustCompile(`a step takes ([0-9.e+-]+) (ms|s)`)
	sayFirst = regexp.MustCompile(`first token in ([0-9.e+-]+) (ms|s)`)
)

// said returns the seconds that the explanation of a request has for its endpoint in the
// detail of a term; ok is false if it has none.
func (g *gateway) said(id string, what *regexp.Regexp) (seconds float64, ok bool) {
	g.mu.Lock()
	x := g.whys[id]
	g.mu.Unlock()
	if x == nil || x.Chosen() == nil {
		return 0, false
	}
	for _, term := range x.Chosen().Terms {
		if m := what.FindStringSubmatch(term.Detail); m != nil {
			v, err := strconv.ParseFloat(m[1], 64)
			if m[2] == "ms" {
				v /= 1000
			}
			return v, err == nil
		}
	}
	return 0, false
}

// outcomes is a scheduling.Tracker that keeps how requests ended.
type outcomes struct {
	mu  sync.Mutex
	all []types.Outcome
}

func (o *outcomes) Picked(*types.Request, *types.Endpoint)     {}
func (o *outcomes) FirstToken(*types.Request, *types.Endpoint) {}
func (o *outcomes) Finished(_ *types.Request, _ *types.Endpoint, out types.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, out)
}

// take returns the outcomes since the last call, and waits until there are n.
func (o *outcomes) take(t *testing.T, n int) []types.Outcome {
	t.Helper()
	var got []types.Outcome
	within(t, 10*time.Second, fmt.Sprintf("%d outcomes", n), func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		got = o.all
		return len(got) >= n
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	got, o.all = o.all, nil
	return got
}

// within waits until something is so.
func within(t *testing.T, most time.Duration, what string, is func() bool) bool {
	t.Helper()
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		if is() {
			return true
		}
		if time.Now().After(end) {
			t.Errorf("waited %s for %s", most, what)
			return false
		}
	}
}

// question is a chat to ask for. The zero value asks the base model for a few tokens.
type question struct {
	id     string // request id; none: the engine makes one
	model  string
	prompt string
	tokens int // exactly so many
	stream bool
	salt   string // cache_salt

	messages []message // instead of the prompt
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func (q question) body() string {
	if q.model == "" {
		q.model = "tiny"
	}
	if q.tokens == 0 {
		q.tokens = 4
	}
	if q.prompt == "" {
		q.prompt = "hello"
	}
	messages := q.messages
	if messages == nil {
		messages = []message{{"user", q.prompt}}
	}
	body := map[string]any{"model": q.model, "max_tokens": q.tokens, "ignore_eos": true, "messages": messages}
	if q.salt != "" {
		body["cache_salt"] = q.salt
	}
	if q.stream {
		body["stream"], body["stream_options"] = true, map[string]bool{"include_usage": true}
	}
	text, _ := json.Marshal(body)
	return string(text)
}

// answer is what a client got.
type answer struct {
	status int
	server string // who answered, as the gateway says
	body   []byte
	err    error
	tokens int // of the output, by its usage
	prompt int // tokens, the same
	cached int // of those

	// From the sending to the first and the last piece of text of a stream.
	first, last time.Duration
}

// good says what is wrong with the answer to a good question.
func (a answer) good() error {
	switch {
	case a.err != nil:
		return a.err
	case a.status != http.StatusOK || bytes.Contains(a.body, []byte(`"error":`)):
		return fmt.Errorf("status %d from %s: %.300q", a.status, a.server, a.body)
	case a.tokens == 0:
		return fmt.Errorf("no usage in the answer of %s: %.300q", a.server, a.body)
	}
	return nil
}

// asking bounds one request: an engine on a CPU that others use too may be slow.
const asking = 3 * time.Minute

var (
	text = regexp.MustCompile(`"content":"[^"]`)
	used = regexp.MustCompile(`"completion_tokens":(\d+)`)
	had  = regexp.MustCompile(`"prompt_tokens":(\d+)`)
	hit  = regexp.MustCompile(`"cached_tokens":(\d+)`)
)

// ask sends a question and reads the answer to its end.
func ask(ctx context.Context, url string, q question) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(q.body()))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	if q.id != "" {
		req.Header.Set(director.HeaderRequestID, q.id)
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	a = answer{status: resp.StatusCode, server: resp.Header.Get(httptransport.HeaderEndpoint)}
	for r := bufio.NewReader(resp.Body); ; {
		line, err := r.ReadBytes('\n')
		a.body = append(a.body, line...)
		if text.Match(line) {
			if a.last = time.Since(began); a.first == 0 {
				a.first = a.last
			}
		}
		if err != nil {
			if err != io.EOF {
				a.err = err
			}
			break
		}
	}
	a.tokens, a.prompt, a.cached = lastNumber(used, a.body), lastNumber(had, a.body), lastNumber(hit, a.body)
	return a
}

func lastNumber(what *regexp.Regexp, in []byte) (n int) {
	if m := what.FindAllSubmatch(in, -1); m != nil {
		n, _ = strconv.Atoi(string(m[len(m)-1][1]))
	}
	return n
}

// words is what an answer says that was not streamed.
func (a answer) words() string {
	var got struct{ Choices []struct{ Message message } }
	if json.Unmarshal(a.body, &got) != nil || len(got.Choices) == 0 {
		return ""
	}
	return got.Choices[0].Message.Content
}

// askAll sends questions, so many at once, and returns the answers in their order.
func askAll(url string, questions []question, atOnce int) []answer {
	answers := make([]answer, len(questions))
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, q := range questions {
		places <- struct{}{}
		all.Go(func() {
			answers[i] = ask(context.Background(), url, q)
			<-places
		})
	}
	all.Wait()
	return answers
}

// allGood reports answers to good questions that are not good, all in one line.
func allGood(t *testing.T, answers []answer) {
	t.Helper()
	var first error
	bad := 0
	for _, a := range answers {
		if err := a.good(); err != nil {
			if bad++; first == nil {
				first = err
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d clients got no good answer; the first: %v", bad, len(answers), first)
	}
}

// count returns how many answers each server gave.
func count(answers []answer) map[string]int {
	n := make(map[string]int)
	for _, a := range answers {
		n[a.server]++
	}
	return n
}
