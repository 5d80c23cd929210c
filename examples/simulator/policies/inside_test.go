package policies

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestLowest(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	tests := []struct{ costs, want []float64 }{
		{[]float64{7}, []float64{1}},
		{[]float64{3, 3, 3}, []float64{1, 1, 1}},
		{[]float64{2, 1, 2, 4}, []float64{2. / 3, 1, 2. / 3, 1. / 3}},
		{[]float64{inf, 0, 1e300, -1}, []float64{.25, .75, .5, 1}},
		{[]float64{1, math.Nextafter(1, 2), 1e18}, []float64{1, 2. / 3, 1. / 3}},
		{[]float64{nan, 5, 4}, []float64{nan, .5, 1}},
		{[]float64{nan, nan}, []float64{nan, nan}},
	}
	for _, tt := range tests {
		eps := schedulingtest.Fleet(len(tt.costs))
		s := lowest{"euros", func(_ *types.Request, ep *types.Endpoint) float64 { return tt.costs[ep.Slot] }}
		got := schedulingtest.Score(t, s, schedulingtest.Request(""), eps...)
		for i := range got {
			if !(math.Abs(got[i]-tt.want[i]) < 1e-15 || got[i] != got[i] && tt.want[i] != tt.want[i]) {
				t.Errorf("scores of costs %v = %v, want %v", tt.costs, got, tt.want)
				break
			}
		}
		if tt.costs[0] == 7 && s.Describe(nil, eps[0]) != "7 euros" {
			t.Errorf("Describe = %q", s.Describe(nil, eps[0]))
		}
	}
}

// The oracle of the history: a list of uses.
type uses []use

type use struct {
	hash uint64
	at   time.Time
}

func (u *uses) use(h uint64, at time.Time) {
	*u = append(slices.DeleteFunc(*u, func(x use) bool { return x.hash == h }), use{h, at})
}

func TestHistoryAgainstList(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	h := newHistory(bounds{perEach: 12, ttl: time.Minute})
	eps := []*types.Endpoint{schedulingtest.Endpoint("a"), schedulingtest.Endpoint("b")}
	model := map[*types.Endpoint]*uses{eps[0]: {}, eps[1]: {}}
	now := time.Unix(1000, 0)
	for range 5000 {
		now = now.Add(time.Duration(rnd.IntN(10)) * time.Second)
		var text strings.Builder
		for branch := "x"; len(branch) < 2+rnd.IntN(8); {
			branch += string(rune('0' + rnd.IntN(2)))
			text.WriteString((branch + strings.Repeat(".", 64))[:64])
		}
		req := schedulingtest.Request(text.String())
		req.Now = now
		ep := eps[rnd.IntN(2)]
		hashes := h.blocks.of(req)

		want := 0
		for want < len(hashes) && slices.ContainsFunc(*model[ep], func(x use) bool {
			return x.hash == hashes[want] && now.Sub(x.at) <= time.Minute
		}) {
			want++
		}
		if got, total := h.Matched(req, ep); got != want || total != len(hashes) {
			t.Fatalf("Matched = %d of %d, want %d of %d", got, total, want, len(hashes))
		}
		if rnd.IntN(200) == 0 {
			h.Forget(ep)
			*model[ep] = nil
			continue
		}
		h.Picked(req, ep)
		u := model[ep]
		for i := len(hashes) - 1; i >= 0; i-- {
			u.use(hashes[i], now)
		}
		*u = slices.DeleteFunc(*u, func(x use) bool { return now.Sub(x.at) > time.Minute })
		*u = (*u)[max(0, len(*u)-12):]
		require.Equal(t, len(*u), h.Held(ep), "Held")
		if n := h.Held(eps[0]) + h.Held(eps[1]); n != h.held {
			t.Fatalf("held = %d, the endpoints hold %d", h.held, n)
		}
	}
}

// A bound for all: the least recent goes, wherever it is, the end of a prompt first.
func TestHistoryInAll(t *testing.T) {
	h := newHistory(bounds{inAll: 10})
	eps := schedulingtest.Fleet(3)
	now := time.Unix(0, 0)
	send := func(topic string, blocks int, ep *types.Endpoint) {
		now = now.Add(time.Second)
		h.Picked(prompt(topic, blocks, now), ep)
	}
	matched := func(topic string, ep *types.Endpoint) int {
		n, _ := h.Matched(prompt(topic, 8, now), ep)
		return n
	}
	send("x", 4, eps[0])
	send("y", 4, eps[1])
	send("z", 4, eps[2])
	if a, b, c := matched("x", eps[0]), matched("y", eps[1]), matched("z", eps[2]); a != 2 || b != 4 || c != 4 {
		t.Errorf("after 12 blocks: %d, %d, %d held, want 2, 4, 4", a, b, c)
	}
	send("x", 2, eps[0])
	send("z", 7, eps[2])
	if a, b, c := matched("x", eps[0]), matched("y", eps[1]), matched("z", eps[2]); a != 2 || b != 1 || c != 7 {
		t.Errorf("after the oldest was used again and 3 more: %d, %d, %d held, want 2, 1, 7", a, b, c)
	}
	h.Forget(eps[2])
	if h.held != 3 || len(h.order) != 2 {
		t.Errorf("after the third has gone: %d blocks on %d endpoints, want 3 on 2", h.held, len(h.order))
	}
}

func prompt(topic string, blocks int, now time.Time) *types.Request {
	var text strings.Builder
	for i := range blocks {
		text.WriteString((fmt.Sprintf("%s %d", topic, i) + strings.Repeat(".", 64))[:64])
	}
	req := schedulingtest.Request(text.String())
	req.Now = now
	return req
}

// An endpoint that has gone is not entered by a decision that is booked late.
func TestHistoryOfTheGone(t *testing.T) {
	h := newHistory(bounds{})
	ep := schedulingtest.Endpoint("a")
	ep.Load.Retire()
	h.Picked(prompt("x", 3, time.Unix(0, 0)), ep)
	if h.Held(ep) != 0 || h.held != 0 {
		t.Errorf("an endpoint that has gone holds %d blocks", h.Held(ep))
	}
}

// Where the spans are cut makes no difference; the model and every byte does.
func TestBlockHashes(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 20) + "rest"
	whole := schedulingtest.Request(text)
	b := newBlockHashes(64)
	want := b.of(whole)
	if len(want) != 5 {
		t.Fatalf("%d hashes of %d bytes, want 5", len(want), len(text))
	}
	cut := schedulingtest.Request(text)
	cut.Prompt.Spans = []types.Span{{Start: 0, End: 3}, {Start: 3, End: 3}, {Start: 3, End: 130}, {Start: 130, End: len(text)}}
	if got := b.of(cut); !slices.Equal(got, want) {
		t.Errorf("hashes of the same prompt in pieces = %x, want %x", got, want)
	}
	seen := map[uint64]bool{}
	for _, h := range want {
		seen[h] = true
	}
	for i := range 320 {
		changed := []byte(text)
		changed[i] ^= 1
		got := b.of(schedulingtest.Request(string(changed)))
		if !slices.Equal(got[:i/64], want[:i/64]) {
			t.Errorf("a change at %d reaches blocks before", i)
		}
		for _, h := range got[i/64:] {
			if seen[h] {
				t.Errorf("a change at %d gives a hash that was there", i)
			}
			seen[h] = true
		}
	}
	lora := schedulingtest.Request(text)
	lora.TargetModel = "adapter"
	if seen[b.of(lora)[0]] {
		t.Error("another model has the same hash")
	}
}

// The ring does not depend on the order of the endpoints, spreads keys evenly, and
// one endpoint less moves the keys of that one only.
func TestRing(t *testing.T) {
	eps := schedulingtest.Fleet(10)
	r := newRing(eps)
	mixed := slices.Clone(eps)
	slices.Reverse(mixed)
	reversed := newRing(mixed)
	homes := map[int]int{}
	moved := 0
	less := newRing(eps[:9])
	for key := range uint64(20_000) {
		at := fold(0, key)
		places := r.walk(at, eps)
		home := slices.Index(places, 0)
		homes[home]++
		sorted := slices.Clone(places)
		slices.Sort(sorted)
		if !slices.Equal(sorted, upTo(10)) {
			t.Fatalf("places = %v, want each once", places)
		}
		other := reversed.walk(at, mixed)
		slices.Reverse(other)
		if !slices.Equal(places, other) {
			t.Fatalf("places = %v, of the endpoints in reverse %v", places, other)
		}
		if home != 9 && slices.Index(less.walk(at, eps[:9]), 0) != home {
			moved++
		}
	}
	for i, n := range homes {
		if n < 1500 || n > 2500 {
			t.Errorf("endpoint %d is the home of %d keys of 20,000, want about 2,000", i, n)
		}
	}
	if moved > 0 {
		t.Errorf("%d keys moved although their endpoint stayed", moved)
	}
	if r.of(eps[:9]) || r.of(append(slices.Clone(eps[:9]), schedulingtest.Endpoint("new"))) || !r.of(mixed) {
		t.Error("of does not tell the rings apart")
	}
}
