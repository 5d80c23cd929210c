package httptransport_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// rawServer serves connections byte by byte.
type rawServer struct {
	net.Listener
	accepted, requests atomic.Int64
}

// serveRaw starts a server that calls serve for each request that it has read. serve
// reports whether the connection stays open for another one.
func serveRaw(t testing.TB, serve func(net.Conn, *http.Request) bool) *rawServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &rawServer{Listener: ln}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					s.requests.Add(1)
					if !serve(c, req) {
						return
					}
				}
			}()
		}
	}()
	return s
}

// says returns what sends bytes and closes the connection.
func says(bytes string) func(net.Conn, *http.Request) bool {
	return func(c net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(c, bytes)
		return false
	}
}

// outcome is how an attempt, or a request, ended.
type outcome struct {
	id string
	types.Outcome
}

// rawFixture is a Transport in front of servers, the first of which is the first choice.
type rawFixture struct {
	*httptransport.Transport
	store *datastore.Store
	left  chan outcome // attempts that were left
	ended chan outcome
}

func newRaw(t testing.TB, change func(*director.Options), addresses ...string) *rawFixture {
	t.Helper()
	f := &rawFixture{store: datastore.New(datastore.Options{}), left: make(chan outcome, 1000), ended: make(chan outcome, 1000)}
	for i, address := range addresses {
		require.NoError(t, f.store.UpsertEndpoint(pool, datastore.EndpointSpec{ID: string(rune('0' + i)), Address: address}))
	}
	s, err := scheduling.New(scheduling.Profile{
		Scorers: []scheduling.Weighted{{Weight: 1, Scorer: scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
			return 1 - float64(ep.ID[0]-'0')/10
		})}},
		Picker: plugins.MaxScore{}, Fallbacks: 3,
		Trackers: []scheduling.Tracker{impatient{}},
		Hooks: scheduling.Hooks{
			Retried:  func(e scheduling.Event) { f.left <- outcome{e.From.ID, e.Outcome} },
			Finished: func(e scheduling.Event) { f.ended <- outcome{e.Endpoint.ID, e.Outcome} },
		},
	})
	require.NoError(t, err)
	o := director.Options{Store: f.store, Scheduler: s}
	if change != nil {
		change(&o)
	}
	d, err := director.New(o)
	require.NoError(t, err)
	t.Cleanup(d.Close)
	f.Transport = httptransport.New(d)
	t.Cleanup(f.CloseIdleConnections)
	t.Cleanup(func() {
		for _, ep := range f.store.Snapshot().Pool(pool).Endpoints() {
			if n := ep.Load.Requests(); n != 0 {
				t.Errorf("%d requests are booked at %s in the end", n, ep.ID)
			}
		}
	})
	return f
}

// reply is what a client has of an answer.
type reply struct {
	*http.Response
	body string
	err  error // of the body
}

func (f *rawFixture) ask(t testing.TB, method, path, body string) reply {
	t.Helper()
	req, err := http.NewRequest(method, "http://any"+path, strings.NewReader(body))
	require.NoError(t, err)
	return f.send(t, req)
}

func (f *rawFixture) send(t testing.TB, req *http.Request) reply {
	t.Helper()
	resp, err := f.RoundTrip(req)
	require.NoError(t, err, "RoundTrip")
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp, string(b), err}
}

func (f *rawFixture) chat(t testing.TB) reply {
	t.Helper()
	return f.ask(t, "POST", "/v1/chat/completions", request)
}

func next(t testing.TB, c chan outcome) outcome {
	t.Helper()
	select {
	case o := <-c:
		return o
	case <-time.After(patience):
		t.Fatal("nothing has ended")
		return outcome{}
	}
}

// impatient has little patience with endpoint 0 for requests of the model "hasty", and a second
// for "steady".
type impatient struct{}

func (impatient) Picked(*types.Request, *types.Endpoint)                  {}
func (impatient) FirstToken(*types.Request, *types.Endpoint)              {}
func (impatient) Finished(*types.Request, *types.Endpoint, types.Outcome) {}
func (impatient) Patience(req *types.Request, ep *types.Endpoint) time.Duration {
	switch {
	case ep.ID != "0":
	case req.Model == "hasty":
		return 50 * time.Millisecond
	case req.Model == "steady":
		return time.Second
	}
	return 0
}

// dead returns an address at which nobody listens.
func dead(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}
