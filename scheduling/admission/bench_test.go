package admission_test

import (
	"container/list"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// BenchmarkQueue has 100,000 requests of 5,000 tenants wait, and one more come for each
// that goes. An operation is all that happens to one; what its parts take is told apart:
//
//   - enqueue: Offer finds no room, the request waits;
//   - dispatch: a reading says that an endpoint has room, the one that is next is let in;
//   - rest: Booked and Done.
//
// The baseline is a list with a lock around it: first come, first served, and nothing that
// waits can expire, be displaced or be told.
func BenchmarkQueue(b *testing.B) {
	for _, fairness := range []admission.Fairness{admission.VirtualTokens, admission.PrefixLocality, admission.FirstCome} {
		for _, order := range []admission.Order{admission.FIFO, admission.EarliestDeadline} {
			b.Run(fmt.Sprintf("queued=100000/tenants=5000/fairness=%v/order=%v", fairness, order), func(b *testing.B) {
				q := newControllerQueue(b, fairness, order)
				benchmarkQueue(b, q)
				if n := q.c.Stats().Queued; n != benchQueued {
					b.Fatalf("%d wait", n)
				}
				q.c.Close()
			})
		}
	}
	b.Run("queued=100000/tenants=5000/baseline=list", func(b *testing.B) { benchmarkQueue(b, &listQueue{}) })
}

// BenchmarkPass is a request that finds room, from Offer to Done.
func BenchmarkPass(b *testing.B) {
	c, err := admission.New(admission.Options{Detector: admission.Max{admission.Utilization{Queue: 16}, admission.Backlog{Tokens: 1 << 20}}})
	if err != nil {
		b.Fatal(err)
	}
	var eps []*types.Endpoint
	for i := range 32 {
		eps = append(eps, types.NewEndpoint(fmt.Sprintf("e%d", i), "10.0.0.1:8000"))
	}
	c.SetEndpoints(eps)
	reqs := benchRequests()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ticket, _, err := c.Offer(admission.Arrival{Request: &reqs[i%len(reqs)]}, nil)
		if err != nil {
			b.Fatal(err)
		}
		ticket.Booked(eps[i%len(eps)])
		ticket.FirstToken()
		ticket.Done(types.Outcome{})
	}
}

const (
	benchQueued = 100_000
	benchBatch  = 64 // operations between two looks at the clock
)

func benchRequests() []types.Request {
	reqs := make([]types.Request, 2*benchQueued)
	body := make([]byte, 1024)
	for i := range reqs {
		reqs[i] = types.Request{
			FairnessID: fmt.Sprintf("tenant-%d", i*7919%5000), Body: body,
			Prompt: types.Prompt{Tokens: 100 + i%400, Spans: []types.Span{{Start: i % 100, End: 1024}}},
		}
	}
	return reqs
}

// benchQueue is what is measured.
type benchQueue interface {
	enqueue(*types.Request)
	dispatch(place int) // lets one in to a place that has become free
	rest(place int)     // it has run
}

func benchmarkQueue(b *testing.B, q benchQueue) {
	reqs := benchRequests()
	for i := range benchQueued {
		q.enqueue(&reqs[i])
	}
	next := benchQueued
	var enqueue, dispatch, rest time.Duration
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for b.Loop() {
		start := time.Now()
		for range benchBatch {
			q.enqueue(&reqs[next%len(reqs)])
			next++
		}
		queued := time.Now()
		for i := range benchBatch {
			q.dispatch(i)
		}
		let := time.Now()
		for i := range benchBatch {
			q.rest(i)
		}
		enqueue += queued.Sub(start)
		dispatch += let.Sub(queued)
		rest += time.Since(let)
		n += benchBatch
	}
	runtime.ReadMemStats(&after)
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(n) }
	b.ReportMetric(each(enqueue+dispatch+rest), "ns/op")
	b.ReportMetric(each(enqueue), "ns/enqueue")
	b.ReportMetric(each(dispatch), "ns/dispatch")
	b.ReportMetric(each(rest), "ns/rest")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(n), "allocs/request")
}

// controllerQueue is a Controller with endpoints that have room for one request or none.
type controllerQueue struct {
	b    *testing.B
	c    *admission.Controller
	eps  []*types.Endpoint
	free [benchBatch]atomic.Bool
	// The timer of the Controller may be at work when a place becomes free: then it lets
	// the next one in, perhaps after Put has returned.
	let [benchBatch]atomic.Pointer[admission.Ticket]
	n   atomic.Int64 // of let
}

func newControllerQueue(b *testing.B, fairness admission.Fairness, order admission.Order) *controllerQueue {
	q := &controllerQueue{b: b}
	c, err := admission.New(admission.Options{
		Hooks:    admission.Hooks{Dispatched: func(t *admission.Ticket, _ time.Duration) { q.let[q.n.Add(1)-1].Store(t) }},
		Fairness: fairness, MaxRequests: 2 * benchQueued,
		Bands: []admission.Band{{Name: "all", MaxWait: time.Hour}},
		Detector: admission.DetectorFunc(func(_ admission.Query, ep *types.Endpoint) float64 {
			if q.free[ep.Slot].Load() {
				return 0
			}
			return 1
		}),
		Tuning: admission.Tuning{Order: order},
	})
	if err != nil {
		b.Fatal(err)
	}
	q.c = c
	for i := range benchBatch {
		ep := types.NewEndpoint(fmt.Sprintf("e%d", i), "10.0.0.1:8000")
		ep.Slot = uint32(i)
		q.eps = append(q.eps, ep)
	}
	c.SetEndpoints(q.eps)
	return q
}

func (q *controllerQueue) enqueue(req *types.Request) {
	if _, queued, err := q.c.Offer(admission.Arrival{Request: req}, nil); err != nil || !queued {
		q.b.Fatal(queued, err)
	}
}

func (q *controllerQueue) dispatch(place int) {
	q.free[place].Store(true)
	q.c.Put(q.eps[place])
	if q.let[place].Load() == nil {
		q.await(place)
	}
}

func (q *controllerQueue) await(place int) {
	for start := time.Now(); q.let[place].Load() == nil; runtime.Gosched() {
		if time.Since(start) > 10*time.Second {
			q.b.Fatalf("%d are let in, want %d", q.n.Load(), place+1)
		}
	}
}

func (q *controllerQueue) rest(place int) {
	q.free[place].Store(false)
	t := q.let[place].Swap(nil)
	t.Booked(q.eps[place])
	t.Done(types.Outcome{})
	if place == benchBatch-1 {
		q.n.Store(0)
	}
}

type listQueue struct {
	mu  sync.Mutex
	l   list.List
	let []*types.Request
}

func (q *listQueue) enqueue(req *types.Request) {
	q.mu.Lock()
	q.l.PushBack(req)
	q.mu.Unlock()
}

func (q *listQueue) dispatch(int) {
	q.mu.Lock()
	q.let = append(q.let, q.l.Remove(q.l.Front()).(*types.Request))
	q.mu.Unlock()
}

func (q *listQueue) rest(place int) {
	q.mu.Lock()
	if place == len(q.let)-1 {
		q.let = q.let[:0]
	}
	q.mu.Unlock()
}

// BenchmarkSharing is what sharing costs: a request that finds room, with budgets, alone and beside seven other
// gateways; an account that is heard of; and what is told, of as many tenants as are charged meanwhile.
func BenchmarkSharing(b *testing.B) {
	const tenants = 5000
	reqs := benchRequests()
	made := func(b *testing.B, peers int) (*admission.Controller, func(i int)) {
		c, err := admission.New(admission.Options{Detector: admission.Concurrency{Requests: 100}, Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 1e9, TokensPerMinute: 1e12}}})
		if err != nil {
			b.Fatal(err)
		}
		ep := types.NewEndpoint("e", "10.0.0.1:8000")
		c.Put(ep)
		if peers > 0 {
			c.PeersAlive(peers)
		}
		pass := func(i int) {
			ticket, _, err := c.Offer(admission.Arrival{Request: &reqs[i%len(reqs)]}, nil)
			if err != nil {
				b.Fatal(err)
			}
			ticket.Booked(ep)
			ticket.Done(types.Outcome{})
		}
		for i := range 2 * tenants {
			pass(i)
		}
		return c, pass
	}
	for _, peers := range []int{0, 7} {
		b.Run(fmt.Sprintf("pass/tenants=5000/peers=%d", peers), func(b *testing.B) {
			_, pass := made(b, peers)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				pass(i)
			}
		})
	}
	b.Run("hear/accounts=10000", func(b *testing.B) {
		c, _ := made(b, 7)
		var all []types.Account
		c.ShareAccounts(true, func(a types.Account) { all = append(all, a) })
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			a := &all[i%len(all)]
			a.Requests++
			a.Tokens += 100
			c.HearAccount(1+i%7, *a)
		}
	})
	b.Run("tell/accounts=10000", func(b *testing.B) {
		c, pass := made(b, 7)
		for b.Loop() {
			b.StopTimer()
			for i := range tenants {
				pass(i)
			}
			b.StartTimer()
			c.ShareAccounts(false, func(types.Account) {})
		}
	})
	b.Run("snapshot/bytes=262144", func(b *testing.B) {
		c, _ := made(b, 7)
		var buf []byte
		for b.Loop() {
			buf = c.AppendSnapshot(buf[:0], 1<<18, time.Time{})
		}
	})
}
