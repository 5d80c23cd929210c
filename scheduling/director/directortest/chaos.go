package directortest

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ChaosOptions say how much chaos there is. The zero value is good.
type ChaosOptions struct {
	// Requests is how many there are. Default 3000. Half a million takes a minute or two.
	Requests int
	// Clients is how many of them are sent at a time. Default 16.
	Clients int
	// Seed makes what clients do, and in which order servers fail, repeatable. Default 1.
	Seed uint64
	// Servers is how many there are, and Faulty how many of them fail at a time. Default 8, and 2:
	// a gateway that tries three servers finds one that does not fail.
	Servers, Faulty int
	// Steady is how many of the servers never fail. Default 3.
	Steady int
	// Turn is how long a server fails before another one does. Default 8 ms.
	Turn time.Duration
	// Cases are how servers fail. Default: all of Cases that are quick, and say more than that the request
	// was wrong.
	Cases []Case
	// Patience is how long clients that stay wait. Default 10 s.
	Patience time.Duration
	// HeapGrowth is how much the heap may grow in the second half, in bytes. Default 16 MiB.
	HeapGrowth int64
	// NoRetries says that the gateway does not go on to another server.
	NoRetries bool
	// Settle is how long the gateway is left to itself before the first request.
	Settle time.Duration
}

func (o *ChaosOptions) defaults() {
	number := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	number(&o.Requests, 3000)
	number(&o.Clients, 16)
	number(&o.Servers, 8)
	number(&o.Faulty, 2)
	number(&o.Steady, 3)
	o.Steady = min(o.Steady, o.Servers-1)
	o.Faulty = min(o.Faulty, o.Servers-o.Steady)
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Turn <= 0 {
		o.Turn = 8 * time.Millisecond
	}
	if o.Patience <= 0 {
		o.Patience = 10 * time.Second
	}
	if o.HeapGrowth <= 0 {
		o.HeapGrowth = 16 << 20
	}
	if o.Cases == nil {
		for _, c := range Cases() {
			if c.Ask.Path == "" && c.Ask.Header == nil && c.Harm != Good && c.Harm != ClientFault && !c.Slow {
				o.Cases = append(o.Cases, c)
			}
		}
	}
}

// Chaos sends many requests through a gateway to servers that fail in turn, each time in another way, while
// some never do. Most clients stay, some leave, some are slow, some are wrong. It fails if a client that stayed had
// no status before its first byte, if a request was lost, if an answer came with other bytes than a server sent, or if
// goroutines or memory are left. A report is logged.
func Chaos(t *testing.T, gateway New, o ChaosOptions) {
	o.defaults()
	r := &runner{o: Options{Patience: o.Patience, NoRetries: o.NoRetries, Settle: o.Settle}, gateway: gateway, root: t.Name(), report: func(t *testing.T, message string) {
		t.Helper()
		t.Error(message)
	}}
	r.chaos(t, o)
}

func (r *runner) chaos(t *testing.T, o ChaosOptions) {
	r.defaults()
	before := runtime.NumGoroutine()
	t.Run("requests", func(t *testing.T) {
		c := &chaos{o: o, fleet: r.fleet(t, Engine{Tokens: 3, Metrics: VLLM}, same(o.Servers, Engine{Tokens: 3, Metrics: VLLM}.Behaviour)...), counts: map[string]int{}}
		c.failing = make([]atomic.Pointer[Case], o.Servers)
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
	if left := settled(before, r.o.Patience); left > before {
		buf := make([]byte, 1<<16)
		r.report(t, fmt.Sprintf("%d goroutines are left of %d:\n%s", left, before, buf[:runtime.Stack(buf, true)]))
	}
}

// chaos is one run.
type chaos struct {
	o       ChaosOptions
	fleet   *fleet
	failing []atomic.Pointer[Case] // by server; nil: it does not fail
	turns   atomic.Int64

	mu sync.Mutex
	// guarded by mu
	counts    map[string]int // by what became of a request
	latencies [64 * 8]int    // of requests that were answered well, by bucket
}

// turn lets servers fail, one after the other.
func (c *chaos) turn(stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(c.o.Seed, 1))
	order := slices.Clone(c.o.Cases)
	var failing []int
	heal := func() {
		c.fleet.set(failing[0], c.fleet.engine.Behaviour())
		c.failing[failing[0]].Store(nil)
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
		c.failing[next].Store(&kind)
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
			select { // those that met two that fail find the next one well
			case <-stop:
				return
			case <-time.After(c.o.Turn / 3):
			}
		}
	}
}

// send sends the requests from one number to another.
func (c *chaos) send(from, to int) {
	var next atomic.Int64
	next.Store(int64(from))
	var clients sync.WaitGroup
	for range c.o.Clients {
		clients.Go(func() {
			mine := map[string]int{}
			var latencies [len(c.latencies)]int
			for i := int(next.Add(1)) - 1; i < to; i = int(next.Add(1)) - 1 {
				what, took := c.one(rand.New(rand.NewPCG(c.o.Seed, uint64(i)+2)))
				mine[what]++
				if took > 0 {
					latencies[bucket(took)]++
				}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			for what, n := range mine {
				c.counts[what] += n
			}
			for b, n := range latencies {
				c.latencies[b] += n
			}
		})
	}
	clients.Wait()
}

// one sends one request and says what became of it, and how long it took if it was answered well.
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

// checked checks what a client that stayed has had, and says in a few words what it was.
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
		switch k.Harm {
		case Says:
			if is(res, k.answer(f.engine, a)) {
				return "passed on: " + k.Name
			}
		case Refuses:
			if res.Status == k.answer(f.engine, a).Code() {
				return "passed on: " + k.Name
			}
		case Before:
			if f.r.o.NoRetries && res.Status >= 500 {
				return "passed on: " + k.Name
			}
		}
	}
	if res.Status == want.Code() && (res.Err != nil || strings.Contains(string(res.Body), `"error"`)) {
		f.cut(a, res, want)
		return "broke off"
	}
	if res.Status >= 500 {
		f.wrong(lost, "%v; failing are %s", res, c.now())
		return fmt.Sprint("lost: ", res.Status)
	}
	if res.Status == 429 {
		f.wrong(lost, "%v; failing are %s", res, c.now())
		return "refused"
	}
	if n := len(res.Body); res.Status == want.Code() && n < len(want.Body()) {
		f.cut(a, res, want)
		return "broke off unseen"
	}
	f.wrong(altered, "%v; failing are %s", res, c.now())
	return "altered"
}

// now says which servers fail now, and how.
func (c *chaos) now() string {
	var s []string
	for i := range c.failing {
		if k := c.failing[i].Load(); k != nil {
			s = append(s, fmt.Sprintf("%d %s", i, k.Name))
		}
	}
	return strings.Join(s, ", ")
}

// bucket is that of a duration: eight for each doubling of a nanosecond.
func bucket(d time.Duration) int {
	n := uint64(d)
	e := bits.Len64(n) - 1
	if e < 3 {
		return int(n)
	}
	return e*8 + int(n>>(e-3))&7
}

// from is the least duration of a bucket.
func from(b int) time.Duration {
	if b < 24 {
		return time.Duration(b)
	}
	return time.Duration(8+b%8) << (b/8 - 3)
}

// String is the report.
func (c *chaos) String(took time.Duration, grown int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %v, %.0f a second; %d times a server began to fail, in %d ways; heap %+d KiB in the second half\n",
		c.o.Requests, took.Round(time.Millisecond), float64(c.o.Requests)/took.Seconds(), c.turns.Load(), len(c.o.Cases), grown>>10)
	total := 0
	for _, n := range c.latencies {
		total += n
	}
	fmt.Fprintf(&b, "latency of those that were answered:")
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
		fmt.Fprintf(&b, "  p%g %v", q*100, c.quantile(int(math.Ceil(q*float64(total)))).Round(time.Microsecond))
	}
	b.WriteByte('\n')
	names := make([]string, 0, len(c.counts))
	for name := range c.counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int { return c.counts[y] - c.counts[x] })
	for _, name := range names {
		fmt.Fprintf(&b, "%8d  %s\n", c.counts[name], name)
	}
	return b.String()
}

func (c *chaos) quantile(n int) time.Duration {
	for b, count := range c.latencies {
		if n -= count; n <= 0 {
			return from(b)
		}
	}
	return 0
}
