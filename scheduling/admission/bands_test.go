package admission_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestBandsGoByPriority(t *testing.T) {
	r := newRig(t, 1, admission.Options{Bands: []admission.Band{
		{Name: "low", Priority: math.MinInt},
		{Name: "high", Priority: 10}, // in whatever order they are given
	}})
	r.fill(0, 1)
	for i, p := range []int{-5, 3, math.MinInt, 10, math.MaxInt, 0, 11, -5, 10} {
		if c := r.offer(request(fmt.Sprintf("%d:%d", i, p), p, "")); !c.queued {
			t.Fatalf("priority %d does not wait: %v", p, c.err)
		}
	}
	want := []string{fmt.Sprintf("4:%d", math.MaxInt), "6:11", "3:10", "8:10", "1:3", "5:0", "0:-5", "7:-5", fmt.Sprintf("2:%d", math.MinInt)}
	if got := r.drain(); !slices.Equal(got, want) {
		t.Errorf("let in %v, want %v", got, want)
	}
	r.check()
}

func TestCeilingsKeepRoomForHigherBands(t *testing.T) {
	for _, tt := range []struct {
		full                          float64
		critical, standard, sheddable string
	}{
		{0, "admitted", "admitted", "admitted"},
		{0.59, "admitted", "admitted", "admitted"},
		{0.6, "admitted", "admitted", "refused"},
		{0.79, "admitted", "admitted", "refused"},
		{0.8, "admitted", "queued", "refused"},
		{0.99, "admitted", "queued", "refused"},
		{1, "queued", "queued", "refused"},
		{7, "queued", "queued", "refused"},
		{math.Inf(1), "queued", "queued", "refused"},
		{-1, "admitted", "admitted", "admitted"},
		{math.NaN(), "admitted", "admitted", "admitted"}, // nothing is known of any
	} {
		for i, want := range []string{tt.critical, tt.standard, tt.sheddable} {
			r := newRig(t, 1, admission.Options{})
			r.fill(0, tt.full)
			priority := []int{100, 0, -100}[i]
			req := request("r", priority, "")
			equal(t, fmt.Sprintf("priority %d, %v full: explained", priority, tt.full), r.c.Explain(admission.Arrival{Request: req}).Verdict, want)
			got := "admitted"
			switch c := r.offer(req); {
			case c.queued:
				got = "queued"
			case c.err != nil:
				got = "refused"
				equal(t, "reason", c.refusal.Reason, admission.Saturated)
			}
			equal(t, fmt.Sprintf("priority %d, %v full", priority, tt.full), got, want)
		}
	}
}

func TestWhatIsUnknownIsNoRoomBesideWhatIsKnown(t *testing.T) {
	r := newRig(t, 2, admission.Options{})
	r.fill(0, math.NaN())
	r.fill(1, 1)
	c := r.offer(request("r", 0, ""))
	require.True(t, c.queued, "let in to an endpoint of which nothing is known, beside one that is full")
	r.fill(1, math.NaN())
	require.True(t, c.admitted(), "not let in though nothing is known of any")
	r.check()
}

func TestModestTenantFindsRoomWhereOthersWait(t *testing.T) {
	r := newRig(t, 1, admission.Options{Bands: []admission.Band{{Name: "all", Ceiling: 0.5, ModestCeiling: 0.9}}, Tuning: admission.Tuning{Credit: 1}})
	r.fill(0, 0.7)
	first := r.offer(request("first", 0, "greedy"))
	require.True(t, first.admitted(), "the only tenant waits below ModestCeiling")
	first.Booked(r.eps[0])
	if c := r.offer(request("second", 0, "another")); c.admitted() {
		r.run(c)
	} else {
		t.Error("a tenant that was served less than another waits below ModestCeiling")
	}
	if c := r.offer(request("third", 0, "greedy")); !c.queued {
		t.Error("a tenant that was served more than another passes its Ceiling")
	}
	if c := r.offer(request("fourth", 0, "modest")); !c.admitted() {
		t.Error("a tenant that was served less waits behind one that was served more")
	}
	r.check()
}

func TestSheddableIsRefusedAtOnce(t *testing.T) {
	const maxRetry = 20 * time.Second
	r := newRig(t, 1, admission.Options{Tuning: admission.Tuning{MaxRetryAfter: maxRetry}})
	r.fill(0, 1)
	shed := func() *admission.Refusal {
		t.Helper()
		c := r.offer(request("low", -100, "t"))
		if c.refusal == nil || c.refusal.Reason != admission.Saturated || c.told != 0 {
			t.Fatalf("got %v, told %d times; want refused for %s", c.err, c.told, admission.Saturated)
		}
		return c.refusal
	}
	f := shed()
	want := admission.Refusal{Reason: admission.Saturated, Band: "sheddable", Priority: -100, Tenant: "t", RetryAfter: time.Second, Detail: "none of 1 endpoints is less than 0.6 full"}
	equal(t, "refusal", *f, want)
	equal(t, "message", f.Error(), "admission: request of priority -100 (sheddable) refused: none of 1 endpoints is less than 0.6 full")

	// Ten a second are let in: with so many before it, it takes so long.
	r.fill(0, 0)
	for range 200 {
		r.clock.pass(100 * time.Millisecond)
		r.run(r.offer(request("x", 100, "t")))
	}
	r.fill(0, 1)
	for range 99 {
		r.offer(request("waits", 0, "t"))
	}
	equal(t, "retry after", shed().RetryAfter.Round(time.Second), 10*time.Second)
	for range 900 {
		r.offer(request("waits", 0, "t"))
	}
	equal(t, "retry after", shed().RetryAfter, maxRetry)
	r.check()
}

// TestFloor measures which part of all tokens bands get while the pool is never idle.
func TestFloor(t *testing.T) {
	oneGoroutine(t)
	for _, tt := range []struct {
		name         string
		floors       [3]float64 // from the highest band
		wait         [3]bool    // bands that always want
		want         [3]float64
		standardCost int // tokens of a request
	}{
		{"no floor", [3]float64{}, [3]bool{true, true, true}, [3]float64{1, 0, 0}, 100},
		{"floor", [3]float64{0, 0.1, 0}, [3]bool{true, true, true}, [3]float64{0.9, 0.1, 0}, 100},
		{"two floors", [3]float64{0, 0.1, 0.05}, [3]bool{true, true, true}, [3]float64{0.85, 0.1, 0.05}, 100},
		{"floor of costly requests", [3]float64{0, 0.25, 0}, [3]bool{true, true, false}, [3]float64{0.75, 0.25, 0}, 5000},
		{"floor of none that wait", [3]float64{0, 0.3, 0}, [3]bool{true, false, true}, [3]float64{1, 0, 0}, 100},
		{"nothing above", [3]float64{0, 0.1, 0.2}, [3]bool{false, true, true}, [3]float64{0, 0.8, 0.2}, 100},
		{"floor of the highest", [3]float64{0.5, 0, 0}, [3]bool{true, true, false}, [3]float64{1, 0, 0}, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 1, admission.Options{Bands: []admission.Band{
				{Name: "high", Priority: 100, Ceiling: 1, Floor: tt.floors[0]},
				{Name: "middle", Priority: 0, Ceiling: 0.8, Floor: tt.floors[1]},
				{Name: "low", Priority: -1, Ceiling: 0.6, Floor: tt.floors[2]},
			},
				Tuning: admission.Tuning{OutputTokens: 1},
			})
			r.fill(0, 1)
			offer := func(band int) {
				req := request("x", []int{100, 0, -1}[band], "t")
				if band == 1 {
					req.Prompt.Tokens = tt.standardCost
				}
				if c := r.offer(req); !c.queued {
					t.Fatal("does not wait")
				}
			}
			for band, wants := range tt.wait {
				if wants {
					offer(band)
					offer(band)
				}
			}
			for range 20_000 {
				r.let = nil
				r.fill(0, 0.1)
				in := r.let[0]
				r.fill(0, 1)
				in.Done(types.Outcome{})
				offer(map[int]int{100: 0, 0: 1, -1: 2}[in.Priority()])
			}
			total := 0.0
			var got [3]float64
			for _, b := range r.c.Stats().Bands {
				got[map[int]int{100: 0, 0: 1, -1: 2}[b.Priority]] = b.Tokens
				total += b.Tokens
			}
			for i := range got {
				if part := got[i] / total; math.Abs(part-tt.want[i]) > 0.01 {
					t.Errorf("band %d got %.3f of all tokens, want %.3f", i, part, tt.want[i])
				}
			}
			r.check()
		})
	}
}

// TestFloorIsOfTheBandAndNotOfEachPriority: priorities of a band share its floor, however
// many they are.
func TestFloorIsOfTheBandAndNotOfEachPriority(t *testing.T) {
	oneGoroutine(t)
	r := newRig(t, 1, admission.Options{Bands: []admission.Band{
		{Name: "high", Priority: 100}, {Name: "low", Priority: 0, Floor: 0.2},
	},
		Tuning: admission.Tuning{OutputTokens: 1},
	})
	r.fill(0, 1)
	for p := range 10 {
		r.offer(request("low", p, ""))
		r.offer(request("low", p, ""))
	}
	r.offer(request("high", 100, ""))
	for range 20_000 {
		r.let = nil
		r.fill(0, 0.1)
		in := r.let[0]
		r.fill(0, 1)
		r.offer(request("x", in.Priority(), ""))
		in.Done(types.Outcome{})
	}
	high, all := 0.0, 0.0
	for _, b := range r.c.Stats().Bands {
		all += b.Tokens
		if b.Name == "high" {
			high += b.Tokens
		} else if b.Tokens == 0 {
			t.Errorf("priority %d got nothing", b.Priority)
		}
	}
	if part := 1 - high/all; math.Abs(part-0.2) > 0.01 {
		t.Errorf("the band got %.3f of all tokens, want its floor of 0.2", part)
	}
	r.check()
}

func TestFloorGoesAboveItsCeiling(t *testing.T) {
	r := newRig(t, 1, admission.Options{Bands: []admission.Band{
		{Name: "high", Priority: 100, Ceiling: 1},
		{Name: "low", Priority: 0, Ceiling: 0.5, Floor: 0.1},
	}})
	r.fill(0, 0.9) // only the higher band has room
	low := r.offer(request("low", 0, ""))
	for i := range 20 {
		high := r.offer(request("high", 100, ""))
		if !high.admitted() {
			t.Fatalf("request %d of the higher band waits though there is room", i)
		}
		r.run(high)
		if low.admitted() {
			if i < 8 || i > 11 {
				t.Errorf("the lower band was let in after %d of the higher, want about 10", i+1)
			}
			return
		}
	}
	t.Error("the lower band starves")
}
