package admission_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// fleet is gateways, each with places for requests, and tenants of which requests wait at some of them.
type fleet struct {
	*gateways
	o       admission.Options
	tenants []string
	places  []int
	running [][]flying
	let     [][]*admission.Ticket
	waiting [][]int // by gateway and tenant
	wants   func(gateway, tenant int) bool

	served []float64 // by tenant
	missed []float64 // by tenant: weighted tokens by which outputs of what is under way were misjudged
	log    [][]let   // by tenant
	u, e   float64   // the most that one request cost, and the most that was misjudged
}

// flying is a request under way.
type flying struct {
	*admission.Ticket
	tenant, output int
	ends           time.Duration
	missed         float64
}

const backlog = 4 // of a tenant, where it has requests that wait

func newFleet(t *testing.T, n int, seed uint64, credit float64, weights ...float64) *fleet {
	f := &fleet{o: admission.Options{
		Tenants: map[string]admission.Tenant{},
		Bands:   []admission.Band{{Name: "all", MaxWait: time.Hour}},
		Tuning:  admission.Tuning{Credit: credit, InputWeight: 1, OutputWeight: 2},
	}, running: make([][]flying, n), let: make([][]*admission.Ticket, n)}
	for i, w := range weights {
		f.tenants = append(f.tenants, fmt.Sprintf("t%d", i))
		f.o.Tenants[f.tenants[i]] = admission.Tenant{Weight: w}
	}
	f.served, f.missed, f.log = make([]float64, len(weights)), make([]float64, len(weights)), make([][]let, len(weights))
	for range n {
		f.places = append(f.places, 4)
		f.waiting = append(f.waiting, make([]int, len(weights)))
	}
	f.gateways = newGateways(t, n, seed, func(i int) admission.Options {
		o := f.o
		o.Detector = admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 {
			return float64(len(f.running[i])) / float64(f.places[i])
		})
		o.Hooks.Dispatched = func(t *admission.Ticket, _ time.Duration) { f.let[i] = append(f.let[i], t) }
		return o
	})
	return f
}

// step lets a moment pass: requests end, others come, and are let in.
func (f *fleet) step(d time.Duration) {
	f.pass(d)
	for i, w := range f.all {
		for n := 0; n < len(f.running[i]); n++ {
			if r := f.running[i][n]; r.ends <= f.now() {
				f.running[i] = slices.Delete(f.running[i], n, n+1)
				n--
				f.missed[r.tenant] -= r.missed
				r.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(float64(r.output))}})
				f.begin(i)
			}
		}
		for k, name := range f.tenants {
			for f.wants(i, k) && f.waiting[i][k] < backlog {
				req := &types.Request{FairnessID: name, Prompt: types.Prompt{Tokens: 1 + f.rnd.IntN(1000)}}
				_, _, err := w.Offer(admission.Arrival{Request: req}, func(error) {})
				require.NoError(f.t, err)
				f.waiting[i][k]++
				f.begin(i)
			}
		}
	}
}

// begin has what was let in run.
func (f *fleet) begin(i int) {
	for len(f.let[i]) > 0 {
		in := f.let[i][0]
		f.let[i] = f.let[i][1:]
		k := slices.Index(f.tenants, in.Request().FairnessID)
		weight := f.o.Tenants[f.tenants[k]].Weight
		r := flying{Ticket: in, tenant: k, output: 1 + f.rnd.IntN(500)}
		r.ends = f.now() + time.Duration(50+r.output)*time.Millisecond
		cost := (float64(in.Request().Prompt.Tokens) + 2*float64(r.output)) / weight
		r.missed = math.Abs(in.Charge()/weight - cost)
		f.waiting[i][k]--
		f.served[k] += cost
		f.log[k] = append(f.log[k], let{f.now(), cost})
		f.missed[k] += r.missed
		f.u = max(f.u, cost, in.Charge()/weight)
		f.e = max(f.e, f.missed[0]+f.missed[1])
		f.running[i] = append(f.running[i], r)
		in.Booked(f.all[i].ep)
	}
}

// onTheWay is the most that was let in of a tenant while a message is on its way: it is written each 110 ms at most,
// and comes after 150 ms at most, or the next one does.
func (f *fleet) unheard() (v float64) {
	for _, log := range f.log {
		v = max(v, most(log, 370*time.Millisecond))
	}
	return v
}

// both reports whether two tenants wait everywhere.
func (f *fleet) both() bool {
	for i := range f.all {
		if f.waiting[i][0] == 0 || f.waiting[i][1] == 0 {
			return false
		}
	}
	return true
}

// apart has tenants come and go, and returns the most by which what the first two were served differed while both
// waited at all gateways, counted from when they began to, and the bound of doc.go.
func (f *fleet) apart(run time.Duration) (worst, bound float64) {
	for i := range f.places {
		f.places[i] = 1 + f.rnd.IntN(6)
	}
	change, until := randomPresence(f)
	since, counting := 0.0, false
	for f.now() < run {
		if f.now() >= *until {
			change(f.rnd)
		}
		f.step(10 * time.Millisecond)
		switch both, apart := f.both(), f.served[0]-f.served[1]; {
		case !both:
			counting = false
		case !counting:
			counting, since = true, apart
		default:
			worst = max(worst, math.Abs(apart-since))
		}
	}
	f.check()
	return worst, 2*f.u + max(f.o.Credit, 0) + f.e + 2*f.unheard()
}

// TestFairnessOfManyGateways: the bound of doc.go for tenants that come and go.
func TestFairnessOfManyGateways(t *testing.T) {
	oneGoroutine(t)
	seeds, run := 4, 2*time.Minute
	if testing.Short() {
		seeds, run = 2, time.Minute
	}
	for _, tt := range []struct {
		name    string
		credit  float64
		weights []float64
		lost    float64
	}{
		{"two tenants", 2000, []float64{1, 1}, 0.01},
		{"no credit", -1, []float64{1, 1}, 0.01},
		{"weights and others", 8192, []float64{1, 3, 0.5, 2}, 0.01},
		{"many messages are lost", 2000, []float64{1, 2}, 0.3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(seeds) {
				f := newFleet(t, 8, seed, tt.credit, tt.weights...)
				f.connect()
				f.lost, f.repeated = tt.lost, 0.05
				worst, bound := f.apart(run)
				t.Logf("seed %d: apart by at most %.0f weighted tokens, the bound is %.0f", seed, worst, bound)
				if worst > bound {
					t.Errorf("seed %d: apart by %.0f weighted tokens, more than the bound of %.0f", seed, worst, bound)
				}
			}
		})
	}
}

// TestFairnessNeedsSharing: a tenant that is only at five of eight gateways gets as much as one that is at all.
func TestFairnessNeedsSharing(t *testing.T) {
	oneGoroutine(t)
	run := func(lost float64) (apart, bound, all float64) {
		f := newFleet(t, 8, 1, 2000, 1, 1)
		if f.lost = lost; lost < 1 {
			f.connect()
		}
		f.wants = func(i, k int) bool { return k == 0 || i < 5 }
		for f.now() < time.Minute {
			f.step(10 * time.Millisecond)
			apart = max(apart, math.Abs(f.served[0]-f.served[1]))
		}
		f.check()
		return apart, 2*f.u + f.o.Credit + f.e + 2*f.unheard(), f.served[0] + f.served[1]
	}
	apart, bound, all := run(0.01)
	without, _, _ := run(1)
	t.Logf("apart by at most %.0f of %.0f weighted tokens, the bound is %.0f; without sharing %.0f", apart, all, bound, without)
	if apart > bound {
		t.Errorf("apart by %.0f, more than the bound of %.0f", apart, bound)
	}
	if without < 10*bound {
		t.Errorf("without sharing they are apart by %.0f: this test could not fail", without)
	}
}

// randomPresence has tenants wait at some gateways for a while, then at all.
func randomPresence(f *fleet) (change func(*rand.Rand), until *time.Duration) {
	is := make([][]bool, len(f.all))
	for i := range is {
		is[i] = make([]bool, len(f.tenants))
	}
	f.wants = func(i, k int) bool { return is[i][k] }
	until = new(time.Duration)
	all := false
	return func(rnd *rand.Rand) {
		all = !all
		*until = f.now() + time.Duration(2+rnd.IntN(8))*time.Second
		likely := rnd.Float64()
		for i := range is {
			for k := range is[i] {
				is[i][k] = all || rnd.Float64() < likely
			}
		}
	}, until
}
