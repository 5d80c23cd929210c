package directortest

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ChaosOptions configure Chaos. The zero value works.
type ChaosOptions struct {
	// Requests is the total number of requests. Default 3000. Half a million takes a minute or two.
	Requests int
	// Clients is the number of concurrent requests. Default 16.
	Clients int
	// Seed makes the clients' actions and the order of failures repeatable. Default 1.
	Seed uint64
	// Servers is the number of servers, Faulty the number that fail at a time. Defaults 8 and 2, so
	// that a gateway that tries three servers finds a healthy one.
	Servers, Faulty int
	// Steady is the number of servers that never fail. Default 3.
	Steady int
	// Turn is how long a server fails before the next one does. Default 8ms.
	Turn time.Duration
	// Cases are the ways in which servers fail. Default: those of Cases that are quick and show for
	// plain chat completions, except Good and ClientFault.
	Cases []Case
	// Patience is how long clients wait for a response. Default 10s.
	Patience time.Duration
	// HeapGrowth is how much the heap may grow in the second half, in bytes. Default 16 MiB.
	HeapGrowth int64
	// NoRetries declares that the gateway does not retry on another server.
	NoRetries bool
	// Settle is the time between the start of the gateway and the first request.
	Settle time.Duration
}

func (o *ChaosOptions) defaults() {
	setDefault(&o.Requests, 3000)
	setDefault(&o.Clients, 16)
	setDefault(&o.Servers, 8)
	setDefault(&o.Faulty, 2)
	setDefault(&o.Steady, 3)
	o.Steady = min(o.Steady, o.Servers-1)
	o.Faulty = min(o.Faulty, o.Servers-o.Steady)
	setDefault(&o.Seed, 1)
	setDefault(&o.Turn, 8*time.Millisecond)
	setDefault(&o.Patience, 10*time.Second)
	setDefault(&o.HeapGrowth, 16<<20)
	if o.Cases == nil {
		for _, c := range Cases() {
			if c.Ask.Path == "" && c.Ask.Header == nil && c.Harm != Good && c.Harm != ClientFault && !c.Slow {
				o.Cases = append(o.Cases, c)
			}
		}
	}
}

// Chaos sends many requests through a gateway to servers of which some fail in turn, each time in
// another way. Most clients stay; some leave, read slowly or send invalid requests. It fails if a
// client that stayed got no status, if a request was lost, if a response was altered, or if
// goroutines or memory leak. It logs a report. A request is not lost by the gateway if it took so
// long that more servers than Faulty failed meanwhile.
func Chaos(t *testing.T, gateway New, o ChaosOptions) {
	o.defaults()
	newRunner(t, Options{Patience: o.Patience, NoRetries: o.NoRetries, Settle: o.Settle}, gateway).chaos(t, o)
}

func (r *runner) chaos(t *testing.T, o ChaosOptions) {
	r.defaults()
	before := runtime.NumGoroutine()
	t.Run("requests", func(t *testing.T) {
		e := Engine{Tokens: 3, Metrics: VLLM}
		c := &chaos{
			o: o, fleet: r.fleet(t, e, same(o.Servers, e.Behaviour)...), failing: make([]atomic.Pointer[Case], o.Servers),
			counts: map[string]int{}, latencies: make([]time.Duration, o.Requests),
		}
		stop := make(chan struct{})
		var turns sync.WaitGroup
		turns.Go(func() { c.turn(stop) })
		began := time.Now()
		c.send(0, o.Requests/2)
		half := heap()
		c.send(o.Requests/2, o.Requests)
		took := time.Since(began)
		close(stop)
		turns.Wait()
		grown := heap() - half
		if grown > o.HeapGrowth {
			c.fleet.wrong("the heap grows", "%d bytes in the second half, want at most %d", grown, o.HeapGrowth)
		}
		t.Log(c.String(took, grown))
	})
	r.leftGoroutines(t, before)
}

// chaos is one run.
type chaos struct {
	o         ChaosOptions
	fleet     *fleet
	failing   []atomic.Pointer[Case] // by server; nil: it does not fail
	turns     atomic.Int64
	latencies []time.Duration // by request, 0 if it was not answered well

	mu     sync.Mutex
	counts map[string]int // requests by result, guarded by mu
	spells []spell        // in which servers failed, guarded by mu
}

// spell is a time in which a server failed.
type spell struct {
	server   int
	from, to time.Time // to is zero: it still fails
}

// fails notes that a server begins or ceases to fail.
func (c *chaos) fails(server int, kind *Case) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing[server].Store(kind)
	if kind != nil {
		c.spells = append(c.spells, spell{server: server, from: time.Now()})
		return
	}
	for i := len(c.spells) - 1; i >= 0; i-- {
		if c.spells[i].server == server {
			c.spells[i].to = time.Now()
			return
		}
	}
}

// failedSince returns how many servers have failed at some time since a moment.
func (c *chaos) failedSince(since time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	failed := make(map[int]bool)
	for _, s := range c.spells {
		if s.to.IsZero() || s.to.After(since) {
			failed[s.server] = true
		}
	}
	return len(failed)
}

// turn makes servers fail, one after the other.
func (c *chaos) turn(stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(c.o.Seed, 1))
	order := slices.Clone(c.o.Cases)
	var failing []int
	heal := func() {
		c.fleet.set(failing[0], c.fleet.engine.Behaviour())
		c.fails(failing[0], nil)
		failing = failing[1:]
	}
	defer func() {
		for len(failing) > 0 {
			heal()
		}
	}()
	for i := 0; ; i++ {
		if i%len(order) == 0 {
			rnd.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
		}
		next := c.o.Steady + rnd.IntN(c.o.Servers-c.o.Steady)
		for slices.Contains(failing, next) {
			next = c.o.Steady + rnd.IntN(c.o.Servers-c.o.Steady)
		}
		kind := order[i%len(order)]
		c.fails(next, &kind)
		c.fleet.set(next, kind.Make(c.fleet.engine))
		failing = append(failing, next)
		c.turns.Add(1)
		select {
		case <-stop:
			return
		case <-time.After(c.o.Turn):
		}
		if len(failing) >= c.o.Faulty {
			heal()
			select { // requests that met two failing servers find a healthy one
			case <-stop:
				return
			case <-time.After(c.o.Turn / 3):
			}
		}
	}
}

// send sends requests from to to-1.
func (c *chaos) send(from, to int) {
	inParallel(to-from, c.o.Clients, func(i int) {
		i += from
		what, took := c.one(rand.New(rand.NewPCG(c.o.Seed, uint64(i)+2)))
		c.latencies[i] = took
		c.mu.Lock()
		defer c.mu.Unlock()
		c.counts[what]++
	})
}

// one sends one request, and returns its result and, if it was answered well, its latency.
func (c *chaos) one(rnd *rand.Rand) (string, time.Duration) {
	f := c.fleet
	a := Ask{Stream: rnd.IntN(3) == 0}
	switch n := rnd.IntN(100); {
	case n < 6:
		at := Leave(rnd.IntN(len(Leaves())))
		a = f.unlike(a)
		if err := LeaveAt(f.client.Addr(), a, at, f.r.o.Patience); err != nil && at == LeaveAfterHead {
			f.wrong(noStatus, "left %v: %v", at, err)
		}
		return "left " + at.String(), 0
	case n < 7:
		a, res := f.askFor(a, time.Duration(rnd.IntN(2000))*time.Microsecond)
		if res.Status != 0 {
			c.checked(a, res)
		}
		return "gave up or was quick enough", 0
	case n < 8:
		a = f.unlike(Ask{Stream: true})
		return "read slowly: " + c.checked(a, ReadSlowly(f.client.Addr(), a, 200, 200*time.Microsecond, f.r.o.Patience)), 0
	case n < 11:
		a.Extra = `"temperature":-1`
		a, res := f.ask(a)
		return "was wrong: " + c.checked(a, res), 0
	case n < 13:
		a.Model = "nobody"
		a, res := f.ask(a)
		return "wanted another model: " + c.checked(a, res), 0
	case n < 15:
		a.Path = []string{"/v1/completions", "/v1/responses", "/v1/messages", "/generate_stream"}[rnd.IntN(4)]
	}
	a, res := f.ask(a)
	what := c.checked(a, res)
	if what != wellAnswered {
		return what, 0
	}
	return what, res.Took
}

const wellAnswered = "answered"

// checked checks the response to a client that stayed, and describes it.
func (c *chaos) checked(a Ask, res Result) string {
	f := c.fleet
	if !f.answered(a, res) {
		return "no status"
	}
	want := f.engine.Answer(a.path(), a.Body())
	if is(res, want) {
		return wellAnswered
	}
	for i := range c.o.Cases {
		k := &c.o.Cases[i]
		if k.Harm == Says && is(res, k.answer(f.engine, a)) || k.Harm == Refuses && res.Status == k.answer(f.engine, a).Code() ||
			k.Harm == Before && f.r.o.NoRetries && res.Status >= 500 {
			return "passed on: " + k.Name
		}
	}
	if res.Status == want.Code() && (res.Err != nil || strings.Contains(string(res.Body), `"error"`)) {
		f.cut(a, res, want)
		return "broke off"
	}
	if res.Status >= 500 || res.Status == 429 {
		// One that took so long that more servers failed meanwhile than at any one time may
		// have met a failing one at every try: on a busy machine that is nobody's fault.
		if c.failedSince(time.Now().Add(-res.Took)) > c.o.Faulty {
			return fmt.Sprintf("met many failing servers: %d", res.Status)
		}
		f.wrong(lost, "%v; failing are %s", res, c.now())
		return fmt.Sprint("lost: ", res.Status)
	}
	if n := len(res.Body); res.Status == want.Code() && n < len(want.Body()) {
		f.cut(a, res, want)
		return "broke off unseen"
	}
	f.wrong(altered, "%v; failing are %s", res, c.now())
	return "altered"
}

// now describes which servers are failing, and how.
func (c *chaos) now() string {
	var s []string
	for i := range c.failing {
		if k := c.failing[i].Load(); k != nil {
			s = append(s, fmt.Sprintf("%d %s", i, k.Name))
		}
	}
	return strings.Join(s, ", ")
}

// String returns the report.
func (c *chaos) String(took time.Duration, grown int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %v, %.0f a second; %d times a server began to fail, in %d ways; heap %+d KiB in the second half\n",
		c.o.Requests, took.Round(time.Millisecond), float64(c.o.Requests)/took.Seconds(), c.turns.Load(), len(c.o.Cases), grown>>10)
	answered := slices.DeleteFunc(slices.Sorted(slices.Values(c.latencies)), func(d time.Duration) bool { return d == 0 })
	b.WriteString("latency of those that were answered:")
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
		if n := len(answered); n > 0 {
			fmt.Fprintf(&b, "  p%g %v", q*100, answered[int(math.Ceil(q*float64(n)))-1].Round(time.Microsecond))
		}
	}
	b.WriteByte('\n')
	for _, name := range slices.SortedFunc(maps.Keys(c.counts), func(x, y string) int { return c.counts[y] - c.counts[x] }) {
		fmt.Fprintf(&b, "%8d  %s\n", c.counts[name], name)
	}
	return b.String()
}
