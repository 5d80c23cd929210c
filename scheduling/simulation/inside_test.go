package simulation

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestHistogramAgainstSorting(t *testing.T) {
	rnd := types.NewRand(1)
	for _, n := range []int{1, 2, 10, 1000, 50000} {
		var h histogram
		var all []time.Duration
		for range n {
			d := time.Duration(math.Exp(rnd.Float64()*25)) - 1
			all = append(all, d)
			h.add(d)
		}
		slices.Sort(all)
		for _, q := range []float64{0.5, 0.9, 0.99} {
			want := all[int(q*float64(n))].Seconds()
			if got := h.quantile(q); math.Abs(got-want) > 0.001*want+1e-9 {
				t.Errorf("of %d values: quantile %v = %v, want %v", n, q, got, want)
			}
		}
		if d := h.distribution(); d.Count != n || d.Max != all[n-1].Seconds() || d.P99 > d.Max {
			t.Errorf("distribution = %+v", d)
		}
	}
	if d := (&histogram{}).distribution(); d != (Distribution{}) {
		t.Errorf("an empty histogram is %+v", d)
	}
}

func TestBucketsAreInOrderAndNarrow(t *testing.T) {
	last := -1
	for v := uint64(0); v < 1<<40; v += 1 + v/3000 {
		b := bucketOf(v)
		if b < last || b > last+1 {
			t.Fatalf("value %d is in bucket %d after %d", v, b, last)
		}
		last = b
		if m := midpoint(b); math.Abs(m-float64(v)) > 0.0006*float64(v) {
			t.Fatalf("value %d has the middle %v", v, m)
		}
	}
}

func TestEventQueueOrder(t *testing.T) {
	var q eventQueue
	rnd := types.NewRand(5)
	for range 2000 {
		q.push(event{at: time.Duration(rnd.IntN(50))})
		if rnd.IntN(3) == 0 {
			q.pop()
		}
	}
	for last := (event{at: -1}); len(q.heap) > 0; {
		e := q.pop()
		if e.at < last.at || e.at == last.at && e.seq < last.seq {
			t.Fatalf("event %d at %v after event %d at %v", e.seq, e.at, last.seq, last.at)
		}
		last = e
	}
}

// Prompts are equal as bytes and as blocks just as far as their content is.
func TestContent(t *testing.T) {
	a := []Segment{{1, 40}, {2, 40}, {3, 20}}
	for _, tt := range []struct {
		name   string
		b      []Segment
		tokens int // that are equal
		blocks int
	}{
		{"the same", a, 100, 6},
		{"longer", append(slices.Clone(a), Segment{4, 50}), 100, 6},
		{"other end", []Segment{{1, 40}, {2, 40}, {4, 20}}, 80, 5},
		{"other middle", []Segment{{1, 40}, {5, 40}, {3, 20}}, 40, 2},
		{"shorter middle", []Segment{{1, 40}, {2, 30}, {3, 30}}, 70, 4},
		{"other beginning", []Segment{{9, 40}, {2, 40}, {3, 20}}, 0, 0},
	} {
		equalBytes := common(appendText(nil, a), appendText(nil, tt.b))
		require.Equal(t, tt.tokens, equalBytes/bytesPerToken, "%s tokens are equal as bytes", tt.name)
		require.Equal(t, tt.blocks, common(appendHashes(nil, a), appendHashes(nil, tt.b)), "%s blocks are equal", tt.name)
	}
	if n := len(appendHashes(nil, a)); n != 6 {
		t.Errorf("100 tokens have %d hashes, want 6", n)
	}
	j := &Job{Content: a, Output: 12, OutputID: 7}
	whole := appendOutputHashes(appendHashes(nil, a), j, j.OutputID)
	if next := appendHashes(nil, append(slices.Clone(a), Segment{7, 12}, Segment{8, 99})); common(whole, next) != 7 || len(whole) != 7 {
		t.Errorf("the next turn finds %d of %d blocks of this one with its output", common(whole, next), len(whole))
	}
}

func common[T comparable](a, b []T) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestFitLine(t *testing.T) {
	from, to, spread := fitLine([]int{10, 12, 14, 16})
	if from != 10 || to != 16 || spread != 0 {
		t.Errorf("fitLine = %v, %v, %v, want 10, 16, 0", from, to, spread)
	}
	if _, _, spread := fitLine([]int{0, 10, 0, 10, 0, 10}); spread < 4 {
		t.Errorf("spread = %v", spread)
	}
}
