package autoscale_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/autoscale"
)

// served is a peer over HTTP, whose answers may be others than its own.
type servedPeer struct {
	*peerGateway
	url    string
	server *httptest.Server
	other  atomic.Pointer[http.HandlerFunc]
}

func servePeer(t testing.TB, clock *peerClock, running int64) *servedPeer {
	t.Helper()
	p := &servedPeer{peerGateway: newPeerGateway(t, clock, nil, autoscale.CollectorOptions{}).holds(running)}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if other := p.other.Load(); other != nil {
			(*other)(w, r)
			return
		}
		p.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	p.url = p.server.URL
	return p
}

// answers has it answer otherwise; nil: as it should.
func (p *servedPeer) answers(f http.HandlerFunc) {
	if f == nil {
		p.other.Store(nil)
		return
	}
	p.other.Store(&f)
}

func (p *servedPeer) says(text string) {
	p.answers(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
}

// addressBook is the addresses of peers, which change.
type addressBook struct {
	mu   sync.Mutex
	urls []string
	err  error
}

func (b *addressBook) set(err error, urls ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.urls, b.err = urls, err
}

func (b *addressBook) find(context.Context) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.urls, b.err
}

func newHTTPPeers(t testing.TB, o autoscale.HTTPPeersOptions) *autoscale.HTTPPeers {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second // of a machine that does other things
	}
	p, err := autoscale.NewHTTPPeers(o)
	require.NoError(t, err)
	return p
}

func TestHTTPPeers(t *testing.T) {
	clock, book := newPeerClock(), &addressBook{}
	a, b := servePeer(t, clock, 20), servePeer(t, clock, 300)
	peers := newHTTPPeers(t, autoscale.HTTPPeersOptions{Addresses: book.find, Now: clock.Now})
	g := newPeerGateway(t, clock, peers, autoscale.CollectorOptions{}).holds(1)
	self := httptest.NewServer(g.Handler())
	defer self.Close()

	book.set(nil)
	g.sees(t, 1)
	book.set(nil, a.url, b.url, self.URL)
	g.sees(t, 321)
	s, err := g.Signals(t.Context(), peerPool, "")
	require.NoError(t, err)
	require.Equal(t, []int{3, 2}, []int{s.Gateways, s.Ready}, "each has the same servers")
	require.EqualValues(t, .5, s.KVUsed)
	require.EqualValues(t, 3210, s.PrefillTokens)

	// The same gateway by several addresses is one.
	book.set(nil, a.url, b.url, self.URL, b.url, a.url+"/", strings.Replace(self.URL, "127.0.0.1", "localhost", 1))
	g.sees(t, 321)
	book.set(nil, a.url, b.url, self.URL)

	// One that does not answer any more is as it was, for ten seconds. Then it is not known, which is said.
	b.server.Close()
	g.sees(t, 321)
	clock.pass(9 * time.Second)
	g.sees(t, 321)
	clock.pass(1500 * time.Millisecond)
	g.lacks(t, 1)
	require.Len(t, peers.Peers(), 3)
	for _, p := range peers.Peers() {
		require.Equal(t, p.Peer == b.url, p.Err != nil, p)
	}
	clock.pass(time.Hour)
	g.lacks(t, 1)

	// That this gateway does not reach itself does not matter.
	book.set(nil, a.url, self.URL)
	g.sees(t, 21)
	self.Close()
	clock.pass(time.Hour)
	g.sees(t, 21)

	// When it is no peer any more all is known.
	book.set(nil, a.url, self.URL)
	g.sees(t, 21)
	require.Len(t, peers.Peers(), 2)

	// One that is taken out of the list counts less and less, since what it had is yet to come to others.
	book.set(nil, self.URL)
	g.sees(t, 21)
	clock.pass(5 * time.Second)
	g.sees(t, 11)
	clock.pass(4 * time.Second)
	g.sees(t, 3)
	clock.pass(time.Second)
	g.sees(t, 1)

	// Who cannot be found out is asked where it was, but not for ever.
	book.set(nil, a.url)
	g.sees(t, 21)
	clock.pass(time.Second)
	book.set(errors.New("no name server"))
	g.sees(t, 21)
	clock.pass(11 * time.Second)
	g.lacks(t, 1)
	book.set(nil, a.url)
	g.sees(t, 21)
}

// One that restarts is another gateway at the same address.
func TestHTTPPeerRestarts(t *testing.T) {
	clock, book := newPeerClock(), &addressBook{}
	a := servePeer(t, clock, 20)
	g := newPeerGateway(t, clock, newHTTPPeers(t, autoscale.HTTPPeersOptions{Addresses: book.find, Now: clock.Now}), autoscale.CollectorOptions{})
	book.set(nil, a.url)
	g.sees(t, 20)
	next := newPeerGateway(t, clock, nil, autoscale.CollectorOptions{}).holds(3)
	a.answers(next.Handler().ServeHTTP)
	g.sees(t, 3)
}

// An address that leads to a gateway that answers at another one is not missed.
func TestHTTPPeerOfTwoAddresses(t *testing.T) {
	clock, book := newPeerClock(), &addressBook{}
	a := servePeer(t, clock, 20)
	second := httptest.NewServer(a.Handler())
	g := newPeerGateway(t, clock, newHTTPPeers(t, autoscale.HTTPPeersOptions{Addresses: book.find, Now: clock.Now}), autoscale.CollectorOptions{})
	book.set(nil, a.url, second.URL)
	g.sees(t, 20)
	second.Close()
	clock.pass(time.Minute)
	g.sees(t, 20)
}

// own is what a gateway says, with some of it replaced.
func own(t testing.TB, p *peerGateway, replace ...string) string {
	t.Helper()
	data, err := json.Marshal(p.Own())
	require.NoError(t, err)
	text := string(data)
	for i := 0; i+1 < len(replace); i += 2 {
		require.Contains(t, text, replace[i])
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	return text
}

// badOwns are answers that are not to be believed, and what is said of them.
func badOwns(t testing.TB, p *peerGateway) map[string]string {
	twice := own(t, p)
	at := strings.Index(twice, `[{"pool"`) + 1
	end := strings.LastIndex(twice, `]`)
	return map[string]string{
		"":                                       "unexpected end",
		"null":                                   "version is 0",
		"[]":                                     "cannot unmarshal",
		"<html>":                                 "invalid character",
		`{"version":1,"signals":[]}`:             "gateway has 0 bytes",
		own(t, p) + "x":                          "after top-level value",
		own(t, p, `"version":1`, `"version":2`):  "version is 2, want 1",
		own(t, p, `"running":7`, `"running":-7`): "running is -7",
		own(t, p, `"running":7`, `"running":9223372036854775807`):            "want at most 1e+12",
		own(t, p, `"running":7`, `"running":9223372036854775808`):            "cannot unmarshal",
		own(t, p, `"running":7`, `"running":1.5`):                            "cannot unmarshal",
		own(t, p, `"running":7`, `"running":NaN`):                            "invalid character",
		own(t, p, `"kvUsed":0.5`, `"kvUsed":50`):                             "kvUsed is 50, want 0 to 1",
		own(t, p, `"kvUsed":0.5`, `"kvUsed":-0.5`):                           "kvUsed is -0.5",
		own(t, p, `"kvUsed":0.5`, `"kvUsed":1e999`):                          "cannot unmarshal",
		own(t, p, `"arrivals":0`, `"arrivals":1e300`):                        "arrivals is 1e+300",
		own(t, p, `"ready":2`, `"ready":2000000`):                            "ready is 2000000",
		own(t, p, `"ready":2`, `"ready":2,"variants":[{"ready":-1}]`):        "variants[0]",
		own(t, p, `"Name":"llama"`, `"Name":"`+strings.Repeat("x", 600)+`"`): "pool.name has 600 bytes",
		twice[:end] + "," + twice[at:end] + twice[end:]:                      "is there twice",
	}
}

// What cannot be is not believed: the peer is taken to be as it was.
func TestHTTPPeersThatLie(t *testing.T) {
	clock, book := newPeerClock(), &addressBook{}
	a := servePeer(t, clock, 7)
	peers := newHTTPPeers(t, autoscale.HTTPPeersOptions{Addresses: book.find, Now: clock.Now, MaxBytes: 8 << 10})
	g := newPeerGateway(t, clock, peers, autoscale.CollectorOptions{}).holds(1)
	book.set(nil, a.url)
	right := func() {
		t.Helper()
		a.answers(nil)
		g.sees(t, 8)
	}
	refused := func(says string) {
		t.Helper()
		g.sees(t, 8)
		require.ErrorContains(t, peers.Peers()[0].Err, says)
		clock.pass(11 * time.Second)
		g.lacks(t, 1)
	}
	for text, says := range badOwns(t, a.peerGateway) {
		right()
		a.says(text)
		refused(says)
	}
	for says, f := range map[string]http.HandlerFunc{
		"status 404": http.NotFound,
		"status 302": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"status 500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); w.Write(make([]byte, 1<<20)) },
		"status 204": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"is larger than 8192 bytes": func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"EOF": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		right()
		a.answers(f)
		refused(says)
	}
	right()

	// Of a version that knows more, that is left out; of one that knows less, that is unknown.
	a.says(own(t, a.peerGateway, `"version":1`, `"version":1,"more":{"x":[1]}`, `"running":7`, `"running":7,"walking":3`))
	g.sees(t, 8)
	a.says(own(t, a.peerGateway, `"arrivals":0,`, ``))
	g.sees(t, 8)
}

// A peer that does not answer in time keeps nobody waiting, and no goroutine is left.
func TestHTTPPeersThatAreSlow(t *testing.T) {
	before := runtime.NumGoroutine()
	func() {
		clock, book := newPeerClock(), &addressBook{}
		fast, slow, trickling := servePeer(t, clock, 20), servePeer(t, clock, 300), servePeer(t, clock, 4000)
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		peers := newHTTPPeers(t, autoscale.HTTPPeersOptions{Addresses: book.find, Now: clock.Now, Client: client})
		book.set(nil, fast.url, slow.url, trickling.url)
		answers, missing, err := peers.Ask(t.Context())
		require.NoError(t, err)
		require.Len(t, answers, 3)
		require.Zero(t, missing)

		hurried := newHTTPPeers(t, autoscale.HTTPPeersOptions{Addresses: book.find, Now: clock.Now, Client: client, Timeout: 100 * time.Millisecond})
		slow.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		trickling.answers(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte(" "))
				w.(http.Flusher).Flush()
				time.Sleep(time.Millisecond)
			}
		})
		began := time.Now()
		_, missing, err = hurried.Ask(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, missing, 2, "the fast one may be slow, too")
		require.Less(t, time.Since(began), 5*time.Second)

		// Who asks may have less time than that.
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		answers, missing, err = peers.Ask(ctx)
		require.NoError(t, err)
		require.Len(t, answers, 3, "as they were")
		require.Zero(t, missing)
		for _, p := range []*servedPeer{fast, slow, trickling} {
			p.server.CloseClientConnections()
			p.server.Close()
		}
	}()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 10*time.Second, 5*time.Millisecond, "goroutines are left")
}

// Tokens are asked for, and change.
func TestRequireToken(t *testing.T) {
	clock := newPeerClock()
	a := newPeerGateway(t, clock, nil, autoscale.CollectorOptions{}).holds(5)
	valid, mine := atomic.Pointer[[]string]{}, atomic.Pointer[string]{}
	valid.Store(&[]string{"", "old", "new"})
	set := func(token string) { mine.Store(&token) }
	set("new")
	server := httptest.NewServer(autoscale.RequireToken(func() []string { return *valid.Load() }, a.Handler()))
	defer server.Close()
	peers := newHTTPPeers(t, autoscale.HTTPPeersOptions{
		Addresses: autoscale.PeerList(server.URL), Now: clock.Now, Keep: time.Millisecond,
		Token: func() string { return *mine.Load() }, Header: http.Header{"x-tenant": {"t"}},
	})
	ask := func() int {
		clock.pass(time.Second)
		answers, missing, err := peers.Ask(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, len(answers)+missing)
		return len(answers)
	}
	require.Equal(t, 1, ask())
	for _, wrong := range []string{"", "ne", "new1", "other"} {
		set(wrong)
		require.Zero(t, ask(), "token %q", wrong)
		require.ErrorContains(t, peers.Peers()[0].Err, "status 401")
	}
	set("old")
	require.Equal(t, 1, ask())
	valid.Store(&[]string{"newest"})
	require.Zero(t, ask())
	valid.Store(new([]string))
	require.Zero(t, ask())

	for header, status := range map[string]int{"": 401, "newest": 401, "Basic newest": 401, "bearer newest": 200, "Bearer  newest ": 200} {
		valid.Store(&[]string{"newest"})
		r := httptest.NewRequest("GET", "/autoscale/own", nil)
		r.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		autoscale.RequireToken(func() []string { return *valid.Load() }, a.Handler()).ServeHTTP(w, r)
		require.Equal(t, status, w.Code, "%q", header)
		require.Equal(t, status == 401, w.Header().Get("WWW-Authenticate") != "")
	}
}

// Names lead to all their addresses.
func TestPeerService(t *testing.T) {
	urls, err := autoscale.PeerService(nil, "http", "localhost", 9090)(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, urls)
	for _, u := range urls {
		require.True(t, u == "http://127.0.0.1:9090" || u == "http://[::1]:9090", u)
	}
	broken := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }}
	_, err = autoscale.PeerService(broken, "http", "gateways.example", 9090)(t.Context())
	require.ErrorContains(t, err, "no network")
}

func TestHTTPPeersOptions(t *testing.T) {
	_, err := autoscale.NewHTTPPeers(autoscale.HTTPPeersOptions{Keep: time.Hour, Timeout: -1, MaxPeers: -1, MaxBytes: 1})
	for _, says := range []string{"Addresses is required", "Keep is 1h0m0s", "Timeout is -1ns", "MaxPeers is -1", "MaxBytes is 1,"} {
		require.ErrorContains(t, err, says)
	}
	peers := newHTTPPeers(t, autoscale.HTTPPeersOptions{Addresses: autoscale.PeerList("ftp://x", "http://", "10.0.0.1:9090", "http://\x7f"), MaxPeers: 4})
	answers, missing, err := peers.Ask(t.Context())
	require.NoError(t, err)
	require.Empty(t, answers)
	require.Equal(t, 4, missing)
	for _, p := range peers.Peers() {
		require.ErrorContains(t, p.Err, "is not like http://10.0.0.7:9090")
	}
	peers = newHTTPPeers(t, autoscale.HTTPPeersOptions{Addresses: autoscale.PeerList("http://a", "http://b"), MaxPeers: 1})
	_, _, err = peers.Ask(t.Context())
	require.ErrorContains(t, err, "2 addresses of peers are more than 1")
}

// FuzzParseOwn: whatever a gateway says can be added up with what is true, and gives nothing that cannot be.
func FuzzParseOwn(f *testing.F) {
	clock := newPeerClock()
	g := newPeerGateway(f, clock, nil, autoscale.CollectorOptions{}).holds(7)
	f.Add([]byte(own(f, g)))
	for text := range badOwns(f, g) {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"version":1,"gateway":"b","signals":[{"speed":{"token":1e300},"ready":3,"idle":-5,"variants":[{"name":"x","speed":{"token":1,"step":1}}]}]}`))
	f.Add([]byte(`{"version":1,"gateway":"b","signals":[{"ready":900000,"starting":900000,"arrivalWork":1e15,"saturation":1e14}]}`))
	mine := g.Own().Signals[0]
	f.Fuzz(func(t *testing.T, data []byte) {
		said, err := autoscale.ParseOwn(data)
		if err != nil {
			require.ErrorContains(t, err, "autoscale: what a gateway says: ")
			return
		}
		for _, s := range said.Signals {
			all := autoscale.Merge([]autoscale.Signals{mine, s, s}, 0)
			require.GreaterOrEqual(t, all.Running, mine.Running)
			require.GreaterOrEqual(t, all.PrefillTokens, mine.PrefillTokens)
			require.GreaterOrEqual(t, all.ContextTokens, mine.ContextTokens)
			require.True(t, all.Queued >= 0 && all.QueuedTokens >= 0 && all.Ready >= mine.Ready)
			require.True(t, all.KVUsed >= mine.KVUsed && all.KVUsed <= 1.01)
			require.True(t, all.Arrivals >= 0 && all.Backlog >= 0)
			var h autoscale.History
			for i := range 3 {
				all.At = mine.At.Add(time.Duration(i) * time.Second)
				r := autoscale.Desired(all, autoscale.Policy{Min: 1, Max: 10}, &h)
				if len(r.Variants) == 0 {
					require.True(t, r.Replicas >= 1 && r.Replicas <= 10, "%+v", r)
				}
			}
		}
		again, err := json.Marshal(said)
		require.NoError(t, err)
		_, err = autoscale.ParseOwn(again)
		require.NoError(t, err, "%s", again)
	})
}
