package admission_test

import (
	"context"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// These tests are about endpoints that are there and get no requests.

func TestEndpointsThatAreOutHaveNoRoom(t *testing.T) {
	lane := func(name string) admission.Arrival {
		return admission.Arrival{Request: request("r", 0, ""), Candidates: name, Match: func(ep *types.Endpoint) bool { return name == "all" || ep.ID == name }}
	}
	for _, tt := range []struct {
		name    string
		out     []int // of three
		full    []int
		arrival admission.Arrival
		want    bool
	}{
		{"none is out", nil, nil, lane(""), true},
		{"the others are full", []int{2}, []int{0, 1}, lane(""), false},
		{"in a set of candidates", []int{2}, []int{0, 1}, lane("all"), false},
		{"another has room", []int{2}, []int{0}, lane("all"), true},
		{"all of a set are out", []int{2}, []int{0, 1}, lane("e2"), true},
		{"all of a set are out and full", []int{2}, []int{2}, lane("e2"), false},
		{"all are out", []int{0, 1, 2}, nil, lane(""), true},
		{"all are out and full", []int{0, 1, 2}, []int{0, 1, 2}, lane(""), false},
		{"all are out, and one has room", []int{0, 1, 2}, []int{0, 1}, lane("all"), true},
	} {
		for how, tell := range map[string]bool{"something happens there": true, "nobody tells": false} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				r := newRig(t, 3, admission.Options{})
				r.run(r.offerAs(lane("e2"))) // it is known
				r.run(r.offerAs(lane("all")))
				for _, i := range tt.full {
					r.fill(i, 1)
				}
				for _, i := range tt.out {
					r.eps[i].Load.TakeOut(types.Forever)
					if tell {
						r.c.Put(r.eps[i])
					}
				}
				if tell {
					equal(t, "would be let in", r.c.Explain(tt.arrival).Verdict == "admitted", tt.want)
				}
				equal(t, "let in", r.offerAs(tt.arrival).admitted(), tt.want)
				for _, ep := range r.eps {
					r.c.Put(ep)
				}
				r.check()
			})
		}
	}
}

func TestEndpointsComeBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		back func(r *rig)
		want bool
	}{
		{"not before the time is over", func(r *rig) { r.clock.pass(time.Second - 1) }, false},
		{"when it is", func(r *rig) { r.clock.pass(time.Second) }, true},
		{"not if that was put off", func(r *rig) {
			r.eps[1].Load.TakeOut(r.clock.now.Add(2 * time.Second))
			r.clock.pass(2*time.Second - 1)
		}, false},
		{"but then", func(r *rig) {
			r.eps[1].Load.TakeOut(r.clock.now.Add(2 * time.Second))
			r.clock.pass(2 * time.Second)
		}, true},
		{"when it is taken in again, and something happens there", func(r *rig) {
			r.eps[1].Load.TakeOut(time.Time{})
			r.c.Update(r.eps[1])
		}, true},
		{"never", func(r *rig) {
			r.eps[1].Load.TakeOut(types.Forever)
			r.c.Put(r.eps[1])
			r.clock.pass(29 * time.Second)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 2, admission.Options{Tuning: admission.Tuning{MetricsTTL: time.Hour}})
			r.fill(0, 1)
			r.eps[1].Load.TakeOut(r.clock.now.Add(time.Second))
			r.c.Put(r.eps[1])
			c := r.offer(request("r", 0, ""))
			equal(t, "waits", c.queued, true)
			tt.back(r)
			equal(t, "let in", c.admitted(), tt.want)
			r.check()
		})
	}
}

func TestEnginesThatSleepHaveNoRoom(t *testing.T) {
	r := newRig(t, 2, admission.Options{Tuning: admission.Tuning{MetricsTTL: 5 * time.Second}})
	reading := func(i int, awake types.Gauge) {
		r.eps[i] = r.eps[i].WithMetrics(types.Metrics{Awake: awake, UpdatedAt: r.clock.now})
		r.c.Put(r.eps[i])
	}
	reading(0, types.Known(0))
	reading(1, types.Known(1))
	r.fill(1, 1)
	c := r.offer(request("r", 0, ""))
	equal(t, "waits", c.queued, true)
	if got := c.Candidates(nil, r.eps); !slices.Equal(got, r.eps[1:]) {
		t.Errorf("candidates %v", got)
	}
	reading(0, types.Known(1))
	equal(t, "let in once it is awake", c.admitted(), true)
	r.run(c)
	reading(0, types.Known(0))
	c = r.offer(request("r", 0, ""))
	equal(t, "waits", c.queued, true)
	r.clock.pass(7 * time.Second)
	equal(t, "let in once the reading is too old", c.admitted(), true)
}

func TestCandidatesThatAreOut(t *testing.T) {
	s := slots{}
	for _, tt := range []struct {
		name  string
		out   []int // of three
		fills []float64
		want  []int
	}{
		{"none", nil, []float64{0, 0, 0}, []int{0, 1, 2}},
		{"one, and all have a place", []int{1}, []float64{0, 0, 0}, []int{0, 2}},
		{"one, and another has no place", []int{1}, []float64{0, 0, 1}, []int{0}},
		{"one, and no other has a place", []int{1}, []float64{1, 0, 1}, []int{0, 2}},
		{"all", []int{0, 1, 2}, []float64{0, 1, 0}, []int{0, 1, 2}},
	} {
		for name, d := range map[string]admission.Detector{"with places": s, "without": fills{}} {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				r := newRig(t, 3, admission.Options{Detector: d})
				c := r.offer(request("r", 0, ""))
				for i, f := range tt.fills {
					s[r.eps[i].Load] = f
					r.c.Put(r.eps[i])
				}
				for _, i := range tt.out {
					r.eps[i].Load.TakeOut(r.clock.now.Add(time.Second)) // nobody tells
				}
				var want []*types.Endpoint
				for _, i := range tt.want {
					want = append(want, r.eps[i])
				}
				if name == "without" && len(tt.out) == 1 {
					want = []*types.Endpoint{r.eps[0], r.eps[2]}
				}
				if got := c.Candidates(nil, r.eps); !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", ids(got), ids(want))
				}
			})
		}
	}
}

func ids(eps []*types.Endpoint) (ids []string) {
	for _, ep := range eps {
		ids = append(ids, ep.ID)
	}
	return ids
}

// TestTrapEjectedServerIsEmptiest: two servers with a place each, one busy, one that refuses
// connections and was ejected for it. Who comes waits for the busy one.
func TestTrapEjectedServerIsEmptiest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := admission.New(admission.Options{Detector: admission.Concurrency{Requests: 1}})
		require.NoError(t, err)
		busy, dead := types.NewEndpoint("busy", "10.0.0.1:8000"), types.NewEndpoint("dead", "10.0.0.1:8001")
		eps := []*types.Endpoint{busy, dead}
		c.SetEndpoints(eps)
		first, _, err := c.Admit(t.Context(), admission.Arrival{Request: request("r", 0, "")})
		require.NoError(t, err)
		dead.Load.TakeOut(types.Forever)
		busy.Load.Book(types.Booking{Requests: 1})
		first.Booked(busy)
		time.AfterFunc(time.Second, func() {
			busy.Load.Release(types.Booking{Requests: 1})
			first.Done(types.Outcome{})
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		second, waited, err := c.Admit(ctx, admission.Arrival{Request: request("r", 0, "")})
		if err != nil || waited != time.Second {
			t.Fatalf("%v after %v", err, waited)
		}
		if got := second.Candidates(nil, eps); !slices.Equal(got, eps[:1]) {
			t.Errorf("candidates %v", ids(got))
		}
		second.Done(types.Outcome{})
	})
}

func TestSaturationLeavesOutWhatIsOut(t *testing.T) {
	r := newRig(t, 2, admission.Options{})
	r.fill(0, 0.5)
	r.eps[1].Load.TakeOut(types.Forever)
	r.c.Put(r.eps[1])
	s := r.c.Stats()
	equal(t, "endpoints", s.Endpoints, 1)
	equal(t, "saturation", math.Round(s.Saturation*1000), 500)
}
