package simulation

import (
	"github.com/stretchr/testify/require"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// fuzzTrace reads what the fuzzer makes up. What a reader accepts must be records
// that can be played: in order, all of them, with sizes in their limits.
func fuzzTrace(f *testing.F, example string, parse func(io.Reader, string, int) (*records, error), r replay, job func(*records, int) Job) {
	data, err := os.ReadFile(example)
	require.NoError(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := parse(strings.NewReader(string(data)), "trace", 1000)
		if err != nil {
			if rec != nil || !strings.HasPrefix(err.Error(), "trace:") {
				t.Fatalf("records %v with error %q", rec, err)
			}
			return
		}
		if len(rec.in) == 0 || len(rec.in) != len(rec.out) {
			t.Fatalf("%d and %d lengths", len(rec.in), len(rec.out))
		}
		for i := range rec.in {
			j := job(rec, i)
			if j.Output < 1 || j.Prompt() != int(rec.in[i]) || j.Prompt() < 1 {
				t.Fatalf("record %d makes %+v", i, j)
			}
		}
		if len(rec.at) == 0 {
			return
		}
		s := newReplaying(r, rec, 1, func(_ uint64, i int) Job { return job(rec, i) })
		var last time.Duration
		n := 0
		for j, ok := s.Next(); ok; j, ok = s.Next() {
			if j.Arrival < last {
				t.Fatalf("arrival at %v after %v", j.Arrival, last)
			}
			last = j.Arrival
			n++
		}
		if n != len(rec.at) {
			t.Fatalf("%d of %d records played", n, len(rec.at))
		}
	})
}

func oneSegment(t *records, i int) Job {
	return Job{Content: []Segment{{1, int(t.in[i])}}, Output: int(t.out[i])}
}

func FuzzMooncake(f *testing.F) {
	fuzzTrace(f, "testdata/mooncake.jsonl", parseMooncake, replay{speed: 1, tick: 3 * time.Second}, func(t *records, i int) Job {
		return Job{Content: mooncakeContent(1, t.blocksOf(i), int(t.in[i])), Output: int(t.out[i])}
	})
}

func FuzzAzure(f *testing.F) {
	fuzzTrace(f, "testdata/azure.csv", parseAzure, replay{speed: 2}, oneSegment)
}

func FuzzLengthsCSV(f *testing.F) {
	fuzzTrace(f, "testdata/lengths.csv", parseLengths, replay{speed: 1}, oneSegment)
}
