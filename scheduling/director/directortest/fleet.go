package directortest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fleet is some servers, the gateway in front of them, and what was found wrong.
type fleet struct {
	r       *runner
	engine  Engine
	servers []*Server
	client  *Client
	asked   atomic.Int64

	mu sync.Mutex
	// guarded by mu
	order []string // kinds of faults, as they were found
	count map[string]int
	first map[string]string
}

// standard is the engine of most fleets: quick, but not so quick that requests that come at once are
// not there at once.
var standard = Engine{Prefill: 15 * time.Millisecond, Metrics: VLLM}

// fleet starts the servers and a gateway, which end with t. What was found wrong is reported then.
func (r *runner) fleet(t *testing.T, e Engine, behaviours ...Behaviour) *fleet {
	t.Helper()
	f := &fleet{r: r, engine: e, count: map[string]int{}, first: map[string]string{}}
	t.Cleanup(func() { f.tell(t) })
	var endpoints []string
	for _, b := range behaviours {
		s := Start(b)
		t.Cleanup(s.Close)
		f.servers = append(f.servers, s)
		endpoints = append(endpoints, s.Addr())
	}
	handler := r.gateway(t, endpoints)
	front := httptest.NewUnstartedServer(f.guarded(handler))
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // what it would say is among what is reported
	front.Start()
	f.client = NewClient(front.Listener.Addr().String())
	t.Cleanup(func() {
		f.client.Close()
		front.CloseClientConnections()
		front.Close()
	})
	time.Sleep(r.o.Settle)
	return f
}

// guarded hears of panics.
func (f *fleet) guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler {
					f.wrong("the gateway panicked", "%s %s: %v", req.Method, req.RequestURI, p)
				}
				panic(p)
			}
		}()
		h.ServeHTTP(w, req)
	})
}

// wrong notes a fault of a kind.
func (f *fleet) wrong(kind, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count[kind]++; f.count[kind] == 1 {
		f.order = append(f.order, kind)
		f.first[kind] = fmt.Sprintf(format, args...)
	}
}

func (f *fleet) tell(t *testing.T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, kind := range f.order {
		f.r.report(t, fmt.Sprintf("%dx %s; first: %s", f.count[kind], kind, f.first[kind]))
	}
}

// three are three servers, the first of them odd and the others healthy.
func three(e Engine, odd Behaviour) []Behaviour {
	return []Behaviour{odd, e.Behaviour(), e.Behaviour()}
}

// same are n servers that behave alike, each with places of its own.
func same(n int, one func() Behaviour) (all []Behaviour) {
	for range n {
		all = append(all, one())
	}
	return all
}

// unlike makes a request that is like no other.
func (f *fleet) unlike(a Ask) Ask {
	n := strconv.FormatInt(f.asked.Add(1), 10)
	a.User = "kit-" + n
	a.Prompt = n + " is the number of this prompt"
	return a
}

// ask sends one request as a client that stays.
func (f *fleet) ask(a Ask) (Ask, Result) { return f.askFor(a, f.r.o.Patience) }

func (f *fleet) askFor(a Ask, patience time.Duration) (Ask, Result) {
	a = f.unlike(a)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return a, f.client.Do(ctx, a)
}

// all sends n requests, so many at a time, and checks each.
func (f *fleet) all(n, atATime int, make func(i int) Ask, check func(Ask, Result)) {
	var next atomic.Int64
	var clients sync.WaitGroup
	for range min(n, atATime) {
		clients.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				a, res := f.ask(make(i))
				check(a, res)
			}
		})
	}
	clients.Wait()
}

// answered checks that there was a status.
func (f *fleet) answered(a Ask, res Result) bool {
	if res.Status == 0 {
		f.wrong(noStatus, "%s %s: %v", a.method(), a.path(), res)
		return false
	}
	return true
}

// Kinds of faults, in the words in which they are reported.
const (
	noStatus  = "a client that stayed had no status before its first byte"
	notGood   = "a good answer did not come as the server sent it"
	lost      = "a request was lost although a healthy server was there"
	notSeen   = "an answer that was cut off looks whole"
	altered   = "an answer that was cut off came with other bytes"
	uneven    = "a server had more than its share of a burst"
	starved   = "a server that had done nothing wrong was hardly used"
	manyOut   = "one request put out several servers"
	unused    = "a server that was well again was not used"
	reached   = "a request reached a server that must not"
	untrue    = "a request did not come to the server as the client sent it"
	unlearned = "servers that hang go on being used"
)

// good checks that the answer is what a healthy server sends, or one of others.
func (f *fleet) good(kind string, a Ask, res Result, others ...Answer) {
	if !f.answered(a, res) {
		return
	}
	want := f.engine.Answer(a.path(), a.Body()).to(&Request{Method: a.method()})
	if is(res, want) {
		return
	}
	for _, o := range others {
		if is(res, o) {
			return
		}
	}
	if res.Status >= 500 && f.r.o.NoRetries && kind == lost {
		return
	}
	f.wrong(kind, "%s %s: %v, want status %d, %d bytes", a.method(), a.path(), res, want.Code(), len(want.Body()))
}

func is(res Result, a Answer) bool {
	return res.Err == nil && res.Status == a.Code() && bytes.Equal(res.Body, a.Body())
}

// cut checks an answer that may break off: what came is as the server sent it, and if it is not all, the client
// can see it.
func (f *fleet) cut(a Ask, res Result, want Answer) {
	if !f.answered(a, res) {
		return
	}
	if is(res, want) || res.Status >= 500 {
		return
	}
	whole := want.Body()
	switch n := len(res.Body); {
	case res.Status != want.Code():
		f.wrong(altered, "%v, want status %d", res, want.Code())
	case !bytes.HasPrefix(whole, res.Body):
		tail := res.Body[common(whole, res.Body):]
		if !bytes.Contains(tail, []byte(`"error"`)) && res.Err == nil {
			f.wrong(altered, "%v", res)
		}
	case n < len(whole) && res.Err == nil:
		f.wrong(notSeen, "%d bytes of %d, and no error", n, len(whole))
	}
}

func common(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// burst sends n requests at once and returns how many came to each server.
func (f *fleet) burst(n int, make func(i int) Ask, check func(Ask, Result)) []int {
	before := f.requests()
	f.all(n, n, make, check)
	counts := f.requests()
	for i := range counts {
		counts[i] -= before[i]
	}
	return counts
}

func (f *fleet) requests() []int {
	counts := make([]int, len(f.servers))
	for i, s := range f.servers {
		counts[i] = s.Requests()
	}
	return counts
}

// mixed are requests that are streamed and not in turn.
func mixed(i int) Ask { return Ask{Stream: i%2 == 1} }

// perServer is how many requests of a burst there are for each server.
const perServer = 10

// even checks that a burst is spread evenly over the servers from the first on, and what its clients get.
func (f *fleet) even(when string, from int, ask func(i int) Ask, check func(Ask, Result)) {
	n := perServer * (len(f.servers) - from)
	counts := f.burst(n, ask, check)
	if uneven, starved := f.unevenly(counts, from); uneven+starved != "" { // by chance, once
		for i, more := range f.burst(n, ask, check) {
			counts[i] += more
		}
	}
	f.spread(when, counts, from)
}

// spread checks that requests were spread evenly.
func (f *fleet) spread(when string, counts []int, from int) {
	tooMany, tooFew := f.unevenly(counts, from)
	if tooMany != "" {
		f.wrong(uneven, "%s: %s", when, tooMany)
	}
	if tooFew != "" {
		f.wrong(starved, "%s: %s", when, tooFew)
	}
}

// unevenly says which server from the first on had far more, and which far less, than its share.
func (f *fleet) unevenly(counts []int, from int) (uneven, starved string) {
	total := 0
	for _, n := range counts[from:] {
		total += n
	}
	share := float64(total) / float64(len(counts)-from)
	most, least := int(math.Ceil(share*f.r.o.Skew)), int(share*0.2)
	for i, n := range counts[from:] {
		if n > most {
			uneven = fmt.Sprintf("server %d has %d of %v, want at most %d", from+i, n, counts, most)
		}
		if n < least {
			starved = fmt.Sprintf("server %d has %d of %v, want at least %d", from+i, n, counts, least)
		}
	}
	return uneven, starved
}

// healthyOnly checks an answer as the healthy servers send it.
func (f *fleet) healthyOnly(a Ask, res Result) { f.good(lost, a, res) }

// set changes what a server does.
func (f *fleet) set(i int, b Behaviour) {
	if err := f.servers[i].Set(b); err != nil {
		f.wrong("the kit could not go on", "%v", err)
	}
}
