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
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fleet is a set of servers, the gateway in front of them, and the faults that were found.
type fleet struct {
	r       *runner
	engine  Engine
	servers []*Server
	client  *Client
	asked   atomic.Int64

	mu sync.Mutex
	// guarded by mu
	order []string // kinds of faults, in the order of their discovery
	count map[string]int
	first map[string]string
}

// standard is the engine of most fleets: fast, but slow enough that simultaneous requests overlap.
var standard = Engine{Prefill: 15 * time.Millisecond, Metrics: VLLM}

// fleet starts servers and a gateway, which end with t. Faults are reported then.
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
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // faults are reported anyway
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

// guarded reports panics of h.
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

// wrong records a fault of a kind.
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

// three returns three servers, the first of them odd and the others healthy.
func three(e Engine, odd Behaviour) []Behaviour {
	return []Behaviour{odd, e.Behaviour(), e.Behaviour()}
}

// same returns n servers with the same behaviour, each with its own places.
func same(n int, one func() Behaviour) (all []Behaviour) {
	for range n {
		all = append(all, one())
	}
	return all
}

// unlike makes a request unique.
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

// all sends n requests, up to atATime in parallel, and checks each.
func (f *fleet) all(n, atATime int, make func(i int) Ask, check func(Ask, Result)) {
	inParallel(n, atATime, func(i int) {
		a, res := f.ask(make(i))
		check(a, res)
	})
}

// inParallel calls one with 0 to n-1, up to atATime in parallel.
func inParallel(n, atATime int, one func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, atATime) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				one(i)
			}
		})
	}
	workers.Wait()
}

// answered checks that there was a status.
func (f *fleet) answered(a Ask, res Result) bool {
	if res.Status == 0 {
		f.wrong(noStatus, "%s %s: %v", a.method(), a.path(), res)
		return false
	}
	return true
}

// Kinds of faults, as they are reported.
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

// good checks that the answer is that of a healthy server, or one of others.
func (f *fleet) good(kind string, a Ask, res Result, others ...Answer) {
	if !f.answered(a, res) {
		return
	}
	want := f.engine.Answer(a.path(), a.Body()).to(&Request{Method: a.method()})
	if is(res, want) || slices.ContainsFunc(others, func(o Answer) bool { return is(res, o) }) ||
		res.Status >= 500 && f.r.o.NoRetries && kind == lost {
		return
	}
	f.wrong(kind, "%s %s: %v, want status %d, %d bytes", a.method(), a.path(), res, want.Code(), len(want.Body()))
}

func is(res Result, a Answer) bool {
	return res.Err == nil && res.Status == a.Code() && bytes.Equal(res.Body, a.Body())
}

// cut checks an answer that may break off: it must be unaltered, and the client must be able to see
// whether it is complete.
func (f *fleet) cut(a Ask, res Result, want Answer) {
	if !f.answered(a, res) || is(res, want) || res.Status >= 500 {
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

// burst sends n requests at once and returns how many each server got.
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

// mixed makes every other request a stream.
func mixed(i int) Ask { return Ask{Stream: i%2 == 1} }

// perServer is the size of a burst, per server.
const perServer = 10

// even checks that a burst is spread evenly over the servers from from on, and its answers.
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

// unevenly describes which server from from on had far more, and which far less, than its share.
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

// healthyOnly checks that an answer is that of a healthy server.
func (f *fleet) healthyOnly(a Ask, res Result) { f.good(lost, a, res) }

// set changes the behaviour of a server.
func (f *fleet) set(i int, b Behaviour) {
	if err := f.servers[i].Set(b); err != nil {
		f.wrong("the kit could not go on", "%v", err)
	}
}
